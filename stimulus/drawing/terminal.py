"""Text window that shows a `Screen` in a terminal, for a look at the ranking on a machine without graphics."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
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
from stimulus.screens.colours import BEST_BAR, BRIGHT, OTHER_BAR, PLAIN, TRACK, faded
from stimulus.screens.screen import Screen

QUIET = "grey62"
FIXATION = "+"


class TerminalWindow:
    """The terminal's alternate screen, restored on `close`; if output goes to a file, a line for each new picture.

    Parameters
    ----------
    console : rich.console.Console, optional
        Console to draw on; standard output by default.
    utc : callable, optional
        Clock that returns seconds since 1970.
    """

    def __init__(self, console: Console | None = None, utc: Callable[[], float] = time.time) -> None:
        self._console, self._utc = console or PlainConsole(), utc
        self._unwritten: tuple[float, Screen] | None = None
        self._written: Screen | None = None
        self._cleanup = ExitStack()
        self._keyboard = _Keyboard()
        self._cleanup.callback(self._keyboard.close)
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(console=self._console, screen=True, auto_refresh=False)
            self._cleanup.enter_context(self._live)

    def draw(self, screen: Screen) -> float:
        """Show a screen; return when, in seconds since 1970.

        Parameters
        ----------
        screen : Screen
        """
        if self._live is None:
            self._keep(screen)
        else:
            picture = Align.center(rendered(screen), vertical="middle", height=self._console.height)
            self._live.update(picture, refresh=True)
        return self._utc()

    def keys_pressed_to_quit(self) -> bool:
        """Whether Escape or q was pressed since the last call."""
        pressed = self._keyboard.pressed()
        return pressed == b"\x1b" or b"q" in pressed  # only Escape alone: arrow keys send it and more

    def save_png(self, path: Path, screen: Screen) -> None:  # noqa: ARG002 - the signature that every backend has
        """Refuse: text is no picture.

        Parameters
        ----------
        path : Path
        screen : Screen

        Raises
        ------
        InputError
            Always.
        """
        raise InputError(f"{path} cannot be written from a terminal; use --backend window or offscreen")

    def close(self) -> None:
        """Put the terminal back as it was."""
        self._write()
        self._cleanup.close()

    def _keep(self, screen: Screen) -> None:
        """Write a screen as a line once its bars have stopped: when it is drawn twice alike, or another one follows."""
        unwritten = self._unwritten
        if unwritten is None or _words(unwritten[1]) != _words(screen):
            self._write()
            self._unwritten, has_arrived = (self._utc(), screen), not screen.rows
        else:
            self._unwritten, has_arrived = (unwritten[0], screen), screen == unwritten[1]
        if has_arrived:
            self._write()

    def _write(self) -> None:
        if self._unwritten is None or self._unwritten[1] == self._written:
            return
        since_s, self._written = self._unwritten
        time_utc = datetime.fromtimestamp(since_s, UTC).isoformat(sep=" ", timespec="milliseconds")
        self._console.print(Text(f"{time_utc}  {plain(as_line(self._written))}"), soft_wrap=True)


def as_line(screen: Screen) -> str:
    """Write a screen as one line of words.

    Parameters
    ----------
    screen : Screen
    """
    names = [
        f"{rank} {row.name}" + (f" ({100 * row.fraction:.1f} %)" if screen.bars_are_chances else "")
        for rank, row in enumerate(screen.rows, 1)
    ]
    return ":  ".join(part for part in (screen.caption or screen.message or "fixation", ", ".join(names)) if part)


def _words(screen: Screen) -> tuple[object, ...]:
    """Return a screen's words, without the lengths of its bars."""
    return screen.caption, screen.message, screen.bars_are_chances, tuple(row.name for row in screen.rows)


def rendered(screen: Screen) -> RenderableType:
    """Lay a screen out as text: names on the left, bars on the right, the caption or message beneath.

    Parameters
    ----------
    screen : Screen
    """
    table = Table.grid(padding=(0, 2), expand=False)
    table.add_column(justify="right", overflow="ellipsis", no_wrap=True)
    table.add_column(width=30)
    for rank, row in enumerate(screen.rows):
        colour = faded(BEST_BAR if rank == 0 else OTHER_BAR, screen.strength)
        track = TRACK if screen.bars_are_chances else "default on default"
        bar = ProgressBar(total=1, completed=row.fraction, style=track, complete_style=colour, finished_style=colour)
        name = faded(BRIGHT, screen.strength) + " bold" if rank == 0 else faded(PLAIN, screen.strength)
        table.add_row(Text(plain(row.name), style=name), bar)
    beneath = Text(plain(screen.caption or screen.message), style=QUIET)
    fixation = Text(FIXATION if screen.show_fixation and not screen.rows else "")
    return Group(*(Align.center(part) for part in (table, fixation, beneath)))


class _Keyboard:
    """Reader of key presses from standard input if that is a POSIX terminal; elsewhere it has no presses."""

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
