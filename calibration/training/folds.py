"""Folds that leave whole groups out, or a part of every category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import GroupKFold

from rtgod.messages import Array

N_FOLDS = 5


def leave_groups_out(groups: Sequence[str] | Array) -> list[tuple[Array, Array]]:
    """Positions that are kept and left out, five times or once for each of fewer groups.

    With one group there is nothing to leave out: its members are both.
    """
    labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    n_groups = np.unique(labels).size
    if n_groups < 2:
        everything = np.arange(len(labels))
        return [(everything, everything)]
    return list(GroupKFold(min(N_FOLDS, n_groups)).split(labels, groups=labels))


def parts_of_one_run(categories: Sequence[str]) -> list[int]:
    """Number the parts that the blocks of one run are left out in: neighbours in time, and blocks of every category.

    Leaving out one block alone would leave fewer of its category to train on than of the others: whatever a decoder
    cannot explain, it takes for the commoner ones, so that noise is decoded below chance.

    Parameters
    ----------
    categories : sequence of str
        Of each block, in order of time.

    Returns
    -------
    list of int
        As many parts as the rarest category has blocks; where that is one, each block is a part.
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
