"""Numbers to pages, figures and tables."""
