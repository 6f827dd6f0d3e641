"""The command `rtgod replay`: send a recorded run as if it came from the scanner."""

from __future__ import annotations

import math
import signal
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from rtgod.commands import options
from rtgod.commands.exports import ExportKind, ExportOptions, Style, play_run
from rtgod.commands.options import (
    ClientName,
    CountFrom,
    Discard,
    Echo,
    Key,
    ShowSettings,
    Waiting,
    chosen_counts,
    progress_bars,
    say,
)
from rtgod.text import number_of, plain, times

if TYPE_CHECKING:
    from rtgod.replay import Sent
    from rtgod.server.session import Session
    from rtgod.settings import EventsSettings, PipelineSettings
    from rtgod.sources import Source

_SERVER = "tcp://127.0.0.1:5555"
#: Seconds from the end of the last run to the end of the server.
_LAST_WORD_S = 0.5


def replay(
    run: Annotated[
        Path,
        typer.Argument(
            help="A 4-D NIfTI file, a Philips PAR file, or a folder of one series' DICOM files or of 3-D NIfTI files."
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option(
            help="The server's ingest address; default tcp://127.0.0.1:5555. With --as a folder, [TITLE@]HOST:PORT of "
            "a DICOM node, or HOST:PORT."
        ),
    ] = None,
    as_: Annotated[
        ExportKind | None,
        typer.Option(
            "--as", help="Play the run as such a sender, to rehearse a chain that receives it; needs no server."
        ),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:VOLUME",
            help="With --as: what goes wrong, such as late:12, late:12+3 (by 3 TR), doubled:20, missing:30, "
            "truncated:40, out-of-order:50 (volumes from 1), or missing:2%; several with commas between them.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="With --as: for what is drawn; default 0.")] = None,
    dicom_style: Annotated[
        Style | None,
        typer.Option(help="With --as dicom-folder or dicom-net: how volumes lie in files; default mosaic."),
    ] = None,
    chunks: Annotated[
        bool, typer.Option("--chunks", help="With --as dicom-folder: files grow in random pieces.")
    ] = False,
    speed: Annotated[float, typer.Option(min=0.01, help="Pace as a multiple of the scanner's.")] = 1.0,
    full_speed: Annotated[bool, typer.Option("--full-speed", help="As fast as the server takes it.")] = False,
    events: Annotated[
        Path | None, typer.Option(help="Trials; default the events.tsv beside the run, or in its folder.")
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            help="Which rows of the events are trials: calibration's TOML file, or the folder of its bundle; default "
            "as the server's bundle says."
        ),
    ] = None,
    merge_gap: Annotated[
        float | None,
        typer.Option(min=0, help="Rows of one label so many seconds apart are one trial; default by the table."),
    ] = None,
    discard: Discard = None,
    count_from: CountFrom = None,
    run_id: Annotated[str | None, typer.Option(help="Name of the run; default from the file.")] = None,
    subject: Annotated[str | None, typer.Option(help="Subject label; default from the file's name.")] = None,
    tr: Annotated[
        float | None,
        typer.Option(help="Repetition time in seconds, where the files give none or contradict each other."),
    ] = None,
    series: Annotated[int | None, typer.Option(help="SeriesNumber to take from a folder that holds several.")] = None,
    echo: Echo = "",
    key: Key = None,
    name: ClientName = None,
    again: Annotated[
        bool, typer.Option("--again", help="As another acquisition, though this server may have this run already.")
    ] = False,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to go on trying when the server does not answer.")
    ] = 600.0,
    log: Annotated[
        Path | None, typer.Option(help="TSV file to write: when each volume left and was acknowledged.")
    ] = None,
    show_settings: ShowSettings = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and stop.")] = False,
) -> None:
    """Send a recorded run to a server as if it came from the scanner.

    A volume leaves when its acquisition would have ended, and the next one only after the server has it on disk. What
    the server has already is not counted twice: an interrupted replay, started again, goes on where it was.

    With --as it is sent as a scanner, or a tool beside it, sends it: as DICOM files that appear in a folder, to a DICOM
    node (C-STORE), to AFNI's real-time plugin, to MURFI (vSend) or to Pyneal.
    """
    played = ExportOptions(
        kind=as_,
        to=to,
        style=dicom_style,
        in_pieces=chunks,
        faults=tuple(fault or ()),
        seed=seed,
        patience_s=patience,
    )
    played.check(
        {
            "--events": events,
            "--settings": settings,
            "--merge-gap": merge_gap is not None,
            "--discard": discard is not None,
            "--count-from": count_from is not None,
            "--run-id": run_id,
            "--key": key,
            "--name": name,
            "--again": again,
            "--log": log,
            "--show-settings": show_settings,
        }
    )
    from rtgod.sources import open_source
    from rtgod.sources.echoes import echo_of

    pace = math.inf if full_speed else speed
    if as_ is not None:  # what follows needs what a server computes with
        source = open_source(run, subject=subject, tr_s=tr, series=series, echo=echo_of(echo))
        play_run(source, played, pace, dry_run=dry_run)
        return
    from rtgod.events.table import cut_to_length
    from rtgod.protocol.clients import Sender
    from rtgod.protocol.keys import read_client_key
    from rtgod.replay import send_run
    from rtgod.server.tally import in_words
    from rtgod.sources.event_rules import COUNTS, agreed
    from rtgod.tsv import write_tsv

    counts = chosen_counts(discard, count_from)
    reading = _pipeline_settings(settings).events.model_copy(update=counts)
    if settings is not None:
        counts = {name: getattr(reading, name) for name in COUNTS}
    if merge_gap is not None:
        reading = reading.model_copy(update={"merge_gap_s": merge_gap})
    if show_settings:
        options.show_settings({"events": reading})
        return

    chosen_echo = echo_of(echo)

    def opened(rules: EventsSettings) -> Source:
        return open_source(
            run, events=events, reading=rules, run_id=run_id, subject=subject, tr_s=tr, series=series, echo=chosen_echo
        )

    source = opened(reading)
    if subject is not None and (note := _called_otherwise(subject, run)):
        say(f"{source.run.run_id}: {note}")
    is_chosen = settings is not None or merge_gap is not None
    if dry_run:
        _say_source(source, beyond=True)
        if source.read and not is_chosen:
            say(f"{source.read.path.name}: read as usual; a server may have a bundle that says otherwise (--settings)")
        cut, n_outside = cut_to_length(source.run)
        trials = number_of(len(cut.blocks), "trial") + (f" within it, {n_outside} after its end" if n_outside else "")
        grid = f"{source.run.n_volumes} volumes of {times(source.run.shape)}"
        say(f"{source.run.run_id}: {grid}, TR {source.run.tr_s:g} s, {trials}")
        return
    sent: list[Sent] = []
    acquisition = uuid.uuid4().hex if again else source.acquisition()
    own_key = read_client_key(key) if key else None
    progress = progress_bars()
    task = progress.add_task(plain(source.run.run_id), total=source.run.n_volumes)
    with (
        ExitStack() as stack,
        Sender(to or _SERVER, patience_s=patience, waiting=Waiting().say, key=own_key, name=name) as sender,
    ):
        rules = sender.ask_rules()
        source, remarks = agreed(source, opened, reading, rules, is_chosen=is_chosen, counts=counts)
        _say_source(source, beyond=False)  # `send_run` warns of trials after the run's end
        for line in remarks:
            say(line)
        for volume in send_run(source, sender, pace, acquisition=acquisition):
            if not sent:  # no progress bar before a volume was sent
                stack.enter_context(progress)
            sent.append(volume)
            progress.update(task, completed=volume.index + 1)  # volumes that are discarded pass, too
        answers, name_on_server = sender.answers, sender.name_of(source.run.run_id)
    if line := _what_was_there(sent):
        say(f"{name_on_server}: {line}")
    if answers:
        say(f"{name_on_server}: {number_of(sum(answers.values()), 'volume')} answered: {in_words(answers)}")
    if log:
        rows = [(volume.index, f"{volume.sent_utc_s:.6f}", f"{volume.acknowledged_utc_s:.6f}") for volume in sent]
        write_tsv(log, ("index", "sent_utc_s", "acknowledged_utc_s"), rows)


