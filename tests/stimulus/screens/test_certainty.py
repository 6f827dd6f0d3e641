"""What the screen makes of a ranking's chances: noise looks like noise, and no bar claims more than was learned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from rtgod.messages import Ranking
from stimulus.screens.certainty import bar_lengths, certainty, chances, n_first, prominence
from tests.stimulus.conftest import STILL


def ranked(scores, probability=None):
    order = np.arange(len(scores))
    return Ranking("run-1", 9, 3, 0, False, (), order, np.array(scores), STILL, probability=probability)


def noise(n, seed=0):
    return -np.sort(-np.random.default_rng(seed).normal(0.0, 0.05, n))


@pytest.mark.parametrize(
    ("n", "k"), [(1, 1), (2, 1), (3, 1), (9, 1), (10, 1), (49, 1), (50, 5), (99, 5), (100, 10), (1000, 10)]
)
def test_luck_has_at_most_a_tenth_where_there_are_ten_candidates_or_more(n, k):
    assert n_first(n) == k


@pytest.mark.parametrize(
    ("n", "probability", "expected"),
    [
        (2, (0.5, 1.0, 1.0), 0.0),  # P(first five) and P(first ten) of two say nothing
        (2, (0.75, 1.0, 1.0), 0.5),
        (10, (0.1, 0.7, 1.0), 0.0),
        (10, (0.55, 0.8, 1.0), 0.5),
        (50, (0.1, 0.55, 0.9), 0.5),
        (1000, (0.1, 0.3, 0.505), 0.5),
        (1000, (0.001, 0.005, 0.01), 0.0),
        (1000, (0.0, 0.0, 0.0), 0.0),
        (3, (1.0, 1.0, 1.0), 1.0),
        (3, None, None),
        (1, (1.0, 1.0, 1.0), None),
        (0, None, None),
    ],
)
def test_certainty_is_0_at_luck_and_1_when_certain(n, probability, expected):
    assert certainty(ranked(noise(n), probability)) == (None if expected is None else pytest.approx(expected))


@st.composite
def rankings(draw):
    scores = draw(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=40))
    probability = tuple(sorted(draw(st.tuples(*[st.floats(0, 1)] * 3))))
    return np.array(sorted(scores, reverse=True)), probability


@given(rankings())
@example((np.array([1.0, 1.0, 1.0, 1.0, 0.0]), (0.26163508972290256, 1.0, 1.0)))
def test_the_first_bar_is_its_chance_and_none_claims_more_than_was_learned(ranking):
    scores, probability = ranking
    lengths = chances(scores, probability, 10)
    n = len(scores)
    assert len(lengths) == min(n, 10)
    assert lengths[0] == probability[0]
    assert (np.diff(lengths) <= 0).all()
    assert (lengths >= 0).all()
    for k, chance in zip((5, 10), probability[1:], strict=True):
        assert n <= k or lengths[:k].sum() <= chance + 1e-9
    assert n < 2 or lengths.sum() <= 1 + 1e-9


@given(st.integers(2, 5), st.integers(0, 1000), st.floats(0.05, 0.95))
def test_where_chances_are_learned_for_all_candidates_they_are_shared_out(n, seed, first):
    assume(first > 1 / n)
    lengths = chances(noise(n, seed), (first, 1.0, 1.0), n)
    assert lengths.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 10, 1000, 30_000])
def test_noise_has_equal_bars_of_which_none_is_longer_than_luck(n):
    luck = tuple(min(1.0, k / n) for k in (1, 5, 10))
    np.testing.assert_allclose(chances(noise(n), luck, 10), 1 / n)


def test_a_close_second_is_close_and_a_far_one_is_far():
    close = chances(np.array([0.5, 0.49, 0.0, 0.0]), (0.5, 1.0, 1.0), 10)
    far = chances(np.array([0.5, 0.1, 0.0, 0.0]), (0.5, 1.0, 1.0), 10)
    assert close[1] > 0.45
    assert far[1] < 0.3


def test_very_many_candidates_make_no_bar_longer():
    scores = noise(1000)
    more = np.concatenate([scores, np.full(99_000, scores[-1])])
    assert (chances(more, (0.2, 0.9, 0.9), 10) <= chances(scores, (0.2, 0.9, 0.9), 10) + 1e-12).all()


def test_ties_share_what_is_left_and_undefined_scores_are_the_lowest():
    assert chances(np.array([0.3, 0.3, 0.1]), (0.8, 1.0, 1.0), 3)[1] == pytest.approx(0.2)
    np.testing.assert_array_equal(
        chances(np.array([0.3, 0.1, np.nan]), (0.5, 1.0, 1.0), 3),
        chances(np.array([0.3, 0.1, 0.1]), (0.5, 1.0, 1.0), 3),
    )
    np.testing.assert_allclose(chances(np.full(4, np.nan), (0.25, 1.0, 1.0), 4), 0.25)


@pytest.mark.parametrize("probability", [None, (0.0, 0.0, 0.0)])
def test_an_empty_ranking_has_no_bars(probability):
    assert bar_lengths(ranked([], probability), 10) == ()


class TestProminence:
    """Where no chance is known."""

    @pytest.mark.parametrize("n", [10, 100, 1000, 100_000])
    def test_noise_ends_in_the_middle_and_its_first_bar_is_like_the_others(self, n):
        first, *_, last = prominence(noise(n), 10 if n > 10 else 3).tolist()
        assert 0.3 < first < 0.6
        assert n == 10 or last > 0.5 * first

    def test_what_stands_out_from_all_has_a_long_bar(self):
        scores = np.concatenate([[0.6], noise(999)])
        first, second, *_ = prominence(scores, 10)
        assert first == 1
        assert second < 0.5

    def test_the_first_is_not_full_whatever_the_scores(self):
        assert prominence(np.array([0.1, -0.2, -0.3]), 10)[0] < 0.5

    def test_equal_scores_have_no_bars(self):
        assert prominence(np.full(3, 0.2), 10).tolist() == [0, 0, 0]
        assert prominence(np.array([0.2]), 10).tolist() == [0]
        assert prominence(np.array([np.nan, np.nan]), 10).tolist() == [0, 0]

    @given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30))
    def test_bars_keep_the_order_of_the_scores(self, scores):
        lengths = prominence(np.array(sorted(scores, reverse=True)), 10)
        assert (np.diff(lengths) <= 0).all()
        assert (lengths >= 0).all()
        assert (lengths <= 1).all()

    def test_a_ranking_without_chances_is_drawn_by_it(self):
        scores = noise(50)
        lengths = bar_lengths(ranked(scores), 10)
        np.testing.assert_allclose(lengths, prominence(scores.astype(np.float32), 10))
        assert bar_lengths(ranked(scores, (0.4, 0.5, 0.6)), 10)[0] == 0.4
