"""Tables of events: the choice of the rows that are trials, the merging of rows into blocks, and counts of the rest."""
