"""Confidence: as often right as it says, for rankings whose chances are known."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from calibration.confidence import brier_score, calibration_error, fit_confidence, reliability_bins
from rtgod.confidence import CLUES, FIRST, Confidence, describe
from rtgod.errors import InputError

N_CANDIDATES = 100


def rankings(n, seed=0, n_categories=50, strength=1.0, n_candidates=N_CANDIDATES, volumes=(1, 10)):
    """Arguments of `fit_confidence`: unit normal scores, the true one higher by `strength` × √volumes on average."""
    rng = np.random.default_rng(seed)
    n_volumes = rng.integers(*volumes, n)
    true = rng.integers(0, n_categories, n)
    scores = rng.standard_normal((n, n_candidates))
    scores[np.arange(n), true] += strength * np.sqrt(n_volumes)
    return list(scores), true.tolist(), n_volumes.tolist(), [1] * n, [f"category {t}" for t in true]


@pytest.fixture(scope="module")
def given_rankings():
    return rankings(1500)


@pytest.fixture(scope="module")
def fitted(given_rankings):
    return fit_confidence(*given_rankings)


def clues(scores, n_volumes=3, n_blocks=1):
    return describe(np.sort(scores)[::-1], len(scores), n_volumes, n_blocks)


def test_what_it_says_of_other_categories_comes_true_as_often(fitted):
    for p, hit in zip(fitted.held_out.T, fitted.hit.T, strict=True):
        predicted, observed, count = reliability_bins(p, hit, 8)
        error = (observed - predicted) / np.sqrt(predicted * (1 - predicted) / count)
        assert stats.chi2.sf(np.square(error).sum(), len(error)) > 0.01
    assert fitted.notes == ()


def test_it_is_as_sure_as_one_who_knows_how_scores_come_about(fitted):
    """Bayes: the true one's score is higher by √volumes, so that each one's log odds are as many times its score."""
    for n_volumes in (1, 4, 9):
        sample, *_ = rankings(400, seed=n_volumes, volumes=(n_volumes, n_volumes + 1))
        odds = np.exp(np.sqrt(n_volumes) * np.array(sample))
        known = odds.max(axis=1) / odds.sum(axis=1)
        sure = [fitted.confidence.probabilities(clues(scores, n_volumes))[0] for scores in sample]
        assert np.corrcoef(sure, known)[0, 1] > 0.8
        assert np.mean(sure) == pytest.approx(known.mean(), abs=0.06)


def test_more_volumes_count_for_as_much_as_they_did(given_rankings, fitted):
    scores = given_rankings[0][3]
    by_volumes = [fitted.confidence.probabilities(clues(scores, n)) for n in (1, 3, 9)]
    assert (np.diff(by_volumes, axis=0) > 0).all()
    # More than were ever met are not taken for better still.
    assert fitted.confidence.probabilities(clues(scores, 900)) == by_volumes[-1]
    scores, true, n_volumes, n_blocks, groups = given_rankings
    shuffled = np.random.default_rng(0).permutation(n_volumes)
    no_use = fit_confidence(scores[:400], true[:400], shuffled[:400], n_blocks[:400], groups[:400]).confidence
    at = CLUES.index("log number of volumes")
    assert abs(no_use.coefficients[0][at]) < 0.5 * fitted.confidence.coefficients[0][at]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.integers(1, 10**6), st.integers(1, 1000))
def test_chances_are_chances_and_never_descend(fitted, scores, n_candidates, n_volumes):
    p = fitted.confidence.probabilities(describe(np.sort(scores)[::-1], n_candidates, n_volumes, 1))
    assert 0 <= p[0] <= p[1] <= p[2] <= 1


def test_the_order_of_candidates_and_the_unit_of_scores_change_nothing(given_rankings):
    scores, true, n_volumes, n_blocks, groups = (part[:200] for part in given_rankings)
    places = np.random.default_rng(1).permutation(N_CANDIDATES)
    moved = [2 + 4 * each[np.argsort(places)] for each in scores]
    ours = fit_confidence(scores, true, n_volumes, n_blocks, groups)
    theirs = fit_confidence(moved, places[true].tolist(), n_volumes, n_blocks, groups)
    np.testing.assert_allclose(theirs.held_out, ours.held_out, atol=1e-6)
    np.testing.assert_array_equal(theirs.hit, ours.hit)


def test_no_category_speaks_for_itself(given_rankings):
    """Hits of one category cannot change what is held out for it."""
    scores, true, n_volumes, n_blocks, groups = (part[:300] for part in given_rankings)
    own = np.array(groups) == groups[0]
    worst = [int(np.argmin(each)) if mine else position for each, position, mine in zip(scores, true, own, strict=True)]
    before = fit_confidence(scores, true, n_volumes, n_blocks, groups)
    after = fit_confidence(scores, worst, n_volumes, n_blocks, groups)
    assert before.hit[own].any()
    assert not after.hit[own].any()
    np.testing.assert_array_equal(after.held_out[own], before.held_out[own])


def test_a_hit_is_the_true_category_among_the_first(given_rankings, fitted):
    for scores, true, hit in zip(*given_rankings[:2], fitted.hit, strict=True):
        assert list(hit) == [true in np.argsort(-scores)[:k] for k in FIRST]


def test_too_little_to_learn_from_gives_the_share_and_says_so():
    few = fit_confidence(*rankings(6, strength=5.0))
    p = few.confidence.probabilities(clues(rankings(1)[0][0]))
    np.testing.assert_allclose(p, (few.hit.sum(axis=0) + 0.5) / 7)
    assert len(few.notes) == 3
    assert "misses" in few.notes[2]
    one = fit_confidence(*rankings(40, n_categories=1))
    assert "categories (1)" in one.notes[0]
    chance = fit_confidence(*rankings(300, strength=0.0, n_categories=40))
    assert "hits" in chance.notes[0]
    assert chance.confidence.probabilities(clues(rankings(1)[0][0]))[0] == pytest.approx(
        (chance.hit[:, 0].sum() + 0.5) / 301
    )
    with pytest.raises(InputError, match="no ranking"):
        fit_confidence([], [], [], [], [])


def test_where_rankings_tell_nothing_all_are_about_as_sure():
    given_all = rankings(600, strength=0.0, n_candidates=12, n_categories=12)
    p = fit_confidence(*given_all).held_out
    np.testing.assert_allclose(p.mean(axis=0), np.array(FIRST) / 12, atol=0.06)
    assert (p.std(axis=0) < 0.05).all()


def test_it_survives_json(fitted):
    found = json.loads(json.dumps(asdict(fitted.confidence)))
    assert json.dumps(asdict(Confidence(**found))) == json.dumps(found)


@pytest.mark.parametrize(
    "change", [{"mean": (0.0,)}, {"sd": (float("nan"),) * len(CLUES)}, {"intercepts": (0, 0, np.inf)}]
)
def test_what_is_no_confidence_is_refused(fitted, change):
    with pytest.raises(ValueError, match="confidence"):
        Confidence(**(asdict(fitted.confidence) | change))


def test_clues_are_in_standard_deviations_of_the_scores():
    scores = np.arange(20.0)[::-1] / 7
    sd = scores.std()
    margins = [scores[0] - scores[k] for k in FIRST]
    expected = [*margins / sd, (scores[0] - scores.mean()) / sd, *np.log([500, 3, 2])]
    np.testing.assert_allclose(describe(scores, 500, 3, 2), expected)
    np.testing.assert_array_equal(describe(np.ones(4), 4, 1, 1)[:4], 0)


# ---------------------------------------------------------------- reliability


def test_reliability_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=1000)
    hit = rng.uniform(size=1000) < p**2
    predicted, observed, count = reliability_bins(p, hit, 10)
    theirs = calibration_curve(hit, p, n_bins=10, strategy="quantile")
    np.testing.assert_allclose((observed, predicted), theirs, atol=2e-3)
    assert (count == 100).all()
    assert brier_score(p, hit) == pytest.approx(brier_score_loss(hit, p))
    # ∫ |p − p²| dp = 1/6
    assert calibration_error(p, hit) == pytest.approx(1 / 6, abs=0.03)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.booleans()), min_size=1), st.integers(1, 12))
def test_equal_predictions_share_a_bin_and_none_is_lost(pairs, n_bins):
    p, hit = map(np.array, zip(*pairs, strict=True))
    predicted, observed, count = reliability_bins(p, hit, n_bins)
    assert count.sum() == len(p)
    assert (count > 0).all()
    assert len(count) <= min(n_bins, np.unique(p).size)
    assert (predicted * count).sum() == pytest.approx(p.sum())
    assert (observed * count).sum() == pytest.approx(hit.sum())
