"""Samples of a recording, made causally and in hindsight, and the delays that they are made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np

from benchmarks.gap.recordings import SETTINGS, Recording, courses_of
from calibration.samples.noise_fitting import learn_shape
from calibration.samples.response_peak import learn_settings
from calibration.samples.response_recording import Recording as TimesOfRun
from calibration.samples.response_recording import record
from calibration.samples.runs import AlignedRun, clean_run
from rtgod.errors import InputError
from rtgod.messages import Array, Float64Array
from rtgod.preprocessing.hrf import block_response
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import NoiseSettings, PipelineSettings, ResponseSettings

#: Delays of blocks against the table, in seconds, with which hindsight fits responses, and of windows of volumes. The
#: delay is the one at which one regressor for all blocks explains most of the best voxels.
BLOCK_DELAYS_S = tuple(np.arange(-12.0, 6.1, 1.0).tolist())
WINDOW_DELAYS_S = tuple(np.arange(-8.0, 12.1, 1.0).tolist())
_N_BEST = 50


@dataclass(frozen=True, eq=False)
class Made:
    """Samples of a recording, not whitened.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_voxels), float32
    noise : ndarray of shape (n_volumes, n_voxels), float32
        What is left of the volumes without the responses to trials.
    noise_fold : ndarray of shape (n_volumes,), int
        Fold that each row of `noise` is left out with.
    """

    X: Array
    noise: Array
    noise_fold: Array

    def whitened(self, left_out: int, settings: NoiseSettings) -> Array:
        """Whiten all samples by the noise of the other folds.

        Parameters
        ----------
        left_out : int
            Fold whose noise is not known.
        settings : NoiseSettings
        """
        shape = learn_shape([self.noise[self.noise_fold != left_out]], settings)
        return np.stack([shape.whiten(sample) for sample in self.X])


def causal(recording: Recording, response: ResponseSettings) -> Made:
    """Make the pipeline's samples, with its default settings, as a server would at the end of each trial's window.

    Parameters
    ----------
    recording : Recording
    response : ResponseSettings
        As `learn_responses` found them.

    Raises
    ------
    InputError
        If a trial has no sample.
    """
    X, noise, noise_fold = [], [], []
    settings = SETTINGS.model_copy(update={"response": response})
    for number, run in enumerate(recording.runs):
        cleaned = clean_run(run, recording.reference, settings, Noise())
        if missing := set(range(len(run.trials))) - cleaned.windows.keys():
            raise InputError(f"{recording.name}: {len(missing)} trials have no sample with {response!r}")
        X += [cleaned.windows[block][-1].values for block in range(len(run.trials))]
        noise.append(cleaned.noise)
        noise_fold.append(recording.fold_of_volumes(number)[[not why for why in cleaned.volumes]])
    return Made(np.stack(X), np.concatenate(noise), np.concatenate(noise_fold))


def simple_causal(recording: Recording, delay_s: float) -> Made:
    """Make the simplest causal samples: signal minus its mean so far, averaged over each trial's window.

    Parameters
    ----------
    recording : Recording
    delay_s : float
        Delay of windows against the table.
    """

    def minus_mean_so_far(run: AlignedRun) -> Float64Array:
        courses = courses_of(run)
        return courses - np.cumsum(courses, axis=0) / np.arange(1, len(courses) + 1)[:, np.newaxis]

    return _window_means(recording, delay_s, minus_mean_so_far)


def hindsight_mean(recording: Recording, delay_s: float) -> Made:
    """Make samples of whole runs, detrended and z-scored: means over each trial's window.

    Parameters
    ----------
    recording : Recording
    delay_s : float
        Delay of windows against the table.
    """

    def detrended(run: AlignedRun) -> Float64Array:
        courses = _without(_nuisance(run), courses_of(run))
        sd = courses.std(axis=0)
        return courses / np.where(sd > 0, sd, 1)

    return _window_means(recording, delay_s, detrended)


def hindsight_response(recording: Recording, delay_s: float) -> Made:
    """Make samples of whole runs: each trial's response, fitted together with drift to all volumes (least squares).

    Parameters
    ----------
    recording : Recording
    delay_s : float
        Delay of blocks against the table.
    """
    X, noise, noise_fold = [], [], []
    for number, run in enumerate(recording.runs):
        courses = courses_of(run)
        mean = courses.mean(axis=0)
        trials = _regressors(run, partial(_response, delay_s=delay_s))
        design = np.column_stack([trials, _nuisance(run)])
        weights = np.linalg.lstsq(design, courses, rcond=None)[0]
        percent = 100 / np.where(mean > 0, mean, np.inf)
        X.append(weights[: trials.shape[1]] * percent)
        noise.append((courses - design @ weights) * percent)
        noise_fold.append(recording.fold_of_volumes(number))
    return _made(X, noise, noise_fold)


def estimate_delay(recording: Recording, left_out: int, shape: str) -> float:
    """Estimate a delay from the training folds, without their labels: one regressor for all trials, drift removed.

    Parameters
    ----------
    recording : Recording
    left_out : int
        Fold whose volumes are not looked at.
    shape : {"blocks", "windows"}
        Whether the regressor is the expected response to blocks, or 1 in windows and 0 elsewhere.
    """
    delays_s, regressor = _DELAYS[shape]
    runs = [
        (run, kept, nuisance, _without(nuisance, courses_of(run)[kept]))
        for number, run in enumerate(recording.runs)
        if (kept := recording.fold_of_volumes(number) != left_out).any()
        for nuisance in [_nuisance(run)[kept]]
    ]
    courses = np.concatenate([of_run for *_, of_run in runs])
    power = np.square(courses).sum(axis=0)
    explained = []
    for delay_s in delays_s:
        x = np.concatenate(
            [
                _without(nuisance, _regressors(run, partial(regressor, delay_s=delay_s))[kept].sum(axis=1))
                for run, kept, nuisance, _ in runs
            ]
        )
        scale = power * np.square(x).sum()
        shares = np.square(x @ courses) / np.where(scale > 0, scale, np.inf)
        explained.append(np.sort(shares)[-_N_BEST:].mean())
    return delays_s[int(np.argmax(explained))]


def learn_responses(recording: Recording) -> dict[int, ResponseSettings]:
    """Learn peak and delay of responses from the training folds of each fold, as calibration does.

    Of a run of which a part is left out, calibration gets the other part's volumes and trials.

    Parameters
    ----------
    recording : Recording

    Returns
    -------
    dict of int to ResponseSettings
        For each left-out fold; peak and delay are in quarters of a second, so that folds share most samples.
    """

    @cache
    def recorded(number: int, response: ResponseSettings) -> TimesOfRun | None:
        settings = SETTINGS.model_copy(update={"response": response})
        return record(recording.runs[number], recording.reference, settings, Noise())

    def learned(left_out: int) -> ResponseSettings:
        def record_with(assumed: PipelineSettings) -> list[TimesOfRun | None]:
            return [
                _trained_on(found, run, recording.fold_of_volumes(number) != left_out)
                for number, run in enumerate(recording.runs)
                if (recording.fold[recording.trials_of(number)] != left_out).any()
                and (found := recorded(number, _in_quarters(assumed.response)))
            ]

        settings, notes = learn_settings(record_with, SETTINGS)
        print(f"{recording.name} without fold {left_out}: {'; '.join(notes)}", flush=True)
        return _in_quarters(settings.response)

    return {fold: learned(fold) for fold in np.unique(recording.fold).tolist()}


def _in_quarters(response: ResponseSettings) -> ResponseSettings:
    """Round peak and delay; without uncertainty, which says only how early in a trial it may be ranked."""
    rounded = {name: round(4 * getattr(response, name)) / 4 for name in ("peak_s", "delay_s")}
    return response.model_copy(update={**rounded, "peak_sd_s": 0.0})


def _trained_on(found: TimesOfRun, run: AlignedRun, trained: Array) -> TimesOfRun:
    """Return the volumes that are trained on, and their trials."""
    if trained.all():
        return found
    volumes = trained[np.round(found.middle_s / run.run.tr_s - 0.5).astype(int)]

    def of_trials(onset_s: Float64Array) -> Array:
        index = np.clip((onset_s / run.run.tr_s).astype(int) + 1, 0, len(trained) - 1)
        return np.asarray(trained[index], bool)

    kept, of_all = of_trials(found.onset_s), of_trials(found.all_onset_s)
    return replace(
        found,
        middle_s=found.middle_s[volumes],
        values=found.values[volumes],
        noise=found.noise[volumes[: len(found.noise)]],
        onset_s=found.onset_s[kept],
        duration_s=found.duration_s[kept],
        categories=[name for name, keep in zip(found.categories, kept.tolist(), strict=True) if keep],
        responses=found.responses[kept],
        all_onset_s=found.all_onset_s[of_all],
        all_duration_s=found.all_duration_s[of_all],
    )


def _response(run: AlignedRun, trial: int, delay_s: float) -> Float64Array:
    settings = SETTINGS.response
    since_s = _middles_s(run) - run.trials[trial].onset_s - delay_s
    duration_s = run.trials[trial].duration_s
    return block_response(since_s, duration_s, settings.peak_s, settings.undershoot_s, settings.undershoot_ratio)


def _window(run: AlignedRun, trial: int, delay_s: float) -> Float64Array:
    since_s = _middles_s(run) - run.trials[trial].onset_s - delay_s
    return ((since_s >= 0) & (since_s < run.trials[trial].duration_s)).astype(np.float64)


_DELAYS = {"blocks": (BLOCK_DELAYS_S, _response), "windows": (WINDOW_DELAYS_S, _window)}


def _regressors(run: AlignedRun, regressor: Callable[[AlignedRun, int], Float64Array]) -> Float64Array:
    """Return a column for each trial, shape (n_volumes, n_trials)."""
    return np.column_stack([regressor(run, trial) for trial in range(len(run.trials))])


def _middles_s(run: AlignedRun) -> Float64Array:
    return (np.arange(len(run.volumes)) + 0.5) * run.run.tr_s


def _nuisance(run: AlignedRun) -> Float64Array:
    """Return the constant, a line and cosines down to the pipeline's cut-off, shape (n_volumes, n_columns)."""
    n = len(run.volumes)
    n_cosines = int(2 * n * run.run.tr_s / SETTINGS.nuisance.drift_cutoff_s)
    at = (np.arange(n) + 0.5) / n
    return np.column_stack([np.ones(n), at - 0.5, *(np.cos(np.pi * k * at) for k in range(1, n_cosines + 1))])


