"""Responses of the simulated visual cortex: their course in time, and the order of layers and regions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import gammainc

from rtgod.messages import Float64Array

#: Place of each region in the hierarchy of layers: 0 is the network's first layer, 1 its last.
HIERARCHY: Mapping[str, float] = {
    "V1": 0.0,
    "V2": 0.15,
    "V3": 0.3,
    "V4": 0.45,
    "LOC": 0.75,
    "FFA": 0.95,
    "PPA": 0.9,
}
#: Seconds from a trial's end to the end of its response, and steps in which it is tabulated; a straight line between
#: two steps is off by less than 1e-5 of the response.
_LASTS_S, _STEP_S = 60.0, 0.02


class BlockCourse:
    """Course of a voxel's response to a block, scaled so that the response to an endless block reaches 1.

    The double-gamma function integrated over the block. With whole-numbered peaks and a dispersion of 1 it is the
    decoder's, `rtgod.preprocessing.hrf.block_response`.

    Parameters
    ----------
    duration_s : float
        Length of the block, in seconds.
    peak_s, undershoot_s : float
        Modes of the two gamma functions, in seconds.
    ratio : float
        Area of the second gamma function, as a share of the first.
    dispersion_s : float
        Scale of both, in seconds.
    """

    def __init__(
        self, duration_s: float, peak_s: float, undershoot_s: float, ratio: float, dispersion_s: float
    ) -> None:
        self._times_s: Float64Array = np.arange(0.0, duration_s + _LASTS_S, _STEP_S, dtype=np.float64)

        def step(since_s: Float64Array) -> Float64Array:
            since = np.maximum(since_s, 0.0) / dispersion_s
            rise, fall = (gammainc(mode_s / dispersion_s + 1, since) for mode_s in (peak_s, undershoot_s))
            return np.asarray((rise - ratio * fall) / (1.0 - ratio))

        self._values = step(self._times_s) - step(self._times_s - duration_s)

    def at(self, time_s: Float64Array) -> Float64Array:
        """Return the response at times since the block's start.

        Parameters
        ----------
        time_s : ndarray of any shape
            Times, in seconds.
        """
        return np.interp(time_s, self._times_s, self._values, left=0.0, right=0.0)


def layer_delays_s(n_layers: int, lag_s: float) -> Float64Array:
    """Return the start of each layer's response in seconds, low to high; the highest layer leads.

    Parameters
    ----------
    n_layers : int
    lag_s : float
        Delay of the lowest layer's response after the highest layer's.
    """
    return np.linspace(lag_s, 0.0, n_layers)
