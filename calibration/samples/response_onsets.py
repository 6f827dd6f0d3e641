"""Learn when responses come without categories: by one regressor for all trials of a run.

The voxels that rise most with the trials tell it, whatever is shown. As a null, the regressors of tables with as many
trials at random times must explain less. Where trials follow each other without pauses there is hardly a regressor,
and nothing is learned.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from calibration.samples.response_lags import N_PARTS, Lags, LearnedTimes, believed, parts_of, without_drift
from calibration.samples.response_recording import Recording
from rtgod.messages import Float64Array
from rtgod.settings import ResponseSettings

#: Most voxels that tell the time: those of which most is explained.
_N_BEST = 50
#: Tables with random onsets, and the standard deviations by which the table itself must explain more than those.
_N_TABLES, _LEAST_EXPLAINED = 20, 4.0
#: Distance of the lags that random tables are tried with, seconds.
_COARSE_S = 1.0
#: Least number of trials, and of volumes, that are looked at.
_LEAST_TRIALS, _LEAST_VOLUMES = 6, 40


def learn_from_all_trials(recordings: Sequence[Recording], response: ResponseSettings) -> LearnedTimes | None:
    """Find the times of the response to any trial; None if the volumes do not tell them.

    Parameters
    ----------
    recordings : sequence of Recording
    response : ResponseSettings
        Peak and delay as they are set, with which the lags that are tried begin.
    """
    n_trials = sum(len(recording.all_onset_s) for recording in recordings)
    if n_trials < _LEAST_TRIALS or sum(len(recording.middle_s) for recording in recordings) < _LEAST_VOLUMES:
        return None
    lags, coarse, rng = Lags(response), Lags(response, _COARSE_S), np.random.default_rng(0)
    with threadpool_limits(1, user_api="blas"):  # the same sums however many threads BLAS has
        values = [_standardised(recording) for recording in recordings]
        onsets_s = [recording.all_onset_s for recording in recordings]
        products, squares = _by_part(recordings, values, onsets_s, lags)
        explained = _explained(products.sum(axis=0), squares.sum(axis=0))
        at_random = []
        for _ in range(_N_TABLES):
            random_s = [_random_onsets(recording, rng) for recording in recordings]
            p, s = _by_part(recordings, values, random_s, coarse)
            at_random.append(_explained(p.sum(axis=0), s.sum(axis=0)).max())
    if explained.max() < np.mean(at_random) + _LEAST_EXPLAINED * np.std(at_random):
        return None
    left_out = np.array(
        [_explained(products.sum(axis=0) - p, squares.sum(axis=0) - s) for p, s in zip(products, squares, strict=True)]
    )
    return believed(lags, explained, left_out, 1.0, by_category=False)


def _standardised(recording: Recording) -> Float64Array:
    """Return the courses of voxels without drift, each with a mean square of 1; 0 for voxels that do not change."""
    courses = without_drift(recording.values.astype(np.float64), recording.middle_s)
    size = np.sqrt(np.square(courses).mean(axis=0))
    return np.divide(courses, size, out=np.zeros_like(courses), where=size > 1e-6)


def _by_part(
    recordings: Sequence[Recording], values: Sequence[Float64Array], onsets_s: Sequence[Float64Array], lags: Lags
) -> tuple[Float64Array, Float64Array]:
    """Return products (n_parts, n_lags, n_voxels) and squares (n_parts, n_lags): sums over volumes."""
    n_lags = len(lags.values_s)
    products, squares = np.zeros((N_PARTS, n_lags, values[0].shape[1])), np.zeros((N_PARTS, n_lags))
    parts = parts_of([len(recording.middle_s) for recording in recordings])
    for recording, of_run, onset_s, part_of in zip(recordings, values, onsets_s, parts, strict=True):
        if not len(onset_s):
            continue
        courses = lags.courses(recording.middle_s, onset_s, recording.all_duration_s).sum(axis=2)
        for part in np.unique(part_of):
            rows = part_of == part
            products[part] += courses[:, rows] @ of_run[rows]
            squares[part] += np.square(courses[:, rows]).sum(axis=1)
    return products, squares


def _explained(products: Float64Array, squares: Float64Array) -> Float64Array:
    """Return what each lag explains of the voxels that rise most with the trials, (n_lags,)."""
    rising = np.square(np.maximum(products, 0.0))
    best = np.partition(rising, -min(_N_BEST, rising.shape[1]), axis=1)[:, -_N_BEST:].mean(axis=1)
    return np.divide(best, squares, out=np.zeros_like(best), where=squares > 1e-9)


def _random_onsets(recording: Recording, rng: np.random.Generator) -> Float64Array:
    """Draw onsets for trials of the same lengths in the same order, which do not overlap if they have room."""
    run_s, duration_s = float(recording.middle_s[-1]), recording.all_duration_s
    free_s = run_s - float(duration_s.sum())
    if free_s <= 0:
        return np.sort(rng.uniform(0.0, run_s, len(duration_s)))
    onsets: Float64Array = np.sort(rng.uniform(0.0, free_s, len(duration_s))) + np.cumsum(duration_s) - duration_s
    return onsets
