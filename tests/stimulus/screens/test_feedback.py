"""Every view of a ranking, and how near the target is, against the obvious count."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.messages import NearPicture, Ranking
from stimulus.screens.certainty import bar_lengths, strength
from stimulus.screens.feedback import FeedbackSettings, View, feedback_scene, percentile
from stimulus.screens.scene import Scene
from stimulus.screens.screen import N_ROWS
from stimulus.screens.texts import ENGLISH, JAPANESE
from tests.stimulus.conftest import STILL

#: Views of what ranks candidates; the last shows the decoder's own pictures.
OF_CANDIDATES = [view for view in View if view is not View.NEAREST]
NAMES = [f"great_thing_{number}" for number in range(50)]


def ranked(scores, order=None, probability=None):
    order = np.arange(len(scores)) if order is None else order
    return Ranking("run-1", 9, 3, 0, False, (), order, np.array(scores), STILL, probability=probability)


def scene(view, n=20, target=3, probability=(0.9, 0.95, 1.0), pictures=None, texts=ENGLISH):
    order = np.random.default_rng(0).permutation(n)
    ranking = ranked(np.linspace(0.3, 0.1, n), order, probability)
    return feedback_scene(FeedbackSettings(view=view), ranking, target, NAMES, texts, pictures or {}), ranking


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


#: Of 20 candidates the chance that is read is P(first), which luck makes a 20th.
SURE = [(1.0, 1.0), (0.525, 1.0), (0.52, 0.7), (0.24, 0.7), (0.23, 0.45), (0.05, 0.45), (0.0, 0.45)]


@pytest.mark.parametrize(("first", "drawn"), SURE)
@pytest.mark.parametrize("view", OF_CANDIDATES)
def test_what_is_not_sure_is_pale_and_says_so_in_every_view(view, first, drawn):
    shown, _ = scene(view, probability=(first, 1.0, 1.0))
    assert shown.strength == drawn
    assert all(picture.strength == drawn for picture in shown.pictures)
    assert shown.caption == (ENGLISH.not_sure if drawn == 0.45 else "")


@pytest.mark.parametrize(
    ("settings", "drawn"),
    [({}, 0.7), ({"pale_below": 0.4}, 0.45), ({"clear_from": 0.3}, 1.0), ({"pale_below": 0.0, "clear_from": 0.0}, 1.0)],
)
def test_how_sure_is_sure_is_a_setting(settings, drawn):
    ranking = ranked(np.linspace(0.3, 0.1, 20), probability=(0.35, 0.9, 1.0))
    assert strength(ranking, FeedbackSettings(**settings)) == drawn


def test_less_sure_cannot_be_clearer():
    with pytest.raises(ValueError, match=r"pale_below is 0\.6 and clear_from 0\.5"):
        FeedbackSettings(pale_below=0.6)


@pytest.mark.parametrize("n", [1, 2, 20, 1000])
def test_where_nobody_knows_how_sure_it_is_nothing_is_pale(n):
    assert strength(ranked(np.linspace(0.3, 0.1, n)), FeedbackSettings()) == 1
    assert scene(View.LIST, probability=None)[0].caption == ""


class TestViews:
    def test_list(self):
        shown, ranking = scene(View.LIST)
        assert [row.name for row in shown.rows] == [f"great thing {i}" for i in ranking.order[:N_ROWS]]
        assert [row.fraction for row in shown.rows] == list(bar_lengths(ranking, N_ROWS))
        assert shown.bars_are_chances
        assert not scene(View.LIST, probability=None)[0].bars_are_chances
        assert (shown.pictures, shown.thermometer) == ((), None)
        assert shown.show_fixation

    def test_fewer_candidates_than_rows(self):
        assert len(scene(View.LIST, n=4)[0].rows) == 4

    @pytest.mark.parametrize(("texts", "label"), [(ENGLISH, "“great thing 3”"), (JAPANESE, "「great thing 3」")])
    def test_thermometer(self, texts, label):
        shown, ranking = scene(View.THERMOMETER, texts=texts)
        assert shown.thermometer.level == pytest.approx(naive_percentile(ranking, 3))
        assert label in shown.thermometer.label
        assert all(texts.marks)
        assert shown.thermometer.marks == texts.marks
        assert shown.rows == ()

    @pytest.mark.parametrize("target", range(20))
    def test_what_is_not_sure_is_neither_full_nor_empty(self, target):
        shown, ranking = scene(View.THERMOMETER, target=target, probability=(0.05, 0.2, 0.4))
        assert shown.caption == ENGLISH.not_sure
        assert 0.25 < shown.thermometer.level < 0.75
        assert (shown.thermometer.level > 0.5) == (percentile(ranking, target) > 0.5)

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

    @pytest.mark.parametrize("view", OF_CANDIDATES)
    def test_there_is_a_point_to_look_at_and_the_best_picture_lies_beneath_it(self, view):
        shown, _ = scene(view)
        assert shown.show_fixation
        assert all((best.x_deg, best.y_deg) == (0, 0) for best in shown.pictures[:1])


class TestNearestPictures:
    FILES = MappingProxyType({f"home/my_cat_{i}.jpg": f"/pictures/home/my_cat_{i}.jpg" for i in range(100)})

    def shown(self, chances, n=100, **changes):
        names = list(self.FILES)[:4]
        near = tuple(NearPicture(name, 0.3, chance) for name, chance in zip(names, chances, strict=False))
        ranking = replace(ranked((0.3, 0.2, 0.1), probability=(0.9, 1.0, 1.0)), pictures=near)
        files = dict(list(self.FILES.items())[:n])
        return feedback_scene(FeedbackSettings(view=View.NEAREST, **changes), ranking, 0, NAMES, ENGLISH, {}, files)

    def test_four_lie_around_the_point_to_look_at_each_with_its_name(self):
        scene = self.shown((0.5, 0.2, 0.1, 0.1))
        assert scene.show_fixation
        assert [picture.file for picture in scene.pictures] == list(self.FILES.values())[:4]
        assert [picture.label for picture in scene.pictures] == [f"my cat {i}" for i in range(4)]
        places = [(picture.x_deg > 0, picture.y_deg > 0) for picture in scene.pictures]
        assert places == [(False, True), (True, True), (False, False), (True, False)]
        assert all(min(abs(each.x_deg), abs(each.y_deg)) > each.size_deg / 2 for each in scene.pictures)

    @pytest.mark.parametrize(
        ("chances", "drawn"),
        [
            ((0.4, 0.2, 0.1, 0.1), 1.0),
            ((0.2, 0.1, 0.05, 0.01), 0.7),
            ((0.05, 0.04, 0.03, 0.02), 0.45),
            ((0.01, 0.01, 0.01, 0.01), 0.45),
            ((None, None, None, None), 1.0),
        ],
    )
    def test_they_are_as_pale_as_it_is_unsure_that_one_of_them_is_seen_and_never_if_unknown(self, chances, drawn):
        """Whatever the chances of the categories."""
        scene = self.shown(chances)
        assert {scene.strength, *(picture.strength for picture in scene.pictures)} == {drawn}
        assert scene.caption == (ENGLISH.not_sure if drawn == 0.45 else "")

    def test_as_many_pictures_as_are_shown_tell_nothing(self):
        assert self.shown((0.25, 0.25, 0.25, 0.25), n=4).strength == 1.0

    def test_a_ranking_without_pictures_asks_for_patience(self):
        assert self.shown(()) == Scene(message=ENGLISH.one_moment)
