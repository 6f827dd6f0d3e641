"""The same screens as text."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rtgod.errors import InputError
from stimulus.terminal import TerminalWindow, rendered
from stimulus.view import Row, Screen

RANKING = Screen(rows=(Row("goldfish", 1.0), Row("duck [blue]", 0.5)), caption="volume 3  ·  final, from 3 volumes")


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
    screen = Screen(rows=(Row("dotted turquoise mushroom with handle and long tail " * 3, 1.0),))
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
