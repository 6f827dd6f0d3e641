"""Samples to a bundle: fits, cross-validation, confidence, layer weights."""
