"""Folds that leave whole groups out."""

from __future__ import annotations

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
