"""Draws a `Screen` in a PsychoPy window: the only module that knows PsychoPy, imported only to open a window."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from rtgod.errors import InputError, MissingDependencyError
from stimulus.view import N_ROWS, Row, Screen

#: Size of a window that is not full-screen, and of the off-screen one, pixels.
DEFAULT_SIZE_PX = (1280, 800)
QUIT_KEYS = ("escape", "q")

BACKGROUND = "#3c3c3c"
BRIGHT = "#f2f2f2"
PLAIN = "#c9c9c9"
QUIET = "#9c9c9c"
TRACK = "#484848"
# Orange and blue of Okabe and Ito's palette, told apart with every kind of colour vision; the blue is dimmed so that
# the best category is also the brightest.
BEST_BAR = "#e69f00"
OTHER_BAR = "#4f8fb8"


class PsychopyWindow:
    """A window with every stimulus made once; drawing changes only what differs from the picture before.

    Names end left of the centre and bars begin right of it, so that the fixation stays at the centre of the screen,
    between them, in every state.

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
        The picture is turned clockwise by 0, 90, 180 or 270 degrees.
    font_file : str
        Of captions and messages; empty takes PsychoPy's own font.
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
            self._visual, self._event, self._clock = _import_psychopy()
            visual = self._visual
            self._window = visual.Window(
                size=size_px,
                units="pix",
                color=BACKGROUND,
                fullscr=full_screen,
                screen=screen,
                waitBlanking=wait_blanking,
                allowGUI=framed and not full_screen,
                winType="pyglet",
                viewScale=(-1, 1) if mirrored else None,
                viewOri=rotated_deg,
                checkTiming=False,  # it would flash the screen for seconds, and nothing here counts frames
            )
        self._window.mouseVisible = not full_screen
        self._closed_by_user = False
        self._window.winHandle.push_handlers(on_close=self._on_close)
        width, height = (int(n) for n in self._window.size)
        if rotated_deg % 180:
            width, height = height, width
        self._width, self._height = width, height
        self._fixation = _Fixation(visual, self._window, 0.011 * height)
        self._rows = [_RankedRow(visual, self._window, width, height, rank) for rank in range(N_ROWS)]
        font = {"font_file": font_file}
        self._caption = text(visual, self._window, 0.031 * height, QUIET, pos=(0, -0.45 * height), **font)
        self._message = text(visual, self._window, 0.048 * height, PLAIN, pos=(0, -0.085 * height), **font)
        self._pitch_px = 0.082 * height
        self._top_px = 0.045 * height  # the list sits a little above the centre, as the caption is beneath it
        self._drawn = Screen()
        self._size = 0

    def draw(self, screen: Screen) -> float:
        """Show a screen.

        Returns
        -------
        flip_utc_s : float
            When it was shown, seconds since 1970 (with `wait_blanking`, just after the monitor began to draw it).
        """
        self._draw_to_back_buffer(screen)
        self._window.flip()
        return time.time()

    def keys_pressed_to_quit(self) -> bool:
        """Whether Escape or q was pressed, or the window's close button, since the last call."""
        return bool(self._event.getKeys(keyList=list(QUIT_KEYS))) or self._closed_by_user

    def save_png(self, path: Path, screen: Screen) -> None:
        """Write the picture of a screen, without showing it."""
        self._draw_to_back_buffer(screen)
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

    def _draw_to_back_buffer(self, screen: Screen) -> None:
        if screen.caption != self._drawn.caption:
            self._caption.text = screen.caption
        if screen.message != self._drawn.message:
            self._message.text = screen.message
        rows = screen.rows[:N_ROWS]
        middle = (len(rows) - 1) / 2
        # One size for the whole list: names that are larger because they are shorter would look more important.
        if [row.name for row in rows] != [row.name for row in self._drawn.rows[:N_ROWS]]:
            self._size = max(
                (drawn.size_for(row.name) for drawn, row in zip(self._rows, rows, strict=False)), default=0
            )
        for rank, row in enumerate(rows):
            self._rows[rank].draw(row, self._top_px + (middle - rank) * self._pitch_px, self._size, screen.strength)
        for text, stimulus in ((screen.caption, self._caption), (screen.message, self._message)):
            if text:
                stimulus.draw()
        if screen.show_fixation:
            self._fixation.draw()
        self._drawn = screen


class _Fixation:
    """Bull's eye and cross hair: the target that keeps the eye stillest (Thaler et al. 2013)."""

    def __init__(self, visual: ModuleType, window: Any, radius_px: float) -> None:
        circle = {"win": window, "units": "pix", "lineWidth": 0, "edges": 48}
        bar = {"win": window, "units": "pix", "lineWidth": 0, "fillColor": BACKGROUND}
        thick = max(2.0, 0.36 * radius_px)
        self._stimuli = (
            visual.Circle(radius=radius_px, fillColor=BRIGHT, **circle),
            visual.Rect(width=2 * radius_px, height=thick, **bar),
            visual.Rect(width=thick, height=2 * radius_px, **bar),
            visual.Circle(radius=0.6 * thick, fillColor=BRIGHT, **circle),
        )

    def draw(self) -> None:
        for stimulus in self._stimuli:
            stimulus.draw()


