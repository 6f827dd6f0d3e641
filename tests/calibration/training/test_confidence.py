"""Confidence: as often right as it says, for rankings whose chances are known."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from calibration.metrics.reliability import brier_score, calibration_error, reliability_bins
from calibration.training import confidence as module
from calibration.training.confidence import Rankings, fit_chances
from rtgod.decoding.chances import NEW, TRAINED, Chances, Presence
from rtgod.decoding.confidence import FIRST

N_TRAINED, N_NEW = 40, 60
IDS = [f"category {i}" for i in range(N_TRAINED + N_NEW)]
IS_NEW = np.arange(N_TRAINED + N_NEW) >= N_TRAINED
UNIT = 0.03  # of a score
#: How much the true category's score is higher, in SDs of the others, after one volume.
STRENGTH = {TRAINED: 2.5, NEW: 1.2}


def rankings(kind, n_trials=150, seed=0, strength=None, n_groups=8):
    """Trials of three volumes: unit normal scores, the true one higher by the kind's strength × √volumes."""
    rng = np.random.default_rng((kind, seed))
    strength = STRENGTH[kind] if strength is None else strength
    scores, is_new, true, n_volumes, trials, groups = [], [], [], [], [], []
    for trial in range(n_trials):
        position = int(rng.integers(N_TRAINED))
        new = IS_NEW.copy()
        if kind == NEW:  # a fifth of the trained ones is left out at a time, the true one among them
            new |= np.arange(len(IDS)) % 5 == position % 5
        for n in (1, 2, 3):
            each = rng.standard_normal(len(IDS))
            each[position] += strength * np.sqrt(n)
            scores.append((UNIT * each).astype(np.float32))
            is_new.append(new)
            true.append(position)
            n_volumes.append(n)
            trials.append(trial)
            groups.append(IDS[position] if kind == NEW else f"run {trial % n_groups}")
    return Rankings(scores, is_new, true, n_volumes, trials, groups)


@pytest.fixture(scope="module")
def fitted():
    return fit_chances(rankings(TRAINED), rankings(NEW), IDS[:N_TRAINED])


def judged(chances, given, chosen=None):
    """Chances and hits of rankings, among candidates that `chosen` draws around the true one."""
    said, hit = [], []
    for scores, is_new, true, n in zip(given.scores, given.is_new, given.true, given.n_volumes, strict=True):
        some = np.arange(len(scores)) if chosen is None else chosen(true, is_new)
        order = some[np.argsort(-scores[some], kind="stable")]
        said.append(chances.probabilities(scores[order], is_new[order], len(order), n))
        hit.append([true in order[:k] for k in FIRST])
    return np.array(said), np.array(hit)


def of_kind(kind, size, rng):
    """The true category and others of its kind."""

    def chosen(true, is_new):
        others = np.flatnonzero(is_new == bool(kind))
        return np.array([true, *rng.permutation(others[others != true])[: size - 1]])

    return chosen


@pytest.mark.parametrize("size", [2, 3, 10, 50])
@pytest.mark.parametrize("kind", [TRAINED, NEW], ids=["trained", "new"])
def test_what_it_says_comes_true_as_often_among_few_and_many(fitted, kind, size):
    given = rankings(kind, 300, seed=1)
    p, hit = judged(fitted.chances, given, of_kind(kind, size, np.random.default_rng(size)))
    assert p[:, 0].mean() == pytest.approx(hit[:, 0].mean(), abs=0.05)
    assert calibration_error(p[:, 0], hit[:, 0]) < 0.07
    assert (p[:, 1] == 1).all() == (size <= 5)


def test_trained_and_new_candidates_together_are_as_likely_as_their_numbers(fitted):
    """Two in five candidates were trained on, and so were two in five of the true ones."""
    found = [judged(fitted.chances, rankings(kind, n, seed=2)) for kind, n in ((TRAINED, 160), (NEW, 240))]
    p, hit = (np.concatenate(parts) for parts in zip(*found, strict=True))
    assert p[:, 0].mean() == pytest.approx(hit[:, 0].mean(), abs=0.06)
    assert calibration_error(p[:, 0], hit[:, 0]) < 0.08


