"""Sender of AFNI's feedback: a thread and a socket around `rtgod.feedback.afni`."""

from __future__ import annotations

import ipaddress
import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

from rtgod.errors import InputError, what_went_wrong
from rtgod.feedback.afni import END, hello, record
from rtgod.files import Closing
from rtgod.logs import RUNS
from rtgod.messages import Answer, Message, NotReady, Ranking, Run, RunEnd, SessionEnd
from rtgod.protocol.addresses import host_and_port
from rtgod.text import number_of, plain

log = logging.getLogger(__name__)
runs_log = logging.getLogger(RUNS)

#: Port that AFNI's receivers listen at.
PORT = 53214
#: Longest waits, in seconds: for a connection, for a receiver to take a volume's numbers, for the thread's end.
_CONNECT_S, _SEND_S, _CLOSE_S = 1.0, 1.0, 5.0
#: Least time between two attempts to connect, in seconds.
_AGAIN_S = 1.0
#: Bytes that are read at once of what a receiver should not send.
_PIECE = 4096


class Target(NamedTuple):
    """A receiver's address.

    Attributes
    ----------
    name : str
        HOST:PORT, for people.
    addresses : tuple of tuple
        Family and address of each socket address of the host, as `socket.getaddrinfo` gives them.
    """

    name: str
    addresses: tuple[tuple[socket.AddressFamily, Any], ...]


def target_of(text: str) -> Target:
    """Read a receiver's address, and look its name up.

    Parameters
    ----------
    text : str
        HOST or HOST:PORT; an IPv6 address with a port stands in brackets.

    Raises
    ------
    InputError
        If it is malformed, or no such host is known.
    """
    host, port = host_and_port(text, "--afni-feedback", f"192.168.2.5 or 192.168.2.5:{PORT}", port=PORT)
    is_ipv6 = text.startswith("[")
    try:
        if is_ipv6:
            ipaddress.IPv6Address(host)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise InputError(f"--afni-feedback {plain(text, 100)}: no such host ({what_went_wrong(error)})") from error
    name = f"[{host}]" if is_ipv6 else host
    return Target(f"{name}:{port}", tuple((family, address) for family, *_, address in found))


class AfniFeedback(Closing):
    """Sender of each answer to a receiver of AFNI's feedback, in a thread of its own.

    It connects when a run begins. While nobody listens, each volume's numbers are dropped, and the next tries again:
    they are of use at once or not at all. Each volume has its index with it.

    Parameters
    ----------
    target : Target
    n_top : int
        How many of the best categories are sent with each volume.
    clock : callable, optional
        Seconds, monotonic.
    """

    def __init__(self, target: Target, n_top: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._target, self._n_top, self._clock = target, n_top, clock
        self._queue: SimpleQueue[tuple[Message, bool] | None] = SimpleQueue()
        self._socket: socket.socket | None = None
        self._run: Run | None = None
        self._ended = ""
        self._last_index = -1
        self._n_sent = self._n_missed = 0
        self._again_s = 0.0
        self._told: set[str] = set()
        self._is_blinded = False
        self._thread = threading.Thread(target=self._work, name="AFNI feedback", daemon=True)
        self._thread.start()

    def take(self, message: Message, blinded: bool) -> None:
        """Take a message that the server publishes, without waiting.

        Parameters
        ----------
        message : Message
        blinded : bool
            Whether rankings must not be told to anybody but displays.
        """
        if isinstance(message, Run | RunEnd | Ranking | NotReady | SessionEnd) and self._thread.is_alive():
            self._queue.put((message, blinded))

    def close(self) -> None:
        """Send what waits and the end marker of a run that is under way, and close the connection."""
        self._queue.put(None)
        self._thread.join(_CLOSE_S)

    # ---------------------------------------------------------------- in the thread

    def _work(self) -> None:
        try:
            while (taken := self._queue.get()) is not None:
                self._handle(*taken)
            self._end()
        except Exception:
            log.exception("AFNI feedback has ended by a fault; the server goes on without it")

    def _handle(self, message: Message, blinded: bool) -> None:
        # The server publishes its last run, even an ended one, and its last answer again whenever a display subscribes.
        match message:
            case Run() if message.run_id not in (self._ended, self._run and self._run.run_id):
                self._end()
                self._run, self._last_index = message, -1
                self._connect()
            case Ranking() | NotReady() if self._run is not None and message.run_id == self._run.run_id:
                if message.index > self._last_index:
                    self._last_index = message.index
                    self._tell(message, self._run, blinded)
            case RunEnd():
                self._ended = message.run_id
                self._end()
            case SessionEnd():
                self._end()

    def _tell(self, answer: Answer, run: Run, blinded: bool) -> None:
        if blinded and not self._is_blinded:
            runs_log.info("AFNI feedback is of motion alone: the session is blinded")
        self._is_blinded = blinded
        if self._socket is None or self._has_gone(self._socket):
            self._connect()
        if self._send(record(answer, run, self._n_top, blinded=blinded)):
            self._n_sent += 1
        else:
            self._n_missed += 1

    def _connect(self) -> None:
        if self._run is None or self._clock() < self._again_s:
            return
        why = ""
        for family, address in self._target.addresses:
            connecting = socket.socket(family, socket.SOCK_STREAM)
            try:
                connecting.settimeout(_CONNECT_S)
                connecting.connect(address)
                connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                connecting.close()
                why = what_went_wrong(error)
            else:
                connecting.settimeout(_SEND_S)
                self._socket = connecting
                self._say(logging.INFO, f"goes to {self._target.name}")
                self._send(hello(self._n_top))
                return
        self._again_s = self._clock() + _AGAIN_S
        self._say(logging.WARNING, f"nobody takes it at {self._target.name} ({why}); the next volumes try again")

    def _has_gone(self, connected: socket.socket) -> bool:
        """Look whether the receiver has closed the connection, which sending would find out one volume late."""
        try:
            # Receivers say nothing: what can be read is the connection's end.
            if not select.select([connected], [], [], 0)[0] or connected.recv(_PIECE):
                return False
            why = "the receiver closed it"
        except OSError as error:
            why = what_went_wrong(error)
        self._lose(why)
        return True

    def _send(self, data: bytes) -> bool:
        """Send bytes; if that fails, close the connection, and return False."""
        if self._socket is None:
            return False
        try:
            self._socket.sendall(data)
        except OSError as error:  # a time-out, too: a receiver that has part of a record cannot read the next
            self._lose(what_went_wrong(error))
            self._again_s = self._clock() + _AGAIN_S
            return False
        return True

    def _lose(self, why: str) -> None:
        self._close()
        self._say(
            logging.WARNING, f"the connection to {self._target.name} was lost ({why}); the next volumes try again"
        )

    def _say(self, level: int, what: str) -> None:
        """Tell the operator something, once a run."""
        if self._run is not None and what not in self._told:
            self._told.add(what)
            runs_log.log(level, "run %s: AFNI feedback: %s", plain(self._run.run_id, 100), what)

    def _end(self) -> None:
        """End the connection of the run, if one is under way."""
        self._send(END)
        self._close()
        if self._run is not None and self._n_missed:
            n_volumes = number_of(self._n_sent + self._n_missed, "volume")
            missed = plain(self._run.run_id, 100), n_volumes, self._n_missed
            runs_log.warning("run %s: AFNI feedback: of %s, that of %d was not sent, as nobody took it", *missed)
        self._run, self._n_sent, self._n_missed, self._again_s = None, 0, 0, 0.0
        self._told.clear()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
