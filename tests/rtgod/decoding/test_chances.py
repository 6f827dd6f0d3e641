"""Chances: every candidate's share of the evidence, and unknown where nothing was learned of it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.decoding.chances import Chances, Judge, Presence, Weight

CHANCES = Chances(("a", "b"), (Weight(1.0, 0.5, 0.0), Weight(0.5, 0.0, 0.1)), (0.4, 0.2), (1, 9), (2, 50))
SCORES = np.array([1.2, 0.5, 0.4, 0.1, -0.3, -0.6, -1.0], np.float32)
NEW = np.array([True, False, True, False, True, True, True])


def naive(scores, is_new, n_volumes):
    """One candidate after the other."""
    worth = []
    for score, new in zip(scores.tolist(), is_new.tolist(), strict=True):
        if new:
            worth.append(np.exp(0.5) * len(scores) ** 0.1 * score + 0.4 + 0.2 * np.log(n_volumes))
        else:
            worth.append(np.exp(1.0) * n_volumes**0.5 * score)
    odds = np.exp(worth)
    return [odds[:k].sum() / odds.sum() for k in (1, 5, 10)]


@pytest.mark.parametrize("n_volumes", [1, 4, 9])
def test_a_chance_is_a_share_of_the_evidence(n_volumes):
    found = CHANCES.probabilities(SCORES, NEW, len(SCORES), n_volumes)
    np.testing.assert_allclose(found, naive(SCORES, NEW, n_volumes), rtol=1e-6)
    assert CHANCES.probabilities(SCORES, NEW, len(SCORES), 99) == CHANCES.probabilities(SCORES, NEW, len(SCORES), 9)


@given(st.integers(1, 5), st.floats(-9, 9))
def test_of_five_or_fewer_the_first_five_hold_the_truth(n, level):
    chances = replace(CHANCES, weights=(Weight(level, 0.0, 0.0), None))
    p = chances.probabilities(SCORES[:n], np.zeros(n, bool), n, 1)
    assert p[1:] == (1.0, 1.0)
    assert p[0] == 1.0 if n == 1 else 0 < p[0] <= 1.0


def test_what_nothing_was_learned_of_is_unknown():
    for known, unknown in ((0, 1), (1, 0)):
        weights = tuple(CHANCES.weights[kind] if kind == known else None for kind in (0, 1))
        chances = replace(CHANCES, weights=weights)
        assert chances.probabilities(SCORES, np.full(7, bool(known)), 7, 1) is not None
        assert chances.probabilities(SCORES, np.full(7, bool(unknown)), 7, 1) is None
        assert chances.probabilities(SCORES, NEW, 7, 1) is None


def test_a_judge_knows_which_of_the_ranked_are_new():
    is_new = CHANCES.are_new(["a", "x", "b", "y"])
    assert is_new.tolist() == [False, True, False, True]
    order = np.array([3, 0], np.int32)
    found = Judge(CHANCES, is_new).of_ranking(order, SCORES[:2], 2, 3, 1)
    assert found == CHANCES.probabilities(SCORES[:2], np.array([True, False]), 2, 3)


PRESENCE = Presence(0.0, 8.0, -1.0, 0.5, (-0.5, 1.5))


def test_without_a_response_every_candidate_is_as_likely():
    chances = replace(CHANCES, presence=PRESENCE)
    sure = chances.probabilities(SCORES, NEW, 7, 3, 1.0)
    unsure = chances.probabilities(SCORES, NEW, 7, 3, -9.0)
    before = CHANCES.probabilities(SCORES, NEW, 7, 3)
    np.testing.assert_allclose(sure, before, atol=0.01)
    np.testing.assert_allclose(unsure, (1 / 7, 5 / 7, 1), atol=0.02)
    # Nothing is known beyond what was met, and a bundle without weights for it takes every pattern for a response.
    assert unsure == chances.probabilities(SCORES, NEW, 7, 3, -0.5)
    assert chances.probabilities(SCORES, NEW, 7, 3) == before


@given(st.floats(-3, 3), st.integers(1, 99), st.integers(1, 7), st.integers(0, 9))
def test_with_a_response_chances_never_descend(response, n_volumes, n, more):
    p = replace(CHANCES, presence=PRESENCE).probabilities(SCORES[:n], NEW[:n], n + more, n_volumes, response)
    assert 0 <= p[0] <= p[1] <= p[2] <= 1


@pytest.mark.parametrize("change", [{"level": float("nan")}, {"met": (1.0, 0.0)}])
def test_what_is_no_presence_is_refused(change):
    with pytest.raises(ValueError, match=r"presence|responses"):
        replace(PRESENCE, **change)
