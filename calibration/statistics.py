"""What the numbers of an evaluation are worth: intervals, chances of being first, permutation tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from calibration.decoders.columns import column_moments, profile_correlation
from rtgod.messages import Array, Float64Array

N_PERMUTATIONS = 2000


def t_interval(values: Sequence[float] | Array, level: float = 0.9) -> tuple[float, float, float]:
    """Mean and two-sided t interval of independent values.

    Parameters
    ----------
    values : sequence of float
    level : float
        Share of such intervals that hold the true mean.

    Returns
    -------
    mean, low, high : float
        No bounds (nan) for fewer than two values, no mean for none.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return float(values.sum() / len(values)) if len(values) else float("nan"), float("nan"), float("nan")
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    half_width = stats.t.ppf((1 + level) / 2, len(values) - 1) * error
    return float(mean), float(mean - half_width), float(mean + half_width)


def top_k_probability(ranks: Sequence[int] | Array, n_candidates: int, n_subset: int, k: int) -> float:
    """Probability that the true category is among the first k of a random subset of the candidates, mean over blocks.

    The subset holds the true category and `n_subset` − 1 of the others, drawn without replacement. So the number of
    those that rank before the true one is hypergeometric.

    Parameters
    ----------
    ranks : sequence of int
        Rank of each block's true category among all candidates, from 1.
    n_candidates, n_subset, k : int
        `n_subset` counts the true category.

    Returns
    -------
    float
        nan without blocks.
    """
    if len(ranks) == 0:
        return float("nan")
    n_before = np.asarray(ranks)[:, np.newaxis] - 1
    chance = stats.hypergeom.pmf(np.arange(min(k, n_subset)), n_candidates - 1, n_before, n_subset - 1)
    # Rounding must not make a certainty more than that.
    return float(np.minimum(chance.sum(axis=1), 1.0).mean())


def pattern_correlation(predicted: Array, true: Array) -> Float64Array:
    """Pearson's r over units, of each sample: shape (n_samples,); 0 for a sample whose units are all alike.

    Parameters
    ----------
    predicted, true : ndarray of shape (n_samples, n_units)
    """
    return profile_correlation(np.transpose(predicted), np.transpose(true))


def profile_permutation_p(predicted: Array, true: Array, seed: int = 0, n: int = N_PERMUTATIONS) -> float:
    """Chance of a feature accuracy at least this high if the categories were shuffled.

    Feature accuracy is the correlation over samples, averaged over units. Samples of one truth are one category, and
    stay together: they are not independent of each other. True units are scaled by their deviation over categories,
    which no shuffle changes; where all categories have as many samples, that is the mean profile correlation times a
    constant.

    Parameters
    ----------
    predicted, true : ndarray of shape (n_samples, n_units)
    seed, n : int
        Of the shuffles.
    """
    categories, of_sample = np.unique(np.asarray(true, np.float64), axis=0, return_inverse=True)
    if len(categories) < 2:
        return 1.0
    summed = np.zeros(categories.shape)
    np.add.at(summed, of_sample, _standardised(np.asarray(predicted, np.float64)))
    # Entry (i, j): what the samples of category i add if category j is taken for their truth.
    agreement = summed @ _standardised(categories).T
    rng = np.random.default_rng(seed)
    labels = np.arange(len(categories))
    shuffled = np.array([agreement[labels, rng.permutation(labels)].sum() for _ in range(n)])
    return share_at_least(np.trace(agreement), shuffled)


def share_at_least(observed: float, shuffled: Float64Array) -> float:
    """P value of a permutation test, (1 + shuffles at least as high) / (1 + shuffles) (Phipson & Smyth 2010)."""
    # Rounding must not let a shuffle that changes nothing count as lower.
    tolerance = 1e-12 * max(1.0, abs(observed))
    return float((1 + (shuffled >= observed - tolerance).sum()) / (1 + len(shuffled)))


def _standardised(values: Float64Array) -> Float64Array:
    mean, scale = column_moments(values)
    return (values - mean) / scale
