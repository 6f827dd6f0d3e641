"""Sockets of plain protocols, whose senders connect to us: listened to in one thread, whoever is allowed to connect."""

from __future__ import annotations

import logging
import selectors
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Self

from rtgod.errors import InputError
from rtgod.receivers.listening import Listening
from rtgod.receivers.outbox import Destination, Outbox
from rtgod.receivers.plain_runs import PlainRuns
from rtgod.receivers.run_options import RunOptions

log = logging.getLogger(__name__)

#: Bytes that are read at once.
PIECE = 2**18
#: Silence of a connection after which the system asks whether its peer is there, time between two questions, seconds,
#: and number of questions without an answer after which it is closed. A dead sender keeps no other one out.
_ALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 5}
#: Different lines that are told once each.
_MOST_TOLD = 1000
#: Why a sender is refused while another one is listened to.
ANOTHER = "another one sends images at the same time"
#: Pieces that are still read once a receiver is stopped, and the longest wait for each, seconds.
_MOST_READS, _READ_S = 64, 0.02


class FirstToSpeak:
    """Connections of which the first that sends something is the speaker; the others have sent nothing yet.

    Who only looks whether anybody listens takes nobody's place.

    Parameters
    ----------
    n_most : int
        Number of silent connections of which the oldest makes room.

    Attributes
    ----------
    speaker : socket or None
    """

    def __init__(self, n_most: int) -> None:
        self._n_most = n_most
        self.speaker: socket.socket | None = None
        self._silent: list[socket.socket] = []

    def add(self, sock: socket.socket) -> socket.socket | None:
        """Take in a connection; return the one that makes room, if one must.

        Parameters
        ----------
        sock : socket
        """
        self._silent.append(sock)
        return self._silent[0] if len(self._silent) >= self._n_most else None

    def hear(self, sock: socket.socket) -> bool:
        """Note that a connection has sent something; return whether it is the speaker since now.

        Parameters
        ----------
        sock : socket

        Raises
        ------
        InputError
            If another one is the speaker.
        """
        if sock is self.speaker:
            return False
        if self.speaker is not None:
            raise InputError(ANOTHER)
        self._silent.remove(sock)
        self.speaker = sock
        return True

    def remove(self, sock: socket.socket) -> bool:
        """Forget a connection; return whether it was the speaker.

        Parameters
        ----------
        sock : socket
        """
        if sock is self.speaker:
            self.speaker = None
            return True
        if sock in self._silent:
            self._silent.remove(sock)
        return False


