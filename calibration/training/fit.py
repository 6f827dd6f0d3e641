"""Fit the decoders of all layers to the samples of all runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GroupKFold

from calibration.decoders.columns import column_moments
from calibration.decoders.indicators import IndicatorDecoder
from calibration.decoders.registry import QUICK, AnyDecoder, make_decoder
from calibration.decoders.ridge import PENALTIES_PER_VOXEL, DualRidge, LeaveOneRunOut, fit_layers, predict_layers
from calibration.decoders.settings import DecoderSettings
from calibration.parallel.progress import Report
from calibration.training.penalty_choice import Edge, edge_of
from rtgod.decoding.decoder import (
    AnyLayerDecoder,
    Decoder,
    DenseLayerDecoder,
    LayerDecoder,
    SparseLayerDecoder,
    is_dense_better,
)
from rtgod.errors import InputError
from rtgod.messages import Float32Array, Float64Array

#: Gives the training samples, shape (n_samples, n_voxels), as they are made without knowledge of some runs.
Without = Callable[[Collection[Hashable]], Float32Array]
#: Most groups of runs that quick decoders leave out in turn; with no more runs than this, each is left out alone.
_MOST_GROUPS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """Decoders of all layers, and their predictions of runs left out.

    Attributes
    ----------
    patterns : ndarray of shape (n_samples, n_voxels), float32
        Training samples, z-scored with `voxel_mean` and `voxel_sd`; empty, (0, n_voxels), if no layer is in dual form.
    voxel_mean, voxel_sd : ndarray of shape (n_voxels,), float32
    layers : mapping of str to LayerDecoder, DenseLayerDecoder or SparseLayerDecoder
    penalties : mapping of str to float or None
        Penalty of each layer; None if each voxel has its own.
    held_out : mapping of str to ndarray of shape (n_samples, n_units), float64
        Each sample's prediction from runs other than its own, by which it was not whitened or scaled either; empty if
        no run was left out.
    edges : mapping of str to {"smallest", "largest"}
        Layers whose penalty is the smallest or the largest that was tried.
    """

    patterns: Float32Array
    voxel_mean: Float32Array
    voxel_sd: Float32Array
    layers: Mapping[str, AnyLayerDecoder]
    penalties: Mapping[str, float | None]
    held_out: Mapping[str, Float64Array]
    edges: Mapping[str, Edge] = field(default_factory=dict)

    def decoder(self) -> Decoder:
        """Return the decoder over all layers, as the server uses it."""
        return Decoder(self.patterns, self.voxel_mean, self.voxel_sd, self.layers)


def train(
    X: Float32Array,
    runs: Sequence[Hashable],
    Y: Mapping[str, Float32Array],
    decoder: DecoderSettings,
    report: Report,
    pool: Executor | None = None,
    *,
    penalty_groups: Sequence[Hashable] | None = None,
    without: Without | None = None,
) -> Trained:
    """Fit each layer's decoder to all samples, and predict each run from other runs if asked to.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels), float32
    runs : sequence of length n_samples
        The run that each sample comes from.
    Y : mapping of str to ndarray of shape (n_samples, n_units), float32
        Features, per layer, of the image or category that each sample's trial showed.
    decoder : DecoderSettings
    report : callable
        Called with (stage, steps done, steps in all).
    pool : Executor, optional
        Executor from `workers` for decoders that take long, by default this process. `ridge` fits faster than it is
        sent.
    penalty_groups : sequence of length n_samples, optional
        The group that each sample is left out with when `ridge` chooses penalties; by default its run. Samples are
        then whitened and scaled as in `X`, which knows the group's noise and scale, and not its labels.
    without : callable, optional
        Gives the samples as they are made without knowledge of some runs; with it, left-out runs are predicted.

    Raises
    ------
    InputError
        If there are fewer than two runs, or values that are not finite.
    """
    _check(X, runs, Y)
    if decoder.name == "ridge":
        return _train_ridge(X.astype(np.float64), runs, Y, report, penalty_groups or runs, without)
    return _train_sparse(X, runs, Y, decoder, report, pool.map if pool else map, without)


def _check(X: Float32Array, runs: Sequence[Hashable], Y: Mapping[str, Float32Array]) -> None:
    if len(set(runs)) < 2:
        raise InputError(
            f"all {len(runs)} samples are of one run: how well a decoder does shows on runs that it was not trained "
            "on, so calibrate on at least two"
        )
    arrays = {"voxels": X} | {f"features of layer {layer}": values for layer, values in Y.items()}
    for name, values in arrays.items():
        if n_bad := int(np.count_nonzero(~np.isfinite(values))):
            raise InputError(f"{name}: {n_bad} of {values.size} values are not finite; leave out what they come from")


def _train_ridge(
    X: Float64Array,
    runs: Sequence[Hashable],
    Y: Mapping[str, Float32Array],
    report: Report,
    penalty_groups: Sequence[Hashable],
    without: Without | None,
) -> Trained:
    """Choose each layer's penalty in closed form, by leaving out one group at a time."""
    left_out = left_out_rows(runs, _MOST_GROUPS) if without else []
    n_steps = len(Y) + len(left_out)
    report("fitting", 0, n_steps)
    folds = LeaveOneRunOut(X, penalty_groups)
    grid = [penalty * X.shape[1] for penalty in PENALTIES_PER_VOXEL]
    penalties = {}
    for done, (layer, values) in enumerate(Y.items(), 1):
        penalties[layer], _ = folds.choose(values, grid)
        report("fitting", done, n_steps)
    held_out = {layer: np.empty(values.shape) for layer, values in Y.items() if without}
    for done, rows in enumerate(left_out, len(Y) + 1):
        for layer, predicted in _predict_ridge(rows, runs, Y, penalties, without).items():
            held_out[layer][rows] = predicted
        report("fitting", done, n_steps)
    models = fit_layers(X, Y, penalties)
    any_model = next(iter(models.values()))
    is_dense = is_dense_better(X.shape[0], X.shape[1], sum(values.shape[1] for values in Y.values()))
    return Trained(
        patterns=any_model.X_fit_.astype(np.float32)[: 0 if is_dense else None],
        voxel_mean=any_model.x_mean_.astype(np.float32),
        voxel_sd=any_model.x_scale_.astype(np.float32),
        layers={layer: _ridge_layer(model, is_dense=is_dense) for layer, model in models.items()},
        penalties=penalties,
        held_out=held_out,
        edges={layer: edge for layer, penalty in penalties.items() if (edge := edge_of(penalty, X.shape[1]))},
    )


