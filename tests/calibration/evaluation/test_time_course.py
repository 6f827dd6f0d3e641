"""The time course says which layer comes first, and that it cannot be told where it cannot."""

import numpy as np
import pytest

from benchmarks.null_figures import POWER_SIZE, SIZES, shifts
from calibration.evaluation.time_course import time_course
from calibration.samples.study import Course
from rtgod.preprocessing.hrf import block_response


def course_of(delays_s, n_categories=20, n_repeats=2, noise=0.3):
    """Features that come and go, each layer a while after the trial's onset."""
    rng = np.random.default_rng(1)
    times_s = np.arange(-1.5, 26, 3)
    categories = tuple(f"c{i}" for i in range(n_categories)) * n_repeats
    of = np.tile(np.arange(n_categories), n_repeats)
    true, decoded = {}, {}
    for i, delay_s in enumerate(delays_s):
        true[f"layer{i}"] = rng.normal(size=(n_categories, 40))[of].astype(np.float32)
        strength = block_response(times_s - delay_s, 15.0, 5, 15, 1 / 6)
        seen = strength[:, np.newaxis] * true[f"layer{i}"][:, np.newaxis]
        decoded[f"layer{i}"] = (seen + rng.normal(0, noise, seen.shape)).astype(np.float32)
    X = np.zeros((len(categories), len(times_s), 1), np.float32)
    return Course(times_s, 15.0, X, categories, true), decoded


def test_the_time_course_finds_which_layer_comes_first():
    course, decoded = course_of([4, 2, 0])
    found = time_course(course, decoded, ("V1", "V4", "LOC"))
    np.testing.assert_allclose([lag.lag_s for lag in found.lags], [4, 2, 0], atol=0.3)
    assert all(lag.is_determined for lag in found.lags)
    assert found.shift.low_s <= found.shift.lag_s <= found.shift.high_s < 0
    assert found.shift.lag_s == pytest.approx(-4, abs=0.5)
    assert found.areas == ("V1", "V4", "LOC")
    assert np.isfinite(found.half_width).all()
    assert 11 < found.middle_s < 14


def test_layers_that_counted_for_nothing_in_what_was_seen_do_not_count():
    course, decoded = course_of([0, 4, 0])
    found = time_course(course, decoded, ("",) * 3, np.array([0.4, 0.0, 0.4]))
    assert found.shift.lag_s == pytest.approx(0, abs=0.5)


def test_a_unit_and_a_layer_that_do_not_vary_say_nothing():
    course, decoded = course_of([0, 0])
    course.Y["layer1"][:] = 2
    course.Y["layer0"][:, 3] = 2
    found = time_course(course, decoded, ("", ""))
    assert found.lags[0].is_determined
    assert not found.lags[1].is_found
    assert not found.shift.is_found


def test_lost_volumes_are_left_out_of_the_course():
    course, decoded = course_of([0, 0])
    whole = time_course(course, decoded, ("", ""))
    for values in decoded.values():
        values[3, 2] = np.nan  # one repeat of a category; another is left
        values[:, 5] = np.nan
    found = time_course(course, decoded, ("", ""))
    assert np.isnan(found.accuracy[:, 5]).all()
    assert np.isnan(found.half_width[:, 5]).all()
    np.testing.assert_array_equal(found.accuracy[:, [0, 1, 3]], whole.accuracy[:, [0, 1, 3]])
    assert (found.accuracy[:, 2] != whole.accuracy[:, 2]).all()
    assert found.shift.lag_s == pytest.approx(whole.shift.lag_s, abs=1)


def test_without_a_lag_zero_is_in_nine_of_ten_intervals():
    """Decoded imagery of all layers with one time course, from strong responses to none: 200 data sets."""
    found = [course.shift for size in SIZES for seed in range(100, 104) for course in shifts(0.0, size, seed)]
    assert len(found) == 200
    # Intervals of weak responses are wide, and cover more often than they say.
    assert 0.85 <= np.mean([shift.low_s <= 0 <= shift.high_s for shift in found]) <= 0.97
    strong = found[:80]
    assert 0.82 <= np.mean([shift.low_s <= 0 <= shift.high_s for shift in strong]) <= 0.97
    assert np.mean([shift.is_determined for shift in strong]) > 0.8
    none = found[160:]
    assert np.mean([shift.is_determined for shift in none]) < 0.1


def test_a_planted_lag_is_found():
    found = [course.shift for seed in range(100, 104) for course in shifts(4.0, POWER_SIZE, seed)]
    assert np.mean([shift.high_s < 0 for shift in found]) > 0.6
    assert not any(shift.low_s > 0 for shift in found)
