"""Learn how much surer an average over trials of one category is than one of them.

Independent trials would add up their evidence. They are not quite independent: they share the decoder and its errors,
and correlations, as scores are, grow less than noise shrinks. So the power of the number of trials is learned, from
averages of left-out trials, as a server with `mode = "repeats"` makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from calibration.samples.study import CandidateFeatures, Samples
from calibration.training.confidence import FEWEST_TRIALS
from calibration.training.left_out_predictions import Predictions, windows_of
from calibration.training.presence import LearnedPresence
from rtgod.decoding.category_index import CategoryIndex
from rtgod.decoding.chances import NEW, TRAINED, Chances
from rtgod.messages import Array, BoolArray, Features, Float32Array
from rtgod.settings import WindowSettings

#: Numbers of trials that are averaged, and averages of all numbers together.
_N_AVERAGED, _N_AVERAGES = (2, 3, 5, 8), 240
#: Most that the power may be, what it is taken to be before any average is known, and 1 / variance of that.
_HIGHEST, _EXPECTED, _PRECISION = 1.5, 0.5, 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Average:
    """Ranking of an average over left-out trials of one category.

    Attributes
    ----------
    scores : ndarray of shape (n_candidates,)
        Scores of candidates of the true one's kind.
    true : int
        Position of the true category among them.
    n_volumes, n_blocks : int
        Volumes and trials that the average rests on.
    response : float or None
        Share of the mean response in it; None if unknown.
    """

    scores: Array
    true: int
    n_volumes: int
    n_blocks: int
    response: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Averages:
    """Rankings of averages whose true categories are of one kind.

    Attributes
    ----------
    rankings : sequence of Average
    n_trials : int
        Number of trials that they are made of.
    are_new : bool
        Whether the decoders had not been trained on the candidates.
    """

    rankings: Sequence[Average]
    n_trials: int
    are_new: bool


def draw_averages(labels: Sequence[str]) -> list[Array]:
    """Draw trials of one category to average: rows of the trials of each average.

    Parameters
    ----------
    labels : sequence of str
        Category of each trial.

    Returns
    -------
    list of ndarray of int
        Empty if no category has two trials.
    """
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(np.array(labels) == label) for label in dict.fromkeys(labels)]
    able = [(members, n) for n in _N_AVERAGED for members in rows if len(members) >= n]
    chosen = np.arange(_N_AVERAGES) % len(able) if 0 < len(able) < _N_AVERAGES else rng.permutation(len(able))
    return [rng.choice(able[i][0], able[i][1], replace=False) for i in chosen[:_N_AVERAGES]]


def mean_by_volumes(values: Float32Array, n_volumes: Array) -> Float32Array:
    """Average trials as `RepeatAverager` does, by their numbers of volumes: shape (n_units,), float32.

    Parameters
    ----------
    values : ndarray of shape (n_trials, n_units), float32
    n_volumes : ndarray of shape (n_trials,), int
    """
    return np.asarray(n_volumes @ values.astype(np.float64) / n_volumes.sum(), np.float32)


def averages_of(
    samples: Samples,
    which: BoolArray,
    predictions: Predictions,
    categories: CandidateFeatures,
    index: CategoryIndex,
    presence: LearnedPresence | None,
    *,
    new: bool,
) -> Averages:
    """Rank averages over complete trials, among the categories of their true one's kind.

    Trials of one average may be predicted by decoders of different folds, which share most of their training.

    Parameters
    ----------
    samples : Samples
    which : ndarray of shape (n_samples,), bool
        Marks the trials that may be averaged.
    predictions : Predictions
        Predictions of the windows of all samples.
    categories : CandidateFeatures
    index : CategoryIndex
        Index of `categories`, in their order.
    presence : LearnedPresence or None
    new : bool
        Whether the true category must be new to the decoder that predicted it, or must not.
    """
    windows, labels = windows_of(samples), samples.categories
    position = categories.positions(labels)
    new_of_fold = [predictions.are_new_to(fold, categories.ids) == new for fold in range(predictions.n_folds)]
    last = windows.last[which & (position >= 0)]
    fitting = [
        row
        for row in last.tolist()
        if predictions.fold[row] >= 0 and new_of_fold[predictions.fold[row]][position[windows.of[row]]]
    ]
    rankings = []
    for drawn in draw_averages([labels[row] for row in windows.of[fitting]]):
        rows = np.array(fitting)[drawn]
        n = windows.n_volumes[rows]
        mean = {layer: mean_by_volumes(values[rows], n) for layer, values in predictions.layers.items()}
        kept = np.flatnonzero(new_of_fold[predictions.fold[rows[0]]])
        true = int(np.searchsorted(kept, position[windows.of[rows[0]]]))
        response = None if presence is None else float(n @ presence.left_out[rows] / n.sum())
        rankings.append(Average(index.scores(Features(0, mean))[kept], true, int(n.sum()), len(rows), response))
    return Averages(rankings, len(fitting), new)


def notes_on_repeats(chances: Chances | None, window: WindowSettings) -> list[str]:
    """Say that averages over repeats are no surer than one trial, if they are made and that was not learned.

    Parameters
    ----------
    chances : Chances or None
    window : WindowSettings
    """
    if window.mode != "repeats" or chances is None or chances.most_repeats > 1:
        return []
    return [
        "how much surer an average over repeats is than one trial is unknown, so that it is said to be as sure as one: "
        f"that is learned from {FEWEST_TRIALS} trials or more of categories that are shown more than once"
    ]


def with_repeats(chances: Chances, averages: Sequence[Averages]) -> Chances:
    """Learn the power with which the number of trials counts; chances of too few trials stay as they are.

    One average is added whose true category is any candidate with equal chance.

    Parameters
    ----------
    chances : Chances
        Chances of single trials.
    averages : sequence of Averages
    """
    parts = [
        part
        for part in averages
        if part.n_trials >= FEWEST_TRIALS and part.rankings and chances.weights[NEW if part.are_new else TRAINED]
    ]
    if not parts:
        return chances
    most = float(max(average.n_blocks for part in parts for average in part.rankings))

    def loss(power: float) -> float:
        tried = replace(chances, repeats=float(power), most_repeats=most)
        unlikely = sum(part.n_trials * _unlikely(tried, part) for part in parts)
        return float(unlikely + _PRECISION * (power - _EXPECTED) ** 2 / 2)

    power = minimize_scalar(loss, bounds=(0.0, _HIGHEST), method="bounded", options={"xatol": 0.01}).x
    return replace(chances, repeats=float(power), most_repeats=most)


def _unlikely(chances: Chances, averages: Averages) -> float:
    """Return the mean negative log-likelihood of the true categories."""
    doubt, total = 1 / (averages.n_trials + 1), 0.0
    for average in averages.rankings:
        order, n = np.argsort(-average.scores, kind="stable"), len(average.scores)
        are_new = np.full(n, averages.are_new)
        evidence = average.n_volumes, average.response, average.n_blocks
        chance = chances.posterior(average.scores[order], are_new, n, *evidence)
        if chance is None:
            raise AssertionError("the weight of this kind is known")
        logs = np.log(np.maximum(chance, 1e-300))
        total -= (1 - doubt) * float(logs[order == average.true][0]) + doubt * float(logs.mean())
    return total / len(averages.rankings)
