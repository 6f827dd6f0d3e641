"""Files of a data set: runs, events, masks and regions, and the search for missing and foreign runs."""
