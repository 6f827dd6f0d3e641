"""Decoding: patterns to features, features to ranked categories, and scores to chances."""
