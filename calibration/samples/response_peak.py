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
from calibration.samples.runs import AlignedRun, clean_run
from rtgod.errors import InputError
from rtgod.messages import Array, BoolArray, Float32Array, Float64Array
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.hrf import block_response
from rtgod.preprocessing.noise_model import NoiseCovariance
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import NoiseSettings, PipelineSettings, ResponseSettings

#: Peaks that are tried, in seconds.
_PEAKS_S = np.arange(2.0, 10.01, 0.5)
#: Seconds from which on two trials of one run share no noise to speak of.
_APART_S = 60.0
#: Period of the slowest drift that is not taken for responses, seconds.
_SLOWEST_S = 128.0
#: Most voxels that are compared; more make it slower and hardly better.
_MOST_VOXELS = 1000
#: Number of parts of the volumes, each of which is left out in turn to see how much the result varies.
_N_PARTS = 10
#: Number of times that categories are exchanged within runs, and of standard deviations by which volumes must be more
#: like their own categories.
_N_EXCHANGES, _LEAST_LIKENESS = 20, 4.0
#: Least uncertainty of a peak that is believed, seconds.
_LEAST_SD_S = 0.1
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
    categories: Sequence[str]
    responses: Float32Array
    noise: Float32Array


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


def record(aligned: AlignedRun, reference: Reference, settings: PipelineSettings, noise: Noise) -> Recording | None:
    """Take a run through the pipeline with at most so many voxels as the peak is learned from.

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


def settings_with_learned_peak(
    recordings: Sequence[Recording | None], settings: PipelineSettings
) -> tuple[PipelineSettings, tuple[str, ...]]:
    """Return settings with the peak that runs tell, and what there is to say about it.

    Parameters
    ----------
    recordings : sequence of Recording or None
        From `record`.
    settings : PipelineSettings
    """
    response = settings.response
    peak = learn_peak([recording for recording in recordings if recording is not None], settings)
    if peak is None:
        assumed = f"{response.peak_s:g} s (response.peak_s)"
        return settings, (f"when responses peak could not be learned from these runs; it is assumed to be {assumed}",)
    note = f"responses peak {peak.peak_s:.1f} ± {peak.sd_s:.1f} s after a brief event, as all training runs tell"
    if peak.at_edge:
        note += "; that is at the end of what was tried: do the onsets of the events fit the volumes?"
    return with_peak(settings, peak), (note,)


def _ungated(settings: PipelineSettings) -> PipelineSettings:
    """Return settings with which trials have samples although their responses cannot be told apart.

    Estimates are held firmly: what they hold of other trials is as good as random, and their noise is what matters.

    Parameters
    ----------
    settings : PipelineSettings
    """
    return _with(settings, {"most_crosstalk": _OPEN, "sd": _FIRM_SD})


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


def learn_peak(recordings: Sequence[Recording], settings: PipelineSettings) -> LearnedPeak | None:
    """Find the time of the response's peak; None if the volumes do not tell it.

    Parameters
    ----------
    recordings : sequence of Recording
    settings : PipelineSettings
        The response's undershoot and the whitening are as they are set.
    """
    if not recordings:
        return None
    with threadpool_limits(1, user_api="blas"):  # the same sums however many threads BLAS has
        recordings = _whitened(recordings, settings.noise)
        courses = [_courses(recording, settings.response) for recording in recordings]
        products, squares = _by_part(recordings, courses)
        left_out = [(products.sum(axis=0) - p, squares.sum(axis=0) - s) for p, s in zip(products, squares, strict=True)]
        if not all((some > 0).all() for _, some in left_out):
            return None
        rng = np.random.default_rng(0)
        exchanged = [_by_part(_exchanged(recordings, rng), courses) for _ in range(_N_EXCHANGES)]
    peak_s = _best(products.sum(axis=0), squares.sum(axis=0))
    usual = [_likeness(*sums) for sums in exchanged]
    if _likeness(products, squares) < np.mean(usual) + _LEAST_LIKENESS * np.std(usual):
        return None
    # A volume's noise is in its own part and, by the templates, in those of its category's other trials.
    sd_s = np.sqrt(2.0) * _jackknife_sd(np.array([_best(*sums) for sums in left_out]))
    return LearnedPeak(round(peak_s, 2), round(float(max(sd_s, _LEAST_SD_S)), 2), peak_s in (_PEAKS_S[0], _PEAKS_S[-1]))


def _exchanged(recordings: Sequence[Recording], rng: np.random.Generator) -> list[Recording]:
    """Return the recordings with categories that are exchanged among the trials of each run."""
    return [replace(r, categories=[r.categories[n] for n in rng.permutation(len(r.categories))]) for r in recordings]


def _likeness(products: Float64Array, squares: Float64Array) -> float:
    """Return the largest likeness of volumes and templates of any peak, in units of the templates' length."""
    length = np.sqrt(np.maximum(squares.sum(axis=0), np.finfo(float).tiny))
    return float((products.sum(axis=0) / length).max())


