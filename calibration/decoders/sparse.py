"""Base of the decoders that read few voxels for each unit: z-scores, selection, prediction."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple, Self

import numba
import numpy as np
from numba import njit, prange
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from calibration.decoders.columns import standardised
from calibration.decoders.threads import in_threads
from rtgod.messages import Array, Int32Array


class Equations(NamedTuple):
    """Equations that weights are solved from, all z-scored.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_used)
    Y : ndarray of shape (n_samples, n_targets)
    gram : ndarray of shape (n_used, n_used)
        XᵀX; only the upper triangle counts.
    selected : ndarray of shape (n_targets, n_selected), uint32
        Each target's features, ascending; unsigned, so that kernels need not check for negative positions.
    right : ndarray of shape (n_targets, n_selected)
        Entries of YᵀX for these features.
    """

    X: Array
    Y: Array
    gram: Array
    selected: Array
    right: Array


class SparseDecoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Linear regression of z-scored targets on a selection of z-scored features, which differs between targets.

    Parameters
    ----------
    n_voxels : int
        Number of features that a target is predicted from: those of largest |r| with it; at most all.

    Attributes
    ----------
    coef_ : csr_array of shape (n_targets, n_features)
        Weights of z-scored features for z-scored targets.
    x_mean_, x_scale_ : ndarray of shape (n_features,)
    y_mean_, y_scale_ : ndarray of shape (n_targets,)
        Means and standard deviations (ddof = 1); a constant column has scale 1.
    """

    def __init__(self, n_voxels: int = 500) -> None:
        self.n_voxels = n_voxels

    def fit(self, X: Array, y: Array) -> Self:
        """Fit to samples and their targets.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Single precision is kept; other types are converted to float64.
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
        """
        X, y = validate_data(
            self, X, y, multi_output=True, y_numeric=True, dtype=(np.float64, np.float32), ensure_min_samples=2
        )
        self._flat = y.ndim == 1
        targets = y.reshape(len(y), -1)
        Xz, self.x_mean_, self.x_scale_ = standardised(X)
        Yz, self.y_mean_, self.y_scale_ = standardised(targets.astype(X.dtype))
        right = products(Yz, Xz)
        selected: Array = largest(right, min(self.n_voxels, X.shape[1]))
        # Features that no target selects enter no equations. Features that many select lie close together in memory,
        # and last: of any row of the Gram matrix's upper triangle, most of the part that is read lies there.
        counts = np.bincount(selected.ravel(), minlength=X.shape[1])
        used = np.argsort(counts, kind="stable")[X.shape[1] - np.count_nonzero(counts) :]
        position = np.empty(X.shape[1], np.uint32)
        position[used] = np.arange(len(used))
        positions = np.sort(position[selected], axis=1)
        selected = used[positions]
        Xz = np.take(Xz, used, axis=1)
        equations = Equations(
            Xz, Yz, products(Xz, Xz, upper=True), positions, np.take_along_axis(right, selected, axis=1)
        )
        # Each thread works on its own matrices, and units take different times.
        with threadpool_limits(1, user_api="blas"), numba.parallel_chunksize(1):
            weights = self._weights(equations)
        starts = np.arange(len(selected) + 1) * selected.shape[1]
        self.coef_ = csr_array((weights.ravel(), selected.ravel(), starts), (len(selected), X.shape[1]))
        self.coef_.eliminate_zeros()
        return self

    def predict(self, X: Array) -> Array:
        """Predict targets.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        z = (self.coef_ @ ((X - self.x_mean_) / self.x_scale_).T).T
        predicted = z * self.y_scale_ + self.y_mean_
        return predicted[:, 0] if self._flat else predicted

    @abstractmethod
    def _weights(self, equations: Equations) -> Array:
        """Return weights (n_targets, n_selected) of each target's features; 0 for a feature that is not used."""


def products(A: Array, B: Array, *, upper: bool = False) -> Array:
    """Return AᵀB, the same bytes for any number of threads; BLAS by itself rounds as its threads share the work.

    Parameters
    ----------
    A : ndarray of shape (n_samples, n_rows)
    B : ndarray of shape (n_samples, n_columns)
    upper : bool
        Whether only the upper triangle is needed; entries below it may then be 0.
    """
    # Zeros, because converting uninitialised memory could meet invalid numbers.
    out = np.zeros((A.shape[1], B.shape[1]), A.dtype)

    def multiply(rows: slice) -> None:
        columns = slice(rows.start if upper else None, None)
        np.matmul(A[:, rows].T, B[:, columns], out=out[rows, columns])

    with threadpool_limits(1, user_api="blas"):
        in_threads(multiply, len(out))
    return out


def largest(values: Array, n: int) -> Int32Array:
    """Return columns of each row's `n` largest magnitudes, ascending: (n_rows, n), int32; the first ones in a tie.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
    n : int
        From 1 to `n_columns`.
    """
    selected, threshold = np.empty((len(values), n), np.int32), np.empty(len(values), values.dtype)

    def partition(rows: slice) -> None:
        magnitude = np.abs(values[rows])
        magnitude.partition(-n, axis=1)
        threshold[rows] = magnitude[:, -n]

    in_threads(partition, len(values))
    _collect(values, threshold, selected)
    return selected


@njit(cache=True, parallel=True)
def _collect(values: Array, threshold: Array, selected: Array) -> None:
    for row in prange(selected.shape[0]):
        entries, least, out = values[row], threshold[row], selected[row]
        equal = out.size
        for column in range(entries.size):
            equal -= abs(entries[column]) > least
        n_selected = 0
        for column in range(entries.size):
            if abs(entries[column]) > least or (abs(entries[column]) == least and equal > 0):
                equal -= abs(entries[column]) == least
                out[n_selected] = column
                n_selected += 1
