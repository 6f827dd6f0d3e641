"""Other rtgod commands, run as processes of their own and waited for: what the demo and the rehearsal are made of."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.table import Table

from rtgod.errors import RtgodError
from rtgod.events import read_table

_READY_TIMEOUT_S = 120.0
_STEP_TIMEOUT_S = 1800.0
#: A process that was asked to end, or has nothing more to do, has so long.
STOP_TIMEOUT_S = 20.0


class PartError(RtgodError):
    """A command failed; it has said why."""


class Part:
    """An rtgod command in a process of its own; as a context manager it is stopped at the end, whatever happens."""

    def __init__(self, *arguments: str) -> None:
        self._command = arguments[0]
        self._process = subprocess.Popen(  # noqa: S603 # ourselves
            [sys.executable, "-m", "rtgod", *arguments], stdin=subprocess.DEVNULL
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def wait_for(self, path: Path) -> None:
        """Wait until the command writes its ready file."""
        deadline_s = time.monotonic() + _READY_TIMEOUT_S
        while not path.exists():
            if self._process.poll() is not None:
                raise PartError(f"`rtgod {self._command}` ended early; its own message is above")
            if time.monotonic() > deadline_s:
                raise PartError(f"`rtgod {self._command}` was not ready within {_READY_TIMEOUT_S:g} s")
            time.sleep(0.02)

    def wait_end(self, timeout_s: float) -> None:
        """Wait until the command has done its work."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise PartError(f"`rtgod {self._command}` did not end within {timeout_s:g} s") from error
        if code:
            raise PartError(f"`rtgod {self._command}` failed with code {code}; its own message is above")


def step(*arguments: str) -> None:
    """Run one rtgod command to its end."""
    with Part(*arguments) as part:
        part.wait_end(_STEP_TIMEOUT_S)


def heading(text: str) -> None:
    """Say which of the steps comes next."""
    Console().rule(f"[bold]{text}", align="left")


def print_figures(title: str, figures: Mapping[str, object]) -> None:
    """Print figures as a table."""
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(table)


def read_tsv(path: Path) -> list[Mapping[str, str]]:
    """Rows of a table that another command wrote."""
    return [row.cells for row in read_table(path)[1]]
