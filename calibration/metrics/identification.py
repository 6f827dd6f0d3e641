"""How well rankings identify: shares of candidates beaten, and whether chance could do it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from calibration.metrics.permutation import FEW_CATEGORIES, N_PERMUTATIONS, ExchangeTest, exchange_test
from rtgod.messages import Array, Float64Array


def identification_accuracy(scores: Array, true: int) -> float:
    """Share of the other candidates that score lower than the true one; ties count half.

    Parameters
    ----------
    scores : ndarray of shape (n_candidates,)
    true : int
        Position of the true category.
    """
    others = np.delete(scores, true)
    return float(((others < scores[true]).sum() + 0.5 * (others == scores[true]).sum()) / others.size)


def rank_of(scores: Array, true: int) -> int:
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


def permutation_test(
    scores: Array,
    true: Sequence[int],
    runs: Sequence[Hashable] | None = None,
    *,
    new: bool = False,
    folded: bool = False,
    seed: int = 0,
) -> ExchangeTest:
    """Test whether the mean accuracy is higher than it would be with other labels.

    Categories are exchanged, so that a category's blocks keep a common label: blocks of one category are not
    independent of each other. Of fewer than six categories there are too few exchanges, and blocks are exchanged within
    their runs: this says that these categories are told apart, and nothing of others.

    Parameters
    ----------
    scores : ndarray of shape (n_blocks, n_candidates)
    true : sequence of int
        Position of each block's true category among the candidates.
    runs : sequence of hashable, optional
        Run of each block; all are of one run without it.
    new : bool
        Whether the decoder was trained on none of these categories. Then all blocks of one may be decoded wrongly
        alike, and categories are exchanged however few they are.
    folded, seed
        As in `calibration.metrics.permutation.exchange_test`.
    """
    return accuracy_test(all_accuracies(scores), true, runs, new=new, folded=folded, seed=seed)


def accuracy_test(
    accuracies: Float64Array,
    true: Sequence[int],
    runs: Sequence[Hashable] | None = None,
    *,
    new: bool = False,
    folded: bool = False,
    seed: int = 0,
) -> ExchangeTest:
    """Do `permutation_test` on the accuracies that each block would have, were it of the category of each column.

    Parameters
    ----------
    accuracies : ndarray of shape (n_blocks, n_categories)
        With a column for each category that was shown, at least.
    true : sequence of int
        Column of each block's category.
    runs, new, folded, seed
        As in `permutation_test`.
    """
    runs = [""] * len(true) if runs is None else runs
    within = runs if len(set(np.asarray(true).tolist())) < FEW_CATEGORIES and not new else None
    return exchange_test(accuracies, true, within, folded=folded, seed=seed, n=N_PERMUTATIONS)
