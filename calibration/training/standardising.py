"""Learn by how much candidates' scores are standardised, from rankings of trials that a decoder had not seen.

A candidate's mean and spread are those of its scores for trials of other categories: its own would handicap it. How
much of them is taken out is chosen on categories that the means and spreads are not from; the least that does about as
well as the best is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from calibration.training.folds import leave_groups_out
from rtgod.decoding.category_index import CategoryIndex
from rtgod.decoding.standardisation import Standardisation
from rtgod.messages import Array, BoolArray, Float32Array, Float64Array

#: What is taken out of scores, from nothing to all.
Amount = Literal["none", "offset", "half", "root", "full"]
AMOUNTS: tuple[Amount, ...] = ("none", "offset", "half", "root", "full")
_IN_WORDS: Mapping[Amount, str] = {
    "offset": "their means are taken out",
    "half": "their means and half of their spread are taken out",
    "root": "their means and the root of their spread are taken out",
    "full": "their means and their spread are taken out",
}
#: Fewest trials, fewest groups to leave out, and fewest candidates, to learn from.
FEWEST_TRIALS, _FEWEST_GROUPS, _FEWEST_CANDIDATES = 10, 5, 3
#: Most windows that means and spreads are taken over, and candidates that are scored for them at a time.
_MOST_WINDOWS, _PIECE = 1000, 2000
#: Candidates among which the true one should be first, by which amounts are compared.
_AMONG = 50
#: Smallest spread, as a share of the median spread.
_LEAST_SPREAD = 0.1

#: Makes the index of some candidates, given their positions, without standardisation.
MakeIndex = Callable[[Array], CategoryIndex]


@dataclass(frozen=True, slots=True, eq=False)
class LeftOutScores:
    """Scores of candidates for trials of one kind, by decoders that had not seen them.

    Attributes
    ----------
    scores : ndarray of shape (n_trials, n_candidates), float32
    true : ndarray of shape (n_trials,), int
        Position of each trial's category among the candidates.
    fold : ndarray of shape (n_trials,), int
        Fold of moments that each trial is left out of.
    units : sequence of str
        Category of each trial: trials of one category count as one where errors are computed.
    """

    scores: Float32Array
    true: Array
    fold: Array
    units: Sequence[str]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums of candidates' scores over trials of other categories, by the fold that the trials are left out in.

    Attributes
    ----------
    n, total, squares : ndarray of shape (n_folds, n_candidates), float64
        Number of windows, and sums of their scores and of their squares.
    """

    n: Float64Array
    total: Float64Array
    squares: Float64Array

    def select(self, rows: Array) -> Moments:
        """Select some candidates.

        Parameters
        ----------
        rows : ndarray of shape (n_selected,), int
        """
        return Moments(self.n[:, rows], self.total[:, rows], self.squares[:, rows])

    def standardisation(self, amount: Amount, without: int | None = None) -> Standardisation | None:
        """Return what takes an amount of the candidates' means and spreads out of their scores; None for nothing.

        Scores keep their level and unit: the mean of the means is left in, and spreads are divided by their median.

        Parameters
        ----------
        amount : str
        without : int or None
            Fold whose trials do not count.
        """
        if amount == "none":
            return None
        kept = np.ones(len(self.n), bool)
        if without is not None:
            kept[without] = False
        n = np.maximum(self.n[kept].sum(axis=0), 1)
        mean = self.total[kept].sum(axis=0) / n
        sd = np.sqrt(np.maximum(self.squares[kept].sum(axis=0) / n - mean * mean, 0.0))
        spread = np.maximum(sd / (np.median(sd) or 1.0), _LEAST_SPREAD)
        divisor = {"offset": np.ones_like(spread), "half": 0.5 * spread + 0.5, "root": np.sqrt(spread), "full": spread}
        # (score − mean) / divisor + mean of means: scores do not move as a whole.
        offset = mean - mean.mean() * divisor[amount]
        return Standardisation(offset.astype(np.float32), (1 / divisor[amount]).astype(np.float32))


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


def folds_of(groups: Sequence[str]) -> Array:
    """Number the folds in which groups are left out: shape (n_members,), int.

    Parameters
    ----------
    groups : sequence of str
        Group of each member.
    """
    fold = np.zeros(len(groups), np.int64)
    for number, (_, left_out) in enumerate(leave_groups_out(groups)):
        fold[left_out] = number
    return fold


def evenly(rows: Array, most: int = _MOST_WINDOWS) -> Array:
    """Keep no more than `most` of the rows, evenly spaced.

    Parameters
    ----------
    rows : ndarray of shape (n_rows,), int
    most : int
    """
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]


