"""Draws a `Screen` as text in a terminal, for a look at the ranking where there is no graphics."""

from __future__ import annotations

import os
import select
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.align import Align
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rtgod.console import PlainConsole
from rtgod.errors import InputError
from rtgod.text import plain
from stimulus.view import Screen

# The window's colours.
BEST, OTHER, TRACK, QUIET = "#e69f00", "#4f8fb8", "#484848", "grey62"
FIXATION = "+"


class TerminalWindow:
    """The terminal's alternate screen, given back as it was on `close`.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where to draw; standard output by default. One that is no terminal gets only the last picture, on `close`.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or PlainConsole()
        self._cleanup = ExitStack()
        self._keyboard = _Keyboard()
        self._cleanup.callback(self._keyboard.close)
        fills_terminal = self._console.is_terminal
        self._live = Live(console=self._console, screen=fills_terminal, auto_refresh=False)
        self._cleanup.enter_context(self._live)

    def draw(self, screen: Screen) -> float:
        """Show a screen; returns when, in seconds since 1970."""
        picture = rendered(screen)
        if self._console.is_terminal:
            picture = Align.center(picture, vertical="middle", height=self._console.height)
        self._live.update(picture, refresh=True)
        return time.time()

    def keys_pressed_to_quit(self) -> bool:
        """Whether Escape or q was pressed since the last call."""
        pressed = self._keyboard.pressed()
        return pressed == b"\x1b" or b"q" in pressed  # Escape alone: arrow keys send it and more

    def save_png(self, path: Path, screen: Screen) -> None:  # noqa: ARG002 - the signature that every backend has
        """Refuse: text is no picture."""
        raise InputError(f"{path} cannot be written from a terminal; use --backend window or offscreen")

    def close(self) -> None:
        """Put the terminal back as it was."""
        self._cleanup.close()


def rendered(screen: Screen) -> RenderableType:
    """Lay a screen out as text: names on the left, bars on the right, the quiet line beneath."""
    table = Table.grid(padding=(0, 2), expand=False)
    table.add_column(justify="right", overflow="ellipsis", no_wrap=True)
    table.add_column(width=30)
    for rank, row in enumerate(screen.rows):
        colour = BEST if rank == 0 else OTHER
        bar = ProgressBar(total=1, completed=row.fraction, style=TRACK, complete_style=colour, finished_style=colour)
        table.add_row(Text(plain(row.name), style="bold" if rank == 0 else ""), bar)
    beneath = Text(plain(screen.caption or screen.message), style=QUIET)
    fixation = Text(FIXATION if screen.show_fixation and not screen.rows else "")
    return Group(*(Align.center(part) for part in (table, fixation, beneath)))


class _Keyboard:
    """Single key presses from standard input, where that is a POSIX terminal; no presses elsewhere."""

    def __init__(self) -> None:
        self._file_descriptor: int | None = None
        self._before: Any = None
        if not sys.stdin.isatty() or os.name != "posix":
            return
        import termios
        import tty

        self._file_descriptor = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._file_descriptor)
        tty.setcbreak(self._file_descriptor)

    def pressed(self) -> bytes:
        if self._file_descriptor is None or not select.select([self._file_descriptor], [], [], 0)[0]:
            return b""
        return os.read(self._file_descriptor, 64)

    def close(self) -> None:
        if self._file_descriptor is not None:
            import termios

            termios.tcsetattr(self._file_descriptor, termios.TCSADRAIN, self._before)
