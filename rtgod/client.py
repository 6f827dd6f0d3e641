"""The two ends that talk to a server: a sender of volumes and a subscriber to answers."""

from __future__ import annotations

import math
import time

import zmq

from rtgod import wire
from rtgod.errors import RefusedError, ServerError
from rtgod.files import Closing
from rtgod.messages import Acknowledged, Message, Refused, Run, RunEnd, Volume


class Sender(Closing):
    """Sends a run's messages and waits until each is on the server's disk.

    Parameters
    ----------
    address : str
        The server's ingest address, such as tcp://127.0.0.1:5555.
    timeout_s : float
        How long to wait for an acknowledgement before sending again.
    n_tries : int
        How often to send before giving up.

    Raises
    ------
    ServerError
        If the address is malformed.
    """

    def __init__(self, address: str, timeout_s: float = 5.0, n_tries: int = 3) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._n_tries = n_tries
        self._context = zmq.Context()
        self._socket = _connect(self._context, zmq.DEALER, address)

    def send(self, message: Run | Volume | RunEnd) -> Acknowledged:
        """Deliver one message; it is sent again until it is acknowledged, and the server drops duplicates.

        Raises
        ------
        RefusedError
            If the server will not take it.
        ServerError
            If no acknowledgement came in time.
        """
        index = message.index if isinstance(message, Volume) else None
        for _ in range(self._n_tries):
            deadline_s = time.monotonic() + self._timeout_s
            # The socket's queue is full when a server has not been there for long: that wait must end, too.
            if self._socket.poll(math.ceil(self._timeout_s * 1e3), zmq.POLLOUT):
                self._socket.send_multipart(wire.to_frames(message))
            while (left_s := deadline_s - time.monotonic()) > 0 and self._socket.poll(math.ceil(left_s * 1e3)):
                reply = wire.from_frames(self._socket.recv_multipart())
                # Only a reply to this message counts: an earlier one that was sent twice is answered twice.
                if isinstance(reply, Refused) and (reply.run_id, reply.index) in ((message.run_id, index), ("", None)):
                    raise RefusedError(f"the server refused: {reply.why}")
                if isinstance(reply, Acknowledged) and (reply.run_id, reply.index) == (message.run_id, index):
                    return reply
        waited_s = self._n_tries * self._timeout_s
        raise ServerError(
            f"no acknowledgement from {self._address} within {waited_s:g} s; is `rtgod serve` running there?"
        )

    def close(self) -> None:
        """Close; what was not acknowledged is dropped."""
        self._context.destroy(linger=0)


class Subscriber(Closing):
    """Hears everything that a server publishes: Hello, Run, answers, RunEnd.

    Parameters
    ----------
    address : str
        The server's publish address, such as tcp://127.0.0.1:5556.

    Raises
    ------
    ServerError
        If the address is malformed.
    """

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket = _connect(self._context, zmq.SUB, address)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")

    def poll(self, timeout_s: float = 0.0) -> Message | None:
        """Return the next message, or None if none comes within `timeout_s`.

        Raises
        ------
        WireError
            If what was published is not of this protocol.
        """
        if not self._socket.poll(math.ceil(timeout_s * 1e3)):
            return None
        return wire.from_frames(self._socket.recv_multipart())

    def close(self) -> None:
        """Close the connection."""
        self._context.destroy(linger=0)


def _connect(context: zmq.Context[zmq.Socket[bytes]], kind: int, address: str) -> zmq.Socket[bytes]:
    socket = context.socket(kind)
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        context.destroy(linger=0)
        raise ServerError(f"address {address!r}: write tcp://HOST:PORT ({error})") from error
    return socket
