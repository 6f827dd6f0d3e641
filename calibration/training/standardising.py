"""Learn by how much candidates' scores are standardised, from rankings of trials that a decoder had not seen.

Candidates differ in how much their scores vary over whatever is decoded, and those that vary most are first too often.
A candidate's spread is that of its scores for trials of other categories: its own would handicap it. How much of it is
taken out is chosen on trials whose category no spread is from; the least that does about as well as the best is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rtgod.decoding.standardisation import Standardisation
from rtgod.messages import Array, BoolArray, Float32Array, Float64Array

#: How much of the spread is taken out, from nothing to all.
Amount = Literal["none", "half", "root", "full"]
#: Those that are chosen among: with few training runs all of the spread was chosen, and lost first choices.
AMOUNTS: tuple[Amount, ...] = ("none", "half", "root")
_IN_WORDS: Mapping[Amount, str] = {
    "half": "half of their spread is taken out",
    "root": "the root of their spread is taken out",
}
#: Fewest trials, runs, categories and candidates to learn from.
_FEWEST = {"trials": 10, "runs": 2, "categories": 5, "candidates": 3}
#: Most windows that spreads are taken over.
MOST_WINDOWS = 1000
#: Candidates among which the true one should be first, by which amounts are compared.
_AMONG = 50
#: Standard errors by which an amount must be better than none.
_LEAST_ERRORS = 2.0
#: Smallest spread, as a share of the median spread, and fewest windows that it is known from.
_LEAST_SPREAD, _FEWEST_WINDOWS = 0.1, 10


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums of candidates' scores over trials of other categories, for each category of the trials.

    Attributes
    ----------
    n, total, squares : ndarray of shape (n_categories, n_candidates), float64
        Number of windows, and sums of their scores and of their squares.
    """

    n: Float64Array
    total: Float64Array
    squares: Float64Array

    @classmethod
    def of(cls, scores: Float32Array, counted: BoolArray, category: Array) -> Moments:
        """Sum scores.

        Parameters
        ----------
        scores : ndarray of shape (n_windows, n_candidates), float32
        counted : ndarray of shape (n_windows, n_candidates), bool
            Scores that count.
        category : ndarray of shape (n_windows,), int
            Number of each window's category, from 0.
        """
        n, total, squares = (np.zeros((int(category.max()) + 1, scores.shape[1])) for _ in range(3))
        for number in range(len(n)):
            rows = category == number
            kept = np.where(counted[rows], scores[rows], 0).astype(np.float64)
            n[number], total[number] = counted[rows].sum(axis=0), kept.sum(axis=0)
            squares[number] = (kept * kept).sum(axis=0)
        return cls(n, total, squares)

    def standardisation(self, amount: Amount, without: int | None = None) -> Standardisation | None:
        """Return what takes an amount of the candidates' spreads out of their scores; None for nothing.

        Scores are scaled about the mean of all, and spreads are divided by their median: they keep level and unit.

        Parameters
        ----------
        amount : str
        without : int or None
            Category whose trials do not count.
        """
        if amount == "none":
            return None
        sums = [of_all.sum(axis=0) for of_all in (self.n, self.total, self.squares)]
        if without is not None:
            sums = [s - of[without] for s, of in zip(sums, (self.n, self.total, self.squares), strict=True)]
        n = np.maximum(sums[0], 1)
        mean = sums[1] / n
        sd = np.sqrt(np.maximum(sums[2] / n - mean * mean, 0.0))
        known = sums[0] >= _FEWEST_WINDOWS
        typical = float(np.median(sd[known])) if known.any() else 0.0
        spread = np.where(known & (typical > 0), np.maximum(sd / (typical or 1.0), _LEAST_SPREAD), 1.0)
        divisor = {"half": 0.5 * spread + 0.5, "root": np.sqrt(spread), "full": spread}[amount]
        middle = float(sums[1].sum() / n.sum())
        # (score − middle) / divisor + middle, as (score − offset) · scale
        offset = middle * (1 - divisor)
        return Standardisation(offset.astype(np.float32), (1 / divisor).astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class LeftOutScores:
    """Scores of candidates for trials of one kind, by decoders that had not seen them.

    Attributes
    ----------
    scores : ndarray of shape (n_trials, n_candidates), float32
    true : ndarray of shape (n_trials,), int
        Position of each trial's category among the candidates.
    category : ndarray of shape (n_trials,), int
        Number of each trial's category in `moments`.
    moments : Moments
        Of the candidates, by the same decoders: of decoders that were trained on a category, its scores vary more.
    """

    scores: Float32Array
    true: Array
    category: Array
    moments: Moments


@dataclass(frozen=True, slots=True, eq=False)
class LearnedStandardisation:
    """Amount of standardisation that was chosen, and what it gained.

    Attributes
    ----------
    amount : str
        One of `AMOUNTS`.
    standardisation : Standardisation or None
        Of all candidates; None for nothing.
    note : str
        What was chosen, and why, in words.
    gain, error : float
        Gain in the chance that the true category is first of 50, over left-out trials, and its standard error.
    """

    amount: Amount
    standardisation: Standardisation | None
    note: str
    gain: float = 0.0
    error: float = 0.0


def choose(left_out: Mapping[str, LeftOutScores]) -> tuple[Amount, str, float, float]:
    """Choose the least amount that does about as well as the best, and no kind of trials worse than none.

    Amounts are compared by the chance that the true category is first among it and 49 other candidates, or all if there
    are fewer; about as well is within one standard error of the difference, over categories. None is chosen unless the
    best gains more than two: with few training runs a gain of one and a half was luck.

    Parameters
    ----------
    left_out : mapping of str to LeftOutScores
        Trials of each kind.

    Returns
    -------
    amount : str
    note : str
        What was chosen, and why.
    gain, error : float
        As in `LearnedStandardisation`.
    """
    shares = {amount: {kind: _shares(of, amount) for kind, of in left_out.items()} for amount in AMOUNTS}
    categories = np.concatenate([of.category for of in left_out.values()])
    n_among = min(_AMONG, min(of.scores.shape[1] for of in left_out.values()))
    first = {amount: np.concatenate(list(by.values())) ** (n_among - 1) for amount, by in shares.items()}
    allowed = [
        amount
        for amount in AMOUNTS
        if all(of_kind.mean() >= shares["none"][kind].mean() for kind, of_kind in shares[amount].items())
    ]
    best = max(allowed, key=lambda amount: _difference(first[amount], first["none"], categories)[0])
    behind = {amount: _difference(first[best], first[amount], categories) for amount in allowed}
    gains, error = behind["none"]
    if gains <= _LEAST_ERRORS * error:
        best = "none"
    amount = next(name for name in allowed if name == best or (name != "none" and behind[name][0] <= behind[name][1]))
    gain, error = _difference(first[amount], first["none"], categories)
    before, after = (100 * float(first[name].mean()) for name in ("none", amount))
    if amount == "none":
        note = (
            f"candidates' scores are not standardised: of {len(categories)} left-out trials no amount put the true "
            f"category first of {n_among} more often by more than two standard errors ({before:.1f} % without)"
        )
    else:
        note = (
            f"candidates' scores are standardised: {_IN_WORDS[amount]}, which puts the true category first of "
            f"{n_among} in {after:.1f} % instead of {before:.1f} % of {len(categories)} left-out trials "
            f"({100 * gain:+.1f} ± {100 * error:.1f} points over categories)"
        )
    return amount, note, gain, error


def lacking(counts: Mapping[str, int]) -> str:
    """Explain why nothing can be learned; empty if it can.

    Parameters
    ----------
    counts : mapping of str to int
        Numbers of "trials", "runs", "categories" and "candidates".
    """
    for name, n in counts.items():
        if n < _FEWEST[name]:
            return f"it is learned from {_FEWEST[name]} or more {name}, and there {'is' if n == 1 else 'are'} {n}"
    return ""


def _shares(left_out: LeftOutScores, amount: Amount) -> Float64Array:
    """Return the share of others that each true candidate beats, ties half; its category is in no spread."""
    shares = np.empty(len(left_out.true))
    for number in np.unique(left_out.category):
        rows = np.flatnonzero(left_out.category == number)
        scores, true = left_out.scores[rows], left_out.true[rows]
        standardisation = left_out.moments.standardisation(amount, int(number))
        if standardisation is not None:
            scores = standardisation.applied(scores)
        own = scores[np.arange(len(rows)), true][:, np.newaxis]
        beaten = (scores < own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
        shares[rows] = beaten / (scores.shape[1] - 1)
    return shares


def _difference(values: Float64Array, others: Float64Array, units: Array | Sequence[str]) -> tuple[float, float]:
    """Return the mean difference over units, and its standard error; infinite for one unit."""
    number = np.unique(np.asarray(units), return_inverse=True)[1]
    by_unit = np.bincount(number, values - others) / np.bincount(number)
    error = float(by_unit.std(ddof=1) / np.sqrt(len(by_unit))) if len(by_unit) > 1 else np.inf
    return float(by_unit.mean()), error
