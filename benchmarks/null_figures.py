"""What the figures on areas and on imagery's order find where nothing is there to be found, and where something is.

Voxels are drawn at the level of patterns: layers that depend on each other, areas that mix neighbouring layers, noise.
*Areas*: voxels shuffled over the areas must give no frame and no order; as they were planted, the order is to be found.
*Imagery*: responses of all layers with the same time course, from strong to absent, in noise that is correlated over
time; the interval of the change from the lowest to the highest layer must contain zero in 90 % of the data sets. With
lags planted, it is to exclude zero: the power.

    python -m benchmarks.null_figures [--quick] [--json PATH]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.figures import print_all, write_json
from calibration.decoders.ridge import DualRidge, fit_layers, predict_layers
from calibration.decoders.settings import DecoderSettings
from calibration.evaluation.homology import Homology, homology
from calibration.evaluation.time_course import TimeCourse, time_course
from calibration.metrics.lags import Lag
from calibration.parallel.progress import in_pool, quiet
from calibration.parallel.workers import workers
from calibration.samples.study import CandidateFeatures, Course, Fold, Samples, Study
from rtgod.messages import Float32Array, Float64Array
from rtgod.preprocessing.hrf import block_response
from rtgod.settings import NoiseSettings

N_LAYERS, N_UNITS = 4, 20
#: Numbers of voxels of the areas, from the lowest to the highest: the largest lies in the middle.
AREAS = {"V1": 90, "V4": 80, "LOC": 140, "PPA": 60}
N_TRAINING, N_CATEGORIES, N_RUNS = 90, 30, 6
#: Standard deviation of a voxel's noise, where that of its response is about 1.
NOISE = 4.0
#: Imagery: categories, voxels of an area, volumes from a little before to a little after a trial of 15 s.
N_IMAGINED, N_VOXELS, DURATION_S = 50, 60, 15.0
TIMES_S: Float64Array = (np.arange(-1, 9, dtype=np.float64) + 0.5) * 3.0
IMAGERY_NOISE, AUTOCORRELATION = 3.0, 0.5
#: Size of the imagined response, from as large as a seen one to none; and that for which power is measured, at which
#: the feature accuracy of the best layer peaks near 0.2.
SIZES, POWER_SIZE = (2.0, 0.5, 0.25, 0.12, 0.0), 0.5
LAGS_S = (1.0, 2.0, 4.0)
#: Numbers of data sets: voxels shuffled, areas planted, no lag, and each lag.
N_SHUFFLED, N_PLANTED, N_NULL, N_LAGGED = 100, 20, 200, 60
_PER_DECODER = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null_figures", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the data sets, for a try")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    figures = null_figures(0.1 if options.quick else 1.0)
    print_all(figures)
    if options.json:
        write_json(options.json, figures)
    return 0


def null_figures(share: float = 1.0) -> dict[str, float]:
    """Measure both figures by two processes, with a share of the usual numbers of data sets."""
    with workers(2) as pool:
        return area_figures(pool, share) | imagery_figures(pool, share)


def area_figures(pool: Executor, share: float = 1.0) -> dict[str, float]:
    """Return how often areas are framed and ordered: shuffled, and as planted."""
    n_shuffled, n_planted = (max(round(share * n), 2) for n in (N_SHUFFLED, N_PLANTED))
    seeds = [(seed, True) for seed in range(n_shuffled)] + [(seed, False) for seed in range(n_planted)]
    found = in_pool(pool, "areas", quiet, _compared, seeds)
    shuffled, planted = found[:n_shuffled], found[n_shuffled:]
    return {
        "n_shuffled": len(shuffled),
        "null_homology_frames": float(np.mean([any(_framed(one)) for one in shuffled])),
        "null_homology_order": float(np.mean([one.kinds["seen"].order.p_value <= 0.05 for one in shuffled])),
        "planted_homology_frames": float(np.mean([any(_framed(one)) for one in planted])),
        "planted_homology_wrong_frames": float(np.mean([_is_wrong(one) for one in planted])),
        "planted_homology_order": float(np.mean([one.kinds["seen"].order.p_value <= 0.05 for one in planted])),
        "planted_homology_ends": float(np.mean([_has_ends(one) for one in planted])),
    }


def imagery_figures(pool: Executor, share: float = 1.0) -> dict[str, float]:
    """Return how often the interval of imagery's order contains zero without a lag, and excludes it with one."""
    per_size, per_lag = (max(round(share * n / _PER_DECODER), 1) for n in (N_NULL // len(SIZES), N_LAGGED))
    settings = [(0.0, size, seed) for size in SIZES for seed in range(per_size)]
    settings += [(lag_s, POWER_SIZE, seed) for lag_s in LAGS_S for seed in range(per_lag)]
    results = in_pool(pool, "imagery", quiet, shifts, settings)
    null: dict[float, list[Lag]] = {size: [] for size in SIZES}
    lagged: dict[float, list[Lag]] = {lag_s: [] for lag_s in LAGS_S}
    for (lag_s, size, _), of_decoder in zip(settings, results, strict=True):
        (lagged[lag_s] if lag_s else null[size]).extend(course.shift for course in of_decoder)
    all_null = [shift for of_size in null.values() for shift in of_size]
    figures = {
        "n_null": len(all_null),
        "null_peak_coverage": 1 - float(np.mean([shift.is_found for shift in all_null])),
        "null_peak_estimate_outside": float(np.mean([_is_outside(shift) for shift in all_null])),
    }
    for size, of_size in null.items():
        name = f"{size:g}".replace(".", "_")
        figures[f"null_peak_coverage_size_{name}"] = 1 - float(np.mean([shift.is_found for shift in of_size]))
        figures[f"null_peak_determined_size_{name}"] = float(np.mean([shift.is_determined for shift in of_size]))
    for lag_s, of_lag in lagged.items():
        figures[f"peak_power_lag_{lag_s:g}s"] = float(np.mean([shift.high_s < 0 for shift in of_lag]))
        figures[f"peak_coverage_lag_{lag_s:g}s"] = float(
            np.mean([shift.low_s <= -lag_s <= shift.high_s for shift in of_lag])
        )
    return figures


def planted_study(seed: int, *, is_shuffled: bool, signal: float = 1.0) -> Study:
    """Draw a study whose areas prefer higher layers from first to last, or whose voxels are shuffled over the areas."""
    rng = np.random.default_rng(seed)
    chain = _chain(rng)
    area = np.repeat(np.arange(len(AREAS)), list(AREAS.values()))
    place = np.linspace(0, 1, len(AREAS))[area]
    mix = np.exp(-0.5 * ((np.linspace(0, 1, N_LAYERS)[:, np.newaxis] - place) / 0.3) ** 2)
    strength = signal * rng.lognormal(0, 0.5, len(area)) / np.linalg.norm(mix, axis=0)
    weights = rng.standard_normal((N_LAYERS, N_UNITS, len(area))) / np.sqrt(N_UNITS) * (mix * strength)[:, np.newaxis]

    def samples(layers: Float64Array, size: float, noise: float, run_of: Sequence[str]) -> Samples:
        X = size * np.einsum("lnu,luv->nv", layers, weights)
        X += noise * rng.standard_normal(X.shape)
        names = tuple(f"c{i}" for i in range(len(X)))
        return Samples(X.astype(np.float32), tuple(run_of), names, _named(layers))

    training, tested = _features(rng, chain, N_TRAINING), _features(rng, chain, N_CATEGORIES)
    fold = Fold(
        samples(training, 1, NOISE, [f"run-{i % N_RUNS}" for i in range(N_TRAINING)]),
        {},
        {
            "seen": samples(tested, 1, NOISE / 3, ["seen"] * N_CATEGORIES),
            "imagined": samples(tested, 0.3, NOISE / 3, ["imagined"] * N_CATEGORIES),
        },
        {},
    )
    voxels = rng.permutation(len(area)) if is_shuffled else np.arange(len(area))
    regions = {name: np.sort(voxels[area == i]).astype(np.int32) for i, name in enumerate(AREAS)}
    names = fold.tests["seen"].categories
    everywhere = {"VC": np.arange(len(area), dtype=np.int32)}
    return Study((fold,), everywhere | regions, CandidateFeatures(names, names, _named(tested)))


def shifts(lag_s: float, size: float, seed: int) -> list[TimeCourse]:
    """Train decoders, then draw imagery several times, with the lowest layer late by `lag_s`, and find its order."""
    rng = np.random.default_rng((seed, round(1000 * size), round(1000 * lag_s)))
    chain = _chain(rng)
    training = _features(rng, chain, 200)
    weights = rng.standard_normal((N_LAYERS, N_LAYERS, N_UNITS, N_VOXELS)) / np.sqrt(N_UNITS)
    # Layers have areas of their own, of which the lowest has the least noise, and neighbours are mixed in.
    distance = np.subtract.outer(np.arange(N_LAYERS), np.arange(N_LAYERS))
    weights *= (np.exp(-0.5 * distance**2) * np.linspace(1.5, 0.5, N_LAYERS)[:, np.newaxis])[
        ..., np.newaxis, np.newaxis
    ]
    X = np.einsum("lnu,aluv->anv", training, weights)
    X += IMAGERY_NOISE * rng.standard_normal(X.shape)
    decoders = [
        fit_layers(of_area, {name: values}, {name: 0.5 * N_VOXELS})
        for of_area, (name, values) in zip(X, _named(training).items(), strict=True)
    ]
    lags_s = np.linspace(lag_s, 0, N_LAYERS)
    course = size * np.stack([block_response(TIMES_S - lag, DURATION_S, 5, 15, 1 / 6) for lag in lags_s])
    return [_imagined(rng, _features(rng, chain, N_IMAGINED), course, weights, decoders) for _ in range(_PER_DECODER)]


def _imagined(
    rng: np.random.Generator,
    layers: Float64Array,
    course: Float64Array,
    weights: Float64Array,
    decoders: Sequence[Mapping[str, DualRidge]],
) -> TimeCourse:
    X = np.einsum("lt,lnu,aluv->antv", course, layers, weights, optimize=True)
    noise = rng.standard_normal(X.shape)
    for i in range(1, len(TIMES_S)):
        noise[:, :, i] = AUTOCORRELATION * noise[:, :, i - 1] + np.sqrt(1 - AUTOCORRELATION**2) * noise[:, :, i]
    X += IMAGERY_NOISE * noise
    true = _named(layers)
    decoded = {
        name: predict_layers(models, X[i].reshape(-1, N_VOXELS))[name].reshape(*X[i].shape[:2], -1).astype(np.float32)
        for i, (name, models) in enumerate(zip(true, decoders, strict=True))
    }
    names = tuple(f"c{i}" for i in range(len(X[0])))
    voxels = np.zeros((*X[0].shape[:2], 1), np.float32)
    importance = np.linspace(0.8, 0.4, N_LAYERS)  # about what these decoders reach for what was seen
    return time_course(Course(TIMES_S, DURATION_S, voxels, names, true), decoded, [""] * N_LAYERS, importance)


def _compared(seed: int, is_shuffled: bool) -> Homology:  # for a pool, which takes positions
    study = planted_study(seed, is_shuffled=is_shuffled)
    with ThreadPoolExecutor(1) as here:
        return homology(study, NoiseSettings(), DecoderSettings(name="ridge"), here, quiet)


def _chain(rng: np.random.Generator) -> Float64Array:
    """Draw what each layer takes from the one below."""
    return rng.standard_normal((N_LAYERS - 1, N_UNITS, N_UNITS)) / np.sqrt(N_UNITS)


def _features(rng: np.random.Generator, chain: Float64Array, n: int) -> Float64Array:
    """Draw features of n pictures, (n_layers, n, n_units), each layer partly made from the one below."""
    spectrum = 2.5 / np.sqrt(1 + np.arange(N_UNITS))
    layers = [rng.standard_normal((n, N_UNITS)) * spectrum]
    for mix in chain:
        layers.append(0.6 * layers[-1] @ mix + 0.8 * rng.standard_normal((n, N_UNITS)) * spectrum)
    return np.stack(layers)


def _named(layers: Float64Array) -> dict[str, Float32Array]:
    return {f"layer{i}": values.astype(np.float32) for i, values in enumerate(layers, 1)}


def _framed(found: Homology) -> list[bool]:
    return [area is not None for of in found.kinds.values() for area in of.best_area]


def _is_wrong(found: Homology) -> bool:
    """Return whether an area is framed for a layer that it is not the nearest to."""
    return any(area not in (None, i) for of in found.kinds.values() for i, area in enumerate(of.best_area))


def _has_ends(found: Homology) -> bool:
    """Return whether the first area has the lowest centre, and the last one the highest."""
    centre = found.kinds["seen"].centre
    return bool(np.isfinite(centre).all() and centre.argmin() == 0 and centre.argmax() == len(centre) - 1)


def _is_outside(shift: Lag) -> bool:
    return not np.isnan(shift.lag_s) and not shift.low_s <= shift.lag_s <= shift.high_s


if __name__ == "__main__":
    sys.exit(main())
