"""Patterns to features, features to ranked categories, scores to chances."""
