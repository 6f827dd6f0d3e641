"""Decoders from voxels to the units of a layer: scikit-learn estimators, one in each module."""
