"""Statistics of an evaluation: intervals, chances of being first, feature accuracy against chance."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy import stats

from calibration.decoders.columns import column_moments, profile_correlation
from calibration.metrics.permutation import N_PERMUTATIONS, ExchangeTest, exchange_test
from rtgod.messages import Array, Float64Array

#: Results of fewer samples than this say little at any mean; a table marks them.
FEW_SAMPLES = 10
_ROUNDING = 1e-12


def t_interval(values: Sequence[float] | Array, level: float = 0.9) -> tuple[float, float, float]:
    """Return the mean and a two-sided t interval of independent values.

    Parameters
    ----------
    values : sequence of float
    level : float
        Share of such intervals that contain the true mean.

    Returns
    -------
    mean, low, high : float
        Fewer than two values have no bounds (nan), and no values have no mean (nan).
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return float(values.sum() / len(values)) if len(values) else float("nan"), float("nan"), float("nan")
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    half_width = stats.t.ppf((1 + level) / 2, len(values) - 1) * error
    return float(mean), float(mean - half_width), float(mean + half_width)


def share_interval(
    values: Sequence[float] | Array, units: Sequence[Hashable], level: float = 0.9
) -> tuple[float, float, float]:
    """Return the mean and an interval of values from 0 to 1; the interval stays within 0 to 1.

    The interval is Wilson's (1927) score interval of the number of yes-or-no answers with the standard error of these
    values (Korn & Graubard 1998), with the quantile of t for the number of units in place of the normal one. Values
    without any spread count as one answer for each unit: a hundred per cent of eight is not certainty.

    Parameters
    ----------
    values : sequence of float
    units : sequence of hashable
        Independent unit of each value: values of one unit may depend on each other.
    level : float
        Share of such intervals that contain the true mean.

    Returns
    -------
    mean, low, high : float
        Fewer than two units have no bounds (nan), and no values have no mean (nan).
    """
    values = np.asarray(values, np.float64)
    position = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    n_units = len(position)
    mean = float(values.mean()) if len(values) else float("nan")
    if n_units < 2:
        return mean, float("nan"), float("nan")
    deviation = np.bincount([position[unit] for unit in units], values - mean)
    variance = n_units / (n_units - 1) * float(deviation @ deviation) / len(values) ** 2
    spread = mean * (1 - mean)
    n = spread / variance if spread > _ROUNDING and variance > _ROUNDING * spread else float(n_units)
    quantile = float(stats.t.ppf((1 + level) / 2, n_units - 1))
    return mean, *_score_interval(mean, n, quantile)


