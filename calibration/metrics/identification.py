"""Identification by rankings: shares of candidates beaten, and tests against chance."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from calibration.metrics.permutation import FEW_CATEGORIES, N_PERMUTATIONS, ExchangeTest, exchange_test
from rtgod.messages import Array, Float64Array


def identification_accuracy(scores: Array, true: int) -> float:
    """Return the share of the other candidates that score lower than the true one; ties count half.

    Parameters
    ----------
    scores : ndarray of shape (n_candidates,)
    true : int
        Position of the true category.
    """
    others = np.delete(scores, true)
    return float(((others < scores[true]).sum() + 0.5 * (others == scores[true]).sum()) / others.size)


def rank_of(scores: Array, true: int) -> int:
    """Return the rank of the true category, 1 for the best; in a tie the last of the tied ranks.

    Parameters
    ----------
    scores : ndarray of shape (n_candidates,)
        The best candidate has the highest.
    true : int
        Position of the true category.
    """
    return int((np.delete(scores, true) >= scores[true]).sum()) + 1


def all_accuracies(scores: Array) -> Float64Array:
    """Return the identification accuracy that each candidate would have if it were the true one.

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


def shuffled_accuracy(scores: Array, true: Sequence[int] | Array) -> float:
    """Return the mean accuracy over all exchanges of the blocks' labels, which keep their frequencies.

    One answer to all blocks has this accuracy, however unequal the frequencies are.

    Parameters
    ----------
    scores : ndarray of shape (n_blocks, n_candidates)
    true : sequence of int
        Position of each block's true category among the candidates.
    """
    shown, counts = np.unique(np.asarray(true), return_counts=True)
    return float(all_accuracies(scores)[:, shown].mean(axis=0) @ counts / counts.sum())


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
    independent of each other. Fewer than six categories have too few exchanges, so their blocks are exchanged within
    runs: this tests that these categories are told apart, and says nothing about others.

    Parameters
    ----------
    scores : ndarray of shape (n_blocks, n_candidates)
    true : sequence of int
        Position of each block's true category among the candidates.
    runs : sequence of hashable, optional
        Run of each block; without it all blocks belong to one run.
    new : bool
        Whether all blocks of one category may be decoded wrongly in the same way, as the decoder was trained on none of
        these categories, or as each block is an average with those before it. Categories are then exchanged even if
        there are few.
    folded, seed
        Options of `calibration.metrics.permutation.exchange_test`.
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
    """Do `permutation_test` on given accuracies, which each block would have with the category of each column.

    Parameters
    ----------
    accuracies : ndarray of shape (n_blocks, n_categories)
        Has at least a column for each category that was shown.
    true : sequence of int
        Column of each block's category.
    runs, new, folded, seed
        Options of `permutation_test`.
    """
    runs = [""] * len(true) if runs is None else runs
    within = runs if len(set(np.asarray(true).tolist())) < FEW_CATEGORIES and not new else None
    return exchange_test(accuracies, true, within, folded=folded, seed=seed, n=N_PERMUTATIONS)
