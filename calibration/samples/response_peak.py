"""Learn when responses come, from how the likeness of volumes to the categories of trials comes and goes.

Each trial has a template: the mean of other samples of its category, from other runs or much later, minus that of all
categories. It shares no noise with the volumes around the trial, so that neither drift nor the noise's course over time
is taken for a response. Volumes are compared with the sum of the templates, each as strong as the response is expected
to be; the peak of the response, or the delay of the events, with which they are most alike is the one. Where categories
do not tell, as in a single run with few repeats, one regressor for all trials may: see
`calibration.samples.response_onsets`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from calibration.samples.noise_fitting import learn_shape
from calibration.samples.response_lags import N_PARTS, Lags, LearnedTimes, believed, parts_of
from calibration.samples.response_onsets import learn_from_all_trials
from calibration.samples.response_recording import Recording, changed
from rtgod.messages import Array, BoolArray, Float32Array, Float64Array
from rtgod.preprocessing.noise_model import NoiseCovariance
from rtgod.settings import NoiseSettings, PipelineSettings, ResponseSettings

#: Seconds from which on two trials of one run share no noise to speak of.
_APART_S = 60.0
#: Number of times that categories are exchanged within runs, and of standard deviations by which volumes must be more
#: like their own categories.
_N_EXCHANGES, _LEAST_LIKENESS = 20, 4.0
#: Uncertainty above which categories hardly tell the times, and one regressor for all trials is asked, seconds.
_CERTAIN_SD_S = 1.0
#: Most times that responses are estimated anew with learned times, and the change of these that needs no other, s.
_MOST_REPEATS, _CLOSE_S = 6, 0.5


def learns_peak(settings: PipelineSettings) -> bool:
    """Return whether the settings ask for the peak to be learned, and use it.

    Parameters
    ----------
    settings : PipelineSettings
    """
    window = settings.window
    return settings.response.learn_peak and window.estimate == "response" and window.mode != "sliding"


def learn_settings(
    record_with: Callable[[PipelineSettings], Sequence[Recording | None]], settings: PipelineSettings
) -> tuple[PipelineSettings, tuple[str, ...]]:
    """Return settings with the times of the response that runs tell, and what there is to say about them.

    Where responses turn out to come at another time than assumed, they are estimated anew with it, as templates of them
    are better then.

    Parameters
    ----------
    record_with : callable
        Takes all training runs through `record` with the settings that it is given.
    settings : PipelineSettings
    """
    times, assumed = _learned(record_with(settings), settings), settings
    for _ in range(_MOST_REPEATS):
        if times is None or abs(_lag_s(times) - _lag_s(assumed.response)) < _CLOSE_S:
            break
        assumed = with_times(settings, times)
        times = _learned(record_with(assumed), settings) or times
    return _said(times, settings)


def _lag_s(times: LearnedTimes | ResponseSettings) -> float:
    return times.peak_s + times.delay_s


def settings_with_learned_peak(
    recordings: Sequence[Recording | None], settings: PipelineSettings
) -> tuple[PipelineSettings, tuple[str, ...]]:
    """Return settings with the times of the response that recordings tell, and what there is to say about them.

    Parameters
    ----------
    recordings : sequence of Recording or None
        From `record`; if the delay differs from the one that is set, they should be made anew: see `learn_settings`.
    settings : PipelineSettings
    """
    return _said(_learned(recordings, settings), settings)


def _said(times: LearnedTimes | None, settings: PipelineSettings) -> tuple[PipelineSettings, tuple[str, ...]]:
    if times is None:
        return settings, (_not_learned(settings.response),)
    return with_times(settings, times), notes_on(times, settings.response)


def _learned(recordings: Sequence[Recording | None], settings: PipelineSettings) -> LearnedTimes | None:
    usable = [recording for recording in recordings if recording is not None]
    by_category = learn_peak(usable, settings)
    if by_category and by_category.sd_s <= _CERTAIN_SD_S:
        return by_category
    return learn_from_all_trials(usable, settings.response) or by_category


def _not_learned(response: ResponseSettings) -> str:
    delayed = f", and events to be delayed by {response.delay_s:g} s (response.delay_s)" if response.delay_s else ""
    return (
        f"when responses peak could not be learned from these runs; it is assumed to be {response.peak_s:g} s "
        f"(response.peak_s){delayed}; do the onsets of the events fit the volumes?"
    )


def notes_on(times: LearnedTimes, response: ResponseSettings) -> tuple[str, ...]:
    """Say when responses come, and whether the events are late or early.

    Parameters
    ----------
    times : LearnedTimes
    response : ResponseSettings
        As they were set before.
    """
    source = "" if times.by_category else " by one regressor for all trials, as categories do not tell"
    note = (
        f"responses peak {times.peak_s:.1f} ± {times.sd_s:.1f} s after a brief event, as all training runs tell{source}"
    )
    if times.delay_s == response.delay_s:
        return (note,)
    return note, _on_delay(times, response.delay_s)


def _on_delay(times: LearnedTimes, set_s: float) -> str:
    """Say in plain words that the events are late, or early, and what to check."""
    change_s = times.delay_s - set_s
    low_s, high_s = sorted((abs(change_s) - 2 * times.sd_s, abs(change_s) + 2 * times.sd_s))
    late, come = ("late", "before") if change_s < 0 else ("early", "after")
    assumed = f" with the delay that is set (response.delay_s = {set_s:g})" if set_s else ""
    return (
        f"your events are {late} by about {abs(change_s):.1f} s ({max(low_s, 0.0):.1f} to {high_s:.1f}): responses "
        f"come that much {come} the time that the table says{assumed}. Decoding allows for it (response.delay_s = "
        f"{times.delay_s:g}), in every later run, too, whose events must be counted in the same way. Check what onset "
        "0 is: the first volume that was kept, or a trigger before it (events.count_from, events.discard_volumes); "
        "mend the table if it is wrong, and calibrate again"
    )


def notes_on_test_runs(recordings: Sequence[Recording | None], settings: PipelineSettings) -> tuple[str, ...]:
    """Warn if the events of test runs are late or early against those of the training runs.

    Parameters
    ----------
    recordings : sequence of Recording or None
        Test runs, from `record`.
    settings : PipelineSettings
        As learned from the training runs.
    """
    times, delay_s = _learned(recordings, settings), settings.response.delay_s
    if times is None or times.delay_s == delay_s:
        return ()
    change_s, late = abs(times.delay_s - delay_s), "late" if times.delay_s < delay_s else "early"
    return (
        f"the events of the test runs are {late} by about {change_s:.1f} s "
        f"({max(change_s - 2 * times.sd_s, 0.0):.1f} to {change_s + 2 * times.sd_s:.1f}) against those of the training "
        "runs, and decoding does not allow for it: count the onsets of both in the same way (events.count_from, "
        "events.discard_volumes)",
    )


def with_times(settings: PipelineSettings, times: LearnedTimes) -> PipelineSettings:
    """Return settings with learned times of the response.

    Parameters
    ----------
    settings : PipelineSettings
    times : LearnedTimes
    """
    return changed(settings, {"peak_s": times.peak_s, "peak_sd_s": times.sd_s, "delay_s": times.delay_s})


def learn_peak(recordings: Sequence[Recording], settings: PipelineSettings) -> LearnedTimes | None:
    """Find the times of the response from its categories; None if the volumes do not tell them.

    Parameters
    ----------
    recordings : sequence of Recording
    settings : PipelineSettings
        The response's undershoot and the whitening are as they are set.
    """
    if not recordings:
        return None
    lags = Lags(settings.response)
    with threadpool_limits(1, user_api="blas"):  # the same sums however many threads BLAS has
        recordings = _whitened(recordings, settings.noise)
        rng = np.random.default_rng(0)
        kinds = [recordings, *(_exchanged(recordings, rng) for _ in range(_N_EXCHANGES))]
        (products, squares), *exchanged = _by_part(kinds, lags)
    if not all((squares.sum(axis=0) - some > 0).all() for some in squares):
        return None
    usual = [_likeness(*sums) for sums in exchanged]
    if _likeness(products, squares) < np.mean(usual) + _LEAST_LIKENESS * np.std(usual):
        return None
    explained = _explained(products.sum(axis=0), squares.sum(axis=0))
    left_out = _explained(products.sum(axis=0) - products, squares.sum(axis=0) - squares)
    # A volume's noise is in its own part and, by the templates, in those of its category's other trials.
    return believed(lags, explained, left_out, np.sqrt(2.0), by_category=True)


def _exchanged(recordings: Sequence[Recording], rng: np.random.Generator) -> list[Recording]:
    """Return the recordings with categories that are exchanged among the trials of each run."""
    return [replace(r, categories=[r.categories[n] for n in rng.permutation(len(r.categories))]) for r in recordings]


def _likeness(products: Float64Array, squares: Float64Array) -> float:
    """Return the largest likeness of volumes and templates of any lag, in units of the templates' length."""
    length = np.sqrt(np.maximum(squares.sum(axis=0), np.finfo(float).tiny))
    return float((products.sum(axis=0) / length).max())


