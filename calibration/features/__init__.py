"""Network features of images, and the stores that keep them."""
