"""Draws a `Screen` in a PsychoPy window; PsychoPy is imported only to open one."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from rtgod.errors import InputError, MissingDependencyError
from rtgod.pictures import BACKGROUND
from stimulus.canvas import Canvas, mixed
from stimulus.view import N_ROWS, Row, Screen

#: Size of a window that is not full-screen, and of the off-screen one, pixels.
DEFAULT_SIZE_PX = (1280, 800)
QUIT_KEYS = ("escape", "q")

BRIGHT = "#f2f2f2"
PLAIN = "#c9c9c9"
QUIET = "#9c9c9c"
TRACK = "#484848"
# Orange and blue of Okabe and Ito's palette, told apart with every kind of colour vision; the blue is dimmed so that
# the best category is also the brightest.
BEST_BAR = "#e69f00"
OTHER_BAR = "#4f8fb8"


class PsychopyWindow:
    """A window; names end left of the centre and bars begin right of it.

    So the fixation stays at the centre of the screen, between them, in every state.

    Parameters
    ----------
    size_px : tuple of 2 int
        Width and height, pixels; ignored in full-screen mode.
    full_screen : bool
    screen : int
        Which monitor, from 0.
    wait_blanking : bool
        Wait for the monitor's refresh at each flip; off where there is no monitor.
    framed : bool
        Whether a window that is not full-screen has a title bar.
    mirrored : bool
        Left and right are exchanged, as for a projection from behind.
    rotated_deg : int
        Then the picture is turned clockwise by 0, 90, 180 or 270 degrees.
    font_file : str
        Of all texts; empty takes PsychoPy's own font.

    Raises
    ------
    InputError
        If that monitor is not connected, no window can be opened, or the font cannot be read.
    MissingDependencyError
        If PsychoPy is not installed.
    """

    def __init__(
        self,
        size_px: tuple[int, int] = DEFAULT_SIZE_PX,
        *,
        full_screen: bool = False,
        screen: int = 0,
        wait_blanking: bool = True,
        framed: bool = True,
        mirrored: bool = False,
        rotated_deg: int = 0,
        font_file: str = "",
    ) -> None:
        with _naming_the_display():
            visual, self._event, self._clock = _import_psychopy()
            self.screen_size_px = screen_size_px(screen)
            self._window: Any = visual.Window(
                size=size_px,
                units="pix",
                color=BACKGROUND,
                fullscr=full_screen,
                screen=screen,
                waitBlanking=wait_blanking,
                allowGUI=framed and not full_screen,
                winType="pyglet",
                checkTiming=False,  # it would flash the screen for seconds, and nothing here counts frames
            )
        self._window.mouseVisible = not full_screen
        self._closed_by_user = False
        self._window.winHandle.push_handlers(on_close=self._on_close)
        try:
            self._canvas = Canvas(self._window, mirrored=mirrored, rotated_deg=rotated_deg, font_file=font_file)
        except InputError:
            self.close()
            raise
        self._names: list[str] = []
        self._typeset_names: list[tuple[int, tuple[str, ...]]] = []

    def draw(self, screen: Screen) -> float:
        """Show a screen.

        Returns
        -------
        flip_utc_s : float
            When it was shown, seconds since 1970 (with `wait_blanking`, just after the monitor began to draw it).
        """
        self._paint(screen)
        self._window.flip()
        return time.time()

    def keys_pressed_to_quit(self) -> bool:
        """Whether Escape or q was pressed, or the window's close button, since the last call."""
        return bool(self._event.getKeys(keyList=list(QUIT_KEYS))) or self._closed_by_user

    def save_png(self, path: Path, screen: Screen) -> None:
        """Write the picture of a screen, without showing it."""
        self._paint(screen)
        picture = self._window.getMovieFrame(buffer="back")
        self._window.movieFrames.clear()
        self._window.clearBuffer()
        picture.save(path, format="PNG")

    def close(self) -> None:
        """Give the monitor back."""
        self._window.close()

    def _on_close(self) -> bool:
        self._closed_by_user = True
        return True  # handled: pyglet would else destroy the window beneath the loop that draws to it

    def _paint(self, screen: Screen) -> None:
        """Draw a screen, for the next flip to show."""
        canvas, unit = self._canvas, self._canvas.unit
        canvas.begin()
        self._paint_beneath(screen)
        self._paint_rows(screen.rows[:N_ROWS], screen.strength)
        if screen.caption:
            canvas.text(screen.caption, 0, -0.45 * unit, 0.031 * unit, QUIET)
        if screen.message:
            canvas.text(screen.message, 0, -0.085 * unit, 0.048 * unit, PLAIN)
        if screen.show_fixation:
            self._paint_fixation()

    def _paint_beneath(self, screen: Screen) -> None:
        """Draw what lies beneath all else; a screen has nothing there."""

    def _paint_fixation(self) -> None:
        """Bull's eye and cross hair: the target that keeps the eye stillest (Thaler et al. 2013)."""
        canvas, radius = self._canvas, 0.011 * self._canvas.unit
        thick = max(2.0, 0.36 * radius)
        canvas.disc(0, 0, radius, BRIGHT)
        canvas.rectangle(0, 0, 2 * radius, thick, BACKGROUND)
        canvas.rectangle(0, 0, thick, 2 * radius, BACKGROUND)
        canvas.disc(0, 0, 0.6 * thick, BRIGHT)

    def _paint_rows(self, rows: Sequence[Row], strength: float) -> None:
        """Categories' names, and their bars on faint tracks; the first is larger, bolder and orange."""
        canvas, unit = self._canvas, self._canvas.unit
        gutter, full = 0.03 * canvas.width, 0.42 * canvas.width
        names = [row.name for row in rows]
        if names != self._names:
            self._names, self._typeset_names = names, self._typeset(names)
        # The list sits a little above the centre, as the caption is beneath it.
        heights = [(0.045 + 0.082 * ((len(rows) - 1) / 2 - rank)) * unit for rank in range(len(rows))]
        for rank, (row, y) in enumerate(zip(rows, heights, strict=True)):
            thick, colour = (0.034 * unit, BEST_BAR) if rank == 0 else (0.026 * unit, OTHER_BAR)
            end = gutter + row.fraction * full
            canvas.rectangle(gutter, y, end - gutter, thick, mixed(TRACK, colour, strength), align="left")
            canvas.rectangle(end, y, gutter + full - end, thick, TRACK, align="left")
        for rank, ((size, lines), y) in enumerate(zip(self._typeset_names, heights, strict=True)):
            colour = BRIGHT if rank == 0 else PLAIN
            for place, line in enumerate(lines):
                # Small letters without tails fill only the middle of a line: raised a little, they are level with the
                # bar.
                raised = (0.12 + 0.6 * (len(lines) - 1 - 2 * place)) * size
                canvas.text(line, -gutter, y + raised, size, colour, bold=rank == 0, align="right", opacity=strength)

    def _typeset(self, names: Sequence[str]) -> list[tuple[int, tuple[str, ...]]]:
        """Size and lines of each name: one step of size for all, as larger names would look more important."""
        width = 0.45 * self._canvas.width
        sizes = [self._sizes(rank) for rank in range(len(names))]
        lengths = [partial(self._canvas.length_px, bold=rank == 0) for rank in range(len(names))]
        given = list(zip(names, sizes, lengths, strict=True))
        step = max((tried.index(typeset(name, width, tried, length)[0]) for name, tried, length in given), default=0)
        return [typeset(name, width, tried[step:], length) for name, tried, length in given]

    def _sizes(self, rank: int) -> tuple[int, ...]:
        """Heights in which a name may be set, largest first."""
        shares = (0.052, 0.0416, 0.032) if rank == 0 else (0.043, 0.0344, 0.029)
        return tuple(int(share * self._canvas.unit) for share in shares)


