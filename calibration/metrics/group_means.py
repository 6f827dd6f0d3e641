"""Means over the members of groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rtgod.messages import Array, Float64Array


def averaged_by(labels: Sequence[str], values: Array) -> tuple[list[str], Float64Array]:
    """Return the labels, each once in order of appearance, and the mean of each label's rows of `values`.

    Parameters
    ----------
    labels : sequence of str
        Label of each row.
    values : ndarray of shape (n_rows, ...)
    """
    names = list(dict.fromkeys(labels))
    position = {name: i for i, name in enumerate(names)}
    group = np.array([position[label] for label in labels])
    total = np.zeros((len(names), *values.shape[1:]))
    np.add.at(total, group, values)
    return names, (total.T / np.bincount(group)).T
