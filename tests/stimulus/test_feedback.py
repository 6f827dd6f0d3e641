"""Every view of a ranking, and how near the target is, against the obvious count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.messages import Ranking
from stimulus.feedback import View, feedback_scene, percentile, strength
from stimulus.texts import ENGLISH, JAPANESE
from stimulus.view import N_ROWS, SHORTEST_BAR
from tests.stimulus.conftest import STILL

NAMES = [f"great_thing_{number}" for number in range(50)]


def ranked(scores, order=None, probability=None):
    order = np.arange(len(scores)) if order is None else order
    return Ranking("run-1", 9, 3, 0, False, (), order, np.array(scores), STILL, probability=probability)


def scene(view, n=20, target=3, probability=(0.2, 0.5, 0.8), pictures=None, texts=ENGLISH):
    order = np.random.default_rng(0).permutation(n)
    ranking = ranked(np.linspace(0.3, 0.1, n), order, probability)
    return feedback_scene(view, ranking, target, NAMES, texts, pictures or {}), ranking


def naive_percentile(ranking, target):
    by_candidate = dict(zip(ranking.order.tolist(), ranking.scores.tolist(), strict=True))
    own = by_candidate.pop(target)
    worth = [1.0 if other < own else 0.5 if other == own else 0.0 for other in by_candidate.values()]
    return sum(worth) / len(worth)


class TestPercentile:
    @given(st.data())
    def test_is_what_one_would_count(self, data):
        scores = data.draw(st.lists(st.sampled_from((-0.1, 0.0, 0.1, 0.2, 0.3)), min_size=2, max_size=30))
        order = np.array(data.draw(st.permutations(range(100))))[: len(scores)]
        ranking = ranked(sorted(scores, reverse=True), order)
        for target in order.tolist():
            assert percentile(ranking, target) == pytest.approx(naive_percentile(ranking, target))

    def test_first_last_and_the_middle(self):
        assert percentile(ranked((0.3, 0.2, 0.1)), 0) == 1
        assert percentile(ranked((0.3, 0.2, 0.1)), 1) == 0.5
        assert percentile(ranked((0.3, 0.2, 0.1)), 2) == 0
        assert percentile(ranked((0.3, 0.3, 0.3)), 2) == 0.5

    def test_a_target_that_is_not_ranked_is_behind_all_and_one_alone_ahead_of_none(self):
        assert percentile(ranked((0.3, 0.2, 0.1)), 17) == 0
        assert percentile(ranked((0.3,)), 0) == 0
        assert percentile(ranked(()), 0) == 0


@pytest.mark.parametrize(
    ("first_ten", "drawn"), [(1.0, 1.0), (0.5, 1.0), (0.499, 0.7), (0.2, 0.7), (0.199, 0.45), (0.0, 0.45)]
)
@pytest.mark.parametrize("view", View)
def test_what_is_not_sure_is_pale_and_says_so_in_every_view(view, first_ten, drawn):
    probability = (0.0, 0.0, first_ten)
    assert strength(ranked((0.3, 0.2), probability=probability)) == drawn
    shown, _ = scene(view, probability=probability)
    assert shown.strength == drawn
    assert all(picture.strength == drawn for picture in shown.pictures)
    assert shown.caption == (ENGLISH.not_sure if drawn == 0.45 else "")


def test_where_nobody_learned_how_sure_it_is_nothing_is_pale():
    assert strength(ranked((0.3, 0.2))) == 1
    assert scene(View.LIST, probability=None)[0].caption == ""


class TestViews:
    def test_list(self):
        shown, ranking = scene(View.LIST)
        assert [row.name for row in shown.rows] == [f"great thing {i}" for i in ranking.order[:N_ROWS]]
        fractions = [row.fraction for row in shown.rows]
        assert (fractions[0], fractions[-1]) == (1, pytest.approx(SHORTEST_BAR))
        assert (shown.pictures, shown.thermometer) == ((), None)
        assert shown.show_fixation

    def test_fewer_candidates_than_rows(self):
        assert len(scene(View.LIST, n=4)[0].rows) == 4

    @pytest.mark.parametrize(("texts", "label"), [(ENGLISH, "“great thing 3”"), (JAPANESE, "「great thing 3」")])
    def test_thermometer(self, texts, label):
        shown, ranking = scene(View.THERMOMETER, texts=texts)
        assert shown.thermometer.level == pytest.approx(naive_percentile(ranking, 3))
        assert label in shown.thermometer.label
        assert shown.rows == ()

    def test_a_thermometer_without_a_target_is_a_list(self):
        assert scene(View.THERMOMETER, target=None)[0] == scene(View.LIST, target=None)[0]

    @pytest.mark.parametrize(("view", "n_tiles"), [(View.PICTURES, 5), (View.GRID, 9)])
    def test_pictures(self, view, n_tiles):
        shown, ranking = scene(view, pictures={i: f"{i}.png" for i in range(0, 20, 2)})
        assert [picture.label for picture in shown.pictures] == [f"great thing {i}" for i in ranking.order[:n_tiles]]
        # A candidate without a picture is a frame with its name.
        files = [f"{i}.png" if i % 2 == 0 else "" for i in ranking.order[:n_tiles]]
        assert [picture.file for picture in shown.pictures] == files

    @pytest.mark.parametrize(("view", "n_tiles"), [(View.PICTURES, 5), (View.GRID, 9)])
    @pytest.mark.parametrize("n", [1, 3, 7, 20])
    def test_tiles_lie_apart_on_the_screen_and_candidates_may_be_few(self, view, n_tiles, n):
        shown, _ = scene(view, n=n, target=0)
        assert len(shown.pictures) == min(n, n_tiles)
        for picture in shown.pictures:
            half = picture.size_deg / 2
            assert abs(picture.x_deg) + half <= 8.5
            assert abs(picture.y_deg) + half <= 7
        for first in shown.pictures:
            for second in shown.pictures:
                side = (first.size_deg + second.size_deg) / 2
                apart = max(abs(first.x_deg - second.x_deg) - side, abs(first.y_deg - second.y_deg) - side)
                assert first is second or apart > 0.5  # with room for a label

    def test_the_best_is_the_largest_or_in_the_middle(self):
        (best, *others) = scene(View.PICTURES)[0].pictures
        assert all(best.size_deg > other.size_deg for other in others)
        assert (scene(View.GRID)[0].pictures[0].x_deg, scene(View.GRID)[0].pictures[0].y_deg) == (0, 0)
