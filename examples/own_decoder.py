"""Decode categories with a scikit-learn estimator of your own, on samples that are made as the server makes them.

    python examples/own_decoder.py VC.nii.gz sub-01_run-*_bold.nii.gz

Each run needs an events table beside it. Every run is decoded by an estimator trained on the other runs.
"""

import sys

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, permutation_test_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import calibration

ESTIMATOR = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def cross_validate(mask, runs, estimator=ESTIMATOR, n_permutations=99):
    """Return the accuracy on left-out runs, the accuracy with labels shuffled within runs, and the p value."""
    samples = calibration.preprocess(runs, mask=mask)
    # Groups must be an array: scikit-learn silently shuffles nothing within groups that are a tuple.
    categories, groups = np.array(samples.categories), np.array(samples.runs)
    accuracy, shuffled, p_value = permutation_test_score(
        estimator, samples.X, categories, groups=groups, cv=LeaveOneGroupOut(), n_permutations=n_permutations
    )
    return accuracy, shuffled.mean(), p_value


if __name__ == "__main__":
    accuracy, chance, p_value = cross_validate(sys.argv[1], sys.argv[2:])
    print(f"accuracy {accuracy:.1%}, with shuffled labels {chance:.1%}, p = {p_value:.3g}")
