"""Samples: recorded runs become labelled samples, through the pipeline that the server runs."""
