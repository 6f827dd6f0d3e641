"""An area is framed where it beats the others, by paired tests; the order of areas is tested against all orders."""

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from calibration.metrics.area_comparison import AreaAccuracies, compare_areas, order_test, parts_of

N_CATEGORIES = 20


def accuracies(values, voxel_sd=0.0, share=0.5, seed=0, n_draws=10):
    """Accuracies that are means over categories, of shape (n_areas, n_categories, n_layers)."""
    values = np.asarray(values)
    mean = values.mean(axis=1)
    without = (values.sum(axis=1, keepdims=True) - values) / (values.shape[1] - 1)
    rng = np.random.default_rng(seed)
    parts = mean[:, np.newaxis] + voxel_sd * rng.standard_normal((len(values), n_draws, values.shape[2]))
    shift = parts.mean(axis=1, keepdims=True) - mean[:, np.newaxis]
    return AreaAccuracies(parts, without + shift, np.full(len(values), share))


def values(means, noise=0.1, seed=0):
    means = np.asarray(means, float)
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 0.3, (N_CATEGORIES, means.shape[1]))  # what makes a category hard for all areas
    return means[:, np.newaxis] + shared + noise * rng.standard_normal((len(means), N_CATEGORIES, means.shape[1]))


def test_p_values_are_those_of_paired_t_tests():
    of = values([[0.5, 0.2], [0.4, 0.22], [0.1, 0.2]])
    found = compare_areas(accuracies(of), n_kinds=2)
    for layer in range(2):
        best = of[:, :, layer].mean(axis=1).argmax()
        against = [of[i, :, layer] for i in range(3) if i != best] + [np.zeros(N_CATEGORIES)]
        worst = max(stats.ttest_rel(of[best, :, layer], other).pvalue for other in against)
        assert found.p_values[layer] == pytest.approx(min(4 * worst, 1))


def test_the_area_that_beats_all_others_is_framed_and_one_that_ties_is_not():
    found = compare_areas(accuracies(values([[0.7, 0.4, 0.1], [0.2, 0.4, 0.1], [0.2, 0.1, 0.6]])), 1)
    assert found.best_area == (0, None, 2)
    assert (found.low < found.accuracy).all()
    assert (found.accuracy < found.high).all()
    assert found.best_layer[0] == 0
    assert 1 in found.also_best[1]


def test_what_varies_with_the_voxels_drawn_is_allowed_for():
    of = values([[0.7, 0.5], [0.4, 0.5]])
    assert compare_areas(accuracies(of), 1).best_area == (0, None)
    spread = compare_areas(accuracies(of, voxel_sd=0.5), 1)
    assert spread.best_area == (None, None)
    assert (spread.high - spread.low > compare_areas(accuracies(of), 1).high[0, 0] - 0.7).all()


def test_an_area_below_chance_is_best_at_nothing():
    rng = np.random.default_rng(0)
    of = np.array([[-0.1], [-0.9]])[:, np.newaxis] + 0.05 * rng.standard_normal((2, N_CATEGORIES, 1))
    found = compare_areas(accuracies(of), 1)
    assert found.best_area == (None,)
    assert found.best_layer == (None, None)
    assert np.isnan(found.centre).all()


def test_few_categories_frame_nothing():
    of = np.array([[[0.9, 0.8]], [[0.1, 0.2]]]) + 0.01 * np.random.default_rng(0).standard_normal((2, 4, 2))
    assert compare_areas(accuracies(of), 1).best_area == (None, None)


def test_areas_that_do_not_differ_are_framed_in_at_most_one_of_twenty_data_sets():
    framed = [
        any(area is not None for area in compare_areas(accuracies(values(np.full((7, 5), 0.3), seed=i)), 2).best_area)
        for i in range(200)
    ]
    assert np.mean(framed) <= 0.05


def test_the_centre_of_an_areas_layers_is_their_mean_place():
    found = compare_areas(accuracies(values([[0.6, 0.2, 0.1], [0.1, 0.2, 0.6]], noise=0.01)), 1)
    assert found.centre[0] < 2 < found.centre[1]
    assert (found.centre_low < found.centre).all()
    assert (found.centre < found.centre_high).all()


@pytest.mark.parametrize("centre", [[1, 2, 3, 4], [2, 1, 3, 4], [4, 3, 2, 1], [1, 1, 2, 2]])
def test_an_order_is_compared_with_all_orders(centre):
    found = order_test(np.array(centre, float))
    expected = stats.spearmanr(np.arange(4), centre).statistic
    assert found.correlation == pytest.approx(expected)
    every = [stats.spearmanr(np.arange(4), order).statistic for order in permutations(centre)]
    assert found.p_value == pytest.approx(np.mean(np.array(every) >= expected - 1e-9))
    assert found.least == pytest.approx(1 / 24)


def test_orders_of_many_areas_are_drawn_and_of_two_are_not_tested():
    assert order_test(np.arange(9.0)).p_value < 0.001
    rng = np.random.default_rng(0)
    assert np.mean([order_test(rng.permutation(np.arange(9.0))).p_value <= 0.05 for _ in range(300)]) < 0.09
    two = order_test(np.array([1.0, 2.0, np.nan]))
    assert np.isnan(two.correlation)
    assert (two.p_value, two.n_areas) == (1.0, 2)


def test_parts_of_one_split_share_no_voxel():
    columns = np.arange(100, 153)
    parts = parts_of(columns, 20, 5, np.random.default_rng(0))
    assert [len(part) for part in parts] == [20] * 5
    assert not set(parts[0]) & set(parts[1])
    assert not set(parts[2]) & set(parts[3])
    assert set(np.concatenate(parts)) <= set(columns)
    again = parts_of(columns, 20, 5, np.random.default_rng(0))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