def test_it_is_as_sure_as_one_who_knows_how_scores_come_about(fitted):
    """Bayes: the true one's score is higher by d √volumes, so that each one's log odds are as many times its score."""
    for n in (1, 3):
        given = rankings(TRAINED, 200, seed=n)
        only = of_kind(TRAINED, N_TRAINED, np.random.default_rng(0))
        p, _ = judged(fitted.chances, given, only)
        keep = np.array(given.n_volumes) == n
        scores = np.stack(given.scores)[keep, :N_TRAINED] / UNIT
        odds = np.exp(STRENGTH[TRAINED] * np.sqrt(n) * scores)
        known = odds.max(axis=1) / odds.sum(axis=1)
        assert np.corrcoef(p[keep, 0], known)[0, 1] > 0.9
        assert p[keep, 0].mean() == pytest.approx(known.mean(), abs=0.06)


def test_what_it_says_of_other_groups_comes_true_as_often():
    given = rankings(TRAINED, 300)
    alone = fit_chances(replace(given, is_new=[np.zeros(len(IDS), bool)] * len(given.true)), None, IDS)
    predicted, observed, count = reliability_bins(alone.held_out[0][:, 0], alone.hit[0][:, 0], 8)
    error = (observed - predicted) / np.sqrt(predicted * (1 - predicted) / count)
    assert stats.chi2.sf(np.square(error).sum(), len(error)) > 0.001
    assert alone.notes == ()


def test_more_volumes_count_for_as_much_as_they_did(fitted):
    scores = np.sort(rankings(TRAINED).scores[1])[::-1]
    all_trained = np.zeros(len(scores), bool)
    by_volumes = [fitted.chances.probabilities(scores, all_trained, len(scores), n)[0] for n in (1, 2, 3)]
    assert (np.diff(by_volumes) > 0).all()
    # More than were ever met are not taken for better still.
    assert fitted.chances.probabilities(scores, all_trained, len(scores), 900)[0] == by_volumes[-1]


def test_a_score_is_never_worth_less_after_more_volumes():
    """Scores that say less after the third volume than after the second do not teach that more volumes hurt."""
    given = rankings(TRAINED)
    scores = [s if n < 3 else s[::-1].copy() for s, n in zip(given.scores, given.n_volumes, strict=True)]
    fitted = fit_chances(replace(given, scores=scores), None, IDS)
    weights = [fitted.chances.weight(TRAINED, 40, n) for n in (1, 2, 3)]
    assert (np.diff(weights) >= -1e-9).all()
    # Without the bound the weight falls, so that the data of this test are hard enough.
    free = fit_free(replace(given, scores=scores))
    assert free[-1] < 0.8 * free[1]


def test_a_first_volume_that_says_little_is_believed_little():
    """The volumes of a block are many, and alike but for the first: what they are worth is not what that one is."""

    def block(seed):
        rng = np.random.default_rng(seed)
        n_trials, n_volumes = 80, 8
        true = rng.integers(N_TRAINED, size=n_trials)
        scores = rng.standard_normal((n_trials, n_volumes, len(IDS))).astype(np.float32)
        scores[np.arange(n_trials), 1:, true] += 3.0
        return Rankings(
            scores=list(UNIT * scores.reshape(-1, len(IDS))),
            is_new=[IS_NEW] * (n_trials * n_volumes),
            true=np.repeat(true, n_volumes).tolist(),
            n_volumes=[*range(1, n_volumes + 1)] * n_trials,
            trials=np.repeat(np.arange(n_trials), n_volumes).tolist(),
            groups=[f"run {trial % 8}" for trial in range(n_trials) for _ in range(n_volumes)],
        )

    chances = fit_chances(block(0), None, IDS[:N_TRAINED]).chances
    given = block(1)
    said, hit = judged(chances, given, of_kind(TRAINED, 10, np.random.default_rng(2)))
    for n in (1, 2, 8):
        after = np.array(given.n_volumes) == n
        assert said[after, 0].mean() == pytest.approx(hit[after, 0].mean(), abs=0.15)
    assert hit[np.array(given.n_volumes) == 1, 0].mean() < 0.3
    without = replace(chances, weights=(replace(chances.weights[TRAINED], first=0.0), None))
    said, _ = judged(without, given, of_kind(TRAINED, 10, np.random.default_rng(2)))
    assert said[np.array(given.n_volumes) == 1, 0].mean() > 0.4


