"""The command `rtgod status`: print a server's clients, current run, speed of answers and free disk space."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from rtgod.commands.options import Key
from rtgod.console import PlainConsole, styled

if TYPE_CHECKING:
    from rtgod.messages import Status


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
    from rtgod import api
    from rtgod.protocol.keys import read_client_key

    message = api.status(server, key=read_client_key(key) if key else None, patience_s=wait)
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
        last = "none yet" if status.last_index is None else f"volume {status.last_index + 1}"
        table.add_row("volumes", f"{status.n_taken} taken, the last: {last}")
    if status.latency_ms:
        median, late, longest = status.latency_ms
        table.add_row("answered in", f"{median:.1f} ms (99th percentile {late:.1f}, longest {longest:.1f})")
    table.add_row("journal", styled(f"{status.journal}, {status.disk_free_bytes / 1e9:.1f} GB left on its disk"))
    lines = [f"{client.client}, heard {client.heard_s:.1f} s ago" for client in status.clients] or [
        "no client has said that it is there"
    ]
    for label, line in zip_longest(["connected"], lines, fillvalue=""):
        table.add_row(label, styled(line))
    return table