class PlainReceiver(ABC):
    """Listener for a protocol.

    Parameters
    ----------
    listening : Listening
    sender : Destination or Outbox
    options : RunOptions
    tell : callable
        Shows the operator a line.
    clock : callable, optional
        Clock of monotonic seconds.

    Attributes
    ----------
    port : int
        The port that it listens at.

    Raises
    ------
    InputError
        If it cannot listen there.
    """

    #: Senders that are connected at a time.
    MOST_CONNECTIONS: ClassVar[int]
    #: Whether further ones wait until one of them is done, as each brings an image; else they are turned away.
    OTHERS_WAIT: ClassVar[bool] = False

    def __init__(
        self,
        listening: Listening,
        sender: Destination | Outbox,
        options: RunOptions,
        tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listening, self._options, self._tell, self._clock = listening, options, tell, clock
        self._runs = PlainRuns(sender, options, tell, clock)
        self._selector = selectors.DefaultSelector()
        self._listeners: set[socket.socket] = set()
        #: Listeners at which connections wait, as there are too many.
        self._paused: list[socket.socket] = []
        self._told, self._hosts, self._turned_away = set[str](), set[str](), ""
        self.port = int(self._listen(listening.port).getsockname()[1])

    @property
    def n_sent(self) -> int:
        """Number of volumes that the server has on disk."""
        return self._runs.n_sent

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listen_again()
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
            if not self._selector.select(_READ_S):
                break
            self.step(0.0)
        self._finish()
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
                if sock in self._listeners:
                    self._accept(sock)
                elif sock.fileno() >= 0:  # it was not closed since it was selected
                    self._read(sock)
            except InputError as error:
                self._refuse(str(error))
                self._drop(sock)
            except OSError as error:
                log.warning("a connection is lost: %s", error)
                self._drop(sock)
        self._runs.step()

    def _listen(self, port: int) -> socket.socket:
        listener = self._listening.open(port)
        self._listeners.add(listener)
        self._selector.register(listener, selectors.EVENT_READ)
        return listener

    def _accept(self, listener: socket.socket) -> None:
        n_connected = len(self._selector.get_map()) - len(self._listeners) + len(self._paused)
        is_full = n_connected >= self.MOST_CONNECTIONS
        if is_full and self.OTHERS_WAIT:
            self._selector.unregister(listener)
            self._paused.append(listener)
            return
        try:
            accepted, address = listener.accept()
        except OSError:
            return  # it has gone again
        host, port = address[:2]
        if is_full or not self._listening.may_connect(host):
            accepted.close()
            why = "is turned away: too many are connected"
            if not is_full:
                why = "is not allowed to connect; name its network with --allow"
            if (turned_away := f"{host} {why}") != self._turned_away:
                self._turned_away = turned_away  # once, as some try again and again
                log.warning("%s", turned_away)
            return
        accepted.setblocking(False)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _ALIVE.items():
            if hasattr(socket, name):  # not every system has all of them
                accepted.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._selector.register(accepted, selectors.EVENT_READ)
        self._begin_connection(accepted, f"{host}:{port}")

    def _take_in(self, accepted: socket.socket, speakers: FirstToSpeak) -> None:
        """Take a connection in unless another one speaks; the oldest of many that are silent makes room."""
        if speakers.speaker is not None:
            self._close(accepted)
            self._refuse(ANOTHER)
        elif (oldest := speakers.add(accepted)) is not None:
            self._drop(oldest)

    def _close(self, sock: socket.socket) -> None:
        self._listeners.discard(sock)
        self._selector.unregister(sock)
        sock.close()
        self._listen_again()

    def _listen_again(self) -> None:
        for listener in self._paused:
            self._selector.register(listener, selectors.EVENT_READ)
        self._paused.clear()

    def _tell_once(self, line: str) -> None:
        if line not in self._told and len(self._told) <= _MOST_TOLD:
            self._told.add(line)
            self._tell(line if len(self._told) <= _MOST_TOLD else "more is odd than is told: is this the right sender?")

    def _log_host(self, address: str) -> None:
        """Log once who connects, where connections come again and again."""
        host = address.rpartition(":")[0]
        if host not in self._hosts:
            self._hosts.add(host)
            log.warning("%s connects", host)

    def _is_wanted(self, is_corrected: bool) -> bool:
        """Return whether images are taken: those that the scanner corrected for motion, or those as acquired."""
        if is_corrected and not self._options.corrected:
            self._tell_once("images that the scanner corrected for motion are left out (--corrected takes them)")
        elif self._options.corrected and not is_corrected:
            self._tell_once("images as acquired are left out, as --corrected takes the others")
        return is_corrected == self._options.corrected

    @abstractmethod
    def _begin_connection(self, accepted: socket.socket, address: str) -> None:
        """Take in a sender that has connected."""

    @abstractmethod
    def _read(self, sock: socket.socket) -> None:
        """Take what a sender has sent."""

    @abstractmethod
    def _refuse(self, why: str) -> None:
        """Say why a sender is not listened to."""

    @abstractmethod
    def _drop(self, sock: socket.socket) -> None:
        """Close a sender's connection, with what it began."""

    @abstractmethod
    def _finish(self) -> None:
        """End what senders have begun, as nobody listens any more."""
