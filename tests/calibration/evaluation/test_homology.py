"""Areas are compared at equal numbers of voxels: the planted order is found, and shuffled voxels have none."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.null_figures import AREAS, planted_study
from calibration.decoders.settings import DecoderSettings
from calibration.evaluation.homology import FEWEST_VOXELS, homology
from calibration.evaluation.predictions import fit_fold
from calibration.metrics.statistics import profile_without_each
from calibration.parallel.progress import quiet
from rtgod.settings import NoiseSettings

N_SHUFFLED = 10


def compared(study, decoder=DecoderSettings(name="ridge")):  # noqa: B008 # never changed
    with ThreadPoolExecutor(1) as pool:
        return homology(study, NoiseSettings(), decoder, pool, quiet)


def frames(found):
    return [area for of in found.kinds.values() for area in of.best_area if area is not None]


def test_the_planted_order_is_found():
    found = compared(planted_study(0, is_shuffled=False, signal=2.0))
    assert found.areas == tuple(AREAS)
    assert found.n_voxels == min(AREAS.values()) // 2
    seen = found.kinds["seen"]
    assert seen.best_area[0] == 0
    assert seen.best_area[-1] == len(AREAS) - 1
    assert seen.centre.argmin() == 0
    assert seen.centre.argmax() == len(AREAS) - 1
    assert (seen.order.correlation, seen.order.p_value) == (pytest.approx(1), pytest.approx(1 / 24))
    assert set(found.kinds) == {"seen", "imagined"}


def test_voxels_shuffled_over_areas_show_no_frame():
    """Whereas all voxels of an area, as they are, make the largest area the best for most layers."""
    framed, largest = [], []
    for seed in range(N_SHUFFLED):
        study = planted_study(200 + seed, is_shuffled=True)
        framed.append(bool(frames(compared(study))))
        largest.append([full_size_accuracy(study, area) for area in AREAS])
    assert np.mean(framed) <= 0.05
    best = np.array(largest).argmax(axis=1)
    assert np.mean(best == list(AREAS).index("LOC")) > 0.5


def full_size_accuracy(study, area):
    fold = study.folds[0].select_voxels(study.regions[area])
    decoded = fit_fold(fold, NoiseSettings(), DecoderSettings(name="ridge")).decode(fold.tests["seen"].X)
    return [profile_without_each(values, fold.tests["seen"].Y[layer])[0] for layer, values in decoded.items()]


def test_areas_with_too_few_voxels_are_left_out_and_counted():
    study = planted_study(0, is_shuffled=False)
    few = {**study.regions, "PPA": study.regions["PPA"][: FEWEST_VOXELS - 1]}
    found = compared(replace(study, regions=few))
    assert found.areas == ("V1", "V4", "LOC")
    assert found.left_out == {"PPA": FEWEST_VOXELS - 1}
    assert found.n_voxels == 40
    only = compared(replace(study, regions={"VC": study.regions["VC"], "V1": study.regions["V1"]}))
    assert (only.kinds, only.areas) == ({}, ("V1",))


def test_another_decoder_compares_areas_as_well(monkeypatch):
    monkeypatch.setattr("calibration.evaluation.homology.N_PARTS", 2)
    study = planted_study(0, is_shuffled=False, signal=2.0)
    found = compared(study, DecoderSettings(name="ridge-select", n_voxels=20))
    assert found.kinds["seen"].centre.argmin() == 0


def test_accuracy_without_each_sample_is_that_of_the_others():
    rng = np.random.default_rng(0)
    predicted, true = rng.standard_normal((2, 9, 6)) + 5
    true[:, 2] = 3.0
    kept = [np.ones(9, bool), *~np.eye(9, dtype=bool)]
    expected = [
        sum(np.corrcoef(predicted[rows, u], true[rows, u])[0, 1] for u in range(6) if u != 2) / 6 for rows in kept
    ]
    np.testing.assert_allclose(profile_without_each(predicted, true), expected)