def _whitened(recordings: Sequence[Recording], settings: NoiseSettings) -> list[Recording]:
    """Whiten volumes and responses by what the runs' noise has in common, as samples are whitened."""
    if not settings.n_components:
        return list(recordings)
    shape = learn_shape([recording.noise for recording in recordings], settings)
    return [
        replace(recording, values=_each(shape, recording.values), responses=_each(shape, recording.responses))
        for recording in recordings
    ]


def _each(shape: NoiseCovariance, patterns: Float32Array) -> Float32Array:
    return np.array([shape.whiten(pattern) for pattern in patterns])


def _courses(recording: Recording, response: ResponseSettings) -> list[Float64Array]:
    """Return the expected responses to all trials (n_volumes, n_trials) for each peak, without what drift could be."""
    middle_s = recording.middle_s
    phase = np.pi * (middle_s - middle_s[0]) / max(float(middle_s[-1] - middle_s[0]), 1.0)
    n_cosines = 1 + int(2 * (middle_s[-1] - middle_s[0]) / _SLOWEST_S)
    drift, _ = np.linalg.qr(np.column_stack([phase, *(np.cos(k * phase) for k in range(n_cosines))]))
    since_s = middle_s[:, np.newaxis] - recording.onset_s
    courses = []
    for peak_s in _PEAKS_S.tolist():
        shape = block_response(since_s, recording.duration_s, peak_s, response.undershoot_s, response.undershoot_ratio)
        courses.append(shape - drift @ (drift.T @ shape))
    return courses


def _by_part(
    recordings: Sequence[Recording], courses: Sequence[Sequence[Float64Array]]
) -> tuple[Float64Array, Float64Array]:
    """Return products of volumes and templates, and squares of the templates, (n_parts, n_peaks): sums over volumes."""
    variances = [recording.values.var(axis=0, dtype=np.float64) for recording in recordings]
    sd = np.sqrt(np.mean(variances, axis=0))
    scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 0)
    products, squares = [], []
    for recording, shapes, template in zip(recordings, courses, _templates(recordings, scale), strict=True):
        likeness, overlap = (recording.values * scale) @ template.T, template @ template.T
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
    apart = (run[:, np.newaxis] != run) | (np.abs(onset_s[:, np.newaxis] - onset_s) > _APART_S)
    alike = apart & (category[:, np.newaxis] == category)
    known = alike.any(axis=1) & (apart & ~alike).any(axis=1)
    templates = _mean_of(alike, samples) - _mean_of(apart, samples)
    templates[~known] = 0.0
    return [templates[run == number] for number in range(len(recordings))]


def _mean_of(chosen: BoolArray, samples: Float64Array) -> Float64Array:
    """Return the mean of the samples that each row chooses."""
    mean: Float64Array = chosen.astype(np.float64) @ samples / np.maximum(chosen.sum(axis=1, keepdims=True), 1)
    return mean


def _best(products: Float64Array, squares: Float64Array) -> float:
    """Return the peak whose templates, scaled to fit, leave the least of the volumes; between peaks by a parabola."""
    explained = np.sign(products) * np.square(products) / squares
    best = int(np.argmax(explained))
    if best in (0, len(_PEAKS_S) - 1):
        return float(_PEAKS_S[best])
    before, here, after = explained[best - 1 : best + 2].tolist()
    return float(_PEAKS_S[best] + 0.5 * (_PEAKS_S[1] - _PEAKS_S[0]) * (after - before) / (2.0 * here - before - after))


def _jackknife_sd(left_out: Float64Array) -> float:
    """Return the standard deviation of an estimate from its values with each part left out."""
    return float(np.sqrt((_N_PARTS - 1) * left_out.var()))
