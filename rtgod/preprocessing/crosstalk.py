"""Crosstalk between trials: the share of one trial's response that the estimate of another's holds.

The fit assumes that every response peaks after the same time, and holds each trial's coefficient near 0 by its prior.
So early in a trial, and where responses peak at another time, part of one trial's response is taken for another's. How
much follows from the regressors alone, as the fit is linear: the expected responses to all trials, under every peak
that may be the true one, are sent through the same filter as the voxels, as if they were series.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numba import njit

from rtgod.messages import Array, Float64Array
from rtgod.state import Stateful


class Crosstalk(Stateful):
    """Coefficients that the expected responses to trials have in the fit; one instance per run.

    Parameters
    ----------
    n_peaks : int
        Number of peaks that may be the true one.
    n_nuisance, n_columns : int
        Number of nuisance regressors, and of columns for trials, which come after them.
    """

    changing: ClassVar = {"_coefficients": Float64Array}

    def __init__(self, n_peaks: int, n_nuisance: int, n_columns: int) -> None:
        self._n_nuisance = n_nuisance
        self._coefficients = np.zeros((n_peaks, n_columns, n_nuisance + n_columns))

    def extend(self, n_columns: int) -> None:
        """Add columns for trials after the others.

        Parameters
        ----------
        n_columns : int
            Number of columns for trials, with the new ones.
        """
        before = self._coefficients
        self._coefficients = np.zeros((len(before), n_columns, self._n_nuisance + n_columns))
        self._coefficients[:, : before.shape[1], : before.shape[2]] = before

    def restart(self, regressor: int) -> None:
        """Forget the trial of a column, which passes to another.

        Parameters
        ----------
        regressor : int
            Position of the column in a row.
        """
        self._coefficients[:, :, regressor] = 0.0
        self._coefficients[:, regressor - self._n_nuisance] = 0.0

    def learn(self, row: Float64Array, responses: Float64Array, gain: Float64Array) -> None:
        """Follow the fit through one volume.

        Parameters
        ----------
        row : ndarray of shape (n_regressors,), float64
            Regressors of the fit.
        responses : ndarray of shape (n_peaks, n_columns), float64
            Expected response to each column's trial under each peak.
        gain : ndarray of shape (n_regressors,), float64
            Change of each of the fit's coefficients by an error of 1.
        """
        _follow(self._coefficients, row, responses, gain)

    def of(self, regressor: int) -> float:
        """Return the largest share of another trial's response in a trial's coefficient, relative to its own.

        Shares below 0 count as none: with them a sample is less like the other trial's category than by chance.
        Infinite if nothing of the trial's own response is in it.

        Parameters
        ----------
        regressor : int
            Position of the trial's column in a row.
        """
        own = regressor - self._n_nuisance
        worst = 0.0
        for shares in self._coefficients[:, :, regressor]:
            if shares[own] <= 0.0:
                return np.inf
            worst = max(worst, float(np.delete(shares, own).max(initial=0.0) / shares[own]))
        return worst


@njit(cache=True, error_model="numpy")
def _follow(coefficients: Array, row: Array, responses: Array, gain: Array) -> None:
    for peak in range(coefficients.shape[0]):
        for trial in range(coefficients.shape[1]):
            error = responses[peak, trial]
            for r in range(gain.size):
                error -= coefficients[peak, trial, r] * row[r]
            for r in range(gain.size):
                coefficients[peak, trial, r] += gain[r] * error
