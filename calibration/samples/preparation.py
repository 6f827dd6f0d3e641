"""Turn recorded runs into samples by the pipeline's front half, and learn the noise on the way."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import numpy as np

from calibration.datasets.masks import read_mask
from calibration.datasets.runs import RunFiles
from calibration.parallel.progress import Report, in_pool
from calibration.samples.noise_fitting import learn_courses, learn_shape, noisiest_voxels
from calibration.samples.runs import AlignedRun, RunSamples, align_run, noise_residuals, run_samples
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.noise_model import NoiseComponents, NoiseCovariance
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import PipelineSettings


def align_runs(
    runs: Sequence[RunFiles],
    reference: Reference,
    noise: Noise,
    settings: PipelineSettings,
    pool: Executor,
    report: Report,
) -> list[AlignedRun]:
    """Bring runs into the template's space.

    Parameters
    ----------
    runs : sequence of RunFiles
    reference : Reference
    noise : Noise
        Names voxels that are read beside those of the reference.
    settings : PipelineSettings
    pool : Executor
    report : callable
        Called with (stage, steps done, steps in all).
    """
    arguments = [(files, reference, noise, settings) for files in runs]
    return in_pool(pool, "aligning runs", report, align_run, arguments)


def noise_to_read(first: RunFiles, mask: Path | None, reference: Reference, settings: PipelineSettings) -> Noise:
    """Choose the voxels that noise components are read from, without loadings yet; none if no components are asked for.

    Parameters
    ----------
    first : RunFiles
        The run whose noisiest voxels are taken without a mask.
    mask : Path or None
        Mask of noise voxels in the space of that run.
    reference : Reference
    settings : PipelineSettings
    """
    if not settings.nuisance.n_components:
        return Noise()
    voxels = read_mask(mask, first.open(settings.events).run) if mask else noisiest_voxels(first, reference, settings)
    return Noise(courses=NoiseComponents(voxels, np.empty((0, len(voxels)), np.float32)))


def denoise_runs(
    aligned: Sequence[AlignedRun],
    reference: Reference,
    noise: Noise,
    settings: PipelineSettings,
    pool: Executor,
    report: Report,
) -> tuple[list[RunSamples], Noise]:
    """Denoise the runs to train on into samples, and learn the noise from them.

    Parameters
    ----------
    aligned : sequence of AlignedRun
    reference : Reference
    noise : Noise
        The voxels to read noise from, from `noise_to_read`.
    settings : PipelineSettings
    pool : Executor
    report : callable
        Called with (stage, steps done, steps in all).
    """
    noise = with_courses(aligned, noise, settings)
    arguments = [(run, reference, settings, noise) for run in aligned]
    return _shaped(in_pool(pool, "denoising runs", report, run_samples, arguments), noise, settings)


def prepare_runs(
    runs: Sequence[RunFiles],
    reference: Reference,
    noise: Noise,
    settings: PipelineSettings,
    pool: Executor,
    report: Report,
) -> tuple[list[RunSamples], Noise]:
    """Align and denoise runs; without noise components, the same process does both, so aligned runs are not copied.

    Parameters
    ----------
    runs : sequence of RunFiles
    reference, noise, settings, pool, report
        The same as in `align_runs` and `denoise_runs`.
    """
    if noise.courses:
        return denoise_runs(
            align_runs(runs, reference, noise, settings, pool, report), reference, noise, settings, pool, report
        )
    arguments = [(files, reference, settings, noise) for files in runs]
    return _shaped(in_pool(pool, "aligning and denoising runs", report, _prepare_run, arguments), noise, settings)


def _prepare_run(files: RunFiles, reference: Reference, settings: PipelineSettings, noise: Noise) -> RunSamples:
    return run_samples(align_run(files, reference, noise, settings), reference, settings, noise)


def _shaped(samples: list[RunSamples], noise: Noise, settings: PipelineSettings) -> tuple[list[RunSamples], Noise]:
    """Whiten samples by the noise's shape, learned from these samples, if the settings ask for one."""
    if not settings.noise.n_components:
        return samples, noise
    shape = learn_shape([run.noise for run in samples], settings.noise)
    # Whitening is the last step, so the earlier steps need not be computed again after the shape is learned.
    return [_whitened(run, shape) for run in samples], Noise(shape, noise.courses)


def with_courses(aligned: Sequence[AlignedRun], noise: Noise, settings: PipelineSettings) -> Noise:
    """Return the noise with loadings learned from the runs; unchanged without components.

    Parameters
    ----------
    aligned : sequence of AlignedRun
        Runs in which the voxels of `noise` were read.
    noise : Noise
        Noise from `noise_to_read`, without loadings.
    settings : PipelineSettings
    """
    if not noise.courses:
        return noise
    residuals = [noise_residuals(run, noise, settings) for run in aligned]
    return Noise(courses=learn_courses(noise.courses.voxels, residuals, settings.nuisance.n_components))


def _whitened(run: RunSamples, shape: NoiseCovariance) -> RunSamples:
    windows = tuple(
        tuple(replace(sample, values=shape.whiten(sample.values)) for sample in grown) for grown in run.windows
    )
    return replace(run, windows=windows, values=np.stack([grown[-1].values for grown in windows]))
