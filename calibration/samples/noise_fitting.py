"""Learn the noise that is removed from patterns: its spatial shape, and the voxels that it is read from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from calibration.datasets.masks import in_head
from calibration.datasets.runs import RunFiles
from calibration.samples.runs import settled
from rtgod.errors import InputError
from rtgod.messages import Float32Array, Float64Array, Int32Array
from rtgod.preprocessing.alignment import Aligned, Aligner, Reference
from rtgod.preprocessing.noise_model import NoiseComponents, NoiseCovariance
from rtgod.preprocessing.stopwatch import Stopwatch
from rtgod.settings import NoiseSettings, PipelineSettings

#: Number of a run's volumes that judge each voxel's noise, and share of the brain's voxels taken as the noisiest.
_JUDGED_VOLUMES = 60
_NOISIEST = 0.02
#: Above this size a randomised algorithm finds the singular vectors; it is exact enough for the leading ones.
_EXACT_SIZE = 1000
#: Iterations of that algorithm: for a bundle, and for each fold of a cross-validation, which needs fewer digits.
ITERATIONS, ITERATIONS_OF_FOLDS = 7, 2


def learn_shape(
    residuals: Sequence[Float32Array], settings: NoiseSettings, n_iterations: int = ITERATIONS
) -> NoiseCovariance:
    """Fit a factor model of spatial noise: probabilistic principal components (Tipping & Bishop 1999).

    Parameters
    ----------
    residuals : sequence of ndarray of shape (n_volumes, n_voxels), float32
        Noise in each run's clean volumes.
    settings : NoiseSettings
        Number of components and the ridge; a small number of volumes or voxels lowers the number of components.
    n_iterations : int
        Power iterations by which the components of many volumes and voxels are found.

    Returns
    -------
    NoiseCovariance
        Each component is scaled by the root of (remaining variance + ridge) over (its variance + ridge): this whitens,
        and more strongly for a smaller ridge.
    """
    noise, sd = _in_units_of_sd(residuals)
    n_components = min(settings.n_components, *(size - 1 for size in noise.shape))
    variance, components = _principal(noise, n_components, n_iterations)
    n_voxels = noise.shape[1]
    # In units of the standard deviation the voxels' variances add up to the number of voxels.
    remaining_variance = max((n_voxels - variance.sum()) / (n_voxels - n_components), 1e-6)
    ridge = settings.ridge * remaining_variance
    shrinkage = np.sqrt((remaining_variance + ridge) / (np.maximum(variance, remaining_variance) + ridge))
    return NoiseCovariance(sd.astype(np.float32), components.astype(np.float32), shrinkage.astype(np.float32))


def learn_courses(voxels: Int32Array, residuals: Sequence[Float32Array], n_components: int) -> NoiseComponents:
    """Find the components that noise voxels have in common (Behzadi et al. 2007).

    Parameters
    ----------
    voxels : ndarray of shape (n_noise_voxels, 3), int32
    residuals : sequence of ndarray of shape (n_volumes, n_noise_voxels), float32
    n_components : int

    Raises
    ------
    InputError
        If there are no more voxels or volumes than components.
    """
    noise, sd = _in_units_of_sd(residuals)
    if n_components >= min(noise.shape):
        raise InputError(
            f"{noise.shape[1]} noise voxels in {noise.shape[0]} volumes are too few for {n_components} components; "
            "set nuisance.n_components lower"
        )
    variance, components = _principal(noise, n_components)
    loadings = components / sd / np.sqrt(variance)[:, np.newaxis]
    return NoiseComponents(voxels, loadings.astype(np.float32))


def noisiest_voxels(files: RunFiles, reference: Reference, settings: PipelineSettings) -> Int32Array:
    """Find the brain's voxels whose signal varies most from volume to volume, apart from the decoder's (tCompCor).

    Parameters
    ----------
    files : RunFiles
    reference : Reference
    settings : PipelineSettings

    Returns
    -------
    ndarray of shape (n_noise_voxels, 3), int32

    Raises
    ------
    InputError
        If fewer than three volumes can be aligned.
    """
    source = files.open(settings.events)
    outside_decoder = in_head(reference.template)
    outside_decoder[tuple(reference.voxels.T)] = False
    voxels = np.argwhere(outside_decoder).astype(np.int32)
    aligner = Aligner(reference._replace(voxels=voxels), source.run, settings.motion, settings.sampling)
    steps = (aligner.align(volume, Stopwatch()) for volume in settled(source, settings, _JUDGED_VOLUMES))
    values = np.array([aligned.decoder_values for aligned in steps if isinstance(aligned, Aligned)])
    if len(values) < 3:
        raise InputError(f"{files.bold}: too few volumes to find its noisiest voxels; give them with --noise-mask")
    change = np.diff(values, axis=0) / reference.template[tuple(voxels.T)]
    spread = np.nan_to_num(change).std(axis=0)
    n_noisiest = max(1, round(_NOISIEST * len(voxels)))
    return voxels[np.sort(np.argsort(-spread, kind="stable")[:n_noisiest])]


def _in_units_of_sd(residuals: Sequence[Float32Array]) -> tuple[Float64Array, Float64Array]:
    noise = np.concatenate(residuals).astype(np.float64)
    sd = np.sqrt(np.square(noise).mean(axis=0))
    # A voxel that never varies has no noise to scale by.
    sd[sd <= 1e-12 * max(float(sd.max(initial=0.0)), 1.0)] = 1.0
    return noise / sd, sd


def _principal(
    noise: Float64Array, n_components: int, n_iterations: int = ITERATIONS
) -> tuple[Float64Array, Float64Array]:
    """Return variances (n_components,) along the leading directions and those directions, (n_components, n_voxels)."""
    # Imported here, because it takes a second to load and most processes never learn noise.
    from sklearn.utils.extmath import randomized_svd

    # On one thread: the rounding of BLAS depends on how threads share the work, but patterns must be the same
    # everywhere.
    with threadpool_limits(1, user_api="blas"):
        if min(noise.shape) <= _EXACT_SIZE:
            _, singular, components = np.linalg.svd(noise, full_matrices=False)
        else:
            # The algorithm is exact to a few digits only, so single precision suffices, in half the time.
            single = noise.astype(np.float32)
            _, singular, components = randomized_svd(single, n_components, n_iter=n_iterations, random_state=0)
    return singular[:n_components].astype(np.float64) ** 2 / len(noise), components[:n_components].astype(np.float64)
