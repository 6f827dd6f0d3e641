"""The commands `rtgod stimulus …`: plan runs, play one, look at one beforehand."""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console

from rtgod.candidates import NO_CANDIDATES, Candidates, read_candidates
from rtgod.errors import InputError
from stimulus import xvfb
from stimulus.blinding_commands import seal
from stimulus.commands import Backend, choose_backend
from stimulus.display import stopping_on_signals
from stimulus.feedback import View
from stimulus.inputs import find_images, images_to_show, pictures_of, read_names
from stimulus.link import Link
from stimulus.metronome import Metronome
from stimulus.paradigm import Paradigm, Script
from stimulus.player import Operator, Outcome, Player
from stimulus.record import RunRecord
from stimulus.schedule import Schedule, deal, deal_images, feedback_run, imagery_run, perception_run
from stimulus.schedule_files import EVENTS_SUFFIX, read_schedule, write_plan
from stimulus.seal import open_sealed
from stimulus.settings import DisplaySettings, MonitorSettings
from stimulus.texts import LANGUAGES
from stimulus.triggers import open_pulses
from stimulus.window import DEFAULT_SIZE_PX

if TYPE_CHECKING:
    from stimulus.stage import PsychopyStage

#: A display of usual size at a usual distance, for pictures that nobody measures.
_USUAL_MONITOR = MonitorSettings(width_cm=32.0, distance_cm=60.0, size_px=DEFAULT_SIZE_PX)
#: Nothing may hold up the operator's typing, which is read between frames.
_MOST_TYPED = 4096

stimulus = typer.Typer(no_args_is_help=True, help="Run experiments: plan runs, play them, preview them.")
stimulus.command("seal")(seal)
console = Console(highlight=False, soft_wrap=True)

Events = Annotated[Path, typer.Argument(metavar="SCHEDULE", help="The run: an events.tsv or a TOML file.")]
Images = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Images that are shown, by their names.")]
Names = Annotated[
    Path | None, typer.Option(metavar="TSV", help="Words for categories: a table with category_id and name.")
]
Bundle = Annotated[Path | None, typer.Option(metavar="FOLDER", help="The server's bundle, for its candidates.")]
Pictures = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Pictures that stand for candidates: ID.png, or a folder ID.")
]
Choices = Annotated[
    list[str] | None, typer.Option("--choice", metavar="ID", help="A category to name afterwards; give several.")
]
SettingsFile = Annotated[Path | None, typer.Option("--settings", metavar="TOML", help="Monitor, trigger, buttons, …")]
Out = Annotated[Path, typer.Option(metavar="FOLDER", help="Where the run's tables go; best beside the journal.")]
From = Annotated[str | None, typer.Option("--from", metavar="ADDRESS", help="Where the server publishes.")]
To = Annotated[str, typer.Option("--to", metavar="ADDRESS", help="Where the server takes in what happened when.")]
Key = Annotated[Path | None, typer.Option(metavar="FILE", help="Key to connect with, where one is asked for.")]
Where = Annotated[Backend, typer.Option("--backend", help="window, or offscreen to rehearse without a monitor.")]
Speed = Annotated[float, typer.Option(min=0.1, help="Above 1 to rehearse in less time.")]
ReadyFile = Annotated[Path | None, typer.Option(metavar="PATH", help="Written once the trigger is waited for.")]
Conditions = Annotated[Path | None, typer.Option(metavar="FILE", help="Sealed conditions, for sham and blinding.")]
RunNumber = Annotated[
    int | None, typer.Option("--run", min=1, help="Which run of the conditions; else by the schedule's run-NN.")
]

INGEST, PUBLISH = "tcp://127.0.0.1:5555", "tcp://127.0.0.1:5556"


_HELP = {
    Paradigm.TRAINING: "Show a training run: flashing images, a one-back task.",
    Paradigm.TEST: "Show a test run: as `training`, with images of other categories.",
    Paradigm.IMAGERY: "Run imagery with closed eyes: a word, a tone, imagery, a tone, a rating of vividness.",
    Paradigm.FEEDBACK: """Run closed-loop imagery: the decoder's result is shown with each volume, or after the block.

    What is imagined is the schedule's; where it names nothing, the participant chooses and names it afterwards (with
    --choice), or the operator types `target ID`. With --conditions the feedback may be sham, or none, and nobody is
    told; `rtgod unblind` opens the file after the session.""",
}
_SAVING = """

    Tables go to --out: the BIDS events with presses and ratings, every flip, what was shown, a log. A run that was
    interrupted, started again with the same schedule and folder, goes on at the right second. Escape ends it, with
    everything saved."""


