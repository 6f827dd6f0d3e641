"""Fits the decoders of all layers to the samples of all runs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import GroupKFold

from calibration.decoders.columns import column_moments
from calibration.decoders.registry import make_decoder
from calibration.decoders.ridge import PENALTIES_PER_VOXEL, DualRidge, LeaveOneRunOut, fit_layers
from calibration.decoders.settings import DecoderSettings
from calibration.decoders.sparse import SparseDecoder
from calibration.preparation import Report
from calibration.samples import RunSamples
from rtgod.decoding import AnyLayerDecoder, Decoder, LayerDecoder, SparseLayerDecoder
from rtgod.errors import InputError
from rtgod.messages import Float32Array, Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """Decoders of all layers.

    Attributes
    ----------
    patterns : ndarray of shape (n_samples, n_voxels), float32
        Training samples, z-scored with `voxel_mean` and `voxel_sd`; none (0, n_voxels) if the layers are sparse.
    voxel_mean, voxel_sd : ndarray of shape (n_voxels,), float32
    layers : mapping of str to LayerDecoder or SparseLayerDecoder
    penalties : mapping of str to float or None
        None where each voxel has its own.
    held_out : mapping of str to ndarray of shape (n_samples, n_units), float64
        Each sample's prediction from runs that it is not part of; empty if no run was left out.
    """

    patterns: Float32Array
    voxel_mean: Float32Array
    voxel_sd: Float32Array
    layers: Mapping[str, AnyLayerDecoder]
    penalties: Mapping[str, float | None]
    held_out: Mapping[str, Float64Array]

    def decoder(self) -> Decoder:
        """The decoder over all layers, as the server uses it."""
        return Decoder(self.patterns, self.voxel_mean, self.voxel_sd, self.layers)


def train(
    X: Float32Array,
    runs: Sequence[Hashable],
    Y: Mapping[str, Float32Array],
    decoder: DecoderSettings,
    report: Report,
) -> Trained:
    """Fit each layer's decoder to all samples, and predict each run from others.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels), float32
    runs : sequence of length n_samples
        The run that each sample comes from.
    Y : mapping of str to ndarray of shape (n_samples, n_units), float32
        Features of what each sample's trial showed, per layer.
    decoder : DecoderSettings
    report : callable
        Told (stage, steps done, steps in all).

    Raises
    ------
    InputError
        With fewer than two runs, or values that are not finite.
    """
    _check(X, runs, Y)
    way = _train_ridge if decoder.name == "ridge" else _train_sparse
    return way(X.astype(np.float64), runs, Y, decoder, report)


def stacked(samples: Sequence[RunSamples]) -> tuple[Float32Array, list[str]]:
    """All runs' samples, (n_samples, n_voxels), and the run that each comes from."""
    X = np.concatenate([run.values for run in samples])
    return X, [run.run.run_id for run in samples for _ in run.trials]


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
    X: Float64Array, runs: Sequence[Hashable], Y: Mapping[str, Float32Array], _: DecoderSettings, report: Report
) -> Trained:
    """Choose each layer's penalty by leaving one run out at a time, in closed form."""
    report("fitting", 0, len(Y))
    folds = LeaveOneRunOut(X, runs)
    grid = [penalty * X.shape[1] for penalty in PENALTIES_PER_VOXEL]
    penalties, held_out = {}, {}
    for done, (layer, values) in enumerate(Y.items(), 1):
        penalties[layer], _ = folds.choose(values, grid)
        held_out[layer] = folds.predict(values, penalties[layer])
        report("fitting", done, len(Y))
    models = fit_layers(X, Y, penalties)
    some = next(iter(models.values()))
    return Trained(
        patterns=some.X_fit_.astype(np.float32),
        voxel_mean=some.x_mean_.astype(np.float32),
        voxel_sd=some.x_scale_.astype(np.float32),
        layers={layer: _dual_layer(model) for layer, model in models.items()},
        penalties=penalties,
        held_out=held_out,
    )


def _train_sparse(
    X: Float64Array,
    runs: Sequence[Hashable],
    Y: Mapping[str, Float32Array],
    decoder: DecoderSettings,
    report: Report,
) -> Trained:
    """Leave out groups of runs in turn, then fit to all of them."""
    n_folds = min(decoder.n_folds, len(set(runs)))
    folds = list(GroupKFold(n_folds).split(X, groups=_numbered(runs))) if n_folds else []
    n_fits = len(Y) * (n_folds + 1)
    report("fitting", 0, n_fits)
    model, done = make_decoder(decoder), 0
    layers, held_out = {}, {}
    for layer, values in Y.items():
        if folds:
            held_out[layer] = np.empty(values.shape)
        for kept, left_out in folds:
            held_out[layer][left_out] = model.fit(X[kept], values[kept]).predict(X[left_out])
            report("fitting", done := done + 1, n_fits)
        layers[layer] = _sparse_layer(model.fit(X, values))
        report("fitting", done := done + 1, n_fits)
    voxel_mean, voxel_sd = column_moments(X)
    return Trained(
        patterns=np.empty((0, X.shape[1]), np.float32),
        voxel_mean=voxel_mean.astype(np.float32),
        voxel_sd=voxel_sd.astype(np.float32),
        layers=layers,
        penalties=dict.fromkeys(Y, model.get_params().get("alpha")),
        held_out=held_out,
    )


def _numbered(runs: Sequence[Hashable]) -> list[int]:
    """Runs by number, in order of appearance: names of any kind cannot always be sorted."""
    numbers = {run: number for number, run in enumerate(dict.fromkeys(runs))}
    return [numbers[run] for run in runs]


def _dual_layer(model: DualRidge) -> LayerDecoder:
    return LayerDecoder(
        dual=np.ascontiguousarray(model.dual_coef_.T, np.float32),
        unit_mean=model.y_mean_.astype(np.float32),
        unit_sd=model.y_scale_.astype(np.float32),
    )


def _sparse_layer(model: SparseDecoder) -> SparseLayerDecoder:
    return SparseLayerDecoder(
        starts=model.coef_.indptr.astype(np.int32),
        voxels=model.coef_.indices.astype(np.int32),
        weights=model.coef_.data.astype(np.float32),
        unit_mean=model.y_mean_.astype(np.float32),
        unit_sd=model.y_scale_.astype(np.float32),
    )
