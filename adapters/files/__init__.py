"""Files in and out: kept by their SHA-256, fetched from strangers with care, handed to the side that sends them."""
