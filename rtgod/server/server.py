"""The server: receive over ZeroMQ, write the journal, acknowledge, step the session and publish.

It has two sockets: a ROUTER for sources and other clients that send messages, with a reply to each message; and an XPUB
that publishes the server's identity and status, the current run, and every answer. Messages are handled in one thread;
every wait has a limit.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import zmq

from rtgod.errors import CheckpointError, RefusedError, ServerError, WireError
from rtgod.files import Closing
from rtgod.journal.buffer import JournalBuffer
from rtgod.journal.journal import JournalWriter
from rtgod.logs import RUNS
from rtgod.messages import (
    Acknowledged,
    Answer,
    Deferred,
    Event,
    Message,
    NewBlock,
    Pattern,
    Ping,
    Pong,
    Ranking,
    Refused,
    Run,
    RunEnd,
    SessionEnd,
    Volume,
    address_of,
)
from rtgod.protocol.addresses import is_loopback, needs_ipv6
from rtgod.protocol.authentication import ServerAuthenticator
from rtgod.protocol.frames import MAX_ARRAY_BYTES, from_frames, to_frames
from rtgod.protocol.keys import ServerKeys
from rtgod.server import connection_guard
from rtgod.server.connection_guard import ConnectionGuard
from rtgod.server.publisher import Publisher
from rtgod.server.refusals import LONGEST_REASON, Refusals
from rtgod.server.resumption import checkpoint_of, save_checkpoint
from rtgod.server.session import Incoming, Resumed, Session
from rtgod.server.status import ServerStatus
from rtgod.server.tally import blinded as blinded_counts
from rtgod.server.tally import in_words
from rtgod.text import number_of, plain, times

log = logging.getLogger(__name__)
runs_log = logging.getLogger(RUNS)

_HEARTBEAT_S = 1.0
#: Longest silence of a source in the middle of a run, in repetition times and in seconds, whichever is more; after it
#: another source may begin a run.
_ALIVE_TR, _ALIVE_S = 5, 10.0
#: Limits above which a delay is reported to the operator: for beginning a run, in seconds, and for a volume's answer,
#: Time without a volume of a run under way after which its operator is told, in repetition times.
_SILENT_TR = 2.0
#: in TRs.
_SLOW_RUN_S, _SLOW_VOLUME_TR = 1.0, 0.5
#: Messages taken since the last checkpoint after which the next is written: while no message waits, and in any case.
_CHECKPOINT_IDLE, _CHECKPOINT_BUSY = 32, 512
#: Least time, in seconds, between two welcomes, which all subscribers get after one of them has subscribed.
_WELCOME_S = 0.1
#: Most messages that wait to be sent to a peer; beyond them it misses some.
_MOST_UNSENT = 100
#: Length of a subscriber's longest frame: the last of its handshake, with ZeroMQ's longest name (255 bytes).
_LONGEST_OF_SUBSCRIBER = 640


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses at which the server listens, with the actual port numbers.

    Attributes
    ----------
    ingest : str
        Address to which sources send.
    publish : str
        Address from which displays and monitors receive.
    """

    ingest: str
    publish: str


