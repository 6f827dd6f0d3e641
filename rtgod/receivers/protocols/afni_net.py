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
from rtgod.protocol.clients import Sender
from rtgod.receivers.listening import Listening
from rtgod.receivers.protocols.afni import AfniEnd, AfniRun, AfniStream, data_port_of
from rtgod.receivers.protocols.plain_receiver import PIECE, PlainReceiver
from rtgod.receivers.run_options import RunOptions

log = logging.getLogger(__name__)

#: Control port that sources know.
CONTROL_PORT = 7961
_LONGEST_CONTROL = 4096


class AfniReceiver(PlainReceiver):
    """Listener for one source of images at a time; see `PlainReceiver`.

    The port is the control port; the data port is the one that a source names there.

    Parameters
    ----------
    listening : Listening
    sender : Sender
    options : RunOptions
    tell : callable
    clock : callable, optional
    """

    MOST_CONNECTIONS: ClassVar[int] = 14

    def __init__(
        self,
        listening: Listening,
        sender: Sender,
        options: RunOptions,
        tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(listening, sender, options, tell, clock)
        self._data: socket.socket | None = None
        self._source: socket.socket | None = None
        self._stream = AfniStream()
        self._control: dict[socket.socket, bytearray] = {}
        self._n_runs = 0
        # Sources give a run no identity but a name of their own, which may be a person's.
        self._session = secrets.token_hex(4)

    # ---------------------------------------------------------------- sockets

    def _begin_connection(self, accepted: socket.socket, address: str) -> None:
        log.warning("%s connects", address)
        if accepted.getsockname()[1] != self._data_port():
            self._control[accepted] = bytearray()
        elif self._source is None:
            self._source, self._stream = accepted, AfniStream(self._options.echo)
        else:
            self._close(accepted)
            self._tell("another source sends images at the same time: refused")

    def _read(self, sock: socket.socket) -> None:
        if sock is not self._source:
            self._read_control(sock)
            return
        piece = sock.recv(PIECE)
        for one in self._stream.feed(piece):
            self._take(one)
        if not piece:
            self._drop(sock)

    def _read_control(self, sock: socket.socket) -> None:
        piece, whole = sock.recv(_LONGEST_CONTROL), self._control[sock]
        whole += piece
        text, nul, _ = whole.partition(b"\0")
        if nul or (not piece and text):
            port = data_port_of(bytes(text))
            if port != self._data_port():
                if self._source is not None:
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
        if sock is self._source:
            self._source = None
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
        self._runs.end()
