"""Sparse linear regression, the decoder of the study: each unit finds the voxels that are relevant to it."""

from __future__ import annotations

import numpy as np

from calibration.decoders.relevance import fit_each
from calibration.decoders.sparse import Equations, SparseDecoder
from rtgod.messages import Array


class SparseRegression(SparseDecoder):
    """Sparse linear regression by automatic relevance determination (see `relevance`), in double precision.

    Parameters
    ----------
    n_voxels : int
        Number of features that a target begins with: those of largest |r| with it; at most all.
    max_iterations : int
    """

    def __init__(self, n_voxels: int = 500, max_iterations: int = 2000) -> None:
        super().__init__(n_voxels)
        self.max_iterations = max_iterations

    def _weights(self, equations: Equations) -> Array:
        X, Y, gram, selected, right = equations
        weights = np.empty(selected.shape)
        gram, X_rows, Y_rows, right = (np.ascontiguousarray(a, np.float64) for a in (gram, X.T, Y.T, right))
        fit_each(gram, X_rows, Y_rows, selected, right, self.max_iterations, weights)
        return weights.astype(X.dtype)