def fit_free(given):
    """Weights after 1, 2 and 3 volumes, fitted without a bound on their slopes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SLOPES", ())
        chances = fit_chances(given, None, IDS).chances
    return [chances.weight(TRAINED, 40, n) for n in (1, 2, 3)]


@pytest.mark.parametrize("presence", [None, Presence(0.5, 2.0, 0.0, 0.0, (-1.0, 2.0))])
def test_the_posterior_adds_up_to_the_chances(fitted, presence):
    chances = replace(fitted.chances, presence=presence)
    order = np.argsort(-rankings(NEW).scores[0])
    scores, is_new = rankings(NEW).scores[0][order], IS_NEW[order]
    posterior = chances.posterior(scores, is_new, len(scores), 2, 0.7)
    assert posterior.sum() == pytest.approx(1)
    p = chances.probabilities(scores, is_new, len(scores), 2, 0.7)
    np.testing.assert_allclose([posterior[:k].sum() for k in FIRST], p)
    # Of a shortlist the rest is with the candidates that are not ranked.
    part = chances.posterior(scores[:20], is_new[:20], len(scores), 2, 0.7)
    assert part.sum() < 1
    np.testing.assert_allclose(
        [part[:k].sum() for k in FIRST], chances.probabilities(scores[:20], is_new[:20], len(scores), 2, 0.7)
    )
    unknown = replace(chances, weights=(None, chances.weights[NEW]))
    assert unknown.posterior(scores, is_new, len(scores), 2) is None


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.integers(0, 10**6), st.integers(0, 1000), st.data())
def test_chances_are_chances_and_never_descend(fitted, scores, more, n_volumes, data):
    is_new = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    ranked = np.sort(np.array(scores, np.float32))[::-1]
    p = fitted.chances.probabilities(ranked, is_new, len(scores) + more, n_volumes)
    assert 0 <= p[0] <= p[1] <= p[2] <= 1


def test_of_many_of_which_the_first_are_ranked_it_says_about_as_much():
    """The rest are taken to be normally distributed, and are."""
    rng = np.random.default_rng(0)
    chances = fit_chances(rankings(TRAINED), rankings(NEW), IDS[:N_TRAINED]).chances
    for strength in (2.0, 5.0):
        scores = rng.standard_normal(150_000)
        scores[0] += strength
        scores = (UNIT * np.sort(scores)[::-1]).astype(np.float32)
        is_new = np.ones(len(scores), bool)
        whole = chances.probabilities(scores, is_new, len(scores), 3)
        part = chances.probabilities(scores[:1000], is_new[:1000], len(scores), 3)
        np.testing.assert_allclose(part, whole, rtol=0.3)


def test_the_order_of_candidates_and_the_unit_of_scores_change_nothing():
    given = rankings(TRAINED, 60)
    places = np.random.default_rng(1).permutation(len(IDS))
    moved = replace(
        given,
        scores=[2 + 4 * each[np.argsort(places)] for each in given.scores],
        is_new=[each[np.argsort(places)] for each in given.is_new],
        true=places[given.true].tolist(),
    )
    same = [fit_chances(replace(one, is_new=[np.zeros(len(IDS), bool)] * 180), None, IDS) for one in (given, moved)]
    np.testing.assert_allclose(same[1].held_out[0], same[0].held_out[0], atol=0.02)
    np.testing.assert_array_equal(same[1].hit[0], same[0].hit[0])


def test_no_group_speaks_for_itself():
    """Hits of one run cannot change what is held out for it."""
    given = rankings(TRAINED, 60, n_groups=5)
    given = replace(given, is_new=[np.zeros(len(IDS), bool)] * len(given.true))
    own = np.array(given.groups) == given.groups[0]
    worst = [int(np.argmin(s)) if mine else t for s, t, mine in zip(given.scores, given.true, own, strict=True)]
    before, after = fit_chances(given, None, IDS), fit_chances(replace(given, true=worst), None, IDS)
    assert before.hit[0][own].any()
    assert not after.hit[0][own].any()
    np.testing.assert_allclose(after.held_out[0][own], before.held_out[0][own], atol=0.02)


def test_a_hit_is_the_true_category_among_the_first():
    given = rankings(NEW, 40)
    for scores, true, hit in zip(given.scores, given.true, given.hit, strict=True):
        assert list(hit) == [true in np.argsort(-scores)[:k] for k in FIRST]


# ---------------------------------------------------------------- few categories, few trials


def few(n_trials, margin, shuffled=False, n_categories=3):
    """A localizer's rankings: a block at a time, four runs."""
    rng = np.random.default_rng(n_trials)
    true = [trial % n_categories for trial in range(n_trials)]
    scores = [0.3 * rng.standard_normal(n_categories) + margin * (np.arange(n_categories) == t) for t in true]
    labels = rng.permutation(true).tolist() if shuffled else true
    runs = [f"run {trial * 4 // n_trials}" for trial in range(n_trials)]
    return Rankings(scores, [np.zeros(n_categories, bool)] * n_trials, labels, [3] * n_trials, range(n_trials), runs)


