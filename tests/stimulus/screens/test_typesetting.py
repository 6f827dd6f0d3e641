"""How words are broken into lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stimulus.screens.typesetting import in_lines, typeset


def at_most(n_letters):
    return lambda line: len(line) <= n_letters


@pytest.mark.parametrize(
    ("text", "n_lines", "room", "lines"),
    [
        ("owl", 2, 10, ("owl",)),
        ("", 2, 10, ("",)),
        ("fire truck", 2, 10, ("fire truck",)),
        ("fire truck", 2, 9, ("fire", "truck")),
        ("one two three four", 2, 13, ("one two", "three four")),  # not "one two three", "four"
        ("one two three four", 3, 8, ("one two", "three", "four")),
        ("one two three four", 2, 8, ("one two", "three f…")),
        ("locomotive", 2, 8, ("locomot…",)),
        ("not\nrecognised", 2, 10, ("not", "recognised")),
        ("not\nrecognised", 1, 20, ("not recognised",)),
        ("消防車のはしご", 2, 5, ("消防車の", "はしご")),
        ("シャチ（サカマタ）", 2, 8, ("シャチ（サ", "カマタ）")),  # no line begins with a bracket that closes
        ("red 消防車", 2, 4, ("red", "消防車")),
        ("teal-and-orange vase", 2, 12, ("teal-and-", "orange vase")),
        ("range 5-10 - x", 2, 9, ("range", "5-10 - x")),
    ],
)
def test_lines_are_few_and_alike(text, n_lines, room, lines):
    assert in_lines(text, n_lines, at_most(room)) == lines


@given(st.text("abc 消防。", max_size=40), st.integers(1, 4), st.integers(2, 12))
def test_lines_fit_and_nothing_is_lost_without_an_ellipsis(text, n_lines, room):
    text = " ".join(text.split())
    lines = in_lines(text, n_lines, at_most(room))
    assert 1 <= len(lines) <= n_lines
    assert all(len(line) <= room for line in lines)
    shown, whole = "".join("".join(lines).split()), "".join(text.split())
    assert shown == whole or (shown.endswith("…") and whole.startswith(shown.removesuffix("…")))


def test_a_name_without_spaces_is_broken_where_its_script_allows():
    assert typeset("消防車のはしごの写真", 60, (20, 10), lambda text, height: len(text) * height) == (
        10,
        ("消防車のは", "しごの写真"),
    )