def _predict_ridge(
    rows: npt.NDArray[np.int64],
    runs: Sequence[Hashable],
    Y: Mapping[str, Float32Array],
    penalties: Mapping[str, float],
    without: Without | None,
) -> dict[str, Float64Array]:
    """Predict some rows, which are all samples of some runs, from the others: whitened and scaled by these alone."""
    if without is None:
        raise AssertionError("runs are left out only if samples can be made without them")
    X = without({runs[row] for row in rows}).astype(np.float64)
    kept = np.setdiff1d(np.arange(len(X)), rows)
    models = fit_layers(X[kept], {layer: values[kept] for layer, values in Y.items()}, penalties)
    return predict_layers(models, X[rows])


def left_out_rows(runs: Sequence[Hashable], n_groups: int) -> list[npt.NDArray[np.int64]]:
    """Return the rows of each group of runs that is left out: as many groups as runs, or `n_groups` at most.

    Parameters
    ----------
    runs : sequence of length n_samples
        Run of each sample.
    n_groups : int
        Most groups; 0 leaves out none.
    """
    numbers = _numbered(runs)
    n_groups = min(n_groups, len(set(numbers)))
    return [rows for _, rows in GroupKFold(n_groups).split(numbers, groups=numbers)] if n_groups else []


def _train_sparse(
    X: Float32Array,
    runs: Sequence[Hashable],
    Y: Mapping[str, Float32Array],
    decoder: DecoderSettings,
    report: Report,
    each: Callable[..., Iterator[tuple[SparseLayerDecoder, Float64Array]]],
    without: Without | None,
) -> Trained:
    """Fit without each group of runs in turn, and last with all; `each` is `map` or a pool's `map`."""
    n_groups = _MOST_GROUPS if decoder.name in QUICK else decoder.n_folds
    left_out = left_out_rows(runs, n_groups) if without else []
    made = [(rows, without({runs[row] for row in rows})) for rows in left_out] if without else []
    fits = [(layer, rows, samples) for rows, samples in (*made, (np.empty(0, np.int64), X)) for layer in Y]
    layers, held_out = {}, {layer: np.empty(values.shape) for layer, values in Y.items() if left_out}
    fitted = each(
        _fit_sparse,
        repeat(decoder),
        (samples for *_, samples in fits),
        (Y[layer] for layer, *_ in fits),
        (rows for _, rows, _ in fits),
    )
    report("fitting", 0, len(fits))
    for done, ((layer, rows, _), (model, predicted)) in enumerate(zip(fits, fitted, strict=True), 1):
        if len(rows):
            held_out[layer][rows] = predicted
        else:
            layers[layer] = model
        report("fitting", done, len(fits))
    voxel_mean, voxel_sd = column_moments(X.astype(np.float64))
    return Trained(
        patterns=np.empty((0, X.shape[1]), np.float32),
        voxel_mean=voxel_mean.astype(np.float32),
        voxel_sd=voxel_sd.astype(np.float32),
        layers=layers,
        penalties=dict.fromkeys(Y, decoder.alpha if decoder.name == "ridge-select" else None),
        held_out=held_out,
    )


