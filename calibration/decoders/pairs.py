"""Pairs of targets that select many of the same features, and so are solved two at a time."""

from __future__ import annotations

import numpy as np
from numba import njit

from calibration.decoders.threads import in_threads
from rtgod.messages import Array, BoolArray, Int32Array


def paired(selected: Array, n_features: int) -> Int32Array:
    """Pair each target with one that shares many features with it; greedily, starting with the pair that shares most.

    Parameters
    ----------
    selected : ndarray of shape (n_targets, n_selected)
        Positions of each target's features.
    n_features : int

    Returns
    -------
    ndarray of shape (n_pairs, 2), int32
        Each target once, except the last of an odd number, which is paired with itself. Targets that are far apart in
        order are not compared.
    """
    pairs = np.empty((-(-len(selected) // 2), 2), np.int32)

    def match(targets: slice) -> None:  # parts begin at even positions
        n = targets.stop - targets.start
        chosen = np.zeros((n, n_features), np.float32)
        chosen[np.arange(n)[:, None], selected[targets]] = 1
        some, others = np.triu_indices(n, 1)
        order = np.argsort(-(chosen @ chosen.T)[some, others], kind="stable")
        out = pairs[targets.start // 2 : -(-targets.stop // 2)]
        _match(some[order], others[order], np.ones(n, np.bool_), out)
        out += targets.start

    in_threads(match, len(selected))
    return pairs


@njit(cache=True)
def _match(some: Array, others: Array, free: BoolArray, pairs: Int32Array) -> None:
    """Take the pairs in order if both of their targets are free; a target left over is paired with itself."""
    found = 0
    for k in range(len(some)):
        if free[some[k]] and free[others[k]]:
            free[some[k]] = free[others[k]] = False
            pairs[found, 0], pairs[found, 1] = some[k], others[k]
            found += 1
    for target in range(len(free)):
        if free[target]:
            pairs[found] = target
