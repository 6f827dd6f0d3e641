"""Reports: pages, figures and tables from numbers."""
