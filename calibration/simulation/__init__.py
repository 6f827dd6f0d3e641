"""A simulated subject: images, a head, its responses to them and a BIDS data set of its runs."""
