"""Where volumes come from: each source gives a `Run` once, then its `Volume`s in acquisition order."""
