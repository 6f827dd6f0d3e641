"""Images to network features, and the stores that keep them."""