def _explained(products: Float64Array, squares: Float64Array) -> Float64Array:
    """Return how much of the volumes templates explain that are scaled to fit; below 0 where they are unlike."""
    explained: Float64Array = np.sign(products) * np.square(products) / squares
    return explained


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


def _by_part(kinds: Sequence[Sequence[Recording]], lags: Lags) -> list[tuple[Float64Array, Float64Array]]:
    """Return products of volumes and templates, and squares of the templates, (n_parts, n_lags): sums over volumes.

    Parameters
    ----------
    kinds : sequence of sequence of Recording
        The recordings, and the same ones with other categories; for each of them there are products and squares.
    lags : Lags
    """
    recordings = kinds[0]
    variances = [recording.values.var(axis=0, dtype=np.float64) for recording in recordings]
    sd = np.sqrt(np.mean(variances, axis=0))
    scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 0)
    templates = [_templates(kind, scale) for kind in kinds]
    sums = np.zeros((len(kinds), 2, N_PARTS, len(lags.values_s)))
    parts = parts_of([len(recording.middle_s) for recording in recordings])
    for number, recording in enumerate(recordings):
        courses = lags.courses(recording.middle_s, recording.onset_s, recording.duration_s)
        of_run = [templates_of_kind[number] for templates_of_kind in templates]
        likeness = [(recording.values * scale) @ template.T for template in of_run]
        overlap = [template @ template.T for template in of_run]
        for part in np.unique(parts[number]):
            rows = parts[number] == part
            for lag, course in enumerate(courses[:, rows]):
                gram = course.T @ course
                for kind in range(len(kinds)):
                    sums[kind, 0, part, lag] += np.vdot(course, likeness[kind][rows])
                    sums[kind, 1, part, lag] += np.vdot(gram, overlap[kind])
    return [(products, squares) for products, squares in sums]


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
