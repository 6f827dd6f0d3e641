"""Measures of a decoder's quality, with tests whether chance could have produced them."""
