"""The command `rtgod watch`: send a running scan to a server, from the folder in which its files appear."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from rtgod.commands.options import ClientName, Key, console
from rtgod.console import styled


def watch(
    folder: Annotated[Path, typer.Argument(help="Folder in which the scanner's files appear; folders in it count.")],
    to: Annotated[str, typer.Option(help="The server's ingest address.")] = "tcp://127.0.0.1:5555",
    subject: Annotated[str, typer.Option(help="Subject label; the files' own name of the patient is never read.")] = (
        "unknown"
    ),
    events: Annotated[
        Path | None, typer.Option(help="Table of the trials of every run, with onsets from the first volume.")
    ] = None,
    corrected: Annotated[
        bool, typer.Option("--corrected", help="Take the images that the scanner corrected for motion.")
    ] = False,
    echo: Annotated[int, typer.Option(min=0, help="Echo to take, from 1, of series that have several.")] = 0,
    tr: Annotated[
        float | None, typer.Option(min=0.05, help="Repetition time in seconds, where the files give none.")
    ] = None,
    volumes: Annotated[
        int | None,
        typer.Option(min=1, help="Planned number of volumes of a run, after which it ends; default as the files say."),
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0, help="How many TR a missing volume is waited for once a later one is there.")
    ] = 2.0,
    poll: Annotated[
        bool, typer.Option("--poll", help="Only look, every 20 ms, and use no events of the system.")
    ] = False,
    key: Key = None,
    name: ClientName = None,
) -> None:
    """Send a running scan to a server, from the folder in which the scanner's files appear.

    Every functional run is sent, volume by volume, as soon as its files are complete; the next series is picked up by
    itself. Localizers, references, phase and derived images are left out, and each named once. Files that are there at
    the start are never opened, and nothing in the folder is changed. Ctrl-C ends the run and stops.
    """
    from rtgod.events.table import read_events
    from rtgod.protocol.clients import Sender
    from rtgod.protocol.keys import read_client_key
    from rtgod.receivers.arrivals import Arrivals
    from rtgod.receivers.live_runs import LiveRuns, RunOptions
    from rtgod.receivers.watcher import Watcher

    def tell(line: str) -> None:
        console.print(styled(line), soft_wrap=True)

    trials = read_events(events).trials if events else ()
    caught: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: caught.append(number))
    own_key = read_client_key(key) if key else None
    with (
        Arrivals(folder, with_events=not poll) as arrivals,
        Sender(to, patience_s=10.0, waiting=tell, key=own_key, name=name) as sender,
    ):
        tell(f"watching, with {arrivals.n_old} old files; volumes go to {to}")
        options = RunOptions(
            subject=subject,
            trials=trials,
            corrected=corrected,
            echo=echo,
            patience_tr=patience,
            tr_s=tr,
            n_volumes=volumes,
        )
        runs = LiveRuns(sender, options, tell)
        Watcher(arrivals, runs, tell).run(lambda: bool(caught))
        tell(f"{runs.n_sent} volumes sent")