def _without(nuisance: Float64Array, courses: Float64Array) -> Float64Array:
    return np.asarray(courses - nuisance @ np.linalg.lstsq(nuisance, courses, rcond=None)[0], np.float64)


def _window_means(recording: Recording, delay_s: float, clean: Callable[[AlignedRun], Float64Array]) -> Made:
    X, noise, noise_fold = [], [], []
    for number, run in enumerate(recording.runs):
        courses = clean(run)
        inside = _regressors(run, partial(_window, delay_s=delay_s))
        means = (inside / np.maximum(inside.sum(axis=0), 1)).T @ courses
        X.append(means)
        noise.append(courses - inside @ means)
        noise_fold.append(recording.fold_of_volumes(number))
    return _made(X, noise, noise_fold)


def _made(X: list[Float64Array], noise: list[Float64Array], noise_fold: list[Array]) -> Made:
    return Made(
        np.concatenate(X).astype(np.float32), np.concatenate(noise).astype(np.float32), np.concatenate(noise_fold)
    )


#: How samples are made, with the delay that they need, or the response as calibration learns it, and whether they are
#: whitened; the first word is the side.
WAYS: Mapping[str, tuple[Callable[[Recording, Any], Made], str, bool]] = {
    "hindsight_mean": (hindsight_mean, "windows", False),
    "hindsight_mean_whitened": (hindsight_mean, "windows", True),
    "hindsight_response": (hindsight_response, "blocks", False),
    "hindsight_response_whitened": (hindsight_response, "blocks", True),
    "causal_response": (causal, "response", False),
    "causal_response_whitened": (causal, "response", True),
    "simple_causal": (simple_causal, "windows", False),
}
