"""Recorded runs to labelled samples, through the pipeline that the server runs."""
