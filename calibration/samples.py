"""Recorded runs to training samples, through the pipeline that the server runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from rtgod.alignment import Aligned, Aligner, Reference, Stopwatch, check_reference
from rtgod.denoising import Censor
from rtgod.errors import InputError
from rtgod.events import Trial, read_trials
from rtgod.messages import Float32Array, Int32Array, Run
from rtgod.motion import Registration
from rtgod.noise import NoiseCourses
from rtgod.preprocessing import Cleaner, Noise, NoiseReader, is_settled
from rtgod.sampling import Sampler
from rtgod.settings import PipelineSettings
from rtgod.sources import open_source
from rtgod.window import Repeats, Sample

#: Volumes that are averaged into the template.
_TEMPLATE_VOLUMES = 10


@dataclass(frozen=True, slots=True, eq=False)
class AlignedRun:
    """One run in the template's space, and what was shown.

    Attributes
    ----------
    path, events : Path
    run : Run
    trials : tuple of Trial
        One for each of the run's blocks.
    volumes : tuple of Aligned
        Those that could be aligned.
    """

    path: Path
    events: Path
    run: Run
    trials: tuple[Trial, ...]
    volumes: tuple[Aligned, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RunSamples:
    """The samples of one run.

    Attributes
    ----------
    run : Run
    trials : tuple of Trial
        One per sample.
    values : ndarray of shape (n_samples, n_voxels), float32
        In the settings' unit: each trial's sample once it was complete.
    noise : ndarray of shape (n_volumes, n_voxels), float32
        What is left of the clean volumes' patterns without the responses to trials, as these were estimated in the end.
        Unlike online, hindsight is allowed here: what could not be foretold of a response is no noise.
    n_skipped : int
        Trials without a clean volume.
    """

    run: Run
    trials: tuple[Trial, ...]
    values: Float32Array
    noise: Float32Array
    n_skipped: int


def align_run(path: Path, events: Path, reference: Reference, settings: PipelineSettings) -> AlignedRun:
    """Bring a recorded run into the template's space, volume by volume.

    Parameters
    ----------
    path : Path
        NIfTI file or folder of mosaics.
    events : Path
        Its trials.
    reference : Reference
        Its voxels are read.
    settings : PipelineSettings

    Raises
    ------
    InputError
        If the run or its events cannot be used.
    """
    source = open_source(path, events=events)
    aligner = Aligner(reference, source.run, settings)
    steps = (aligner.align(volume, Stopwatch()) for volume in source)
    volumes = tuple(aligned for aligned in steps if isinstance(aligned, Aligned))
    return AlignedRun(path, events, source.run, read_trials(events), volumes)


def run_samples(aligned: AlignedRun, reference: Reference, settings: PipelineSettings, noise: Noise) -> RunSamples:
    """Take an aligned run through the rest of the pipeline's front half.

    Parameters
    ----------
    aligned : AlignedRun
    reference : Reference
        The decoder's voxels; those of `noise` were read after them.
    settings : PipelineSettings
    noise : Noise

    Returns
    -------
    RunSamples
        One-back repeats are left out: the second look at an image is another state of mind.

    Raises
    ------
    InputError
        If no trial has a usable volume.
    """
    cleaner = Cleaner(reference, aligned.run, _trial_by_trial(settings), noise, Repeats())
    latest: dict[int, Sample] = {}
    patterns: list[tuple[Float32Array, dict[int, float]]] = []
    responses: dict[int, Float32Array] = {}
    for volume in aligned.volumes:
        pattern, sample, problem = cleaner.clean(volume, Stopwatch())
        if sample is not None and sample.block is not None:
            latest[sample.block] = sample
        answered = cleaner.denoiser.answered(volume.index)
        responses |= {trial: found for trial in answered if (found := cleaner.denoiser.response(trial)) is not None}
        if pattern is not None and not problem:
            patterns.append((pattern.values, answered))
    wanted = [block for block, trial in enumerate(aligned.trials) if not trial.repeat]
    found = [block for block in wanted if block in latest]
    if not found:
        raise InputError(
            f"{aligned.path}: no trial of {aligned.events.name} has a usable volume; do the events belong to this run?"
        )
    return RunSamples(
        run=aligned.run,
        trials=tuple(aligned.trials[block] for block in found),
        values=np.stack([latest[block].values for block in found]),
        noise=np.stack([cleaner.unwhitened(_without(values, of, responses)) for values, of in patterns]),
        n_skipped=len(wanted) - len(found),
    )


def _without(
    values: Float32Array, answered: Mapping[int, float], responses: Mapping[int, Float32Array]
) -> Float32Array:
    """A pattern less the responses to the trials that it answers, each by its share."""
    for trial, share in answered.items():
        if trial in responses:
            values = values - np.float32(share) * responses[trial]
    return values


def noise_residuals(
    aligned: AlignedRun, reference: Reference, courses: NoiseCourses, settings: PipelineSettings
) -> Float32Array:
    """What nothing foretold in the noise voxels of an aligned run's clean volumes: (n_volumes, n_noise_voxels)."""
    reader, censor = NoiseReader(reference, courses, aligned.run, settings), Censor(settings.censoring)
    residuals = []
    for volume in (v for v in aligned.volumes if is_settled(v.index, aligned.run, settings)):
        problem = censor.problem_with(volume.values[: len(reference.voxels)], volume.motion)
        residual = reader.residual(volume, bool(problem))
        if residual is not None and not problem:
            residuals.append(residual)
    return np.stack(residuals)


def _trial_by_trial(settings: PipelineSettings) -> PipelineSettings:
    """Decoders are trained on single trials, whatever is averaged or slid over when they are used."""
    changes = {
        "repeats": {"mode": "block"},
        # A window that slides knows of no trials, and takes the mean of its volumes.
        "sliding": {"mode": "block", "estimate": "mean"},
    }.get(settings.window.mode, {})
    return settings.model_copy(update={"window": settings.window.model_copy(update=changes)})


def make_reference(path: Path, voxels: Int32Array, settings: PipelineSettings) -> Reference:
    """Average a run's first settled volumes, aligned to the first of them, into the template.

    Parameters
    ----------
    path : Path
        The run.
    voxels : ndarray of shape (n_voxels, 3), int32
        The decoder's.
    settings : PipelineSettings

    Raises
    ------
    InputError
        If the run is too short or has no contrast, or the voxels lie outside the head.
    """
    source = open_source(path)
    run = source.run
    n_discarded = int(np.ceil(settings.nuisance.discard_s / run.tr_s))
    volumes = [v.data.astype(np.float32) for v in islice(iter(source), n_discarded, n_discarded + _TEMPLATE_VOLUMES)]
    if not volumes:
        raise InputError(f"{path}: no volume after the first {settings.nuisance.discard_s:g} s, which are discarded")
    registration = Registration(volumes[0], run.affine, run.shape, run.affine, settings.motion)
    everywhere = np.argwhere(np.ones(run.shape, bool)).astype(np.int32)
    sampler = Sampler(everywhere, run.shape, settings.sampling)
    total, count = np.zeros(len(everywhere)), np.zeros(len(everywhere))
    for volume in volumes:
        alignment = registration.align(volume)
        if not alignment.problem:
            values, _ = sampler.sample(volume, np.linalg.inv(run.affine) @ alignment.pose @ run.affine)
            inside = np.isfinite(values)
            total[inside] += values[inside]
            count += inside
    template = np.divide(total, count, out=np.zeros_like(total), where=count > 0).reshape(run.shape)
    reference = Reference(template.astype(np.float32), run.affine, voxels)
    check_reference(reference, settings)
    return reference
