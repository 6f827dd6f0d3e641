"""Files of a run, which a full disk does not stop."""
