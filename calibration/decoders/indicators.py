"""Decoders that name categories, as regressions on the units of the categories' layer."""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy.sparse import csr_array

from calibration.decoders.category_classifier import CategoryClassifier
from calibration.decoders.columns import column_moments
from rtgod.messages import Array, Float64Array


class IndicatorDecoder:
    """A classifier of categories whose scores are the z-scored units of a layer with a unit for each category.

    A unit of a category that no sample is of has weights 0 and the mean score of the others.

    Parameters
    ----------
    classifier : CategoryClassifier
        Not yet fitted.

    Attributes
    ----------
    coef_ : csr_array of shape (n_units, n_voxels)
        Weights of z-scored voxels for z-scored units.
    intercept_ : ndarray of shape (n_units,)
        What is added to the weighted sums.
    y_mean_, y_scale_ : ndarray of shape (n_units,)
        Means and standard deviations (ddof = 1) of the units.
    """

    def __init__(self, classifier: CategoryClassifier) -> None:
        self.classifier = classifier

    def fit(self, X: Array, y: Array) -> Self:
        """Fit to samples and the units of their categories.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_voxels)
        y : ndarray of shape (n_samples, n_units)
            1 for the category of each sample, and 0 for the others.
        """
        model = self.classifier.fit(X, labels_of(y))
        self.y_mean_, self.y_scale_ = column_moments(y.astype(np.float64))
        self.intercept_ = np.zeros(y.shape[1])
        self.intercept_[model.classes_] = model.intercept_
        weights = np.diff(model.coef_.indptr)
        counts = np.zeros(y.shape[1], np.int64)
        counts[model.classes_] = weights
        starts = np.concatenate([[0], np.cumsum(counts)])
        self.coef_ = csr_array((model.coef_.data, model.coef_.indices, starts), (y.shape[1], X.shape[1]))
        return self

    def predict(self, X: Array) -> Float64Array:
        """Predict the units: shape (n_samples, n_units), float64.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_voxels)
        """
        z = (X - self.classifier.x_mean_) / self.classifier.x_scale_
        return np.asarray(((self.coef_ @ z.T).T + self.intercept_) * self.y_scale_ + self.y_mean_)


def labels_of(units: Array) -> Array:
    """Return the number of each sample's category, shape (n_samples,), int64.

    Parameters
    ----------
    units : ndarray of shape (n_samples, n_units)
        1 for the category of each sample, and 0 for the others.
    """
    return units.argmax(axis=1)
