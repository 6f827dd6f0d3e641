"""Accuracies of an evaluation, from decoded samples: of predicted features, and of identified categories."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.decoders.columns import profile_correlation
from calibration.evaluation.predictions import CandidateScores, DecodedCondition
from calibration.metrics.choices import balanced
from calibration.metrics.group_means import averaged_by
from calibration.metrics.identification import identification_accuracy, permutation_test, rank_of, shuffled_accuracy
from calibration.metrics.permutation import FEW_CATEGORIES, ExchangeTest
from calibration.metrics.statistics import (
    FEW_SAMPLES,
    pattern_correlation,
    profile_test,
    share_interval,
    t_interval,
    top_k_probability,
)
from rtgod.decoding.confidence import FIRST
from rtgod.messages import Array, BoolArray, Float64Array, Int32Array

#: Levels of evidence that rankings are made from, from the least to the most.
AGGREGATIONS = ("single volume", "single block", "average of repeats")
_MOST_SIZES = 20
#: Profile and pattern correlation, each with the bounds of its interval.
_Figures = tuple[float, float, float, float, float, float]
#: Maximum number of categories of a confusion matrix; a larger one cannot be read.
MOST_IN_MATRIX = 30


@dataclass(frozen=True, slots=True)
class Identification:
    """Identification accuracy of one kind of samples at one level of evidence.

    Attributes
    ----------
    kind, aggregation : str
    accuracy, low, high : float
        Share of other candidates that score lower than the true one, and its 90 % interval over `units`.
    balanced : float
        Accuracy with an equal weight for each category, for any number of samples.
    p_value : float
        P value of a permutation of the labels of `units`.
    top1, top5, top10 : float
        Share of samples whose true category is among the first 1, 5 and 10; nan with no more candidates than that.
    median_rank : float
    n_samples, n_categories, n_candidates : int
    units : {"categories", "blocks"}
        Units that intervals are over, and whose labels a test exchanges.
    p_least : float
        Lowest p value that any result could have had.
    shuffled : float
        Mean accuracy over all exchanges of the samples' labels: the level of chance where rankings favour some
        categories, whatever is shown, or some categories are shown more often.
    """

    kind: str
    aggregation: str
    accuracy: float
    low: float
    high: float
    balanced: float
    p_value: float
    top1: float
    top5: float
    top10: float
    median_rank: float
    n_samples: int
    n_categories: int
    n_candidates: int
    units: str
    p_least: float
    shuffled: float

    @property
    def is_few(self) -> bool:
        """Return whether there are too few samples for the accuracy to say much."""
        return self.n_samples < FEW_SAMPLES


@dataclass(frozen=True, slots=True)
class FeatureAccuracy:
    """Accuracy of one layer's predicted features, from single blocks or from the mean over repeats.

    Attributes
    ----------
    kind, aggregation, layer : str
    profile, profile_low, profile_high : float
        Correlation of prediction and truth over samples, mean over units, and its 90 % interval by leaving out one
        category at a time.
    p_value : float
        P value of a permutation of the labels of `units`.
    pattern, pattern_low, pattern_high : float
        Correlation over units, in units of their SD over samples, mean over samples; 90 % t interval over categories,
        within −1 to 1.
    identification : float
        Identification accuracy of single blocks from this layer alone; nan for averages and layers not ranked by.
    units : {"categories", "blocks"}
        Units whose labels the test exchanges.
    p_least : float
        Lowest p value that any result could have had.
    """

    kind: str
    aggregation: str
    layer: str
    profile: float
    profile_low: float
    profile_high: float
    p_value: float
    pattern: float
    pattern_low: float
    pattern_high: float
    identification: float
    units: str
    p_least: float


def aggregated(decoded: DecodedCondition) -> dict[str, CandidateScores]:
    """Return the rankings at each level of `AGGREGATIONS` that exists.

    Parameters
    ----------
    decoded : DecodedCondition
    """
    levels = zip(AGGREGATIONS, (decoded.earliest, decoded.blocks, decoded.averages), strict=True)
    return {name: ranked for name, ranked in levels if ranked is not None}


def identification(
    kind: str, decoded: DecodedCondition, *, new: bool = False, folded: bool = False
) -> list[Identification]:
    """Compute identification accuracy at every level of aggregation.

    Parameters
    ----------
    kind : str
    decoded : DecodedCondition
    new, folded : bool
        Options of `calibration.metrics.identification.permutation_test`.
    """
    return [_identification(kind, name, ranked, new, folded) for name, ranked in aggregated(decoded).items()]


def accuracies_of(ranked: CandidateScores) -> Float64Array:
    """Return the identification accuracy of each sample.

    Parameters
    ----------
    ranked : CandidateScores
    """
    return np.array([identification_accuracy(s, int(t)) for s, t in zip(ranked.scores, ranked.true, strict=True)])


def ranks_of(ranked: CandidateScores) -> Int32Array:
    """Return the rank of the true category of each sample, from 1.

    Parameters
    ----------
    ranked : CandidateScores
    """
    return np.array([rank_of(s, int(t)) for s, t in zip(ranked.scores, ranked.true, strict=True)], np.int32)


def confusion_of(scores: Array, true: Sequence[int]) -> Int32Array:
    """Count how often each candidate was ranked first for each true category, shape (n_candidates, n_candidates).

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_candidates)
    true : sequence of int
        Position of each sample's true category: its row. A row sums to the number of its category's samples.
    """
    counts = np.zeros((scores.shape[1], scores.shape[1]), np.int32)
    np.add.at(counts, (np.asarray(true), np.argmax(scores, axis=1)), 1)
    return counts


@dataclass(frozen=True, slots=True, eq=False)
class Confidences:
    """Predicted probabilities of rankings, with the outcomes.

    Attributes
    ----------
    probability : ndarray of shape (n_rankings, 3), float64
        Probability that the true category is first, in the first five, in the first ten; of rankings that have chances.
    hit : ndarray of shape (n_rankings, 3), bool
        Whether the true category was there.
    trials : tuple of hashable
        Trial of each ranking; rankings of one trial depend on each other, and are in their order.
    first, true : ndarray of shape (n_rankings,), int
        Position of each ranking's first candidate, and of its true category, among the candidates.
    n_volumes : ndarray of shape (n_rankings,), int
        Number of volumes that each ranking rests on.
    """

    probability: Float64Array
    hit: BoolArray
    trials: tuple[Hashable, ...]
    first: Array
    true: Array
    n_volumes: Array


def interval_over(labels: Sequence[object], values: Float64Array) -> tuple[float, float, float]:
    """Return the mean of `values`, and the 90 % t interval of the labels' means.

    Parameters
    ----------
    labels : sequence
        Label of each value.
    values : ndarray of shape (n_values,), float64
    """
    _, low, high = t_interval(averaged_by([str(label) for label in labels], values)[1])
    return float(values.mean()), low, high


def are_new(tested: Iterable[str], trained_on: Iterable[str]) -> bool:
    """Return whether a decoder was trained on none of the categories that it is tested on.

    Parameters
    ----------
    tested, trained_on : iterable of str
        Category ids, which may repeat.
    """
    return set(trained_on).isdisjoint(tested)


def units_of(labels: Sequence[Hashable], *, new: bool = False) -> tuple[str, Sequence[Hashable]]:
    """Choose the units of an interval, and each sample's unit: categories, or single samples if categories are few.

    Parameters
    ----------
    labels : sequence of hashable
        Category of each sample.
    new : bool
        Whether samples of a category may all err alike, as in `permutation_test`: categories are then the units.
    """
    if new or len(set(labels)) >= FEW_CATEGORIES:
        return "categories", labels
    return "blocks", range(len(labels))


def _identification(kind: str, aggregation: str, ranked: CandidateScores, new: bool, folded: bool) -> Identification:
    ranks, labels = ranks_of(ranked), ranked.true.tolist()
    units, unit_of_each = units_of(labels, new=new)
    accuracies = accuracies_of(ranked)
    accuracy, low, high = share_interval(accuracies, unit_of_each)
    test = permutation_test(ranked.scores, labels, ranked.runs or None, new=new, folded=folded)
    n_candidates = ranked.scores.shape[1]
    top1, top5, top10 = (float((ranks <= k).mean()) if k < n_candidates else float("nan") for k in FIRST)
    return Identification(
        kind=kind,
        aggregation=aggregation,
        accuracy=accuracy,
        low=low,
        high=high,
        balanced=balanced(labels, accuracies),
        p_value=test.p_value,
        top1=top1,
        top5=top5,
        top10=top10,
        median_rank=float(np.median(ranks)),
        n_samples=len(ranks),
        n_categories=len(set(labels)),
        n_candidates=n_candidates,
        units=units,
        p_least=test.least,
        shuffled=shuffled_accuracy(ranked.scores, labels),
    )


def feature_accuracy(
    kind: str, decoded: DecodedCondition, *, new: bool = False, folded: bool = False
) -> list[FeatureAccuracy]:
    """Compute feature accuracy of every layer, from single blocks and, if categories repeat, from means of repeats.

    Parameters
    ----------
    kind : str
    decoded : DecodedCondition
    new, folded : bool
        Options of `calibration.metrics.identification.permutation_test`.
    """
    accuracies = []
    units, _ = units_of(decoded.categories, new=new)
    runs = None if units == "categories" else decoded.blocks.runs or [""] * len(decoded.categories)
    for layer, predicted in decoded.predicted.items():
        layer_accuracy = float("nan")
        if layer in decoded.by_layer:
            layer_accuracy = float(accuracies_of(replace(decoded.blocks, scores=decoded.by_layer[layer])).mean())
        figures = _feature_accuracy(decoded.categories, predicted, decoded.true[layer])
        test = profile_test(predicted, decoded.true[layer], runs, folded=folded)
        accuracies.append(_one_layer(kind, "single block", layer, figures, test, layer_accuracy))
        if decoded.averages is not None:
            names, mean = averaged_by(decoded.categories, predicted)
            _, true = averaged_by(decoded.categories, decoded.true[layer])
            test = profile_test(mean, true)
            figures = _feature_accuracy(names, mean, true)
            accuracies.append(_one_layer(kind, "average of repeats", layer, figures, test, float("nan")))
    return accuracies


def _one_layer(
    kind: str, aggregation: str, layer: str, figures: _Figures, test: ExchangeTest, layer_accuracy: float
) -> FeatureAccuracy:
    profile, profile_low, profile_high, pattern, pattern_low, pattern_high = figures
    return FeatureAccuracy(
        kind=kind,
        aggregation=aggregation,
        layer=layer,
        profile=profile,
        profile_low=profile_low,
        profile_high=profile_high,
        p_value=test.p_value,
        pattern=pattern,
        pattern_low=pattern_low,
        pattern_high=pattern_high,
        identification=layer_accuracy,
        units=test.exchanged,
        p_least=test.least,
    )


def _feature_accuracy(categories: Sequence[str], predicted: Array, true: Array) -> _Figures:
    profile, half_width = profile_with_error(categories, predicted, true)
    mean, sd = true.mean(axis=0), true.std(axis=0)
    varies = sd > 0
    patterns = pattern_correlation(((predicted - mean) / np.where(varies, sd, 1))[:, varies],
                                   ((true - mean) / np.where(varies, sd, 1))[:, varies])  # fmt: skip
    pattern, pattern_low, pattern_high = interval_over(categories, patterns)
    if len(set(categories)) < 3:
        pattern_low = pattern_high = float("nan")
    bounds = np.clip([profile - half_width, profile + half_width, pattern_low, pattern_high], -1, 1).tolist()
    return profile, bounds[0], bounds[1], pattern, bounds[2], bounds[3]


def profile_with_error(categories: Sequence[str], predicted: Array, true: Array) -> tuple[float, float]:
    """Compute feature accuracy, mean over units, and half of its 90 % interval (jackknife over categories).

    Parameters
    ----------
    categories : sequence of str
        Category of each sample.
    predicted, true : ndarray of shape (n_samples, n_units)
    """
    labels = np.array(categories)
    accuracy = float(profile_correlation(predicted, true).mean())
    if len(set(categories)) < 3:
        return accuracy, float("nan")
    masks = [labels != name for name in dict.fromkeys(categories)]
    accuracy_without = np.array([float(profile_correlation(predicted[mask], true[mask]).mean()) for mask in masks])
    low, high = jackknife_interval(accuracy, accuracy_without)
    return accuracy, (high - low) / 2


def jackknife_interval(everything: float, without: Float64Array) -> tuple[float, float]:
    """Return the 90 % jackknife interval of a figure: t of pseudo-values (Tukey 1958).

    Parameters
    ----------
    everything : float
        Figure of all samples.
    without : ndarray of shape (n_categories,), float64
        Figure without each category in turn.
    """
    n = len(without)
    _, low, high = t_interval(n * everything - (n - 1) * without)
    return low, high


def against_candidates(ranked: CandidateScores, k: int) -> tuple[Int32Array, Float64Array]:
    """Return the share of samples whose true category is among the first k, against the number of candidates.

    Parameters
    ----------
    ranked : CandidateScores
    k : int
    """
    n_candidates = ranked.scores.shape[1]
    sizes = np.unique(np.geomspace(2, n_candidates, _MOST_SIZES).round().astype(np.int32))
    ranks = ranks_of(ranked)
    return sizes, np.array([top_k_probability(ranks, n_candidates, int(n), k) for n in sizes])
