"""Other rtgod commands as processes to start and wait for; the demo and the rehearsal are built from them."""

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
#: Seconds between checks of the other processes while one is waited for.
_LOOK_S = 0.2
#: Seconds that a process may take to end when it was told to, or has nothing more to do.
STOP_TIMEOUT_S = 20.0


class PartError(RtgodError):
    """Failure of a command, which has printed the reason itself."""


class CommandProcess:
    """An rtgod command in a process of its own; a context manager that always stops it at the end.

    Parameters
    ----------
    *arguments : str
        Command-line arguments of `rtgod`.
    beside : sequence of CommandProcess
        Processes that this one needs: every wait for it fails as soon as one of them fails.
    lasting : bool
        Whether the command runs until it is stopped, as a server does; then an earlier end is a failure.
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
            If the command ends before, or is not ready in time, or a process that it needs fails.
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
            If the command fails, or does not end in time, or a process that it needs fails meanwhile.
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
        """Check that the command still runs, or has ended without failure.

        Raises
        ------
        PartError
            If the command failed, or ended although it is `lasting`.
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
    """Print the heading of the next step."""
    PlainConsole().rule(styled((text, "bold")), align="left")


def print_figures(title: str, figures: Mapping[str, object], units: Mapping[str, str] | None = None) -> None:
    """Print figures as a table.

    Parameters
    ----------
    title : str
    figures : mapping of str to object
    units : mapping of str to str, optional
        Unit of each figure, by the end of the figure's name.
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
    """Read the rows of a table that another command wrote."""
    return [row.cells for row in tsv.read_tsv(path).rows]
