"""Receiver of Pyneal-Scanner's messages: sockets around `.pyneal`, with one sender at a time."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import LONGEST_TR_S, SHORTEST_TR_S, Float64Array
from rtgod.protocol.zmtp import PairConnection
from rtgod.receivers.listening import Listening
from rtgod.receivers.outbox import Destination, Outbox
from rtgod.receivers.protocols.plain_receiver import PIECE, PlainReceiver
from rtgod.receivers.protocols.pyneal import MOST_BYTES, PynealVolume, pyneal_volume
from rtgod.receivers.run_options import SILENCE_TR, RunOptions

#: Default port. Senders expect 5555, where rtgod's own server listens.
PORT = 5550
#: A peer that has not introduced itself after this time is turned away, seconds.
_PATIENCE_S = 10.0
_LONGEST_GREETING = 1024
#: Difference between affines of one place, mm: each is computed from a file of its own.
_SAME_MM = 1e-3


class PynealReceiver(PlainReceiver):
    """Listener for one Pyneal-Scanner at a time; see `PlainReceiver`.

    Parameters
    ----------
    listening : Listening
    sender : Destination or Outbox
    options : RunOptions
    tell : callable
    clock : callable, optional
    """

    MOST_CONNECTIONS: ClassVar[int] = 4

    def __init__(
        self,
        listening: Listening,
        sender: Destination | Outbox,
        options: RunOptions,
        tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(listening, sender, options, tell, clock)
        self._connections: dict[socket.socket, tuple[PairConnection, float]] = {}
        self._peer: socket.socket | None = None
        #: Shape and affine of the run's volumes; None before it has begun.
        self._place: tuple[tuple[int, ...], Float64Array] | None = None
        self._n_runs, self._session = 0, secrets.token_hex(4)

    def step(self, timeout_s: float) -> None:
        """Take what has come, and send the volumes that it completes; end a run whose sender is gone.

        Parameters
        ----------
        timeout_s : float
            Longest wait for something to come, seconds.
        """
        super().step(timeout_s)
        run = self._runs.run
        if run is not None and self._peer is None and self._clock() - self._runs.heard_s >= SILENCE_TR * run.tr_s:
            self._end_run()
        for sock, (connection, began_s) in list(self._connections.items()):
            if not connection.is_ready and self._clock() - began_s > _PATIENCE_S:
                self._refuse("it connects, and does not say what it is")
                self._drop(sock)
            elif connection.outgoing:
                self._write(sock)

    # ---------------------------------------------------------------- sockets

    def _begin_connection(self, accepted: socket.socket, address: str) -> None:
        self._log_host(address)
        if self._peer is not None:
            self._refuse("another one is connected")
            self._close(accepted)
            return
        self._connections[accepted] = PairConnection(2, MOST_BYTES), self._clock()
        self._write(accepted)

    def _read(self, sock: socket.socket) -> None:
        connection, _ = self._connections[sock]
        piece = sock.recv(PIECE)
        for message in connection.feed(piece):
            self._admit(sock)
            connection.send([self._answer(message)])
        if connection.is_ready:
            self._admit(sock)
        if piece:
            self._write(sock)
        else:
            self._drop(sock)

    def _admit(self, sock: socket.socket) -> None:
        """Let the first sender that has introduced itself be the one that is listened to."""
        if self._peer not in (None, sock):
            raise InputError("another one is connected")
        self._peer = sock

    def _write(self, sock: socket.socket) -> None:
        outgoing = self._connections[sock][0].outgoing
        try:
            del outgoing[: sock.send(outgoing)]
        except BlockingIOError:
            return  # the rest goes at the next step
        except OSError:
            self._drop(sock)

    def _refuse(self, why: str) -> None:
        self._tell_once(f"a sender for Pyneal was refused: {why}")

    def _drop(self, sock: socket.socket) -> None:
        connection, _ = self._connections.pop(sock, (None, 0.0))
        if sock is self._peer:
            self._peer = None
            if connection is not None and connection.is_within_message:
                self._tell("a volume stopped in the middle: left out")
        self._close(sock)

    def _finish(self) -> None:
        for sock in list(self._connections):
            self._drop(sock)

    # ---------------------------------------------------------------- runs

    def _answer(self, message: tuple[bytes, ...]) -> bytes:
        """Take a message, and return the answer for which its sender waits."""
        if len(message) == 1:
            if len(message[0]) > _LONGEST_GREETING:
                raise InputError("its greeting is too long")
            self._end_run()  # a sender begins with it, and its volumes are those of a new run
            return message[0]
        try:
            volume = pyneal_volume(*message)
            self._take(volume)
        except InputError as error:
            self._tell_once(f"a volume is left out: {error}")
            return b"refused"
        return f"received volIdx {volume.index}".encode()

    def _take(self, volume: PynealVolume) -> None:
        if self._is_other_run(volume):
            self._begin(volume)
        self._runs.hold(volume.index, volume.data)

    def _is_other_run(self, volume: PynealVolume) -> bool:
        if self._place is None:
            return True
        shape, affine = self._place
        if volume.data.shape != shape or not np.allclose(volume.affine, affine, rtol=0, atol=_SAME_MM):
            return True
        return self._runs.is_again(volume.index, volume.data)

    def _begin(self, volume: PynealVolume) -> None:
        tr_s = volume.tr_s
        if tr_s and not SHORTEST_TR_S <= tr_s <= LONGEST_TR_S:
            if self._options.tr_s is None:
                raise InputError(f"its TR of {tr_s:g} is none in seconds; give it with --tr")
            self._tell_once(f"a sender's TR of {tr_s:g} is none in seconds: that of --tr is taken")
            tr_s = 0.0
        run_id = f"pyneal-{self._n_runs + 1}-{self._session}"
        self._runs.begin(run_id, tr_s, volume.data.shape, volume.affine, None)
        self._n_runs += 1
        self._place = volume.data.shape, volume.affine

    def _end_run(self) -> None:
        self._runs.end()
        self._place = None
