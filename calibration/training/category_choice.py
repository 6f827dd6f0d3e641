"""The decoder of plain categories: its kind, its voxels and its cost, chosen by leaving out runs of the training."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from calibration.decoders.category_classifier import most_different
from calibration.decoders.columns import profile_correlation
from calibration.decoders.indicators import labels_of
from calibration.decoders.registry import CLASSIFIERS, make_classifier
from calibration.decoders.ridge import PENALTIES_PER_VOXEL, DualRidge, Gram
from calibration.decoders.settings import DecoderSettings
from calibration.metrics.identification import all_accuracies
from calibration.training.decoder_choice import Alternative, DecoderChoice, Tried, choose_among, in_words
from calibration.training.fit import Without
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
    decoder: DecoderSettings,
    X: Float32Array,
    Y: Float32Array,
    groups: Sequence[Hashable],
    left_out: str = "runs",
    without: Without | None = None,
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
    without : callable, optional
        Gives the samples as they are made without knowledge of some groups; by default they stay as they are. Samples
        that are whitened by their own noise, too, are decoded so well that decoders hardly differ.
    """
    names: tuple[str, ...] = ORDER if decoder.name == "auto" else (decoder.name,)
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
    made = [X if without is None else without({groups[row] for row in rows}) for _, rows in folds]
    tried = list(_tried(names, decoder, [each.astype(np.float64) for each in made], labels, folds, Y))
    return choose_among(tried, groups, not_tried, left_out)


def _too_few(labels: Array, groups: Sequence[Hashable], folds: Sequence[tuple[Array, Array]], left_out: str) -> str:
    """Explain why decoders cannot be compared; empty if they can."""
    if (n := len(set(groups))) < _FEWEST_GROUPS:
        there = f"there is 1 {left_out.replace('runs', 'run')}" if n == 1 else f"there are {n} {left_out}"
        return f"{there} to leave out, and {_FEWEST_GROUPS} are needed"
    fewest = min(len(kept) / len(np.unique(labels[kept])) for kept, _ in folds)
    judged = [row for kept, out in folds for row in out if labels[row] in labels[kept]]
    if len({groups[row] for row in judged}) < _FEWEST_GROUPS or min(len(set(labels[kept])) for kept, _ in folds) < 2:
        return f"too few {left_out} show categories that others show, too"
    return "" if fewest >= 2 else f"without some {left_out} there are fewer than two samples of a category"


def _tried(
    names: Sequence[str],
    decoder: DecoderSettings,
    made: Sequence[Float64Array],
    labels: Array,
    folds: Sequence[tuple[Array, Array]],
    Y: Float32Array,
) -> Iterator[Tried]:
    """Yield every decoder with the accuracy of left-out samples, in the order of `names` and of their grids."""
    n_voxels = made[0].shape[1]
    grid = [each for name in names if name in CLASSIFIERS for each in _grid(name, decoder, n_voxels)]
    accuracies = [np.full(len(labels), np.nan) for _ in grid]
    most = max((each.n_voxels for each in grid if each.n_voxels < n_voxels), default=n_voxels)
    for X, (kept, left_out) in zip(made, folds, strict=True):
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
            yield Tried(decoder.model_copy(update={"name": "ridge", "tune": False}), _of_ridge(made, labels, folds, Y))
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


def _of_ridge(
    made: Sequence[Float64Array], labels: Array, folds: Sequence[tuple[Array, Array]], Y: Float32Array
) -> Float64Array:
    """Return the accuracy of `ridge` with the penalty that is best in all folds together."""
    predicted = np.zeros((len(PENALTIES_PER_VOXEL), *Y.shape))
    for X, (kept, left_out) in zip(made, folds, strict=True):
        samples = Gram.of(X[kept])
        for of_penalty, penalty in zip(predicted, PENALTIES_PER_VOXEL, strict=True):
            model = DualRidge(penalty * X.shape[1]).fit_to(samples, Y[kept].astype(np.float64))
            of_penalty[left_out] = (model.predict(X[left_out]) - Y.mean(axis=0)) / np.maximum(Y.std(axis=0), 1e-12)
    best = max(predicted, key=lambda of_penalty: profile_correlation(of_penalty, Y).mean())
    accuracy = _of_true(best, labels)
    for kept, left_out in folds:
        accuracy[left_out[~np.isin(labels[left_out], labels[kept])]] = np.nan
    return accuracy


def _of_true(scores: Float64Array, true: Array) -> Float64Array:
    """Return the share of other categories that each sample's own beats, shape (n_samples,)."""
    return all_accuracies(scores)[np.arange(len(true)), true]
