"""Receiver of MURFI's vSend: sockets around `rtgod.receivers.protocols.vsend`, one connection an image."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import ClassVar

from rtgod.errors import InputError
from rtgod.receivers.listening import Listening
from rtgod.receivers.outbox import Destination, Outbox
from rtgod.receivers.protocols.plain_receiver import PIECE, PlainReceiver
from rtgod.receivers.protocols.vsend import VsendImage, VsendVolume
from rtgod.receivers.run_options import RunOptions

#: Port that senders know.
PORT = 15000
#: A connection that is silent for so long is closed, seconds.
_PATIENCE_S = 30.0


class VsendReceiver(PlainReceiver):
    """Listener for a scanner that sends each volume by a connection of its own; see `PlainReceiver`.

    Parameters
    ----------
    listening : Listening
    sender : Destination or Outbox
    options : RunOptions
    tell : callable
    clock : callable, optional
    """

    MOST_CONNECTIONS: ClassVar[int] = 3
    OTHERS_WAIT: ClassVar[bool] = True

    def __init__(
        self,
        listening: Listening,
        sender: Destination | Outbox,
        options: RunOptions,
        tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(listening, sender, options, tell, clock)
        self._images: dict[socket.socket, tuple[VsendImage, float]] = {}
        self._series = ""
        #: Number of runs that were begun of each series.
        self._n_begun = Counter[str]()

    def step(self, timeout_s: float) -> None:
        """Take what has come, and send the volumes that it completes; give up images that stop in the middle.

        Parameters
        ----------
        timeout_s : float
            Longest wait for something to come, seconds.
        """
        super().step(timeout_s)
        for sock, (_, heard_s) in list(self._images.items()):
            if self._clock() - heard_s > _PATIENCE_S:
                self._give_up(sock)

    # ---------------------------------------------------------------- sockets

    def _begin_connection(self, accepted: socket.socket, address: str) -> None:
        self._images[accepted] = VsendImage(), self._clock()
        self._log_host(address)

    def _read(self, sock: socket.socket) -> None:
        image, _ = self._images[sock]
        piece = sock.recv(PIECE)
        self._images[sock] = image, self._clock()
        if image.feed(piece) or not piece:
            self._take(image.volume())
            self._drop(sock)

    def _refuse(self, why: str) -> None:
        self._tell_once(f"an image is left out: {why}")

    def _drop(self, sock: socket.socket) -> None:
        self._images.pop(sock, None)
        self._close(sock)

    def _finish(self) -> None:
        for sock in list(self._images):
            self._give_up(sock)

    def _give_up(self, sock: socket.socket) -> None:
        self._tell("an image stopped in the middle: left out")
        self._drop(sock)

    # ---------------------------------------------------------------- runs

    def _take(self, volume: VsendVolume) -> None:
        if not self._is_wanted(volume.is_corrected):
            return
        shape = volume.data.shape
        if volume.series != self._series or self._runs.is_again(volume.index, volume.data):
            self._begin(volume)
        elif self._runs.run is not None and self._runs.run.shape != shape:
            raise InputError("its matrix differs from that of the run's first image")
        self._runs.take(volume.index, volume.data)

    def _begin(self, volume: VsendVolume) -> None:
        """Begin a run; one of a series that had one before has a name of its own."""
        n_before = self._n_begun[volume.series]
        run_id = f"vsend-{volume.series}" + (f"-restart-{n_before}" if n_before else "")
        self._runs.begin(run_id, volume.tr_s, volume.data.shape, volume.affine, volume.n_volumes)
        self._series = volume.series
        self._n_begun[volume.series] += 1
        if n_before:
            self._tell(
                f"{run_id}: images of a series that was sent come again: it was restarted, and what follows is another "
                "run"
            )
