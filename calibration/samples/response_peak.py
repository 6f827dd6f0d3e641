"""Learn when responses peak, from how the likeness of volumes to the categories of trials comes and goes.

Each trial has a template: the mean of other samples of its category, from other runs or much later, minus that of all
categories. It shares no noise with the volumes around the trial, so that neither drift nor the noise's course over time
is taken for a response. Volumes are compared with the sum of the templates, each as strong as the response is expected
to be; the peak with which they are most alike is the one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from calibration.samples.noise_fitting import learn_shape
from calibration.samples.runs import AlignedRun, CleanedRun, clean_run
from rtgod.errors import InputError
from rtgod.messages import Array, Float32Array, Float64Array
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.hrf import block_response
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import NoiseSettings, PipelineSettings, ResponseSettings

#: Peaks that are tried, in seconds.
_PEAKS_S = np.arange(2.0, 10.01, 0.25)
#: Seconds from which on two trials of one run share no noise to speak of.
_APART_S = 60.0
#: Most voxels that are compared; more make it slower and hardly better.
_MOST_VOXELS = 1000
#: Number of parts of the volumes, each of which is left out in turn to see how much the result varies.
_N_PARTS = 10
#: Least number of standard errors by which volumes must be like their categories.
_LEAST_LIKENESS = 2.0
#: Least uncertainty of a peak that is believed, seconds.
_LEAST_SD_S = 0.1
#: A limit of crosstalk that lets everything through.
_OPEN = 1e9


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Volumes and trials of one run.

    Attributes
    ----------
    middle_s : ndarray of shape (n_volumes,), float64
        Middle of each volume.
    patterns : ndarray of shape (n_volumes, n_voxels), float32
    onset_s, duration_s : ndarray of shape (n_trials,), float64
    categories : sequence of str
    responses : ndarray of shape (n_trials, n_voxels), float32
        Responses to the trials as they were estimated in the end.
    """

    middle_s: Float64Array
    patterns: Float32Array
    onset_s: Float64Array
    duration_s: Float64Array
    categories: Sequence[str]
    responses: Float32Array


@dataclass(frozen=True, slots=True)
class LearnedPeak:
    """Peak of the response.

    Attributes
    ----------
    peak_s, sd_s : float
        Peak and its uncertainty, in seconds.
    at_edge : bool
        Whether the peak may lie beyond those that were tried.
    """

    peak_s: float
    sd_s: float
    at_edge: bool


def learns_peak(settings: PipelineSettings) -> bool:
    """Return whether the settings ask for the peak to be learned, and use it.

    Parameters
    ----------
    settings : PipelineSettings
    """
    window = settings.window
    return settings.response.learn_peak and window.estimate == "response" and window.mode != "sliding"


