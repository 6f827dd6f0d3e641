"""Recursive least squares for many series that share their regressors.

With a common design all series have the same covariance and gain, in units of their own noise: one small matrix serves
thousands of voxels. After every volume the coefficients are those of batch least squares on all volumes so far, with
each regressor's prior as one more observation of zero.

Sums run over the regressors in their order, one after another. So regressors that are still 0 in all observations, and
come after the others, change no bit of the fit: they may be there from the start, or be added later.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numba import njit, prange

from rtgod.kernels import launch
from rtgod.messages import Array, Float64Array
from rtgod.state import Stateful


class RecursiveLeastSquares(Stateful):
    """Fit of the coefficients of `n_series` series on common regressors.

    Parameters
    ----------
    n_series : int
    prior_sd : ndarray of shape (n_regressors,)
        Standard deviation of each coefficient before any observation, in units of the series' noise.

    Attributes
    ----------
    coefficients : ndarray of shape (n_series, n_regressors), float64
    covariance : ndarray of shape (n_regressors, n_regressors), float64
        Covariance of the coefficients, divided by the noise variance.
    """

    changing: ClassVar = {"coefficients": Float64Array, "covariance": Float64Array}

    def __init__(self, n_series: int, prior_sd: Float64Array) -> None:
        self.coefficients = np.zeros((n_series, len(prior_sd)))
        self.covariance = np.diag(np.square(np.asarray(prior_sd, np.float64)))

    def predict(self, row: Float64Array) -> Float64Array:
        """Predict every series from a row of regressors; return shape (n_series,), float64.

        Parameters
        ----------
        row : ndarray of shape (n_regressors,), float64
        """
        out = np.empty(len(self.coefficients))
        launch(_predict, self.coefficients.size, self.coefficients, row, out)
        return out

    def variance(self, row: Float64Array) -> float:
        """Return the variance of a prediction's error, divided by the noise variance: 1 for known coefficients.

        Parameters
        ----------
        row : ndarray of shape (n_regressors,), float64
        """
        return 1.0 + float(_dot(row, _project(self.covariance, row)))

    def gain(self, row: Float64Array) -> Float64Array:
        """Return the change of each coefficient by an error of 1 in the next observation; (n_regressors,), float64.

        Parameters
        ----------
        row : ndarray of shape (n_regressors,), float64
        """
        projected = _project(self.covariance, row)
        return projected / (1.0 + float(_dot(row, projected)))

    def update(self, row: Float64Array, innovation: Float64Array) -> None:
        """Learn from one observation.

        Parameters
        ----------
        row : ndarray of shape (n_regressors,), float64
        innovation : ndarray of shape (n_series,), float64
            Observed less predicted value; 0 leaves a series as it is.
        """
        projected = _project(self.covariance, row)
        variance = 1.0 + float(_dot(row, projected))
        launch(_learn, self.coefficients.size, self.coefficients, projected / variance, innovation)
        self.covariance -= np.outer(projected, projected) / variance

    def restart(self, regressor: int, prior_sd: float) -> None:
        """Reset a regressor's coefficients to the prior, as it now stands for something new.

        Parameters
        ----------
        regressor : int
            Position in a row.
        prior_sd : float
            Standard deviation of the coefficients, in units of the series' noise.
        """
        self.coefficients[:, regressor] = 0.0
        self.covariance[regressor, :] = 0.0
        self.covariance[:, regressor] = 0.0
        self.covariance[regressor, regressor] = prior_sd**2

    def extend(self, prior_sd: Float64Array) -> None:
        """Add regressors after the others, of which nothing is learned yet.

        Parameters
        ----------
        prior_sd : ndarray of shape (n_regressors,)
            Standard deviations for all regressors, in units of the series' noise; only those of new ones are used.
        """
        n_series, n_before = self.coefficients.shape
        coefficients = np.zeros((n_series, len(prior_sd)))
        covariance = np.diag(np.square(np.asarray(prior_sd, np.float64)))
        coefficients[:, :n_before], covariance[:n_before, :n_before] = self.coefficients, self.covariance
        self.coefficients, self.covariance = coefficients, covariance


@njit(cache=True, error_model="numpy")
def _project(covariance: Array, row: Array) -> Array:
    out = np.empty(row.size)
    for i in range(row.size):
        out[i] = _dot(covariance[i], row)
    return out


@njit(cache=True, error_model="numpy")
def _dot(a: Array, b: Array) -> float:
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@njit(cache=True, parallel=True, error_model="numpy")
def _predict(coefficients: Array, row: Array, out: Array) -> None:
    for s in prange(coefficients.shape[0]):
        total = 0.0
        for r in range(row.size):
            total += coefficients[s, r] * row[r]
        out[s] = total


@njit(cache=True, parallel=True, error_model="numpy")
def _learn(coefficients: Array, gain: Array, innovation: Array) -> None:
    for s in prange(coefficients.shape[0]):
        for r in range(gain.size):
            coefficients[s, r] += gain[r] * innovation[s]
