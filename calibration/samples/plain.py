"""Plain categories: without images the categories themselves are decoded, one unit for each that the runs show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from calibration.features.images import first_few
from calibration.features.stimuli import Stimuli
from calibration.samples.study import CATEGORIES
from rtgod.errors import InputError
from rtgod.events.trials import toml_list


def plain_stimuli(categories: Iterable[str]) -> Stimuli:
    """Make categories their own candidates: unit i is 1 for the i-th category and 0 for the others.

    Parameters
    ----------
    categories : iterable of str
        The categories of all trials, in any order; repeats count once.

    Raises
    ------
    InputError
        If there are fewer than two categories.
    """
    ids = tuple(sorted(set(categories)))
    if len(ids) < 2:
        category = f"the runs have one category, {ids[0]}" if ids else "the runs have no category"
        raise InputError(f"{category}, and fewer than two cannot be told apart; give runs of several")
    return Stimuli({}, {}, ids, {CATEGORIES: np.eye(len(ids), dtype=np.float32)})


def check_repeated(categories: Sequence[str], left_out: Sequence[str] = ()) -> None:
    """Refuse categories that are shown once only: what decodes them cannot be tested on another trial.

    Parameters
    ----------
    categories : sequence of str
        Of all trials to be trained on.
    left_out : sequence of str
        How many other trials there are, and why they are left out; for the message.

    Raises
    ------
    InputError
        If a category is shown once only.
    """
    counts = Counter(categories)
    if once := sorted(category for category, n in counts.items() if n < 2):
        have = "has" if len(once) == 1 else "have"
        remark = f" (left out: {'; '.join(left_out)})" if left_out else ""
        ignore = f"leave such rows out with events.ignore = {toml_list(once)} in --settings, "
        raise InputError(
            f"{len(once)} of {len(counts)} categories {have} one trial only ({first_few(once)}), and what is decoded "
            f"itself needs two or more; add runs, {ignore if len(once) < len(counts) - 1 else ''}or decode what images "
            f"look like, with --images and --candidates{remark}"
        )
