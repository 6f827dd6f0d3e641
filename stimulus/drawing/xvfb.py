"""A private X server without a monitor, so that the display also runs without graphics: start, wait, stop."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from rtgod.errors import MissingDependencyError

#: Command that installs the packages for off-screen drawing on Debian and Ubuntu.
PACKAGES = "apt-get install xvfb libgl1-mesa-dri libglu1-mesa libgl1 libegl1"
START_S = 15.0
STOP_S = 5.0


def installed() -> bool:
    """Whether Xvfb is on the PATH."""
    return shutil.which("Xvfb") is not None


@contextmanager
def private_xvfb(width_px: int, height_px: int) -> Iterator[str]:
    """Run an Xvfb of our own for as long as the context lasts.

    Parameters
    ----------
    width_px, height_px : int
        Size of its only screen, pixels.

    Yields
    ------
    display : str
        Name of the server for the variable `DISPLAY`: a free one, which Xvfb itself found.

    Raises
    ------
    MissingDependencyError
        If Xvfb is not installed, or did not start within `START_S`.
    """
    program = shutil.which("Xvfb")
    if program is None:
        raise MissingDependencyError(f"drawing off screen needs Xvfb (Debian and Ubuntu: {PACKAGES})")
    read_end, write_end = os.pipe()
    screen = f"{width_px}x{height_px}x24"
    # -terminate: Xvfb also ends when its only client, this process, is killed and cannot stop it.
    command = [program, "-displayfd", str(write_end), "-screen", "0", screen, "-nolisten", "tcp", "-terminate"]
    with tempfile.TemporaryFile() as complaints, os.fdopen(read_end, "rb", buffering=0) as answer:
        try:
            # In a session of its own: Ctrl-C in a terminal must end the display first, not the X server beneath it.
            process = subprocess.Popen(  # noqa: S603 - a program found on the PATH, with arguments made of numbers
                command, pass_fds=(write_end,), stdout=subprocess.DEVNULL, stderr=complaints, start_new_session=True
            )
        finally:
            os.close(write_end)
        try:
            yield f":{_display_number(answer, complaints)}"
        finally:
            _stop(process)


@contextmanager
def offscreen(width_px: int, height_px: int) -> Iterator[None]:
    """Make this process, and no other, use a private Xvfb and Mesa's software renderer; at the end undo the change.

    Parameters
    ----------
    width_px, height_px : int
        Size of Xvfb's only screen, pixels.
    """
    with private_xvfb(width_px, height_px) as display:
        variables = {"DISPLAY": display, "LIBGL_ALWAYS_SOFTWARE": "1"}
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _display_number(answer: IO[bytes], complaints: IO[bytes]) -> int:
    """Read the display number, which Xvfb writes in one line when it is ready for connections."""
    line, deadline_s = b"", time.monotonic() + START_S
    while not line.endswith(b"\n"):
        if not select.select([answer], [], [], max(deadline_s - time.monotonic(), 0.0))[0]:
            raise MissingDependencyError(f"Xvfb did not start within {START_S:g} s")
        piece = answer.read(16)
        if not piece:
            complaints.seek(0)
            last_line = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
            raise MissingDependencyError(f"Xvfb cannot start: {''.join(last_line) or 'it gave no reason'}")
        line += piece
    return int(line)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_S)
