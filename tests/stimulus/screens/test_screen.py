"""What the participant sees in every state, without drawing it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from rtgod.messages import Acknowledged, Reason, Refused, RunEnd, Volume
from stimulus.screens.certainty import ClaritySettings, bar_lengths
from stimulus.screens.feedback import FeedbackSettings, View, feedback_scene
from stimulus.screens.screen import (
    CALM_MESSAGES,
    EASE_S,
    GETTING_READY,
    N_ROWS,
    ONE_MOMENT,
    RUN_OVER,
    SERVER_LOST_S,
    WAITING,
    DisplayState,
    Easing,
    RankedRow,
    Screen,
    screen_for,
)
from stimulus.screens.texts import ENGLISH, JAPANESE
from stimulus.screens.translation import WORDS, translated


def state_after(*messages):
    state = DisplayState()
    for message in messages:
        state.update(message)
    return state


def test_waits_for_the_scanner_until_a_run_begins(hello, run):
    assert screen_for(DisplayState()) == Screen(message=WAITING)
    assert screen_for(state_after(hello)) == Screen(message=WAITING)
    assert screen_for(state_after(hello, run)) == Screen(message=GETTING_READY)


def test_ranking_shows_ten_names_best_first_and_the_fixation(hello, run, ranking):
    screen = screen_for(state_after(hello, run, ranking()))
    assert [row.name for row in screen.rows] == list(ranking().top[:N_ROWS])
    assert [row.fraction for row in screen.rows] == list(bar_lengths(ranking(), N_ROWS))
    assert screen.show_fixation
    assert screen.message == ""


def test_caption_counts_from_one_and_tells_totals_where_known(run, ranking):
    assert (
        screen_for(state_after(run, ranking())).caption
        == "block 1 of 5  ·  volume 13 of 30  ·  refining, from 2 volumes"
    )
    final = ranking(index=13, n_volumes=3, final=True)
    assert screen_for(state_after(run, final)).caption == "block 1 of 5  ·  volume 14 of 30  ·  final, from 3 volumes"
    # The header was never heard, a sliding window has no blocks, and one volume is no "volumes".
    sliding = ranking(index=0, n_volumes=1, block=None)
    assert screen_for(state_after(sliding)).caption == "volume 1  ·  refining, from 1 volume"


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_calm_picture(reason, run, not_ready):
    screen = screen_for(state_after(run, not_ready(reason)))
    assert screen == Screen(message=CALM_MESSAGES[reason])
    assert screen.show_fixation


def test_what_is_said_for_each_reason():
    assert CALM_MESSAGES[Reason.WARMING_UP] == GETTING_READY
    assert CALM_MESSAGES[Reason.BETWEEN_TRIALS] == ""
    for reason in (Reason.MOTION, Reason.LOST_VOLUME, Reason.BAD_VOLUME):
        assert CALM_MESSAGES[reason] == ONE_MOMENT


@pytest.mark.parametrize("message", [*CALM_MESSAGES.values(), WAITING, RUN_OVER])
def test_nothing_technical_or_alarming_reaches_the_participant(message):
    assert re.fullmatch(r"[a-z ]*…?", message)
    assert not re.search(r"error|fail|lost|bad|motion|move|decoder|server|volume|warm", message)


def test_without_a_word_from_the_server_it_waits_and_then_recovers(hello, run, ranking):
    state = state_after(hello, run, ranking())
    shown = screen_for(state)
    state.heard_nothing_s = SERVER_LOST_S
    assert screen_for(state) == shown
    state.heard_nothing_s = SERVER_LOST_S + 0.1
    assert screen_for(state) == Screen(message=WAITING)
    state.update(hello)
    assert screen_for(state) == shown


def test_repeated_headers_and_heartbeats_change_nothing(hello, run, ranking):
    state = state_after(hello, run, ranking())
    shown = screen_for(state)
    for message in (run, hello, ranking()):
        assert not state.update(message)
        assert screen_for(state) == shown


def test_messages_between_source_and_server_change_nothing(run, ranking):
    state = state_after(run, ranking())
    shown = screen_for(state)
    volume = Volume("run-1", 13, 39.0, np.zeros((2, 2, 2), np.int16))
    for message in (volume, Acknowledged("run-1", 13), Refused("run-2", 1, "no such run")):
        assert not state.update(message)
    assert screen_for(state) == shown


def test_what_is_new_is_told_apart(run, ranking, not_ready):
    state = DisplayState()
    assert all(state.update(message) for message in (run, not_ready(), ranking(12), ranking(13), RunEnd("run-1", 30)))


def test_a_new_run_clears_the_last_ranking(run, ranking, not_ready):
    state = state_after(run, ranking(), RunEnd("run-1", 30))
    state.update(not_ready(Reason.WARMING_UP, run_id="run-2"))
    assert screen_for(state) == Screen(message=GETTING_READY)
    # and the header of the old run no longer tells totals
    state.update(ranking(run_id="run-2", block=None))
    assert screen_for(state).caption.startswith("volume 13  ·")


def test_after_a_run_its_last_ranking_stays(run, ranking, not_ready):
    state = state_after(run, ranking(final=True), RunEnd("run-1", 30))
    assert screen_for(state) == screen_for(state_after(run, ranking(final=True)))
    ended = state_after(run, ranking(), not_ready(Reason.MOTION), RunEnd("run-1", 30))
    assert screen_for(ended) == Screen(message=RUN_OVER)


def test_a_run_ends_once_however_often_it_is_said():
    assert len(state_after(RunEnd("run-1", 30), RunEnd("run-1", 30)).ended_runs) == 1


def test_names_are_words_on_one_line(ranking):
    screen = screen_for(state_after(ranking(top=("killer_whale", " grey\n\tpyramid "), scores=(0.2, 0.1))))
    assert [row.name for row in screen.rows] == ["killer whale", "grey pyramid"]


def test_fewer_candidates_than_rows(ranking):
    assert screen_for(state_after(ranking(top=("owl",), scores=(0.2,)))).rows == (RankedRow("owl", 1.0),)
    assert screen_for(state_after(ranking(top=(), scores=()))).rows == ()


@pytest.mark.parametrize(("probability", "known"), [((0.4, 0.6, 0.7), True), (None, False)])
def test_bars_have_a_track_of_100_percent_only_where_they_are_chances(ranking, probability, known):
    screen = screen_for(state_after(replace(ranking(), probability=probability)))
    assert screen.bars_are_chances is known
    assert (screen.rows[0].fraction == 0.4) is known


class TestEasing:
    LOW = Screen(rows=(RankedRow("owl", 0.2), RankedRow("bat", 0.1)), caption="volume 1")
    HIGH = Screen(rows=(RankedRow("bat", 1.0), RankedRow("owl", 0.5)), caption="volume 2")

    def test_bars_grow_from_nothing_and_arrive(self):
        easing = Easing()
        easing.aim(self.LOW, 10.0)
        assert [row.fraction for row in easing.at(10.0).rows] == [0, 0]
        assert not easing.settled(10.0 + EASE_S / 2)
        assert easing.settled(10.0 + EASE_S)
        assert easing.at(10.0 + EASE_S) is self.LOW

    def test_text_changes_at_once_and_bars_gently(self):
        easing = Easing()
        easing.aim(self.LOW, 0.0)
        easing.aim(self.HIGH, 1.0)
        begun = easing.at(1.0)
        assert (begun.caption, begun.rows[0].name) == ("volume 2", "bat")
        assert [row.fraction for row in begun.rows] == pytest.approx([0.2, 0.1])
        lengths = [easing.at(1.0 + step * EASE_S / 10).rows[0].fraction for step in range(11)]
        assert lengths == sorted(lengths)
        assert lengths[-1] == 1

    def test_a_new_answer_on_the_way_makes_no_jump(self):
        easing = Easing()
        easing.aim(self.HIGH, 0.0)
        on_the_way = easing.at(EASE_S / 3).rows[0].fraction
        easing.aim(self.LOW, EASE_S / 3)
        assert easing.at(EASE_S / 3).rows[0].fraction == pytest.approx(on_the_way)

    def test_the_same_screen_again_moves_nothing(self):
        easing = Easing()
        easing.aim(self.LOW, 0.0)
        easing.aim(self.LOW, 5.0)
        assert easing.at(5.0) is self.LOW

    def test_screens_without_bars_are_there_at_once(self):
        easing = Easing()
        easing.aim(self.LOW, 0.0)
        easing.aim(Screen(message=ONE_MOMENT), 1.0)
        assert easing.at(1.0) == Screen(message=ONE_MOMENT)
        assert easing.settled(1.0)


@pytest.mark.parametrize(("first", "drawn"), [(1.0, 1.0), (0.525, 1.0), (0.24, 0.7), (0.23, 0.45), (0.05, 0.45)])
def test_the_live_list_is_as_pale_as_that_of_feedback_and_says_so_too(ranking, first, drawn):
    names, scores = tuple(f"thing_{i}" for i in range(20)), tuple(np.linspace(0.3, 0.1, 20))
    answer = replace(ranking(top=names, scores=scores), probability=(first, 1.0, 1.0))
    live = screen_for(state_after(answer))
    fed_back = feedback_scene(FeedbackSettings(view=View.LIST), answer, None, names, ENGLISH, {})
    assert live.strength == fed_back.strength == drawn
    assert (live.rows, live.bars_are_chances) == (fed_back.rows, fed_back.bars_are_chances)
    assert (
        live.caption.startswith(ENGLISH.not_sure + "  ·  ") == (fed_back.caption == ENGLISH.not_sure) == (drawn < 0.5)
    )
    assert translated(live, state_after(answer), WORDS["ja"]).caption.startswith(JAPANESE.not_sure) == (drawn < 0.5)


def test_from_when_on_the_live_list_is_pale_is_a_setting(ranking):
    answer = replace(ranking(top=("a", "b"), scores=(0.2, 0.1)), probability=(0.7, 1.0, 1.0))
    assert screen_for(state_after(answer)).strength == 0.7
    assert screen_for(state_after(answer), ClaritySettings(pale_below=0.45)).strength == 0.45
    assert screen_for(state_after(answer), FeedbackSettings(clear_from=0.3)).strength == 1


def test_a_live_ranking_of_unknown_confidence_is_not_pale(ranking):
    live = screen_for(state_after(replace(ranking(), probability=None)))
    assert (live.strength, "sure" in live.caption) == (1, False)
