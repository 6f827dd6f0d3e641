"""Times at which responses may come: peaks of the response and delays of the events that are tried, in one order.

Peak and delay of a response to a block look nearly alike. A rule parts them: what a peak of a usual response can
explain is its peak, and all else is a delay of the events, while the peak stays as it is set. So the times that are
tried form one axis, the lag: the peak, plus the delay beyond the one that is set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rtgod.messages import Array, Float64Array
from rtgod.preprocessing.hrf import block_response
from rtgod.settings import ResponseSettings

#: Peaks of usual responses, seconds: those that are tried before a delay is thought of.
_USUAL_PEAKS_S = (3.5, 7.5)
#: Usual distance of two lags that are tried, and the largest delay beyond the one that is set, seconds.
_STEP_S, _MOST_DELAY_S = 0.5, 12.0
#: Bounds of `ResponseSettings.delay_s`.
_LEAST_S, _LARGEST_S = -30.0, 30.0
#: Period of the slowest drift that is not taken for responses, seconds.
_SLOWEST_S = 128.0
#: Least and largest uncertainty that is believed, of any lag and of a delay, seconds. One regressor for all trials
#: tells of other voxels than those that differ between categories, so that it is never as certain.
_LEAST_SD_S, _LEAST_SD_OF_ALL_S, _LARGEST_SD_S = 0.1, 0.3, 2.0
_LARGEST_SD_OF_DELAY_S = 1.0
#: Standard deviations by which a delay beyond a valley must explain more than any usual peak, and by which a lag must
#: lie outside of the usual peaks.
_LEAST_GAIN, _OUTSIDE_SD = 3.0, 2.0
#: Number of parts of the volumes, each of which is left out in turn to see how much a result varies.
N_PARTS = 10


class Timing(NamedTuple):
    """Times of a response.

    Attributes
    ----------
    peak_s, delay_s : float
        See `ResponseSettings`.
    """

    peak_s: float
    delay_s: float


class Lags:
    """Lags that are tried, ascending.

    Parameters
    ----------
    response : ResponseSettings
        Peak and delay as they are set; the undershoot is taken as it is.
    step_s : float
        Distance of two lags, in seconds.

    Attributes
    ----------
    values_s : ndarray of shape (n_lags,), float64
    usual : slice
        Lags that need no other delay than the one that is set.
    """

    def __init__(self, response: ResponseSettings, step_s: float = _STEP_S) -> None:
        self._response, self._step_s = response, step_s
        self._low_s = min(_USUAL_PEAKS_S[0], response.peak_s)
        self._high_s = max(_USUAL_PEAKS_S[1], response.peak_s)
        least_s, most_s = (
            response.peak_s + float(np.clip(response.delay_s + far_s, _LEAST_S, _LARGEST_S)) - response.delay_s
            for far_s in (-_MOST_DELAY_S, _MOST_DELAY_S)
        )
        before = np.arange(self._low_s - step_s, least_s - 1e-9, -step_s, dtype=np.float64)[::-1]
        usual = np.arange(self._low_s, self._high_s + 1e-9, step_s, dtype=np.float64)
        after = np.arange(self._high_s + step_s, most_s + 1e-9, step_s, dtype=np.float64)
        self.values_s: Float64Array = np.concatenate([before, usual, after])
        self.usual = slice(len(before), len(before) + len(usual))

    def timing(self, lag_s: float) -> Timing:
        """Return peak and delay of a lag, rounded to hundredths of a second.

        Parameters
        ----------
        lag_s : float
        """
        peak_s, delay_s = self._response.peak_s, self._response.delay_s
        if self._low_s - self._step_s / 2 < lag_s < self._high_s + self._step_s / 2:
            return Timing(round(lag_s, 2), delay_s)
        return Timing(peak_s, round(delay_s + lag_s - peak_s, 2))

    def courses(self, middle_s: Float64Array, onset_s: Float64Array, duration_s: Float64Array) -> Float64Array:
        """Return the expected responses to trials for each lag, without what drift could be.

        Parameters
        ----------
        middle_s : ndarray of shape (n_volumes,), float64
            Middle of each volume, in seconds.
        onset_s, duration_s : ndarray of shape (n_trials,), float64

        Returns
        -------
        ndarray of shape (n_lags, n_volumes, n_trials), float64
        """
        response = self._response
        since_s = middle_s[:, np.newaxis] - onset_s
        courses = []
        for lag_s in self.values_s.tolist():
            peak_s, delay_s = self.timing(lag_s)
            courses.append(
                block_response(since_s - delay_s, duration_s, peak_s, response.undershoot_s, response.undershoot_ratio)
            )
        return without_drift(np.array(courses), middle_s)

    def is_one_hill(self, explained: Float64Array, start_s: float, top_s: float) -> bool:
        """Return whether what lags explain never falls on the way from one lag to another.

        Parameters
        ----------
        explained : ndarray of shape (n_lags,)
        start_s, top_s : float
        """
        start, top = (int(np.argmin(np.abs(self.values_s - lag_s))) for lag_s in (start_s, top_s))
        way = explained[start : top + 1] if start <= top else explained[top : start + 1][::-1]
        return bool((np.diff(way) >= 0).all())

    def best(self, explained: Float64Array) -> float:
        """Return the lag that explains most; between lags by a parabola.

        Parameters
        ----------
        explained : ndarray of shape (n_lags,)
        """
        n = int(np.argmax(explained))
        if n in (0, len(explained) - 1):
            return float(self.values_s[n])
        before, here, after = explained[n - 1 : n + 2].tolist()
        curvature = 2.0 * here - before - after
        return float(self.values_s[n] + (0.5 * self._step_s * (after - before) / curvature if curvature > 0 else 0.0))


class LearnedTimes(NamedTuple):
    """Peak of the response and delay of the events, as volumes tell them.

    Attributes
    ----------
    peak_s, delay_s : float
    sd_s : float
        Uncertainty of both together, in seconds.
    by_category : bool
        Whether categories tell the times; otherwise one regressor for all trials does.
    """

    peak_s: float
    delay_s: float
    sd_s: float
    by_category: bool


def believed(
    lags: Lags, explained: Float64Array, left_out: Float64Array, inflation: float, *, by_category: bool
) -> LearnedTimes | None:
    """Choose the lag that explains most; within its uncertainty of a usual peak, it is one.

    Where a valley lies between it and the usual peaks, as where blocks come at equal distances, it must explain clearly
    more than these.

    Parameters
    ----------
    lags : Lags
    explained : ndarray of shape (n_lags,)
        How much of the volumes each lag explains.
    left_out : ndarray of shape (n_parts, n_lags)
        The same without each part of the volumes.
    inflation : float
        Factor on standard deviations by the jackknife, for parts that are not independent.
    by_category : bool
        See `LearnedTimes`.

    Returns
    -------
    LearnedTimes or None
        None if the lag is too uncertain to be used, or lies at the end of those that are tried.
    """
    lag_s, usual_s = lags.best(explained), lags.values_s[lags.usual]
    nearest_s = float(np.clip(lag_s, usual_s[0], usual_s[-1]))
    if not lags.is_one_hill(explained, nearest_s, lag_s):
        gain = explained.max() - explained[lags.usual].max()
        gains = left_out[:, int(np.argmax(explained))] - left_out[:, lags.usual].max(axis=1)
        if gain < _LEAST_GAIN * inflation * jackknife_sd(gains):
            return None
    sd_s = inflation * jackknife_sd(np.array([lags.best(values) for values in left_out]))
    if sd_s > _LARGEST_SD_S or lag_s in (lags.values_s[0], lags.values_s[-1]):
        return None
    if abs(lag_s - nearest_s) < _OUTSIDE_SD * sd_s:
        lag_s = nearest_s
    elif lag_s != nearest_s and sd_s > _LARGEST_SD_OF_DELAY_S:
        return None
    timing = lags.timing(lag_s)
    least_s = _LEAST_SD_S if by_category else _LEAST_SD_OF_ALL_S
    return LearnedTimes(*timing, round(float(max(sd_s, least_s)), 2), by_category)


def parts_of(n_volumes: Sequence[int]) -> list[Array]:
    """Return the part that each volume of each run belongs to, of `N_PARTS` equal ones of all runs together.

    Parameters
    ----------
    n_volumes : sequence of int
        Number of volumes of each run.
    """
    part = np.arange(sum(n_volumes)) * N_PARTS // max(sum(n_volumes), 1)
    return np.split(part, np.cumsum(n_volumes)[:-1])


def jackknife_sd(left_out: Float64Array) -> float:
    """Return the standard deviation of an estimate from its values with each part left out.

    Parameters
    ----------
    left_out : ndarray of shape (n_parts,)
    """
    return float(np.sqrt((len(left_out) - 1) * left_out.var()))


def without_drift(courses: Float64Array, middle_s: Float64Array) -> Float64Array:
    """Remove constant, line and slow cosines from courses over volumes.

    Parameters
    ----------
    courses : ndarray of shape (..., n_volumes, n_courses), float64
    middle_s : ndarray of shape (n_volumes,), float64
        Middle of each volume, in seconds.
    """
    phase = np.pi * (middle_s - middle_s[0]) / max(float(middle_s[-1] - middle_s[0]), 1.0)
    n_cosines = 1 + int(2 * (middle_s[-1] - middle_s[0]) / _SLOWEST_S)
    drift, _ = np.linalg.qr(np.column_stack([phase, *(np.cos(k * phase) for k in range(n_cosines))]))
    left: Float64Array = courses - drift @ (drift.T @ courses)
    return left
