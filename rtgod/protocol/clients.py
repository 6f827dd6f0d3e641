"""The ends that talk to a server: a sender of volumes, a subscriber to answers, a reporter of events."""

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
    Deferred,
    Event,
    Message,
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

#: A message that the server could not take is sent again after so long.
_DEFERRED_S = 1.0
#: A client says so often that it is there.
_PING_S = 1.0
#: A peer from whom nothing was heard for so long is gone, as when a cable was cut; then the connection is made anew.
_HEARTBEAT_MS, _HEARTBEAT_TIMEOUT_MS = 1000, 5000
#: Characters of chance at the end of a client's name, and how long what people call it may be before them.
_N_CHANCE = 8
LONGEST_NAME = LONGEST_CLIENT - _N_CHANCE - 1
#: So many events are on their way at once; the others wait for them to be acknowledged.
_N_UNDER_WAY = 64
#: After so many refusals in a row nothing is reported any more, until the connection is made anew.
_N_REFUSALS = 10
#: Offsets of the two clocks are measured by so many pings; the fastest counts.
_N_OFFSETS = 32


_Sent = Run | Volume | RunEnd | Ping
_Reply = Acknowledged | Refused | Deferred | Pong


class _Connection(Closing):
    """One socket to a server, and what all that talk to one do alike."""

    def __init__(self, kind: int, address: str, key: ClientKey | None) -> None:
        self._context = zmq.Context()
        self._socket = socket = self._context.socket(kind)
        # What a server sends waits in memory: replies, or what a display reads all the time. A bound that stops input
        # would let heartbeats abort the process; see `rtgod.server.connection_guard`.
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _HEARTBEAT_MS)
        socket.setsockopt(zmq.SNDTIMEO, _HEARTBEAT_MS)
        # Nothing is queued for a server that is not there: it is sent again anyway. A subscriber would lose what it has
        # received and not yet read when the server goes.
        socket.setsockopt(zmq.IMMEDIATE, int(kind == zmq.DEALER))
        try:
            self._entrance = ClientConnection(socket, address, key)
        except ServerError:
            self.close()
            raise

    def close(self) -> None:
        """Close; what was not acknowledged is dropped."""
        self._context.destroy(linger=0)

    def _receive(self) -> Message:
        return from_frames(self._socket.recv_multipart())

    def _send(self, message: Message, flags: int = 0) -> None:
        """Send, unless the connection was lost just now: whoever waits for a reply sends again."""
        with suppress(zmq.Again):
            self._socket.send_multipart(to_frames(message), flags)


class Sender(_Connection):
    """Sends runs' messages and waits until each is on the server's disk.

    Parameters
    ----------
    address : str
        The server's ingest address, such as tcp://127.0.0.1:5555.
    timeout_s : float
        How long to wait for an acknowledgement before sending again.
    patience_s : float
        How long to keep trying before giving up; what was not acknowledged is lost then.
    waiting : callable, optional
        Told, after each try in vain, why; and what the server's operator should know, such as that it died and was
        started again, or that no volume can be aligned.
    key : ClientKey, optional
        For a server that asks for one.
    name : str, optional
        What people call this client, as for `new_client_name`.

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
        #: What the volumes of the run that ended last came to; see `Acknowledged`.
        self.answers: dict[str, int] = {}
        super().__init__(zmq.DEALER, address, key)

    def send(self, message: Run | Volume | RunEnd) -> Acknowledged:
        """Deliver one message; it is sent again until it is acknowledged, and the server drops duplicates.

        A run that the server takes under another name keeps it: later volumes, and the end, are sent under that name.

        Raises
        ------
        RefusedError
            If the server will not take it.
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
        """Name under which the server took a run; `run_id` where it kept that."""
        return self._taken_as.get(run_id, run_id)

    def ask_rules(self) -> Mapping[str, Any] | None:
        """Ask how tables of events are read for the server's decoder.

        Returns
        -------
        mapping of str to value, or None
            As in `Pong`; None of a server without a bundle, or one that does not say.

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
        """Send a message until it is acknowledged, or the ping answered; errors as of `send`."""
        give_up_s = time.monotonic() + self._patience_s
        n_garbled, said = 0, ""
        while True:
            reply = self._ask(message, min(self._timeout_s, give_up_s - time.monotonic()))
            if isinstance(reply, Refused) and reply.run_id:
                raise RefusedError(f"the server refused: {reply.why}")
            # What it could not read it cannot name: that was garbled on the way, so it is sent again, as long as
            # patience lasts. Only the first time at once: it may be that this server never will read it.
            n_garbled += isinstance(reply, Refused)
            if isinstance(reply, Acknowledged | Pong):
                return reply
            said = reply.why if reply else said
            why = reply.why if reply else self._entrance.why_not or self._silence()
            pause_s = _DEFERRED_S if isinstance(reply, Deferred) or n_garbled > 1 else 0.0
            if give_up_s - time.monotonic() <= pause_s:
                # The last try may have had hardly any time.
                said = f"; what it said last: {said}" if said and not reply else ""
                raise ServerError(f"no acknowledgement within {self._patience_s:g} s: {why}{said}")
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
        # While there is no connection nothing can be sent: that wait must end, too.
        if not self._entrance.poll(timeout_s, zmq.POLLOUT):
            return None
        # Behind another connection there may be another server: it is asked at once.
        is_due = self._is_reconnected() or time.monotonic() >= self._pinged_s + _PING_S
        if is_due and not isinstance(message, Ping):
            self._pinged_s = time.monotonic()
            self._send(Ping(self._name, "source", self._pinged_s))
        # Something can be sent on the first connection before it is known that it was made.
        self._sent_on = max(1, self._entrance.n_connections)
        self._send(message)
        return self._reply_to(message, deadline_s - time.monotonic())

    def _reply_to(self, message: _Sent, timeout_s: float) -> _Reply | None:
        """The reply to this message: to an earlier one that was sent twice there may be two.

        None if none comes in time, or if the connection was lost and made again: what was on its way is gone then.
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
            own = [address_of(message)]
            if isinstance(reply, Refused):
                own.append(("", None))
            if isinstance(reply, Pong) and not isinstance(message, Ping):
                continue
            if isinstance(reply, Acknowledged | Refused | Deferred | Pong) and address_of(reply) in own:
                return reply
        return None

    def _is_reconnected(self) -> bool:
        """Whether the connection that was last sent on has been lost and made again."""
        return 0 < self._sent_on < self._entrance.n_connections

    def _silence(self) -> str:
        if self._is_reconnected():
            return f"the connection to {self._address} was lost and is there again; what was on its way is sent again"
        return f"no answer from {self._address}; is `rtgod serve` running there?"


