"""What runs tell of when responses come: volumes as measured, and responses to trials as they were estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.samples.runs import AlignedRun, clean_run
from rtgod.errors import InputError
from rtgod.messages import Float32Array, Float64Array
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import PipelineSettings

#: Most voxels that are compared; more make it slower and hardly better.
_MOST_VOXELS = 1000
#: A limit of crosstalk that lets everything through, and a prior that holds responses firmly.
_OPEN, _FIRM_SD = 1e9, 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Volumes and trials of one run.

    Attributes
    ----------
    middle_s : ndarray of shape (n_volumes,), float64
        Middle of each clean volume.
    values : ndarray of shape (n_volumes, n_voxels), float32
        Percent change from the run's mean, as measured.
    onset_s, duration_s : ndarray of shape (n_trials,), float64
        Trials that have a category and a sample.
    all_onset_s, all_duration_s : ndarray of shape (n_blocks,), float64
        All trials of the run.
    categories : sequence of str
    responses : ndarray of shape (n_trials, n_voxels), float32
        Responses to the trials as they were estimated in the end.
    noise : ndarray of shape (n_clean, n_voxels), float32
        See `CleanedRun`.
    """

    middle_s: Float64Array
    values: Float32Array
    onset_s: Float64Array
    duration_s: Float64Array
    all_onset_s: Float64Array
    all_duration_s: Float64Array
    categories: Sequence[str]
    responses: Float32Array
    noise: Float32Array


def record(aligned: AlignedRun, reference: Reference, settings: PipelineSettings, noise: Noise) -> Recording | None:
    """Take a run through the pipeline with at most so many voxels as times are learned from.

    Parameters
    ----------
    aligned : AlignedRun
    reference : Reference
    settings : PipelineSettings
    noise : Noise

    Returns
    -------
    Recording or None
        None if no trial can be used, of which more is said when the run is cleaned for good.
    """
    chosen = slice(None, None, max(1, -(-len(reference.voxels) // _MOST_VOXELS)))
    volumes = tuple(replace(volume, decoder_values=volume.decoder_values[chosen].copy()) for volume in aligned.volumes)
    aligned, reference = replace(aligned, volumes=volumes), reference._replace(voxels=reference.voxels[chosen])
    try:
        run = clean_run(aligned, reference, _ungated(settings), noise, with_patterns=True)
    except InputError:
        return None
    clean = {pattern.index for pattern in run.patterns if not pattern.censored}
    blocks = [block for block in run.sampled_blocks() if block in run.responses and run.trials[block].category]
    if not clean or not blocks:
        return None
    return Recording(
        middle_s=(np.array(sorted(clean)) + 0.5) * run.run.tr_s,
        values=_percent(np.array([volume.decoder_values for volume in volumes if volume.index in clean])),
        onset_s=np.array([run.trials[block].onset_s for block in blocks]),
        duration_s=np.array([run.trials[block].duration_s for block in blocks]),
        all_onset_s=np.array([block.onset_s for block in run.run.blocks]),
        all_duration_s=np.array([block.duration_s for block in run.run.blocks]),
        categories=[run.trials[block].category for block in blocks],
        responses=np.array([run.responses[block] for block in blocks]),
        noise=run.noise,
    )


def _percent(values: Float32Array) -> Float32Array:
    """Return the change from each voxel's mean in percent; 0 where it is missing or has no mean to speak of."""
    present = np.isfinite(values)
    mean = np.where(present, values, 0).sum(axis=0, dtype=np.float64) / np.maximum(present.sum(axis=0), 1)
    usable = present & (mean > 0)
    percent: Float32Array = np.where(usable, 100 * (values / np.where(mean > 0, mean, 1) - 1), 0).astype(np.float32)
    return percent


def _ungated(settings: PipelineSettings) -> PipelineSettings:
    """Return settings with which trials have samples although their responses cannot be told apart.

    Estimates are held firmly: what they hold of other trials is as good as random, and their noise is what matters.

    Parameters
    ----------
    settings : PipelineSettings
    """
    return changed(settings, {"most_crosstalk": _OPEN, "sd": _FIRM_SD})


def changed(settings: PipelineSettings, response: dict[str, float]) -> PipelineSettings:
    """Return settings with other settings of the response.

    Parameters
    ----------
    settings : PipelineSettings
    response : dict of str to float
    """
    given = settings.model_dump()
    return PipelineSettings.model_validate(given | {"response": given["response"] | response})
