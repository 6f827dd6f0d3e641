"""Files that record a run; a full disk does not stop the run."""
