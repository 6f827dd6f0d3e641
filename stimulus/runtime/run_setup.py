"""Setup of a run: open images, screen, server, trigger and tables, play the run, close everything."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from rtgod.candidates import NO_CANDIDATES, Candidates, read_candidates
from rtgod.errors import InputError
from rtgod.files import write_whole
from rtgod.text import called_alike, composed
from stimulus.blinding.sealing import commitment, open_sealed, read_sealed
from stimulus.drawing import xvfb
from stimulus.drawing.backends import Backend, choose_backend
from stimulus.drawing.lettering import find_font
from stimulus.drawing.painting import FEEDBACK_DEG
from stimulus.drawing.picture_drawings import beforehand
from stimulus.drawing.psychopy_window import DEFAULT_SIZE_PX
from stimulus.paradigm.bids_events import read_schedule
from stimulus.paradigm.preview import scenes_of
from stimulus.paradigm.schedule import StepKind
from stimulus.paradigm.script import Paradigm, Script
from stimulus.paradigm.stimulus_files import images_of, near_pictures, pictures_of, read_names
from stimulus.recording.run_files import RunRecord
from stimulus.runtime.display import stopping_on_signals
from stimulus.runtime.event_sink import Operator
from stimulus.runtime.player import Outcome, Player
from stimulus.runtime.server_link import Link
from stimulus.screens.feedback import View, picture_word
from stimulus.screens.screen import readable
from stimulus.screens.texts import LANGUAGES
from stimulus.settings import DisplaySettings
from stimulus.timing.machine_time import machine_time
from stimulus.timing.realtime_priority import realtime_priority
from stimulus.timing.trigger_clock import TriggerClock
from stimulus.timing.triggers import open_pulses

if TYPE_CHECKING:
    from stimulus.drawing.psychopy_stage import PsychopyStage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ParadigmFiles:
    """Files that a run shows, as the command line names them."""

    paradigm: Paradigm
    schedule: Path
    settings: Path | None = None
    images: Path | None = None
    names: Path | None = None
    bundle: Path | None = None
    pictures: Path | None = None
    choices: Sequence[str] = ()

    def read_settings(self) -> DisplaySettings:
        """Read the display's settings; without a file, the defaults."""
        return DisplaySettings.from_toml(self.settings) if self.settings else DisplaySettings()

    def read_candidates(self) -> Candidates:
        """Read the candidates of the bundle; none without a bundle.

        Raises
        ------
        InputError
            If no bundle is given for a run with feedback.
        """
        if self.bundle is None and self.paradigm is Paradigm.FEEDBACK:
            raise InputError("feedback needs the server's candidates: give its bundle with --bundle")
        return read_candidates(self.bundle) if self.bundle else NO_CANDIDATES

    def read_script(self, settings: DisplaySettings, candidates: Candidates) -> Script:
        """Read the schedule, names, images and pictures, and make the run's script of them.

        Parameters
        ----------
        settings : DisplaySettings
        candidates : Candidates
            Those of the bundle, as `read_candidates` returns them.

        Raises
        ------
        InputError
            If a file cannot be read, or something that the schedule needs is missing.
        """
        schedule = read_schedule(self.schedule, settings.protocol.tr_s)
        choices = tuple(map(composed, self.choices))
        names = dict(zip(candidates.ids, candidates.names, strict=True))
        names |= read_names(self.names) if self.names else {}
        if choices and not any(step.kind is StepKind.NAMING for step in schedule.steps):
            log.warning("--choice: nothing in %s is to be named afterwards, so nobody is asked", self.schedule)
        categories = {step.category for step in schedule.steps if step.category} | set(choices)
        words_are_read = self.paradigm in (Paradigm.IMAGERY, Paradigm.FEEDBACK)
        if words_are_read:
            _warn_of_words(categories, names, self.names)
        pictures: dict[int, str] = {}
        near: dict[str, str] = {}
        if self.paradigm is Paradigm.FEEDBACK:
            if unknown := sorted(categories - set(candidates.ids)):
                raise InputError(
                    f"{', '.join(unknown[:5])}: not among the {len(candidates.ids)} candidates of {self.bundle}; "
                    "imagine categories that the decoder ranks, or add them to its candidates and calibrate again"
                )
            if settings.feedback.view is View.NEAREST:
                near = self._read_near(candidates)
            else:
                pictures = self._read_pictures(settings.feedback.view, candidates.ids)
        shown = {step.stimulus for step in schedule.steps}
        images = images_of(shown, self.images) if self.images else {}
        words, texts = tuple(names[category] for category in candidates.ids), LANGUAGES[settings.language]
        script = Script(
            self.paradigm, schedule, texts,
            {name: str(path) for name, path in images.items()}, names, words, pictures,
            choices, settings.feedback, settings.image_deg, settings.flash_hz,
            settings.buttons.names(texts.button), near,
        )  # fmt: skip
        script.check_kind()
        return script

    def _read_near(self, candidates: Candidates) -> dict[str, str]:
        if not candidates.pictures:
            raise InputError(
                f"feedback as {View.NEAREST} shows pictures of the decoder's own, and {self.bundle} has none; "
                "calibrate with --pictures"
            )
        if self.pictures is None:
            raise InputError(
                f"feedback as {View.NEAREST} needs pictures, and no folder is given; give --pictures the folder that "
                "the decoder was calibrated with"
            )
        return near_pictures(self.pictures, candidates.pictures)

    def _read_pictures(self, view: View, ids: Sequence[str]) -> dict[int, str]:
        pictures = pictures_of(self.pictures, ids) if self.pictures else {}
        if view in (View.PICTURES, View.GRID) and not pictures:
            none = f"{self.pictures} has none of a candidate" if self.pictures else "no folder is given"
            raise InputError(
                f"feedback as {view} needs pictures, and {none}; give --pictures a folder with files ID.png or folders "
                f"ID, where ID is a candidate's identifier, such as {ids[0]}"
            )
        return pictures


