"""All-voxel ridge regression: one kernel between training samples serves every unit of every layer.

With fewer samples than voxels the kernel is the small side: it is decomposed once for all units. The weights factorise
into training patterns and dual coefficients, which is also how the server stores and applies them. With more samples
than voxels the small side is the product of the voxels, and the same minimum is found from it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from calibration.decoders.columns import profile_correlation, standardised
from rtgod.errors import InputError
from rtgod.messages import Array, Float32Array, Float64Array

#: Candidate penalties per voxel: the kernel of z-scored patterns has the number of voxels on its diagonal, and its
#: largest eigenvalue is at most the number of samples times as large.
PENALTIES_PER_VOXEL = tuple(float(p) for p in np.logspace(-3, 3, 13))
#: Number of units that judge penalties; they tell the best as well as a thousand units do.
JUDGED_UNITS = 250


class Gram(NamedTuple):
    """Samples in the form that the dual solution uses.

    Attributes
    ----------
    z : ndarray of shape (n_samples, n_features)
        Z-scored with `mean` and `scale`, of shape (n_features,).
    mean, scale : ndarray
    kernel : ndarray of shape (n_samples, n_samples), or (n_features, n_features) if that is smaller
        Dot products of the rows of `z`, or of its columns.
    """

    z: Array
    mean: Array
    scale: Array
    kernel: Array

    @classmethod
    def of(cls, X: Array) -> Gram:
        """Make the Gram matrix of samples, z-scored here.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
        """
        z, mean, scale = standardised(X)
        return cls(z, mean, scale, z @ z.T if len(z) <= z.shape[1] else z.T @ z)

    @property
    def is_of_samples(self) -> bool:
        """Whether the kernel is of samples, and not of features."""
        return len(self.z) <= self.z.shape[1]


class DualRidge(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression on z-scored samples and targets, solved among samples, or features if they are fewer.

    The minimiser of ‖Yz − Xz W‖² + alpha ‖W‖² is W = Xzᵀ (Xz Xzᵀ + alpha I)⁻¹ Yz (Saunders et al. 1998), which equals
    (Xzᵀ Xz + alpha I)⁻¹ Xzᵀ Yz; centring both sides leaves the intercept unpenalised.

    Parameters
    ----------
    alpha : float
        Penalty.

    Attributes
    ----------
    X_fit_ : ndarray of shape (n_samples, n_features)
        Z-scored training samples.
    dual_coef_ : ndarray of shape (n_samples, n_targets), or None
        None if there are more samples than features.
    coef_ : ndarray of shape (n_features, n_targets)
        The weights W.
    x_mean_, x_scale_ : ndarray of shape (n_features,)
    y_mean_, y_scale_ : ndarray of shape (n_targets,)
        Means and standard deviations (ddof = 1); a constant column has scale 1.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def fit(self, X: Array, y: Array) -> Self:
        """Fit to samples and their targets.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Single precision is kept; other types are converted to float64.
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
        """
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=(np.float64, np.float32))
        return self.fit_to(Gram.of(X), y)

    def fit_to(self, samples: Gram, y: Array) -> Self:
        """Fit to samples with a known kernel, which several fits may share.

        Parameters
        ----------
        samples : Gram
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
        """
        self._flat = y.ndim == 1
        self.n_features_in_ = samples.z.shape[1]
        self.X_fit_, self.x_mean_, self.x_scale_ = samples.z, samples.mean, samples.scale
        targets, self.y_mean_, self.y_scale_ = standardised(y.reshape(len(y), -1))
        kernel = samples.kernel.copy()
        kernel[np.diag_indices_from(kernel)] += self.alpha
        # Whoever reads it knows whether it is None.
        self.dual_coef_: Any = _solved(kernel, targets) if samples.is_of_samples else None
        self._coef = None if samples.is_of_samples else _solved(kernel, samples.z.T @ targets)
        return self

    @property
    def coef_(self) -> Array:
        """The weights W; see the class."""
        check_is_fitted(self)
        return self.X_fit_.T @ self.dual_coef_ if self._coef is None else self._coef

    def predict(self, X: Array) -> Array:
        """Predict targets.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        predicted = predict_layers({"": self}, X)[""]
        return predicted[:, 0] if self._flat else predicted


