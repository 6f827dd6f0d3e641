"""Sparse linear regression, the decoder of the study: each unit finds the voxels that are relevant to it."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from calibration.decoders.relevance import sparse_weights
from calibration.decoders.sparse import Equations, SparseDecoder
from rtgod.messages import Array


class SparseRegression(SparseDecoder):
    """Sparse linear regression by automatic relevance determination (see `relevance`), in double precision.

    Parameters
    ----------
    n_voxels : int
        Features that a target begins with, those of largest |r| with it; at most all.
    max_iterations : int
    """

    def __init__(self, n_voxels: int = 500, max_iterations: int = 2000) -> None:
        super().__init__(n_voxels)
        self.max_iterations = max_iterations

    def _weights(self, equations: Equations) -> Array:
        X, Y, gram, right, selected = equations
        weights = np.empty(selected.shape)
        arrays = (np.ascontiguousarray(array, np.float64) for array in (gram, X.T, Y.T, right))
        _fit_each(*arrays, selected, self.max_iterations, weights)
        return weights.astype(X.dtype)


@njit(cache=True, parallel=True)
def _fit_each(
    gram: Array, X: Array, Y: Array, right: Array, selected: Array, max_iterations: int, weights: Array
) -> None:
    """Weights of each unit; one row of `X` for each voxel, of `Y`, `right`, `selected` and `weights` for each unit."""
    for unit in prange(selected.shape[0]):
        sparse_weights(gram, X, Y[unit], right[unit], selected[unit], max_iterations, weights[unit])
