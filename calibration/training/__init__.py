"""Training of a bundle from samples: fits, cross-validation, confidence and layer weights."""
