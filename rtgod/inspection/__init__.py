"""The check before a scan: a finished export is played as if it came now, and what would go wrong is said."""
