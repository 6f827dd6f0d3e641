"""The command `rtgod display`: chooses a backend, opens it, and hands over to the loop."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from rtgod.candidates import read_candidates
from rtgod.commands import options
from rtgod.errors import InputError
from rtgod.text import plain
from stimulus.drawing import xvfb
from stimulus.drawing.backends import Backend, choose_backend, letters_found, opened
from stimulus.drawing.lettering import find_font
from stimulus.drawing.picture_drawings import beforehand
from stimulus.paradigm.stimulus_files import near_pictures
from stimulus.runtime.display import Display, Outputs, stopping_on_signals
from stimulus.screens.texts import LANGUAGES
from stimulus.screens.translation import WORDS
from stimulus.settings import DisplaySettings

#: A server's addresses unless other ones are set.
INGEST, PUBLISH = "tcp://127.0.0.1:5555", "tcp://127.0.0.1:5556"


def display(
    server: Annotated[
        str, typer.Option("--from", metavar="ADDRESS", help="Where the server publishes its answers.")
    ] = PUBLISH,
    report_to: Annotated[
        str, typer.Option("--to", metavar="ADDRESS", help="Where the server takes in what was shown when.")
    ] = INGEST,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Key to connect with, where one is asked for.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What `rtgod status` calls this display: 'screen in the bore'.")
    ] = None,
    backend: Annotated[
        Backend,
        typer.Option(
            help="window: on a monitor. offscreen: without one, in a private Xvfb, for --screenshot. "
            "terminal: as text. auto: the first of these that this machine offers."
        ),
    ] = Backend.AUTO,
    full_screen: Annotated[bool, typer.Option(help="Fill the monitor, without a mouse pointer.")] = True,
    screen: Annotated[int, typer.Option(min=0, metavar="N", help="Which monitor, from 0.")] = 0,
    language: Annotated[
        str, typer.Option(help=f"Of what the participant reads: {', '.join(LANGUAGES)}.", metavar="CODE")
    ] = "en",
    font: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TTF, OTF or TTC file with the letters of the categories' names; by default, whatever font of this "
            "machine has them.",
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            metavar="TOML",
            help="Settings as of `rtgod stimulus feedback`: pale_below and clear_from in its table [feedback] say from "
            "when on a ranking is pale here, too.",
        ),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The server's bundle, which lists the pictures of --pictures.")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Show the nearest four of these pictures in place of the list: the folder that the decoder was "
            "calibrated with. Needs --bundle.",
        ),
    ] = None,
    screenshot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Keep a picture of the last final ranking in this file.")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(metavar="TSV", help="Add a line to this table for every answer: received when, shown when."),
    ] = None,
    stop_after_runs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Quit once this many runs have ended.")
    ] = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write this file once the window is open and the server was heard."),
    ] = None,
    show_settings: options.ShowSettings = False,
) -> None:
    """Show the participant the ranked categories as the server decodes them.

    The ten best categories with bars around a fixation point, paler the less
    sure the decoder is, and beneath them how far the decoding has come. While there is no ranking, a calm line
    says so; the reason is for the experimenter's monitor. Escape or q quits.

    Needs PsychoPy, which rtgod's extra "display" installs.
    """
    if language not in LANGUAGES:
        raise InputError(f"--language {language}: choose {', '.join(LANGUAGES)}")
    chosen_settings = DisplaySettings.from_toml(settings) if settings else DisplaySettings()
    if show_settings:
        options.show_settings(chosen_settings)
        return
    clarity = chosen_settings.feedback
    chosen, why = choose_backend(backend, os.environ, sys.platform, xvfb_installed=xvfb.installed())
    tell(f"display: {chosen} ({why})")
    if screenshot is not None and chosen is Backend.TERMINAL:
        if backend is Backend.TERMINAL:
            raise InputError("--screenshot needs a picture, and the terminal backend draws none; choose another")
        tell(f"display: no screenshot, text has no picture; install Xvfb for one (Debian and Ubuntu: {xvfb.PACKAGES})")
        screenshot = None
    near = _near(bundle, pictures, chosen)
    read, line = beforehand(sorted(near.values()))
    if line:
        tell(f"display: {line}")
    from rtgod.protocol.clients import Reporter, Subscriber
    from rtgod.protocol.keys import read_client_key

    with ExitStack() as stack:
        stopped = stack.enter_context(stopping_on_signals())
        own_key = read_client_key(key) if key else None
        subscriber = stack.enter_context(
            Subscriber(server, own_key)
        )  # first: a wrong address must not cost a full screen
        reporter = stack.enter_context(Reporter(report_to, "display", time.time, own_key, name))
        font_file = ""
        if chosen is not Backend.TERMINAL:
            font_file = str(font) if font else find_font(language)
        window = stack.enter_context(
            opened(chosen, full_screen=full_screen, screen=screen, font_file=font_file, pictures=read if near else None)
        )

        def find_letters(texts: Sequence[str]) -> list[str]:
            return letters_found(window, texts, language)

        outputs = Outputs(screenshot=screenshot, log=log, ready_file=ready_file)
        loop = stack.enter_context(
            Display(
                subscriber,
                window,
                outputs,
                reporter=reporter,
                stop_after_runs=stop_after_runs,
                tell=tell,
                find_letters=find_letters,
                words=WORDS.get(language),
                server=server,
                clarity=clarity,
                pictures=near,
            )
        )
        loop.run(stopped)


def _near(bundle: Path | None, pictures: Path | None, backend: Backend) -> dict[str, str]:
    """Find the files of the decoder's pictures by name; none if none are to be shown."""
    if bundle is None and pictures is None:
        return {}
    if bundle is None or pictures is None:
        raise InputError("--pictures and --bundle go together: the bundle lists which pictures may be named")
    if backend is Backend.TERMINAL:
        raise InputError(
            "--pictures: a terminal draws none; choose another --backend, or install Xvfb (Debian and Ubuntu: "
            f"{xvfb.PACKAGES})"
        )
    if not (names := read_candidates(bundle).pictures):
        raise InputError(f"bundle {bundle}: has no pictures; calibrate with --pictures")
    return near_pictures(pictures, names)


def tell(text: str) -> None:
    """Show the operator a line."""
    typer.echo(plain(text))
