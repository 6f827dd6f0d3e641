"""Export by MURFI's vSend: a connection for each image, around `rtgod.senders.vsend`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ClassVar

from pydicom.uid import generate_uid

from rtgod.messages import Run, Volume
from rtgod.protocol.addresses import host_and_port
from rtgod.senders.connecting import connect, send_all
from rtgod.senders.export import Export
from rtgod.senders.voxels import Stored, VoxelRange, stored_as
from rtgod.senders.vsend import LAYOUT, image

USUAL_TARGET = "127.0.0.1:15000"
#: Longest wait for a receiver to close a connection, seconds.
_LONGEST_READ_S = 0.2


class VsendExport(Export):
    """Sender of images to MURFI, or to whatever listens as it does.

    Parameters
    ----------
    to : str
        HOST:PORT.
    patience_s : float
        How long it goes on trying when nobody answers, seconds.
    tell : callable
        Shows the operator a line.

    Raises
    ------
    InputError
        If `to` is no address.
    """

    name: ClassVar[str] = "vsend"

    def __init__(self, to: str, patience_s: float, tell: Callable[[str], object]) -> None:
        self._host, self._port = host_and_port(to, "--to", USUAL_TARGET)
        self._patience_s, self._tell = patience_s, tell
        self._run: Run | None = None
        self._series, self._stored = "", Stored("int16")

    def begin(self, run: Run, voxels: VoxelRange) -> Sequence[str]:
        """Begin a series.

        Parameters
        ----------
        run : Run
        voxels : VoxelRange
        """
        self._run, self._series = run, str(generate_uid(None))
        self._stored, rounded = stored_as(voxels)
        notes = [f"{rounded}; vSend does not say what a step is worth"] if rounded else []
        if (tr_ms := 1000 * run.tr_s) != round(tr_ms):
            notes.append(f"vSend has whole milliseconds: TR {tr_ms:g} ms is sent as {round(tr_ms)} ms")
        return notes

    def volume(self, volume: Volume, *, is_cut: bool = False) -> None:
        """Send an image; one that is cut ends with its connection.

        Parameters
        ----------
        volume : Volume
        is_cut : bool
        """
        if self._run is None:
            raise ValueError("no run was begun")
        content = image(self._run, self._series, volume.index, self._stored.of(volume.data))
        with connect(self._host, self._port, self._patience_s, self._tell) as connection:
            n_sent = (LAYOUT.size + len(content)) // 2 if is_cut else len(content)  # it is the voxels that are cut
            send_all(connection, content[:n_sent])
            _wait_until_read(connection)

    def end(self) -> None:
        """End the series, which no image says."""
        self._run = None

    def close(self) -> None:
        """Close nothing: every connection is closed at once."""


def _wait_until_read(connection: socket.socket) -> None:
    """Wait a moment until the receiver closes the connection: it may take few at a time."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(_LONGEST_READ_S)
        connection.recv(1)