def clean_for_peak(
    aligned: AlignedRun, reference: Reference, settings: PipelineSettings, noise: Noise
) -> CleanedRun | None:
    """Take a run through the pipeline with at most so many voxels as the peak is learned from.

    Parameters
    ----------
    aligned : AlignedRun
    reference : Reference
    settings : PipelineSettings
    noise : Noise

    Returns
    -------
    CleanedRun or None
        None if no trial can be used, of which more is said when the run is cleaned for good.
    """
    chosen = slice(None, None, max(1, -(-len(reference.voxels) // _MOST_VOXELS)))
    volumes = tuple(replace(volume, decoder_values=volume.decoder_values[chosen].copy()) for volume in aligned.volumes)
    aligned, reference = replace(aligned, volumes=volumes), reference._replace(voxels=reference.voxels[chosen])
    try:
        return clean_run(aligned, reference, ungated(settings), noise, with_patterns=True)
    except InputError:
        return None


def settings_with_learned_peak(
    runs: Sequence[CleanedRun | None], settings: PipelineSettings
) -> tuple[PipelineSettings, tuple[str, ...]]:
    """Return settings with the peak that runs tell, and what there is to say about it.

    Parameters
    ----------
    runs : sequence of CleanedRun or None
        From `clean_for_peak`.
    settings : PipelineSettings
    """
    response = settings.response
    peak = learn_peak([run for run in runs if run is not None], settings)
    if peak is None:
        assumed = f"{response.peak_s:g} s (response.peak_s)"
        return settings, (f"when responses peak could not be learned from these runs; it is assumed to be {assumed}",)
    note = f"responses peak {peak.peak_s:.1f} ± {peak.sd_s:.1f} s after a brief event, as all training runs tell"
    if peak.at_edge:
        note += "; that is at the end of what was tried: do the onsets of the events fit the volumes?"
    return with_peak(settings, peak), (note,)


def ungated(settings: PipelineSettings) -> PipelineSettings:
    """Return settings with which trials have samples although their responses cannot be told apart.

    Parameters
    ----------
    settings : PipelineSettings
    """
    return _with(settings, {"most_crosstalk": _OPEN})


def with_peak(settings: PipelineSettings, peak: LearnedPeak) -> PipelineSettings:
    """Return settings with a learned peak.

    Parameters
    ----------
    settings : PipelineSettings
    peak : LearnedPeak
    """
    return _with(settings, {"peak_s": peak.peak_s, "peak_sd_s": peak.sd_s})


def _with(settings: PipelineSettings, response: dict[str, float]) -> PipelineSettings:
    given = settings.model_dump()
    return PipelineSettings.model_validate(given | {"response": given["response"] | response})


def recordings_of(runs: Sequence[CleanedRun], settings: NoiseSettings) -> list[Recording]:
    """Return the volumes and trials of runs whose patterns were kept, whitened by what their noise has in common.

    Parameters
    ----------
    runs : sequence of CleanedRun
    settings : NoiseSettings
    """
    shape = learn_shape([run.noise for run in runs], settings) if runs and settings.n_components else None
    recordings = []
    for run in runs:
        patterns = [pattern for pattern in run.patterns if not pattern.censored]
        blocks = [block for block in run.sampled_blocks() if block in run.responses and run.trials[block].category]
        if not patterns or not blocks:
            continue
        values = [pattern.values for pattern in patterns], [run.responses[block] for block in blocks]
        volumes, responses = (np.array([shape.whiten(v) if shape else v for v in group]) for group in values)
        recordings.append(
            Recording(
                (np.array([pattern.index for pattern in patterns]) + 0.5) * run.run.tr_s,
                volumes,
                np.array([run.trials[block].onset_s for block in blocks]),
                np.array([run.trials[block].duration_s for block in blocks]),
                [run.trials[block].category for block in blocks],
                responses,
            )
        )
    return recordings


def learn_peak(runs: Sequence[CleanedRun], settings: PipelineSettings) -> LearnedPeak | None:
    """Find the time of the response's peak; None if the volumes do not tell it.

    Parameters
    ----------
    runs : sequence of CleanedRun
        Runs that went through the pipeline with `ungated` settings, with their patterns.
    settings : PipelineSettings
        The undershoot is taken as it is set.
    """
    with threadpool_limits(1, user_api="blas"):  # the same sums however many threads BLAS has
        if not (recordings := recordings_of(runs, settings.noise)):
            return None
        products, squares = _by_part(recordings, settings.response)
    total, total_squares = products.sum(axis=0), squares.sum(axis=0)
    if not (total_squares > 0).all():
        return None
    peak_s = _best(total, total_squares)
    at = int(np.argmin(np.abs(_PEAKS_S - peak_s)))
    if total[at] < _LEAST_LIKENESS * _jackknife_sd((total - products)[:, at]):
        return None
    left_out = zip(total - products, total_squares - squares, strict=True)
    sd_s = _jackknife_sd(np.array([_best(*sums) for sums in left_out]))
    return LearnedPeak(round(peak_s, 2), round(max(sd_s, _LEAST_SD_S), 2), peak_s in (_PEAKS_S[0], _PEAKS_S[-1]))


def _by_part(recordings: Sequence[Recording], response: ResponseSettings) -> tuple[Float64Array, Float64Array]:
    """Return products of volumes and templates, and squares of the templates, (n_parts, n_peaks): sums over volumes."""
    patterns = [r.patterns.astype(np.float64) - r.patterns.mean(axis=0, dtype=np.float64) for r in recordings]
    sd = np.sqrt(np.mean([np.square(values).mean(axis=0) for values in patterns], axis=0))
    scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 0)
    templates = _templates(recordings, scale)
    products, squares = [], []
    for recording, values, template in zip(recordings, patterns, templates, strict=True):
        likeness, overlap = (values * scale) @ template.T, template @ template.T
        since_s = recording.middle_s[:, np.newaxis] - recording.onset_s
        shapes = [
            block_response(since_s, recording.duration_s, peak_s, response.undershoot_s, response.undershoot_ratio)
            for peak_s in _PEAKS_S
        ]
        products.append([(shape * likeness).sum(axis=1) for shape in shapes])
        squares.append([((shape @ overlap) * shape).sum(axis=1) for shape in shapes])
    sums = np.concatenate(products, axis=1), np.concatenate(squares, axis=1)
    part = np.arange(sums[0].shape[1]) * _N_PARTS // sums[0].shape[1]
    first, second = (np.array([values[:, part == n].sum(axis=1) for n in range(_N_PARTS)]) for values in sums)
    return first, second


def _templates(recordings: Sequence[Recording], scale: Float64Array) -> list[Float64Array]:
    """Return for each run the templates of its trials, (n_trials, n_voxels); 0 for a category without other samples."""
    samples = np.concatenate([r.responses.astype(np.float64) - r.responses.mean(axis=0) for r in recordings]) * scale
    names = [name for r in recordings for name in r.categories]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    category: Array = np.array([numbers[name] for name in names])
    run = np.repeat(np.arange(len(recordings)), [len(r.categories) for r in recordings])
    onset_s = np.concatenate([r.onset_s for r in recordings])
    templates = np.zeros_like(samples)
    for trial in range(len(samples)):
        apart = (run != run[trial]) | (np.abs(onset_s - onset_s[trial]) > _APART_S)
        alike = apart & (category == category[trial])
        if alike.any() and (apart & ~alike).any():
            templates[trial] = samples[alike].mean(axis=0) - samples[apart].mean(axis=0)
    return [templates[run == number] for number in range(len(recordings))]


def _best(products: Float64Array, squares: Float64Array) -> float:
    """Return the peak whose templates, scaled to fit, leave the least of the volumes, by a parabola through the best."""
    explained = np.sign(products) * np.square(products) / squares
    best = int(np.argmax(explained))
    if best in (0, len(_PEAKS_S) - 1):
        return float(_PEAKS_S[best])
    before, here, after = explained[best - 1 : best + 2].tolist()
    return float(_PEAKS_S[best] + 0.5 * (_PEAKS_S[1] - _PEAKS_S[0]) * (after - before) / (2.0 * here - before - after))


def _jackknife_sd(left_out: Float64Array) -> float:
    """Return the standard deviation of an estimate from its values with each part left out."""
    return float(np.sqrt((_N_PARTS - 1) * left_out.var()))
