"""A volume's voxels made comparable: aligned to the template, freed from motion, drift and noise, sampled, smoothed."""
