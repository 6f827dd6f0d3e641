"""Tuning of the simulated visual cortex: layers of a network to voxels, smooth over each region and of a set rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from calibration.metrics.effective_rank import effective_rank
from calibration.simulation.fields import smoothing_of
from calibration.simulation.head import REGIONS, Head
from calibration.simulation.response import HIERARCHY
from calibration.simulation.settings import SubjectSettings, TuningSettings
from rtgod.errors import InputError
from rtgod.messages import Float32Array, Float64Array, Int32Array

#: Standard deviation of a region's reach up and down the hierarchy, and of the logarithm of each layer's share.
_SPREAD, _SHARE_SD = 0.17, 0.7
#: Number of axes of ongoing activity: with the default rank these have nearly all of the responses' variance.
_MOST_AXES = 100
#: Components of a layer whose standard deviation is below this share of the first's are left out: they are rounding.
_NEGLIGIBLE = 1e-3
#: Share of the strongest contribution below which a layer is left out of the search for a region's rank; and how exact
#: the exponent is that is searched for: to a percent of the rank.
_HARDLY, _PRECISE = 0.03, 0.01
#: Exponents by which the variances of components may fall with their number; and to how many images the search for the
#: exponent is limited, for speed.
_STEEPEST, _MOST_IMAGES = 8.0, 1200


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """Tuning of each voxel: its weights on the units of each layer, and the course of its response.

    Attributes
    ----------
    weights : mapping of str to ndarray of shape (n_units, n_voxels), float32
        Weights on z-scored units in seeing; each layer's response to the training images has variance 1.
    imagery_weights : mapping of str to ndarray of shape (n_units, n_voxels), float32
        Weights in imagery, of the same variance.
    mix : ndarray of shape (n_layers, n_voxels), float32
        Standard deviation that each layer contributes to the voxel, in percent signal change.
    unit_mean, unit_sd : mapping of str to ndarray of shape (n_units,), float32
    evoked : ndarray of shape (n_voxels,), float32
        Response to any image, in percent signal change.
    hrf : ndarray of shape (n_voxels, 3), float32
        Peak and undershoot of the response to a brief event, in seconds, and the undershoot's share; one for a region.
    ongoing : ndarray of shape (n_axes, n_voxels), float32
        Axes along which responses to images vary, with which activity goes on as well; percent signal change.
    """

    weights: Mapping[str, Float32Array]
    imagery_weights: Mapping[str, Float32Array]
    mix: Float32Array
    unit_mean: Mapping[str, Float32Array]
    unit_sd: Mapping[str, Float32Array]
    evoked: Float32Array
    hrf: Float32Array
    ongoing: Float32Array

    def amplitudes(self, features: Mapping[str, Float32Array], *, imagined: bool = False) -> Float32Array:
        """Return the response to images minus the response to any image: (n_layers, n_images, n_voxels), float32.

        Parameters
        ----------
        features : mapping of str to ndarray of shape (n_images, n_units), float32
        imagined : bool
            Whether the weights in imagery are used.
        """
        layers = [
            ((features[name] - self.unit_mean[name]) / self.unit_sd[name]) @ weights
            for name, weights in (self.imagery_weights if imagined else self.weights).items()
        ]
        return np.stack(layers).astype(np.float32) * self.mix[:, np.newaxis, :]

    def shuffled(self, rng: np.random.Generator) -> Tuning:
        """Return the tuning of voxels that have changed places over all regions.

        Parameters
        ----------
        rng : numpy.random.Generator
        """
        places = rng.permutation(len(self.evoked))
        return replace(
            self,
            weights={name: weights[:, places] for name, weights in self.weights.items()},
            imagery_weights={name: weights[:, places] for name, weights in self.imagery_weights.items()},
            mix=self.mix[:, places],
            evoked=self.evoked[places],
            hrf=self.hrf[places],
            ongoing=self.ongoing[:, places],
        )


def subject_tuning(
    training: Mapping[str, Float32Array],
    head: Head,
    voxels: Int32Array,
    settings: SubjectSettings,
    rng: np.random.Generator,
) -> Tuning:
    """Draw the tuning of a subject's visual cortex; over shuffled areas, voxels have changed places.

    Parameters
    ----------
    training : mapping of str to ndarray of shape (n_images, n_units), float32
        Features of the training images, with layers from low to high.
    head : Head
    voxels : ndarray of shape (n_voxels, 3), int32
        Voxels of its regions.
    settings : SubjectSettings
    rng : numpy.random.Generator

    Raises
    ------
    InputError
        If a region's responses cannot have the effective rank that is set.
    """
    positions_mm = voxels @ head.affine[:3, :3].T + head.affine[:3, 3]
    tuning = make_tuning(training, head.regions[tuple(voxels.T)], positions_mm, settings.response_in_force, rng)
    return tuning.shuffled(rng) if settings.null == "shuffled-areas" else tuning


def make_tuning(
    training: Mapping[str, Float32Array],
    regions: Sequence[int],
    positions_mm: Float64Array,
    settings: TuningSettings,
    rng: np.random.Generator,
) -> Tuning:
    """Draw a tuning for every voxel.

    Parameters
    ----------
    training : mapping of str to ndarray of shape (n_images, n_units), float32
        Features of the training images, with layers from low to high.
    regions : sequence of int
        Each voxel's region: 1 for the first of `REGIONS`.
    positions_mm : ndarray of shape (n_voxels, 3), float64
        Place of each voxel.
    settings : TuningSettings
    rng : numpy.random.Generator

    Returns
    -------
    Tuning

    Raises
    ------
    InputError
        If a region's responses cannot have the effective rank that is set.
    """
    n_voxels, labels = len(regions), np.asarray(regions)
    unit_mean = {name: values.mean(axis=0) for name, values in training.items()}
    # A unit with one value for all images carries no information: dividing by 1 leaves it 0.
    unit_sd = {name: _without_zeros(values.std(axis=0)) for name, values in training.items()}
    components = {name: _Components.of((values - unit_mean[name]) / unit_sd[name]) for name, values in training.items()}
    seeing, imagery = (
        {name: np.zeros((values.shape[1], n_voxels), np.float32) for name, values in training.items()} for _ in range(2)
    )
    # Voxels differ in overall strength: some sit at a vein, some hold little cortex.
    strength = rng.lognormal(-0.125, 0.5, n_voxels)
    mix = np.zeros((len(training), n_voxels), np.float32)
    hrf = np.zeros((n_voxels, 3), np.float32)
    for label in np.unique(labels):
        members = labels == label
        region = _Region(REGIONS[label - 1], components, smoothing_of(positions_mm[members], settings.tuning_fwhm_mm))
        mix[:, members] = region.shares(rng) * strength[members]
        loadings, other = region.loadings(rng), region.loadings(rng)
        for name, weights in region.weights(loadings, mix[:, members], settings.effective_rank).items():
            seeing[name][:, members] = weights
        share = np.float32(settings.imagery_other_share)
        mixed = {name: np.sqrt(1 - share) * loadings[name] + np.sqrt(share) * other[name] for name in loadings}
        for name, weights in region.weights(mixed, mix[:, members], settings.imagery_rank).items():
            imagery[name][:, members] = weights
        hrf[members] = _draw_hrf(settings, rng)
    evoked = (settings.evoked_percent * rng.lognormal(-0.125, 0.5, n_voxels)).astype(np.float32)
    mix *= np.float32(settings.effect_percent)
    tuning = Tuning(seeing, imagery, mix, unit_mean, unit_sd, evoked, hrf, np.zeros((0, n_voxels), np.float32))
    return replace(tuning, ongoing=np.float32(settings.ongoing) * _axes_of(tuning.amplitudes(training).sum(axis=0)))


@dataclass(frozen=True, slots=True, eq=False)
class _Components:
    """Principal components of a layer's z-scored units over the training images, each of variance 1.

    `scores` (n_images, n_components) are z-scored units times `weights` (n_units, n_components).
    """

    scores: Float32Array
    weights: Float32Array

    @classmethod
    def of(cls, z: Float32Array) -> _Components:
        _, singular, axes = np.linalg.svd(z.astype(np.float64), full_matrices=False)
        kept = singular > _NEGLIGIBLE * singular[0]
        weights = (axes[kept].T / singular[kept] * np.sqrt(len(z))).astype(np.float32)
        return cls(z[:_MOST_IMAGES] @ weights, weights)


class _Region:
    """Region whose voxels respond to mixtures of the layers' components.

    Parameters
    ----------
    name : str
    components : mapping of str to _Components
        Layers from low to high.
    smoothing : ndarray of shape (n_voxels, n_voxels), float32
        From `smoothing_of`.
    """

    def __init__(self, name: str, components: Mapping[str, _Components], smoothing: Float32Array) -> None:
        self._name = name
        self._components = components
        self._smoothing = smoothing

    def shares(self, rng: np.random.Generator) -> Float32Array:
        """Draw the standard deviation that each layer contributes, (n_layers, n_voxels); squares add up to 1."""
        position = np.linspace(0, 1, len(self._components))[:, np.newaxis]
        near = np.exp(-0.5 * ((position - HIERARCHY[self._name]) / _SPREAD) ** 2)
        share = near * np.exp(_SHARE_SD * self._draw(len(self._components), rng))
        return np.sqrt(share / share.sum(axis=0)).astype(np.float32)

    def loadings(self, rng: np.random.Generator) -> dict[str, Float32Array]:
        """Draw how strongly each voxel follows each component: per layer, (n_components, n_voxels)."""
        return {name: self._draw(layer.weights.shape[1], rng) for name, layer in self._components.items()}

    def weights(self, loadings: Mapping[str, Float32Array], mix: Float32Array, rank: float) -> dict[str, Float32Array]:
        """Return weights on z-scored units, per layer (n_units, n_voxels), whose responses have an effective rank.

        The variance of component k falls as k to the power of −e; the exponent e is searched for.
        """
        # Layers that hardly count would take as long as the others.
        heard = [
            (layer.scores, loadings[name], row)
            for (name, layer), row in zip(self._components.items(), mix, strict=True)
            if row.max() > _HARDLY * mix.max()
        ]

        def missing(exponent: float) -> float:
            responses = [self._scaled(scores, loading, exponent) * row for scores, loading, row in heard]
            return effective_rank(np.sum(responses, axis=0)) - rank

        highest, lowest = missing(0.0), missing(_STEEPEST)
        if not lowest <= 0 <= highest:
            raise InputError(
                f"responses of {self._name} ({len(self._smoothing)} voxels) can have an effective rank of "
                f"{lowest + rank:.3g} to {highest + rank:.3g}, not {rank:g}; set response.effective_rank and "
                "response.imagery_rank within that, or for more choose a lower response.tuning_fwhm_mm or more "
                "training images"
            )
        exponent = brentq(missing, 0.0, _STEEPEST, xtol=_PRECISE)
        return {
            name: self._scaled(layer.scores, loadings[name], exponent, layer.weights)
            for name, layer in self._components.items()
        }

    @staticmethod
    def _scaled(
        scores: Float32Array, loadings: Float32Array, exponent: float, weights: Float32Array | None = None
    ) -> Float32Array:
        """Return responses (n_images, n_voxels) of variance 1, or with `weights` those of units that give them."""
        falling = np.arange(1, len(loadings) + 1, dtype=np.float32)[:, np.newaxis] ** np.float32(-exponent / 2)
        mixture = falling * loadings
        # Components are uncorrelated and of variance 1, so that variances over images add up.
        mixture /= np.linalg.norm(mixture, axis=0)
        return (scores if weights is None else weights) @ mixture

    def _draw(self, n: int, rng: np.random.Generator) -> Float32Array:
        return rng.standard_normal((n, len(self._smoothing)), np.float32) @ self._smoothing


def _axes_of(responses: Float32Array) -> Float32Array:
    """Return axes (n_axes, n_voxels), whose mixtures with random weights of variance 1 vary as the responses do."""
    _, singular, axes = np.linalg.svd(responses - responses.mean(axis=0), full_matrices=False)
    return (axes * singular[:, np.newaxis])[:_MOST_AXES] / np.float32(np.sqrt(len(responses)))


def _draw_hrf(settings: TuningSettings, rng: np.random.Generator) -> Float64Array:
    """Draw a region's peak and undershoot in seconds, and its undershoot's share."""
    # A peak before a second is no haemodynamic response.
    peak_s = max(settings.hrf_peak_s + settings.hrf_region_sd_s * rng.standard_normal(), 1.0)
    ratio = settings.hrf_ratio * np.exp(settings.hrf_ratio_sd * rng.standard_normal())
    return np.array([peak_s, settings.hrf_undershoot_s + peak_s - settings.hrf_peak_s, min(ratio, 0.9)])


def _without_zeros(values: Float32Array) -> Float32Array:
    return np.where(values > 1e-6, values, 1.0).astype(np.float32)
