"""The commands `rtgod stimulus …`: plan runs, play one, look at one beforehand."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from rtgod.commands import options
from rtgod.commands.options import DryRun, Overwrite, ShowSettings
from rtgod.console import PlainConsole
from rtgod.errors import InputError
from rtgod.text import number_of
from stimulus.commands.blinding import seal
from stimulus.commands.display import INGEST, PUBLISH, tell
from stimulus.drawing.backends import Backend
from stimulus.paradigm.bids_events import EVENTS_SUFFIX, write_plan
from stimulus.paradigm.schedule import Image, Schedule, deal, deal_images, feedback_run, imagery_run, perception_run
from stimulus.paradigm.script import Paradigm
from stimulus.paradigm.stimulus_files import find_images, images_left_out, images_to_show, read_names
from stimulus.paradigm.timing_settings import ProtocolSettings
from stimulus.runtime.player import Outcome
from stimulus.runtime.run_setup import ParadigmFiles, PlaybackOptions, find_letters, load, play
from stimulus.settings import DisplaySettings

#: A display of usual size at a usual distance, for pictures that nobody measures, centimetres.
_USUAL = {"width_cm": 32.0, "distance_cm": 60.0}

stimulus = typer.Typer(no_args_is_help=True, help="Run experiments: plan runs, look at them beforehand, play them.")

Events = Annotated[Path, typer.Argument(metavar="SCHEDULE", help="The run: an events.tsv or a TOML file.")]
Images = Annotated[Path | None, typer.Option(metavar="FOLDER", help="The images, named as in the schedule.")]
Names = Annotated[Path | None, typer.Option(metavar="TSV", help="Words for categories: columns category_id and name.")]
Bundle = Annotated[Path | None, typer.Option(metavar="FOLDER", help="The server's bundle, for its candidates.")]
Pictures = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Pictures of candidates: ID.png, or a folder ID.")
]
Choices = Annotated[
    list[str] | None, typer.Option("--choice", metavar="ID", help="A category to name afterwards; repeat for each.")
]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", metavar="TOML", help="Monitor, trigger, buttons, feedback, protocol.")
]
Out = Annotated[Path, typer.Option(metavar="FOLDER", help="Where the run's tables go; best beside the journal.")]
From = Annotated[str | None, typer.Option("--from", metavar="ADDRESS", help="Where a server publishes, if it listens.")]
To = Annotated[str, typer.Option("--to", metavar="ADDRESS", help="Where it takes in what happened when.")]
Key = Annotated[Path | None, typer.Option(metavar="FILE", help="Key to connect with, where one is asked for.")]
ClientName = Annotated[
    str | None, typer.Option("--name", help="What `rtgod status` calls this display: 'screen in the bore'.")
]
Where = Annotated[Backend, typer.Option(help="window, or offscreen to rehearse without a monitor.")]
Speed = Annotated[float, typer.Option(min=0.1, help="Above 1 to rehearse in less time.")]
ReadyFile = Annotated[Path | None, typer.Option(metavar="PATH", help="Written once the trigger is waited for.")]
Conditions = Annotated[Path | None, typer.Option(metavar="FILE", help="Sealed conditions, for sham and blinding.")]
RunNumber = Annotated[
    int | None,
    typer.Option("--run", min=1, metavar="N", help="Which run of the conditions; else the schedule's run-N."),
]
Recordings = Annotated[
    list[Path] | None,
    typer.Option(metavar="FOLDER", help="Holds what the conditions were sealed with, if not beside them; repeatable."),
]

_SAVING = """

    Tables go to --out: the BIDS events with presses and ratings, every flip, what was shown, a log. A run that was
    interrupted, started again with the same schedule and folder, goes on at the right second. Escape ends it, with
    everything saved."""


def _play(inputs: ParadigmFiles, playback: PlaybackOptions, *, show: bool) -> None:
    if show:
        options.show_settings(inputs.read_settings())
        return
    if play(inputs, playback, tell) is not Outcome.COMPLETE:
        raise typer.Exit(1)


def _perception(paradigm: Paradigm, help_text: str) -> None:
    def command(
        schedule: Events, images: Images = None, settings: SettingsFile = None, out: Out = Path("journals"),
        server: From = None, report_to: To = INGEST, key: Key = None, backend: Where = Backend.AUTO,
        speed: Speed = 1.0, ready_file: ReadyFile = None, name: ClientName = None, show_settings: ShowSettings = False,
    ) -> None:  # fmt: skip
        inputs = ParadigmFiles(paradigm, schedule, settings, images=images)
        _play(
            inputs,
            PlaybackOptions(out, server, report_to, key, backend, speed, ready_file, name=name),
            show=show_settings,
        )

    stimulus.command(paradigm.value, help=help_text + _SAVING)(command)


_perception(Paradigm.TRAINING, "Show a training run: flashing images, a one-back task.")
_perception(Paradigm.TEST, "Show a test run: as `training`, with images of other categories.")


@stimulus.command(
    help="Run imagery with closed eyes: a word, a tone, imagery, a tone, a rating of vividness." + _SAVING
)
def imagery(
    schedule: Events, names: Names = None, images: Images = None, choices: Choices = None,
    settings: SettingsFile = None, out: Out = Path("journals"), server: From = None, report_to: To = INGEST,
    key: Key = None, backend: Where = Backend.AUTO, speed: Speed = 1.0, ready_file: ReadyFile = None,
    name: ClientName = None, show_settings: ShowSettings = False,
) -> None:  # fmt: skip
    """Run imagery; the command's help says how."""
    inputs = ParadigmFiles(Paradigm.IMAGERY, schedule, settings, images, names, choices=choices or ())
    _play(
        inputs, PlaybackOptions(out, server, report_to, key, backend, speed, ready_file, name=name), show=show_settings
    )


