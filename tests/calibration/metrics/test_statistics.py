from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from calibration.metrics.identification import identification_accuracy, rank_of
from calibration.metrics.permutation import share_at_least
from calibration.metrics.statistics import (
    difference_interval,
    pattern_correlation,
    profile_test,
    share_interval,
    t_interval,
    top_k_probability,
)

# ----------------------------------------------------------------------------------------------------- t interval


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_the_interval_is_scipys(level):
    values = np.random.default_rng(0).normal(3, 2, 7)
    mean, low, high = t_interval(values, level)
    expected = stats.t.interval(level, df=6, loc=values.mean(), scale=stats.sem(values))
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx(expected)


def test_nine_of_ten_intervals_hold_the_mean():
    samples = np.random.default_rng(1).normal(0.7, 1, (1000, 5))
    inside = [low <= 0.7 <= high for _, low, high in map(t_interval, samples)]
    assert 0.87 < np.mean(inside) < 0.93


def test_five_subjects_as_in_a_table_of_t():
    """For four degrees of freedom the 95th percentile of t is 2.132."""
    mean, low, high = t_interval([1, 2, 3, 4, 5])
    assert (mean, low, high) == pytest.approx((3, 3 - 2.132 * 0.7071, 3 + 2.132 * 0.7071), abs=1e-3)


def test_one_value_has_a_mean_and_no_bounds_and_none_has_neither():
    np.testing.assert_array_equal(t_interval([0.4]), (0.4, np.nan, np.nan))
    np.testing.assert_array_equal(t_interval([]), (np.nan, np.nan, np.nan))


# ------------------------------------------------------------------------------------------------- interval of a share


@pytest.mark.parametrize("n", [6, 10, 20, 56, 100])
@pytest.mark.parametrize("p", [0.5, 0.7, 0.8, 0.9, 0.95])
def test_nine_of_ten_intervals_hold_the_share_of_yes_or_no_answers(n, p):
    bounds = [share_interval(np.arange(n) < k, range(n))[1:] for k in range(n + 1)]
    covered = sum(stats.binom.pmf(k, n, p) for k, (low, high) in enumerate(bounds) if low <= p <= high)
    assert 0.88 < covered < 0.995
    assert all(0 <= low < high <= 1 for low, high in bounds)


@pytest.mark.parametrize(("n_categories", "n_repeats"), [(6, 4), (8, 12), (20, 3), (50, 1)])
@pytest.mark.parametrize("mean", [0.5, 0.8])
def test_nine_of_ten_intervals_over_categories_hold_the_mean_of_all(n_categories, n_repeats, mean):
    """Also where blocks of one category are alike: over blocks, intervals would be far too narrow."""
    rng, inside = np.random.default_rng(2), []
    for _ in range(500):
        of_category = rng.beta(5 * mean, 5 * (1 - mean), n_categories)
        answers = rng.random((n_categories * n_repeats, 20)) < np.repeat(of_category, n_repeats)[:, np.newaxis]
        _, low, high = share_interval(answers.mean(axis=1), np.repeat(np.arange(n_categories), n_repeats).tolist())
        inside.append(low <= mean <= high)
    assert 0.85 < np.mean(inside) < 0.95


def test_two_classes_with_53_of_56_right():
    mean, low, high = share_interval(np.arange(56) < 53, range(56))
    assert mean == pytest.approx(53 / 56)
    assert (low, high) == pytest.approx((0.871, 0.979), abs=0.002)  # Wilson's with n = 56: 0.873 to 0.978


def test_all_right_is_not_certainty():
    assert share_interval([1.0] * 8, range(8)) == pytest.approx((1.0, 0.69, 1.0), abs=0.001)
    assert share_interval([0.5] * 8, range(8))[1] < 0.4


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4)), min_size=1, max_size=30))
def test_no_interval_leaves_0_to_1(samples):
    values, units = [value for value, _ in samples], [unit for _, unit in samples]
    mean, low, high = share_interval(values, units)
    if len(set(units)) < 2:
        assert np.isnan([low, high]).all()
    else:
        assert 0 <= low <= mean + 1e-9
        assert mean - 1e-9 <= high <= 1


