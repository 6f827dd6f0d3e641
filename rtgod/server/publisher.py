"""Publishing of the server's messages to all subscribers: in order, and no faster than subscribers take them in.

A subscriber's queue is short, so that one that does not read costs little memory; a burst, as when a thousand volumes
are found missing at once, would overflow it. So messages wait here until every queue has room, but not for long, as a
subscriber that stopped reading must not keep the others waiting.
"""

from __future__ import annotations

import math
import time
from collections import deque

import zmq

from rtgod.messages import Message
from rtgod.protocol.frames import Frame, to_frames

#: Longest wait, in seconds, for a subscriber whose queue is full; it then misses messages until it reads again.
_PATIENCE_S = 0.2
#: Messages sent in a row while a queue is full, and the pause after them, in seconds, so that the others keep up.
_AT_ONCE, _PAUSE_S = 25, 0.005
#: Seconds between two tries while messages wait.
_AGAIN_S = 0.001


class Publisher:
    """Publisher of messages to all subscribers of an XPUB socket.

    Parameters
    ----------
    socket : zmq.Socket
        XPUB socket; its option SNDHWM is the length of each subscriber's queue.

    Attributes
    ----------
    n_dropped : int
        Messages that may have been missed by a subscriber, because its queue was full.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._waiting: deque[list[Frame]] = deque()
        self._blocked_s = math.inf  # time since which the first message waits
        self._is_lossy = False
        self._n_at_once, self._next_s = 0, -math.inf
        self.n_dropped = 0
        # Without this, libzmq silently drops messages for a full queue.
        socket.setsockopt(zmq.XPUB_NODROP, 1)

    def send(self, message: Message) -> None:
        """Send a message after those that wait, without blocking.

        Parameters
        ----------
        message : Message
        """
        self._waiting.append(to_frames(message))
        self.flush()

    def flush(self) -> float:
        """Send what can be sent now.

        Returns
        -------
        float
            Seconds until `flush` should be called again; infinite if no message waits.
        """
        while self._waiting:
            now_s = time.monotonic()
            if now_s < self._next_s:
                return self._next_s - now_s
            if self._try(self._waiting[0]):
                self._blocked_s, self._is_lossy = math.inf, False
            else:
                self._blocked_s = min(self._blocked_s, now_s)
                if not self._is_lossy and now_s < self._blocked_s + _PATIENCE_S:
                    return _AGAIN_S
                self._is_lossy = True
                self._send_lossy(self._waiting[0], now_s)
            self._waiting.popleft()
        return math.inf

    def drain(self, timeout_s: float) -> None:
        """Send the messages that wait, before the socket is closed.

        Parameters
        ----------
        timeout_s : float
            Seconds after which messages that still wait are given up.
        """
        deadline_s = time.monotonic() + timeout_s
        while (pause_s := self.flush()) < math.inf and time.monotonic() < deadline_s:
            time.sleep(pause_s)

    def _try(self, frames: list[Frame]) -> bool:
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _send_lossy(self, frames: list[Frame], now_s: float) -> None:
        """Send a message to the subscribers whose queues have room."""
        self._socket.setsockopt(zmq.XPUB_NODROP, 0)
        self._socket.send_multipart(frames, zmq.NOBLOCK)
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        self.n_dropped += 1
        self._n_at_once += 1
        if self._n_at_once >= _AT_ONCE:
            self._n_at_once, self._next_s = 0, now_s + _PAUSE_S
