"""Other rtgod commands, run as processes of their own and waited for: what the demo and the rehearsal are made of."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from rich.table import Table

from rtgod import tsv
from rtgod.console import PlainConsole, styled
from rtgod.errors import RtgodError

_READY_TIMEOUT_S = 120.0
_STEP_TIMEOUT_S = 1800.0
#: While one process is waited for, the others are looked at so often.
_LOOK_S = 0.2
#: A process that was asked to end, or has nothing more to do, has so long.
STOP_TIMEOUT_S = 20.0


class PartError(RtgodError):
    """A command failed; it has said why."""


class CommandProcess:
    """An rtgod command in a process of its own; as a context manager it is stopped at the end, whatever happens.

    Parameters
    ----------
    *arguments : str
        Of `rtgod`.
    beside : sequence of CommandProcess
        Parts that this one needs: no wait for it outlasts them.
    lasting : bool
        Whether it is to run until it is stopped, as a server is, so that any end before is a failure.
    """

    def __init__(self, *arguments: str, beside: Sequence[CommandProcess] = (), lasting: bool = False) -> None:
        self._command = arguments[0]
        self._beside, self._lasting = beside, lasting
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
        """Wait until the command writes its ready file.

        Raises
        ------
        PartError
            If it ends before, or is not ready in time, or a part that it needs fails.
        """
        deadline_s = time.monotonic() + _READY_TIMEOUT_S
        while not path.exists():
            self._check_beside()
            if self._process.poll() is not None:
                raise PartError(f"`rtgod {self._command}` ended early; its own message is above")
            if time.monotonic() > deadline_s:
                raise PartError(f"`rtgod {self._command}` was not ready within {_READY_TIMEOUT_S:g} s")
            time.sleep(0.02)

    def wait_end(self, timeout_s: float) -> None:
        """Wait until the command has done its work.

        Raises
        ------
        PartError
            If it fails, or does not end in time, or a part that it needs fails meanwhile.
        """
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(min(left_s, _LOOK_S))
                self.check()
                return
            self._check_beside()
        raise PartError(f"`rtgod {self._command}` did not end within {timeout_s:g} s")

    def check(self) -> None:
        """See to it that the command runs, or has done its work.

        Raises
        ------
        PartError
            If it failed, or ended though it should last.
        """
        code = self._process.poll()
        if code:
            raise PartError(f"`rtgod {self._command}` failed with code {code}; its own message is above")
        if code == 0 and self._lasting:
            raise PartError(f"`rtgod {self._command}` ended early; its own message is above")

    def _check_beside(self) -> None:
        for part in self._beside:
            part.check()


def step(*arguments: str, beside: Sequence[CommandProcess] = ()) -> None:
    """Run one rtgod command to its end; `beside` as in `CommandProcess`."""
    with CommandProcess(*arguments, beside=beside) as part:
        part.wait_end(_STEP_TIMEOUT_S)


def heading(text: str) -> None:
    """Say which of the steps comes next."""
    PlainConsole().rule(styled((text, "bold")), align="left")


def print_figures(title: str, figures: Mapping[str, object], units: Mapping[str, str] | None = None) -> None:
    """Print figures as a table.

    Parameters
    ----------
    title : str
    figures : mapping of str to object
    units : mapping of str to str, optional
        What a figure counts, by the end of its name.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    if units:
        table.add_column("unit")
    for name, value in figures.items():
        unit = next((unit for end, unit in (units or {}).items() if name.endswith(end)), "")
        table.add_row(
            styled(name),
            f"{value:.4g}" if isinstance(value, float) else str(value),
            *([unit] if units else []),
        )
    PlainConsole().print(table)


def read_tsv(path: Path) -> list[Mapping[str, str]]:
    """Rows of a table that another command wrote."""
    return [row.cells for row in tsv.read_tsv(path).rows]
