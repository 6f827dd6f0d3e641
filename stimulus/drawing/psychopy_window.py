"""PsychoPy window that shows a `Screen`; PsychoPy is imported only when a window is opened."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from rtgod.errors import InputError, MissingDependencyError
from rtgod.pictures.fonts import Coverage
from stimulus.drawing.painting import ScreenPainting
from stimulus.drawing.quads import QuadCanvas
from stimulus.drawing.xvfb import PACKAGES
from stimulus.screens.colours import BACKGROUND
from stimulus.screens.screen import Screen, readable

#: Size of a window that is not full-screen, and of the off-screen one, pixels.
DEFAULT_SIZE_PX = (1280, 800)
QUIT_KEYS = ("escape", "q")
#: Greatest number of candidates' names that are written beforehand.
_N_READY = 4000


class PsychopyWindow(ScreenPainting):
    """A PsychoPy window in which a `Screen` is drawn.

    Parameters
    ----------
    size_px : tuple of 2 int
        Width and height, pixels; ignored in full-screen mode.
    full_screen : bool
    screen : int
        Number of the monitor, from 0.
    wait_blanking : bool
        Whether each flip waits for the monitor's refresh; off without a monitor.
    framed : bool
        Whether a window that is not full-screen has a title bar.
    mirrored : bool
        Whether left and right are exchanged, as for a projection from behind.
    rotated_deg : int
        Angle by which the picture is then turned clockwise: 0, 90, 180 or 270 degrees.
    font_file : str
        Font of all texts; empty takes PsychoPy's own font.

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
            self._canvas = QuadCanvas(self._window, mirrored=mirrored, rotated_deg=rotated_deg, font_file=font_file)
        except InputError:
            self.close()
            raise

    def draw(self, screen: Screen) -> float:
        """Show a screen.

        Parameters
        ----------
        screen : Screen

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
        """Write the picture of a screen, without showing it.

        Parameters
        ----------
        path : Path
            PNG file to write.
        screen : Screen
        """
        self._paint(screen)
        picture = self._window.getMovieFrame(buffer="back")
        self._window.movieFrames.clear()
        self._window.clearBuffer()
        picture.save(path, format="PNG")

    def write_beforehand(self, names: Iterable[str]) -> None:
        """Write names that may be ranked, in the first rank's letters and in the others', so that no frame waits.

        Parameters
        ----------
        names : iterable of str
            Only the first `_N_READY` are written.
        """
        for name in islice(map(readable, names), _N_READY):
            for rank in (0, 1):
                self._canvas.prepare(name, self._sizes(rank)[0], bold=rank == 0, align="right")

    def cover(self, texts: Iterable[str], language: str = "") -> Coverage:
        """Find fonts for letters of the texts that the chosen font lacks; it takes time, so call it before a run.

        Parameters
        ----------
        texts : iterable of str
        language : str, optional
            Language whose fonts are preferred, as some letters have several shapes.
        """
        return self._canvas.cover(texts, language)

    @property
    def font_name(self) -> str:
        """Name of the chosen font's file."""
        return self._canvas.font_name

    def close(self) -> None:
        """Close the window."""
        self._window.close()

    def _on_close(self) -> bool:
        self._closed_by_user = True
        return True  # handled: else pyglet would destroy the window while the loop draws in it


def _import_psychopy() -> tuple[ModuleType, ModuleType, Any]:
    """Import `psychopy.visual` and `psychopy.event`, quietly and without audio; return them with PsychoPy's clock."""
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
    """Turn errors of a display or of OpenGL into messages that name the display, and say how to mend it.

    PsychoPy connects to the X server when it is imported, and the class of its exception exists on Linux only.
    """
    try:
        yield
    except Exception as error:
        no_opengl = isinstance(error, ImportError) and str(error).startswith("Library ")  # pyglet's words
        if no_opengl or type(error).__name__ == "ContextException":
            raise MissingDependencyError(
                f"no window can be opened, as OpenGL is not complete ({error}); install it (Debian and Ubuntu: "
                f"{PACKAGES})"
            ) from error
        if type(error).__name__ != "NoSuchDisplayException":
            raise
        name = os.environ.get("DISPLAY", "")
        raise InputError(
            f"no window can be opened on DISPLAY={name!r}; try --backend offscreen, or, for `rtgod display`, terminal"
        ) from error


def screen_size_px(screen: int) -> tuple[int, int]:
    """Return width and height of a monitor, pixels.

    Parameters
    ----------
    screen : int
        Number of the monitor, from 0.

    Raises
    ------
    InputError
        If the monitor is not connected: PsychoPy would take another one in its stead.
    """
    from pyglet import canvas

    screens = canvas.get_display().get_screens()
    if screen >= len(screens):
        raise InputError(
            f"screen {screen} is not connected: there are {len(screens)}, counted from 0; connect it and extend the "
            "desktop to it, or choose another screen"
        )
    return screens[screen].width, screens[screen].height