def _command_for(paradigm: Paradigm) -> Callable[..., None]:
    def command(
        schedule: Events,
        images: Images = None,
        names: Names = None,
        bundle: Bundle = None,
        pictures: Pictures = None,
        choices: Choices = None,
        settings: SettingsFile = None,
        conditions: Conditions = None,
        run: RunNumber = None,
        out: Out = Path("journals"),
        server: From = PUBLISH if paradigm is Paradigm.FEEDBACK else None,
        report_to: To = INGEST,
        key: Key = None,
        backend: Where = Backend.AUTO,
        speed: Speed = 1.0,
        ready_file: ReadyFile = None,
    ) -> None:
        inputs = Inputs(paradigm, schedule, settings, images, names, bundle, pictures, tuple(choices or ()))
        if paradigm is Paradigm.FEEDBACK and bundle is None:
            raise InputError("feedback needs the server's candidates: give its bundle with --bundle")
        _play(inputs, Place(out, server, report_to, key, backend, speed, ready_file, conditions, run))

    command.__doc__ = _HELP[paradigm] + _SAVING
    return command


for _paradigm in Paradigm:
    stimulus.command(_paradigm.value)(_command_for(_paradigm))


@stimulus.command("plan")
def plan(
    paradigm: Annotated[Paradigm, typer.Argument(help="What kind of runs.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the schedules.")],
    images: Images = None,
    categories: Annotated[
        Path | None, typer.Option(metavar="TSV", help="Categories to imagine: a table with category_id.")
    ] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="How many; training: as many as the images fill.")] = None,
    free: Annotated[int, typer.Option(min=0, help="Feedback: so many trials a run are the participant's choice.")] = 0,
    subject: Annotated[str, typer.Option(help="Label, as in BIDS.")] = "01",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same schedules.")] = 0,
    settings: SettingsFile = None,
) -> None:
    """Write the schedules of runs as BIDS events tables, counterbalanced: the timing of Horikawa & Kamitani (2017)."""
    protocol = (DisplaySettings.from_toml(settings) if settings else DisplaySettings()).protocol
    rng = np.random.default_rng([seed, list(Paradigm).index(paradigm)])
    schedules: list[Schedule] = []
    task = "perception" if paradigm in (Paradigm.TRAINING, Paradigm.TEST) else paradigm
    name = partial(f"sub-{subject}_ses-{paradigm}_task-{task}_run-{{:02d}}".format)
    if task == "perception":
        if images is None:
            raise InputError("which images? Give their folder with --images")
        shown = images_to_show(find_images(images))
        dealt = deal_images(shown, protocol.n_images, rng)
        if paradigm is Paradigm.TEST or (runs is not None and runs > len(dealt)):
            dealt = deal(shown, runs or 1, min(protocol.n_images, len(shown)), rng)
        for number, some in enumerate(dealt[:runs], 1):
            schedules.append(perception_run(name(number), some, protocol, rng))
    else:
        if categories is None:
            raise InputError("which categories? Give a table of them with --categories")
        ids = list(read_names(categories))
        n_chosen = protocol.n_trials - min(free, protocol.n_trials)
        for number, some in enumerate(deal(ids, runs or 1, n_chosen, rng), 1):
            if paradigm is Paradigm.IMAGERY:
                schedules.append(imagery_run(name(number), some, protocol))
                continue
            mixed = [*some, *[""] * (protocol.n_trials - n_chosen)]
            order = rng.permutation(len(mixed)) if free else range(len(mixed))
            schedules.append(feedback_run(name(number), [mixed[i] for i in order], protocol))
    for schedule in schedules:
        path = out / f"{schedule.name}{EVENTS_SUFFIX}"
        if path.exists():
            raise InputError(f"{path}: is there already; choose another folder, or remove it")
        write_plan(path, schedule)
    last = schedules[-1]
    console.print(f"{len(schedules)} runs of {last.n_volumes} volumes ({last.duration_s / 60:.1f} min) in {out}")


