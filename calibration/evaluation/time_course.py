"""The time course of imagery: feature accuracy volume by volume, and which layer's response comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from calibration.decoders.columns import profile_correlation
from calibration.evaluation.accuracy import jackknife_interval
from calibration.evaluation.homology import Homology, areas_of
from calibration.evaluation.predictions import FittedFold, decode_course
from calibration.metrics.group_means import averaged_by
from calibration.metrics.lags import ExpectedCourse, Lag, change_of_lag, single_lag
from calibration.metrics.statistics import profile_without_each
from calibration.parallel.progress import Report, in_pool
from calibration.samples.study import Course, Study
from rtgod.messages import Float32Array, Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class TimeCourse:
    """Feature accuracy over the time of a trial, and the lags of the layers' responses.

    Attributes
    ----------
    times_s : ndarray of shape (n_times,)
        Seconds from the trial's onset.
    accuracy, half_width : ndarray of shape (n_layers, n_times)
        Feature accuracy and half of its 90 % interval; NaN if too few categories have a clean volume.
    lags : tuple of Lag
        For each layer, how much later than expected its response comes.
    shift : Lag
        How much later the highest layer's response comes than the lowest layer's, along a straight line over layers.
    middle_s : float
        Middle of the expected response, which comes late by 0 s; in seconds from the trial's onset.
    duration_s : float
        Length of a trial, in seconds.
    cue_lead_s : float or None
        Time from a trial's cue to its onset, in seconds; None without cues.
    areas : tuple of str
        Area that each layer was decoded from.
    """

    times_s: Float64Array
    accuracy: Float64Array
    half_width: Float64Array
    lags: tuple[Lag, ...]
    shift: Lag
    middle_s: float
    duration_s: float
    cue_lead_s: float | None
    areas: tuple[str, ...]


def course_of_imagery(
    study: Study,
    comparison: Homology,
    by_region: Mapping[str, Float64Array],
    fits: Mapping[str, Sequence[FittedFold]],
    pool: Executor,
    report: Report,
) -> TimeCourse | None:
    """Compute the course of imagery, each layer decoded from the area that predicts it best of what was seen.

    If all voxels were used, a low layer would be decoded from high areas as well, which have a course of their own.

    Parameters
    ----------
    study : Study
    comparison : Homology
    by_region : mapping of str to ndarray of shape (n_regions, n_layers), float64
        Feature accuracy of each kind from all voxels of each region.
    fits : mapping of str to sequence of FittedFold
        Decoders of each region.
    pool : Executor
    report : callable
        Called with (stage, steps done, steps in all).

    Returns
    -------
    TimeCourse or None
        None if there are no single volumes of imagery.
    """
    course = study.folds[0].courses.get("imagined")
    if course is None:
        return None
    layers = list(study.candidates.features)
    areas, accuracy = _accuracy_seen(study, comparison, by_region, fits)
    best = accuracy.argmax(axis=0)
    area_of_layer = {layer: areas[i] for layer, i in zip(layers, best, strict=True)}
    needed = list(dict.fromkeys(area_of_layer.values()))
    arguments = [(course.select_voxels(study.regions[area]), fits[area][0]) for area in needed]
    decoded = dict(zip(needed, in_pool(pool, "time course", report, decode_course, arguments), strict=True))
    return time_course(
        course,
        {layer: decoded[area][layer] for layer, area in area_of_layer.items()},
        list(area_of_layer.values()),
        accuracy[best, np.arange(len(layers))],
    )


def _accuracy_seen(
    study: Study,
    comparison: Homology,
    by_region: Mapping[str, Float64Array],
    fits: Mapping[str, Sequence[FittedFold]],
) -> tuple[Sequence[str], Float64Array]:
    """Return areas and the accuracy of what was seen, (n_areas, n_layers): nothing here comes from imagery."""
    if "seen" in comparison.kinds:
        return comparison.areas, comparison.kinds["seen"].accuracy
    areas = areas_of(study.regions)
    if "seen" in by_region:
        return areas, by_region["seen"][[list(study.regions).index(area) for area in areas]]
    trained, true = {area: fits[area][0].trained for area in areas}, study.folds[0].training.Y
    if all(trained[area].held_out for area in areas):
        left_out = [
            [profile_correlation(trained[area].held_out[layer], values).mean() for layer, values in true.items()]
            for area in areas
        ]
        return areas, np.array(left_out)
    return [study.main_region], np.ones((1, len(true)))


def time_course(
    course: Course,
    decoded: Mapping[str, Float32Array],
    areas: Sequence[str],
    importance: Float64Array | None = None,
) -> TimeCourse:
    """Compute feature accuracy over the time of a trial, with the repeats of each category averaged at each time.

    Parameters
    ----------
    course : Course
    decoded : mapping of str to ndarray of shape (n_trials, n_times, n_units)
        Decoded features; NaN at times without a clean volume.
    areas : sequence of str
        Area that each layer was decoded from.
    importance : ndarray of shape (n_layers,), float64, optional
        Accuracy that each layer had in what was seen, by which layers count for the order; by default they count alike.
    """
    means = {layer: _means_over_repeats(course.categories, values) for layer, values in decoded.items()}
    true = {layer: averaged_by(course.categories, course.Y[layer])[1] for layer in decoded}
    curves = np.array([[_accuracy_at(means[k][:, i], true[k]) for i in range(len(course.times_s))] for k in decoded])
    expected = ExpectedCourse(course.times_s, course.duration_s)
    weights = expected.weights(np.stack([_strength(means[layer], true[layer]) for layer in decoded], axis=1))
    counts = np.ones(len(decoded)) if importance is None else np.maximum(importance, 0)
    return TimeCourse(
        times_s=course.times_s,
        accuracy=curves[..., 0],
        half_width=curves[..., 1],
        lags=tuple(single_lag(weights[:, i], expected) for i in range(len(decoded))),
        shift=change_of_lag(weights, counts, expected),
        middle_s=expected.middle_s(),
        duration_s=course.duration_s,
        cue_lead_s=course.cue_lead_s,
        areas=tuple(areas),
    )


def _means_over_repeats(categories: Sequence[str], values: Float32Array) -> Float64Array:
    """Return the mean of each category's clean volumes at each time; NaN where there is none."""
    clean = np.isfinite(values[..., 0]).astype(np.float64)
    _, share = averaged_by(categories, clean)
    _, mean = averaged_by(categories, np.where(clean[..., np.newaxis] > 0, values, 0))
    known = share > 0
    return np.asarray(np.where(known, 1, np.nan)[..., np.newaxis] * mean / np.where(known, share, 1)[..., np.newaxis])


