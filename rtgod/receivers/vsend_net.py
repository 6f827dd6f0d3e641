"""Receiver of MURFI's vSend: sockets around `rtgod.receivers.vsend`, one connection an image."""

from __future__ import annotations

import logging
import selectors
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rtgod.errors import InputError
from rtgod.protocol.clients import Sender
from rtgod.receivers.listening import Listening
from rtgod.receivers.live_runs import RunOptions
from rtgod.receivers.plain_runs import PlainRuns
from rtgod.receivers.vsend import VsendImage, VsendVolume

log = logging.getLogger(__name__)

#: Port that senders know.
PORT = 15000
#: Bytes that are read at once, and images that come at a time.
_PIECE, _MOST_CONNECTIONS = 2**18, 3
#: A connection that is silent for so long is closed, seconds.
_PATIENCE_S = 30.0
_MOST_READS = 64


class VsendReceiver:
    """Listener for a scanner that sends each volume by a connection of its own.

    Parameters
    ----------
    listening : Listening
    sender : Sender
    options : RunOptions
    tell : callable
        Shows the operator a line.
    clock : callable, optional
        Clock of monotonic seconds.

    Attributes
    ----------
    port : int

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
        self._listening, self._corrected, self._tell, self._clock = listening, options.corrected, tell, clock
        self._runs = PlainRuns(sender, options, tell, clock)
        self._selector = selectors.DefaultSelector()
        self._listener = listening.open()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self.port = int(self._listener.getsockname()[1])
        self._images: dict[socket.socket, tuple[VsendImage, float]] = {}
        self._series, self._told = "", set[str]()

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
            key.fileobj.close()  # type: ignore[union-attr] # only sockets are registered
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
        self._runs.close()

    def step(self, timeout_s: float) -> None:
        """Take what has come, and send the volumes that it completes.

        Parameters
        ----------
        timeout_s : float
            Longest wait for something to come, seconds.
        """
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self._listener:
                self._accept()
            else:
                self._read(key.fileobj)  # type: ignore[arg-type] # only sockets are registered
        for sock, (_, heard_s) in list(self._images.items()):
            if self._clock() - heard_s > _PATIENCE_S:
                self._tell("an image stopped in the middle: left out")
                self._close(sock)
        self._runs.step()

    def _accept(self) -> None:
        try:
            accepted, address = self._listener.accept()
        except OSError:
            return  # it has gone again
        host, port = address[:2]
        if not self._listening.may_connect(host) or len(self._images) >= _MOST_CONNECTIONS:
            accepted.close()
            log.warning(
                "%s:%d was not let in: too many are connected, or its network is not named with --allow", host, port
            )
            return
        if host not in self._told:
            self._told.add(host)
            log.warning("%s connects", host)
        accepted.setblocking(False)
        self._images[accepted] = VsendImage(), self._clock()
        self._selector.register(accepted, selectors.EVENT_READ)

    def _read(self, sock: socket.socket) -> None:
        image, _ = self._images[sock]
        try:
            piece = sock.recv(_PIECE)
            self._images[sock] = image, self._clock()
            if image.feed(piece) or not piece:
                self._close(sock)
                self._take(image.volume())
        except InputError as error:
            self._tell_once(f"an image is left out: {error}")
            self._close(sock)
        except OSError as error:
            log.warning("an image's connection is lost: %s", error)
            self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        if self._images.pop(sock, None) is not None:
            self._selector.unregister(sock)
            sock.close()

    def _take(self, volume: VsendVolume) -> None:
        if volume.is_corrected and not self._corrected:
            self._tell_once("images that the scanner corrected for motion are left out (--corrected takes them)")
            return
        if self._corrected and not volume.is_corrected:
            self._tell_once("images as acquired are left out, as --corrected takes the others")
            return
        shape = volume.data.shape
        if volume.series != self._series:
            self._runs.begin(f"vsend-{volume.series}", volume.tr_s, shape, volume.affine, volume.n_volumes)
            self._series = volume.series
        elif self._runs.run is not None and self._runs.run.shape != shape:
            raise InputError("its matrix differs from that of the run's first image")
        self._runs.take(volume.index, volume.data)

    def _tell_once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._tell(line)
