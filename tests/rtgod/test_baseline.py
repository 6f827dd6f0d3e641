import numpy as np
import pytest

from rtgod.baseline import Baseline
from rtgod.settings import BaselineSettings
from tests import naive

N_VOXELS = 7


def intensities(n_volumes, drift=0.0, noise=8.0, seed=0):
    """(n_volumes, n_voxels): levels of 400 to 1000, a linear drift in percent over the run, and noise."""
    rng = np.random.default_rng(seed)
    level = np.linspace(400, 1000, N_VOXELS)
    line = 1 + drift / 100 * np.linspace(0, 1, n_volumes)[:, np.newaxis]
    return (level * line + rng.normal(0, noise, (n_volumes, N_VOXELS))).astype(np.float32)


def fed(values, indices=None, tr_s=2.0, **settings):
    baseline = Baseline(values.shape[1], tr_s, BaselineSettings(**settings))
    for index, one in zip(range(len(values)) if indices is None else indices, values, strict=True):
        baseline.update(index, one)
    return baseline


@pytest.mark.parametrize("slope_sd", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("memory_s", [20.0, 120.0, 1000.0])
@pytest.mark.parametrize(
    "indices",
    [list(range(40)), [5, 6, 7, 9, 10, 25, 26, 40, 41, 42]],
    ids=["every volume", "gaps and a late start"],
)
def test_every_prediction_is_the_posterior_of_the_dense_model(indices, memory_s, slope_sd):
    values, tr_s = intensities(len(indices), drift=3.0), 2.0
    baseline = Baseline(N_VOXELS, tr_s, BaselineSettings(memory_s=memory_s, slope_sd=slope_sd))
    for n, index in enumerate(indices):
        if n:
            seen = indices[:n]
            for ahead in (index, index + 5):
                expected = naive.predicted_baseline(ahead, seen, values[:n], tr_s, memory_s, slope_sd)
                np.testing.assert_allclose(baseline.predict(ahead), expected, rtol=1e-5)
        baseline.update(index, values[n])


def test_change_is_percent_of_the_prediction_and_learns_nothing():
    baseline, values = fed(intensities(20)), intensities(21)[20]
    before = baseline.predict(20)
    np.testing.assert_allclose(baseline.change(20, values), 100 * (values / before - 1), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(baseline.predict(20), before)
    assert baseline.change(20, values).dtype == np.float32


def test_a_response_of_one_percent_is_one_percent():
    values = np.full((30, N_VOXELS), 500, np.float32)
    np.testing.assert_allclose(fed(values).change(30, values[0] * np.float32(1.01)), 1.0, atol=1e-3)


def test_missing_values_give_no_change_and_teach_nothing():
    values = intensities(30)
    holed = values.copy()
    holed[10, 2] = holed[20:23, 4] = np.nan
    with_holes, whole = fed(holed), fed(values)
    assert np.isfinite(with_holes.predict(30)).all()
    others = [0, 1, 3, 5, 6]
    np.testing.assert_array_equal(with_holes.predict(30)[others], whole.predict(30)[others])
    np.testing.assert_allclose(with_holes.predict(30), values.mean(axis=0), rtol=0.02)
    now = values[0].copy()
    now[[1, 5]] = np.nan
    change = with_holes.change(30, now)
    assert (change[[1, 5]] == 0).all()
    assert (change[others[2:]] != 0).any()


@pytest.mark.parametrize("first", [1, 5, 30])
def test_a_voxel_that_enters_the_field_of_view_late_is_not_a_response(first):
    values = intensities(60)
    values[:first, 3] = np.nan
    baseline = Baseline(N_VOXELS, 2.0, BaselineSettings())
    for index, one in enumerate(values):
        if index == first:
            assert baseline.change(index, one)[3] == 0
        elif index > first:
            assert abs(baseline.change(index, one)[3]) < 8  # the noise is 1.1 %
        baseline.update(index, one)


def test_voxels_without_signal_have_no_change():
    values = np.column_stack([intensities(20), np.full(20, 0.5), np.zeros(20), np.full(20, -3.0)]).astype(np.float32)
    change = fed(values).change(20, values[0] + 10)
    assert (change[-3:] == 0).all()
    assert (change[:-3] != 0).all()


def test_all_missing_is_all_zero():
    empty = np.full((8, N_VOXELS), np.nan, np.float32)
    np.testing.assert_array_equal(fed(empty).change(8, intensities(1)[0]), 0)
    np.testing.assert_array_equal(fed(intensities(8)).change(8, empty[0]), 0)


@pytest.mark.parametrize("warm_up_volumes", [2, 6])
def test_ready_after_that_many_volumes(warm_up_volumes):
    values = intensities(warm_up_volumes)
    assert not fed(values[:-1], warm_up_volumes=warm_up_volumes).ready
    assert fed(values, warm_up_volumes=warm_up_volumes).ready


@pytest.mark.parametrize(
    ("tr_s", "discard_s", "first"), [(3.0, 9.0, 3), (2.0, 9.0, 5), (1.97, 9.0, 5), (0.29, 29.0, 100), (3.0, 0.0, 0)]
)
def test_volumes_that_start_before_the_magnetisation_settles_are_discarded(tr_s, discard_s, first):
    baseline = Baseline(1, tr_s, BaselineSettings(discard_s=discard_s))
    assert [baseline.settled(index) for index in range(first + 2)] == [False] * first + [True, True]


def rms_error(values, truth, **settings):
    errors, baseline = [], Baseline(N_VOXELS, 2.0, BaselineSettings(**settings))
    for index, one in enumerate(values):
        if index > 20:
            errors.append(baseline.predict(index) - truth[index])
        baseline.update(index, one)
    return float(np.sqrt(np.mean(np.square(errors))))


def test_the_slope_follows_a_linear_drift_better_than_a_level():
    values, truth = intensities(150, drift=8), intensities(150, drift=8, noise=0)
    assert rms_error(values, truth, slope_sd=5.0) < 0.7 * rms_error(values, truth, slope_sd=0.0)


def test_a_longer_memory_is_steadier_and_slower():
    still, drifting = intensities(150), intensities(150, drift=15)
    flat, line = intensities(150, noise=0), intensities(150, drift=15, noise=0)
    short, long = {"memory_s": 20.0, "slope_sd": 0.0}, {"memory_s": 400.0, "slope_sd": 0.0}
    assert rms_error(still, flat, **long) < 0.6 * rms_error(still, flat, **short)
    assert rms_error(drifting, line, **long) > 1.5 * rms_error(drifting, line, **short)


def test_the_past_alone_decides():
    values = intensities(40)
    changed = values.copy()
    changed[25:] *= 2
    np.testing.assert_array_equal(fed(values[:25]).predict(25), fed(changed[:25]).predict(25))
    a, b = Baseline(N_VOXELS, 2.0, BaselineSettings()), Baseline(N_VOXELS, 2.0, BaselineSettings())
    for index in range(40):
        if index <= 25:
            np.testing.assert_array_equal(a.predict(index), b.predict(index))
        a.update(index, values[index])
        b.update(index, changed[index])