@pytest.mark.parametrize("n_trials", [12, 36])
def test_three_categories_that_are_always_right_are_said_to_be(n_trials):
    """As sure as so many trials allow: one more might be the first that is wrong."""
    found = fit_chances(few(n_trials, 2.0), None, ("a", "b", "c"))
    assert found.hit[0][:, 0].all()
    assert found.notes == ()
    assert found.held_out[0][:, 0].mean() == pytest.approx(n_trials / (n_trials + 1), abs=0.04)
    np.testing.assert_array_equal(found.held_out[0][:, 1:], 1)


@pytest.mark.parametrize("n_trials", [12, 36, 120])
def test_with_shuffled_labels_it_is_as_sure_as_a_guess(n_trials):
    found = fit_chances(few(n_trials, 2.0, shuffled=True), None, ("a", "b", "c"))
    assert found.held_out[0][:, 0].mean() == pytest.approx(1 / 3, abs=0.1)


def test_too_little_to_learn_from_is_unknown_and_says_so():
    found = fit_chances(few(6, 2.0), None, ("a", "b", "c"))
    assert found.chances is None
    assert found.notes == (
        "how sure a ranking of categories that were trained on may be is unknown: it is learned from trials, which "
        "needs 10, and there are 6",
    )
    reason = fit_chances("one run only", rankings(NEW, 40), IDS[:N_TRAINED])
    assert "trained on may be is unknown: one run only" in reason.notes[0]
    # New ones can be judged, among themselves only.
    scores = np.sort(rankings(NEW).scores[0])[::-1]
    assert reason.chances.probabilities(scores[:5], np.ones(5, bool), 5, 1)[0] > 0.2
    assert reason.chances.probabilities(scores[:5], np.array([True, True, False, True, True]), 5, 1) is None
    assert fit_chances(None, None, ()).chances is None


def test_an_equal_ranking_says_nothing(fitted):
    p = fitted.chances.probabilities(np.zeros(8, np.float32), np.zeros(8, bool), 8, 2)
    np.testing.assert_allclose(p, (1 / 8, 5 / 8, 1))


def test_it_survives_json(fitted):
    found = json.loads(json.dumps(asdict(fitted.chances)))
    assert TypeAdapter(Chances).validate_python(found) == fitted.chances


@pytest.mark.parametrize(
    "change",
    [
        {"head_start": (float("nan"), 0.0)},
        {"n_volumes": (3, 2)},
        {"n_candidates": (0, 4)},
        {"weights": ({"level": 1.0}, None)},
    ],
)
def test_what_is_no_confidence_is_refused(fitted, change):
    with pytest.raises(ValueError, match=r"chances|validation error"):
        TypeAdapter(Chances).validate_python(asdict(fitted.chances) | change)


def test_the_loss_has_its_gradient():
    kinds = enumerate((rankings(TRAINED, 6), rankings(NEW, 6)))
    draws = [module._drawn(one, kind, mixed=True, presence=None) for kind, one in kinds]
    sizes = np.concatenate([np.diff(one.starts) for one in draws])
    scores, is_new = (np.concatenate([getattr(one, name) for one in draws]) for name in ("scores", "is_new"))
    n = len(sizes)
    rng = np.random.default_rng(0)
    loss = module._Loss(
        scores / UNIT, is_new, np.cumsum(sizes) - sizes, sizes, rng.normal(size=(4, n)), rng.uniform(size=n),
        np.full(n, 0.1), rng.uniform(0.5, 1, size=n),
    )  # fmt: skip
    at = rng.normal(size=12) / 3
    step = 1e-6 * np.eye(12)
    numeric = [(loss(at + one)[0] - loss(at - one)[0]) / 2e-6 for one in step]
    np.testing.assert_allclose(loss(at)[1], numeric, rtol=1e-4)


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
