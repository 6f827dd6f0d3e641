"""Responses of the simulated visual cortex: layers of a network to voxels, with delays that depend on the layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.simulation.head import REGIONS
from calibration.simulation.settings import TuningSettings
from rtgod.messages import Float32Array, Float64Array

#: Place of each region in the hierarchy of layers: 0 is the network's first layer, 1 its last.
HIERARCHY: Mapping[str, float] = {
    "V1": 0.0,
    "V2": 0.15,
    "V3": 0.3,
    "V4": 0.45,
    "LOC": 0.75,
    "FFA": 0.95,
    "PPA": 0.9,
}
#: Standard deviation of a region's reach up and down the hierarchy.
_SPREAD = 0.17


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """Tuning of each voxel: its weights on the units of each layer.

    Attributes
    ----------
    weights : mapping of str to ndarray of shape (n_units, n_voxels), float32
        Weights on z-scored units; each layer's response to the training images has variance 1.
    mix : ndarray of shape (n_layers, n_voxels), float32
        Standard deviation that each layer contributes to the voxel, in percent signal change.
    unit_mean, unit_sd : mapping of str to ndarray of shape (n_units,), float32
    evoked : ndarray of shape (n_voxels,), float32
        Response to any image, in percent signal change.
    """

    weights: Mapping[str, Float32Array]
    mix: Float32Array
    unit_mean: Mapping[str, Float32Array]
    unit_sd: Mapping[str, Float32Array]
    evoked: Float32Array

    def amplitudes(self, features: Mapping[str, Float32Array]) -> Float32Array:
        """Return the response to images minus the response to any image: (n_layers, n_images, n_voxels), float32.

        Parameters
        ----------
        features : mapping of str to ndarray of shape (n_images, n_units), float32
        """
        layers = [
            ((features[name] - self.unit_mean[name]) / self.unit_sd[name]) @ weights
            for name, weights in self.weights.items()
        ]
        return np.stack(layers).astype(np.float32) * self.mix[:, np.newaxis, :]


def make_tuning(
    training: Mapping[str, Float32Array], regions: Sequence[int], settings: TuningSettings, rng: np.random.Generator
) -> Tuning:
    """Draw a tuning for every voxel.

    Parameters
    ----------
    training : mapping of str to ndarray of shape (n_images, n_units), float32
        Features of the training images, with layers from low to high.
    regions : sequence of int
        Each voxel's region: 1 for the first of `REGIONS`.
    settings : TuningSettings
    rng : numpy.random.Generator

    Returns
    -------
    Tuning
    """
    n_voxels = len(regions)
    unit_mean = {name: values.mean(axis=0) for name, values in training.items()}
    # A unit with one value for all images carries no information: dividing by 1 leaves it 0.
    unit_sd = {name: _without_zeros(values.std(axis=0)) for name, values in training.items()}
    weights = {}
    for name, values in training.items():
        drawn = rng.standard_normal((values.shape[1], n_voxels)).astype(np.float32)
        response = ((values - unit_mean[name]) / unit_sd[name]) @ drawn
        weights[name] = (drawn / _without_zeros(response.std(axis=0))).astype(np.float32)
    position = np.array([HIERARCHY[REGIONS[region - 1]] for region in regions])
    layer_position = np.linspace(0, 1, len(training))[:, np.newaxis]
    share = np.exp(-0.5 * ((layer_position - position) / _SPREAD) ** 2) * rng.gamma(2.0, size=(len(training), n_voxels))
    # Voxels differ in overall strength: some sit at a vein, some hold little cortex.
    strength = settings.effect_percent * rng.lognormal(-0.125, 0.5, n_voxels)
    mix = (np.sqrt(share / share.sum(axis=0)) * strength).astype(np.float32)
    evoked = (settings.evoked_percent * rng.lognormal(-0.125, 0.5, n_voxels)).astype(np.float32)
    return Tuning(weights, mix, unit_mean, unit_sd, evoked)


def layer_delays_s(n_layers: int, lag_s: float) -> Float64Array:
    """Return the start of each layer's response in seconds, low to high; the highest layer leads.

    Parameters
    ----------
    n_layers : int
    lag_s : float
        Delay of the lowest layer's response after the highest layer's.
    """
    return np.linspace(lag_s, 0.0, n_layers)


def _without_zeros(values: Float32Array) -> Float32Array:
    return np.where(values > 1e-6, values, 1.0).astype(np.float32)
