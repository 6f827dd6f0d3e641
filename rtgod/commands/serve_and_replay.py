"""The commands `serve` and `replay`: arguments in, the right parts put together, progress out.

What takes long to import is imported when a command runs, so that the others start quickly.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import re
import signal
import sys
import time
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from rtgod.commands import options
from rtgod.commands.options import ShowSettings
from rtgod.console import PlainConsole, styled
from rtgod.errors import InputError, ServerError
from rtgod.files import write_whole
from rtgod.text import number_of, plain, times

if TYPE_CHECKING:
    from rtgod.messages import Status
    from rtgod.server.server import Server
    from rtgod.server.session import Session
    from rtgod.settings import EventsSettings, PipelineSettings
    from rtgod.sources import Source

console = PlainConsole(stderr=True)

#: From the end of the last run to the server's.
_LAST_WORD_S = 0.5
#: What a source waits for is said again after so long.
_SAY_AGAIN_S = 30.0

Key = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Key to connect with, where one is asked for.")]

ClientName = Annotated[
    str | None, typer.Option("--name", help="What `rtgod status` calls this client: 'scanner console'.")
]


def serve(
    context: typer.Context,
    bundle: Annotated[
        Path | None,
        typer.Argument(help="Decoder bundle from `rtgod calibrate`; without one, volumes are only aligned."),
    ] = None,
    ingest: Annotated[
        str, typer.Option(help="Where volumes come in; port * takes a free one. IPv6 in brackets: tcp://[::1]:5555.")
    ] = "tcp://127.0.0.1:5555",
    publish: Annotated[str, typer.Option(help="Where rankings go out.")] = "tcp://127.0.0.1:5556",
    journal: Annotated[Path, typer.Option(help="Folder for the journal of this session.")] = Path("journals"),
    new: Annotated[
        bool, typer.Option("--new", help="Begin a new session, though the last one in the folder was not ended.")
    ] = False,
    keys: Annotated[
        Path | None,
        typer.Option(help="Folder of keys (rtgod keys new): its clients alone get in. Needed beyond this machine."),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="TOML file with pipeline settings, for a server without a bundle.")
    ] = None,
    show_settings: ShowSettings = False,
    any_subject: Annotated[
        bool, typer.Option("--any-subject", help="Take runs of another subject than the bundle's, too.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads for the kernels; default all cores.")] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="JSON file to write when ready: endpoints, the journal's path, the process.")
    ] = None,
    blinded: Annotated[
        bool, typer.Option("--blinded", help="Log no ranking, whatever is logged: for who must not know how it goes.")
    ] = False,
    runs: Annotated[int | None, typer.Option(min=1, help="Stop after so many runs; default when interrupted.")] = None,
    log: Annotated[Path | None, typer.Option(help="File to add a line of JSON to for all that happens.")] = None,
    supervise: Annotated[
        bool, typer.Option("--supervise", help="Start the server again, at once, on its journal, should it die.")
    ] = False,
    resume_path: Annotated[Path | None, typer.Option("--resume", hidden=True, help="Journal to go on with.")] = None,
    supervised: Annotated[
        bool, typer.Option("--supervised", hidden=True, help="As a child; see `rtgod.server.supervision`.")
    ] = False,
) -> None:
    """Receive volumes, journal them, and publish a ranking for each.

    Every volume is on disk before it is acknowledged. Stop with Ctrl-C or SIGTERM. A server that was not stopped but
    died goes on where it was when it is started again with the same bundle and journal folder; --supervise does so
    within two seconds, and gives up after five deaths in a minute. For that it keeps a second server in memory.
    """
    if bundle and settings:
        raise InputError(
            "--settings is for a server without a bundle; a bundle brings the settings it was trained with"
        )
    if show_settings:
        options.show_settings(_pipeline_settings(bundle or settings))
        return
    if supervise:
        raise typer.Exit(_supervise(context))
    from rtgod.bundle import DecoderBundle
    from rtgod.journal.journal import JournalWriter, Sessions, check_bundle
    from rtgod.logs import log_to
    from rtgod.protocol.keys import read_server_keys
    from rtgod.server.resumption import go_on
    from rtgod.server.server import Server
    from rtgod.server.session import Session
    from rtgod.server.supervision import wait_for_go
    from rtgod.server.tally import in_words
    from rtgod.server.warmup import warm_up
    from rtgod.settings import PipelineSettings

    if threads:
        _set_threads(threads)
    # Read when the first kernel starts OpenMP: threads that spin while they wait would take the cores from the display
    # and the source, and be taken off them in turn, which made volumes several times later.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    session = Session(
        DecoderBundle.load(bundle) if bundle else None, PipelineSettings.from_toml(settings) if settings else None
    )
    warm_up()
    if supervised and not wait_for_go():
        return
    known = read_server_keys(keys) if keys else None
    bundle_id = session.hello().bundle_id
    if resume_path:
        check_bundle(resume_path, bundle_id)
    sessions = Sessions(journal)
    path = resume_path or (None if new else sessions.unfinished(bundle_id))
    start, mark = sessions.next_start, sessions.folder
    common = known, blinded, start, mark, any_subject
    with ExitStack() as stack:
        stop = stack.enter_context(_StopFlag(session, runs))
        if log:
            stack.enter_context(log_to(log))
        if path:
            resumed, trusted_bytes = go_on(path, session)
            writer = stack.enter_context(JournalWriter.resume(path, trusted_bytes))
            _say(f"going on with {path}: {number_of(session.n_runs_ended, 'run')} ended")
            server = stack.enter_context(Server(session, writer, ingest, publish, resumed, *common))
        else:
            path = journal / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.rtgod"
            writer = stack.enter_context(JournalWriter(path))
            try:
                server = Server(session, writer, ingest, publish, None, *common)
            except ServerError:
                writer.discard()
                raise
            stack.enter_context(server)
        _announce(server, path, ready_file, supervised=supervised)
        server.serve(stop)
        totals = server.totals()
        n_volumes = sum(totals.values())
        counted = f"{number_of(session.n_runs, 'run')}, {number_of(n_volumes, 'volume')}"
        _say(f"ended: {counted}{': ' if totals else ''}{in_words(totals) if totals else ''}; the journal is {path}")


def status(
    server: Annotated[
        str, typer.Option("--from", metavar="ADDRESS", help="Where the server publishes.")
    ] = "tcp://127.0.0.1:5556",
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    wait: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the server.")] = 5.0,
) -> None:
    """Say how a server is: who is connected, what runs, how fast it answers, how much room is left.

    The exit code is 1 if something keeps it from taking volumes, and 2 if it does not answer.
    """
    from rtgod.messages import Status
    from rtgod.protocol.clients import Subscriber
    from rtgod.protocol.keys import read_client_key

    deadline_s = time.monotonic() + wait
    with Subscriber(server, read_client_key(key) if key else None) as subscriber:
        while not isinstance(message := subscriber.poll(max(0.0, deadline_s - time.monotonic())), Status):
            if time.monotonic() >= deadline_s:
                raise ServerError(f"nothing was heard from {server} within {wait:g} s; is `rtgod serve` running there?")
    if as_json:
        print(json.dumps(dataclasses.asdict(message)))
    else:
        PlainConsole(is_table=True).print(_table_of(message))
    if message.problem:
        raise typer.Exit(1)


def _table_of(status: Status) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("state", styled((status.problem, "bold red")) if status.problem else "takes volumes")
    table.add_row("up for", f"{timedelta(seconds=round(status.uptime_s))}")
    if status.notice:
        table.add_row("notice", styled((status.notice, "yellow")))
    if status.n_refused:
        table.add_row("refused", f"{status.n_refused} messages; the server's log says why")
    if status.n_cut:
        table.add_row("cut", f"{status.n_cut} connections; the server's log says why")
    if status.n_starts > 1:
        table.add_row("starts", f"{status.n_starts}: the server died, and was started again on its journal")
    table.add_row("run", styled(status.run_id or "none yet"))
    if status.run_id:
        last = "none yet" if status.last_index is None else f"index {status.last_index}"
        table.add_row("volumes", f"{status.n_taken} taken, the last: {last}")
    if status.latency_ms:
        median, late, longest = status.latency_ms
        table.add_row("answered in", f"{median:.1f} ms (99th percentile {late:.1f}, longest {longest:.1f})")
    table.add_row("journal", styled(f"{status.journal}, {status.disk_free_bytes / 1e9:.1f} GB left on its disk"))
    clients = [f"{one.client}, heard {one.heard_s:.1f} s ago" for one in status.clients] or [
        "no client has said that it is there"
    ]
    for label, client in zip_longest(["connected"], clients, fillvalue=""):
        table.add_row(label, styled(client))
    return table


def replay(
    run: Annotated[Path, typer.Argument(help="A 4-D NIfTI file, or a folder of DICOM mosaics.")],
    to: Annotated[str, typer.Option(help="The server's ingest address.")] = "tcp://127.0.0.1:5555",
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
    run_id: Annotated[str | None, typer.Option(help="Name of the run; default from the file.")] = None,
    subject: Annotated[str | None, typer.Option(help="Subject label; default from the file's name.")] = None,
    tr: Annotated[
        float | None,
        typer.Option(help="Repetition time in seconds, where the files give none or contradict each other."),
    ] = None,
    series: Annotated[int | None, typer.Option(help="SeriesNumber to take from a folder that holds several.")] = None,
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
    """
    from rtgod.protocol.clients import Sender
    from rtgod.protocol.keys import read_client_key
    from rtgod.replay import Sent, send_run
    from rtgod.server.tally import in_words
    from rtgod.sources import open_source
    from rtgod.sources.event_rules import agreed
    from rtgod.tsv import write_tsv

    reading = _pipeline_settings(settings).events
    if merge_gap is not None:
        reading = reading.model_copy(update={"merge_gap_s": merge_gap})
    if show_settings:
        options.show_settings({"events": reading})
        return

    def opened(by: EventsSettings) -> Source:
        return open_source(run, events=events, reading=by, run_id=run_id, subject=subject, tr_s=tr, series=series)

    source = opened(reading)
    is_chosen = settings is not None or merge_gap is not None
    if dry_run:
        _say_source(source, beyond=True)
        if source.read and not is_chosen:
            _say(f"{source.read.path.name}: read as usual; a server may have a bundle that says otherwise (--settings)")
        trials = number_of(len(source.run.blocks), "trial")
        grid = f"{source.run.n_volumes} volumes of {times(source.run.shape)}"
        _say(f"{source.run.run_id}: {grid}, TR {source.run.tr_s:g} s, {trials}")
        return
    sent: list[Sent] = []
    name_column = TextColumn("{task.description}", markup=False)
    columns = (name_column, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    acquisition = uuid.uuid4().hex if again else source.acquisition()
    own_key = read_client_key(key) if key else None
    progress = Progress(*columns, console=console)
    task = progress.add_task(plain(source.run.run_id), total=source.run.n_volumes)
    with (
        ExitStack() as stack,
        Sender(to, patience_s=patience, waiting=_Waiting().say, key=own_key, name=name) as sender,
    ):
        source, remarks = agreed(source, opened, reading, sender.ask_rules(), is_chosen=is_chosen)
        _say_source(source, beyond=False)  # sending tells of those after the run's end
        for line in remarks:
            _say(line)
        for volume in send_run(source, sender, math.inf if full_speed else speed, acquisition=acquisition):
            if not sent:  # what cannot be sent has no progress
                stack.enter_context(progress)
            sent.append(volume)
            progress.advance(task)
        answers = sender.answers
    if answers:
        _say(f"{source.run.run_id}: {number_of(sum(answers.values()), 'volume')} answered: {in_words(answers)}")
    if log:
        rows = [(s.index, f"{s.sent_utc_s:.6f}", f"{s.acknowledged_utc_s:.6f}") for s in sent]
        write_tsv(log, ("index", "sent_utc_s", "acknowledged_utc_s"), rows)


def _say_source(source: Source, *, beyond: bool) -> None:
    """Say where a run's trials come from, and what is odd about it; `beyond` as of `remarks_on`."""
    from rtgod.events.trials import remarks_on

    told = f"trials from {source.events}" if source.events else "no table of events beside it or given with --events"
    _say(f"{source.run.run_id}: {told}")
    if source.read:
        for line in remarks_on([source.read], beyond=beyond):
            _say(f"{source.read.path.name}: {line}")
    for note in source.notes:
        _say(f"{source.run.run_id}: {note}")


def _pipeline_settings(path: Path | None) -> PipelineSettings:
    """The settings of a TOML file or of a bundle; the usual ones without either."""
    from rtgod.bundle import settings_of
    from rtgod.settings import PipelineSettings

    if path is None:
        return PipelineSettings()
    return settings_of(path) if path.is_dir() else PipelineSettings.from_toml(path)


class _Waiting:
    """Says why a source waits: once, and again when that has changed, or for long has not."""

    def __init__(self) -> None:
        self._said, self._said_s = "", -math.inf

    def say(self, why: str) -> None:
        """Say it, unless only numbers in it are new."""
        kind = re.sub(r"[0-9]+(\.[0-9]+)?", "0", why)
        if kind != self._said or time.monotonic() >= self._said_s + _SAY_AGAIN_S:
            self._said, self._said_s = kind, time.monotonic()
            _say(why)


def _say(text: str) -> None:
    console.print(styled(text), soft_wrap=True)


def _announce(server: Server, journal: Path, ready_file: Path | None, *, supervised: bool) -> None:
    """Say where the server listens: to people, to whoever waits for the ready file, and to who supervises it."""
    from rtgod.server.supervision import Ready, say_ready

    ingest, publish = server.endpoints.ingest, server.endpoints.publish
    ready = json.dumps(dataclasses.asdict(Ready(ingest, publish, str(journal.resolve()), server.n_starts, os.getpid())))
    if ready_file:
        try:
            write_whole(ready_file, ready)
        except InputError as error:
            if server.n_starts == 1:
                raise
            # A server that takes over matters more than who waits for a file on a full disk.
            logging.getLogger(__name__).warning("%s", error)
    if supervised:
        say_ready(ready)
    said = styled("ready: volumes to ", (ingest, "bold"), ", rankings from ", (publish, "bold"), f", journal {journal}")
    console.print(said, soft_wrap=True)


def _supervise(context: typer.Context) -> int:
    """Run this same command in a process that is started again when it dies; gives the exit code."""
    from rtgod.server.supervision import Ready, Supervisor

    verbose = ["--verbose"] if context.parent and context.parent.params["verbose"] else []

    def command(**changes: object) -> list[str]:
        arguments = arguments_of(context, supervise=False, supervised=True, **changes)
        return [sys.executable, "-m", "rtgod", *verbose, "serve", *arguments]

    def again(ready: Ready) -> list[str]:
        return command(ingest=ready.ingest, publish=ready.publish, resume_path=ready.journal, new=False)

    def say(line: str) -> None:
        console.print(styled((f"{datetime.now():%H:%M:%S} {line}", "bold")), soft_wrap=True)

    return Supervisor(command(), again, say).run()


def arguments_of(context: typer.Context, **changes: object) -> list[str]:
    """The arguments that give a command the values that it was given here, but for changes, by parameters' names."""
    options: list[str] = []
    positional: list[str] = []
    for parameter in context.command.params:
        value = {**context.params, **changes}.get(str(parameter.name))
        if getattr(parameter, "is_flag", False):
            options += parameter.opts[:1] if value else parameter.secondary_opts[:1]
        elif parameter.param_type_name == "argument":
            positional += [] if value is None else [str(value)]
        elif value is not None:
            options += [parameter.opts[0], str(value)]
    return [*options, "--", *positional]


class _StopFlag:
    """Says when to stop serving: after so many runs, or on SIGINT or SIGTERM while in its `with` block.

    After the last run it waits for `_LAST_WORD_S`: a connection that closes while something on it is unread takes along
    what was on its way, such as the acknowledgement of the run's end.
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


def _set_threads(threads: int) -> None:
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    if threads > most:
        raise InputError(f"--threads {threads}: this machine has {most}")
    numba.set_num_threads(threads)