def moments_of(
    make_index: MakeIndex, ids: Sequence[str], layers: Mapping[str, Array], labels: Sequence[str], fold: Array
) -> Moments:
    """Sum candidates' scores for windows of other categories, some candidates at a time.

    Parameters
    ----------
    make_index : callable
    ids : sequence of str
        All candidates.
    layers : mapping of str to ndarray of shape (n_windows, n_units)
        Decoded features of windows that their decoders had not seen.
    labels : sequence of str
        Category of each window.
    fold : ndarray of shape (n_windows,), int
        Fold in which each window is left out.
    """
    n_folds = int(fold.max()) + 1
    n, total, squares = (np.zeros((n_folds, len(ids))) for _ in range(3))
    for start in range(0, len(ids), _PIECE):
        rows = np.arange(start, min(start + _PIECE, len(ids)))
        scores = make_index(rows).scores_of_many(layers).astype(np.float64)
        other: BoolArray = np.asarray(labels)[:, np.newaxis] != np.asarray(ids)[rows]
        for number in range(n_folds):
            of_fold = fold == number
            counted, kept = other[of_fold], scores[of_fold] * other[of_fold]
            n[number, rows] = counted.sum(axis=0)
            total[number, rows] = kept.sum(axis=0)
            squares[number, rows] = (kept * kept).sum(axis=0)
    return Moments(n, total, squares)


def choose(moments: Moments, chosen_by: Mapping[str, LeftOutScores], rows: Array) -> LearnedStandardisation:
    """Choose the least amount that does about as well as the best, and no kind of trials worse than none.

    Amounts are compared by the chance that the true category is first among it and 49 other candidates, or all if there
    are fewer.

    Parameters
    ----------
    moments : Moments
        Moments of all candidates.
    chosen_by : mapping of str to LeftOutScores
        Left-out trials of each kind.
    rows : ndarray of shape (n_candidates,), int
        Rows of `moments` of the candidates that the trials are scored for.
    """
    some = moments.select(rows)
    n_trials = sum(len(of_kind.true) for of_kind in chosen_by.values())
    units = [unit for of_kind in chosen_by.values() for unit in of_kind.units]
    shares = {amount: {k: _shares(some, of_kind, amount) for k, of_kind in chosen_by.items()} for amount in AMOUNTS}
    n_among = min(_AMONG, len(rows))
    first = {amount: np.concatenate(list(by.values())) ** (n_among - 1) for amount, by in shares.items()}
    allowed = [
        amount
        for amount in AMOUNTS
        if all(share.mean() >= shares["none"][kind].mean() for kind, share in shares[amount].items())
        and first[amount].mean() >= first["none"].mean()
    ]
    best = max(allowed, key=lambda amount: _difference(first[amount], first["none"], units)[0])
    for amount in allowed:
        behind, error = _difference(first[best], first[amount], units)
        if behind <= error or amount == best:
            break
    gain, error = _difference(first[amount], first["none"], units)
    among = f"first of {n_among}"
    before, after = (100 * float(first[name].mean()) for name in ("none", amount))
    if amount == "none":
        note = (
            f"candidates' scores are not standardised: of {n_trials} left-out trials no amount put the true category "
            f"{among} more often by more than its standard error ({before:.1f} % without)"
        )
    else:
        note = (
            f"candidates' scores are standardised: {_IN_WORDS[amount]}, which puts the true category {among} in "
            f"{after:.1f} % instead of {before:.1f} % of {n_trials} left-out trials ({100 * gain:+.1f} ± "
            f"{100 * error:.1f} points over categories)"
        )
    return LearnedStandardisation(amount, moments.standardisation(amount), note, gain, error)


def lacking(trials: int, groups: int, group_kind: str, candidates: int) -> str:
    """Explain why nothing can be learned; empty if it can.

    Parameters
    ----------
    trials, groups : int
        Number of trials, and of groups that are left out.
    group_kind : str
        Plural name of the groups.
    candidates : int
    """
    for name, n, fewest in (
        ("trials", trials, FEWEST_TRIALS),
        (group_kind, groups, _FEWEST_GROUPS if group_kind == "categories" else 2),
        ("candidates", candidates, _FEWEST_CANDIDATES),
    ):
        if n < fewest:
            return f"it is learned from {fewest} or more {name}, and there {'is' if n == 1 else 'are'} {n}"
    return ""


def _shares(moments: Moments, left_out: LeftOutScores, amount: Amount) -> Float64Array:
    """Return the share of others that each trial's true candidate beats, ties half; standardised without its fold."""
    shares = np.empty(len(left_out.true))
    for number in np.unique(left_out.fold):
        rows = np.flatnonzero(left_out.fold == number)
        scores, true = left_out.scores[rows], left_out.true[rows]
        standardisation = moments.standardisation(amount, int(number))
        if standardisation is not None:
            scores = standardisation.applied(scores)
        own = scores[np.arange(len(rows)), true][:, np.newaxis]
        beaten = (scores < own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
        shares[rows] = beaten / (scores.shape[1] - 1)
    return shares


def _difference(values: Float64Array, others: Float64Array, units: Sequence[str]) -> tuple[float, float]:
    """Return the mean difference over units, and its standard error."""
    number = np.unique(np.asarray(units), return_inverse=True)[1]
    by_unit = np.bincount(number, values - others) / np.bincount(number)
    return float(by_unit.mean()), float(by_unit.std(ddof=1) / np.sqrt(len(by_unit))) if len(by_unit) > 1 else np.inf
