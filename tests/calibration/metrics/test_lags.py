"""A lag is told where the data tell it, its set covers the truth as often as it says, and noise has no order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.metrics.lags import LONGEST_S, UNKNOWN, ExpectedCourse, change_of_lag, single_lag

TIMES_S = (np.arange(-1, 9) + 0.5) * 3.0
EXPECTED = ExpectedCourse(TIMES_S, 15.0)


def responses(lags_s, sizes=None, noise=0.0, n_units=20, seed=0):
    """Responses of units, (n_units, n_lags, n_times), that come late by the lags."""
    sizes = np.ones(len(lags_s)) if sizes is None else np.asarray(sizes)
    rng = np.random.default_rng(seed)
    courses = EXPECTED.at_lag(np.asarray(lags_s, float)) * sizes[:, np.newaxis]
    of_units = rng.uniform(0.5, 1.5, (n_units, 1, 1)) * courses
    return of_units + noise * rng.standard_normal(of_units.shape)


@given(st.floats(-5, 5), st.floats(0.01, 100), st.sampled_from([(15.0, 3.0), (9.0, 3.0), (30.0, 2.0), (4.0, 1.0)]))
@settings(max_examples=40, deadline=None)
def test_a_lag_with_little_noise_is_found_whatever_the_size(lag_s, size, timing):
    duration_s, tr_s = timing
    times_s = (np.arange(-round(3 / tr_s), round((duration_s + 12) / tr_s)) + 0.5) * tr_s
    expected = ExpectedCourse(times_s, duration_s)
    rng = np.random.default_rng(0)
    units = size * rng.uniform(0.5, 1.5, (8, 1)) * expected.at_lag(np.array(lag_s))
    units += 0.003 * size * rng.standard_normal(units.shape)
    lag = single_lag(expected.weights(units), expected)
    assert lag.lag_s == pytest.approx(lag_s, abs=0.15)
    assert lag.is_determined


def test_a_change_of_lag_is_found_beside_a_lag_that_all_share():
    lags_s = 1.5 + np.linspace(2, -2, 5)
    shift = change_of_lag(EXPECTED.weights(responses(lags_s, [3, 1, 2, 0.5, 1], 0.01)), np.ones(5), EXPECTED)
    assert shift.lag_s == pytest.approx(-4, abs=0.15)
    assert shift.is_found


def test_volumes_that_were_lost_do_not_move_a_lag():
    of_units = responses([2.0], noise=0.01)
    of_units[3, :, 4] = np.nan
    of_units[:, :, 6] = np.nan
    assert single_lag(EXPECTED.weights(of_units)[:, 0], EXPECTED).lag_s == pytest.approx(2, abs=0.1)
    of_units[5] = np.nan
    assert single_lag(EXPECTED.weights(of_units)[:, 0], EXPECTED).lag_s == pytest.approx(2, abs=0.1)


def test_a_lag_that_no_unit_tells_is_unknown():
    assert single_lag(EXPECTED.weights(responses([0.0], n_units=5))[:, 0], EXPECTED) == UNKNOWN
    two = EXPECTED.weights(responses([0.0, 1.0]))
    assert change_of_lag(two, np.array([1.0, 0.0]), EXPECTED) == UNKNOWN
    assert not UNKNOWN.is_determined
    assert not UNKNOWN.is_found


def test_a_response_upside_down_has_no_lag():
    lag = single_lag(EXPECTED.weights(-responses([1.0], noise=0.1))[:, 0], EXPECTED)
    assert np.isnan(lag.lag_s)
    assert not lag.is_determined


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.5, 2.0]), st.floats(-4, 4))
@settings(max_examples=30, deadline=None)
def test_the_best_lag_is_always_in_its_set(seed, size, lag_s):
    of_units = responses([0, lag_s / 2, lag_s], [size, 2 * size, size / 2], noise=1.0, seed=seed)
    weights = EXPECTED.weights(of_units)
    for lag in (*(single_lag(weights[:, i], EXPECTED) for i in range(3)), change_of_lag(weights, np.ones(3), EXPECTED)):
        assert lag.low_s <= lag.high_s
        assert np.isnan(lag.lag_s) or lag.low_s <= lag.lag_s <= lag.high_s
        assert abs(lag.lag_s) <= LONGEST_S or np.isnan(lag.lag_s)
        assert lag.is_found <= (lag.p_value <= 0.1 + 1e-9)


@pytest.mark.parametrize("size", [2.0, 0.5])
def test_sets_of_a_single_lag_cover_it_as_often_as_they_say(size):
    lags = [single_lag(EXPECTED.weights(responses([1.0], [size], 1.0, seed=i))[:, 0], EXPECTED) for i in range(200)]
    assert 0.85 <= np.mean([lag.low_s <= 1 <= lag.high_s for lag in lags]) <= 0.95


def test_noise_alone_determines_nothing():
    lags = [single_lag(EXPECTED.weights(responses([0.0], [0.0], 1.0, seed=i))[:, 0], EXPECTED) for i in range(200)]
    assert np.mean([lag.is_determined for lag in lags]) < 0.1
    assert np.mean([lag.is_found for lag in lags]) < 0.15
