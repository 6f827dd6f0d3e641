"""How well rankings identify: shares of candidates beaten, and whether chance could do it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration.statistics import N_PERMUTATIONS, share_at_least
from rtgod.messages import Array, Float32Array, Float64Array


def identification_accuracy(scores: Float32Array, true: int) -> float:
    """Share of the other candidates that score lower than the true one; ties count half.

    Parameters
    ----------
    scores : ndarray of shape (n_candidates,)
    true : int
        Position of the true category.
    """
    others = np.delete(scores, true)
    return float(((others < scores[true]).sum() + 0.5 * (others == scores[true]).sum()) / others.size)


def rank_of(scores: Float32Array, true: int) -> int:
    """Rank of the true category, 1 for the best; among ties the last."""
    return int((np.delete(scores, true) >= scores[true]).sum()) + 1


def all_accuracies(scores: Array) -> Float64Array:
    """Identification accuracy that every candidate would have if it were the true one.

    Parameters
    ----------
    scores : ndarray of shape (n_blocks, n_candidates)

    Returns
    -------
    ndarray of the same shape, float64
    """
    n_others = scores.shape[1] - 1
    accuracies = np.empty(scores.shape)
    for row, out in zip(scores, accuracies, strict=True):
        ordered = np.sort(row)
        below = np.searchsorted(ordered, row, side="left")
        not_above = np.searchsorted(ordered, row, side="right")
        out[:] = (below + 0.5 * (not_above - below - 1)) / n_others
    return accuracies


def permutation_p(scores: Array, true: Sequence[int], seed: int = 0) -> float:
    """Chance of a mean accuracy at least this high if the labels of the blocks were shuffled.

    Categories, not blocks, are exchanged, so that a category's blocks keep a common label: blocks of one category are
    not independent of each other.

    Parameters
    ----------
    scores : ndarray of shape (n_blocks, n_candidates)
    true : sequence of int
        Position of each block's true category among the candidates.
    seed : int

    Returns
    -------
    float
        (1 + number of shuffles at least as good) / (1 + number of shuffles) (Phipson & Smyth 2010).
    """
    accuracies = all_accuracies(scores)
    labels = np.asarray(true)
    shown, position = np.unique(labels, return_inverse=True)
    blocks = np.arange(len(labels))
    observed = accuracies[blocks, labels].mean()
    rng = np.random.default_rng(seed)
    shuffled = np.array([accuracies[blocks, rng.permutation(shown)[position]].mean() for _ in range(N_PERMUTATIONS)])
    return share_at_least(observed, shuffled)
