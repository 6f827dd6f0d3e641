"""Ridge regression on the voxels that correlate most with each unit, as in the lab's later work."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from calibration.decoders.cholesky import BLOCK, factorise, solve
from calibration.decoders.pairs import paired
from calibration.decoders.sparse import Equations, SparseDecoder
from rtgod.messages import Array, BoolArray, Int32Array

#: Number of pairs of units that a thread solves with one set of work arrays.
_BATCH = 4


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
        _solve_all(gram, right, selected, paired(selected, len(gram)), gram.dtype.type(self.alpha), weights)
        return weights


@njit(cache=True, parallel=True)
def _solve_all(gram: Array, right: Array, selected: Array, pairs: Int32Array, alpha: float, weights: Array) -> None:
    for batch in prange(-(-len(pairs) // _BATCH)):
        _solve_batch(gram, right, selected, pairs[batch * _BATCH : (batch + 1) * _BATCH], alpha, weights)


@njit(cache=True)
def _solve_batch(gram: Array, right: Array, selected: Array, pairs: Int32Array, alpha: float, weights: Array) -> None:
    """Solve the weights of each unit, from the block of the Gram matrix that its voxels select.

    Voxels that two units share come first in both blocks, and are eliminated only once.
    """
    n_selected = selected.shape[1]
    n_blocks = -(-n_selected // BLOCK)
    columns = np.empty((n_blocks, n_blocks * BLOCK, BLOCK), gram.dtype)
    inverses, spare = np.empty((n_blocks, BLOCK, BLOCK), gram.dtype), np.empty((BLOCK, BLOCK), gram.dtype)
    b, other = np.empty(n_blocks * BLOCK, gram.dtype), np.empty(n_blocks * BLOCK, gram.dtype)
    shared, order = np.empty(n_selected, np.bool_), np.empty(n_selected, np.int32)
    voxels = np.empty(n_selected, selected.dtype)
    for pair in range(len(pairs)):
        first = 0
        for place in range(2):
            unit = pairs[pair, place]
            n_shared = _shared_first(selected[unit], selected[pairs[pair, 1 - place]], shared, order)
            for k in range(n_selected):
                voxels[k], b[k] = selected[unit, order[k]], right[unit, order[k]]
            b[n_selected:] = 0.0
            _gather(gram, voxels, n_shared, alpha, columns, first)
            factorise(columns, inverses, spare, first)
            solve(columns, inverses, b, other)
            for k in range(n_selected):
                weights[unit, order[k]] = b[k]
            first = n_shared // BLOCK  # the block columns before are the same for the other unit


@njit(cache=True)
def _shared_first(voxels: Array, others: Array, shared: BoolArray, order: Int32Array) -> int:
    """Fill `order` with a unit's voxels, shared ones first, in whole blocks; return the number of these."""
    k = 0
    for place in range(voxels.size):
        while k < others.size and others[k] < voxels[place]:
            k += 1
        shared[place] = k < others.size and others[k] == voxels[place]
    n_first = shared.sum() // BLOCK * BLOCK
    first, later = 0, n_first
    for place in range(voxels.size):
        if shared[place] and first < n_first:
            order[first] = place
            first += 1
        else:
            order[later] = place
            later += 1
    return n_first


@njit(cache=True)
def _gather(gram: Array, voxels: Array, n_shared: int, alpha: float, columns: Array, first: int) -> None:
    """Gather the upper triangle of a block of the Gram matrix, plus the penalty; pad the diagonal with ones.

    The result is in block columns, from `first` on. Voxels ascend up to `n_shared`, and again from there.
    """
    n_blocks, size, _ = columns.shape
    for j in range(first, n_blocks):
        part = voxels[j * BLOCK : (j + 1) * BLOCK]
        for i in range((j + 1) * BLOCK):
            out = columns[j, i]
            if part.size < BLOCK:
                out[:] = 0.0
            if i >= voxels.size:
                continue
            voxel, row = voxels[i], gram[voxels[i]]
            if i < n_shared <= j * BLOCK:
                for k in range(part.size):
                    out[k] = gram[min(voxel, part[k]), max(voxel, part[k])]
            else:
                for k in range(part.size):
                    out[k] = row[part[k]]
    for i in range(first * BLOCK, size):
        columns[i // BLOCK, i, i % BLOCK] += alpha if i < voxels.size else 1.0
