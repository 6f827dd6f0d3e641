"""Tests of labels: exact where few, uniform where there is nothing, also where runs are left out one at a time."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from calibration.metrics.identification import all_accuracies, permutation_test
from calibration.metrics.permutation import exchange_test

VALUES = arrays(np.float64, (6, 3), elements=st.sampled_from([0, 0.25, 0.5, 1]))


@settings(max_examples=50)
@given(VALUES, st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_few_exchanges_within_runs_are_all_gone_through(values, labels):
    runs = list("aabbbb")
    observed = sum(values[i, label] for i, label in enumerate(labels))
    everything = {
        (*a, *b): sum(values[i, label] for i, label in enumerate((*a, *b)))
        for a in permutations(labels[:2])
        for b in permutations(labels[2:])
    }
    found = exchange_test(values, labels, runs)
    assert found.p_value == pytest.approx(np.mean([one >= observed - 1e-12 for one in everything.values()]))
    assert found.least == pytest.approx(1 / len(everything))
    assert found.exchanged == "blocks"


@settings(max_examples=50)
@given(VALUES)
def test_few_categories_are_exchanged_in_every_way(values):
    labels = [0, 1, 2, 0, 0, 2]
    # Each category counts alike: that of three samples, that of one, that of two.
    alike = [1 / labels.count(label) for label in labels]
    sums = [
        sum(alike[i] * values[i, order[label]] for i, label in enumerate(labels)) for order in permutations(range(3))
    ]
    found = exchange_test(values, labels)
    assert found.p_value == pytest.approx(np.mean(np.array(sums) >= sums[0] - 1e-12))
    assert (found.least, found.exchanged) == (pytest.approx(1 / 6), "categories")


def two_classes(n_right, n_runs=4, n_blocks=14):
    """Scores of two candidates for runs of both, the first blocks wrong."""
    true = np.tile(np.repeat([0, 1], n_blocks // 2), n_runs)
    right = np.arange(len(true)) >= len(true) - n_right
    scores = np.zeros((len(true), 2))
    scores[np.arange(len(true)), np.where(right, true, 1 - true)] = 1
    return scores, true.tolist(), np.repeat(np.arange(n_runs), n_blocks).tolist()


@pytest.mark.parametrize("folded", [False, True])
def test_two_classes_are_told_apart_in_53_of_56_blocks(folded):
    found = permutation_test(*two_classes(53), folded=folded)
    assert found.exchanged == "blocks"
    assert found.p_value == found.least == pytest.approx(1 / 2001)
    assert permutation_test(*two_classes(28), folded=folded).p_value > 0.3


def test_two_new_categories_are_two_samples_however_often_they_are_seen():
    """A decoder that never saw them may take the one for the other each time, or never."""
    found = permutation_test(*two_classes(56), new=True)
    assert (found.p_value, found.least, found.exchanged) == (0.5, 0.5, "categories")


@pytest.mark.parametrize(("n_categories", "n_repeats"), [(2, 5), (3, 4), (5, 2)])
def test_p_is_uniform_for_few_categories_where_there_is_nothing(n_categories, n_repeats):
    p = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        true = np.tile(np.repeat(np.arange(n_categories), n_repeats), 3)
        runs = np.repeat(np.arange(3), n_categories * n_repeats)
        # Some runs are biased to one category: that must not count.
        scores = rng.normal(size=(len(true), 12)) + rng.normal(size=(3, 12))[runs]
        p.append(exchange_test(all_accuracies(scores), true, runs, seed=seed, n=199).p_value)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 4 < sum(value <= 0.05 for value in p) < 28


def left_out_in_turn(rng, n_runs, n_categories, n_repeats, n_voxels=60):
    """Accuracies of patterns without any signal, each run decoded by ridge regression on the others."""
    true = np.tile(np.repeat(np.arange(n_categories), n_repeats), n_runs)
    runs = np.repeat(np.arange(n_runs), n_categories * n_repeats)
    X, Y = rng.normal(size=(len(true), n_voxels)), np.eye(n_categories)[true]
    scores = np.empty(Y.shape)
    for run in range(n_runs):
        kept = runs != run
        dual = np.linalg.solve(X[kept] @ X[kept].T + n_voxels * np.eye(kept.sum()), Y[kept] - Y[kept].mean(axis=0))
        scores[~kept] = X[~kept] @ X[kept].T @ dual
    return all_accuracies(scores), true, runs


@pytest.mark.parametrize(("n_runs", "n_categories", "n_repeats"), [(4, 2, 7), (12, 8, 1), (6, 3, 2)])
@pytest.mark.parametrize("within_runs", [True, False])
def test_p_is_not_too_small_where_runs_test_each_other(n_runs, n_categories, n_repeats, within_runs):
    """Without the allowance for it, up to twice too many results without signal are significant."""
    p = []
    for seed in range(300):
        values, true, runs = left_out_in_turn(np.random.default_rng(seed), n_runs, n_categories, n_repeats)
        p.append(exchange_test(values, true, runs if within_runs else None, folded=True, seed=seed, n=199).p_value)
    assert np.mean(np.array(p) <= 0.05) < 0.075
    assert np.mean(np.array(p) <= 0.2) < 0.26


def test_labels_that_never_vary_within_a_run_test_nothing():
    """Run and category are one then: what tells runs apart would pass for a category."""
    scores = np.eye(3)[np.repeat([0, 1, 2], 8)]
    found = permutation_test(scores, np.repeat([0, 1, 2], 8).tolist(), np.repeat([0, 1, 2], 8).tolist())
    assert (found.p_value, found.least) == (1.0, 1.0)
