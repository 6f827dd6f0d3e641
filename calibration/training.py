"""Fits the decoders of all layers to the samples of all runs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.decoders.ridge import PENALTIES_PER_VOXEL, DualRidge, LeaveOneRunOut, fit_layers
from calibration.decoders.settings import DecoderSettings
from calibration.preparation import Report
from calibration.samples import RunSamples
from rtgod.decoding import Decoder, LayerDecoder
from rtgod.errors import InputError
from rtgod.messages import Float32Array, Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """Decoders of all layers.

    Attributes
    ----------
    patterns : ndarray of shape (n_samples, n_voxels), float32
        Training samples, z-scored with `voxel_mean` and `voxel_sd`.
    voxel_mean, voxel_sd : ndarray of shape (n_voxels,), float32
    layers : mapping of str to LayerDecoder
    penalties : mapping of str to float
    held_out : mapping of str to ndarray of shape (n_samples, n_units), float64
        Each sample's prediction from the runs that it is not part of.
    """

    patterns: Float32Array
    voxel_mean: Float32Array
    voxel_sd: Float32Array
    layers: Mapping[str, LayerDecoder]
    penalties: Mapping[str, float]
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
        `ridge` chooses each layer's penalty by leaving one run out at a time.
    report : callable
        Told (stage, steps done, steps in all).

    Raises
    ------
    InputError
        With fewer than two runs, or values that are not finite.
    """
    if decoder.name != "ridge":
        raise InputError(f"decoder {decoder.name}: cannot be trained yet; use ridge")
    _check(X, runs, Y)
    X = X.astype(np.float64)
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
        layers={layer: _layer_decoder(model) for layer, model in models.items()},
        penalties=penalties,
        held_out=held_out,
    )


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


def _layer_decoder(model: DualRidge) -> LayerDecoder:
    return LayerDecoder(
        dual=np.ascontiguousarray(model.dual_coef_.T, np.float32),
        unit_mean=model.y_mean_.astype(np.float32),
        unit_sd=model.y_scale_.astype(np.float32),
    )
