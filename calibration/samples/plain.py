"""Plain categories: what is decoded without images, one unit for each category that the runs show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from calibration.features.images import first_few
from calibration.features.stimuli import Stimuli
from calibration.samples.study import CATEGORIES
from rtgod.errors import InputError


def plain_stimuli(categories: Iterable[str]) -> Stimuli:
    """Categories that are their own candidates: unit i is 1 for the i-th of them and 0 for the others.

    Parameters
    ----------
    categories : iterable of str
        Of all trials, in any order.

    Raises
    ------
    InputError
        If there are fewer than two.
    """
    ids = tuple(sorted(set(categories)))
    if len(ids) < 2:
        raise InputError(f"the runs have {len(ids)} category; there is nothing to tell apart among fewer than two")
    return Stimuli({}, {}, ids, {CATEGORIES: np.eye(len(ids), dtype=np.float32)})


def check_repeated(categories: Sequence[str]) -> None:
    """Refuse categories that are shown once only: what decodes them cannot be tested on another trial.

    Parameters
    ----------
    categories : sequence of str
        Of all trials to be trained on.

    Raises
    ------
    InputError
    """
    counts = Counter(categories)
    if once := sorted(category for category, n in counts.items() if n < 2):
        raise InputError(
            f"{len(once)} of {len(counts)} categories have one trial only ({first_few(once)}), and categories that are "
            "decoded themselves need two or more; add runs, leave these rows out, or decode what images look like, "
            "with --images and --candidates"
        )
