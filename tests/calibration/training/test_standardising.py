"""Standardisation is learned where candidates' scores vary differently, and left out where they do not."""

import numpy as np
import pytest

from calibration.training.folds import evenly
from calibration.training.standardising import LeftOutScores, Moments, choose, lacking

N_CANDIDATES, N_CATEGORIES, PER_CATEGORY = 60, 30, 8


def left_out(spreads, signal=1.5, seed=0):
    """Scores of trials whose true candidate is raised by a share of its own spread."""
    rng = np.random.default_rng(seed)
    category = np.repeat(np.arange(N_CATEGORIES), PER_CATEGORY)
    scores = rng.standard_normal((len(category), N_CANDIDATES))
    scores[np.arange(len(category)), category] += signal
    scores = (0.3 + 0.1 * scores * spreads).astype(np.float32)
    counted = category[:, np.newaxis] != np.arange(N_CANDIDATES)
    return LeftOutScores(scores, category, category, Moments.of(scores, counted, category))


UNEVEN = np.exp(np.random.default_rng(1).normal(0, 0.7, N_CANDIDATES))


def test_spreads_are_those_of_trials_of_other_categories():
    data = left_out(UNEVEN)
    others = [data.scores[(data.true != j) & (data.category != 4), j].astype(np.float64) for j in range(N_CANDIDATES)]
    sd = np.array([values.std() for values in others])
    divisor = sd / np.median(sd)
    made = data.moments.standardisation("full", without=4)
    np.testing.assert_allclose(1 / made.scale, divisor, rtol=1e-4)
    # Scores are scaled about the mean of all.
    middle = np.concatenate(others).mean()
    np.testing.assert_allclose(made.applied(np.full(N_CANDIDATES, middle, np.float32)), middle, rtol=1e-4)
    half = data.moments.standardisation("half", without=4)
    np.testing.assert_allclose(1 / half.scale, 0.5 * divisor + 0.5, rtol=1e-4)
    assert data.moments.standardisation("none") is None


def test_uneven_spreads_are_taken_out_and_the_gain_is_said():
    amount, note, gain, error = choose({"seen": left_out(UNEVEN)})
    assert amount != "none"
    assert gain > 2 * error > 0
    assert f"{100 * gain:+.1f} ± {100 * error:.1f} points" in note


def test_even_spreads_are_left_in():
    amounts = [choose({"seen": left_out(np.ones(N_CANDIDATES), seed=seed)})[0] for seed in range(8)]
    assert amounts.count("none") >= 6


def test_without_a_signal_new_trials_stay_at_chance():
    """Whatever is chosen, of noise: true candidates beat half of the others."""
    shares = []
    for seed in range(8):
        data, new = left_out(UNEVEN, 0.0, seed), left_out(UNEVEN, 0.0, 100 + seed)
        made = data.moments.standardisation(choose({"seen": data})[0])
        scores = new.scores if made is None else made.applied(new.scores)
        own = scores[np.arange(len(scores)), new.true][:, np.newaxis]
        shares.append(((scores < own).sum(axis=1) / (N_CANDIDATES - 1)).mean())
    assert np.mean(shares) == pytest.approx(0.5, abs=0.02)


def test_no_kind_of_trials_may_lose():
    """Where scores of imagined trials are right as they are, spreads that help those seen are left in."""
    data = left_out(np.ones(N_CANDIDATES), 3.0, 2)
    rng = np.random.default_rng(0)
    wrong = Moments.of(
        (data.scores * np.exp(rng.normal(0, 1.5, N_CANDIDATES))).astype(np.float32),
        data.category[:, np.newaxis] != np.arange(N_CANDIDATES),
        data.category,
    )
    imagined = LeftOutScores(data.scores, data.true, data.category, wrong)
    assert choose({"seen": left_out(UNEVEN), "imagined": imagined})[0] == "none"


def test_too_few_are_said_and_many_are_thinned():
    enough = {"trials": 10, "runs": 2, "categories": 5, "candidates": 3}
    assert lacking(enough) == ""
    assert lacking(enough | {"runs": 1}) == "it is learned from 2 or more runs, and there is 1"
    np.testing.assert_array_equal(evenly(np.arange(7), 3), [0, 3, 6])
    np.testing.assert_array_equal(evenly(np.arange(3), 7), [0, 1, 2])
