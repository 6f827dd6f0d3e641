"""Pictures for the network and the participant: pixels of image files, names of images, and fonts."""
