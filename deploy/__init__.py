"""What runs the product: images, dashboards, and the sandbox of stand-ins."""
