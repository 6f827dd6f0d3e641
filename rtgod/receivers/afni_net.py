"""Receiver of AFNI's real-time protocol: sockets around `rtgod.receivers.afni`."""

from __future__ import annotations

import logging
import secrets
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rtgod.errors import InputError
from rtgod.messages import Array
from rtgod.protocol.clients import Sender
from rtgod.receivers.afni import AfniEnd, AfniRun, AfniStream, data_port_of
from rtgod.receivers.listening import Listening
from rtgod.receivers.live_runs import RunOptions
from rtgod.receivers.plain_runs import PlainRuns
from rtgod.text import number_of

log = logging.getLogger(__name__)

#: Ports that sources know.
CONTROL_PORT = 7961
#: Bytes that are read at once, and longest text on the control port.
_PIECE, _LONGEST_CONTROL = 2**18, 4096
#: A volume comes late after this time, in repetition times.
_LATE_TR = 1.5
_MOST_CONNECTIONS = 16
#: Pieces that are still read once it is stopped.
_MOST_READS = 64


@dataclass(slots=True, eq=False)
class _Connection:
    """A source on the control port, whose text is not whole yet."""

    text: bytearray


class AfniReceiver:
    """Listener for one source of images at a time.

    Parameters
    ----------
    listening : Listening
        Address of the control port. The data port is the one that a source names there.
    sender : Sender
    options : RunOptions
    tell : callable
        Shows the operator a line.
    clock : callable, optional
        Clock of monotonic seconds.

    Attributes
    ----------
    port : int
        The control port.

    Raises
    ------
    InputError
        If it cannot listen there.
    """

    def __init__(
        self,
        listening: Listening,
        sender: Sender,
        options: RunOptions,
        tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listening, self._options, self._tell, self._clock = listening, options, tell, clock
        self._runs = PlainRuns(sender, options, tell, clock)
        self._selector = selectors.DefaultSelector()
        self._control = self._listen(listening.port)
        self.port = int(self._control.getsockname()[1])
        self._data: socket.socket | None = None
        self._source: socket.socket | None = None
        self._stream = AfniStream()
        self._n_runs = 0
        # Sources give a run no identity but a name of their own, which may be a person's.
        self._session = secrets.token_hex(4)

    @property
    def n_sent(self) -> int:
        """Number of volumes that the server has on disk."""
        return self._runs.n_sent

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key in list(self._selector.get_map().values()):
            self._close(key.fileobj)  # type: ignore[arg-type] # only sockets are registered
        self._selector.close()

    def run(self, stopped: Callable[[], bool], poll_s: float = 0.02) -> None:
        """Receive until somebody stops it; what came by then is sent, with the end of the run.

        Parameters
        ----------
        stopped : callable
            Returns whether somebody has stopped it.
        poll_s : float
            Longest time between two looks at what is due, seconds.
        """
        while not stopped():
            self.step(poll_s)
        for _ in range(_MOST_READS):
            self.step(0.0)
        self._take(*self._stream.close())
        self._runs.close()

    def step(self, timeout_s: float) -> None:
        """Take what has come, and send the volumes that it completes.

        Parameters
        ----------
        timeout_s : float
            Longest wait for something to come, seconds.
        """
        for key, _ in self._selector.select(timeout_s):
            sock: socket.socket = key.fileobj  # type: ignore[assignment] # only sockets are registered
            try:
                if sock in (self._control, self._data):
                    self._accept(sock)
                elif sock is self._source:
                    self._read_images(sock)
                elif isinstance(key.data, _Connection):
                    self._read_control(sock, key.data)
            except InputError as error:
                self._tell(f"a source for AFNI was refused: {error}")
                self._drop(sock)
            except OSError as error:
                log.warning("a source for AFNI is lost: %s", error)
                self._drop(sock)
        self._runs.step()

    # ---------------------------------------------------------------- sockets

    def _listen(self, port: int) -> socket.socket:
        listener = self._listening.open(port)
        self._selector.register(listener, selectors.EVENT_READ)
        return listener

    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, address = listener.accept()
        except OSError:
            return  # it has gone again
        host, port = address[:2]
        is_full = len(self._selector.get_map()) >= _MOST_CONNECTIONS
        if is_full or not self._listening.may_connect(host):
            accepted.close()
            why = "too many are connected" if is_full else "name its network with --allow"
            log.warning("%s:%d is not allowed to connect; %s", host, port, why)
            return
        log.warning("%s:%d connects", host, port)
        accepted.setblocking(False)
        if listener is self._data:
            if self._source is not None:
                accepted.close()
                self._tell("another source sends images at the same time: refused")
                return
            self._source, self._stream = accepted, AfniStream(self._options.echo)
        self._selector.register(accepted, selectors.EVENT_READ, _Connection(bytearray()))

    def _read_control(self, sock: socket.socket, connection: _Connection) -> None:
        piece = sock.recv(_LONGEST_CONTROL)
        connection.text += piece
        text, nul, _ = connection.text.partition(b"\0")
        if nul or (not piece and text):
            port = data_port_of(bytes(text))
            if self._data is None or self._data.getsockname()[1] != port:
                if self._source is not None:
                    raise InputError("another one sends images on another port")
                if self._data is not None:
                    self._close(self._data)
                self._data = self._listen(port)
        elif piece and len(connection.text) < _LONGEST_CONTROL:
            return
        self._close(sock)

    def _read_images(self, sock: socket.socket) -> None:
        piece = sock.recv(_PIECE)
        for one in self._stream.feed(piece):
            self._take(one)
        if not piece:
            self._drop(sock)

    def _drop(self, sock: socket.socket) -> None:
        if sock is self._source:
            self._source = None
            self._take(*self._stream.close())
        self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        sock.close()

    # ---------------------------------------------------------------- runs

    def _take(self, *found: AfniRun | Array | AfniEnd) -> None:
        for one in found:
            if isinstance(one, AfniRun):
                self._begin(one)
            elif isinstance(one, AfniEnd):
                self._end(one)
            else:
                self._take_volume(one)

    def _begin(self, said: AfniRun) -> None:
        self._n_runs += 1
        run_id = f"afni-{self._n_runs}-{self._session}"
        self._runs.begin(run_id, said.tr_s, said.shape, said.affine, said.n_volumes)
        for note in said.notes:
            self._tell(f"{run_id}: {note}")

    def _take_volume(self, volume: Array) -> None:
        run, n_volumes = self._runs.run, self._runs.n_volumes
        late_s = self._clock() - self._runs.heard_s
        if run is not None and n_volumes and late_s > _LATE_TR * run.tr_s:
            n_lost = round(late_s / run.tr_s) - 1
            self._tell(
                f"{run.run_id}: volume {n_volumes + 1} came {late_s:.1f} s after the one before it: "
                f"{number_of(n_lost, 'volume')} may be lost, which this protocol does not tell"
            )
        self._runs.take(n_volumes, volume)

    def _end(self, end: AfniEnd) -> None:
        if self._runs.run is not None and end.n_lost_bytes:
            self._tell(f"{self._runs.run.run_id}: volume {self._runs.n_volumes + 1} is not whole: lost")
        self._runs.end()
