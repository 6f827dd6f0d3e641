"""Compare areas at equal numbers of voxels: decoders are trained on parts of each area, drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from calibration.decoders.ridge import JUDGED_UNITS
from calibration.decoders.settings import DecoderSettings
from calibration.evaluation.predictions import fit_fold
from calibration.metrics.area_comparison import AreaAccuracies, AreaComparison, compare_areas, parts_of
from calibration.metrics.group_means import averaged_by
from calibration.metrics.statistics import profile_without_each
from calibration.parallel.progress import Report, in_pool
from calibration.samples.study import Fold, Samples, Study
from rtgod.messages import Float32Array, Float64Array, Int32Array
from rtgod.settings import NoiseSettings

#: Areas with fewer voxels are not compared.
FEWEST_VOXELS = 40
#: Number of parts of each area that decoders are trained on.
N_PARTS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Homology:
    """Comparison of areas at equal numbers of voxels.

    Attributes
    ----------
    areas : tuple of str
        Areas that are compared, in the order given.
    left_out : mapping of str to int
        Areas with too few voxels to be compared, with their numbers of voxels.
    n_voxels, n_parts : int
        Number of voxels of each part, half of the smallest area's, and number of parts of each area.
    kinds : mapping of str to AreaComparison
        Comparison for each kind of trials; empty if fewer than two areas or layers can be compared.
    """

    areas: tuple[str, ...]
    left_out: Mapping[str, int]
    n_voxels: int
    n_parts: int
    kinds: Mapping[str, AreaComparison]


def areas_of(regions: Mapping[str, Int32Array]) -> tuple[str, ...]:
    """Return the regions that contain no other region: areas, not unions of them.

    Parameters
    ----------
    regions : mapping of str to ndarray of shape (n_voxels_of_region,), int32
        Columns of each region.
    """
    voxels = {name: set(columns.tolist()) for name, columns in regions.items()}
    return tuple(name for name, region in voxels.items() if not any(other < region for other in voxels.values()))


def homology(
    study: Study, noise: NoiseSettings, decoder: DecoderSettings, pool: Executor, report: Report, seed: int = 0
) -> Homology:
    """Compare the study's areas at equal numbers of voxels.

    Each area is split at random into parts of half as many voxels as the smallest area has, several times over, and
    decoders of their own are trained on each part, for the first units of each layer.

    Parameters
    ----------
    study : Study
    noise : NoiseSettings
    decoder : DecoderSettings
    pool : Executor
    report : callable
        Called with (stage, steps done, steps in all).
    seed : int
        Seed of the draws of voxels.

    Raises
    ------
    InputError
        If there are too few samples to train on.
    """
    sizes = {area: len(study.regions[area]) for area in areas_of(study.regions)}
    areas = tuple(area for area, n in sizes.items() if n >= FEWEST_VOXELS)
    left_out = {area: n for area, n in sizes.items() if n < FEWEST_VOXELS}
    if len(areas) < 2 or len(study.candidates.features) < 2:
        return Homology(areas, left_out, 0, 0, {})
    n_voxels = min(sizes[area] for area in areas) // 2
    rng = np.random.default_rng(seed)
    folds = [_reduced(fold) for fold in study.folds]
    # Accuracy on training runs that were left out is not needed, and takes `ridge-select` and `slr` most of the time.
    decoder = decoder.model_copy(update={"n_folds": 0})
    arguments = [
        ([fold.select_voxels(part.astype(np.int32)) for fold in folds], noise, decoder)
        for area in areas
        for part in parts_of(study.regions[area], n_voxels, N_PARTS, rng)
    ]
    results = in_pool(pool, "areas", report, _part_accuracy, arguments)
    share = np.array([n_voxels / sizes[area] for area in areas])
    kinds = {}
    for kind in folds[0].tests:
        by_area = np.stack([result[kind] for result in results]).reshape(len(areas), N_PARTS, *results[0][kind].shape)
        accuracies = AreaAccuracies(by_area[:, :, 0], by_area[:, :, 1:].mean(axis=1), share)
        kinds[kind] = compare_areas(accuracies, len(folds[0].tests))
    return Homology(areas, left_out, n_voxels, N_PARTS, kinds)


def _reduced(fold: Fold) -> Fold:
    """Return a fold with complete samples and fewer units, in which repeats of a test category are averaged.

    Decoders are linear, so that the decoded mean is the mean of what is decoded.
    """
    training = replace(fold.training, Y=_fewer_units(fold.training.Y), windows=None)
    return Fold(training, fold.noise, {kind: _averaged(test) for kind, test in fold.tests.items()}, {})


def _averaged(test: Samples) -> Samples:
    names, X = averaged_by(test.categories, test.X)
    Y = {layer: _mean(test.categories, values) for layer, values in _fewer_units(test.Y).items()}
    return Samples(X.astype(np.float32), ("",) * len(names), tuple(names), Y)


def _fewer_units(Y: Mapping[str, Float32Array]) -> dict[str, Float32Array]:
    return {layer: values[:, :JUDGED_UNITS] for layer, values in Y.items()}


def _mean(labels: Sequence[str], values: Float32Array) -> Float32Array:
    return averaged_by(labels, values)[1].astype(np.float32)


def _part_accuracy(folds: Sequence[Fold], noise: NoiseSettings, decoder: DecoderSettings) -> dict[str, Float64Array]:
    """Train on some voxels; return each kind's accuracy in row 0, then without each category: (1 + n, n_layers)."""
    fits = [fit_fold(fold, noise, decoder) for fold in folds]
    accuracy = {}
    for kind in folds[0].tests:
        tests = [fold.tests[kind] for fold in folds]
        decoded = [fit.decode(test.X) for fit, test in zip(fits, tests, strict=True)]
        labels = [category for test in tests for category in test.categories]
        columns = [
            profile_without_each(
                _mean(labels, np.concatenate([part[layer] for part in decoded])),
                _mean(labels, np.concatenate([test.Y[layer] for test in tests])),
            )
            for layer in decoded[0]
        ]
        accuracy[kind] = np.stack(columns, axis=1)
    return accuracy