def _warn_of_words(categories: Iterable[str], names: Mapping[str, str], table: Path | None) -> None:
    """Warn of categories that participants read by their identifiers, and of those that they read by one word.

    Parameters
    ----------
    categories : iterable of str
    names : mapping of str to str
        Names of categories, from the table or the bundle.
    table : Path or None
        Table of names, if one was given.
    """
    ordered = sorted(categories)
    if bare := [category for category in ordered if category not in names]:
        examples = f"{', '.join(bare[:5])}{', …' if len(bare) > 5 else ''}"
        if table:
            text = "names %s: none for %d of %d categories, shown by their identifiers: %s"
            log.warning(text, table, len(bare), len(ordered), examples)
        else:
            log.warning("no --names, so categories are read by their identifiers: %s", examples)
    if alike := called_alike({category: names.get(category, category).casefold() for category in ordered}):
        listed = "; ".join(f"{word!r} for {' and '.join(ids)}" for word, ids in alike.items())
        log.warning("the same word is read for several categories: %s", listed)


@dataclass(frozen=True, slots=True)
class PlaybackOptions:
    """Options of playing a run: folder, server, screen, speed, and the sealed conditions of its feedback."""

    out: Path
    server: str | None
    report_to: str
    key: Path | None
    backend: Backend
    speed: float
    ready_file: Path | None
    conditions: Path | None = None
    run: int | None = None
    name: str | None = None
    recordings: Sequence[Path] = ()