def wilson(n_right: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of a share of independent answers (Wilson 1927).

    Parameters
    ----------
    n_right : float
        Answers that are right; half an answer counts as such.
    n : float
        All answers, at least one.
    level : float
        Share of such intervals that contain the true share.
    """
    return _score_interval(n_right / n, n, float(stats.norm.ppf((1 + level) / 2)))


def _score_interval(share: float, n: float, quantile: float) -> tuple[float, float]:
    shrunk = 1 + quantile**2 / n
    centre = (share + quantile**2 / (2 * n)) / shrunk
    half_width = quantile / shrunk * float(np.sqrt(share * (1 - share) / n + quantile**2 / (4 * n**2)))
    # Rounding would leave shares of 0 and 1 out, or pass them.
    return max(min(centre - half_width, share), 0.0), min(max(centre + half_width, share), 1.0)


def difference_interval(
    differences: Sequence[float] | Array, units: Sequence[Hashable], level: float = 0.95
) -> tuple[float, float, float]:
    """Return the mean and an interval of paired differences of shares; the interval stays within −1 to 1.

    A difference from −1 to 1 is halved and lifted to 0 to 1, where `share_interval` is used. Where nothing differs, the
    interval has no width: the same answers are no sample of other ones.

    Parameters
    ----------
    differences : sequence of float
    units : sequence of hashable
        Independent unit of each difference.
    level : float
        Share of such intervals that contain the true mean.

    Returns
    -------
    mean, low, high : float
        As of `share_interval`.
    """
    differences = np.asarray(differences, np.float64)
    if len(set(units)) > 1 and not differences.any():
        return 0.0, 0.0, 0.0
    mean, low, high = share_interval((1 + differences) / 2, units, level)
    return 2 * mean - 1, 2 * low - 1, 2 * high - 1


def top_k_probability(ranks: Sequence[int] | Array, n_candidates: int, n_subset: int, k: int) -> float:
    """Return the chance that the true category is among the first k of a random subset of candidates, mean over blocks.

    The subset holds the true category and `n_subset` − 1 of the others, drawn without replacement. The number of the
    candidates in it that rank before the true one is thus hypergeometric.

    Parameters
    ----------
    ranks : sequence of int
        Rank of each block's true category among all candidates, from 1.
    n_candidates, n_subset, k : int
        Numbers of all candidates, of the subset (the true category included), and of first places.

    Returns
    -------
    float
        Mean probability; nan without blocks.
    """
    if len(ranks) == 0:
        return float("nan")
    n_before = np.asarray(ranks)[:, np.newaxis] - 1
    chance = stats.hypergeom.pmf(np.arange(min(k, n_subset)), n_candidates - 1, n_before, n_subset - 1)
    # Rounding must not make a certain event more than certain.
    return float(np.minimum(chance.sum(axis=1), 1.0).mean())


def pattern_correlation(predicted: Array, true: Array) -> Float64Array:
    """Return Pearson's r over units for each sample: shape (n_samples,); 0 for a sample with equal units.

    Parameters
    ----------
    predicted, true : ndarray of shape (n_samples, n_units)
    """
    return profile_correlation(np.transpose(predicted), np.transpose(true))


def profile_without_each(predicted: Array, true: Array) -> Float64Array:
    """Return feature accuracy, mean over units, of all samples and then without each of them: shape (1 + n_samples,).

    Sums over the other samples are those over all minus one sample's. A unit that does not vary has accuracy 0.

    Parameters
    ----------
    predicted, true : ndarray of shape (n_samples, n_units)
    """
    p, t = (np.asarray(values, np.float64) - np.mean(values, axis=0, dtype=np.float64) for values in (predicted, true))
    n = np.array([len(p), *[len(p) - 1] * len(p)])[:, np.newaxis]

    def sums(values: Float64Array) -> Float64Array:
        total = values.sum(axis=0)
        return np.concatenate([[total], total - values])

    of_p, of_t = sums(p), sums(t)
    covariance = sums(p * t) - of_p * of_t / n
    variances = (sums(p**2) - of_p**2 / n) * (sums(t**2) - of_t**2 / n)
    varies = variances > _ROUNDING * (p**2).sum(axis=0) * (t**2).sum(axis=0)
    return np.asarray((np.where(varies, covariance, 0) / np.sqrt(np.where(varies, variances, 1))).mean(axis=1))


def profile_test(
    predicted: Array,
    true: Array,
    runs: Sequence[Hashable] | None = None,
    *,
    folded: bool = False,
    seed: int = 0,
    n: int = N_PERMUTATIONS,
) -> ExchangeTest:
    """Test whether feature accuracy is higher than it would be with other labels.

    Feature accuracy is the correlation over samples, averaged over units. Samples with equal true features are one
    category. True units are scaled by their deviation over categories, which no exchange of categories changes; if all
    categories have equally many samples, the sum is the mean profile correlation times a constant.

    Parameters
    ----------
    predicted, true : ndarray of shape (n_samples, n_units)
    runs : sequence of hashable, optional
        Run of each sample: labels are exchanged within runs; without it, categories are exchanged.
    folded, seed, n
        Options of `calibration.metrics.permutation.exchange_test`.
    """
    categories, of_sample = np.unique(np.asarray(true, np.float64), axis=0, return_inverse=True)
    if len(categories) < 2:
        return ExchangeTest(1.0, 1.0, "categories" if runs is None else "blocks")
    # Entry (i, j) is the contribution of sample i if category j is taken for its truth.
    agreement = _standardised(np.asarray(predicted, np.float64)) @ _standardised(categories).T
    return exchange_test(agreement, of_sample, runs, folded=folded, seed=seed, n=n)


def _standardised(values: Float64Array) -> Float64Array:
    mean, scale = column_moments(values)
    return (values - mean) / scale
