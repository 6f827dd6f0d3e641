"""Compare areas by their feature accuracy at equal numbers of voxels: which is best for a layer, and in which order.

Two things make one area's accuracy uncertain: which categories were tested, and which voxels the area happens to have.
The first comes from leaving out one category at a time, the second from parts of the area that share no voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import factorial

import numpy as np
from scipy import stats

from calibration.metrics.permutation import FEW_CATEGORIES, N_PERMUTATIONS, share_at_least
from rtgod.messages import Array, Float64Array

#: Probability that any cell of all compared kinds is framed where areas do not differ.
ERROR_RATE = 0.05
#: Level of the intervals that are printed.
_LEVEL = 0.9
#: Of up to this many areas, all orders are gone through.
_MOST_IN_ALL_ORDERS = 7


@dataclass(frozen=True, slots=True, eq=False)
class AreaAccuracies:
    """Feature accuracy of equally many voxels of each area.

    Attributes
    ----------
    accuracy : ndarray of shape (n_areas, n_draws, n_layers), float64
        Accuracy of each part of an area.
    without : ndarray of shape (n_areas, n_categories, n_layers), float64
        Mean over the parts, without each category in turn.
    share : ndarray of shape (n_areas,), float64
        Share of the area's voxels that one part has.
    """

    accuracy: Float64Array
    without: Float64Array
    share: Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class AreaComparison:
    """Accuracy of areas at equal numbers of voxels, and what can be said of their order.

    Attributes
    ----------
    accuracy, low, high : ndarray of shape (n_areas, n_layers), float64
        Mean over draws of voxels, and its 90 % interval over categories and voxels.
    best_area : tuple of int or None
        For each layer, the area that beats all others and chance; None if no area does.
    p_values : ndarray of shape (n_layers,), float64
        For each layer, the largest p value of the best area's comparisons, times the number of layers and kinds.
    best_layer : tuple of int or None
        For each area, the layer of the highest accuracy; None if the area's mean accuracy is not above chance.
    also_best : tuple of tuple of int
        For each area, the layers that its best layer does not beat, the best one among them.
    centre, centre_low, centre_high : ndarray of shape (n_areas,), float64
        Mean place of the layers (from 1), weighted by accuracy, with its 90 % interval; NaN as in `best_layer`.
    order : OrderTest
    """

    accuracy: Float64Array
    low: Float64Array
    high: Float64Array
    best_area: tuple[int | None, ...]
    p_values: Float64Array
    best_layer: tuple[int | None, ...]
    also_best: tuple[tuple[int, ...], ...]
    centre: Float64Array
    centre_low: Float64Array
    centre_high: Float64Array
    order: OrderTest


@dataclass(frozen=True, slots=True)
class OrderTest:
    """Rank correlation of the areas' centres with the order of the areas.

    Attributes
    ----------
    correlation : float
        Spearman's; NaN with fewer than three areas that have a centre.
    p_value : float
        Share of orders of the areas whose correlation is at least as high.
    least : float
        Lowest p value that any result could have had.
    n_areas : int
        Number of areas that have a centre.
    """

    correlation: float
    p_value: float
    least: float
    n_areas: int


def compare_areas(found: AreaAccuracies, n_kinds: int) -> AreaComparison:
    """Find the areas that are best for each layer, and the layers that are best in each area.

    An area is best for a layer if it beats every other area and chance, each by a two-sided t test of the paired
    difference over categories and voxels. All of these comparisons must succeed, so their number needs no correction;
    each layer and kind is another chance to be wrong, so each test has the level `ERROR_RATE` over their number
    (Bonferroni).

    Parameters
    ----------
    found : AreaAccuracies
    n_kinds : int
        Number of kinds of trials for which areas are compared.
    """
    mean = found.accuracy.mean(axis=1)
    n_layers, n_categories = mean.shape[1], found.without.shape[1]
    voxel_variance = _voxel_variance(found)
    error = np.sqrt(_jackknife_variance(found.without) + voxel_variance)
    quantile = float(stats.t.ppf((1 + _LEVEL) / 2, n_categories - 1))
    n_tests = n_layers * n_kinds
    p_values = np.minimum(n_tests * _p_of_best(found, mean, voxel_variance), 1.0)
    best = mean.argmax(axis=0)
    can_test = n_categories >= FEW_CATEGORIES
    layers = [_best_layers(found, area, mean[area], quantile) for area in range(len(mean))] if can_test else []
    centre, low, high = np.array([_centre(found, area, mean[area], quantile) for area in range(len(mean))]).T
    return AreaComparison(
        accuracy=mean,
        low=mean - quantile * error,
        high=mean + quantile * error,
        best_area=tuple(
            int(area) if can_test and p <= ERROR_RATE else None for area, p in zip(best, p_values, strict=True)
        ),
        p_values=p_values,
        best_layer=tuple(alike[0] if alike else None for alike in layers) or (None,) * len(mean),
        also_best=tuple(tuple(sorted(alike)) for alike in layers) or ((),) * len(mean),
        centre=centre,
        centre_low=low,
        centre_high=high,
        order=order_test(centre),
    )


def order_test(centre: Float64Array, seed: int = 0) -> OrderTest:
    """Test whether areas, in their given order, have layers that are higher and higher.

    Parameters
    ----------
    centre : ndarray of shape (n_areas,), float64
        Centre of each area's layers; NaN leaves an area out.
    seed : int
        Seed of the random orders; of up to seven areas, all orders are gone through.
    """
    ranks = stats.rankdata(centre[np.isfinite(centre)])
    n = len(ranks)
    if n < 3 or (ranks == ranks[0]).all():
        return OrderTest(float("nan"), 1.0, 1.0, n)
    place, ranks = np.arange(n) - (n - 1) / 2, ranks - ranks.mean()
    norm = float(np.linalg.norm(place) * np.linalg.norm(ranks))
    observed = float(place @ ranks) / norm
    if n <= _MOST_IN_ALL_ORDERS:
        orders = np.array(list(permutations(ranks))) @ place / norm
        return OrderTest(observed, float((orders >= observed - 1e-12).mean()), 1 / factorial(n), n)
    rng = np.random.default_rng(seed)
    orders = rng.permuted(np.tile(ranks, (N_PERMUTATIONS, 1)), axis=1) @ place / norm
    return OrderTest(observed, share_at_least(observed, orders), 1 / (1 + N_PERMUTATIONS), n)


def parts_of(columns: Array, n_voxels: int, n_parts: int, rng: np.random.Generator) -> list[Array]:
    """Split an area into parts of equally many voxels, in as many random ways as give the number of parts.

    The parts of one split share no voxel.

    Parameters
    ----------
    columns : ndarray of shape (n_voxels_of_area,), int
        At least `n_voxels`.
    n_voxels, n_parts : int
    rng : numpy.random.Generator
    """
    parts: list[Array] = []
    while len(parts) < n_parts:
        shuffled = rng.permutation(columns)
        parts += [np.sort(shuffled[i : i + n_voxels]) for i in range(0, len(columns) - n_voxels + 1, n_voxels)]
    return parts[:n_parts]


def _voxel_variance(found: AreaAccuracies) -> Float64Array:
    """Return the variance of each area's mean that other voxels of its kind would give: (n_areas, n_layers).

    Parts that share no voxel vary as areas of their size would vary; the mean over an area that holds several of them
    varies less by their number. All areas share one variance of a part for each layer, as each has few parts.
    """
    n_draws = found.accuracy.shape[1]
    in_split = np.minimum(np.floor(1 / found.share + 1e-9), n_draws).astype(int)
    of_part = np.mean(
        [_variance_within_splits(values, n) for values, n in zip(found.accuracy, in_split, strict=True)], axis=0
    )
    return np.asarray(of_part * np.maximum(found.share, 1 / n_draws)[:, np.newaxis])


def _variance_within_splits(values: Float64Array, n_in_split: int) -> Float64Array:
    splits = [values[i : i + n_in_split] for i in range(0, len(values), n_in_split)]
    return np.asarray(np.mean([split.var(axis=0, ddof=1) for split in splits if len(split) > 1], axis=0))


def _jackknife_variance(without: Float64Array) -> Float64Array:
    """Return the jackknife variance over the last axis but one: leaving out one category at a time."""
    n = without.shape[-2]
    return np.asarray((n - 1) * without.var(axis=-2))


def _p_of_best(found: AreaAccuracies, mean: Float64Array, voxel_variance: Float64Array) -> Float64Array:
    """Return the largest p value of the best area's comparisons with all others and with chance, (n_layers,)."""
    columns = np.arange(mean.shape[1])
    best = mean.argmax(axis=0)
    others = np.concatenate([found.without, np.zeros_like(found.without[:1])])
    difference = mean[best, columns] - np.concatenate([mean, np.zeros_like(mean[:1])])
    of_best = found.without[best, :, columns].T
    variance = _jackknife_variance(of_best - others) + voxel_variance[best, columns]
    variance[:-1] += voxel_variance
    p_values = _p_values(difference, variance, found.without.shape[1])
    p_values[best, columns] = 0
    p_values[-1, mean[best, columns] <= 0] = 1
    return np.asarray(p_values.max(axis=0))