def play(inputs: ParadigmFiles, place: PlaybackOptions, tell: Callable[[str], object]) -> Outcome:
    """Play a run, and return its outcome.

    Parameters
    ----------
    inputs : ParadigmFiles
    place : PlaybackOptions
    tell : callable
        Shows the operator a line.

    Raises
    ------
    RtgodError
        If something is missing, or cannot be opened, before the run begins; or if before the trigger the server turns
        out to have another bundle.
    """
    backend, why = choose_backend(place.backend, os.environ, sys.platform, xvfb_installed=xvfb.installed())
    if backend is Backend.TERMINAL:
        raise InputError(
            "paradigms need a screen: a terminal shows no images; install Xvfb to rehearse without one (Debian and "
            f"Ubuntu: {xvfb.PACKAGES}). `rtgod stimulus preview` needs none"
        )
    settings, candidates = inputs.read_settings(), inputs.read_candidates()
    script, trigger = inputs.read_script(settings, candidates), settings.trigger
    schedule = script.schedule
    if trigger.kind == "server" and place.server is None:
        raise InputError("the trigger is the server's first volume: say where it publishes with --from")
    feedback, committed = None, ""
    if place.conditions is not None:
        if settings.feedback.view is View.NEAREST:
            raise InputError(
                f"--conditions: sham feedback exchanges candidates, and feedback as {View.NEAREST} shows none of them, "
                "so that it would be real; choose another view"
            )
        number = place.run or _run_number(schedule.name)
        feedback = open_sealed(place.conditions, number, candidates.names, candidates.ids, place.recordings)
        committed = commitment(read_sealed(place.conditions))
    tell(f"{schedule.name}: {schedule.n_volumes} volumes of {schedule.tr_s:g} s; screen: {backend} ({why})")
    if missing := len(candidates.ids) - len(script.pictures) if script.pictures else 0:
        tell(f"{missing} of {len(candidates.ids)} candidates have no picture; their names are shown")
    with ExitStack() as stack:
        stopped = stack.enter_context(stopping_on_signals())
        stack.enter_context(realtime_priority())
        stage = stack.enter_context(opened(settings, off_screen=backend is Backend.OFFSCREEN))
        for line in find_letters(stage, script, settings):
            tell(line)
        stage.draw(script.loading())  # asks the participant for a moment's patience
        for line in load(stage, script):
            tell(line)
        link = stack.enter_context(_linked(place.server, place, stage.now, tell)) if place.server else None
        record = stack.enter_context(
            RunRecord(
                place.out,
                schedule,
                time.time(),
                speed=place.speed,
                sealed=feedback is not None,
                machine=machine_time(),
                frame_hz=settings.monitor.frame_hz,
                tell=tell,
            )
        )
        tr_s = schedule.tr_s / place.speed
        has_begun = record.happened.started_utc_s is not None
        n_pulses = 0 if has_begun else schedule.n_volumes + trigger.n_dummies
        pulses = open_pulses(trigger, stage.now, tr_s, n_pulses)
        stack.callback(pulses.close)
        # A server's pulse comes once, and an emulated scanner of a continued run does not know when the run began.
        has_no_more = trigger.kind == "server" or (has_begun and trigger.kind == "emulated")
        player = Player(
            script, stage, pulses, TriggerClock(tr_s, trigger.n_dummies, trigger.patience_s), record, settings.buttons,
            Operator(tell, typed_lines()), link=link, feedback=feedback, candidates=candidates,
            commitment=committed, speed=place.speed, machine=machine_time, tells_blocks=settings.tell_blocks,
            hears_every_volume=trigger.every_volume and not has_no_more,
        )  # fmt: skip
        if place.ready_file is not None:
            write_whole(place.ready_file, f"{os.getpid()}\n")
        outcome = player.run(stopped)
        record.close()  # tells the operator what could not be saved
        if record.is_saved:
            tell(f"{record.name}: saved in {place.out}")
            return outcome
        tell(f"{record.name}: not all of it is in {place.out}")
        return Outcome.NOT_SAVED


@contextmanager
def opened(settings: DisplaySettings, *, off_screen: bool) -> Iterator[PsychopyStage]:
    """Open a stage, and close it at the end.

    Parameters
    ----------
    settings : DisplaySettings
    off_screen : bool
        Whether the stage has no monitor: then it has no sound, and uses a private Xvfb if that is installed.
    """
    from stimulus.drawing.psychopy_stage import PsychopyStage

    monitor, font_file = settings.monitor, settings.font_file or find_font(settings.language)
    private = off_screen and xvfb.installed()
    with xvfb.offscreen(*(monitor.size_px or DEFAULT_SIZE_PX)) if private else nullcontext():
        stage = PsychopyStage(
            monitor, off_screen=off_screen, font_file=font_file, tones=settings.tones and not off_screen,
            close_key=settings.buttons.stop,
        )  # fmt: skip
        try:
            yield stage
        finally:
            stage.close()


