import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from calibration.metrics.identification import (
    N_PERMUTATIONS,
    all_accuracies,
    identification_accuracy,
    permutation_test,
    rank_of,
    shuffled_accuracy,
)
from tests import naive

# Few distinct values, so that ties are common.
score_tables = arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(2, 7)), elements=st.sampled_from([-1, 0, 0.5, 2])
)


@pytest.mark.parametrize(
    ("scores", "true", "accuracy", "rank"),
    [
        ([3, 2, 1], 0, 1.0, 1),
        ([3, 2, 1], 2, 0.0, 3),
        ([3, 2, 1], 1, 0.5, 2),
        ([1, 1, 1, 1, 1], 2, 0.5, 5),
        ([2, 2, 1, 0], 0, 5 / 6, 2),
        ([0, 1], 1, 1.0, 1),
    ],
)
def test_accuracy_counts_ties_half_and_the_rank_counts_them_against(scores, true, accuracy, rank):
    assert identification_accuracy(np.array(scores, np.float32), true) == pytest.approx(accuracy)
    assert rank_of(np.array(scores, np.float32), true) == rank


@given(score_tables)
def test_all_accuracies_are_those_of_loops(scores):
    expected = [[naive.identification_accuracy(row, true) for true in range(len(row))] for row in scores.tolist()]
    np.testing.assert_allclose(all_accuracies(scores), expected, atol=1e-12)
    for row, accuracies in zip(scores, expected, strict=True):
        for true, accuracy in enumerate(accuracies):
            assert identification_accuracy(row, true) == pytest.approx(accuracy)
            higher, tied = (row > row[true]).sum(), (row == row[true]).sum()
            assert rank_of(row, true) == higher + tied
    np.testing.assert_allclose(all_accuracies(scores).mean(axis=1), 0.5, atol=1e-12)


def blocks(strength, seed, n_categories=12, n_repeats=3, n_candidates=40):
    rng = np.random.default_rng(seed)
    true = np.tile(rng.choice(n_candidates, n_categories, replace=False), n_repeats)
    scores = rng.normal(size=(len(true), n_candidates))
    scores[np.arange(len(true)), true] += strength
    return scores, true


def permutation_p(*arguments, **options):
    return permutation_test(*arguments, **options).p_value


@pytest.fixture
def fewer_permutations(monkeypatch):
    monkeypatch.setattr("calibration.metrics.identification.N_PERMUTATIONS", 199)


@pytest.mark.usefixtures("fewer_permutations")
def test_p_is_uniform_where_there_is_nothing():
    p = [permutation_p(*blocks(0.0, seed), seed=seed) for seed in range(200)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 2 < sum(value <= 0.05 for value in p) < 20


@pytest.mark.usefixtures("fewer_permutations")
def test_p_is_uniform_where_every_block_of_a_category_errs_alike():
    """Blocks of one category share their scores: shuffling blocks instead of categories would find far too much."""
    p = []
    for seed in range(200):
        scores, true = blocks(0.0, seed, n_repeats=1)
        p.append(permutation_p(np.tile(scores, (4, 1)), np.tile(true, 4), seed=seed))
    assert 2 < sum(value <= 0.05 for value in p) < 20


@pytest.mark.usefixtures("fewer_permutations")
def test_averages_of_a_category_s_blocks_so_far_are_one_sample_each_category():
    """Of few categories blocks would be exchanged, and averages that share most of their blocks seem to agree."""
    p = {True: [], False: []}
    for seed in range(200):
        true = np.tile(np.arange(4), 10)
        noise = np.random.default_rng(seed).normal(size=(10, 4, 4))
        so_far = noise.cumsum(axis=0) / np.arange(1, 11)[:, np.newaxis, np.newaxis]
        for new, values in p.items():
            values.append(permutation_p(so_far.reshape(40, 4), true, np.zeros(40), new=new, seed=seed))
    assert np.mean(np.array(p[True]) <= 0.05) < 0.09
    assert np.mean(np.array(p[False]) <= 0.05) > 0.25


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_with_shuffled_labels_is_the_mean_over_shuffles(seed):
    rng = np.random.default_rng(seed)
    true, scores = rng.choice(5, 30, p=[0.5, 0.2, 0.1, 0.1, 0.1]), rng.normal(size=(30, 8))
    scores[:, :2] += 1
    shuffles = [
        np.mean([naive.identification_accuracy(s, t) for s, t in zip(scores, rng.permutation(true), strict=True)])
        for _ in range(1000)
    ]
    assert shuffled_accuracy(scores, true) == pytest.approx(np.mean(shuffles), abs=0.005)


def test_one_answer_to_all_blocks_is_as_good_with_shuffled_labels():
    """Also where one category is shown most of the time, and its accuracy is far above 50 %."""
    true = [0] * 20 + [1, 2, 3, 4, 5]
    scores = np.tile(-np.arange(6.0), (25, 1))
    accuracy = np.mean([identification_accuracy(s, t) for s, t in zip(scores, true, strict=True)])
    assert accuracy > 0.85
    assert shuffled_accuracy(scores, true) == pytest.approx(accuracy)


def test_p_is_small_for_a_strong_signal_and_never_0():
    assert permutation_p(*blocks(3.0, seed=0)) == pytest.approx(1 / (1 + N_PERMUTATIONS))
    assert permutation_p(*blocks(-3.0, seed=0)) > 0.9


def test_p_is_1_where_labels_cannot_be_told_apart():
    scores, _ = blocks(3.0, seed=0)
    assert permutation_p(scores, [5] * len(scores)) == 1.0
    assert permutation_p(np.zeros((6, 4)), [0, 1, 2, 3, 0, 1]) == 1.0


def test_p_is_exact_for_two_categories():
    """Only two labellings exist, so half of the shuffles reproduce the observed one."""
    scores, true = np.array([[1, 0, -1], [0, 1, -1.0]]), [0, 1]
    assert permutation_p(scores, true) == pytest.approx(0.5, abs=0.05)


def test_the_seed_decides():
    scores, true = blocks(0.2, seed=3)
    assert permutation_p(scores, true, seed=1) == permutation_p(scores, true, seed=1)
