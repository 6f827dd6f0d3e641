"""Decoders from voxels to the units of a layer: scikit-learn estimators, a module each."""