@stimulus.command(
    help="""Run closed-loop imagery: the decoder's result is shown with each volume, or after the block.

    What is imagined is the schedule's; where it names nothing, the participant chooses and names it afterwards (with
    --choice), or the operator types `target ID`. With --conditions the feedback may be sham, or none, and nobody is
    told; `rtgod unblind` opens the file after the session."""
    + _SAVING
)
def feedback(
    schedule: Events, bundle: Bundle = None, names: Names = None, images: Images = None, pictures: Pictures = None,
    choices: Choices = None, settings: SettingsFile = None, conditions: Conditions = None, run: RunNumber = None,
    recordings: Recordings = None, out: Out = Path("journals"),
    server: From = PUBLISH, report_to: To = INGEST, key: Key = None, backend: Where = Backend.AUTO,
    speed: Speed = 1.0, ready_file: ReadyFile = None, name: ClientName = None, show_settings: ShowSettings = False,
) -> None:  # fmt: skip
    """Run closed-loop imagery; the command's help says how."""
    inputs = ParadigmFiles(Paradigm.FEEDBACK, schedule, settings, images, names, bundle, pictures, choices or ())
    playback = PlaybackOptions(
        out, server, report_to, key, backend, speed, ready_file, conditions, run, name, recordings or ()
    )
    _play(inputs, playback, show=show_settings)


@stimulus.command()
def plan(
    paradigm: Annotated[Paradigm, typer.Argument(help="What kind of runs.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder for the schedules. Not for --dry-run.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Training, test: images, named n01234567_89.png.")
    ] = None,
    categories: Annotated[
        Path | None, typer.Option(metavar="TSV", help="Imagery, feedback: categories, a column category_id.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How many; for training, else, as many as the images fill.")
    ] = None,
    free: Annotated[
        int, typer.Option(min=0, metavar="N", help="Feedback: trials in each run that are the participant's choice.")
    ] = 0,
    subject: Annotated[str, typer.Option(help="Label, as in BIDS.")] = "01",
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="The same seed gives the same schedules.")] = 0,
    settings: SettingsFile = None,
    show_settings: ShowSettings = False,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the schedules of runs as BIDS events tables, counterbalanced.

    Durations are those of Horikawa & Kamitani (2017), unless the settings' table [protocol] says others.
    """
    if not re.fullmatch("[A-Za-z0-9]+", subject):
        raise InputError(f"--subject {subject}: a label has letters and digits only")
    chosen = DisplaySettings.from_toml(settings) if settings else DisplaySettings()
    if show_settings:
        options.show_settings(chosen)
        return
    protocol = chosen.protocol
    rng = np.random.default_rng([seed, list(Paradigm).index(paradigm)])

    def name(number: int, task: str) -> str:
        return f"sub-{subject}_ses-{paradigm}_task-{task}_run-{number:02d}"

    if free and paradigm is not Paradigm.FEEDBACK:
        raise InputError(f"--free: in a run of {paradigm} nothing is the participant's choice")
    if paradigm in (Paradigm.TRAINING, Paradigm.TEST):
        dealt = _deal_images(paradigm, images, runs, protocol, rng)
        schedules = [perception_run(name(n, "perception"), run, protocol, rng) for n, run in enumerate(dealt, 1)]
    else:
        make: Callable[[str, Sequence[str], ProtocolSettings], Schedule]
        make = imagery_run if paradigm is Paradigm.IMAGERY else feedback_run
        dealt_ids = _deal_categories(categories, runs or 1, free, protocol, rng)
        schedules = [make(name(n, paradigm), run, protocol) for n, run in enumerate(dealt_ids, 1)]
    files = [f"{schedule.name}{EVENTS_SUFFIX}" for schedule in schedules]
    if not dry_run:
        options.check_new(options.needed_out(out), files, overwrite=overwrite)
    for file, schedule in zip(files, schedules, strict=True):
        path = file if out is None else out / file
        if not dry_run:
            write_plan(Path(path), schedule)
        tell(f"{path}: {schedule.n_volumes} volumes, {schedule.duration_s / 60:.1f} min")
    if out is not None and (earlier := _other_runs(out, paradigm, files)):
        tell(f"of an earlier plan, and still in {out}: {', '.join(earlier[:3])}{', …' if len(earlier) > 3 else ''}")
    if dry_run:
        options.say_output(out, "these schedules", files, overwrite=overwrite, console=PlainConsole())


def _other_runs(folder: Path, paradigm: Paradigm, files: Sequence[str]) -> list[str]:
    """Names of schedules of the same kind in a folder that are not among the files, in their order."""
    paths = folder.glob(f"*_ses-{paradigm}_*{EVENTS_SUFFIX}") if folder.is_dir() else ()
    return sorted(path.name for path in paths if path.name not in files)


def _deal_images(
    paradigm: Paradigm, folder: Path | None, n_runs: int | None, protocol: ProtocolSettings, rng: np.random.Generator
) -> list[list[Image]]:
    """Deal images to runs: training shows each image once, in runs of equal length.

    Test runs, and more training runs than the images fill, show images again.
    """
    if folder is None:
        raise InputError("which images? Give their folder with --images")
    shown = images_to_show(find_images(folder))
    for line in images_left_out(folder):
        tell(line)
    n_filled = -(-len(shown) // protocol.n_images)
    if paradigm is Paradigm.TRAINING and (n_runs or 0) <= n_filled:
        return deal_images(shown, -(-len(shown) // n_filled), rng)[:n_runs]
    return deal(shown, n_runs or 1, min(protocol.n_images, len(shown)), rng)


def _deal_categories(
    table: Path | None, n_runs: int, n_free: int, protocol: ProtocolSettings, rng: np.random.Generator
) -> list[list[str]]:
    """Deal categories to the trials of each run; an empty one is the participant's choice."""
    if n_free > protocol.n_trials:
        raise InputError(f"--free {n_free}: a run has {protocol.n_trials} trials")
    if table is None:
        raise InputError("which categories? Give a table of them with --categories")
    dealt = deal(list(read_names(table)), n_runs, protocol.n_trials - n_free, rng)
    for run in dealt:
        for position in sorted(rng.choice(protocol.n_trials, n_free, replace=False).tolist()):
            run.insert(position, "")
    return dealt


