"""First choices: a collapse is told of, noise and right answers are not; one answer to all is no success."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from calibration.metrics.choices import COLLAPSE_P, balance_of, balanced, collapse_of, remarks_on_choices
from calibration.metrics.identification import permutation_test

NAMES = [f"thing {i}" for i in range(50)]


def scores_of(first, n_candidates, seed=0):
    scores = np.random.default_rng(seed).normal(size=(len(first), n_candidates))
    scores[np.arange(len(first)), first] = 9
    return scores


def test_five_of_six_localizer_blocks_called_one_category():
    found = collapse_of(np.array([2, 2, 2, 2, 2, 5]), np.arange(6), 6)
    assert (found.n, found.categories, found.n_called, found.n_shown) == (6, (2,), (5,), (1,))
    assert found.p_value == pytest.approx(6 * stats.binom.sf(4, 6, 1 / 6))
    (said,) = remarks_on_choices("seen", scores_of([2, 2, 2, 2, 2, 5], 6), np.arange(6), NAMES)
    assert said.startswith("Of 6 blocks seen, 5 are called “thing 2”, which 1 of them is.")
    assert "p ≤ 0.004, for any of 6 candidates" in said


def test_few_of_many_categories_are_named_with_their_counts():
    first = np.repeat([7, 3, 9, 30, 31], [14, 12, 11, 10, 3])
    found = collapse_of(first, np.arange(50), 50)
    assert found.categories == (7, 3, 9, 30)
    said = found.sentence("imagined", NAMES)
    assert "47 are called one of 4 categories: “thing 7” (14; shown 1), “thing 3” (12; shown 1)" in said
    assert "and 1 more" in said


def test_a_category_that_is_called_often_but_not_mostly_is_no_collapse():
    first = np.concatenate([np.zeros(12, int), np.arange(12, 50)])
    assert collapse_of(first, np.arange(50), 50) is None


@pytest.mark.parametrize("true", [np.tile(np.arange(6), 20), np.repeat([0, 1], [70, 30]), np.repeat([0, 1, 2], 7)])
def test_right_answers_are_none_however_unequal_frequencies_are(true):
    assert collapse_of(true, true, int(true.max()) + 1) is None


@pytest.mark.parametrize(
    ("true", "n_candidates"),
    [(np.arange(6), 6), (np.repeat([0, 1], 10), 2), (np.repeat([0, 1], [14, 6]), 2), (np.arange(50), 1000)],
)
@pytest.mark.parametrize("share_right", [0.0, 0.5])
def test_noise_is_told_of_no_more_often_than_it_says(true, n_candidates, share_right):
    rng = np.random.default_rng(1)
    n_told, n_draws = 0, 2000
    for _ in range(n_draws):
        noise = rng.integers(n_candidates, size=len(true))
        first = np.where(rng.random(len(true)) < share_right, true, noise)
        n_told += collapse_of(first, true, n_candidates) is not None
    assert n_told <= COLLAPSE_P * n_draws + 3 * np.sqrt(COLLAPSE_P * n_draws)


def test_nothing_was_decoded():
    assert collapse_of(np.empty(0, int), np.empty(0, int), 6) is None
    assert remarks_on_choices("seen", np.empty((0, 6)), [], NAMES) == []


def test_what_is_said_of_unequal_frequencies():
    true = np.repeat([0, 1], [14, 6])
    found = balance_of(true)
    assert (found.n, found.most_frequent, found.share, found.is_equal) == (20, 0, 0.7, False)
    assert found.constant == pytest.approx(0.7)
    scores = np.tile([1.0, 0.0], (20, 1))
    said = remarks_on_choices("seen", scores, true, ["face", "house"])[0]
    assert "always saying “face” would be right for 70 % of 20 blocks" in said
    assert "identification accuracy is 50.0 % (balanced" in said


@pytest.mark.parametrize("counts", [[7, 7], [5, 5, 5, 5, 5, 4], [1] * 50, [1] * 49 + [2], [9]])
def test_nearly_equal_frequencies_are_passed_over(counts):
    assert balance_of(np.repeat(np.arange(len(counts)), counts)).is_equal


def test_one_ranking_for_all_among_several():
    found = balance_of(np.repeat([4, 2, 1], [5, 3, 2]))
    assert (found.most_frequent, found.share) == (4, 0.5)
    assert found.constant == pytest.approx(0.5 * 1 + 0.3 * 0.5)


def test_balanced_counts_categories_alike():
    assert balanced(["a", "a", "a", "b"], np.array([1.0, 1.0, 1.0, 0.0])) == 0.5


@pytest.mark.parametrize("counts", [[28, 12], [20, 10, 6], [30, 20, 12, 8, 5, 3, 2]])
def test_one_answer_to_all_is_not_significant(counts):
    """The permutation test knows frequencies: within runs, or with categories exchanged that count alike."""
    true = np.repeat(np.arange(len(counts)), counts)
    scores = np.tile(np.array(counts, float), (len(true), 1))
    accuracy = np.mean([(np.array(counts) < counts[t]).sum() / (len(counts) - 1) for t in true])
    assert accuracy > 0.65  # of what it would be compared with 50 % if frequencies were passed over
    assert permutation_test(scores, true.tolist(), [i % 2 for i in range(len(true))]).p_value == 1


def test_what_is_told_apart_in_unequal_categories_is_significant():
    true = np.repeat(np.arange(7), [30, 20, 12, 8, 5, 3, 2])
    scores = np.random.default_rng(0).normal(size=(len(true), 7))
    scores[np.arange(len(true)), true] += 2
    assert permutation_test(scores, true.tolist()).p_value < 0.005


def test_unequal_categories_of_noise_are_significant_by_chance():
    true = np.repeat(np.arange(7), [12, 8, 6, 4, 3, 2, 1])
    rng = np.random.default_rng(0)
    bias = np.array([12, 8, 6, 4, 3, 2, 1]) / 4  # a decoder that knows frequencies and nothing else
    p_values = [permutation_test(rng.normal(size=(36, 7)) + bias, true.tolist()).p_value for _ in range(200)]
    assert 2 <= np.sum(np.array(p_values) <= 0.05) <= 19
