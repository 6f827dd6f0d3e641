"""Decisions in the course of trials: after how many volumes a ranking is sure, and how often it then is right.

A trial decides with its first ranking that is sure; later ones change nothing. A trial that never is sure is counted,
not left out: to the median number of volumes it is one that takes longer than all others.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.metrics.statistics import wilson
from rtgod.decoding.confidence import SURE
from rtgod.messages import Array


@dataclass(frozen=True, slots=True)
class Decisions:
    """Decisions of trials of one kind.

    Attributes
    ----------
    n_trials, n_decided : int
        Trials with rankings whose chances are known; those of them that decide.
    volumes : float
        Median number of volumes behind the first sure ranking, over all trials; infinite if fewer than half decide.
    volumes_of_decided : float
        The same over the trials that decide; NaN if none does.
    said : float
        Mean chance of the first candidate in the rankings that decide; NaN if no trial decides.
    right, low, high : float
        Share of the decisions that are right, with its 90 % interval; NaN if no trial decides.
    right_at_end : float
        Share of the same trials whose last ranking has the true category first: what waiting would have given.
    by_chance : float
        Share of decisions that are right if each is compared with the true category of another of the trials instead
        of its own; NaN with fewer than two decisions.
    right_of_all : float
        Share of all trials whose last ranking has the true category first.
    """

    n_trials: int
    n_decided: int
    volumes: float
    volumes_of_decided: float
    said: float
    right: float
    low: float
    high: float
    right_at_end: float
    by_chance: float
    right_of_all: float


def decisions_of(
    p: Array, first: Array, true: Array, n_volumes: Array, trials: Sequence[Hashable], sure: float = SURE
) -> Decisions:
    """Find each trial's decision.

    Parameters
    ----------
    p : ndarray of shape (n_rankings,), float
        Chance of the first candidate of each ranking; the rankings of a trial are in their order.
    first, true : ndarray of shape (n_rankings,), int
        Position of the first candidate of each ranking, and of its trial's true category.
    n_volumes : ndarray of shape (n_rankings,), int
        Volumes that each ranking rests on.
    trials : sequence of hashable
        Trial of each ranking.
    sure : float
        A ranking decides if its chance exceeds this.

    Raises
    ------
    ValueError
        If there are no rankings.
    """
    rows: dict[Hashable, list[int]] = {}
    for row, trial in enumerate(trials):
        rows.setdefault(trial, []).append(row)
    if not rows:
        raise ValueError("there are no rankings to decide by")
    deciding = [next((row for row in of_trial if p[row] > sure), None) for of_trial in rows.values()]
    decided = np.array([row for row in deciding if row is not None], np.int64)
    ends = np.array([of_trial[-1] for of_trial in rows.values()], np.int64)
    last = ends[[row is not None for row in deciding]]
    waits = [np.inf if row is None else float(n_volumes[row]) for row in deciding]
    n, nothing = len(decided), float("nan")
    n_right = int((first[decided] == true[decided]).sum())
    low, high = wilson(n_right, n, 0.9) if n else (nothing, nothing)
    return Decisions(
        n_trials=len(rows),
        n_decided=n,
        volumes=_median(waits),
        volumes_of_decided=_median([wait for wait in waits if np.isfinite(wait)]),
        said=float(p[decided].mean()) if n else nothing,
        right=n_right / n if n else nothing,
        low=low,
        high=high,
        right_at_end=float((first[last] == true[last]).mean()) if n else nothing,
        by_chance=_by_chance(first[decided], true[decided]),
        right_of_all=float((first[ends] == true[ends]).mean()),
    )


def _median(waits: Sequence[float]) -> float:
    """Return the lower of the two middle values, as one that some trial has; NaN of none."""
    return sorted(waits)[(len(waits) - 1) // 2] if waits else float("nan")


def _by_chance(first: Array, true: Array) -> float:
    """Return the mean over all pairs of different trials of whether the one's choice is the other's true category."""
    n = len(first)
    if n < 2:
        return float("nan")
    return float(((first[:, np.newaxis] == true).sum() - (first == true).sum()) / (n * (n - 1)))