class Server(Closing):
    """Server that binds its sockets when it is made; `serve` then runs until it is told to stop.

    Parameters
    ----------
    session : Session
    journal : JournalWriter
    ingest, publish : str
        Addresses such as tcp://127.0.0.1:5555; port * takes a free one.
    resumed : Resumed, optional
        State at the end of the journal, if the session is continued from there.
    keys : ServerKeys, optional
        Keys of the server and its clients. With them only these clients are admitted, each with its role's permissions.
    blinded : bool
        Whether the log leaves out rankings; it also does once a display has committed itself to sealed feedback.
    start : int
        Number of this start among all starts of servers in the journals' folder.
    folder : str
        Mark of the folder; see `rtgod.journal.journal.Sessions`.
    any_subject : bool
        Whether runs of another subject than the bundle's are taken.
    listener : callable, optional
        Function that is called with each message that is published, and with `is_blinded`; it must not wait or raise.

    Raises
    ------
    ServerError
        If an address is malformed or in use, or is not a loopback address and no keys are given.
    """

    def __init__(
        self,
        session: Session,
        journal: JournalWriter,
        ingest: str,
        publish: str,
        resumed: Resumed | None = None,
        keys: ServerKeys | None = None,
        blinded: bool = False,
        start: int = 0,
        folder: str = "",
        any_subject: bool = False,
        listener: Callable[[Message, bool], object] | None = None,
    ) -> None:
        self._session, self._listener = session, listener
        self._blinded, self._any_subject = blinded, any_subject
        self._buffer = JournalBuffer(journal)
        self._hello = dataclasses.replace(
            session.hello(),
            n_starts=1 + (resumed.n_starts if resumed else 0),
            start=start,
            began_utc_s=time.time() if start else None,
            folder=folder,
        )
        self._status = ServerStatus(journal.path.name, self._hello.n_starts)
        self._context = connection_guard.context()
        self._authenticator = ServerAuthenticator(self._context, keys) if keys else None
        try:
            self._ingest = self._bind(zmq.ROUTER, ingest)
            self._publish = self._bind(zmq.XPUB, publish)
            self._guard = ConnectionGuard(self._ingest, self._publish, encrypted=self._authenticator is not None)
        except ServerError:
            self._close(linger_ms=0)
            raise
        self._longest_bytes = 0
        self._expect(session.run)
        # With this option a repeated subscription is reported, too, and each subscriber is told the present state.
        self._publish.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._publisher = Publisher(self._publish)
        self._refusals = Refusals()
        #: Connection from which the current run comes, None if it is not known, and the time of its last message.
        self._source: bytes | None = None
        self._source_heard_s = time.monotonic()
        self._slow_run = self._slow_volume = ""
        self._notices: dict[tuple[str, str], str] = {}
        self._odd: tuple[str, str] = ("", "")
        self._journal = journal
        self._n_since_checkpoint = _CHECKPOINT_IDLE if resumed else 0
        self._checkpoint_problem = ""
        self._last_answer = resumed.last if resumed else None
        self._unrecorded = resumed.unrecorded if resumed else []
        self._next_heartbeat_s = 0.0
        self._welcome_s, self._welcomed_s = math.inf, -math.inf
        self.endpoints = Endpoints(_endpoint(self._ingest), _endpoint(self._publish))
        session.heed(self._hello)
        if session.run is not None:
            self._note_oddities(session.run)

    @property
    def n_starts(self) -> int:
        """Number of times that a server has begun on this journal, including this one."""
        return self._hello.n_starts

    @property
    def is_blinded(self) -> bool:
        """Whether logs and counts must not reveal rankings."""
        return self._blinded or self._session.is_blinded

    def totals(self) -> dict[str, int]:
        """Count the answers to all volumes, without what must stay blinded; see `rtgod.server.tally.Tally`."""
        return self._counts(self._session.totals())

    def _counts(self, answers: dict[str, int]) -> dict[str, int]:
        return blinded_counts(answers) if self.is_blinded else answers

    def serve(self, should_stop: Callable[[], bool], idle_s: float = 0.1) -> None:
        """Handle messages until `should_stop()` is true.

        Parameters
        ----------
        should_stop : callable
            Function without arguments that returns whether to stop; called after each message, and when none has come
            for `idle_s`.
        idle_s : float
            Longest wait for a message, in seconds.
        """
        poller = zmq.Poller()
        poller.register(self._ingest, zmq.POLLIN)
        poller.register(self._publish, zmq.POLLIN)
        self._buffer.add(self._hello)
        if self._listener is not None and self._session.run is not None and self._session.is_receiving:
            # A resumed session's; others hear of it when they subscribe.
            self._listener(self._session.run, self.is_blinded)
        for answer, pattern in self._unrecorded:
            self._session.count(answer)
            self._tell(answer, pattern)
        while not should_stop():
            wait_s = max(0.0, min(idle_s, self._publisher.flush(), self._welcome_s - time.monotonic()))
            ready = dict(poller.poll(math.ceil(wait_s * 1e3)))
            if self._publish not in ready:
                self._guard.nothing_waits(at_publish=True)
            elif self._guard.receive_subscription():
                self._welcome_s = min(self._welcome_s, max(time.monotonic(), self._welcomed_s + _WELCOME_S))
            if time.monotonic() >= self._welcome_s:
                self._welcome()
            if self._ingest in ready:
                identity, *frames = self._guard.receive()
                self._receive(identity.bytes, frames)
            else:
                self._guard.nothing_waits()
            if self._n_since_checkpoint >= (_CHECKPOINT_BUSY if ready else _CHECKPOINT_IDLE):
                self._write_checkpoint()
            if time.monotonic() >= self._next_heartbeat_s:
                self._beat()
        self._end()

    def close(self) -> None:
        """Close the sockets; messages already sent have a second to leave."""
        self._guard.close()
        self._close(linger_ms=1000)

    def _close(self, linger_ms: int) -> None:
        if self._authenticator:
            self._authenticator.close()
        self._context.destroy(linger=linger_ms)

    def _receive(self, identity: bytes, frames: list[zmq.Frame]) -> None:
        arrived_s = time.perf_counter()
        # Checked before the message is read, so that a client that may send little cannot make the server read much.
        if self._authenticator and frames and (why := self._authenticator.too_much(frames)):
            self._refuse(identity, "", None, why)
            return
        try:
            message = from_frames([frame.buffer for frame in frames])
        except WireError as error:
            self._refuse(identity, error.run_id, error.index, str(error))
            return
        if self._authenticator and (why := self._authenticator.refusal(frames[0], message)):
            self._refuse(identity, *address_of(message), why)
            return
        match message:
            case Ping():
                self._status.heard(message)
                self._reply(
                    identity,
                    Pong(message.client, message.sent_s, time.time(), self._hello.n_starts, self._session.event_rules),
                )
            case Run() | Volume() | RunEnd() | Event() | NewBlock():
                self._take(identity, message, arrived_s)
            case _:
                kinds = "a server takes run, volume, run-end, event, block and ping"
                self._refuse(identity, *address_of(message), f"{kinds}, not {type(message).__name__}")

    def _take(self, identity: bytes, message: Incoming, arrived_s: float) -> None:
        name, index = address_of(message)
        taken_as = ""
        try:
            if isinstance(message, Run):
                message = self._session.rename(message)
                taken_as = message.run_id
            if self._session.is_duplicate(message):
                # A client that sends messages already taken does not become the source; with a new volume it would.
                if identity == self._source:
                    self._hear(identity, message)
                self._acknowledge(identity, message, (name, index), duplicate=True, taken_as=taken_as)
                return
            if why := self._why_not_yet(identity, message):
                self._reply(identity, Deferred(name, index, why))
                return
            if isinstance(message, Run):
                self._session.oddities(message, any_subject=self._any_subject)
            self._session.check(message)
        except RefusedError as error:
            self._refuse(identity, name, index, str(error))
            return
        if isinstance(message, Event):
            message = dataclasses.replace(message, received_utc_s=time.time())
        receive_s = time.perf_counter() - arrived_s
        left_off = self._session.run if self._session.is_receiving else None
        if isinstance(message, Run):
            self._expect(message)  # its volumes may come as soon as it is acknowledged
        if not self._buffer.append_durable(message):
            self._reply(identity, Deferred(name, index, self._buffer.problem))
            self._beat()
            return
        if isinstance(message, Run):
            self._note_oddities(message)
        # The end of a run is acknowledged after its last volumes are answered, as the reply counts the answers.
        if not isinstance(message, RunEnd):
            self._acknowledge(identity, message, (name, index), taken_as=taken_as)
        journal_s = time.perf_counter() - arrived_s - receive_s
        self._n_since_checkpoint += 1
        if isinstance(message, Run):
            self._note_beginning(message, left_off, receive_s)
        self._answer(message, arrived_s, {"receive": receive_s * 1e3, "journal": journal_s * 1e3})
        if isinstance(message, RunEnd):
            self._acknowledge(identity, message, (name, index))
        self._hear(identity, message)
        if isinstance(message, Volume):
            self._note_volume(message, time.perf_counter() - arrived_s)

    def _acknowledge(
        self,
        identity: bytes,
        message: Incoming,
        address: tuple[str, int | None],
        *,
        duplicate: bool = False,
        taken_as: str = "",
    ) -> None:
        """Tell the source that its message is on the disk, with a notice about the run for its operator."""
        notice = ""
        if isinstance(message, Run):
            notice = self._odd[1]
        elif isinstance(message, NewBlock):
            notice = "" if duplicate else self._session.lateness(message)
        elif not isinstance(message, Event):
            notice = self._session.notice
        answers = self._counts(self._session.answers_of(message.run_id)) if isinstance(message, RunEnd) else {}
        self._reply(identity, Acknowledged(*address, duplicate, taken_as, plain(notice), answers))

    def _hear(self, identity: bytes, message: Incoming) -> None:
        """Note the connection from which a message of the current run came, and the time."""
        run = self._session.run
        is_of_source = not isinstance(message, Event | NewBlock)
        if is_of_source and run is not None and message.run_id == run.run_id:
            self._source, self._source_heard_s = identity, time.monotonic()
            if ("silent", run.run_id) in self._notices:
                self._next_heartbeat_s = 0.0  # volumes come again, which is to be known at once

    def _why_not_yet(self, identity: bytes, message: Incoming) -> str:
        """Return why a message must wait while a run from another source is received; empty if it need not."""
        run = self._session.run
        if run is None or not self._session.is_receiving or identity == self._source:
            return ""
        match message:
            case Event() | NewBlock():
                return ""
            case Volume() | RunEnd() if message.run_id == run.run_id or self._session.receives(message) is None:
                return ""
        silent_s = time.monotonic() - self._source_heard_s
        alive_s = max(_ALIVE_S, _ALIVE_TR * run.tr_s)
        if silent_s >= alive_s:
            return ""
        return (
            f"run {plain(run.run_id, 100)} is being received from another source, the last of it {silent_s:.1f} s ago; "
            f"this one can begin when that has ended, or nothing of it came for {alive_s:g} s"
        )

    def _note_beginning(self, run: Run, left_off: Run | None, took_s: float) -> None:
        if left_off is not None:
            answers = in_words(self._counts(self._session.answers_of(left_off.run_id)))
            runs_log.info("run %s: left off before its end: %s", plain(left_off.run_id, 100), answers)
        n_volumes = f"{run.n_volumes} volumes" if run.n_volumes else "unknown number of volumes"
        trials = number_of(len(run.blocks), "trial") if run.blocks else "no trials"
        described = plain(run.run_id, 100), plain(run.subject, 100), n_volumes, run.tr_s, trials
        runs_log.info("run %s: subject %s, %s, TR %g s, %s", *described)
        self._slow_run = self._slow_volume = ""
        if took_s > _SLOW_RUN_S:
            self._slow_run = (
                f"run {plain(run.run_id, 100)} took {took_s:.1f} s to begin: volumes of "
                f"{times(run.shape)} voxels and {len(run.blocks)} blocks are much for this machine"
            )

    def _note_volume(self, volume: Volume, took_s: float) -> None:
        self._status.answered(took_s)
        run = self._session.run
        if run is not None and took_s > max(_SLOW_RUN_S, _SLOW_VOLUME_TR * run.tr_s):
            self._slow_volume = f"the answer to volume {volume.index} took {took_s:.1f} s; others had to wait meanwhile"

    def _note_oddities(self, run: Run) -> None:
        """Note what is odd about the current run; a run from the journal may even be one that would be refused now."""
        try:
            oddities = self._session.oddities(run, any_subject=True)
        except RefusedError as error:
            oddities = [str(error)]
        name = plain(run.run_id, 100)
        self._odd = run.run_id, f"run {name} is odd: {plain('; '.join(oddities))}" if oddities else ""

    def _notice(self) -> str:
        """Collect the notices for the operator, and log new ones; return them in one line, which may be empty."""
        run, latency_s = self._session.run, self._status.usual_latency_s
        if run is None:
            return ""
        name = plain(run.run_id, 100)
        texts = {"odd": self._odd[1]} if self._odd[0] == run.run_id else {}
        if astray := self._session.notice:
            texts["astray"] = f"run {name}: {plain(astray)}"
        texts |= {"begins late": self._slow_run, "late": self._slow_volume}
        if latency_s > _SLOW_VOLUME_TR * run.tr_s:
            texts |= {"begins late": "", "late": ""}
            texts["behind"] = (
                f"a volume's answer takes {latency_s:.2f} s, more than half of the TR of {run.tr_s:g} s: decoding may "
                "fall behind; use a faster machine, fewer voxels or candidates"
            )
        if self._is_missed():
            texts["silent"] = f"run {name}: no volume for {_SILENT_TR:g} TR; did the scan stop, or its source?"
        # A notice keeps its first words as long as it lasts, even if numbers in it change.
        notices = {
            (kind, run.run_id): self._notices.get((kind, run.run_id), text) for kind, text in texts.items() if text
        }
        for key in notices.keys() - self._notices.keys():
            log.warning("%s", notices[key])
        if ("astray", run.run_id) in self._notices.keys() - notices.keys():
            log.warning("run %s: volumes can be aligned again", name)
        self._notices = notices
        return "; ".join(notices.values())

    def _missed_from_s(self) -> float:
        """Return from when on the next volume is missed, by the monotonic clock; infinity if none is expected."""
        run = self._session.run
        if run is None or not self._session.is_receiving or self._last_answer is None:
            return math.inf
        return self._source_heard_s + _SILENT_TR * run.tr_s

    def _is_missed(self) -> bool:
        return time.monotonic() >= self._missed_from_s()

    def _answer(self, message: Incoming, arrived_s: float, stage_ms: dict[str, float]) -> None:
        if isinstance(message, Run):
            self._last_answer = None
            self._send(message)
        run = self._session.run
        for answer, pattern in self._session.handle(message, rank=not self._is_behind(message)):
            if self._session.run is not run and self._session.run is not None and not isinstance(message, Run):
                run = self._session.run  # an earlier run is continued after another came between
                self._send(run)
                self._note_oddities(run)
            if isinstance(message, Volume) and answer.index == message.index:
                answer = dataclasses.replace(answer, stage_ms={**stage_ms, **answer.stage_ms})
                if isinstance(answer, Ranking):
                    age_s = message.held_s + time.perf_counter() - arrived_s
                    answer = dataclasses.replace(answer, age_s=age_s)
            notice_before = self._session.notice
            self._session.count(answer, message if isinstance(message, Volume) else None)
            self._tell(answer, pattern)
            if bool(self._session.notice) != bool(notice_before):
                self._beat()  # all subscribers get the status at once
        if isinstance(message, RunEnd):
            self._send(message)
            answers = in_words(self._counts(self._session.answers_of(message.run_id)))
            runs_log.info("run %s: ended after %d volumes: %s", plain(message.run_id, 100), message.n_volumes, answers)
        if isinstance(message, NewBlock):
            self._note_block(message)
        if isinstance(message, Event):
            fields = plain(message.client), plain(message.kind), plain(message.value, LONGEST_REASON)
            log.info("%s: %s %s", *fields)

    def _note_block(self, message: NewBlock) -> None:
        """Publish the current run again, with the block, and log it; a label could tell what is shown, and is not."""
        run = self._session.run
        if run is not None and run.run_id == message.run_id:
            self._send(run)
        where = plain(message.run_id, 100), message.onset_s, message.duration_s, plain(message.client)
        runs_log.info("run %s: block at %g s for %g s, told by %s", *where)
        if late := self._session.lateness(message):
            log.warning("run %s: %s", plain(message.run_id, 100), late)

    def _expect(self, run: Run | None) -> None:
        """Tell the guard how long volumes may be."""
        if run is not None:
            n_bytes = min(MAX_ARRAY_BYTES, math.prod(run.shape) * np.dtype(np.float64).itemsize)
            # The longest of all runs counts, as earlier runs may be continued.
            self._longest_bytes = max(self._longest_bytes, n_bytes)
            self._guard.expect(self._longest_bytes)

    def _is_behind(self, message: Incoming) -> bool:
        """Return whether the volumes that the source holds cannot be answered before its next volume comes."""
        if not isinstance(message, Volume) or not message.n_waiting or self._session.run is None:
            return False
        return message.n_waiting * self._status.usual_latency_s > self._session.run.tr_s

    def _tell(self, answer: Answer, pattern: Pattern | None) -> None:
        self._send(answer)
        self._last_answer = answer
        if pattern is not None:
            self._buffer.add(pattern)
        self._buffer.add(answer)
        if log.isEnabledFor(logging.INFO):
            blinded = self.is_blinded
            log.info("%s", _one_line(answer, blinded=blinded), extra={"fields": _fields_of(answer, blinded=blinded)})

    def _welcome(self) -> None:
        self._welcome_s, self._welcomed_s = math.inf, time.monotonic()
        self._beat()
        if self._session.run is not None:
            self._send(self._session.run)
        if self._last_answer is not None:
            self._send(self._last_answer)

    def _beat(self) -> None:
        self._refusals.tell()
        self._buffer.look()
        self._send(self._hello)
        status = self._status.status(self._buffer, self._session)
        notice, n_refused, n_cut = self._notice(), self._refusals.n, self._guard.n_cut
        self._send(dataclasses.replace(status, notice=notice, n_refused=n_refused, n_cut=n_cut))
        now_s, missed_s = time.monotonic(), self._missed_from_s()
        self._next_heartbeat_s = min(now_s + _HEARTBEAT_S, missed_s if missed_s > now_s else math.inf)

    def _write_checkpoint(self) -> None:
        """Save the state of the session, so that a server that takes over starts quickly."""
        if self._buffer.is_behind:
            return  # records that are not in the journal yet would be lost after the checkpoint
        self._n_since_checkpoint = 0
        try:
            save_checkpoint(self._journal, self._session, self._last_answer, self._hello.n_starts)
            self._checkpoint_problem = ""
        except CheckpointError as error:
            if not self._checkpoint_problem:
                log.warning("a restart would take longer: %s", error)
            self._checkpoint_problem = str(error)

    def _end(self) -> None:
        """Publish the end of the session, and record it in the journal, to tell it from a crash."""
        end = SessionEnd(time.time(), self._hello.start, self._hello.folder)
        if self._buffer.append_durable(end):
            self._send(end)
            checkpoint_of(self._journal.path).unlink(missing_ok=True)
        else:
            log.error("the journal's end could not be written: %s", self._buffer.problem)
        self._publisher.drain(_HEARTBEAT_S)

    def _send(self, message: Message) -> None:
        self._publisher.send(message)
        if self._listener is not None:
            self._listener(message, self.is_blinded)

    def _refuse(self, identity: bytes, name: str, index: int | None, why: str) -> None:
        self._reply(identity, Refused(name, index, self._refusals.note(why)))

    def _reply(self, identity: bytes, reply: Acknowledged | Refused | Deferred | Pong) -> None:
        # A ROUTER drops a reply that it cannot deliver; the source then sends its message again.
        self._ingest.send_multipart([identity, *to_frames(reply)])

    def _bind(self, kind: int, address: str) -> zmq.Socket[bytes]:
        try:
            may_be_open = is_loopback(address)
        except ValueError as error:
            raise ServerError(f"address {address!r}: write tcp://127.0.0.1:PORT, or :* for a free port") from error
        if not self._authenticator and not may_be_open:
            raise ServerError(
                f"address {address}: beyond loopback whoever connects must have a key; make some with "
                "`rtgod keys new NAME --role source --keys FOLDER` and serve with --keys FOLDER"
            )
        socket = self._context.socket(kind)
        if self._authenticator:
            self._authenticator.secure(socket)
        socket.setsockopt(zmq.IPV6, int(needs_ipv6(address)))
        # The guard limits the messages that wait.
        connection_guard.never_stop_input(socket)
        connection_guard.notice_dead_peers(socket)
        socket.setsockopt(zmq.SNDHWM, _MOST_UNSENT)
        if kind == zmq.ROUTER:
            socket.setsockopt(zmq.MAXMSGSIZE, MAX_ARRAY_BYTES)
        else:
            socket.setsockopt(zmq.MAXMSGSIZE, _LONGEST_OF_SUBSCRIBER)
            socket.setsockopt(zmq.RCVBUF, 1)  # as small as the system allows, as libzmq is slow to search subscriptions
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


def _fields_of(answer: Answer, *, blinded: bool) -> dict[str, object]:
    fields: dict[str, object] = {"run_id": answer.run_id, "index": answer.index}
    if blinded:
        return fields  # reasons and stages would also reveal when something was decoded
    fields["stage_ms"] = dict(answer.stage_ms)
    if isinstance(answer, Ranking):
        return fields | {"top": answer.top[:3], "n_volumes": answer.n_volumes, "age_s": answer.age_s}
    return fields | {"reason": answer.reason}


def _one_line(answer: Answer, *, blinded: bool) -> str:
    total_ms = sum(answer.stage_ms.values())
    if blinded:
        return f"volume {answer.index}: answered ({total_ms:.1f} ms)"
    if isinstance(answer, Ranking):
        top = plain(", ".join(answer.top[:3]), LONGEST_REASON)
        return f"volume {answer.index}: {top} (from {answer.n_volumes} volumes, {total_ms:.1f} ms)"
    return f"volume {answer.index}: not ready, {answer.reason} ({total_ms:.1f} ms)"
