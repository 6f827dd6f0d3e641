"""The display's words in other languages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stimulus.screens.screen import CALM_MESSAGES, RUN_OVER, WAITING, DisplayState, screen_for
from stimulus.screens.texts import ENGLISH, LANGUAGES
from stimulus.screens.translation import JAPANESE, WORDS, translated


def test_every_language_but_english_has_all_messages():
    assert WORDS.keys() == LANGUAGES.keys() - {"en"}
    for words in WORDS.values():
        assert words.messages.keys() == {WAITING, RUN_OVER, ENGLISH.not_sure, *filter(None, CALM_MESSAGES.values())}


def test_without_words_a_screen_is_as_it_is(run, ranking):
    state = DisplayState()
    assert translated(screen_for(state), state, None) is not None
    for message in (run, ranking()):
        state.update(message)
        assert translated(screen_for(state), state, None) == screen_for(state)


@pytest.mark.parametrize(
    ("known", "final", "caption"),
    [
        (True, False, "ブロック 1/5  ·  ボリューム 13/30  ·  更新中（2 ボリューム）"),
        (False, True, "ブロック 1  ·  ボリューム 13  ·  確定（2 ボリューム）"),
    ],
)
def test_a_ranking_says_where_in_the_run_it_is(run, ranking, known, final, caption):
    state = DisplayState()
    state.update(run if known else replace(run, blocks=(), n_volumes=None))
    state.update(ranking(final=final))
    screen = translated(screen_for(state), state, JAPANESE)
    assert screen.caption == caption
    assert screen.rows == screen_for(state).rows


def test_a_sliding_window_has_no_block(run, ranking):
    assert JAPANESE.caption(ranking(block=None), run).startswith("ボリューム 13/30")
