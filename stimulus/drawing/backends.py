"""Backends that draw: a window, a window on a private X server, or text; one is chosen and opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from functools import partial

from stimulus.drawing import xvfb
from stimulus.drawing.window_protocol import RankingWindow


class Backend(StrEnum):
    """Backend that draws the participant's screen."""

    AUTO = "auto"
    WINDOW = "window"
    OFFSCREEN = "offscreen"
    TERMINAL = "terminal"


def letters_found(window: object, texts: Sequence[str], language: str) -> list[str]:
    """Find fonts for a window's texts, and return lines for the operator.

    Parameters
    ----------
    window : object
        Window of any backend; a terminal has its own fonts, and gives no lines.
    texts : sequence of str
        Names of categories, or single letters of them.
    language : str
        Language whose fonts are preferred, as some letters have several shapes.
    """
    from stimulus.drawing.psychopy_window import PsychopyWindow

    if not isinstance(window, PsychopyWindow):
        return []
    coverage = window.cover(texts, language)
    window.write_beforehand(texts)
    noun = "letters of the categories' names" if all(len(text) == 1 for text in texts) else "categories' names"
    return [*coverage.notes(window.font_name), *coverage.problems(noun, "set --font")]


def choose_backend(
    wanted: Backend, environment: Mapping[str, str], platform: str, *, xvfb_installed: bool
) -> tuple[Backend, str]:
    """Choose a backend, and return it with the reason in a few words.

    Parameters
    ----------
    wanted : Backend
        Returned as it is unless it is `AUTO`.
    environment : mapping of str to str
        The process's environment variables.
    platform : str
        Name of the system, as in `sys.platform`.
    xvfb_installed : bool
        Whether Xvfb is on the PATH.
    """
    if wanted is not Backend.AUTO:
        return wanted, "as asked"
    if platform in ("darwin", "win32"):
        return Backend.WINDOW, "this system has a desktop"
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        if environment.get(name):
            return Backend.WINDOW, f"{name} is {environment[name]}"
    if xvfb_installed:
        return Backend.OFFSCREEN, "no DISPLAY, but Xvfb is installed"
    return Backend.TERMINAL, "neither DISPLAY nor Xvfb"


@contextmanager
def opened(
    backend: Backend, *, full_screen: bool, screen: int, font_file: str = "", pictures: Sequence[str] | None = None
) -> Iterator[RankingWindow]:
    """Open a window; at the end close it and all that was started for it.

    Parameters
    ----------
    backend : Backend
        As `choose_backend` gives it.
    full_screen : bool
        Used for a window on a monitor only.
    screen : int
        Number of the monitor, from 0; used for a window on a monitor only.
    font_file : str, optional
        Font of all texts; empty takes PsychoPy's own font. A terminal has its own fonts.
    pictures : sequence of str, optional
        Pictures that the window reads beforehand; None for a window that shows none.
    """
    with ExitStack() as stack:
        window = _open(backend, stack, pictures, full_screen=full_screen, screen=screen, font_file=font_file)
        stack.callback(window.close)
        yield window


def _open(
    backend: Backend,
    stack: ExitStack,
    pictures: Sequence[str] | None,
    *,
    full_screen: bool,
    screen: int,
    font_file: str,
) -> RankingWindow:
    if backend is Backend.TERMINAL:
        from stimulus.drawing.terminal import TerminalWindow

        return TerminalWindow()
    from stimulus.drawing.psychopy_window import DEFAULT_SIZE_PX, PsychopyWindow

    make: Callable[..., RankingWindow] = PsychopyWindow
    if pictures is not None:
        from stimulus.drawing.picture_window import PictureWindow

        make = partial(PictureWindow, pictures)
    if backend is Backend.OFFSCREEN:
        stack.enter_context(xvfb.offscreen(*DEFAULT_SIZE_PX))
        return make(DEFAULT_SIZE_PX, wait_blanking=False, framed=False, font_file=font_file)
    return make(full_screen=full_screen, screen=screen, font_file=font_file)
