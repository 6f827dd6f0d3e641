"""What is left out is left out whole: the run's noise, its trials, and of new categories theirs."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.decoders.settings import DecoderSettings
from calibration.parallel.progress import quiet
from calibration.samples.study import Samples, Windows
from calibration.samples.whitening import Whitening
from calibration.training.fit import train
from calibration.training.left_out_predictions import LeftOutPredictor, run_folds, windows_of
from rtgod.settings import NoiseSettings

N_VOXELS, N_RUNS, N_CATEGORIES = 40, 4, 6
RUNS = [f"run {run}" for run in range(N_RUNS)]
SETTINGS = NoiseSettings(n_components=10)


def samples(seed=0, windows=True):
    """Each run shows each category once, in windows of two volumes."""
    rng = np.random.default_rng(seed)
    responses = rng.standard_normal((N_CATEGORIES, N_VOXELS))
    categories = np.tile(np.arange(N_CATEGORIES), N_RUNS)
    X = (responses[categories][:, np.newaxis] + rng.standard_normal((len(categories), 2, N_VOXELS))).astype(np.float32)
    of = np.repeat(np.arange(len(categories), dtype=np.int32), 2)
    n_volumes = np.tile(np.array([1, 2], np.int32), len(categories))
    return Samples(
        X[:, -1],
        tuple(np.repeat(RUNS, N_CATEGORIES).tolist()),
        tuple(f"c{category}" for category in categories),
        {"units": rng.standard_normal((N_CATEGORIES, 5)).astype(np.float32)[categories]},
        Windows(of, n_volumes, X.reshape(-1, N_VOXELS)) if windows else None,
    )


def noise(seed=0):
    rng = np.random.default_rng(seed)
    return {run: rng.standard_normal((30, N_VOXELS)).astype(np.float32) for run in RUNS}


def test_whitening_does_not_know_the_run_that_is_left_out():
    own, other = noise(), noise()
    other["run 1"] = 5 * noise(1)["run 1"]
    before, after = (list(run_folds(samples(), Whitening.of(each, SETTINGS), 10)) for each in (own, other))
    for run, (one, another) in enumerate(zip(before, after, strict=True)):
        left_out = {samples().runs[row] for row in one.left_out}
        assert len(left_out) == 1
        same = one.samples.X.tobytes() == another.samples.X.tobytes()
        assert same == (left_out == {"run 1"}), run


def test_noise_that_the_whitening_knows_is_smaller_than_that_of_a_new_run():
    """So that decoders of folds would be too good, and rankings of new runs too sure."""
    ratios = []
    for seed in range(5):
        own = noise(seed)
        whitening = Whitening.of(own, SETTINGS)
        known, unknown = whitening.shape, whitening.shape_without({"run 0"})
        sizes = [np.std([shape.whiten(volume) for volume in own["run 0"]]) for shape in (known, unknown)]
        ratios.append(sizes[0] / sizes[1])
    assert max(ratios) < 0.97


def predictions(given, **options):
    trained = train(given.X, given.runs, given.Y, DecoderSettings(name="ridge"), quiet)
    predictor = LeftOutPredictor(given, trained, DecoderSettings(name="ridge"), in_scale=False, **options)
    for number, fold in enumerate(run_folds(given, None, 10)):
        predictor.take(fold, number)
    return predictor.done()


def test_every_window_is_predicted_without_its_run_and_without_run_and_category():
    without_run, without_both = predictions(samples(), without_categories=True)
    windows = windows_of(samples())
    for window, row in enumerate(windows.of):
        own = samples().categories[row]
        assert own in without_run.kept_categories[without_run.fold[window]]
        assert own not in without_both.kept_categories[without_both.fold[window]]
        assert without_both.are_new_to(without_both.fold[window], [own, "c99"]).all()


@pytest.mark.parametrize("changed", ["run 2", "c3"])
def test_trials_of_what_is_left_out_change_nothing(changed):
    given = samples()
    rows = np.array([changed in pair for pair in zip(given.runs, given.categories, strict=True)])
    other = replace(given, Y={"units": np.where(rows[:, np.newaxis], 100 * given.Y["units"], given.Y["units"])})
    trained = train(given.X, given.runs, given.Y, DecoderSettings(name="ridge"), quiet)
    found = []
    for each in (given, other):
        predictor = LeftOutPredictor(
            each, trained, DecoderSettings(name="ridge"), in_scale=False, without_categories=True
        )
        for number, fold in enumerate(run_folds(each, None, 10)):
            predictor.take(fold, number)
        found.append(predictor.done())
    own = rows[windows_of(given).of]
    for before, after in zip(*found, strict=True):
        same = np.isclose(before.layers["units"], after.layers["units"]).all(axis=1)
        if changed == "run 2" or before is found[0][1]:
            assert same[own].all()
        assert not same[~own].all()


def test_complete_samples_whose_windows_are_unknown_are_one_window_each():
    without_run, none = predictions(samples(windows=False), without_categories=False)
    assert none is None
    assert without_run.layers["units"].shape == (N_RUNS * N_CATEGORIES, 5)
    assert (without_run.fold >= 0).all()
