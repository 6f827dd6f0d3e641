"""All-voxel ridge regression in dual form: every unit of every layer from one kernel between training samples.

With fewer samples than voxels the kernel is the small side: it is decomposed once, whatever the number of units. The
weights factorise into training patterns and dual coefficients, which is also how the server stores and applies them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from calibration.decoders.columns import column_moments, profile_correlation, standardised
from rtgod.errors import InputError
from rtgod.messages import Array, Float32Array, Float64Array

#: Penalties that are tried, per voxel: the kernel of z-scored patterns has the number of voxels on its diagonal.
PENALTIES_PER_VOXEL = tuple(float(p) for p in np.logspace(-3, 1, 9))


class Similarity(NamedTuple):
    """Samples as the dual form sees them.

    Attributes
    ----------
    z : ndarray of shape (n_samples, n_features)
        Z-scored with `mean` and `scale`, of shape (n_features,).
    mean, scale : ndarray
    kernel : ndarray of shape (n_samples, n_samples)
        Dot products of `z`.
    """

    z: Array
    mean: Array
    scale: Array
    kernel: Array

    @classmethod
    def of(cls, X: Array) -> Similarity:
        """Of samples as they are, (n_samples, n_features)."""
        z, mean, scale = standardised(X)
        return cls(z, mean, scale, z @ z.T)


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

    def fit(self, X: Array, y: Array) -> Self:
        """Fit to `X` of shape (n_samples, n_features) and `y` of shape (n_samples,) or (n_samples, n_targets)."""
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=(np.float64, np.float32))
        return self.fit_to(Similarity.of(X), y)

    def fit_to(self, samples: Similarity, y: Array) -> Self:
        """Fit to samples whose similarity is known, and which several fits may share; `y` as for `fit`."""
        self._flat = y.ndim == 1
        self.n_features_in_ = samples.z.shape[1]
        self.X_fit_, self.x_mean_, self.x_scale_ = samples.z, samples.mean, samples.scale
        targets, self.y_mean_, self.y_scale_ = standardised(y.reshape(len(y), -1))
        kernel = samples.kernel.copy()
        kernel[np.diag_indices_from(kernel)] += self.alpha
        self.dual_coef_ = np.linalg.solve(kernel, targets)
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
        Which run, or other group, each sample comes from.
    predicted : tuple of ndarray of shape (n_predicted, n_voxels) and sequence of length n_predicted, optional
        What is predicted, and of which run it is; by default the samples themselves.

    Raises
    ------
    InputError
        With fewer than two runs.
    """

    def __init__(
        self, X: Array, runs: Sequence[Hashable], predicted: tuple[Array, Sequence[Hashable]] | None = None
    ) -> None:
        if len(set(runs)) < 2:
            raise InputError("choosing a penalty leaves one run out at a time, which needs at least two runs")
        Z, runs_of_Z = predicted or (X, runs)
        number = {run: i for i, run in enumerate(dict.fromkeys(runs))}
        of_X, of_Z = (np.array([number[run] for run in each]) for each in (runs, runs_of_Z))
        self._n_predicted = len(Z)
        self._folds = []
        for run in number.values():
            train, test = np.flatnonzero(of_X != run), np.flatnonzero(of_Z == run)
            mean, scale = column_moments(X[train])
            fitted, held_out = (X[train] - mean) / scale, (Z[test] - mean) / scale
            values, vectors = np.linalg.eigh((fitted @ fitted.T).astype(np.float64))
            self._folds.append((train, test, values, vectors, held_out @ fitted.T @ vectors))

    def predict(self, Y: Array, penalty: float) -> Float64Array:
        """Predictions (n_predicted, n_units), each from the runs it is not part of; `Y` is (n_samples, n_units)."""
        return next(self._predictions(Y, [penalty]))

    def choose(self, Y: Array, penalties: Sequence[float]) -> tuple[float, Float64Array]:
        """Choose the penalty with the highest feature accuracy of the samples themselves.

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
            predicted = np.empty((self._n_predicted, Y.shape[1]))
            for (_, test, values, _, projected), (mean, scale, targets) in zip(self._folds, rotated, strict=True):
                # A kernel of centred samples has one eigenvalue of zero, give or take rounding.
                predicted[test] = (projected / (np.maximum(values, 0) + penalty)) @ targets * scale + mean
            yield predicted


def fit_layers(
    X: Float32Array, layers: Mapping[str, Float32Array], penalties: Mapping[str, float]
) -> dict[str, DualRidge]:
    """Fit one `DualRidge` per layer, each with its own penalty, to samples that are compared once."""
    samples = Similarity.of(X)
    return {name: DualRidge(penalties[name]).fit_to(samples, Y) for name, Y in layers.items()}
