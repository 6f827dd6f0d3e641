"""All-voxel ridge regression in dual form: every unit of every layer from one kernel between training samples.

With fewer samples than voxels the kernel is the small side: it is decomposed once, whatever the number of units. The
weights factorise into training patterns and dual coefficients, which is also how the server stores and applies them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.utils.validation import check_is_fitted, validate_data

from calibration.decoders.columns import column_moments, profile_correlation
from rtgod.errors import InputError
from rtgod.messages import Array, Float32Array, Float64Array

#: Penalties that are tried, per voxel: the kernel of z-scored patterns has the number of voxels on its diagonal.
PENALTIES_PER_VOXEL = tuple(float(p) for p in np.logspace(-3, 1, 9))


class DualRidge(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression on z-scored samples and targets, solved in the space of samples.

    The minimiser of ‖Yz − Xz W‖² + alpha ‖W‖² is W = Xzᵀ (Xz Xzᵀ + alpha I)⁻¹ Yz (Saunders et al. 1998); centring both
    sides leaves the intercept unpenalised.

    Parameters
    ----------
    alpha : float
        Penalty.

    Attributes
    ----------
    X_fit_ : ndarray of shape (n_samples, n_features)
        Z-scored training samples.
    dual_coef_ : ndarray of shape (n_samples, n_targets)
    x_mean_, x_scale_ : ndarray of shape (n_features,)
    y_mean_, y_scale_ : ndarray of shape (n_targets,)
        Means and standard deviations (ddof = 1); a constant column has scale 1.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def fit(self, X: Array, y: Array) -> DualRidge:
        """Fit to `X` of shape (n_samples, n_features) and `y` of shape (n_samples,) or (n_samples, n_targets)."""
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=(np.float64, np.float32))
        self._flat = y.ndim == 1
        targets = y.reshape(len(y), -1)
        self.x_mean_, self.x_scale_ = column_moments(X)
        self.y_mean_, self.y_scale_ = column_moments(targets)
        self.X_fit_ = (X - self.x_mean_) / self.x_scale_
        kernel = self.X_fit_ @ self.X_fit_.T
        kernel[np.diag_indices_from(kernel)] += self.alpha
        self.dual_coef_ = np.linalg.solve(kernel, (targets - self.y_mean_) / self.y_scale_)
        return self

    def predict(self, X: Array) -> Array:
        """Predict targets for `X` of shape (n_samples, n_features)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        similarity = ((X - self.x_mean_) / self.x_scale_) @ self.X_fit_.T
        predicted = similarity @ self.dual_coef_ * self.y_scale_ + self.y_mean_
        return predicted[:, 0] if self._flat else predicted


class LeaveOneRunOut:
    """Predictions of each run from all others, for any penalty, from one decomposition per run.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
    runs : sequence of length n_samples
        Which run each sample comes from.

    Raises
    ------
    InputError
        With fewer than two runs.
    """

    def __init__(self, X: Array, runs: Sequence[object]) -> None:
        if len(set(runs)) < 2:
            raise InputError("choosing a penalty leaves one run out at a time, which needs at least two runs")
        self._folds = []
        for train, test in LeaveOneGroupOut().split(X, groups=runs):
            mean, scale = column_moments(X[train])
            fitted, held_out = (X[train] - mean) / scale, (X[test] - mean) / scale
            values, vectors = np.linalg.eigh((fitted @ fitted.T).astype(np.float64))
            self._folds.append((train, test, values, vectors, held_out @ fitted.T @ vectors))

    def predict(self, Y: Array, penalty: float) -> Float64Array:
        """Predictions of `Y` (n_samples, n_units), each sample's from the runs it is not part of."""
        return next(self._predictions(Y, [penalty]))

    def choose(self, Y: Array, penalties: Sequence[float]) -> tuple[float, Float64Array]:
        """Choose the penalty with the highest feature accuracy.

        Parameters
        ----------
        Y : ndarray of shape (n_samples, n_units)
        penalties : sequence of float

        Returns
        -------
        penalty : float
        accuracy : ndarray of shape (n_penalties,), float64
            Correlation of prediction and truth over samples, averaged over units.
        """
        accuracy = np.array([profile_correlation(p, Y).mean() for p in self._predictions(Y, penalties)])
        return penalties[int(accuracy.argmax())], accuracy

    def _predictions(self, Y: Array, penalties: Sequence[float]):  # type: ignore[no-untyped-def] # an iterator of arrays
        rotated = []
        for train, *_, vectors, _ in self._folds:
            mean, scale = column_moments(Y[train])
            rotated.append((mean, scale, vectors.T @ ((Y[train] - mean) / scale)))
        for penalty in penalties:
            predicted = np.empty(Y.shape)
            for (_, test, values, _, projected), (mean, scale, targets) in zip(self._folds, rotated, strict=True):
                # A kernel of centred samples has one eigenvalue of zero, give or take rounding.
                predicted[test] = (projected / (np.maximum(values, 0) + penalty)) @ targets * scale + mean
            yield predicted


def fit_layers(
    X: Float32Array, layers: Mapping[str, Float32Array], penalties: Mapping[str, float]
) -> dict[str, DualRidge]:
    """Fit one `DualRidge` per layer, each with its own penalty."""
    return {name: DualRidge(penalties[name]).fit(X, Y) for name, Y in layers.items()}
