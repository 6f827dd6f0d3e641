"""Linear discriminant analysis with one shrunk covariance of all categories."""

from __future__ import annotations

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from calibration.decoders.category_classifier import CategoryClassifier, class_means
from rtgod.messages import Array, Float64Array

#: Least share of the shrunk covariance that is a multiple of the identity, so that it can be inverted.
_LEAST_SHRINKAGE = 1e-6


class ShrunkenDiscriminant(CategoryClassifier):
    """Linear discriminant analysis of selected features, with Ledoit and Wolf's shrinkage.

    The covariance within categories is estimated once, from the deviations of all samples from their category's mean;
    scikit-learn's own estimates and shrinks that of each category by itself, which few samples do not allow. With one
    sample of each category it is the identity: the nearest mean is named. Categories are equally likely, however often
    they were shown: otherwise noise would be taken for the commoner ones. For the number of features, `n_voxels`, see
    `CategoryClassifier`.
    """

    def _scores(self, z: Float64Array, labels: Array, n_classes: int) -> tuple[Float64Array, Float64Array]:
        means, _ = class_means(z, labels)
        deviations = z - means[labels]
        weights = means
        if len(z) > n_classes and (variance := float(np.square(deviations).mean())) > 0:
            shrinkage = max(float(ledoit_wolf_shrinkage(deviations, assume_centered=True)), _LEAST_SHRINKAGE)
            weights = _solved(means, deviations, shrinkage * variance, (1 - shrinkage) / len(z))
        return weights, -np.einsum("cj,cj->c", weights, means) / 2


def _solved(means: Float64Array, deviations: Float64Array, level: float, share: float) -> Float64Array:
    """Return the rows of `means` times the inverse of level · I + share · RᵀR, for deviations R.

    By Woodbury's identity it inverts a matrix between samples, which are mostly fewer than features.
    """
    kernel = share * (deviations @ deviations.T)
    kernel[np.diag_indices_from(kernel)] += level
    return (means - share * (np.linalg.solve(kernel, deviations @ means.T).T @ deviations)) / level
