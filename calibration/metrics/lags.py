"""Lags of responses behind an expected course, with the set of all lags that the data are compatible with.

A response that comes late by a lag has, to first order, the expected course minus the lag times the course's slope. The
least-squares weights of course and slope tell the lag as the angle of a vector, whatever the size of the response, and
the vector of a response that is not there has a mean of zero. A set of lags holds every lag that a test does not reject
(Fieller 1954; Anderson & Rubin 1949), instead of an estimate with an error beside it: where the response is lost in
noise, no lag is rejected, and the set says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from calibration.metrics.permutation import FEW_CATEGORIES
from rtgod.messages import Array, Float64Array
from rtgod.preprocessing.hrf import LASTS_S, block_response

#: Mode of the response to a brief event, mode of its undershoot, both in seconds, and the undershoot's share. Another
#: shape makes all lags wrong in the same way; equal lags stay equal.
PEAK_S, UNDERSHOOT_S, UNDERSHOOT_RATIO = 5, 15, 1 / 6
#: Longest lag of a single response, and longest change of lag from the first to the last response, in seconds.
LONGEST_S = 8.0
#: Share of sets that contain the true lag.
LEVEL = 0.9
_STEP_S = 0.1
#: Number of lags whose direction is computed; those between are interpolated.
_N_KNOWN = 201
_TINY, _ROUNDING = 1e-300, 1e-9


@dataclass(frozen=True, slots=True)
class Lag:
    """Lag of a response, or change of lag over responses, with the bounds of the lags that are not rejected.

    Attributes
    ----------
    lag_s : float
        Lag that fits best, from `low_s` to `high_s`; NaN if too little is known to look for one.
    low_s, high_s : float
        Bounds of the 90 % set: −inf or inf on a side on which the longest lags are not rejected.
    p_value : float
        P value of the test that the lag is zero.
    """

    lag_s: float
    low_s: float
    high_s: float
    p_value: float

    @property
    def is_determined(self) -> bool:
        """Return whether the data reject long lags in both directions."""
        return bool(np.isfinite(self.low_s) and np.isfinite(self.high_s))

    @property
    def is_found(self) -> bool:
        """Return whether the lag is determined and not zero."""
        return self.is_determined and not self.low_s <= 0 <= self.high_s


#: Lag of responses of which too little is known.
UNKNOWN = Lag(float("nan"), -float("inf"), float("inf"), 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedCourse:
    """Expected response to a trial that starts at 0 s.

    Attributes
    ----------
    times_s : ndarray of shape (n_times,), float64
    duration_s : float
        Length of the trial, in seconds.
    """

    times_s: Float64Array
    duration_s: float

    def at_lag(self, lag_s: Float64Array) -> Float64Array:
        """Return the response, shape (..., n_times), that comes late by each lag.

        Parameters
        ----------
        lag_s : ndarray of any shape, float64
        """
        since_s = self.times_s - np.asarray(lag_s)[..., np.newaxis]
        response = block_response(since_s, self.duration_s, PEAK_S, UNDERSHOOT_S, UNDERSHOOT_RATIO)
        return np.asarray(response, np.float64)

    def middle_s(self) -> float:
        """Return the middle of the response, before its undershoot, in seconds."""
        times_s = np.arange(0, self.duration_s + LASTS_S, _STEP_S, dtype=np.float64)
        course = np.maximum(ExpectedCourse(times_s, self.duration_s).at_lag(np.zeros(())), 0)
        return float(course @ times_s / course.sum())

    def weights(self, responses: Array) -> Float64Array:
        """Fit course and slope to each response by least squares over the times at which it is known.

        Parameters
        ----------
        responses : ndarray of shape (..., n_times)
            NaN at unknown times.

        Returns
        -------
        ndarray of shape (..., 2), float64
            Weights of the course and of its slope, scaled to the same norm; NaN if a response is known at fewer than
            two times.
        """
        course = self.at_lag(np.zeros(()))
        slope = (self.at_lag(np.array(_STEP_S)) - self.at_lag(np.array(-_STEP_S))) / (2 * _STEP_S)
        design = np.stack([course, slope * np.linalg.norm(course) / np.linalg.norm(slope)], axis=1)
        flat = np.asarray(responses, np.float64).reshape(-1, len(self.times_s))
        weights, is_known = np.full((len(flat), 2), np.nan), np.isfinite(flat)
        for known in np.unique(is_known, axis=0):
            if known.sum() >= 2:
                rows = (is_known == known).all(axis=1)
                weights[rows] = flat[np.ix_(rows, known)] @ np.linalg.pinv(design[known]).T
        return weights.reshape(*np.shape(responses)[:-1], 2)

    def directions(self, lags_s: Float64Array) -> Float64Array:
        """Return the weights of the course that comes late by each lag, as vectors of length 1: shape (..., 2).

        Parameters
        ----------
        lags_s : ndarray of any shape, float64
        """
        known_s = np.linspace(lags_s.min(), lags_s.max(), _N_KNOWN)
        course, slope = self.weights(self.at_lag(known_s)).T
        angle = np.interp(lags_s, known_s, np.unwrap(np.arctan2(slope, course)))
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def single_lag(weights: Float64Array, expected: ExpectedCourse) -> Lag:
    """Estimate one response's lag behind the expected course.

    Parameters
    ----------
    weights : ndarray of shape (n_units, 2), float64
        Each independent unit's weights.
    expected : ExpectedCourse
    """
    weights = weights[np.isfinite(weights).all(axis=-1)]
    if len(weights) < FEW_CATEGORIES:
        return UNKNOWN
    lags_s = _lags_s()
    directions = expected.directions(lags_s)
    residuals = np.outer(weights[:, 1], directions[:, 0]) - np.outer(weights[:, 0], directions[:, 1])
    t_squared = len(residuals) * residuals.mean(axis=0) ** 2 / np.maximum(residuals.var(axis=0, ddof=1), _TINY)
    sizes = directions @ weights.mean(axis=0)
    return _set_of(lags_s, t_squared, sizes, len(residuals))


def change_of_lag(weights: Float64Array, importance: Float64Array, expected: ExpectedCourse) -> Lag:
    """Estimate how much later the last response comes than the first, with the lags on a straight line.

    The lag that all responses share is free: with each change goes the shared lag that fits best. Two moments, the sum
    of the responses' residuals and their slope over the responses, are tested together by Hotelling's T² with the one
    degree of freedom that the shared lag leaves.

    Parameters
    ----------
    weights : ndarray of shape (n_units, n_responses, 2), float64
        Each independent unit's weights.
    importance : ndarray of shape (n_responses,), float64
        How large each response is expected to be, known from other data; 0 leaves a response out.
    expected : ExpectedCourse
    """
    weights = weights[np.isfinite(weights).all(axis=(1, 2))]
    n_units, n_responses, _ = weights.shape
    is_used = importance > 0
    if n_units < FEW_CATEGORIES or is_used.sum() < 2:
        return UNKNOWN
    place = np.linspace(-0.5, 0.5, n_responses)
    centred = place - np.average(place, weights=importance**2)
    changes_s, shared_s = _lags_s(), _lags_s()
    directions = expected.directions(np.add.outer(changes_s[:, np.newaxis] * place, shared_s).swapaxes(1, 2))
    moments = np.stack([_moment(weights, instrument, directions) for instrument in (importance, importance * centred)])
    mean = moments.mean(axis=1)
    deviations = moments - mean[:, np.newaxis]
    a, b, c = ((deviations[i] * deviations[j]).sum(axis=0) / (n_units - 1) for i, j in ((0, 0), (0, 1), (1, 1)))
    distance = n_units * (c * mean[0] ** 2 - 2 * b * mean[0] * mean[1] + a * mean[1] ** 2)
    # Moments that are the same but for a factor, as of one response alone, reject no change.
    size, is_singular = a * c - b**2, a * c - b**2 <= _ROUNDING * a * c
    t_squared = np.where(is_singular, 0, np.maximum(distance, 0) / np.where(is_singular, 1, size))
    best = t_squared.argmin(axis=1)
    sizes = np.einsum("crd,rd,r->c", directions[np.arange(len(changes_s)), best], weights.mean(axis=0), importance)
    return _set_of(changes_s, t_squared.min(axis=1), sizes, n_units)


def _moment(weights: Float64Array, instrument: Float64Array, directions: Float64Array) -> Float64Array:
    """Return each unit's residuals across the expected directions, summed over responses by an instrument.

    `directions` has the shape (n_changes, n_shared, n_responses, 2), the sum (n_units, n_changes, n_shared).
    """
    across = np.stack([-directions[..., 1], directions[..., 0]], axis=-1) * instrument[:, np.newaxis]
    n_units = len(weights)
    summed = weights.reshape(n_units, -1) @ across.reshape(-1, weights[0].size).T
    return np.asarray(summed.reshape(n_units, *directions.shape[:2]))


def _lags_s() -> Float64Array:
    n = round(LONGEST_S / _STEP_S)
    return np.arange(-n, n + 1, dtype=np.float64) * _STEP_S


def _set_of(lags_s: Float64Array, t_squared: Float64Array, sizes: Float64Array, n_units: int) -> Lag:
    """Return the set of lags whose T² is not rejected; lags at which the response is negative are never the best."""
    p_values = 2 * stats.t.sf(np.sqrt(t_squared), n_units - 1)
    at_zero = float(p_values[len(lags_s) // 2])
    best = int(t_squared.argmin())
    if sizes[best] <= 0:
        return Lag(float("nan"), -float("inf"), float("inf"), at_zero)
    # Somewhere within the range T² is zero, perhaps between two of these lags; the best of them stands for it.
    kept = np.flatnonzero((p_values > 1 - LEVEL) | (np.arange(len(lags_s)) == best))
    low = -float("inf") if kept[0] == 0 else float(lags_s[kept[0]])
    high = float("inf") if kept[-1] == len(lags_s) - 1 else float(lags_s[kept[-1]])
    return Lag(float(lags_s[best]), low, high, at_zero)