class LeaveOneRunOut:
    """Predict each run from all others, for any penalty, by one decomposition of all runs.

    The residuals of a run's samples, predicted from the other runs, are (I − H)⁻¹ times their residuals in the fit to
    all runs, where H is the run's own block of the matrix that maps targets to that fit: true of any fit by least
    squares with a quadratic penalty (Hoaglin & Welsch 1978), the unpenalised intercept included. Voxels keep the scale
    that they have over all runs.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
    runs : sequence of length n_samples
        Run, or other group, of each sample.

    Raises
    ------
    InputError
        If there are fewer than two runs.
    """

    def __init__(self, X: Array, runs: Sequence[Hashable]) -> None:
        if len(set(runs)) < 2:
            raise InputError("choosing a penalty leaves one run out at a time, which needs at least two runs")
        rows: dict[Hashable, list[int]] = {}
        for row, run in enumerate(runs):
            rows.setdefault(run, []).append(row)
        self._runs = [np.array(of_run) for of_run in rows.values()]
        samples = Gram.of(X)
        values, vectors = np.linalg.eigh(samples.kernel.astype(np.float64))
        # A kernel of centred samples has one eigenvalue of zero, up to rounding.
        self._values = np.maximum(values, 0)
        # The fit's matrix is vectors · lengths / (values + penalty) · vectorsᵀ.
        self._vectors = vectors if samples.is_of_samples else samples.z @ vectors
        self._lengths = self._values if samples.is_of_samples else np.ones(len(values))

    def predict(self, Y: Array, penalty: float) -> Float64Array:
        """Predict `Y`, each sample from runs that it is not part of.

        Parameters
        ----------
        Y : ndarray of shape (n_samples, n_units)
        penalty : float
            As `alpha` of `DualRidge`.
        """
        return next(self._predictions(Y, [penalty]))

    def choose(self, Y: Array, penalties: Sequence[float]) -> tuple[float, Float64Array]:
        """Choose the penalty with the highest feature accuracy, judged by no more than `JUDGED_UNITS` units.

        Parameters
        ----------
        Y : ndarray of shape (n_samples, n_units)
            Units in random order: the first ones judge.
        penalties : sequence of float
            As `alpha` of `DualRidge`.

        Returns
        -------
        penalty : float
        accuracy : ndarray of shape (n_penalties,), float64
            Correlation of prediction and truth over samples, averaged over units.
        """
        Y = Y[:, :JUDGED_UNITS]
        accuracy = np.array([profile_correlation(p, Y).mean() for p in self._predictions(Y, penalties)])
        return penalties[int(accuracy.argmax())], accuracy

    def _predictions(self, Y: Array, penalties: Sequence[float]) -> Iterator[Float64Array]:
        Y = Y.astype(np.float64)
        mean = Y.mean(axis=0)
        rotated = self._vectors.T @ (Y - mean)
        for penalty in penalties:
            share = self._lengths / (self._values + penalty)
            residuals = Y - mean - self._vectors @ (share[:, np.newaxis] * rotated)
            for rows in self._runs:
                block = (self._vectors[rows] * share) @ self._vectors[rows].T + 1 / len(Y)
                residuals[rows] = np.linalg.solve(np.eye(len(rows)) - block, residuals[rows])
            yield Y - residuals


def fit_layers(X: Array, layers: Mapping[str, Float32Array], penalties: Mapping[str, float]) -> dict[str, DualRidge]:
    """Fit one `DualRidge` for each layer, with its own penalty, to samples whose kernel is computed once.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
    layers : mapping of str to ndarray of shape (n_samples, n_units), float32
        Targets of each layer.
    penalties : mapping of str to float
        Penalty `alpha` of each layer's model.
    """
    samples = Gram.of(X)
    return {name: DualRidge(penalties[name]).fit_to(samples, Y) for name, Y in layers.items()}


def predict_layers(models: Mapping[str, DualRidge], X: Array) -> dict[str, Array]:
    """Predict by models from `fit_layers`, (n_samples, n_units) each; the similarity of samples is computed once.

    Parameters
    ----------
    models : mapping of str to DualRidge
        Models of one call, which share their training samples.
    X : ndarray of shape (n_samples, n_voxels)
    """
    shared = next(iter(models.values()))
    z = (X - shared.x_mean_) / shared.x_scale_
    if shared.dual_coef_ is None:
        return {name: z @ model.coef_ * model.y_scale_ + model.y_mean_ for name, model in models.items()}
    similarity = z @ shared.X_fit_.T
    return {name: similarity @ model.dual_coef_ * model.y_scale_ + model.y_mean_ for name, model in models.items()}


def _solved(matrix: Array, right: Array) -> Array:
    """Solve `matrix @ x = right`; the matrix is symmetric, and positive definite but for rounding."""
    try:
        return cho_solve(cho_factor(matrix, check_finite=False), right, check_finite=False)
    except LinAlgError:
        return np.linalg.solve(matrix, right)
