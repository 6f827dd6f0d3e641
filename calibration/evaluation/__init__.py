"""Evaluation: decode new runs, and judge the results."""
