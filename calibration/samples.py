"""Recorded runs to training samples, through the pipeline that the server runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from rtgod.errors import InputError
from rtgod.events import Trial, read_trials
from rtgod.messages import Float32Array, Int32Array, Run
from rtgod.motion import Registration
from rtgod.pipeline import Preprocessor, Reference, Stopwatch
from rtgod.sampling import Sampler
from rtgod.settings import PipelineSettings
from rtgod.sources import Source, open_source
from rtgod.window import Sample

#: Volumes that are averaged into the template.
_TEMPLATE_VOLUMES = 10


@dataclass(frozen=True, slots=True, eq=False)
class RunSamples:
    """The samples of one run.

    Attributes
    ----------
    run : Run
    trials : tuple of Trial
        One per sample.
    values : ndarray of shape (n_samples, n_voxels), float32
        Percent signal change, averaged over each trial's volumes.
    n_skipped : int
        Trials without a clean volume.
    """

    run: Run
    trials: tuple[Trial, ...]
    values: Float32Array
    n_skipped: int


def run_samples(path: Path, events: Path, reference: Reference, settings: PipelineSettings) -> RunSamples:
    """Feed a recorded run through the pipeline's front half, volume by volume.

    Parameters
    ----------
    path : Path
        NIfTI file or folder of mosaics.
    events : Path
        Its trials.
    reference : Reference
    settings : PipelineSettings

    Returns
    -------
    RunSamples
        One-back repeats are left out: the second look at an image is another state of mind.

    Raises
    ------
    InputError
        If the run or its events cannot be used.
    """
    source = open_source(path, events=events)
    trials = read_trials(events)
    latest: dict[int, Sample] = {}
    for sample_ in window_samples(source, reference, settings):
        if sample_.block is not None:
            latest[sample_.block] = sample_
    wanted = [block for block, trial in enumerate(trials) if not trial.repeat]
    found = [block for block in wanted if block in latest]
    if not found:
        raise InputError(f"{path}: no trial of {events.name} has a usable volume; do the events belong to this run?")
    values = np.stack([latest[block].values for block in found])
    return RunSamples(source.run, tuple(trials[block] for block in found), values, len(wanted) - len(found))


def window_samples(source: Source, reference: Reference, settings: PipelineSettings) -> Iterable[Sample]:
    """Every sample that a run's volumes give, partial ones included."""
    preprocessor = Preprocessor(reference, source.run, settings)
    for volume in source:
        _, outcome = preprocessor.step(volume, Stopwatch())
        if isinstance(outcome, Sample):
            yield outcome


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
        If the run is too short or has no contrast.
    """
    source = open_source(path)
    run = source.run
    n_discarded = int(np.ceil(settings.baseline.discard_s / run.tr_s))
    volumes = [v.data.astype(np.float32) for v in islice(iter(source), n_discarded, n_discarded + _TEMPLATE_VOLUMES)]
    if not volumes:
        raise InputError(f"{path}: no volume after the first {settings.baseline.discard_s:g} s, which are discarded")
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
    return Reference(template.astype(np.float32), run.affine, voxels)
