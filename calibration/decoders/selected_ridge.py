"""Ridge regression on the voxels that correlate most with each unit, as in the lab's later work."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from calibration.decoders.cholesky import BLOCK, factorise, solve
from calibration.decoders.sparse import Equations, SparseDecoder
from rtgod.messages import Array

#: Units that a thread solves with one set of arrays to work in.
_BATCH = 8


class SelectedRidge(SparseDecoder):
    """Ridge regression on a selection of features, which differs between targets.

    It minimises ‖yz − Xz w‖² + alpha ‖w‖² over the weights of the selected features. It equals fastl2lir on data that
    are z-scored beforehand; otherwise that package penalises the intercept, too.

    Parameters
    ----------
    n_voxels : int
        Number of features that a target is predicted from: those of largest |r| with it; at most all.
    alpha : float
        Penalty.
    """

    def __init__(self, n_voxels: int = 500, alpha: float = 100.0) -> None:
        super().__init__(n_voxels)
        self.alpha = alpha

    def _weights(self, equations: Equations) -> Array:
        gram, right, selected = equations.gram, equations.right, equations.selected
        weights = np.empty(selected.shape, gram.dtype)
        _solve_all(gram, right, selected, gram.dtype.type(self.alpha), weights)
        return weights


@njit(cache=True, parallel=True)
def _solve_all(gram: Array, right: Array, selected: Array, alpha: float, weights: Array) -> None:
    n_units = len(selected)
    for batch in prange(-(-n_units // _BATCH)):
        _solve_batch(gram, right, selected, range(batch * _BATCH, min((batch + 1) * _BATCH, n_units)), alpha, weights)


@njit(cache=True)
def _solve_batch(gram: Array, right: Array, selected: Array, units: range, alpha: float, weights: Array) -> None:
    """Weights of some units, each from the block of the Gram matrix that its voxels select."""
    n_selected = selected.shape[1]
    n_blocks = -(-n_selected // BLOCK)
    columns = np.empty((n_blocks, n_blocks * BLOCK, BLOCK), gram.dtype)
    inverses, spare = np.empty((n_blocks, BLOCK, BLOCK), gram.dtype), np.empty((BLOCK, BLOCK), gram.dtype)
    b, spare_b = np.empty(n_blocks * BLOCK, gram.dtype), np.empty(n_blocks * BLOCK, gram.dtype)
    for unit in units:
        b[:n_selected] = right[unit]
        b[n_selected:] = 0.0
        _gather(gram, selected[unit], alpha, columns)
        factorise(columns, inverses, spare)
        solve(columns, inverses, b, spare_b)
        weights[unit] = b[:n_selected]


@njit(cache=True)
def _gather(gram: Array, voxels: Array, alpha: float, columns: Array) -> None:
    """Copy the upper triangle of a block of the Gram matrix, plus the penalty, by block columns; pad with ones.

    Voxels ascend, so only the upper triangle of the Gram matrix is read where it counts.
    """
    n_blocks, size, _ = columns.shape
    for j in range(n_blocks):
        part = voxels[j * BLOCK : (j + 1) * BLOCK]
        for i in range((j + 1) * BLOCK):
            out = columns[j, i]
            if part.size < BLOCK:
                out[:] = 0.0
            if i < voxels.size:
                row = gram[voxels[i]]
                for k in range(part.size):
                    out[k] = row[part[k]]
    for i in range(size):
        columns[i // BLOCK, i, i % BLOCK] += alpha if i < voxels.size else 1.0
