"""Tables of events: which rows are trials, how rows merge into blocks, and what became of the others."""
