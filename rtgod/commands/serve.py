"""The command `rtgod serve`: build the server from the arguments, run it, and report when it is ready and ended.

Modules that take long to import are imported when the command runs, so that other commands start quickly.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
import os
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtgod.commands import options
from rtgod.commands.options import ShowSettings, console, say
from rtgod.commands.replay import _pipeline_settings, _StopFlag
from rtgod.console import styled
from rtgod.errors import InputError, ServerError
from rtgod.files import write_whole
from rtgod.text import number_of

if TYPE_CHECKING:
    from rtgod.server.server import Server


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
    afni_feedback: Annotated[
        str | None,
        typer.Option(
            metavar="HOST[:PORT]",
            help="Send motion and the ranking's numbers to a receiver of AFNI's feedback; port 53214 if none is given. "
            "docs/scanners.md says what is sent. Not encrypted.",
        ),
    ] = None,
    afni_top: Annotated[
        int, typer.Option(min=0, max=1000, help="Best categories in --afni-feedback: index in the bundle, and score.")
    ] = 5,
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
    from rtgod.feedback.afni_net import AfniFeedback, target_of

    target = target_of(afni_feedback) if afni_feedback else None
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
    session = Session(
        DecoderBundle.load(bundle) if bundle else None, PipelineSettings.from_toml(settings) if settings else None
    )
    if session.bundle and (delay_s := session.bundle.settings.response.delay_s):
        early = "before" if delay_s < 0 else "after"
        say(
            f"this decoder takes responses to come {abs(delay_s):g} s {early} the time that events say "
            "(response.delay_s), as in its training runs: count the onsets of live events in the same way"
        )
    warm_up()
    if supervised and not wait_for_go():
        return
    server_keys = read_server_keys(keys) if keys else None
    bundle_id = session.hello().bundle_id
    if resume_path:
        check_bundle(resume_path, bundle_id)
    sessions = Sessions(journal)
    path = resume_path or (None if new else sessions.unfinished(bundle_id))
    start, mark = sessions.next_start, sessions.folder
    with ExitStack() as stack:
        feedback = stack.enter_context(AfniFeedback(target, afni_top)) if target else None
        common = server_keys, blinded, start, mark, any_subject, feedback.take if feedback else None
        stop = stack.enter_context(_StopFlag(session, runs))
        if log:
            stack.enter_context(log_to(log))
        if path:
            resumed, trusted_bytes = go_on(path, session)
            writer = stack.enter_context(JournalWriter.resume(path, trusted_bytes))
            say(f"going on with {path}: {number_of(session.n_runs_ended, 'run')} ended")
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
        # What was made until now stays. To search it for garbage, as Python does at times, would delay a volume by more
        # than a tenth of a second.
        gc.freeze()
        stack.callback(gc.unfreeze)
        server.serve(stop)
        totals = server.totals()
        n_volumes = sum(totals.values())
        counts = f"{number_of(session.n_runs, 'run')}, {number_of(n_volumes, 'volume')}"
        say(f"ended: {counts}{': ' if totals else ''}{in_words(totals) if totals else ''}; the journal is {path}")


def _announce(server: Server, journal: Path, ready_file: Path | None, *, supervised: bool) -> None:
    """Report the server's addresses: on the terminal, in the ready file, and to the supervisor."""
    from rtgod.server.supervision import Ready, say_ready

    ingest, publish = server.endpoints.ingest, server.endpoints.publish
    ready = json.dumps(dataclasses.asdict(Ready(ingest, publish, str(journal.resolve()), server.n_starts, os.getpid())))
    if ready_file:
        try:
            write_whole(ready_file, ready)
        except InputError as error:
            if server.n_starts == 1:
                raise
            # A server that takes over from a dead one goes on although the ready file cannot be written.
            logging.getLogger(__name__).warning("%s", error)
    if supervised:
        say_ready(ready)
    line = styled("ready: volumes to ", (ingest, "bold"), ", rankings from ", (publish, "bold"), f", journal {journal}")
    console.print(line, soft_wrap=True)


def _supervise(context: typer.Context) -> int:
    """Run this command in a process that is started again when it dies; return the exit code."""
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
    """Rebuild the command's arguments from the values it was given, with `changes` by the names of parameters."""
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


def _set_threads(threads: int) -> None:
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    if threads > most:
        raise InputError(f"--threads {threads}: this machine has {most}")
    numba.set_num_threads(threads)
