"""Spatial smoothing of patterns among the decoder's voxels; other voxels are not read."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from numba import njit, prange

from rtgod.kernels import launch
from rtgod.messages import Array, Float32Array, Float64Array, Int32Array
from rtgod.preprocessing.geometry import voxel_sizes


class Smoother:
    """Gaussian smoother, cut off at three standard deviations and normalised over the decoder's voxels.

    Parameters
    ----------
    voxels : ndarray of shape (n_voxels, 3), int32
    affine : ndarray of shape (4, 4), float64
        Voxel indices to millimetres.
    fwhm_mm : float
        Full width at half maximum; above 0.
    """

    def __init__(self, voxels: Int32Array, affine: Float64Array, fwhm_mm: float) -> None:
        sd_mm = fwhm_mm / math.sqrt(8 * math.log(2))
        reach = np.ceil(3 * sd_mm / voxel_sizes(affine)).astype(int)
        offsets = np.array(list(product(*(range(-r, r + 1) for r in reach))))
        distance_mm = np.linalg.norm(offsets @ affine[:3, :3].T, axis=1)
        near = distance_mm <= 3 * sd_mm
        # A grid that holds each voxel's position in the list, with a margin so that no offset leaves the grid.
        grid = np.full(voxels.max(axis=0, initial=0) + 1 + 2 * reach, -1, np.int32)
        grid[tuple((voxels + reach).T)] = np.arange(len(voxels))
        self._neighbours = np.stack([grid[tuple((voxels + reach + offset).T)] for offset in offsets[near]], axis=1)
        self._weights = np.exp(-0.5 * (distance_mm[near] / sd_mm) ** 2)

    def smooth(self, values: Float32Array) -> Float32Array:
        """Smooth one pattern.

        Parameters
        ----------
        values : ndarray of shape (n_voxels,), float32
        """
        out = np.empty_like(values)
        launch(_smooth, self._neighbours.size, values, self._neighbours, self._weights, out)
        return out


@njit(cache=True, parallel=True, error_model="numpy")
def _smooth(values: Array, neighbours: Array, weights: Array, out: Array) -> None:
    for v in prange(values.size):
        total, norm = 0.0, 0.0
        for k in range(weights.size):
            neighbour = neighbours[v, k]
            if neighbour >= 0:
                total += weights[k] * values[neighbour]
                norm += weights[k]
        out[v] = total / norm
