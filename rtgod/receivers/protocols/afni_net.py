"""Receiver of AFNI's real-time protocol: sockets around `rtgod.receivers.protocols.afni`."""

from __future__ import annotations

import logging
import secrets
import socket
import time
from collections.abc import Callable
from typing import ClassVar

from rtgod.errors import InputError
from rtgod.messages import Array
from rtgod.receivers.listening import Listening
from rtgod.receivers.outbox import Destination, Outbox
from rtgod.receivers.protocols.afni import AfniEnd, AfniRun, AfniStream, data_port_of
from rtgod.receivers.protocols.plain_receiver import PIECE, FirstToSpeak, PlainReceiver
from rtgod.receivers.run_options import RunOptions

log = logging.getLogger(__name__)

#: Control port that sources know.
CONTROL_PORT = 7961
_LONGEST_CONTROL = 4096
#: A source that does not say where its images will come is turned away after this time, seconds.
_PATIENCE_S = 10.0
#: Connections for images that have sent nothing, of which the oldest makes room.
_MOST_SILENT = 4


class AfniReceiver(PlainReceiver):
    """Listener for one source of images at a time; see `PlainReceiver`.

    The port is the control port; the data port is the one that a source names there.

    Parameters
    ----------
    listening : Listening
    sender : Destination or Outbox
    options : RunOptions
    tell : callable
    clock : callable, optional
    """

    MOST_CONNECTIONS: ClassVar[int] = 14

    def __init__(
        self,
        listening: Listening,
        sender: Destination | Outbox,
        options: RunOptions,
        tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(listening, sender, options, tell, clock)
        self._data: socket.socket | None = None
        self._sources = FirstToSpeak(_MOST_SILENT)
        self._stream = AfniStream()
        self._control: dict[socket.socket, tuple[bytearray, float]] = {}
        self._n_runs = 0
        # Sources give a run no identity but a name of their own, which may be a person's.
        self._session = secrets.token_hex(4)

    def step(self, timeout_s: float) -> None:
        """Take what has come, and send the volumes that it completes; turn away who says nothing.

        Parameters
        ----------
        timeout_s : float
            Longest wait for something to come, seconds.
        """
        super().step(timeout_s)
        for sock, (_, began_s) in list(self._control.items()):
            if self._clock() - began_s >= _PATIENCE_S:
                self._tell_once("a source for AFNI was refused: it connects, and does not say where its images come")
                self._drop(sock)

    # ---------------------------------------------------------------- sockets

    def _begin_connection(self, accepted: socket.socket, address: str) -> None:
        log.warning("%s connects", address)
        if accepted.getsockname()[1] != self._data_port():
            self._control[accepted] = bytearray(), self._clock()
        else:
            self._take_in(accepted, self._sources)

    def _read(self, sock: socket.socket) -> None:
        if sock in self._control:
            self._read_control(sock)
            return
        piece = sock.recv(PIECE)
        if not piece:
            self._drop(sock)
            return
        if self._sources.hear(sock):
            self._stream = AfniStream(self._options.echo)
        for one in self._stream.feed(piece):
            self._take(one)

    def _read_control(self, sock: socket.socket) -> None:
        piece, (whole, _) = sock.recv(_LONGEST_CONTROL), self._control[sock]
        whole += piece
        text, nul, _ = whole.partition(b"\0")
        if nul or (not piece and text):
            port = data_port_of(bytes(text))
            if port != self._data_port():
                if self._sources.speaker is not None:
                    raise InputError("another one sends images on another port")
                if self._data is not None:
                    self._close(self._data)
                self._data = self._listen(port)
        elif piece and len(whole) < _LONGEST_CONTROL:
            return
        self._drop(sock)

    def _data_port(self) -> int:
        """Return the port that images come to; 0 if no source has named it yet."""
        return 0 if self._data is None else int(self._data.getsockname()[1])

    def _refuse(self, why: str) -> None:
        self._tell(f"a source for AFNI was refused: {why}")

    def _drop(self, sock: socket.socket) -> None:
        self._control.pop(sock, None)
        if self._sources.remove(sock):
            self._finish()
        self._close(sock)

    def _finish(self) -> None:
        self._take(*self._stream.close())

    # ---------------------------------------------------------------- runs

    def _take(self, *found: AfniRun | Array | AfniEnd) -> None:
        for one in found:
            if isinstance(one, AfniRun):
                self._begin(one)
            elif isinstance(one, AfniEnd):
                self._end(one)
            else:
                self._runs.take_next(one)

    def _begin(self, said: AfniRun) -> None:
        self._n_runs += 1
        run_id = f"afni-{self._n_runs}-{self._session}"
        self._runs.begin(run_id, said.tr_s, said.shape, said.affine, said.n_volumes)
        for note in said.notes:
            self._tell(f"{run_id}: {note}")

    def _end(self, end: AfniEnd) -> None:
        if self._runs.run is not None and end.n_lost_bytes:
            self._tell(f"{self._runs.run.run_id}: volume {self._runs.n_volumes + 1} is not whole: lost")
        # With a source that speaks, it is this receiver that stops.
        self._runs.end(is_broken=not end.is_said and self._sources.speaker is None)
