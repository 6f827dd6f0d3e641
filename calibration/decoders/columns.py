"""Means, deviations and correlations of the columns of samples and targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from calibration.decoders.threads import in_threads
from rtgod.messages import Array, Float64Array


def standardised(X: Array) -> tuple[Array, Array, Array]:
    """Return columns minus mean over standard deviation (ddof = 1), then both of these as in `column_moments`.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
        At least two samples. Floating-point numbers keep their precision; others are converted to float64.
    """
    z, (mean, scale) = np.empty(X.shape, _precision(X)), np.empty((2, X.shape[1]), _precision(X))

    def standardise(columns: slice) -> None:
        mean[columns], scale[columns], centred = _moments(X[:, columns])
        np.divide(centred, scale[columns], out=z[:, columns], casting="same_kind")

    in_threads(standardise, X.shape[1])
    return z, mean, scale


def column_moments(X: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation (ddof = 1) of each column, in `X`'s precision; 1 for constant columns.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
        At least two samples. Numbers that are not floating-point have moments in float64.
    """
    mean, scale, _ = _moments(X)
    return mean.astype(_precision(X)), scale.astype(_precision(X))


def _moments(X: Array) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return means, deviations, and columns minus their means."""
    # Double precision: a mean rounded to single would give a constant column a deviation other than 0 to divide by.
    mean = X.mean(axis=0, dtype=np.float64)
    centred = X - mean
    deviation = np.sqrt(np.einsum("ij,ij->j", centred, centred) / (len(X) - 1))
    return mean, np.where(deviation > 1e-12 * np.maximum(np.abs(mean), 1), deviation, 1.0), centred


def _precision(X: Array) -> np.dtype[Any]:
    return X.dtype if X.dtype.kind == "f" else np.dtype(np.float64)


def profile_correlation(predicted: Array, true: Array) -> Float64Array:
    """Return Pearson's r over samples for each unit: shape (n_units,); 0 for a unit that does not vary.

    Parameters
    ----------
    predicted, true : ndarray of shape (n_samples, n_units)
    """
    z = []
    for values in (np.asarray(predicted, np.float64), np.asarray(true, np.float64)):
        mean, scale = column_moments(values)
        z.append((values - mean) / scale)
    return np.einsum("ij,ij->j", *z) / (len(true) - 1)
