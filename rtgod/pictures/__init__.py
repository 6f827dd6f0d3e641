"""Image files and letters, as the network and the participant see them."""
