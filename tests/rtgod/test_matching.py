"""Matching: Pearson's r as others compute it, combined as asked, and what is found among many is what is there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rtgod.decoding import LayerDecoder
from rtgod.matching import CategoryIndex, standardise_rows
from rtgod.messages import Features
from tests import naive

N_SAMPLES, N_CANDIDATES = 30, 17
N_UNITS = {"conv1": 21, "conv5": 40, "fc8": 5}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def layers():
    return {
        name: LayerDecoder(normal(n, N_SAMPLES, seed=n), 10 + 5 * normal(n, seed=n + 1), 1 + normal(n, seed=n + 2) ** 2)
        for name, n in N_UNITS.items()
    }


@pytest.fixture
def candidates(layers):
    return {
        name: layer.unit_mean + layer.unit_sd * normal(N_CANDIDATES, len(layer.unit_mean), seed=7)
        for name, layer in layers.items()
    }


@pytest.fixture
def features(layers):
    return Features(3, {name: layer.unit_mean + normal(len(layer.unit_mean), seed=9) for name, layer in layers.items()})


def test_correlations_are_pearson_s(layers, candidates, features):
    r = CategoryIndex(candidates, layers).correlations(features)
    assert r.shape == (len(layers), N_CANDIDATES)
    for row, (name, layer) in zip(r, layers.items(), strict=True):
        z = (features.layers[name] - layer.unit_mean) / layer.unit_sd
        zs = (candidates[name] - layer.unit_mean) / layer.unit_sd
        np.testing.assert_allclose(row, [stats.pearsonr(z, one).statistic for one in zs], atol=2e-6)


def test_the_ranking_is_by_mean_fisher_z(layers, candidates, features):
    order, scores = CategoryIndex(candidates, layers).rank(features)
    expected = naive.scores(features.layers, candidates, layers)
    np.testing.assert_allclose(scores, expected[order], atol=1e-5)
    np.testing.assert_array_equal(order, np.argsort(-expected))
    assert (order.dtype, scores.dtype) == (np.int32, np.float32)


def test_only_the_layers_with_candidates_count(layers, candidates, features):
    one = {"conv5": candidates["conv5"]}
    _, scores = CategoryIndex(one, layers).rank(features)
    np.testing.assert_allclose(np.sort(scores), np.sort(naive.scores(features.layers, one, layers)), atol=1e-5)


@given(st.permutations(range(9)))
def test_equal_scores_keep_the_candidates_order(kinds):
    """Nine candidates of three kinds in any order: kinds are ranked, and within a kind positions ascend."""
    layer = LayerDecoder(normal(12, 4), np.zeros(12, np.float32), np.ones(12, np.float32))
    three = normal(3, 12, seed=5)
    order, scores = CategoryIndex({"l": three[np.array(kinds) % 3]}, {"l": layer}).rank(Features(0, {"l": three[1]}))
    groups = [order[k : k + 3] for k in (0, 3, 6)]
    for group, score in zip(groups, (scores[:3], scores[3:6], scores[6:]), strict=True):
        assert len({kinds[i] % 3 for i in group}) == 1
        assert len(set(score.tolist())) == 1
        assert list(group) == sorted(group)
    assert kinds[groups[0][0]] % 3 == 1


def test_a_perfect_match_has_a_finite_score(layers, candidates):
    features = Features(0, {name: rows[4] for name, rows in candidates.items()})
    order, scores = CategoryIndex(candidates, layers).rank(features)
    assert order[0] == 4
    assert 6 < scores[0] < 10
    # Without rounding, r is exactly 1 and -1.
    exact = np.array([[1, -1, 1, -1], [1, 1, -1, -1], [-1, 1, -1, 1]], np.float32)
    layer = LayerDecoder(normal(4, 2), np.zeros(4, np.float32), np.ones(4, np.float32))
    order, scores = CategoryIndex({"l": exact}, {"l": layer}).rank(Features(0, {"l": exact[0]}))
    assert list(order) == [0, 1, 2]
    np.testing.assert_allclose(scores, np.arctanh([0.999999, 0, -0.999999]), rtol=1e-3, atol=1e-6)


def test_constant_features_match_nothing(layers, candidates):
    index = CategoryIndex(candidates, layers)
    order, scores = index.rank(Features(0, {name: layer.unit_mean for name, layer in layers.items()}))
    np.testing.assert_array_equal(scores, 0)
    np.testing.assert_array_equal(order, np.arange(N_CANDIDATES))


def test_standardised_rows_have_mean_0_and_length_1():
    rows = np.vstack([3 + 2 * normal(4, 50), np.full((1, 50), 0.1, np.float32), 1e4 + normal(1, 50)])
    out = standardise_rows(rows)
    np.testing.assert_allclose(out.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), [1, 1, 1, 1, 0, 1], atol=1e-6)