def typeset(
    name: str, width_px: float, heights_px: Sequence[int], length_px: Callable[[str, int], float]
) -> tuple[int, tuple[str, ...]]:
    """Choose how to set a name so that it is as large as its length allows.

    Parameters
    ----------
    name : str
    width_px : float
        Room for each line.
    heights_px : sequence of int
        Heights to try for one line, largest first; at the last, two lines are set where one is too long.
    length_px : callable
        Length of a text at a height.

    Returns
    -------
    height_px : int
    lines : tuple of one or two str
    """
    for height in heights_px:
        if length_px(name, height) <= width_px:
            return height, (name,)
    small = heights_px[-1]
    return small, _in_two_lines(name, lambda text: length_px(text, small) <= width_px)


def _in_two_lines(name: str, fits: Callable[[str], bool]) -> tuple[str, ...]:
    """Break a name where its lines are most alike, or as late as possible where even that is too long."""
    words = name.split()
    breaks = [(" ".join(words[:n]), " ".join(words[n:])) for n in range(1, len(words))]
    possible = [lines for lines in breaks if fits(lines[0])]
    if not possible:
        return (_shortened(name, fits),)
    first, second = min(possible, key=lambda lines: max(map(len, lines)))
    return first, _shortened(second, fits)


def _shortened(text: str, fits: Callable[[str], bool]) -> str:
    """Keep as much of a text as fits, and an ellipsis where that is not all of it."""
    if fits(text):
        return text
    kept = bisect_left(range(1, len(text)), True, key=lambda n: not fits(text[:n].rstrip(" ,") + "…"))
    return text[:kept].rstrip(" ,") + "…"


def _import_psychopy() -> tuple[ModuleType, ModuleType, Any]:
    """Import `psychopy.visual` and `psychopy.event`, quietly, and give its clock; none of them starts audio."""
    if find_spec("psychopy") is None:
        raise MissingDependencyError(
            "the participant's display needs PsychoPy; install with: python -m pip install 'rtgod[display]' "
            "(`rtgod display --backend terminal` shows the ranking as text)"
        )
    # PsychoPy is a library here: it must not move this process's site-packages to a folder of its own.
    os.environ.setdefault("PSYCHOPYNOPACKAGES", "1")
    import pyglet

    pyglet.options["debug_gl"] = False  # each call would be checked for errors, which takes as long as the call
    from psychopy import logging

    logging.console.setLevel(logging.ERROR)
    from psychopy import event, visual
    from psychopy.clock import monotonicClock

    return visual, event, monotonicClock


@contextmanager
def _naming_the_display() -> Iterator[None]:
    """PsychoPy already connects to the X server when it is imported, and its exception's class exists on Linux only."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "NoSuchDisplayException":
            raise
        where = os.environ.get("DISPLAY", "")
        raise InputError(
            f"no window can be opened on DISPLAY={where!r}; try --backend offscreen or terminal"
        ) from error


def screen_size_px(screen: int) -> tuple[int, int]:
    """Width and height of a monitor; InputError if it is not connected. PsychoPy would take another in its stead."""
    from pyglet import canvas

    screens = canvas.get_display().get_screens()
    if screen >= len(screens):
        raise InputError(
            f"screen {screen} is not connected: there are {len(screens)}, counted from 0; connect it and extend the "
            "desktop to it, or choose another screen"
        )
    return screens[screen].width, screens[screen].height
