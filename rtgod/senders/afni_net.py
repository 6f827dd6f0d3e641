"""Export to AFNI's real-time plugin, or to whatever listens as it does: sockets around `rtgod.senders.afni`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from rtgod.messages import Run, Volume
from rtgod.protocol.addresses import host_and_port
from rtgod.senders.afni import control_text, datum_of, end_of_run, image, run_text
from rtgod.senders.connecting import connect, send_all
from rtgod.senders.export import Export
from rtgod.senders.faults import Fault
from rtgod.senders.voxels import VoxelRange

_WHOLE = VoxelRange("int16", 0, 0, True)
USUAL_TARGET = "127.0.0.1:7961"
_NO_NUMBERS = "its images have no numbers, so that nobody could tell; late, missing and truncated can be played"


class AfniExport(Export):
    """Source of images for AFNI.

    Images go to the port before the control port, as AFNI pairs them.

    Parameters
    ----------
    to : str
        HOST:PORT of the control port.
    patience_s : float
        How long it goes on trying when nobody answers, seconds.
    tell : callable
        Shows the operator a line.

    Raises
    ------
    InputError
        If `to` is no address.
    """

    name: ClassVar[str] = "afni"
    impossible: ClassVar[Mapping[Fault, str]] = {Fault.DOUBLED: _NO_NUMBERS, Fault.OUT_OF_ORDER: _NO_NUMBERS}
    in_stream: ClassVar[bool] = True

    def __init__(self, to: str, patience_s: float, tell: Callable[[str], object]) -> None:
        self._host, self._control_port = host_and_port(to, "--to", USUAL_TARGET)
        self._patience_s, self._tell = patience_s, tell
        self._data: socket.socket | None = None
        self._run: Run | None = None
        self._datum, self._dtype = datum_of(_WHOLE)

    def begin(self, run: Run, voxels: VoxelRange) -> Sequence[str]:
        """Say where images will come, and of which run they will be.

        Parameters
        ----------
        run : Run
        voxels : VoxelRange
        """
        self._run = run
        self._datum, self._dtype = datum_of(voxels)
        self._open(run)
        return ()

    def volume(self, volume: Volume, *, is_cut: bool = False) -> None:
        """Send an image; one that is cut breaks the connection off, and the next begins another.

        Parameters
        ----------
        volume : Volume
        is_cut : bool
        """
        if self._run is None:
            raise ValueError("no run was begun")
        if self._data is None:
            self._open(replace(self._run, n_volumes=None))
        content = image(volume.data, self._dtype)
        send_all(self._opened(), content[: len(content) // 2] if is_cut else content)
        if is_cut:
            self.close()

    def end(self) -> None:
        """Send the end of the run."""
        if self._data is not None and self._run is not None:
            send_all(self._data, end_of_run(self._run, self._dtype))
        self.close()

    def close(self) -> None:
        """Close the connection."""
        data, self._data = self._data, None
        if data is not None:
            data.close()

    def _opened(self) -> socket.socket:
        if self._data is None:
            raise ValueError("not connected")
        return self._data

    def _open(self, run: Run) -> None:
        with connect(self._host, self._control_port, self._patience_s, self._tell) as control:
            send_all(control, control_text(self._host, self._control_port - 1))
        self._data = connect(self._host, self._control_port - 1, self._patience_s, self._tell)
        send_all(self._data, run_text(run, self._datum))
