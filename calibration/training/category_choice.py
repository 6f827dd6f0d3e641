"""The decoder of plain categories: its kind, its voxels and its cost, chosen by leaving out runs of the training."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from calibration.decoders.category_classifier import most_different
from calibration.decoders.indicators import labels_of
from calibration.decoders.registry import CLASSIFIERS, make_classifier
from calibration.decoders.ridge import PENALTIES_PER_VOXEL, LeaveOneRunOut
from calibration.decoders.settings import DecoderSettings
from calibration.metrics.identification import all_accuracies
from calibration.training.decoder_choice import Alternative, DecoderChoice, Tried, choose_among, in_words
from calibration.training.folds import leave_groups_out
from rtgod.messages import Array, Float32Array, Float64Array

#: Numbers of voxels that are tried after the one set and before all; `svm`, which takes longer, has fewer, and costs.
_N_VOXELS = {"lda": (1000, 300, 100, 30, 10), "svm": (100,)}
_COSTS = (1.0, 30.0)
#: Most groups that are left out in turn, and fewest that a choice needs.
_MOST_FOLDS, _FEWEST_GROUPS = 6, 3
#: Most samples times categories for which `svm` is tried: it fits a machine for each category.
_MOST_FOR_SVM = 10_000
#: Decoders of categories, the simplest first.
ORDER = ("lda", "ridge", "svm")


def choose_for_categories(
    decoder: DecoderSettings, X: Float32Array, Y: Float32Array, groups: Sequence[Hashable], left_out: str = "runs"
) -> DecoderChoice:
    """Choose a decoder of categories, tuned, by samples of groups that are left out in turn.

    Parameters
    ----------
    decoder : DecoderSettings
        `auto` tries all; `lda` and `svm` are tuned.
    X : ndarray of shape (n_samples, n_voxels), float32
    Y : ndarray of shape (n_samples, n_categories), float32
        1 for the category of each sample, and 0 for the others.
    groups : sequence of length n_samples
        The run of each sample, or its part of the only run.
    left_out : str
        What groups are, for people.
    """
    names = ORDER if decoder.name == "auto" else (decoder.name,)
    labels = labels_of(Y)
    folds = leave_groups_out([str(group) for group in groups], _MOST_FOLDS)
    if too_few := _too_few(labels, groups, folds, left_out):
        chosen = decoder.model_copy(update={"name": names[0], "tune": False})
        setting = f"{chosen.name} with {in_words(chosen)}" if decoder.name == "auto" else in_words(chosen)
        how = f"nothing could be compared, as {too_few}: {setting} is taken, which does best on few real samples"
        return DecoderChoice(chosen, how)
    not_tried = []
    if "svm" in names and len(names) > 1 and Y.size > _MOST_FOR_SVM:
        names = tuple(name for name in names if name != "svm")
        not_tried.append(Alternative("svm", why_not=f"{len(Y):,} samples of {Y.shape[1]} categories take it too long"))
    tried = list(_tried(names, decoder, X.astype(np.float64), labels, folds, Y))
    return choose_among(tried, groups, not_tried, left_out)


def _too_few(labels: Array, groups: Sequence[Hashable], folds: Sequence[tuple[Array, Array]], left_out: str) -> str:
    """Explain why decoders cannot be compared; empty if they can."""
    if (n := len(set(groups))) < _FEWEST_GROUPS:
        there = f"there is 1 {left_out.replace('runs', 'run')}" if n == 1 else f"there are {n} {left_out}"
        return f"{there} to leave out, and {_FEWEST_GROUPS} are needed"
    fewest = min(len(kept) / len(np.unique(labels[kept])) for kept, _ in folds)
    return "" if fewest >= 2 else f"without some {left_out} there are fewer than two samples of a category"


def _tried(
    names: Sequence[str],
    decoder: DecoderSettings,
    X: Float64Array,
    labels: Array,
    folds: Sequence[tuple[Array, Array]],
    Y: Float32Array,
) -> Iterator[Tried]:
    """Yield every decoder with the accuracy of left-out samples, in the order of `names` and of their grids."""
    grid = [each for name in names if name in CLASSIFIERS for each in _grid(name, decoder, X.shape[1])]
    accuracies = [np.full(len(X), np.nan) for _ in grid]
    most = max((each.n_voxels for each in grid if each.n_voxels < X.shape[1]), default=X.shape[1])
    for kept, left_out in folds:
        # Few voxels are the same voxels, chosen from all or from more of the best.
        best = most_different(X[kept], labels[kept], most)
        fewer = X[:, best]
        for each, accuracy in zip(grid, accuracies, strict=True):
            values = X if each.n_voxels > len(best) else fewer
            model = make_classifier(each).fit(values[kept], labels[kept])
            scores = model.scores(values[left_out])
            known = np.isin(labels[left_out], model.classes_)
            accuracy[left_out[known]] = _of_true(
                scores[known], np.searchsorted(model.classes_, labels[left_out[known]])
            )
    of_grid = [Tried(each, accuracy) for each, accuracy in zip(grid, accuracies, strict=True)]
    for name in names:
        if name == "ridge":
            yield Tried(decoder.model_copy(update={"name": "ridge", "tune": False}), _of_ridge(X, labels, folds, Y))
        yield from (tried for tried in of_grid if tried.decoder.name == name)


def _grid(name: str, decoder: DecoderSettings, n_voxels: int) -> list[DecoderSettings]:
    """Return the settings that are tried: those given first, and all voxels last."""
    numbers = dict.fromkeys(min(n, n_voxels) for n in (decoder.n_voxels, *_N_VOXELS[name], n_voxels))
    costs = dict.fromkeys((decoder.cost, *_COSTS)) if name == "svm" else [decoder.cost]
    return [
        decoder.model_copy(update={"name": name, "n_voxels": n, "cost": cost, "tune": False})
        for cost in costs
        for n in numbers
    ]


def _of_ridge(X: Float64Array, labels: Array, folds: Sequence[tuple[Array, Array]], Y: Float32Array) -> Float64Array:
    fold = np.empty(len(X), np.int64)
    for number, (_, left_out) in enumerate(folds):
        fold[left_out] = number
    folded = LeaveOneRunOut(X, fold.tolist())
    penalty, _ = folded.choose(Y, [penalty * X.shape[1] for penalty in PENALTIES_PER_VOXEL])
    predicted = (folded.predict(Y, penalty) - Y.mean(axis=0)) / np.maximum(Y.std(axis=0), 1e-12)
    return _of_true(predicted, labels)


def _of_true(scores: Float64Array, true: Array) -> Float64Array:
    """Return the share of other categories that each sample's own beats, shape (n_samples,)."""
    return all_accuracies(scores)[np.arange(len(true)), true]
