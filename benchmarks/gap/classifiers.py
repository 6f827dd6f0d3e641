"""The classifiers of both sides, each tuned within the training samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks.gap.recordings import Recording
from rtgod.messages import Array, BoolArray

#: Most groups that are left out in turn within the training samples.
N_INNER = 4
_CLASSIFIERS: Mapping[str, Sequence[tuple[str, Any]]] = {
    "ridge": [("scale", StandardScaler()), ("ridge", RidgeClassifier())],
    "lda": [("select", SelectKBest(f_classif)), ("lda", LinearDiscriminantAnalysis("lsqr", shrinkage="auto"))],
    "svm": [("select", SelectKBest(f_classif)), ("scale", StandardScaler()), ("svm", SVC(kernel="linear"))],
}
CLASSIFIERS = tuple(_CLASSIFIERS)
_PENALTIES_PER_VOXEL = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)
_COSTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_N_SELECTED = {"lda": (10, 30, 100, 200, 500), "svm": (10, 30, 100, 300, 1000, 3000)}


@dataclass(frozen=True, eq=False)
class Tested:
    """A classifier on left-out folds, tuned without them.

    Attributes
    ----------
    right : ndarray of shape (n_blocks,), bool
        Whether the category of each block was named, by the mean of its samples, when its fold was left out.
    inner : mapping of int to float
        For each fold, the accuracy within the training samples of the values chosen.
    chosen : tuple of mapping
        Values chosen for each fold.
    n_at_edge : int
        Choices of a value at an end of its grid that the grid might have gone beyond.
    n_choices : int
    """

    right: BoolArray
    inner: Mapping[int, float]
    chosen: tuple[Mapping[str, float], ...]
    n_at_edge: int
    n_choices: int


def grid_of(name: str, n_voxels: int) -> dict[str, list[float]]:
    """Return the values that a classifier is tuned over, ascending, by the name of the pipeline's parameter.

    Parameters
    ----------
    name : {"ridge", "lda", "svm"}
    n_voxels : int
        Numbers of selected voxels end with it.
    """
    if name == "ridge":
        return {"ridge__alpha": [penalty * n_voxels for penalty in _PENALTIES_PER_VOXEL]}
    grid: dict[str, list[float]] = {"select__k": sorted({min(k, n_voxels) for k in _N_SELECTED[name]})}
    return grid | ({"svm__C": list(_COSTS)} if name == "svm" else {})


def tested(name: str, X_of_fold: Mapping[int, Array], recording: Recording, categories: Array) -> Tested:
    """Leave each fold out, tune and train a classifier on the others, and test it on blocks.

    Parameters
    ----------
    name : {"ridge", "lda", "svm"}
    X_of_fold : mapping of int to ndarray of shape (n_samples, n_voxels)
        All samples, as they are made while a fold is left out.
    recording : Recording
        Says which samples are left out together, and which are of one block.
    categories : ndarray of shape (n_samples,)
        Those of the recording, or shuffled ones.
    """
    fold, inner, block = recording.fold, recording.inner, recording.block
    right, scores, chosen, n_at_edge, n_choices = np.zeros(block.max() + 1, bool), {}, [], 0, 0
    for left_out, X in X_of_fold.items():
        train = fold != left_out
        grid = grid_of(name, X.shape[1])
        splits = GroupKFold(min(N_INNER, len(np.unique(inner[train]))))
        search = GridSearchCV(
            Pipeline(list(_CLASSIFIERS[name])), grid, cv=splits, refit=middle_of_best, error_score="raise"
        ).fit(X[train], categories[train], groups=inner[train])
        for of_block in np.unique(block[~train]):
            rows = np.flatnonzero(block == of_block)
            right[of_block] = search.predict(X[rows].mean(axis=0, keepdims=True))[0] == categories[rows[0]]
        best = search.best_params_
        scores[left_out] = float(search.cv_results_["mean_test_score"][search.best_index_])
        chosen.append(best)
        n_at_edge += sum(_at_edge(parameter, values, best, X.shape[1]) for parameter, values in grid.items())
        n_choices += len(grid)
    return Tested(right, scores, tuple(chosen), n_at_edge, n_choices)


def middle_of_best(results: Mapping[str, Any]) -> int:
    """Return the position of the best values; of several equally good ones, those farthest from the grid's edges.

    Parameters
    ----------
    results : mapping
        `cv_results_` of the search.
    """
    scores = np.asarray(results["mean_test_score"])
    best = np.flatnonzero(scores >= scores.max() - 1e-9)
    columns = [[params[name] for params in results["params"]] for name in results["params"][0]]
    ranks = [np.unique(column, return_inverse=True)[1] for column in columns]
    from_edge = sum(np.minimum(rank, rank.max() - rank) for rank in ranks)
    return int(best[np.argmax(from_edge[best])])


def _at_edge(parameter: str, values: Sequence[float], chosen: Mapping[str, float], n_voxels: int) -> bool:
    """Return whether a value is at an end of its grid; all voxels are no edge, as there are no more."""
    value = chosen[parameter]
    return value in (values[0], values[-1]) and not (parameter == "select__k" and value == n_voxels)
