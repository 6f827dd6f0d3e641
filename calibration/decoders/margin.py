"""Linear support vector machines, one for each category against the others."""

from __future__ import annotations

import numpy as np
from sklearn.svm import SVC

from calibration.decoders.category_classifier import CategoryClassifier
from rtgod.messages import Array, Float64Array


class LinearMargin(CategoryClassifier):
    """Linear support vector machine of each category against all others, on selected features.

    Parameters
    ----------
    n_voxels : int
        Number of features, see `CategoryClassifier`.
    cost : float
        Cost of samples on the wrong side of the margin; it is divided by the number of features, so that it means the
        same for any number.
    """

    def __init__(self, n_voxels: int = 500, cost: float = 1.0) -> None:
        super().__init__(n_voxels)
        self.cost = cost

    def _scores(self, z: Float64Array, labels: Array, n_classes: int) -> tuple[Float64Array, Float64Array]:
        kernel = z @ z.T
        weights, intercept = np.empty((n_classes, z.shape[1])), np.empty(n_classes)
        for category in range(n_classes):
            machine = SVC(kernel="precomputed", C=self.cost / z.shape[1]).fit(kernel, labels == category)
            weights[category] = machine.dual_coef_[0] @ z[machine.support_]
            intercept[category] = machine.intercept_[0]
        return weights, intercept