def test_far_from_its_bounds_an_interval_over_many_categories_is_nearly_that_of_t():
    values = np.random.default_rng(4).normal(0.6, 0.1, 50)
    np.testing.assert_allclose(share_interval(values, range(50)), t_interval(values), atol=0.001)


# ---------------------------------------------------------------------------------------- interval of a difference


@pytest.mark.parametrize("effect", [0.0, 0.1])
def test_nineteen_of_twenty_intervals_hold_the_difference(effect):
    rng, inside = np.random.default_rng(3), []
    for _ in range(800):
        of_category = np.clip(effect + rng.normal(0, 0.1, 20), -1, 1)
        differences = np.repeat(of_category, 4) + rng.uniform(-0.2, 0.2, 80)
        _, low, high = difference_interval(differences, np.repeat(np.arange(20), 4).tolist())
        inside.append(low <= effect <= high)
    assert 0.925 < np.mean(inside) < 0.975


@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 4)), min_size=1, max_size=30))
def test_no_interval_of_a_difference_leaves_its_bounds(samples):
    values, units = [value for value, _ in samples], [unit for _, unit in samples]
    mean, low, high = difference_interval(values, units)
    if len(set(units)) < 2:
        assert np.isnan([low, high]).all()
    else:
        assert -1 <= low <= mean + 1e-9
        assert mean - 1e-9 <= high <= 1


def test_what_changes_nothing_has_no_width():
    assert difference_interval([0.0] * 5, range(5)) == (0, 0, 0)


# --------------------------------------------------------------------------------------------------- among the first k


@st.composite
def rankings(draw):
    n_candidates = draw(st.integers(2, 7))
    ranks = draw(st.lists(st.integers(1, n_candidates), min_size=1, max_size=4))
    return ranks, n_candidates, draw(st.integers(1, n_candidates)), draw(st.integers(1, 8))


@given(rankings())
def test_the_probability_is_that_of_all_subsets(case):
    ranks, n_candidates, n_subset, k = case
    shares = []
    for rank in ranks:
        others = [r for r in range(1, n_candidates + 1) if r != rank]
        subsets = list(combinations(others, n_subset - 1))
        shares.append(np.mean([sum(r < rank for r in subset) < k for subset in subsets]))
    assert top_k_probability(ranks, n_candidates, n_subset, k) == pytest.approx(np.mean(shares))


def test_the_probability_is_that_of_random_subsets():
    rng = np.random.default_rng(0)
    rank, n_candidates, n_subset, k = 40, 1000, 200, 5
    others = np.delete(np.arange(1, n_candidates + 1), rank - 1)
    hits = [(rng.choice(others, n_subset - 1, replace=False) < rank).sum() < k for _ in range(4000)]
    assert top_k_probability([rank], n_candidates, n_subset, k) == pytest.approx(np.mean(hits), abs=0.02)


def test_among_all_candidates_it_is_the_share_of_ranks():
    ranks = np.array([1, 3, 5, 6, 900, 15372])
    assert top_k_probability(ranks, 15372, 15372, 5) == pytest.approx(3 / 6)
    assert top_k_probability(ranks, 15372, 15372, 1) == pytest.approx(1 / 6)


def test_among_two_candidates_it_is_the_identification_accuracy():
    scores = np.random.default_rng(2).permutation(60).reshape(1, -1).astype(np.float32)[0]
    for true in (0, 7, 59):
        expected = identification_accuracy(scores, true)
        assert top_k_probability([rank_of(scores, true)], 60, 2, 1) == pytest.approx(expected)


def test_random_ranks_are_at_chance_whatever_the_number_of_candidates():
    for n_subset in (2, 10, 500, 15372):
        assert top_k_probability(np.arange(1, 15373), 15372, n_subset, 1) == pytest.approx(1 / n_subset, rel=1e-6)


