"""Numbers that say how good a decoder is, and whether chance could have made them."""
