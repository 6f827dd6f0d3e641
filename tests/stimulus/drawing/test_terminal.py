"""The same screens as text."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rtgod.errors import InputError
from stimulus.drawing.terminal import TerminalWindow, rendered
from stimulus.screens.screen import RankedRow, Screen

RANKING = Screen(
    rows=(RankedRow("goldfish", 1.0), RankedRow("duck [blue]", 0.5)), caption="volume 3  ·  final, from 3 volumes"
)


def text_of(screen):
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(rendered(screen))
    return console.file.getvalue()


def test_ranking_has_names_bars_and_caption():
    lines = [line for line in text_of(RANKING).splitlines() if line.strip()]
    assert "goldfish" in lines[0]
    assert "duck [blue]" in lines[1]
    assert lines[0].count("━") == 2 * lines[1].count("━")
    assert RANKING.caption in lines[2]


def test_not_ready_has_the_fixation_above_its_line():
    lines = [line.strip() for line in text_of(Screen(message="one moment")).splitlines() if line.strip()]
    assert lines == ["+", "one moment"]


def test_a_long_name_keeps_to_its_line():
    screen = Screen(rows=(RankedRow("dotted turquoise mushroom with handle and long tail " * 3, 1.0),))
    assert len([line for line in text_of(screen).splitlines() if line.strip()]) == 1


def test_it_draws_refuses_pictures_and_leaves(tmp_path):
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True)
    window = TerminalWindow(console)
    assert window.draw(RANKING) > 1e9
    assert not window.keys_pressed_to_quit()
    with pytest.raises(InputError, match="terminal"):
        window.save_png(tmp_path / "x.png", RANKING)
    window.close()
    assert "goldfish" in console.file.getvalue()
    assert console.file.getvalue().endswith("\x1b[?25h\x1b[?1049l"), "the cursor and what was there are back"


def written(*drawn):
    """What a file gets of screens, each drawn at its second."""
    console, now = Console(file=io.StringIO(), width=40, force_terminal=False), [0.0]
    window = TerminalWindow(console, lambda: now[0])
    for now[0], screen in drawn:
        window.draw(screen)
    window.close()
    return console.file.getvalue().splitlines()


def moving(*fractions, caption="volume 3"):
    return Screen(
        tuple(RankedRow(name, length) for name, length in zip(("owl", "bat"), fractions, strict=True)), caption
    )


def test_a_file_gets_a_line_for_each_picture_with_its_bars_at_rest():
    waiting = Screen(message="waiting")
    glide = [(2.0 + n / 10, moving(0.4 * n / 3, 0.1 * n / 3)) for n in range(4)]
    lines = written(
        *((n / 2, waiting) for n in range(4)), *glide, (2.8, glide[-1][1]), (3.3, glide[-1][1]),
        (4.0, moving(0.2, 0.1, caption="volume 4")), (4.1, waiting),
    )  # fmt: skip
    assert lines == [
        "1970-01-01 00:00:00.000+00:00  waiting",
        "1970-01-01 00:00:02.000+00:00  volume 3:  1 owl (40.0 %), 2 bat (10.0 %)",
        "1970-01-01 00:00:04.000+00:00  volume 4:  1 owl (20.0 %), 2 bat (10.0 %)",
        "1970-01-01 00:00:04.100+00:00  waiting",
    ]


def test_scores_are_not_written_as_chances():
    scores = Screen((RankedRow("owl\x1b[2J", 0.5),), "volume 3", bars_are_chances=False)
    (line,) = written((0.0, scores), (0.5, scores))
    assert "1 owl" in line
    assert "%" not in line
    assert "\x1b" not in line


def test_bars_that_are_no_chances_have_no_track_in_the_terminal():
    assert "━" not in text_of(Screen((RankedRow("owl", 0.0),), bars_are_chances=False))
