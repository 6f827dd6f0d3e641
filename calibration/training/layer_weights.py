"""Learn the weight of each layer in a ranking from predictions of cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from calibration.training.folds import leave_groups_out
from rtgod.decoding.category_index import CategoryIndex
from rtgod.errors import InputError
from rtgod.messages import Array, Features, Float32Array, Float64Array

#: Number of candidates, drawn once, that each sample's true category is compared with.
_N_OTHERS = 64
#: Penalties on differences between weights, from equal weights down.
_PENALTIES = (np.inf, 1.0, 0.1, 0.01)


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """Weights of layers, and their accuracy.

    Attributes
    ----------
    weights : mapping of str to float
        Not negative, sum 1.
    accuracy : float
        Identification accuracy on samples of categories that the weights were not learned from.
    equal_accuracy : float
        Identification accuracy with equal weights for all layers.
    """

    weights: Mapping[str, float]
    accuracy: float
    equal_accuracy: float


def learn_layer_weights(
    index: CategoryIndex, held_out: Mapping[str, Array], true: Sequence[int], groups: Sequence[str]
) -> LayerWeights:
    """Learn weights of the layers' Fisher z with which the true category beats most of the others.

    Minimises the logistic loss of the weighted difference between the true category's z and another's, scaled to a
    standard deviation of 1, plus a penalty on the differences between weights. The penalty is the largest whose
    identification accuracy on left-out categories is within one standard error of the best, so that weights differ only
    where this helps beyond doubt.

    Parameters
    ----------
    index : CategoryIndex
        Index of the layers to weight.
    held_out : mapping of str to ndarray of shape (n_samples, n_units)
        Each sample's features, by decoders that had not seen it.
    true : sequence of int
        Position of each sample's category among the candidates of `index`.
    groups : sequence of str
        Category of each sample; whole categories are left out.

    Raises
    ------
    InputError
        If there is no sample, or only one candidate.
    """
    if not len(true) or index.n_candidates < 2:
        raise InputError(
            "weights of layers need samples of candidate categories and others to tell them from; there are "
            f"{len(true)} samples and {index.n_candidates} candidates"
        )
    differences = _differences(index, held_out, true)
    labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    accuracies = []
    for kept, left_out in leave_groups_out(labels):
        accuracies.append(_accuracies(differences[left_out], _choose(differences[kept], labels[kept])))
    equal = np.full(differences.shape[2], 1 / differences.shape[2])
    weights = _choose(differences, labels)
    return LayerWeights(
        weights=dict(zip(index.layers, weights.tolist(), strict=True)),
        accuracy=float(np.concatenate(accuracies).mean()),
        equal_accuracy=float(_accuracies(differences, equal).mean()),
    )


def _differences(index: CategoryIndex, held_out: Mapping[str, Array], true: Sequence[int]) -> Float32Array:
    """Return Fisher z of the true category minus that of other candidates, shape (n_samples, n_others, n_layers).

    The unit is their standard deviation over all values, so that penalties mean the same for any decoder.
    """
    rng = np.random.default_rng(0)
    n_others = min(_N_OTHERS, index.n_candidates - 1)
    differences = np.empty((len(true), n_others, len(index.layers)), np.float32)
    for sample, position in enumerate(true):
        decoded = {layer: held_out[layer][sample].astype(np.float32) for layer in index.layers}
        z = np.arctanh(np.clip(index.correlations(Features(sample, decoded)), -0.999999, 0.999999)).T
        others = rng.choice(index.n_candidates - 1, n_others, replace=False)
        differences[sample] = z[position] - z[others + (others >= position)]
    return differences / (differences.std() or 1.0)


def _choose(differences: Float32Array, labels: Array) -> Float64Array:
    """Choose the largest penalty that identifies left-out categories about as well as the best, and return its weights.

    About as well is within one standard error of their difference, over categories.
    """
    folds = leave_groups_out(labels)
    order = np.concatenate([out for _, out in folds])
    category = np.unique(labels[order], return_inverse=True)[1]
    n_of = np.bincount(category)
    accuracy = []
    for penalty in _PENALTIES:
        left_out = [_accuracies(differences[out], _fit(differences[kept], penalty)) for kept, out in folds]
        accuracy.append(np.bincount(category, np.concatenate(left_out)) / n_of)
    best = max(accuracy, key=lambda by_category: float(by_category.mean()))
    behind = [best - by_category for by_category in accuracy]
    as_good = [of_penalty.mean() <= _error(of_penalty) for of_penalty in behind]
    return _fit(differences, _PENALTIES[as_good.index(True)])


def _error(values: Float64Array) -> float:
    """Return the standard error of a mean; infinite for a single value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.inf


def _fit(differences: Float32Array, penalty: float) -> Float64Array:
    """Fit weights of sum 1 under one penalty; equal weights if all weights would be 0."""
    n_layers = differences.shape[2]
    equal = np.full(n_layers, 1 / n_layers)
    if np.isinf(penalty):
        return equal
    D = differences.reshape(-1, n_layers)

    def loss(weights: Float64Array) -> tuple[float, Float64Array]:
        margin = D @ weights.astype(np.float32)
        deviation = weights - weights.mean()
        decay = np.exp(-np.abs(margin))  # exp of a large number would overflow
        wrong = np.where(margin > 0, decay, 1) / (1 + decay)
        value = (np.maximum(-margin, 0) + np.log1p(decay)).mean(dtype=np.float64) + penalty / 2 * deviation @ deviation
        return float(value), penalty * deviation - (wrong @ D).astype(np.float64) / len(D)

    fitted = minimize(loss, equal, jac=True, method="L-BFGS-B", bounds=[(0, None)] * n_layers, tol=1e-6).x
    return fitted / fitted.sum() if fitted.sum() > 0 else equal


def _accuracies(differences: Float32Array, weights: Float64Array) -> Float64Array:
    """Return the share of other candidates that each sample's true category beats; ties count half."""
    margin = differences @ weights
    return ((margin > 0) + 0.5 * (margin == 0)).mean(axis=1)