class Reporter(_Connection):
    """Reports a client's events to a server, without ever waiting; measures how far apart the two clocks are.

    Events are kept, and sent again, until they are acknowledged; the oldest first, and no more than `_N_UNDER_WAY` at
    once. One that the server refuses is dropped and counted. A server that refuses many in a row is sent no more of
    them; they are kept until there is another connection.

    Parameters
    ----------
    address : str
        The server's ingest address.
    kind : str
        What reports, for people: "display".
    clock : callable, optional
        Seconds; what events are timed by.
    key : ClientKey, optional
        For a server that asks for one.
    name : str, optional
        What people call this client, as for `new_client_name`.

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
        self._unacknowledged: dict[int, Event] = {}
        self._number = self._next = 0  # the next to be made, and to be sent for the first time
        self._n_due = 0  # those before it were sent before the last ping: not acknowledged by the next, they are lost
        self._n_refused = self._n_in_a_row = self._n_handshakes = 0
        self._told: set[str] = set()
        self._offsets: deque[tuple[float, float]] = deque(maxlen=_N_OFFSETS)
        self._pinged_s = -math.inf
        super().__init__(zmq.DEALER, address, key)

    @property
    def offset_s(self) -> float | None:
        """What to add to the clock here for the server's (UTC), by the fastest of the last pings; None before any."""
        return min(self._offsets)[1] if self._offsets else None

    @property
    def offset_error_s(self) -> float | None:
        """No more than this can it be wrong, seconds."""
        return min(self._offsets)[0] if self._offsets else None

    @property
    def n_unacknowledged(self) -> int:
        """Events that the server has not confirmed yet."""
        return len(self._unacknowledged)

    @property
    def n_refused(self) -> int:
        """Events that the server would not take: they are in no journal."""
        return self._n_refused

    def report(self, kind: str, at_s: float, run_id: str = "", value: str = "") -> None:
        """Report what happened at `at_s` of the clock here."""
        event = Event(self.name, self._number, kind, at_s, self.offset_s, self.offset_error_s, run_id, value)
        self._number += 1
        self._unacknowledged[event.number] = event
        self._send_new()

    def poll(self) -> None:
        """Take replies in, and send what is due; call it as often as a frame is drawn."""
        while self._entrance.poll(0):
            received_s = self._clock()
            try:
                reply = self._receive()
            except WireError:
                continue  # from a server of another version: it will refuse the ping, too
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

    def _under_way(self) -> list[Event]:
        return list(islice(self._unacknowledged.values(), _N_UNDER_WAY))

    def _send_new(self) -> None:
        """Send what never was, as far as there is room on the way."""
        if self._is_shunned or self._next >= self._number:
            return
        for event in self._under_way():
            if event.number >= self._next:
                self._next = event.number + 1
                self._send(event, zmq.NOBLOCK)

    def _take_refusal(self, reply: Refused) -> None:
        """Drop what was refused, which may be a ping; what has no name was garbled on the way, or was not read."""
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
    """Hears everything that a server publishes: Hello, Status, Run, answers, RunEnd, SessionEnd.

    Parameters
    ----------
    address : str
        The server's publish address, such as tcp://127.0.0.1:5556.
    key : ClientKey, optional
        For a server that asks for one.

    Raises
    ------
    ServerError
        If the address is malformed, or beyond loopback without a key.
    """

    def __init__(self, address: str, key: ClientKey | None = None) -> None:
        super().__init__(zmq.SUB, address, key)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")

    def poll(self, timeout_s: float = 0.0) -> Message | None:
        """Return the next message, or None if none comes within `timeout_s`.

        Raises
        ------
        WireError
            If what was published is not of this protocol.
        ServerError
            If the server turns this client away.
        """
        if not self._entrance.poll(timeout_s):
            return None
        return self._receive()


def new_client_name(kind: str, name: str | None = None) -> str:
    """Make a client's name that no other has: what people call it, or else its kind and process, and chance.

    The machine's name is not in it: it may tell of a person or a place, and the name goes into the journal.

    Parameters
    ----------
    kind : str
        What it is: "source", "display".
    name : str, optional
        What people call it, 1 to `LONGEST_NAME` characters.

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
