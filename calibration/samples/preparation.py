"""Take recorded runs through the pipeline's front half, and learn the noise components on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from calibration.datasets.dataset_files import DatasetFiles
from calibration.datasets.masks import read_mask
from calibration.datasets.runs import RunFiles
from calibration.parallel.progress import Report, in_pool
from calibration.samples.noise_fitting import learn_courses, noisiest_voxels
from calibration.samples.response_peak import learn_settings, learns_peak, notes_on_test_runs
from calibration.samples.response_recording import Recording, changed, record
from calibration.samples.runs import (
    AlignedRun,
    CleanedRun,
    MixedResponsesError,
    align_run,
    clean_run,
    make_reference,
    noise_residuals,
)
from rtgod.events.table import cue_lead_s
from rtgod.messages import Int32Array
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.noise_model import NoiseComponents
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import PipelineSettings

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, eq=False)
class GatheredRuns:
    """Runs after the pipeline's front half, not whitened.

    Attributes
    ----------
    training, test : tuple of CleanedRun
    reference : Reference
        The template that the runs were brought into, and the voxels that were read.
    noise : Noise
        Noise components, learned from the training runs; empty if the settings ask for none.
    cue_lead_s : float or None
        Time from the cue to the onset of imagery in the test runs, the longest of them; None if no run has a cue.
    settings : PipelineSettings
        The settings as asked for, with the response's peak and delay as they were learned from the training runs.
    notes : tuple of str
        Notes on what was learned, and on what could not be.
    """

    training: tuple[CleanedRun, ...]
    test: tuple[CleanedRun, ...]
    reference: Reference
    noise: Noise
    cue_lead_s: float | None
    settings: PipelineSettings
    notes: tuple[str, ...] = ()


def gather_runs(
    inputs: DatasetFiles, voxels: Int32Array | None, settings: PipelineSettings, pool: Executor, report: Report
) -> GatheredRuns:
    """Align and denoise runs as the server would.

    Parameters
    ----------
    inputs : DatasetFiles
        The first training run's volumes make the template, and noise components are learned from the training runs.
    voxels : ndarray of shape (n_voxels, 3), int32, or None
        Voxels to read; None takes the head's.
    settings : PipelineSettings
    pool : Executor
    report : callable
        Called with (stage, steps done, steps in all).

    Raises
    ------
    InputError
        If a run cannot be used.
    """
    first = inputs.training[0]
    reference = make_reference(first, voxels, settings)  # while the pool's processes are starting
    noise = noise_to_read(first, inputs.noise_mask, reference, settings)
    if noise.courses or learns_peak(settings):
        aligned = align_runs([*inputs.training, *inputs.test], reference, noise, settings, pool, report)
        return denoise_runs(*parted(aligned, inputs), reference, noise, settings, pool, report, cue_lead_of(inputs))
    # One process does both, so that aligned runs, which are large, are not passed on.
    arguments = [(files, reference, noise, settings, False) for files in inputs.training]
    arguments += [(files, reference, noise, settings, True) for files in inputs.test]
    cleaned = in_pool(pool, "aligning and denoising runs", report, _align_and_clean, arguments)
    return GatheredRuns(*parted(cleaned, inputs), reference, noise, cue_lead_of(inputs), settings)


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
    training: Sequence[AlignedRun],
    test: Sequence[AlignedRun],
    reference: Reference,
    noise: Noise,
    settings: PipelineSettings,
    pool: Executor,
    report: Report,
    lead_s: float | None,
) -> GatheredRuns:
    """Learn noise components and the times of the response from aligned training runs, and denoise all runs.

    Parameters
    ----------
    training, test : sequence of AlignedRun
    reference : Reference
    noise : Noise
        The voxels to read noise from, from `noise_to_read`.
    settings : PipelineSettings
    pool : Executor
    report : callable
        Called with (stage, steps done, steps in all).
    lead_s : float or None
        Time from the cue to the onset of imagery in the test runs.
    """
    if noise.courses:
        residuals = [noise_residuals(run, noise, settings) for run in training]
        noise = Noise(courses=learn_courses(noise.courses.voxels, residuals, settings.nuisance.n_components))
    notes: tuple[str, ...] = ()
    if learns_peak(settings):

        def record_with(assumed: PipelineSettings, runs: Sequence[AlignedRun] = training) -> list[Recording | None]:
            to_record = [(run, reference, assumed, noise) for run in runs]
            return in_pool(pool, "learning when responses come", report, record, to_record)

        settings, notes = learn_settings(record_with, settings)
        notes += notes_on_test_runs(record_with(settings, test), settings) if test else ()

    def clean_with(allowed: PipelineSettings) -> list[CleanedRun]:
        arguments = [(run, reference, allowed, noise, False) for run in training]
        arguments += [(run, reference, allowed, noise, True) for run in test]
        return in_pool(pool, "denoising runs", report, clean_run, arguments)

    cleaned, settings, allowed = _as_uncertain_as_can_be(clean_with, settings)
    notes += allowed
    n = len(training)
    return GatheredRuns(tuple(cleaned[:n]), tuple(cleaned[n:]), reference, noise, lead_s, settings, notes)


def _as_uncertain_as_can_be(
    clean_with: Callable[[PipelineSettings], list[CleanedRun]], settings: PipelineSettings
) -> tuple[list[CleanedRun], PipelineSettings, tuple[str, ...]]:
    """Denoise runs; where a learned peak is too uncertain to rank most trials, allow for less, and say so.

    Parameters
    ----------
    clean_with : callable
        Denoises all runs by the settings that it is given.
    settings : PipelineSettings

    Raises
    ------
    MixedResponsesError
        If hardly a trial is ranked although the peak is taken for certain, or was not learned.
    """
    try:
        return clean_with(settings), settings, ()
    except MixedResponsesError:
        if not learns_peak(settings) or not settings.response.peak_sd_s:
            raise
    sd_s = settings.response.peak_sd_s
    half = changed(settings, {"peak_sd_s": round(sd_s / 2, 2)})
    try:
        return clean_with(half), half, (_less_uncertain(sd_s, half),)
    except MixedResponsesError:
        certain = changed(settings, {"peak_sd_s": 0.0})
        return clean_with(certain), certain, (_less_uncertain(sd_s, certain),)


def _less_uncertain(sd_s: float, settings: PipelineSettings) -> str:
    response = settings.response
    return (
        f"if responses may peak {sd_s:.1f} s earlier or later, those to most trials cannot be told apart: rankings "
        f"allow for {response.peak_sd_s:.1f} s, and if the peak is farther off, more than "
        f"{100 * response.most_crosstalk:g} % of the block before can be in them; more "
        "training runs, or pauses between blocks, make it more certain"
    )


def _align_and_clean(
    files: RunFiles, reference: Reference, noise: Noise, settings: PipelineSettings, with_patterns: bool
) -> CleanedRun:
    return clean_run(align_run(files, reference, noise, settings), reference, settings, noise, with_patterns)


def parted(runs: Sequence[_T], inputs: DatasetFiles) -> tuple[tuple[_T, ...], tuple[_T, ...]]:
    """Return the training runs of a data set, and its test runs.

    Parameters
    ----------
    runs : sequence
        Those of `inputs.training`, then those of `inputs.test`.
    inputs : DatasetFiles
    """
    n_training = len(inputs.training)
    return tuple(runs[:n_training]), tuple(runs[n_training:])


def cue_lead_of(inputs: DatasetFiles) -> float | None:
    """Return the time from the cue to the onset of imagery in the test runs, the longest of them; None without cues.

    Parameters
    ----------
    inputs : DatasetFiles
    """
    leads_s = [lead_s for files in inputs.test if (lead_s := cue_lead_s(files.events)) is not None]
    return max(leads_s, default=None)
