"""Nearest pictures: those that a sorted list of all scores begins with, whatever the data; and their chances."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.decoding.chances import Chances, Presence, Weight
from rtgod.decoding.picture_index import NearestSearch, Pictures, matched_rows, picture_chances
from rtgod.messages import Features
from tests import small

CHANCES = Chances((), (None, Weight(2.0, 0.0, 0.0)), (0.0, 0.0), (1, 9), (2, 300))


def slowly_nearest(rows, query, n):
    scores = np.array([sum(float(a) * float(b) for a, b in zip(row, query, strict=True)) for row in rows])
    return np.argsort(-scores, kind="stable")[:n], scores


@given(
    st.integers(1, 60),
    st.integers(1, 24),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["normal", "heavy", "grid", "tiny"]),
)
def test_the_nearest_are_those_of_a_sorted_list_of_all_scores(n_rows, n_dimensions, seed, kind):
    rng = np.random.default_rng(seed)
    draw = {
        "normal": lambda size: rng.standard_normal(size),
        "heavy": lambda size: rng.standard_cauchy(size),
        "grid": lambda size: rng.integers(-1, 2, size),
        "tiny": lambda size: 1e-12 * rng.standard_normal(size),
    }[kind]
    rows, query = draw((n_rows, n_dimensions)).astype(np.float32), draw(n_dimensions).astype(np.float32)
    positions, scores, copies = NearestSearch(rows).nearest(query, 4)
    expected, all_scores = slowly_nearest(rows, query, 4)
    assert len(positions) == min(4, n_rows) == len(set(positions.tolist()))
    rounding = 1e-5 * np.abs(rows).max() * np.abs(query).sum() + 1e-30
    np.testing.assert_allclose(scores, all_scores[positions], atol=rounding)
    np.testing.assert_allclose(all_scores[positions], all_scores[expected], atol=2 * rounding)
    assert np.abs(copies - all_scores).max() <= 0.02 * np.abs(rows).max() * np.abs(query).sum() + 1e-30


def test_of_equal_pictures_the_first_comes_first():
    rows = np.ones((9, 5), np.float32)
    assert NearestSearch(rows).nearest(np.ones(5, np.float32), 4)[0].tolist() == [0, 1, 2, 3]
    assert NearestSearch(rows).nearest(np.zeros(5, np.float32), 4)[0].tolist() == [0, 1, 2, 3]


def test_a_search_reads_few_rows_in_single_precision(monkeypatch):
    """Otherwise the 8-bit copies would be good for nothing: the bound must be narrow."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5000, 256)).astype(np.float32)
    search, read = NearestSearch(rows), []
    from rtgod.decoding import picture_index

    real = picture_index.correlate_at
    monkeypatch.setattr(
        picture_index,
        "correlate_at",
        lambda rows, positions, *rest: read.append(len(positions)) or real(rows, positions, *rest),
    )
    for _ in range(10):
        search.nearest(rng.standard_normal(256).astype(np.float32), 4)
    assert max(read) < 250


def test_the_same_bytes_come_from_any_number_of_threads():
    rng = np.random.default_rng(1)
    search = NearestSearch(rng.standard_normal((4000, 300)).astype(np.float32))
    query, found = rng.standard_normal(300).astype(np.float32), []
    before = numba.get_num_threads()
    for n_threads in {1, before}:
        numba.set_num_threads(n_threads)
        found.append([part.tobytes() for part in search.nearest(query, 4)])
    numba.set_num_threads(before)
    assert all(each == found[0] for each in found)


def test_a_score_is_the_weighted_mean_of_the_layers_correlations():
    layers = small.bundle().layers
    weights = {"conv": 3.0, "fc": 1.0}
    shown = {name: small.normal(8, layer.n_units, seed=7) for name, layer in layers.items()}
    decoded = {name: small.normal(1, layer.n_units, seed=8)[0] for name, layer in layers.items()}
    pictures = Pictures(tuple(map(str, range(8))), matched_rows(shown, layers, weights), weights)

    def correlation(name, row):
        of_both = [
            (values - layers[name].unit_mean) / layers[name].unit_sd for values in (shown[name][row], decoded[name])
        ]
        return np.corrcoef(*of_both)[0, 1]

    scores = np.array([0.75 * correlation("conv", row) + 0.25 * correlation("fc", row) for row in range(8)])
    nearest = pictures.nearest(Features(0, decoded), layers, 1)
    assert [int(each.name) for each in nearest] == np.argsort(-scores)[:4].tolist()
    np.testing.assert_allclose([each.score for each in nearest], np.sort(scores)[:-5:-1], atol=1e-5)
    assert all(each.probability is None for each in nearest)


def test_chances_are_shares_of_the_odds_of_all_pictures():
    scores = np.array([0.9, 0.5, 0.4, 0.1, -0.2, -0.8], np.float32)
    odds = np.exp(np.exp(2.0) * scores.astype(float))
    np.testing.assert_allclose(picture_chances(CHANCES, scores[:4], scores, 3), (odds / odds.sum())[:4], rtol=1e-5)


def test_without_a_response_every_picture_is_equally_likely():
    absent = Chances((), CHANCES.weights, (0.0, 0.0), (1, 9), (2, 300), Presence(-50.0, 0.0, 0.0, 0.0, (0.0, 1.0)))
    scores = np.linspace(1, -1, 20).astype(np.float32)
    np.testing.assert_allclose(picture_chances(absent, scores[:4], scores, 3, 0.5), 1 / 20)


def test_chances_of_what_is_imagined_are_unknown():
    layers = small.bundle().layers
    weights = dict.fromkeys(layers, 1.0)
    rows = matched_rows(
        {name: small.normal(8, layer.n_units, seed=7) for name, layer in layers.items()}, layers, weights
    )
    pictures = Pictures(tuple(map(str, range(8))), rows, weights, None, CHANCES)
    features = Features(0, {name: small.normal(1, layer.n_units, seed=8)[0] for name, layer in layers.items()})
    seen, imagined = (pictures.nearest(features, layers, 1, imagined=flag) for flag in (False, True))
    assert [each.name for each in seen] == [each.name for each in imagined]
    assert 0 < sum(each.probability for each in seen) <= 1
    assert all(each.probability is None for each in imagined)


@pytest.mark.parametrize(
    ("names", "weights", "said"), [(("a", "a"), {"fc": 1.0}, "share a name"), (("a", "b"), {"fc": 0.0}, "one above 0")]
)
def test_pictures_that_do_not_fit_are_refused(names, weights, said):
    with pytest.raises(ValueError, match=said):
        Pictures(names, np.ones((2, 3), np.float32), weights)