def _accuracy_at(mean: Float64Array, true: Float64Array) -> tuple[float, float]:
    """Return feature accuracy at one time, and half of its 90 % interval; NaN if few categories have a clean volume."""
    clean = np.isfinite(mean[:, 0])
    if clean.sum() < 3:
        return float("nan"), float("nan")
    accuracy, *without = profile_without_each(mean[clean], true[clean])
    low, high = jackknife_interval(accuracy, np.array(without))
    return float(accuracy), (high - low) / 2 if clean.sum() > 3 else float("nan")


def _strength(mean: Float64Array, true: Float64Array) -> Float64Array:
    """Return each category's share in the covariance of decoded and true features, (n_categories, n_times).

    Unlike a correlation it is linear in what is decoded: the course of a strong response has no flatter top than that
    of a weak one, and noise alone has a mean of zero.
    """
    known = np.isfinite(mean)
    centre = np.where(known, mean, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    deviation = mean - centre
    sd = true.std(axis=0)
    z = np.where(sd > 0, (true - true.mean(axis=0)) / np.where(sd > 0, sd, 1), 0)
    size = np.sqrt((deviation[known] ** 2).sum() / max(known.sum(), 1))
    return np.asarray(np.einsum("cu,ctu->ct", z, deviation) / (true.shape[1] * (size if size > 0 else 1)))
