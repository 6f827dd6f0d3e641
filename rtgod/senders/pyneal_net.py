"""Export to Pyneal, or to whatever listens as it does: a ZeroMQ socket around `rtgod.senders.pyneal`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import nibabel as nib
import zmq

from rtgod.errors import ServerError
from rtgod.messages import Run, Volume
from rtgod.protocol.addresses import host_and_port
from rtgod.senders.connecting import until_it_works
from rtgod.senders.export import Export, StoppedError
from rtgod.senders.faults import Fault
from rtgod.senders.pyneal import HELLO, STOP, frames
from rtgod.senders.voxels import VoxelRange

USUAL_TARGET = "127.0.0.1:5550"
#: Longest wait for an answer before the operator is told, milliseconds.
_LOOK_MS = 1000


class PynealExport(Export):
    """Sender of volumes as Pyneal-Scanner sends them.

    Parameters
    ----------
    to : str
        HOST:PORT.
    patience_s : float
        How long it waits for an answer, seconds.
    tell : callable
        Shows the operator a line.

    Raises
    ------
    InputError
        If `to` is no address.
    """

    name: ClassVar[str] = "pyneal"
    impossible: ClassVar[Mapping[Fault, str]] = {Fault.TRUNCATED: "ZeroMQ gives a message whole or not at all"}

    def __init__(self, to: str, patience_s: float, tell: Callable[[str], object]) -> None:
        self._host, self._port = host_and_port(to, "--to", USUAL_TARGET)
        self._patience_s, self._tell = patience_s, tell
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IPV6, ":" in self._host)
        self._run: Run | None = None

    def begin(self, run: Run, voxels: VoxelRange) -> Sequence[str]:
        """Connect, and wait until the receiver has answered.

        Parameters
        ----------
        run : Run
        voxels : VoxelRange
        """
        del voxels  # every type can be sent
        self._run = run
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._socket.connect(f"tcp://{host}:{self._port}")
        self._ask(HELLO)
        axes = "".join(nib.aff2axcodes(run.affine))
        return [] if axes == "RAS" else [f"volumes are turned from {axes}+ to RAS+, as Pyneal-Scanner does"]

    def volume(self, volume: Volume, *, is_cut: bool = False) -> None:
        """Send a volume, and wait for its answer.

        Parameters
        ----------
        volume : Volume
        is_cut : bool
        """
        if self._run is None or is_cut:
            raise ValueError("no run was begun, or a volume is to be cut")
        if STOP in self._ask(*frames(self._run, volume)):
            raise StoppedError(f"the receiver asks to stop after volume {volume.index + 1}")

    def end(self) -> None:
        """End the run, which no message says."""
        self._run = None

    def close(self) -> None:
        """Close the socket."""
        self._context.destroy(linger=0)

    def _ask(self, *parts: bytes) -> bytes:
        """Send a message and return its answer."""
        where = f"{self._host}:{self._port}"

        def attempt() -> bytes | None:
            return self._socket.recv() if self._socket.poll(min(_LOOK_MS, round(1000 * self._patience_s))) else None

        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again as error:
            raise ServerError(f"{where}: takes no message; is another sender connected to it?") from error
        return until_it_works(attempt, where, self._patience_s, self._tell)
