"""Files of a data set: runs, events, masks and regions, with a list of the missing and the foreign ones."""
