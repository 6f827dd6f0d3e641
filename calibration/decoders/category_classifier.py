"""Base of the decoders that name one of few categories: z-scores, voxels by analysis of variance, linear scores."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from calibration.decoders.columns import column_moments
from rtgod.messages import Array, Float64Array


class CategoryClassifier(ClassifierMixin, BaseEstimator):
    """Linear scores of categories from the z-scored features that differ most between them.

    Scores are relative: weights and intercepts have mean 0 over the categories, which leaves every order as it is.

    Parameters
    ----------
    n_voxels : int
        Number of features that scores are computed from: those of largest F in an analysis of variance between
        categories; at most all. With one sample of each category F is unknown, and all are taken.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The categories, sorted.
    coef_ : csr_array of shape (n_classes, n_features)
        Weights of z-scored features.
    intercept_ : ndarray of shape (n_classes,)
        Score of the mean sample.
    x_mean_, x_scale_ : ndarray of shape (n_features,)
        Means and standard deviations (ddof = 1); a constant column has scale 1.
    """

    def __init__(self, n_voxels: int = 500) -> None:
        self.n_voxels = n_voxels

    def fit(self, X: Array, y: Array) -> Self:
        """Fit to samples and their categories.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Computed with in float64.
        y : ndarray of shape (n_samples,)
            Category of each sample.

        Raises
        ------
        ValueError
            If there are fewer than two categories.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        n_classes = len(self.classes_)
        if n_classes < 2:
            raise ValueError(f"samples are of {n_classes} class, and two or more are needed to tell them apart")
        # Sums would otherwise be rounded as threads share them.
        with threadpool_limits(1, user_api="blas"):
            self.x_mean_, self.x_scale_ = column_moments(X)
            selected = most_different(X, labels, self.n_voxels)
            z = (X[:, selected] - self.x_mean_[selected]) / self.x_scale_[selected]
            weights, intercept = self._scores(z, labels, n_classes)
        weights, self.intercept_ = weights - weights.mean(axis=0), intercept - intercept.mean()
        starts = np.arange(n_classes + 1) * len(selected)
        columns = np.tile(selected, n_classes)
        self.coef_ = csr_array((weights.ravel(), columns, starts), (n_classes, X.shape[1]))
        return self

    def scores(self, X: Array) -> Float64Array:
        """Score every category: shape (n_samples, n_classes), float64.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        return np.asarray((self.coef_ @ ((X - self.x_mean_) / self.x_scale_).T).T + self.intercept_)

    def decision_function(self, X: Array) -> Float64Array:
        """Return the scores, or of two categories the second's minus the first's, shape (n_samples,).

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
        """
        scores = self.scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X: Array) -> Array:
        """Name the category of highest score for each sample: shape (n_samples,).

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
        """
        best = self.scores(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    @abstractmethod
    def _scores(self, z: Float64Array, labels: Array, n_classes: int) -> tuple[Float64Array, Float64Array]:
        """Return weights (n_classes, n_selected) and intercepts (n_classes,) from z-scored, selected features."""


def most_different(X: Float64Array, labels: Array, n: int) -> Array:
    """Return the columns whose means differ most between categories, for the spread within them, ascending.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
    labels : ndarray of shape (n_samples,), int
        Category of each sample, from 0.
    n : int
        Number of columns; all if there are no more, or if no category has two samples.

    Returns
    -------
    ndarray of shape (n_selected,), int64
    """
    counts = np.bincount(labels)
    if n >= X.shape[1] or counts.max() < 2:
        return np.arange(X.shape[1])
    share = variance_between(X, labels)
    return np.sort(np.argsort(-share, kind="stable")[:n])


def variance_between(X: Float64Array, labels: Array) -> Float64Array:
    """Return the share of each column's variance that lies between categories; it orders columns as F does.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
    labels : ndarray of shape (n_samples,), int

    Returns
    -------
    ndarray of shape (n_columns,), float64
        From 0 to 1; 0 for a constant column.
    """
    means, counts = class_means(X, labels)
    centre = X.mean(axis=0)
    between = np.einsum("c,cj,cj->j", counts, means - centre, means - centre)
    total = np.square(X - centre).sum(axis=0)
    floor = 1e-20 * np.maximum(np.square(centre), 1) * len(X)
    return np.where(total > floor, between / np.maximum(total, floor), 0.0)


def class_means(X: Float64Array, labels: Array) -> tuple[Float64Array, Float64Array]:
    """Return the mean of each category's samples, (n_classes, n_columns), and their numbers, (n_classes,).

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
    labels : ndarray of shape (n_samples,), int
        From 0; the mean of a category without samples is 0.
    """
    n_classes = int(labels.max()) + 1
    of_class = (labels == np.arange(n_classes)[:, np.newaxis]).astype(np.float64)
    counts = of_class.sum(axis=1)
    return of_class @ X / np.maximum(counts, 1)[:, np.newaxis], counts
