"""Fits the decoders of all layers to the samples of all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.preparation import Report
from calibration.ridge import PENALTIES_PER_VOXEL, DualRidge, LeaveOneRunOut, fit_layers
from calibration.samples import RunSamples
from rtgod.decoding import Decoder, LayerDecoder
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


def train(samples: Sequence[RunSamples], Y: Mapping[str, Float32Array], report: Report) -> Trained:
    """Choose each layer's penalty by leaving one run out at a time, then fit to all of them.

    Parameters
    ----------
    samples : sequence of RunSamples
    Y : mapping of str to ndarray of shape (n_samples, n_units), float32
        Features of what each sample's trial showed, per layer.
    report : callable
        Told (stage, steps done, steps in all).

    Raises
    ------
    InputError
        With fewer than two runs.
    """
    X = np.concatenate([run.values for run in samples]).astype(np.float64)
    runs = [run.run.run_id for run in samples for _ in run.trials]
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


def _layer_decoder(model: DualRidge) -> LayerDecoder:
    return LayerDecoder(
        dual=np.ascontiguousarray(model.dual_coef_.T, np.float32),
        unit_mean=model.y_mean_.astype(np.float32),
        unit_sd=model.y_scale_.astype(np.float32),
    )
