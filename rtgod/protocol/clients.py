"""Clients of a server: a sender of volumes, a subscriber to answers, and a reporter of events."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, cast

import zmq

from rtgod.errors import InputError, RefusedError, ServerError, WireError
from rtgod.files import Closing
from rtgod.messages import (
    LONGEST_CLIENT,
    Acknowledged,
    Block,
    Deferred,
    Event,
    Message,
    NewBlock,
    Ping,
    Pong,
    Refused,
    Run,
    RunEnd,
    Volume,
    address_of,
)
from rtgod.protocol.client_connection import ClientConnection
from rtgod.protocol.frames import from_frames, to_frames
from rtgod.protocol.keys import ClientKey
from rtgod.protocol.restarts import OperatorNotice, RestartNotice
from rtgod.text import encodable, plain

log = logging.getLogger(__name__)

#: Seconds until a message that the server could not take is sent again.
_DEFERRED_S = 1.0
#: Seconds between the pings of a client.
_PING_S = 1.0
#: Interval of heartbeats, and the silence after which a peer counts as gone, as after a cut cable, and is reconnected.
_HEARTBEAT_MS, _HEARTBEAT_TIMEOUT_MS = 1000, 5000
#: Random characters at the end of a client's name, and most characters of the name that a user gives before them.
_N_CHANCE = 8
LONGEST_NAME = LONGEST_CLIENT - _N_CHANCE - 1
#: Most events that are sent before they are acknowledged; further ones wait.
_N_UNDER_WAY = 64
#: Refusals in a row after which no events are sent any more, until the connection is made again.
_N_REFUSALS = 10
#: Number of last pings that measure the offset between the two clocks; the fastest one counts.
_N_OFFSETS = 32


_Sent = Run | Volume | RunEnd | Ping
_Reply = Acknowledged | Refused | Deferred | Pong


class _Connection(Closing):
    """Base of the clients: one socket to a server, with reconnection and heartbeats."""

    def __init__(self, kind: int, address: str, key: ClientKey | None) -> None:
        self._context = zmq.Context()
        self._socket = socket = self._context.socket(kind)
        # Received messages wait in memory without limit; they are few, or are read all the time. A limit that stops
        # input would let heartbeats abort the process; see `rtgod.server.connection_guard`.
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _HEARTBEAT_MS)
        socket.setsockopt(zmq.SNDTIMEO, _HEARTBEAT_MS)
        # Queue nothing for a server that is not connected, as it is sent again anyway. Not for a subscriber, which
        # would lose messages received but not yet read when the server goes.
        socket.setsockopt(zmq.IMMEDIATE, int(kind == zmq.DEALER))
        try:
            self._entrance = ClientConnection(socket, address, key)
        except ServerError:
            self.close()
            raise

    def close(self) -> None:
        """Close the socket, and drop messages that were not acknowledged."""
        self._context.destroy(linger=0)

    def _receive(self) -> Message:
        return from_frames(self._socket.recv_multipart())

    def _send(self, message: Message, flags: int = 0) -> None:
        """Send a message; drop it if the connection was lost just now, as the caller sends it again without a reply."""
        with suppress(zmq.Again):
            self._socket.send_multipart(to_frames(message), flags)


class Sender(_Connection):
    """Client that sends the messages of runs, and waits until each is on the server's disk.

    Parameters
    ----------
    address : str
        The server's ingest address, such as tcp://127.0.0.1:5555.
    timeout_s : float
        Longest wait for an acknowledgement before sending again, in seconds.
    patience_s : float
        Longest time to keep trying, in seconds; a message that is not acknowledged by then is lost.
    waiting : callable, optional
        Function that is called with the reason after each failed try, and with news for the operator, such as that the
        server died and was started again, or that no volume can be aligned.
    key : ClientKey, optional
        Key for a server that asks for one.
    name : str, optional
        Name of this client for people to read; see `new_client_name`.

    Raises
    ------
    InputError
        If the name is blank or too long.
    ServerError
        If the address is malformed.

    Examples
    --------
    >>> import numpy as np
    >>> import rtgod
    >>> run = rtgod.Run("localizer", "01", tr_s=2.0, shape=(18, 20, 16), affine=np.diag([4.0, 4.0, 4.0, 1.0]))
    >>> with rtgod.Sender("tcp://127.0.0.1:5555") as sender:
    ...     _ = sender.send(run)
    ...     acknowledged = sender.send(rtgod.Volume(run.run_id, 0, 0.0, np.zeros(run.shape, np.int16)))
    ...     _ = sender.send(rtgod.RunEnd(run.run_id, n_volumes=1))
    >>> sender.answers
    {'bad volume': 1}
    >>> acknowledged.index, acknowledged.duplicate
    (0, False)
    """

    def __init__(
        self,
        address: str,
        timeout_s: float = 5.0,
        patience_s: float = 15.0,
        waiting: Callable[[str], object] = lambda why: None,  # noqa: ARG005 # nobody is told
        key: ClientKey | None = None,
        name: str | None = None,
    ) -> None:
        self._address = address
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._waiting = waiting
        self._name = new_client_name("source", name)
        self._pinged_s = -math.inf
        self._sent_on = 0
        self._restarts = RestartNotice()
        self._notices = OperatorNotice()
        self._taken_as: dict[str, str] = {}
        #: Counts of the answers to the volumes of the run that ended last; see `Acknowledged`.
        self.answers: dict[str, int] = {}
        super().__init__(zmq.DEALER, address, key)

    def send(self, message: Run | Volume | RunEnd) -> Acknowledged:
        """Deliver one message; it is sent again until it is acknowledged, and the server drops duplicates.

        If the server takes a run under another name, its volumes and its end are sent under that name.

        Parameters
        ----------
        message : Run, Volume or RunEnd
            A run first, then its volumes in order, then its end.

        Returns
        -------
        Acknowledged
            The server has the message on disk.

        Raises
        ------
        RefusedError
            If the server will not take the message.
        ServerError
            If no acknowledgement came in time.
        """
        run_id = message.run_id
        if not isinstance(message, Run):
            message = dataclasses.replace(message, run_id=self._taken_as.get(run_id, run_id))
        reply = cast("Acknowledged", self._deliver(message))  # a Pong answers a Ping alone
        if isinstance(message, Run) and reply.taken_as:
            self._taken_as[run_id] = reply.taken_as
        self._take_news(message, reply)
        return reply

    def name_of(self, run_id: str) -> str:
        """Return the name under which the server took a run.

        Parameters
        ----------
        run_id : str
            The run's own name.

        Returns
        -------
        str
            `run_id` with a number after it where another acquisition of that name came first, else `run_id`.
        """
        return self._taken_as.get(run_id, run_id)

    def ask_rules(self) -> Mapping[str, Any] | None:
        """Ask for the settings with which tables of events are read for the server's decoder.

        Returns
        -------
        mapping of str to value, or None
            The `events` of a `Pong`; None from a server without a bundle, or one that gives no settings.

        Raises
        ------
        RefusedError
            If the server refuses to answer.
        ServerError
            If no answer came in time.
        """
        self._pinged_s = time.monotonic()
        reply = self._deliver(Ping(self._name, "source", self._pinged_s))
        return reply.events if isinstance(reply, Pong) else None

    def _deliver(self, message: _Sent) -> Acknowledged | Pong:
        """Send a message until it is acknowledged, or the ping is answered; raise the errors of `send`."""
        give_up_s = time.monotonic() + self._patience_s
        n_garbled, last_words = 0, ""
        while True:
            reply = self._ask(message, min(self._timeout_s, give_up_s - time.monotonic()))
            if isinstance(reply, Refused) and reply.run_id:
                raise RefusedError(f"the server refused: {reply.why}")
            # A refusal without a name means that the server could not read the message. It may have been garbled on the
            # way and is sent again, at once only the first time, as this server may never be able to read it.
            n_garbled += isinstance(reply, Refused)
            if isinstance(reply, Acknowledged | Pong):
                return reply
            last_words = reply.why if reply else last_words
            why = reply.why if reply else self._entrance.why_not or self._silence()
            pause_s = _DEFERRED_S if isinstance(reply, Deferred) or n_garbled > 1 else 0.0
            if give_up_s - time.monotonic() <= pause_s:
                # The last try may have had hardly any time, so the server's last words are told, too.
                addition = f"; what it said last: {last_words}" if last_words and not reply else ""
                raise ServerError(f"no acknowledgement within {self._patience_s:g} s: {why}{addition}")
            self._waiting(why)
            self._reply_to(message, pause_s)

    def _take_news(self, message: Run | Volume | RunEnd, reply: Acknowledged) -> None:
        if isinstance(message, Run):
            self._notices = OperatorNotice()
            if reply.notice:
                self._waiting(f"the server says: {reply.notice}")
        elif news := self._notices.hear(reply.notice):
            self._waiting(news)
        if isinstance(message, RunEnd):
            self.answers = dict(reply.answers)

    def _ask(self, message: _Sent, timeout_s: float) -> _Reply | None:
        deadline_s = time.monotonic() + timeout_s
        # Nothing can be sent without a connection; this wait must end, too.
        if not self._entrance.poll(timeout_s, zmq.POLLOUT):
            return None
        # Another connection may lead to another server, so it is pinged at once.
        is_due = self._is_reconnected() or time.monotonic() >= self._pinged_s + _PING_S
        if is_due and not isinstance(message, Ping):
            self._pinged_s = time.monotonic()
            self._send(Ping(self._name, "source", self._pinged_s))
        # A message can be sent on the first connection before the monitor has reported it.
        self._sent_on = max(1, self._entrance.n_connections)
        self._send(message)
        return self._reply_to(message, deadline_s - time.monotonic())

    def _reply_to(self, message: _Sent, timeout_s: float) -> _Reply | None:
        """Wait for the reply to this message, and skip replies to earlier ones, which may have been sent twice.

        None if no reply comes in time, or if the connection was lost and made again, which loses messages on their way.
        """
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0 and self._entrance.poll(left_s, connection=self._sent_on):
            try:
                reply = self._receive()
            except WireError as error:
                self._waiting(f"the server's reply cannot be read ({error})")
                continue
            if isinstance(reply, Pong) and (news := self._restarts.hear(reply.n_starts)):
                self._waiting(news)
            addresses = [address_of(message)]
            if isinstance(reply, Refused):
                addresses.append(("", None))
            if isinstance(reply, Pong) and not isinstance(message, Ping):
                continue
            if isinstance(reply, Acknowledged | Refused | Deferred | Pong) and address_of(reply) in addresses:
                return reply
        return None

    def _is_reconnected(self) -> bool:
        """Return whether the connection used for the last message has been lost and made again."""
        return 0 < self._sent_on < self._entrance.n_connections

    def _silence(self) -> str:
        if self._is_reconnected():
            return f"the connection to {self._address} was lost and is there again; what was on its way is sent again"
        return f"no answer from {self._address}; is `rtgod serve` running there?"


class Reporter(_Connection):
    """Client that reports events to a server without ever waiting, and measures the offset between the two clocks.

    Events are kept, and sent again, until they are acknowledged; the oldest first, and no more than `_N_UNDER_WAY` at
    once. An event that the server refuses is dropped and counted. After many refusals in a row no events are sent; they
    are kept until another connection is made.

    Parameters
    ----------
    address : str
        The server's ingest address.
    kind : str
        Kind of this client, for people to read: "display".
    clock : callable, optional
        Clock by which events are timed, in seconds.
    key : ClientKey, optional
        Key for a server that asks for one.
    name : str, optional
        Name of this client for people to read; see `new_client_name`.

    Raises
    ------
    InputError
        If the name is blank or too long.
    ServerError
        If the address is malformed.
    """

    def __init__(
        self,
        address: str,
        kind: str,
        clock: Callable[[], float] = time.monotonic,
        key: ClientKey | None = None,
        name: str | None = None,
    ) -> None:
        self.name = new_client_name(kind, name)
        self._kind, self._clock = kind, clock
        self._unacknowledged: dict[int, Event | NewBlock] = {}
        self._number = self._next = 0  # number of the next event to make, and of the next to send for the first time
        self._n_due = 0  # events before it were sent before the last ping; they are lost if the next finds no reply
        self._n_refused = self._n_in_a_row = self._n_handshakes = 0
        self._told: set[str] = set()
        self._offsets: deque[tuple[float, float]] = deque(maxlen=_N_OFFSETS)
        self._pinged_s = -math.inf
        super().__init__(zmq.DEALER, address, key)

    @property
    def offset_s(self) -> float | None:
        """Seconds to add to this clock to get the server's (UTC), by the fastest of the last pings; None before any."""
        return min(self._offsets)[1] if self._offsets else None

    @property
    def offset_error_s(self) -> float | None:
        """Upper limit of the error of `offset_s`, in seconds; None before any ping was answered."""
        return min(self._offsets)[0] if self._offsets else None

    @property
    def n_unacknowledged(self) -> int:
        """Number of events that the server has not acknowledged yet."""
        return len(self._unacknowledged)

    @property
    def n_refused(self) -> int:
        """Number of events that the server refused; they are in no journal."""
        return self._n_refused

    def report(self, kind: str, at_s: float, run_id: str = "", value: str = "") -> None:
        """Report an event.

        Parameters
        ----------
        kind : str
            Kind of event, 1 to `LONGEST_CLIENT` characters: "shown".
        at_s : float
            Time of the event by this client's clock, in seconds.
        run_id : str
            The run in which it happened; empty between runs.
        value : str
            Further text, such as the image shown, of at most `rtgod.messages.LONGEST_VALUE` characters; may be empty.
        """
        self._put(Event(self.name, self._number, kind, at_s, self.offset_s, self.offset_error_s, run_id, value))

    def tell_block(self, run_id: str, block: Block) -> None:
        """Tell the server of a block of a run under way, whose source lists none.

        Parameters
        ----------
        run_id : str
            Name of the run, as the server publishes it.
        block : Block
            Begins no earlier than the blocks told before it end.
        """
        told = (block.onset_s, block.duration_s, block.label, block.imagined)
        self._put(NewBlock(self.name, self._number, run_id, *told))

    def _put(self, message: Event | NewBlock) -> None:
        self._number += 1
        self._unacknowledged[message.number] = message
        self._send_new()

    def poll(self) -> None:
        """Take in replies, and send pings and events that are due; call it once for each frame drawn."""
        while self._entrance.poll(0):
            received_s = self._clock()
            try:
                reply = self._receive()
            except WireError:
                continue  # a server of another version, which will refuse the ping, too
            match reply:
                case Pong() if reply.client == self.name:
                    half_s = (received_s - reply.sent_s) / 2
                    self._offsets.append((half_s, reply.server_utc_s - reply.sent_s - half_s))
                case Acknowledged() if reply.run_id == self.name and reply.index is not None:
                    self._n_in_a_row = 0
                    self._unacknowledged.pop(reply.index, None)
                case Refused():
                    self._take_refusal(reply)
        if self._entrance.n_connections != self._n_handshakes:
            self._n_handshakes, self._n_in_a_row = self._entrance.n_connections, 0
        now_s = time.monotonic()
        if now_s >= self._pinged_s + _PING_S:
            self._pinged_s = now_s
            self._send(Ping(self.name, self._kind, self._clock()), zmq.NOBLOCK)
            if not self._is_shunned:
                for event in self._under_way():
                    if event.number < self._n_due:
                        self._send(event, zmq.NOBLOCK)
            self._n_due = self._next
        self._send_new()

    @property
    def _is_shunned(self) -> bool:
        return self._n_in_a_row >= _N_REFUSALS

    def _under_way(self) -> list[Event | NewBlock]:
        return list(islice(self._unacknowledged.values(), _N_UNDER_WAY))

    def _send_new(self) -> None:
        """Send events for the first time, up to `_N_UNDER_WAY` without acknowledgement."""
        if self._is_shunned or self._next >= self._number:
            return
        for event in self._under_way():
            if event.number >= self._next:
                self._next = event.number + 1
                self._send(event, zmq.NOBLOCK)

    def _take_refusal(self, reply: Refused) -> None:
        """Count a refusal, and drop the event that it names; without a name, a message was garbled or not readable."""
        self._n_in_a_row += 1
        if reply.run_id == self.name and reply.index is not None:
            self._n_refused += self._unacknowledged.pop(reply.index, None) is not None
        if reply.why not in self._told and len(self._told) < _N_REFUSALS:
            self._told.add(reply.why)
            log.warning("the server refused what was reported: %s", reply.why)
        if self._n_in_a_row == _N_REFUSALS:
            log.warning(
                "the server refused %d reports in a row (%d so far): it is sent no more until the connection is made "
                "anew; what happens is in the tables here",
                _N_REFUSALS,
                self._n_refused,
            )


