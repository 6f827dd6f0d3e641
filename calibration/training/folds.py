"""Folds that leave out whole groups, or a part of every category; and rows that stand for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import GroupKFold

from rtgod.messages import Array

N_FOLDS = 5


def leave_groups_out(groups: Sequence[str] | Array, n_folds: int = N_FOLDS) -> list[tuple[Array, Array]]:
    """Return positions kept and left out, in `n_folds` folds, or in one fold for each group if there are fewer groups.

    A single group cannot be left out: all its members are then both kept and left out.

    Parameters
    ----------
    groups : sequence of str or ndarray of shape (n_members,)
        Group of each member.
    n_folds : int
        Maximum number of folds.
    """
    labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    n_groups = np.unique(labels).size
    if n_groups < 2:
        all_rows = np.arange(len(labels))
        return [(all_rows, all_rows)]
    return list(GroupKFold(min(n_folds, n_groups)).split(labels, groups=labels))


def parts_of_one_run(categories: Sequence[str]) -> list[int]:
    """Number the parts in which the blocks of one run are left out: neighbours in time, and blocks of every category.

    If one block were left out alone, its category would have fewer blocks to train on than the others: a decoder takes
    any pattern it cannot explain for the commoner categories, so that noise is decoded below chance.

    Parameters
    ----------
    categories : sequence of str
        Category of each block, in order of time.

    Returns
    -------
    list of int
        The number of parts is the number of blocks of the rarest category; if that is one, each block is a part.
    """
    counts = Counter(categories)
    n_parts = min(counts.values(), default=0)
    if n_parts < 2:
        return list(range(len(categories)))
    seen: Counter[str] = Counter()
    parts = []
    for category in categories:
        parts.append(seen[category] * n_parts // counts[category])
        seen[category] += 1
    return parts


def evenly(rows: Array, most: int) -> Array:
    """Keep no more than `most` of the rows, evenly spaced.

    Parameters
    ----------
    rows : ndarray of shape (n_rows,), int
    most : int
    """
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]