@stimulus.command("preview")
def preview(
    paradigm: Annotated[Paradigm, typer.Argument(help="What kind of run.")],
    schedule: Events,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the pictures.")],
    images: Images = None, names: Names = None, bundle: Bundle = None, pictures: Pictures = None,
    choices: Choices = None, settings: SettingsFile = None,
) -> None:  # fmt: skip
    """Save every screen of a run as a PNG, and its timeline as a figure."""
    from stimulus.preview import save_screens, save_timeline
    from stimulus.lettering import find_font
    from stimulus.stage import PsychopyStage

    inputs = Inputs(paradigm, schedule, settings, images, names, bundle, pictures, tuple(choices or ()))
    chosen, candidates = inputs.read_settings(), inputs.read_candidates()
    script = inputs.script(chosen, candidates)
    monitor = chosen.monitor if chosen.monitor.width_cm else _USUAL_MONITOR
    size_px = monitor.size_px or DEFAULT_SIZE_PX
    with xvfb.offscreen(*size_px):
        stage = PsychopyStage(
            monitor, off_screen=True, font_file=chosen.font_file or find_font(chosen.language), tones=False
        )
        try:
            stage.load(sorted(script.images.values()), script.image_deg, sorted(script.pictures.values()))
            paths = save_screens(script, stage, out)
        finally:
            stage.close()
    save_timeline(script.schedule, script.names, out / "timeline.png")
    console.print(f"{len(paths)} screens and timeline.png in {out}")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run shows: files, as the command line names them."""

    paradigm: Paradigm
    schedule: Path
    settings: Path | None = None
    images: Path | None = None
    names: Path | None = None
    bundle: Path | None = None
    pictures: Path | None = None
    choices: tuple[str, ...] = ()

    def read_settings(self) -> DisplaySettings:
        """How the display is set up."""
        return DisplaySettings.from_toml(self.settings) if self.settings else DisplaySettings()

    def read_candidates(self) -> Candidates:
        """Of the bundle, where there is one."""
        return read_candidates(self.bundle) if self.bundle else NO_CANDIDATES

    def script(self, settings: DisplaySettings, candidates: Candidates) -> Script:
        """Read everything; what is missing is named."""
        schedule = read_schedule(self.schedule, settings.protocol.tr_s)
        names = dict(zip(candidates.ids, candidates.names, strict=True))
        names |= read_names(self.names) if self.names else {}
        if self.paradigm is Paradigm.FEEDBACK and candidates.ids:
            wanted = {step.category for step in schedule.steps if step.category} | set(self.choices)
            if unknown := sorted(wanted - set(candidates.ids)):
                raise InputError(
                    f"{', '.join(unknown[:5])}: not among the {len(candidates.ids)} candidates of {self.bundle}; "
                    "imagine categories that the decoder ranks, or add them to its candidates and calibrate again"
                )
        shown = {step.stimulus for step in schedule.steps if step.stimulus}
        found = find_images(self.images) if self.images else {}
        pictures = pictures_of(self.pictures, candidates.ids) if self.pictures else {}
        needs_pictures = settings.feedback.view in (View.PICTURES, View.GRID)
        if self.paradigm is Paradigm.FEEDBACK and needs_pictures and not pictures:
            raise InputError(f"feedback as {settings.feedback.view} needs pictures: give their folder with --pictures")
        return Script(
            self.paradigm, schedule, LANGUAGES[settings.language],
            {name: str(path) for name, path in found.items() if name in shown}, names, candidates.names, pictures,
            self.choices, settings.feedback, settings.image_deg, settings.flash_hz,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is played: screen, server, folder."""

    out: Path
    server: str | None
    report_to: str
    key: Path | None
    backend: Backend
    speed: float
    ready_file: Path | None
    conditions: Path | None = None
    run: int | None = None