class _RankedRow:
    """A category's name and its bar on a faint track; the first of the ranking is larger, bolder and orange."""

    def __init__(self, visual: ModuleType, window: Any, width: int, height: int, rank: int) -> None:
        best = rank == 0
        gutter = 0.03 * width
        self._name_x, self._bar_x = -gutter, gutter
        self._name_width_px, self._bar_width_px = 0.45 * width, 0.42 * width
        full = (0.052 if best else 0.043) * height
        self._text_heights_px = (int(full), int(0.8 * full), int((0.032 if best else 0.029) * height))
        side = {"anchorHoriz": "right", "alignText": "right"}
        colour = BRIGHT if best else PLAIN
        self._lines = [text(visual, window, full, colour, bold=best, **side) for _ in range(2)]
        bar = {"win": window, "units": "pix", "lineWidth": 0, "anchor": "left"}
        bar["height"] = (0.034 if best else 0.026) * height
        self._track = visual.Rect(width=self._bar_width_px, fillColor=TRACK, **bar)
        self._bar = visual.Rect(width=self._bar_width_px, fillColor=BEST_BAR if best else OTHER_BAR, **bar)
        self._shown = Row("", 1.0)
        self._strength = 1.0
        self._place: tuple[float, int] | None = None

    def size_for(self, name: str) -> int:
        """Position, among the heights of a name, of the one that it needs."""
        height, _ = typeset(name, self._name_width_px, self._text_heights_px, self._length_px)
        return self._text_heights_px.index(height)

    def draw(self, row: Row, y: float, size: int, strength: float) -> None:
        if strength != self._strength:
            self._strength = strength
            for stimulus in (*self._lines, self._bar):
                stimulus.opacity = strength
        if row.name != self._shown.name or (y, size) != self._place:
            self._set_name(row.name, y, size)
        if row.fraction != self._shown.fraction:
            self._bar.width = row.fraction * self._bar_width_px
        if self._place is None or y != self._place[0]:
            self._track.pos = self._bar.pos = (self._bar_x, y)
        self._shown, self._place = row, (y, size)
        for line in self._lines:
            if line.text:
                line.draw()
        self._track.draw()
        self._bar.draw()

    def _set_name(self, name: str, y: float, size: int) -> None:
        height, texts = typeset(name, self._name_width_px, self._text_heights_px[size:], self._length_px)
        # Small letters without tails fill only the middle of a line: raised a little, they are level with the bar.
        y += 0.12 * height
        offsets = (0.0, 0.0) if len(texts) == 1 else (0.6 * height, -0.6 * height)
        for line, text, offset in zip(self._lines, (*texts, ""), offsets, strict=False):
            if text and height != line.height:
                line.height = height
            if text != line.text:
                line.text = text
            line.pos = (self._name_x, y + offset)

    def _length_px(self, text: str, height_px: int) -> float:
        return float(_font(self._lines[0].bold, height_px).getlength(text))


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
            "(or see the ranking as text with --backend terminal)"
        )
    # PsychoPy is a library here: it must not move this process's site-packages to a folder of its own.
    os.environ.setdefault("PSYCHOPYNOPACKAGES", "1")
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


def text(
    visual: ModuleType,
    window: Any,
    height_px: float,
    colour: str,
    *,
    bold: bool = False,
    font_file: str = "",
    **options: Any,
) -> Any:
    """A stimulus for a line of text, in PsychoPy's own font unless a file with another is given."""
    return visual.TextStim(
        window,
        text="",
        units="pix",
        font=_family(font_file) if font_file else "Noto Sans",
        fontFiles=[font_file or _font_file(bold)],
        height=int(height_px),
        bold=bold,
        color=colour,
        wrapWidth=10 * window.size[0],  # every text is one line
        **options,
    )


def _font_file(bold: bool) -> str:
    """Name the font that PsychoPy brings along, so that text looks alike on every machine."""
    import psychopy

    return str(Path(psychopy.__file__).parent / "assets" / "fonts" / f"NotoSans-{'Bold' if bold else 'Regular'}.ttf")


@lru_cache
def _family(font_file: str) -> str:
    from PIL import ImageFont

    return str(ImageFont.truetype(font_file).getname()[0])


@lru_cache
def _font(bold: bool, height_px: int) -> Any:
    """Load the same font for measuring: faster than having OpenGL lay a text out only to learn how long it is."""
    from PIL import ImageFont

    return ImageFont.truetype(_font_file(bold), height_px)
