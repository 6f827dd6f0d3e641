"""The server: receives over ZeroMQ, journals, acknowledges, steps the session and publishes.

Two sockets: a ROUTER that sources talk to, each message answered by `Acknowledged` or `Refused`; and an XPUB that tells
every subscriber who the server is, which run is on, and every answer. One thread; every wait has an end.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import zmq

from rtgod import wire
from rtgod.errors import RefusedError, ServerError, WireError
from rtgod.files import Closing
from rtgod.journal import JournalWriter
from rtgod.messages import Acknowledged, Answer, Message, Ranking, Refused, Run, RunEnd, Volume
from rtgod.session import Incoming, Session

log = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
_HEARTBEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the server listens, with the port numbers that were chosen.

    Attributes
    ----------
    ingest : str
        For sources.
    publish : str
        For displays and monitors.
    """

    ingest: str
    publish: str


class Server(Closing):
    """Binds the sockets; `serve` runs until told to stop.

    Parameters
    ----------
    session : Session
    journal : JournalWriter
    ingest, publish : str
        Addresses such as tcp://127.0.0.1:5555; port * takes a free one.

    Raises
    ------
    ServerError
        If an address is beyond loopback, malformed, or in use.
    """

    def __init__(self, session: Session, journal: JournalWriter, ingest: str, publish: str) -> None:
        self._session = session
        self._journal = journal
        self._hello = session.hello()
        self._journal.append(self._hello)
        self._context = zmq.Context()
        try:
            self._ingest = self._bind(zmq.ROUTER, ingest)
            self._publish = self._bind(zmq.XPUB, publish)
        except ServerError:
            self._context.destroy(linger=0)
            raise
        # Subscribers that come late are told where things stand; a repeated subscription asks again.
        self._publish.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._last_answer: Answer | None = None
        self._next_heartbeat_s = 0.0
        self.endpoints = Endpoints(_endpoint(self._ingest), _endpoint(self._publish))

    def serve(self, should_stop: Callable[[], bool], idle_s: float = 0.1) -> None:
        """Handle messages until `should_stop()`, which is asked after each message and every `idle_s` seconds.

        Raises
        ------
        JournalError
            If a message cannot be written; it is then not acknowledged.
        """
        poller = zmq.Poller()
        poller.register(self._ingest, zmq.POLLIN)
        poller.register(self._publish, zmq.POLLIN)
        while not should_stop():
            ready = dict(poller.poll(math.ceil(idle_s * 1e3)))
            if self._publish in ready:
                self._publish.recv()
                self._welcome()
            if self._ingest in ready:
                identity, *frames = self._ingest.recv_multipart(copy=False)
                self._receive(identity.bytes, [frame.buffer for frame in frames])
            if time.monotonic() >= self._next_heartbeat_s:
                self._send_hello()

    def close(self) -> None:
        """Close the sockets; what was published and acknowledged still leaves within a second."""
        self._context.destroy(linger=1000)

    def _receive(self, identity: bytes, frames: list[memoryview]) -> None:
        start = time.perf_counter_ns()
        try:
            message = wire.from_frames(frames)
        except WireError as error:
            log.warning("refused a malformed message: %s", error)
            self._reply(identity, Refused("", None, str(error)))
            return
        if not isinstance(message, Run | Volume | RunEnd):
            self._reply(
                identity, Refused("", None, f"a server takes run, volume and run-end, not {type(message).__name__}")
            )
            return
        index = message.index if isinstance(message, Volume) else None
        if self._session.is_duplicate(message):
            self._reply(identity, Acknowledged(message.run_id, index, duplicate=True))
            return
        try:
            self._session.check(message)
        except RefusedError as error:
            log.warning("refused: %s", error)
            self._reply(identity, Refused(message.run_id, index, str(error)))
            return
        received_ms = (time.perf_counter_ns() - start) / 1e6
        start = time.perf_counter_ns()
        self._journal.append(message)
        self._journal.flush()
        self._reply(identity, Acknowledged(message.run_id, index))
        self._answer(message, {"receive": received_ms, "journal": (time.perf_counter_ns() - start) / 1e6})

    def _answer(self, message: Incoming, stage_ms: dict[str, float]) -> None:
        if isinstance(message, Run):
            log.info(
                "run %s: %s volumes, TR %g s", message.run_id, message.n_volumes or "unknown number of", message.tr_s
            )
            self._last_answer = None
            self._send(message)
        for answer, pattern in self._session.take(message):
            if isinstance(message, Volume) and answer.index == message.index:
                answer = dataclasses.replace(answer, stage_ms={**stage_ms, **answer.stage_ms})
            self._send(answer)
            self._last_answer = answer
            if pattern is not None:
                self._journal.append(pattern)
            self._journal.append(answer)
            log.info("%s", _one_line(answer))
        if isinstance(message, RunEnd):
            self._send(message)
            log.info("run %s: ended after %d volumes", message.run_id, message.n_volumes)

    def _welcome(self) -> None:
        self._send_hello()
        if self._session.run is not None:
            self._send(self._session.run)
        if self._last_answer is not None:
            self._send(self._last_answer)

    def _send_hello(self) -> None:
        self._send(self._hello)
        self._next_heartbeat_s = time.monotonic() + _HEARTBEAT_S

    def _send(self, message: Message) -> None:
        # A PUB socket never blocks: it drops for a subscriber that is too slow.
        self._publish.send_multipart(wire.to_frames(message))

    def _reply(self, identity: bytes, reply: Acknowledged | Refused) -> None:
        # A ROUTER drops what it cannot deliver; the source asks again.
        self._ingest.send_multipart([identity, *wire.to_frames(reply)])

    def _bind(self, kind: int, address: str) -> zmq.Socket[bytes]:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        well_formed = address.startswith("tcp://") and host and re.fullmatch(r"\*|[0-9]{1,5}", port)
        if not well_formed or (port != "*" and int(port) > 65535):
            raise ServerError(f"address {address!r}: write tcp://127.0.0.1:PORT, or :* for a free port")
        if host not in _LOOPBACK:
            raise ServerError(
                f"address {address}: beyond loopback a server must be authenticated, which this version cannot do yet; "
                "use tcp://127.0.0.1:PORT and an SSH tunnel"
            )
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.IPV6, int(":" in host))
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            why = (
                "is in use: is another server running? Choose another port"
                if error.errno == zmq.EADDRINUSE
                else str(error)
            )
            raise ServerError(f"address {address} {why}") from error
        return socket


def _endpoint(socket: zmq.Socket[bytes]) -> str:
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def _one_line(answer: Answer) -> str:
    total_ms = sum(answer.stage_ms.values())
    if isinstance(answer, Ranking):
        return (
            f"volume {answer.index}: {', '.join(answer.top[:3])} (from {answer.n_volumes} volumes, {total_ms:.1f} ms)"
        )
    return f"volume {answer.index}: not ready, {answer.reason} ({total_ms:.1f} ms)"