def _play(inputs: Inputs, place: Place) -> None:
    """Open everything, play the run, and say where it was saved."""
    chosen, why = choose_backend(place.backend, os.environ, sys.platform, xvfb_installed=xvfb.installed())
    if chosen is Backend.TERMINAL:
        raise InputError("paradigms need a screen: a terminal shows no images; install Xvfb to rehearse without one")
    settings, candidates = inputs.read_settings(), inputs.read_candidates()
    script = inputs.script(settings, candidates)
    schedule = script.schedule
    console.print(f"{schedule.name}: {schedule.n_volumes} volumes of {schedule.tr_s:g} s; screen: {chosen} ({why})")
    if missing := len(candidates.ids) - len(script.pictures) if script.pictures else 0:
        console.print(f"{missing} of {len(candidates.ids)} candidates have no picture; their names are shown")
    instead = None
    if place.conditions is not None:
        number = place.run or _run_number(schedule.name)
        instead = open_sealed(place.conditions, number, candidates.names, candidates.ids)
    with ExitStack() as stack:
        stopped = stack.enter_context(stopping_on_signals())
        record = stack.enter_context(
            RunRecord(place.out, schedule, time.time(), speed=place.speed, sealed=instead is not None)
        )
        stage = stack.enter_context(_opened(chosen, settings))
        stage.draw(script.loading())
        stage.load(sorted(script.images.values()), script.image_deg, sorted(script.pictures.values()))
        link = stack.enter_context(_linked(place, stage.now)) if place.server else None
        operator = Operator(console.print, typed_lines())
        tr_s = schedule.tr_s / place.speed
        trigger = settings.trigger
        begun = record.happened.started_utc_s is not None
        pulses = open_pulses(trigger, stage.now, tr_s, 0 if begun else schedule.n_volumes + trigger.n_dummies)
        stack.callback(pulses.close)
        # One that emulates a scanner cannot know when the run began.
        alone = trigger.kind == "server" or (begun and trigger.kind == "emulated")
        player = Player(
            script, stage, pulses, Metronome(tr_s, trigger.n_dummies, trigger.patience_s), record, settings.buttons,
            operator, link=link, feedback=instead, candidates=candidates, speed=place.speed,
            hears_every_volume=trigger.every_volume and not alone,
        )  # fmt: skip
        if place.ready_file is not None:
            place.ready_file.write_text(f"{os.getpid()}\n", encoding="ascii")
        outcome = player.run(stopped)
        console.print(f"{record.name}: {outcome}; saved in {place.out}")
    if outcome is not Outcome.COMPLETE:
        raise typer.Exit(1)


@contextmanager
def _opened(backend: Backend, settings: DisplaySettings) -> Iterator[PsychopyStage]:
    """A stage, and in the end nothing of it left."""
    from stimulus.lettering import find_font
    from stimulus.stage import PsychopyStage

    font_file = settings.font_file or find_font(settings.language)
    off_screen = backend is Backend.OFFSCREEN
    with ExitStack() as stack:
        if off_screen:
            stack.enter_context(xvfb.offscreen(*(settings.monitor.size_px or DEFAULT_SIZE_PX)))
        stage = PsychopyStage(
            settings.monitor, off_screen=off_screen, font_file=font_file, tones=settings.tones and not off_screen
        )
        stack.callback(stage.close)
        yield stage


@contextmanager
def _linked(place: Place, clock: Callable[[], float]) -> Iterator[Link]:
    from rtgod.client import Reporter, Subscriber
    from rtgod.keys import read_client_key

    key = read_client_key(place.key) if place.key else None
    with (
        Subscriber(place.server or PUBLISH, key) as subscriber,
        Reporter(place.report_to, "stimulus", clock, key) as reporter,
    ):
        yield Link(subscriber, reporter, console.print, clock)


def _run_number(name: str) -> int:
    found = re.search(r"run-(\d+)", name)
    if found is None:
        raise InputError(f"schedule {name}: which run of the conditions is it? Say so with --run")
    return int(found[1])


def typed_lines() -> Callable[[], Sequence[str]]:
    """What gives the lines that were typed since it was called last, and never waits."""
    # Windows' consoles cannot be asked without waiting.
    is_open = os.name == "posix" and sys.stdin is not None
    begun = b""

    def lines() -> Sequence[str]:
        nonlocal is_open, begun
        if not is_open or not select.select([sys.stdin], [], [], 0)[0]:
            return ()
        typed = os.read(sys.stdin.fileno(), _MOST_TYPED)
        is_open = bool(typed)
        *whole, begun = (begun + typed).split(b"\n")
        return [line.decode(errors="replace") for line in whole]

    return lines