class Subscriber(_Connection):
    """Client that receives everything that a server publishes: Hello, Status, Run, answers, RunEnd, SessionEnd.

    Parameters
    ----------
    address : str
        The server's publish address, such as tcp://127.0.0.1:5556.
    key : ClientKey, optional
        Key for a server that asks for one.

    Raises
    ------
    ServerError
        If the address is malformed, or is not a loopback address and no key is given.
    """

    def __init__(self, address: str, key: ClientKey | None = None) -> None:
        super().__init__(zmq.SUB, address, key)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")

    def poll(self, timeout_s: float = 0.0) -> Message | None:
        """Return the next message, or None if none comes within `timeout_s`.

        Parameters
        ----------
        timeout_s : float
            Seconds; 0 to return at once.

        Raises
        ------
        WireError
            If a published message is not of this protocol.
        ServerError
            If the server turns this client away.
        """
        if not self._entrance.poll(timeout_s):
            return None
        return self._receive()


def new_client_name(kind: str, name: str | None = None) -> str:
    """Make a unique name of a client: the given name, or its kind and process id, followed by random characters.

    The computer's name is left out: it may reveal a person or a place, and a client's name goes into the journal.

    Parameters
    ----------
    kind : str
        Kind of the client: "source", "display".
    name : str, optional
        Name for people to read, 1 to `LONGEST_NAME` characters.

    Raises
    ------
    InputError
        If the name is blank or too long.
    """
    if name is None:
        name = f"{kind}-{os.getpid()}"
    elif not name.strip() or len(encodable(name)) > LONGEST_NAME:
        raise InputError(f"--name {plain(name, LONGEST_NAME)!r}: write 1 to {LONGEST_NAME} characters")
    return f"{encodable(name)}-{uuid.uuid4().hex[:_N_CHANCE]}"
