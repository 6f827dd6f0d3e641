"""The expected time course of the response to a trial."""

from __future__ import annotations

import math

import numpy as np

from rtgod.messages import Float64Array

#: Seconds from a trial's end to the end of its response, of which less than a thousandth is left then.
LASTS_S = 32.0


def block_response(
    time_s: Float64Array, duration_s: float | Float64Array, peak_s: float, undershoot_s: int, undershoot_ratio: float
) -> Float64Array:
    """Compute the response to a block that starts at 0, scaled so that the response to an endless block reaches 1.

    The double-gamma function (Friston et al. 1998; Glover 1999) integrated over the block, in closed form.

    Parameters
    ----------
    time_s : ndarray of any shape
        Times, in seconds.
    duration_s : float or ndarray that broadcasts with `time_s`
        Length of the block, in seconds.
    peak_s : float
        Mode of the first gamma function, in seconds; between two whole seconds, their gamma functions are mixed.
    undershoot_s : int
        Mode of the second gamma function, in seconds.
    undershoot_ratio : float
        Area of the second gamma function, as a share of the first.

    Returns
    -------
    ndarray of the same shape, float64
    """
    whole_s = math.floor(peak_s)
    part = peak_s - whole_s

    def step(since_s: Float64Array) -> Float64Array:
        # Whole-numbered shapes give a gamma distribution in closed form (Erlang); its mode is shape − 1 seconds.
        peaked = _erlang(since_s, whole_s + 1)
        if part:
            peaked = (1.0 - part) * peaked + part * _erlang(since_s, whole_s + 2)
        response = peaked - undershoot_ratio * _erlang(since_s, undershoot_s + 1)
        return response / (1.0 - undershoot_ratio)

    return step(time_s) - step(time_s - duration_s)


def _erlang(time_s: Float64Array, shape: int) -> Float64Array:
    t = np.maximum(time_s, 0.0)
    terms = sum(t**k / math.factorial(k) for k in range(shape))
    return 1.0 - np.exp(-t) * terms