@stimulus.command()
def preview(
    paradigm: Annotated[Paradigm, typer.Argument(help="What kind of run.")],
    schedule: Events,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder for the pictures.")] = None,
    images: Images = None, names: Names = None, bundle: Bundle = None, pictures: Pictures = None,
    choices: Choices = None, settings: SettingsFile = None, show_settings: ShowSettings = False,
    overwrite: Overwrite = False,
) -> None:  # fmt: skip
    """Save every kind of screen of a run as a PNG, each word and image on contact sheets, and a figure of its timeline.

    Feedback is drawn as the settings' table [feedback] has it. Nothing is opened: no window, no X server, no server.
    """
    from rtgod.pictures.fonts import Face
    from stimulus.drawing.lettering import find_font, lettering
    from stimulus.drawing.raster import PreviewStage
    from stimulus.drawing.sheets import earlier_previews, save_sheets
    from stimulus.paradigm.preview import save_screens, save_timeline

    inputs = ParadigmFiles(paradigm, schedule, settings, images, names, bundle, pictures, choices or ())
    if show_settings:
        options.show_settings(inputs.read_settings())
        return
    chosen, candidates = inputs.read_settings(), inputs.read_candidates()
    script = inputs.read_script(chosen, candidates)
    earlier = earlier_previews(out) if out is not None else []
    out = options.needed_out(out)
    options.check_new(out, earlier, overwrite=overwrite)
    for name in earlier:  # a picture of another run would be taken for one of this
        (out / name).unlink()
    if chosen.monitor.width_cm is None or chosen.monitor.distance_cm is None:
        chosen = chosen.model_copy(update={"monitor": chosen.monitor.model_copy(update=_USUAL)})
        tell(f"a screen of {_USUAL['width_cm']:g} cm at {_USUAL['distance_cm']:g} cm is drawn: the settings do not say")
    font_file = chosen.font_file or find_font(chosen.language)
    stage, fonts = PreviewStage(chosen.monitor, font_file=font_file), [Face(lettering(font_file, False, 10).path)]
    for line in (*find_letters(stage, script, chosen), *load(stage, script)):
        tell(line)
    paths = save_screens(script, stage, out)
    sheets, remarks = save_sheets(script, stage, out)
    for line in remarks:
        tell(line)
    if lacking := list(dict.fromkeys(save_timeline(script.schedule, script.names, out / "timeline.png", fonts))):
        listed, n = ", ".join(lacking[:3]), number_of(len(lacking), "name")
        tell(f"timeline.png: no font has the letters of {listed} ({n}); boxes stand for them")
    n_sheets = f"{len(sheets)} contact sheet" + "s" * (len(sheets) != 1)
    tell(f"{len(paths)} screens, {n_sheets} and timeline.png in {out}")


stimulus.command("seal")(seal)
