"""Everything offline: features, training, evaluation and the bundles that the server loads."""
