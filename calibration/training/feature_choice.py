"""The decoder of features: ridge on all voxels, on selected ones, or sparse, by what names left-out samples best."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np

from calibration.decoders.columns import column_moments
from calibration.decoders.registry import make_decoder
from calibration.decoders.ridge import JUDGED_UNITS, PENALTIES_PER_VOXEL, LeaveOneRunOut
from calibration.decoders.settings import DecoderSettings
from calibration.metrics.group_means import averaged_by
from calibration.metrics.identification import all_accuracies
from calibration.training.decoder_choice import Alternative, DecoderChoice, Tried, choose_among
from calibration.training.folds import leave_groups_out
from rtgod.messages import Array, Float32Array, Float64Array

#: Folds in which decoders are compared, and fewest groups that a choice needs.
_N_FOLDS, _FEWEST_GROUPS = 3, 3
#: Fewest units of each layer that judge.
_FEWEST_UNITS = 16
#: Numbers of voxels and penalties of `ridge-select` that are tried after those set.
_SELECTIONS = ((150, 100.0), (500, 1000.0))
#: Most work of a calibration with `slr`, in units times fits times the square of samples or voxels, the fewer of both:
#: about 3 µs each, so some five minutes. It is fitted for each left-out fold, and about as often again for confidence.
_MOST_WORK = 1e8
_N_CONFIDENCE_FITS = 10


def choose_for_features(
    decoder: DecoderSettings,
    X: Float32Array,
    Y: Mapping[str, Float32Array],
    categories: Sequence[str],
    groups: Sequence[Hashable],
    left_out: str,
) -> DecoderChoice:
    """Choose a decoder of features by how well it identifies the categories of samples left out.

    Some units of each layer judge, and the candidates are the categories of the samples.

    Parameters
    ----------
    decoder : DecoderSettings
        `auto`; its other settings are tried first.
    X : ndarray of shape (n_samples, n_voxels), float32
    Y : mapping of str to ndarray of shape (n_samples, n_units), float32
        Features per layer; units in random order.
    categories : sequence of str
        Category of each sample.
    groups : sequence of length n_samples
        What each sample is left out with: its category where new ones will be ranked, otherwise its run.
    left_out : str
        What groups are, for people.
    """
    ridge = decoder.model_copy(update={"name": "ridge", "tune": False})
    n_groups, n_shown = len(set(groups)), len(set(categories))
    if n_groups < _FEWEST_GROUPS or n_shown < 2:
        how = (
            f"nothing could be compared, as there are {n_groups} {left_out} to leave out and {n_shown} categories, "
            f"and {_FEWEST_GROUPS} and 2 are needed: ridge is taken, which has the least to choose"
        )
        return DecoderChoice(ridge, how)
    n_units = max(JUDGED_UNITS // len(Y), _FEWEST_UNITS)
    judging = {layer: values[:, :n_units].astype(np.float64) for layer, values in Y.items()}
    folds = leave_groups_out([str(group) for group in groups], _N_FOLDS)
    judge = _Judge(judging, categories)
    grid, not_tried = _grid(decoder, X.shape, sum(values.shape[1] for values in Y.values()))
    values = X.astype(np.float64)
    tried = [Tried(ridge, judge.accuracy(_ridge_predictions(values, judging, folds)))]
    tried += [Tried(each, judge.accuracy(_predictions(each, values, judging, folds))) for each in grid]
    return choose_among(tried, groups, not_tried, left_out)


class _Judge:
    """Identifies samples among the categories that were shown, by a few units of each layer."""

    def __init__(self, judging: Mapping[str, Float64Array], categories: Sequence[str]) -> None:
        self._moments = {layer: column_moments(values) for layer, values in judging.items()}
        names = list(dict.fromkeys(categories))
        self._true = np.array([names.index(category) for category in categories])
        self._candidates = {
            layer: _unit_rows((averaged_by(categories, values)[1] - self._moments[layer][0]) / self._moments[layer][1])
            for layer, values in judging.items()
        }

    def accuracy(self, predicted: Mapping[str, Float64Array]) -> Float64Array:
        """Return the share of other categories that match worse than the true one, shape (n_samples,)."""
        scores = np.zeros((len(self._true), len(next(iter(self._candidates.values())))))
        for layer, values in predicted.items():
            mean, scale = self._moments[layer]
            correlations = _unit_rows((values - mean) / scale) @ self._candidates[layer].T
            scores += np.arctanh(np.clip(correlations, -0.999999, 0.999999))
        return all_accuracies(scores)[np.arange(len(scores)), self._true]


def _grid(
    decoder: DecoderSettings, shape: tuple[int, ...], n_units: int
) -> tuple[list[DecoderSettings], list[Alternative]]:
    """Return what is tried beside `ridge`, and what takes too long."""
    n_samples, n_voxels = shape
    n_fits = 1 + decoder.n_folds + _N_CONFIDENCE_FITS
    selections = dict.fromkeys(
        (min(n, n_voxels), alpha) for n, alpha in ((decoder.n_voxels, decoder.alpha), *_SELECTIONS)
    )
    select = decoder.model_copy(update={"name": "ridge-select", "tune": False})
    grid = [select.model_copy(update={"n_voxels": n, "alpha": alpha}) for n, alpha in selections]
    n_begun = min(decoder.n_voxels, n_voxels)
    if n_units * n_fits * min(n_begun, n_samples) ** 2 > _MOST_WORK:
        return grid, [Alternative("slr", why_not=f"{n_units:,} units of {n_samples:,} samples take it too long")]
    return [*grid, decoder.model_copy(update={"name": "slr", "tune": False, "n_voxels": n_begun})], []


def _ridge_predictions(
    X: Float64Array, judging: Mapping[str, Float64Array], folds: Sequence[tuple[Array, Array]]
) -> dict[str, Float64Array]:
    """Predict left-out samples by `ridge`, whose penalties are chosen by the same samples."""
    fold = np.empty(len(X), np.int64)
    for number, (_, left_out) in enumerate(folds):
        fold[left_out] = number
    folded, grid = LeaveOneRunOut(X, fold.tolist()), [penalty * X.shape[1] for penalty in PENALTIES_PER_VOXEL]
    return {layer: folded.predict(values, folded.choose(values, grid)[0]) for layer, values in judging.items()}


def _predictions(
    decoder: DecoderSettings,
    X: Float64Array,
    judging: Mapping[str, Float64Array],
    folds: Sequence[tuple[Array, Array]],
) -> dict[str, Float64Array]:
    targets = np.concatenate(list(judging.values()), axis=1)
    predicted = np.empty(targets.shape)
    for kept, left_out in folds:
        predicted[left_out] = make_decoder(decoder).fit(X[kept], targets[kept]).predict(X[left_out])
    return dict(_split(predicted, judging))


def _split(together: Float64Array, judging: Mapping[str, Float64Array]) -> Iterator[tuple[str, Float64Array]]:
    start = 0
    for layer, values in judging.items():
        yield layer, together[:, start : start + values.shape[1]]
        start += values.shape[1]


def _unit_rows(rows: Float64Array) -> Float64Array:
    """Return rows minus their mean, of length 1; zeros for rows that do not vary."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.square(centred).sum(axis=1, keepdims=True))
    return np.asarray(centred / np.where(lengths > 0, lengths, 1.0))
