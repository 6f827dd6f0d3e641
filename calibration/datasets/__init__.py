"""Files of a data set: runs, events, masks, regions, and what is missing or foreign."""