def _say_source(source: Source, *, beyond: bool) -> None:
    """Print where the trials of a run come from, and what is unusual in it; `beyond` is passed to `remarks_on`."""
    from rtgod.events.trials import remarks_on

    origin = f"trials from {source.events}" if source.events else "no table of events beside it or given with --events"
    say(f"{source.run.run_id}: {origin}")
    if source.read:
        for line in remarks_on([source.read], beyond=beyond):
            say(f"{source.read.path.name}: {line}")
    for note in source.notes:
        say(f"{source.run.run_id}: {note}")


def _what_was_there(sent: Sequence[Sent]) -> str:
    """Say how much of a run a server had before it was sent; empty if nothing."""
    n_had = sum(volume.had for volume in sent)
    if not n_had:
        return ""
    if n_had < len(sent):
        return f"the server had {n_had} of its {len(sent)} volumes; the others were sent now"
    return (
        "the server had this run already: nothing was sent, and what this call says of subject, events or settings "
        "does not count; send it as another acquisition with --again"
    )


def _called_otherwise(subject: str, path: Path) -> str:
    """Return a note if the file's name gives another subject than `subject`; otherwise an empty string."""
    from rtgod.fit import subject_label, subject_note
    from rtgod.sources.beside import subject_in

    in_file = subject_in(path)
    if subject_label(in_file) in ("", subject_label(subject)):
        return ""
    return subject_note(f"its name calls the subject {in_file}", subject)


def _pipeline_settings(path: Path | None) -> PipelineSettings:
    """Read the settings of a TOML file or of a bundle; return the default settings if `path` is None."""
    from rtgod.bundle import settings_of
    from rtgod.settings import PipelineSettings

    if path is None:
        return PipelineSettings()
    return settings_of(path) if path.is_dir() else PipelineSettings.from_toml(path)


class _StopFlag:
    """Test of whether to stop serving: after `n_runs` runs, or on SIGINT or SIGTERM while in its `with` block.

    After the last run it waits for `_LAST_WORD_S`: a connection closed with unread bytes loses the messages that are on
    their way, such as the acknowledgement of the run's end.
    """

    def __init__(self, session: Session, n_runs: int | None) -> None:
        self._session = session
        self._n_runs = n_runs
        self._signalled = False
        self._ended_s: float | None = None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        if self._n_runs is not None and self._session.n_runs_ended >= self._n_runs and self._ended_s is None:
            self._ended_s = time.monotonic()
        return self._signalled or (self._ended_s is not None and time.monotonic() >= self._ended_s + _LAST_WORD_S)

    def _on_signal(self, *_: object) -> None:
        self._signalled = True
