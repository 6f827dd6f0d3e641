"""Calibration error: none beyond chance where predictions are right, and found where they are not."""

import numpy as np
import pytest

from calibration.metrics.reliability import calibration, n_bins_for, reliability_bins


def outcomes(n, seed, wrong_by=0.0):
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.1, 0.9, n)
    return p, rng.uniform(size=n) < p + wrong_by


@pytest.mark.parametrize("n", [60, 200, 1000])
def test_right_predictions_have_no_error_but_that_of_chance(n):
    found = [calibration(*outcomes(n, seed)) for seed in range(20)]
    assert np.mean([one.error for one in found]) == pytest.approx(np.mean([one.of_chance for one in found]), rel=0.15)
    assert np.median([one.excess for one in found]) < 0.5 * np.mean([one.of_chance for one in found])


@pytest.mark.parametrize("n", [200, 1000])
def test_wrong_predictions_have_the_error_that_was_planted(n):
    found = [calibration(*outcomes(n, seed, wrong_by=0.1)) for seed in range(20)]
    assert np.mean([one.excess for one in found]) == pytest.approx(0.1, abs=0.02)


def test_exchanged_outcomes_are_found():
    p, hit = outcomes(1000, 0)
    assert calibration(p, np.random.default_rng(1).permutation(hit)).excess > 0.15


def test_rankings_of_one_trial_count_as_one():
    """Five times the same ranking says no more than one; taken for five, chance would seem to do less than it does."""
    p, hit = outcomes(100, 3)
    trials = np.repeat(np.arange(100), 5).tolist()
    once = calibration(p, hit, n_bins=5)
    again = calibration(np.repeat(p, 5), np.repeat(hit, 5), trials, n_bins=5)
    assert again.error == pytest.approx(once.error, abs=0.02)
    assert again.of_chance == pytest.approx(once.of_chance, rel=0.25)
    assert calibration(np.repeat(p, 5), np.repeat(hit, 5), n_bins=5).of_chance < 0.7 * once.of_chance


def test_few_rankings_share_few_bins():
    assert [n_bins_for(n) for n in (1, 59, 60, 299, 300, 5000)] == [1, 1, 2, 9, 10, 10]
    assert len(reliability_bins(*outcomes(90, 0))[2]) == 3
