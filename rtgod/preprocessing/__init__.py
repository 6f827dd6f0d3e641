"""Preprocessing: align volumes to the template, sample voxels, remove motion, drift and noise, and smooth patterns."""