def load(stage: PsychopyStage, script: Script) -> list[str]:
    """Load and prepare everything that a script shows; return lines for the operator.

    Parameters
    ----------
    stage : PsychopyStage
    script : Script

    Raises
    ------
    InputError
        If an image cannot be read.
    """
    read, line = beforehand(sorted(script.near.values()))
    names = (*script.candidates, *script.names.values(), *(map(picture_word, script.near) if read else ()))
    pictures = [*sorted(script.pictures.values()), *read]
    stage.load(sorted(script.images.values()), script.image_deg, pictures, names)
    stage.warm(scenes_of(script))
    return [*stage.notes, *filter(None, (too_small(stage, script), line))]


def find_letters(stage: PsychopyStage, script: Script, settings: DisplaySettings) -> list[str]:
    """Find fonts for all texts that can be shown; return lines for the operator.

    Parameters
    ----------
    stage : PsychopyStage
    script : Script
    settings : DisplaySettings
        Only the language is used.

    Raises
    ------
    InputError
        If no font has the letters of a text that the schedule shows.
    """
    remedy, language = "set font_file in the settings", settings.language
    scheduled = stage.cover(script.scheduled_texts(), language)
    if problems := scheduled.problems("texts", remedy):
        raise InputError("; ".join(problems))
    possible = stage.cover([*map(readable, script.candidates), *map(picture_word, script.near)], language)
    return [
        *scheduled.notes(stage.font_name), *possible.notes(stage.font_name),
        *possible.problems("names", remedy),
    ]  # fmt: skip


def too_small(stage: PsychopyStage, script: Script) -> str:
    """Return a line for the operator about a screen too small for feedback at its full size; empty if it is not.

    Parameters
    ----------
    stage : PsychopyStage
    script : Script
    """
    views = (View.THERMOMETER, View.PICTURES, View.GRID, View.NEAREST)
    if stage.fit >= 1 or script.paradigm is not Paradigm.FEEDBACK or script.feedback.view not in views:
        return ""
    return (
        f"feedback as {script.feedback.view} is shown at {100 * stage.fit:.0f} % of its size: it needs a screen of "
        f"{FEEDBACK_DEG[0]:g} x {FEEDBACK_DEG[1]:g} degrees; are width_cm and distance_cm in the settings' table "
        "[monitor] right?"
    )


@contextmanager
def _linked(
    server: str, place: PlaybackOptions, clock: Callable[[], float], tell: Callable[[str], object]
) -> Iterator[Link]:
    from rtgod.protocol.clients import Reporter, Subscriber
    from rtgod.protocol.keys import read_client_key

    key = read_client_key(place.key) if place.key else None
    with (
        Subscriber(server, key) as subscriber,
        Reporter(place.report_to, "stimulus", clock, key, place.name) as reporter,
    ):
        yield Link(subscriber, reporter, tell, clock, server)


def _run_number(name: str) -> int:
    match = re.search(r"run-(\d+)", name)
    if match is None:
        raise InputError(f"schedule {name}: which run of the conditions is it? Say so with --run")
    return int(match[1])


def typed_lines() -> Callable[[], Sequence[str]]:
    """Return a function that gives the lines typed since its last call, and never waits."""
    lines: SimpleQueue[str] = SimpleQueue()

    def listen(descriptor: int) -> None:
        begun = b""
        # The descriptor is read, not sys.stdin: a thread that waits in sys.stdin keeps it locked when the program ends.
        while typed := os.read(descriptor, 4096):
            *whole, begun = (begun + typed).split(b"\n")
            for line in whole:
                lines.put(line.decode(errors="replace"))

    if sys.stdin is not None and not _is_in_background(sys.stdin.fileno()):
        Thread(target=listen, args=(sys.stdin.fileno(),), daemon=True, name="operator").start()
    return lambda: [lines.get() for _ in range(lines.qsize())]


def _is_in_background(descriptor: int) -> bool:
    """Whether reading a terminal would stop the program, as it does in a shell's background."""
    if not (hasattr(os, "tcgetpgrp") and os.isatty(descriptor)):
        return False
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:  # the terminal belongs to another session
        return False
