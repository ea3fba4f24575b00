"""The product's own words as plain Python: no third-party imports, decisions are pure functions."""