def _p_values(difference: Float64Array, variance: Float64Array, n_categories: int) -> Float64Array:
    t = np.abs(difference) / np.sqrt(np.maximum(variance, np.finfo(np.float64).tiny))
    return np.asarray(2 * stats.t.sf(t, n_categories - 1))


def _best_layers(found: AreaAccuracies, area: int, mean: Float64Array, quantile: float) -> list[int]:
    """Return an area's best layer and those it does not beat, best first; none if the area is not above chance."""
    if not _mean_above_chance(found, area, mean, quantile):
        return []
    order = np.argsort(-mean, kind="stable")
    best = order[0]
    difference = found.without[area][:, [best]] - found.without[area]
    parts = found.accuracy[area][:, [best]] - found.accuracy[area]
    n_in_split = int(min(np.floor(1 / found.share[area] + 1e-9), len(parts)))
    voxels = _variance_within_splits(parts, n_in_split) * max(found.share[area], 1 / len(parts))
    is_beaten = mean[best] - mean > quantile * np.sqrt(_jackknife_variance(difference) + voxels)
    return [int(layer) for layer in order if not is_beaten[layer]]


def _mean_above_chance(found: AreaAccuracies, area: int, mean: Float64Array, quantile: float) -> bool:
    variance = _jackknife_variance(found.without[area].mean(axis=-1, keepdims=True))[0]
    return bool(mean.mean() > quantile * np.sqrt(variance))


def _centre(found: AreaAccuracies, area: int, mean: Float64Array, quantile: float) -> tuple[float, float, float]:
    """Return the mean place of an area's layers, weighted by accuracy, with its interval (delta method)."""
    n_categories = found.without.shape[1]
    if n_categories < FEW_CATEGORIES or not _mean_above_chance(found, area, mean, quantile):
        return float("nan"), float("nan"), float("nan")
    places = np.arange(1, len(mean) + 1)
    centre = float(mean @ places / mean.sum())
    slope = (places - centre) / mean.sum()
    n_in_split = int(min(np.floor(1 / found.share[area] + 1e-9), found.accuracy.shape[1]))
    voxels = _variance_within_splits(found.accuracy[area] @ slope[:, np.newaxis], n_in_split)[0]
    variance = _jackknife_variance(found.without[area] @ slope[:, np.newaxis])[0]
    variance += voxels * max(found.share[area], 1 / found.accuracy.shape[1])
    half_width = quantile * np.sqrt(variance)
    return centre, float(max(centre - half_width, 1)), float(min(centre + half_width, len(mean)))