def test_without_blocks_there_is_none():
    assert np.isnan(top_k_probability([], 100, 10, 1))


# -------------------------------------------------------------------------------------------------- feature accuracy


def test_pattern_correlation_is_that_of_each_sample():
    rng = np.random.default_rng(0)
    predicted, true = rng.normal(size=(2, 5, 30)).astype(np.float32)
    expected = [np.corrcoef(p, t)[0, 1] for p, t in zip(predicted, true, strict=True)]
    np.testing.assert_allclose(pattern_correlation(predicted, true), expected, atol=1e-6)


def test_a_sample_whose_units_are_all_alike_correlates_with_nothing():
    predicted = np.vstack([np.ones(4), np.arange(4)])
    np.testing.assert_allclose(pattern_correlation(predicted, [[0, 1, 2, 3]] * 2), [0, 1])


def profile_permutation_p(*arguments, **options):
    return profile_test(*arguments, **options).p_value


def feature_accuracy(predicted, true):
    return np.mean([stats.pearsonr(p, t).statistic for p, t in zip(predicted.T, true.T, strict=True)])


@pytest.mark.parametrize("n_repeats", [1, 3])
def test_p_is_that_of_all_shuffles_of_the_categories(n_repeats):
    rng = np.random.default_rng(3)
    categories = rng.normal(size=(5, 8))
    of_sample = np.tile(np.arange(5), n_repeats)
    predicted = 0.25 * categories[of_sample] + rng.normal(size=(5 * n_repeats, 8))
    observed = feature_accuracy(predicted, categories[of_sample])
    every = [feature_accuracy(predicted, categories[np.array(p)[of_sample]]) for p in permutations(range(5))]
    exact = np.mean(np.array(every) >= observed - 1e-12)
    assert 0.01 < exact < 0.5
    assert profile_permutation_p(predicted, categories[of_sample]) == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("n_repeats", [1, 4])
def test_p_is_uniform_where_there_is_nothing(n_repeats):
    """Also where every block of a category errs alike: shuffling blocks would find far too much."""
    p = []
    for seed in range(200):
        predicted, true = np.random.default_rng(seed).normal(size=(2, 12, 20))
        p.append(
            profile_permutation_p(np.tile(predicted, (n_repeats, 1)), np.tile(true, (n_repeats, 1)), seed=seed, n=199)
        )
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 2 < sum(value <= 0.05 for value in p) < 20


def test_p_is_uniform_where_categories_have_unequal_numbers_of_samples():
    of_sample = np.repeat(np.arange(8), [1, 1, 2, 3, 5, 8, 2, 1])
    p = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        p.append(
            profile_permutation_p(rng.normal(size=(23, 10)), rng.normal(size=(8, 10))[of_sample], seed=seed, n=199)
        )
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_two_classes_are_tested_over_blocks_within_runs():
    rng = np.random.default_rng(0)
    labels, runs = np.tile([0, 1], 20), np.repeat(np.arange(4), 10).tolist()
    true = np.eye(2)[labels]
    assert profile_test(true, true).p_value == 0.5
    assert profile_test(true, true, runs).p_value < 0.001
    p = [profile_test(rng.normal(size=(40, 2)), true, runs, seed=seed, n=199).p_value for seed in range(200)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_p_is_small_for_a_strong_signal_and_1_for_a_single_category():
    true = np.random.default_rng(0).normal(size=(10, 50))
    assert profile_permutation_p(true + 1, true, n=499) == pytest.approx(1 / 500)
    assert profile_permutation_p(-true, true, n=499) == 1.0
    assert profile_permutation_p(true, np.ones((10, 50)), n=499) == 1.0


def test_a_shuffle_that_changes_nothing_counts():
    assert share_at_least(0.3, np.array([0.3 - 1e-16, 0.2, 0.1])) == pytest.approx(0.5)
    assert share_at_least(0.3, np.empty(0)) == 1.0
