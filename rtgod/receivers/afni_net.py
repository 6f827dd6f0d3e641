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
from rtgod.events.table import blocks_of
from rtgod.messages import Array, Run, RunEnd, Volume
from rtgod.protocol.clients import Sender
from rtgod.receivers.afni import AfniEnd, AfniRun, AfniStream, data_port_of
from rtgod.receivers.listening import Listening
from rtgod.receivers.live_runs import RunOptions
from rtgod.receivers.outbox import Outbox
from rtgod.sources import acquisition_id
from rtgod.text import number_of

log = logging.getLogger(__name__)

#: Ports that sources know.
CONTROL_PORT = 7961
#: Bytes that are read at once, and longest text on the control port.
_PIECE, _LONGEST_CONTROL = 2**18, 4096
#: A volume is missed after this time, and comes late after that, in repetition times.
_SILENCE_TR, _LATE_TR = 2.0, 1.5
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
        self._outbox = Outbox(sender, tell)
        self._selector = selectors.DefaultSelector()
        self._control = self._listen(listening.port)
        self.port = int(self._control.getsockname()[1])
        self._data: socket.socket | None = None
        self._source: socket.socket | None = None
        self._stream = AfniStream()
        self._run: Run | None = None
        self._n_volumes, self._n_runs, self._heard_s, self._is_silent = 0, 0, 0.0, False
        # Sources give a run no identity but a name of their own, which may be a person's.
        self._session = secrets.token_hex(4)

    @property
    def n_sent(self) -> int:
        """Number of volumes that the server has on disk."""
        return self._outbox.n_sent

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
        self._outbox.end()

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
        self._mind_silence()
        self._outbox.send()

    # ---------------------------------------------------------------- sockets

    def _listen(self, port: int) -> socket.socket:
        host = self._listening.host
        try:
            listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            raise InputError(f"{host}:{port}: cannot listen there ({error.strerror or error})") from error
        listener.setblocking(False)
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
            elif self._run is not None:
                self._take_volume(self._run, one)

    def _begin(self, said: AfniRun) -> None:
        tr_s = said.tr_s or self._options.tr_s
        if not tr_s:
            raise InputError("it does not say its TR; give it with --tr")
        self._n_runs += 1
        run_id = f"afni-{self._n_runs}-{self._session}"
        try:
            self._run = Run(
                run_id,
                self._options.subject,
                tr_s,
                said.shape,
                said.affine,
                self._options.n_volumes or said.n_volumes,
                blocks_of(self._options.trials, tr_s),
                acquisition_id(run_id, run_id),
            )
        except ValueError as error:
            raise InputError(str(error)) from error
        for note in said.notes:
            self._tell(f"{run_id}: {note}")
        self._outbox.put(self._run)
        self._n_volumes, self._heard_s, self._is_silent = 0, self._clock(), False

    def _take_volume(self, run: Run, volume: Array) -> None:
        now_s = self._clock()
        late_s = now_s - self._heard_s
        if self._n_volumes and late_s > _LATE_TR * run.tr_s:
            n_lost = round(late_s / run.tr_s) - 1
            self._tell(
                f"{run.run_id}: volume {self._n_volumes + 1} came {late_s:.1f} s after the one before it: "
                f"{number_of(n_lost, 'volume')} may be lost, which this protocol does not tell"
            )
        if self._is_silent:
            self._tell(f"{run.run_id}: volumes come again")
        self._heard_s, self._is_silent = now_s, False
        self._outbox.put(Volume(run.run_id, self._n_volumes, self._n_volumes * run.tr_s, volume))
        self._n_volumes += 1

    def _end(self, end: AfniEnd) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        if end.n_lost_bytes:
            self._tell(f"{run.run_id}: volume {self._n_volumes + 1} is not whole: lost")
        self._outbox.put(RunEnd(run.run_id, self._n_volumes))

    def _mind_silence(self) -> None:
        if self._run is None or self._is_silent or self._clock() - self._heard_s < _SILENCE_TR * self._run.tr_s:
            return
        self._is_silent = True
        self._tell(
            f"{self._run.run_id}: no volume for {_SILENCE_TR:g} TR, since volume {self._n_volumes}: did the scan stop, "
            "or does the source hang?"
        )
