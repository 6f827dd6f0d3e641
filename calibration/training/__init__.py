"""From samples to a bundle: fits, cross-validation, confidence and layer weights."""