def _fit_sparse(
    decoder: DecoderSettings, X: Float32Array, Y: Float32Array, left_out: npt.NDArray[np.int64]
) -> tuple[SparseLayerDecoder, Float64Array]:
    """Fit a layer's decoder without some of the samples, and predict these."""
    X = X.astype(np.float64)
    kept_rows = np.setdiff1d(np.arange(len(X)), left_out)
    model = make_decoder(decoder).fit(X[kept_rows], Y[kept_rows])
    predicted = model.predict(X[left_out]) if len(left_out) else np.empty((0, Y.shape[1]))
    return _sparse_layer(model), predicted


def _numbered(runs: Sequence[Hashable]) -> list[int]:
    """Number runs in order of appearance, because names of mixed types cannot be sorted."""
    numbers = {run: number for number, run in enumerate(dict.fromkeys(runs))}
    return [numbers[run] for run in runs]


def _ridge_layer(model: DualRidge, *, is_dense: bool) -> LayerDecoder | DenseLayerDecoder:
    moments = model.y_mean_.astype(np.float32), model.y_scale_.astype(np.float32)
    if is_dense:
        return DenseLayerDecoder(np.ascontiguousarray(model.coef_.T, np.float32), *moments)
    return LayerDecoder(np.ascontiguousarray(model.dual_coef_.T, np.float32), *moments)


def _sparse_layer(model: AnyDecoder) -> SparseLayerDecoder:
    if isinstance(model, DualRidge):
        raise TypeError("weights of ridge on all voxels are dual, and no sparse layer")
    is_classifier = isinstance(model, IndicatorDecoder)
    weights: Any = model.coef_  # csr_array
    return SparseLayerDecoder(
        starts=weights.indptr.astype(np.int32),
        voxels=weights.indices.astype(np.int32),
        weights=weights.data.astype(np.float32),
        unit_mean=model.y_mean_.astype(np.float32),
        unit_sd=model.y_scale_.astype(np.float32),
        intercept=model.intercept_.astype(np.float32) if is_classifier else None,
    )
