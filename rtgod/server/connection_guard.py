"""The connections to a server's sockets: what each of them made the server hold, and which are cut for it.

libzmq has a bound on what waits for a reader (RCVHWM), but it must not be used. When it is reached, the connection's
input stops; if the peer then resets the connection, the engine notes the error and goes on waiting for the reader, and
any write to it before that aborts the process (`Assertion failed: !_io_error`): its own heartbeat, or the reply to a
PING of the peer's that was received behind the bound. So input never stops here (`never_stop_input`). Dead peers are
noticed by the kernel, and what waits is bounded from outside: the kernel counts the bytes that came on each connection,
the server tells those of the messages that it took out, and a connection on which more is outstanding than an honest
client ever has under way is shut. Its client connects anew and sends again what was not acknowledged.

Between the two counts lie messages that wait, parts of a message that is not complete, and heartbeats. A connection's
messages come out in the order in which they went in: when one comes out, all heartbeats before it are accounted for.
So heartbeats are forgiven then, at the rate at which honest clients send them; nothing is forgiven while a message
stays incomplete, however slowly it grows.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import math
import os
import select
import socket as host
import struct
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.utils.monitor import recv_monitor_message

from rtgod.errors import ServerError
from rtgod.files import Closing

log = logging.getLogger(__name__)

#: Whether the system tells how many bytes came on a connection.
IS_BOUNDED = sys.platform == "linux"

#: The prefix that a display subscribes to, as an XPUB passes it on; and its end.
SUBSCRIPTION, UNSUBSCRIPTION = b"\x01", b"\x00"

#: A dead peer is noticed after so long: first probed when it was silent for a while, then every second.
_SILENT_S, _PROBE_AFTER_S = 5, 2

#: What may be outstanding on a connection to the ingest socket beside two volumes: a message's header, and events. With
#: keys, a part of a message costs no less on the wire than in memory; without, an empty one takes 32 times as much.
_MOST_PLAIN_BYTES, _MOST_ENCRYPTED_BYTES = 1 << 20, 8 << 20
#: All connections to it together may have as much outstanding as one. When this part of it was left behind by
#: connections that are gone, and waits to be read, nobody is let in for now.
_MOST_LEFT_BEHIND = 0.25
#: A subscriber sends a handshake, one subscription, and heartbeats.
_MOST_SUBSCRIBER_BYTES = 8 << 10
#: A handshake is shorter.
_HANDSHAKE_BYTES = 1 << 10
#: Heartbeats of an honest client, with encryption, and twice that.
_HEARTBEAT_BYTES_S = 128.0
#: A message has a header and an array or two; of longer ones so many parts are kept to say what is wrong.
_MOST_PARTS = 16

#: Connections to each of the sockets; and descriptors that the rest of the process needs.
_MOST_CONNECTIONS, _OTHER_DESCRIPTORS = 128, 96
#: When there are too many, a connection this old on which nothing whole ever came goes before the newest.
_UNKNOWN_S = 1.0
#: What came on a connection that is gone still waits to be read, or was incomplete and is dropped: it counts until
#: nothing waits, or for so long.
_GONE_S = 10.0
#: So much may have come on a connection that was gone before it could be looked at.
_UNSEEN_SENDER_BYTES, _UNSEEN_SUBSCRIBER_BYTES = 256 << 10, 4 << 10
#: So much may have come from subscribers that are gone; what a subscriber sends is searched, and forgotten, slowly.
_MOST_GONE_SUBSCRIBER_BYTES = 512 << 10

#: Connections are looked at when something came, but not sooner after the last look than this, and later where that
#: takes more than this share of a processor, but not later than that; and so often when nothing comes.
_LOOK_S, _MOST_BUSY, _LATEST_LOOK_S, _IDLE_LOOK_S = 0.001, 0.05, 0.02, 0.5
#: So often it is said that connections were cut.
_SAY_S = 1.0
#: Memory is given back to the system after so much was freed, so long after the cut, and not more often.
_FREED_BYTES, _FREED_S = 256 << 10, 0.5

#: An option of libzmq's contexts, since 4.3, that pyzmq has no name for.
_ZERO_COPY_RECV = 10
_TCP_INFO_BYTES_RECEIVED = struct.Struct("@128xQ")
#: A packet filter of one instruction: return 0, keep nothing.
_INSTRUCTION = ctypes.create_string_buffer(struct.pack("@HBBI", 0x06, 0, 0, 0), 8)
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_DROP_ALL = struct.pack("@HP", 1, ctypes.addressof(_INSTRUCTION))


def never_stop_input(socket: zmq.Socket[bytes]) -> None:
    """Make a socket, before it is bound or connected, one whose peers cannot make libzmq abort the process.

    Whoever reads it must bound what waits in another way.
    """
    socket.setsockopt(zmq.RCVHWM, 0)


def context() -> zmq.Context[zmq.Socket[bytes]]:
    """A context in which a short part of a message does not hold the buffer, of 18 kB, that it was received in."""
    made = zmq.Context()
    try:
        made.set(_ZERO_COPY_RECV, 0)
    except zmq.ZMQError:  # an option that ZeroMQ may take back; it is a matter of memory alone
        log.warning("this libzmq (%s) keeps more memory than it needs for short messages", zmq.zmq_version())
    return made


def notice_dead_peers(socket: zmq.Socket[bytes]) -> None:
    """Let the kernel, before a socket is bound, close connections whose peer was silent for five seconds.

    Heartbeats of ZeroMQ do the same, but write to connections that may have failed.
    """
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, _PROBE_AFTER_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, _SILENT_S - _PROBE_AFTER_S)
    socket.setsockopt(zmq.TCP_MAXRT, _SILENT_S * 1000)


@dataclass(slots=True, eq=False)
class _Connection:
    """One connection.

    Attributes
    ----------
    socket : socket.socket
        A double of libzmq's, so that it stays what it is while it is looked at.
    peer : str
        Its address.
    since_s : float
        When it was accepted.
    forgiven_s : float
        Up to when heartbeats are accounted for.
    n_received : int
        Bytes that came.
    n_outstanding : float
        Those of them that the server has not taken out.
    is_known : bool
        Whether anything whole came out of it,
    was_read : bool
        and did since it was looked at last.
    is_cut : bool
    """

    socket: host.socket
    peer: str
    since_s: float
    forgiven_s: float
    n_received: int = 0
    n_outstanding: float = 0.0
    is_known: bool = False
    was_read: bool = False
    is_cut: bool = False

    def measure(self) -> None:
        """Ask the kernel how much came.

        Raises
        ------
        OSError
            If the kernel does not tell.
        """
        info = self.socket.getsockopt(host.IPPROTO_TCP, host.TCP_INFO, _TCP_INFO_BYTES_RECEIVED.size)
        if len(info) < _TCP_INFO_BYTES_RECEIVED.size:
            raise OSError("this kernel does not tell what came on a connection; it must be Linux 4.1 or later")
        (n_received,) = _TCP_INFO_BYTES_RECEIVED.unpack(info)
        # Less than nothing it is only when something was taken out that came on an earlier connection.
        self.n_outstanding = max(0.0, self.n_outstanding + n_received - self.n_received)
        self.n_received = n_received

    def forgive(self, now_s: float) -> None:
        """Leave aside as many bytes as honest clients send as heartbeats."""
        self.n_outstanding = max(0.0, self.n_outstanding - _HEARTBEAT_BYTES_S * (now_s - self.forgiven_s))
        self.forgiven_s = now_s


class _Door:
    """A listening socket and the connections to it, by their descriptors.

    Parameters
    ----------
    name : str
        For people.
    socket : zmq.Socket
        Bound to a port.
    unseen_bytes : int
        What counts for a connection that was gone before it could be looked at.
    """

    def __init__(self, name: str, socket: zmq.Socket[bytes], unseen_bytes: int) -> None:
        self.name, self._unseen_bytes = name, unseen_bytes
        self.monitor = _monitor(socket)
        self._port = int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        self._listener = _listener(self._port)
        self._spare, self._null = host.socket(), os.open(os.devnull, os.O_RDONLY)
        self.is_shut, self.said_s = False, -_SAY_S
        #: Ready when something came on any connection since it was asked last.
        self.news = select.epoll()
        self.connections: dict[int, _Connection] = {}
        #: Descriptor, bytes and time of those that are gone, oldest first.
        self.gone: deque[tuple[int, float, float]] = deque()

    @property
    def n_gone(self) -> float:
        """Bytes outstanding on connections that are gone."""
        return sum(n_bytes for _, n_bytes, _ in self.gone)

    def add(self, fd: int, now_s: float) -> _Connection | None:
        """Take in a new connection; None if it is gone already."""
        try:
            double = _double(fd)
        except OSError as error:
            self.gone.append((fd, self._unseen_bytes, now_s))
            if error.errno == errno.EMFILE:
                self._shut_without_descriptor(fd)
            return None
        try:
            if double.getsockname()[1] != self._port:
                raise OSError("its descriptor is another socket's now")
            connection = _Connection(double, _shown(double.getpeername()), now_s, now_s)
            self.news.register(double, select.EPOLLIN | select.EPOLLET)
        except OSError:
            self.gone.append((fd, self._unseen_bytes, now_s))
            double.close()
            return None
        self.connections[fd] = connection
        return connection

    def _shut_without_descriptor(self, fd: int) -> None:
        """Shut a connection while no descriptor is left to double it: one that is kept for that becomes its double."""
        with contextlib.suppress(OSError):  # it may be gone, or another
            os.dup2(fd, self._spare.fileno(), inheritable=False)
            if self._spare.getsockname()[1] == self._port:
                self._spare.shutdown(host.SHUT_RDWR)
        os.dup2(self._null, self._spare.fileno(), inheritable=False)

    def forget(self, fd: int, now_s: float) -> None:
        """Take in that there is no connection with this descriptor any more; what came on it may still be read."""
        if left := self.connections.pop(fd, None):
            left.measure()
            left.socket.close()
            if left.n_outstanding > _HANDSHAKE_BYTES:
                self.gone.append((fd, left.n_outstanding, now_s))

    def measure(self, now_s: float) -> None:
        """Ask the kernel how much came on each connection."""
        for fd, connection in [*self.connections.items()]:
            connection.measure()
            if connection.was_read:
                connection.forgive(now_s)
                connection.was_read = False
            try:
                is_open = os.fstat(fd).st_ino == os.fstat(connection.socket.fileno()).st_ino
            except OSError:
                is_open = False
            if not is_open:  # libzmq closed it; it tells of that next, or not at all
                self.forget(fd, now_s)
        while self.gone and now_s - self.gone[0][2] > _GONE_S:
            self.gone.popleft()

    def shut(self, is_shut: bool) -> None:
        """Let nobody in for now, or again. Who knocks meanwhile tries again a second later, as TCP does.

        libzmq cannot be told to wait, and has read megabytes from a connection before anybody knows of it; so the
        kernel drops what comes for the listening socket.
        """
        if is_shut != self.is_shut:
            self.is_shut = is_shut
            if is_shut:
                self._listener.setsockopt(host.SOL_SOCKET, _SO_ATTACH_FILTER, _DROP_ALL)
            else:
                self._listener.setsockopt(host.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def close(self) -> None:
        """Let go of the sockets."""
        self.shut(is_shut=False)
        self._listener.close()
        self._spare.close()
        os.close(self._null)
        for connection in self.connections.values():
            connection.socket.close()
        self.connections.clear()
        self.news.close()
        self.monitor.close(linger=0)


@dataclass(frozen=True, slots=True)
class _TakenOut:
    """A message was taken out of the ingest socket."""

    fd: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class _Empty:
    """Nothing complete waits in a socket."""

    at_publish: bool


@dataclass(frozen=True, slots=True)
class _Subscribed:
    """A proper subscription came."""

    fd: int


@dataclass(frozen=True, slots=True)
class _Offence:
    """Something came that no honest client sends."""

    fd: int
    at_publish: bool
    why: str


class ConnectionGuard(Closing):
    """Cuts connections that would make a server hold too much, in a thread of its own.

    It is as quick while the server computes, because libzmq receives meanwhile, too. All its methods are for the
    server's thread.

    Parameters
    ----------
    ingest : zmq.Socket
        A ROUTER, bound.
    publish : zmq.Socket
        An XPUB, bound.
    encrypted : bool
        Whether they are CURVE servers.

    Attributes
    ----------
    n_cut : int
        Connections that were cut so far.
    """

    def __init__(self, ingest: zmq.Socket[bytes], publish: zmq.Socket[bytes], *, encrypted: bool) -> None:
        self.n_cut = 0
        self._encrypted = encrypted
        self._sockets = ingest, publish
        self._base_bytes = _MOST_ENCRYPTED_BYTES if encrypted else _MOST_PLAIN_BYTES
        self._most_bytes = self._base_bytes
        self._notes: deque[_TakenOut | _Empty | _Subscribed | _Offence] = deque()
        self._failure: Exception | None = None
        self._said_s, self._n_unsaid, self._trim_s = -_SAY_S, 0, 0.0
        self._free = getattr(ctypes.CDLL(None), "malloc_trim", None) if IS_BOUNDED else None
        self._thread: threading.Thread | None = None
        if not IS_BOUNDED:
            log.warning("this system does not tell what comes on a connection: what clients make the server hold "
                        "is not bounded; let only clients connect that you trust")  # fmt: skip
            return
        self._most_connections = _most_connections()
        self._ingest = _Door("ingest", ingest, _UNSEEN_SENDER_BYTES)
        self._publish = _Door("publish", publish, _UNSEEN_SUBSCRIBER_BYTES)
        self._wake, self._woken = host.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="connections", daemon=True)
        self._thread.start()

    def expect(self, volume_bytes: int) -> None:
        """Expect volumes of at most so many bytes each."""
        self._most_bytes = self._base_bytes + 2 * volume_bytes

    def receive(self) -> list[zmq.Frame]:
        """Receive one message from the ingest socket, whole: identity, header and arrays.

        Of one in very many parts only the first are kept, enough to see that it is none of ours; its connection is cut.

        Raises
        ------
        ServerError
            If the guard itself failed: then nothing bounds what clients make the server hold.
        """
        receive = self._sockets[0].recv
        frames = [frame := receive(copy=False)]
        while frame.more and len(frames) <= _MOST_PARTS:
            frames.append(frame := receive(copy=False))
        n_bytes = sum(self._on_the_wire(len(part)) for part in frames[1:])
        if frame.more:
            # The rest must be taken out, part by part, before anything else can be; there may be half a million.
            self._offence(frame, "a message of very many parts")
            while frame.more:
                frame = receive(copy=False)
                n_bytes += len(frame) + 2
        if self._thread and len(frames) > 1:
            self._notes.append(_TakenOut(_fd(frames[1]), n_bytes))
        self._check()
        return frames

    def nothing_waits(self, *, at_publish: bool = False) -> None:
        """Take note that nothing complete waits in one of the sockets."""
        if self._thread and (self._publish if at_publish else self._ingest).gone:
            self._notes.append(_Empty(at_publish))
        self._check()

    def receive_subscription(self) -> bool:
        """Receive what came at the publish socket: whether it is a subscription to everything.

        Anything but that, or its end, costs its connection.
        """
        frame = self._sockets[1].recv(copy=False)
        if (sent := frame.bytes) not in (SUBSCRIPTION, UNSUBSCRIPTION) or frame.more:
            self._offence(frame, "a subscription to something else than everything (the empty prefix)", at_publish=True)
            return False
        if self._thread and sent == SUBSCRIPTION:
            self._notes.append(_Subscribed(_fd(frame)))
        return sent == SUBSCRIPTION

    def close(self) -> None:
        """Watch no longer."""
        if self._thread is None:
            return
        self._stopping.set()
        self._wake.send(b".")
        self._thread.join()
        self._thread = None
        for socket, door in zip(self._sockets, (self._ingest, self._publish), strict=True):
            socket.disable_monitor()
            door.close()
        self._wake.close()
        self._woken.close()

    def _check(self) -> None:
        if self._failure:
            raise ServerError("connections are not watched any more") from self._failure

    def _offence(self, frame: zmq.Frame, why: str, *, at_publish: bool = False) -> None:
        if self._thread is None:
            return
        self._notes.append(_Offence(_fd(frame), at_publish, why))
        try:
            self._wake.send(b".")
        except BlockingIOError:  # it was woken often enough
            return

    def _on_the_wire(self, n_bytes: int) -> int:
        """Bytes of a part as it came: with 33 of encryption, and with its length, in 1 or 8 bytes, and flags."""
        n_bytes += 33 * self._encrypted
        return n_bytes + (2 if n_bytes < 256 else 9)

    # ------------------------------------------------------------ in the guard's thread

    def _run(self) -> None:
        try:
            poller = zmq.Poller()
            for door in (self._ingest, self._publish):
                poller.register(door.monitor, zmq.POLLIN)
                poller.register(door.news.fileno(), zmq.POLLIN)
            poller.register(self._woken, zmq.POLLIN)
            while not self._stopping.is_set():
                ready = dict(poller.poll(math.ceil(_IDLE_LOOK_S * 1e3)))
                if self._woken.fileno() in ready:
                    self._woken.recv(4096)
                began_s = time.thread_time()
                self._look(time.monotonic())
                self._stopping.wait(min(_LATEST_LOOK_S, max(_LOOK_S, (time.thread_time() - began_s) / _MOST_BUSY)))
        except Exception as error:  # noqa: BLE001 # whatever it is: the server's thread ends with it
            self._failure = error

    def _look(self, now_s: float) -> None:
        """Bring the counts up to date, and cut what is over them."""
        for door in (self._ingest, self._publish):
            door.news.poll(0)
            while door.monitor.poll(0):
                heard = recv_monitor_message(door.monitor)
                self._hear(door, heard["event"], int(heard["value"]), now_s)
        for _ in range(len(self._notes)):
            self._take_note(self._notes.popleft(), now_s)
        for door in (self._ingest, self._publish):
            door.measure(now_s)
        self._cut_senders(now_s)
        self._cut_subscribers(now_s)
        self._shut_or_open(self._ingest, _MOST_LEFT_BEHIND * self._most_bytes, now_s)
        self._shut_or_open(self._publish, _MOST_GONE_SUBSCRIBER_BYTES, now_s)
        if self._free and self._trim_s and now_s > self._trim_s:
            self._trim_s = 0.0
            self._free(0)
        if self._n_unsaid and now_s - self._said_s > _SAY_S:
            log.warning("%d more connections were cut", self._n_unsaid)
            self._said_s, self._n_unsaid = now_s, 0

    def _hear(self, door: _Door, event: int, fd: int, now_s: float) -> None:
        """Take in that a connection was made, or is gone."""
        door.forget(fd, now_s)
        if event != zmq.EVENT_ACCEPTED:
            return
        if door.add(fd, now_s) and len(door.connections) > self._most_connections:
            self._cut(door, fd, "there are too many connections", now_s)

    def _shut_or_open(self, door: _Door, most_gone_bytes: float, now_s: float) -> None:
        """Let nobody in while there are too many, or what others have left behind is not worked off."""
        is_full = len(door.connections) >= self._most_connections
        if is_full:
            for fd, one in [*door.connections.items()]:
                if not one.is_known and now_s - one.since_s > _UNKNOWN_S:
                    self._cut(door, fd, "there are too many connections, and nothing whole came on this one", now_s)
        is_shut = is_full or door.n_gone > most_gone_bytes
        if is_shut and not door.is_shut and now_s - door.said_s > _SAY_S:
            door.said_s = now_s
            why = f"there are {len(door.connections)}" if is_full else "what those that are gone have sent waits"
            log.warning("no new connections to %s for now: %s", door.name, why)
        door.shut(is_shut)

    def _take_note(self, note: _TakenOut | _Empty | _Subscribed | _Offence, now_s: float) -> None:
        match note:
            case _TakenOut(fd, n_bytes):
                self._count(fd, n_bytes)
            case _Empty(at_publish):
                (self._publish if at_publish else self._ingest).gone.clear()
            case _Subscribed(fd):
                if connection := self._publish.connections.get(fd):
                    connection.is_known = True
            case _Offence(fd, at_publish, why):
                self._cut(self._publish if at_publish else self._ingest, fd, why, now_s)

    def _count(self, fd: int, n_bytes: float) -> None:
        """Take note that so many bytes of a connection, or of one that had its descriptor, were taken out."""
        for at, (of, n_left, since_s) in enumerate(self._ingest.gone):
            if of == fd:
                self._ingest.gone[at] = of, max(0.0, n_left - n_bytes), since_s
                n_bytes -= min(n_bytes, n_left)
        if n_bytes and (connection := self._ingest.connections.get(fd)):
            connection.is_known = connection.was_read = True
            connection.n_outstanding -= n_bytes

    def _cut_senders(self, now_s: float) -> None:
        """Cut connections on which too much is outstanding, and of too many on which much is, the worst."""
        door = self._ingest
        waiting = {fd: one.n_outstanding for fd, one in door.connections.items() if not one.is_cut}
        for fd, n_bytes in waiting.items():
            if n_bytes > self._most_bytes:
                self._cut(door, fd, "what it sent is incomplete, or more than is read in time", now_s)
        too_many = sum(waiting.values()) - self._most_bytes
        for fd in sorted(waiting, key=waiting.__getitem__, reverse=True):
            if too_many <= 0 or waiting[fd] <= _HANDSHAKE_BYTES:
                return
            too_many -= waiting[fd]
            self._cut(door, fd, "what all clients sent is incomplete, or more than is read in time", now_s)

    def _cut_subscribers(self, now_s: float) -> None:
        """Cut subscribers that send more than a subscription and heartbeats."""
        for fd, connection in self._publish.connections.items():
            connection.forgive(now_s)
            if connection.n_outstanding > _MOST_SUBSCRIBER_BYTES and not connection.is_cut:
                self._cut(self._publish, fd, "a subscriber sends no more than a subscription and heartbeats", now_s)

    def _cut(self, door: _Door, fd: int, why: str, now_s: float) -> None:
        """Shut a connection; libzmq then closes it, and drops what is incomplete."""
        connection = door.connections.get(fd)
        if connection is None or connection.is_cut:
            return
        connection.is_cut = True
        try:
            # So that it is reset once libzmq has closed it: a peer that writes would wait for a minute otherwise.
            connection.socket.setsockopt(host.SOL_SOCKET, host.SO_LINGER, struct.pack("@ii", 1, 0))
            connection.socket.shutdown(host.SHUT_RDWR)
        except OSError:  # the peer was quicker
            return
        self.n_cut += 1
        if self._free and not self._trim_s and (door is self._publish or connection.n_outstanding > _FREED_BYTES):
            self._trim_s = now_s + _FREED_S
        if now_s - self._said_s < _SAY_S:
            self._n_unsaid += 1
            return
        self._said_s = now_s
        kb = connection.n_outstanding / 1e3
        log.warning("cut off %s (%s), with %.0f kB outstanding: %s", connection.peer, door.name, kb, why)


def _monitor(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """What is told when a connection is made, and when it is gone.

    libzmq's thread waits for it when it is full: so it never is.
    """
    address = f"inproc://connections-{id(socket)}"
    socket.monitor(address, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
    monitor = socket.context.socket(zmq.PAIR)
    monitor.setsockopt(zmq.RCVHWM, 0)
    monitor.setsockopt(zmq.LINGER, 0)
    monitor.connect(address)
    return monitor


def _double(fd: int) -> host.socket:
    """Another descriptor of a socket; OSError if it is none."""
    double = os.dup(fd)
    try:
        return host.socket(fileno=double)
    except OSError:
        os.close(double)
        raise


def _listener(port: int) -> host.socket:
    """A double of this process's socket that listens on a port."""
    for path in Path("/proc/self/fd").iterdir():
        try:
            double = _double(int(path.name))
        except OSError:  # no socket, or the listing's own
            continue
        with contextlib.suppress(OSError):
            if double.getsockopt(host.SOL_SOCKET, host.SO_ACCEPTCONN) and double.getsockname()[1] == port:
                return double
        double.close()
    raise ServerError(f"the socket that listens on port {port} cannot be found; is /proc mounted?")


def _most_connections() -> int:
    """Connections to each socket for which there are descriptors; there may be twice as many for a moment."""
    import resource  # it is not on every system

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = _MOST_CONNECTIONS
    if limit != resource.RLIM_INFINITY:
        most = max(4, min(most, (limit - _OTHER_DESCRIPTORS) // 6))
    if most < _MOST_CONNECTIONS:
        log.warning(
            "this process may have %d descriptors open, so at most %d clients can connect to each socket; "
            "for %d raise the limit (ulimit -n)", limit, most, _MOST_CONNECTIONS
        )  # fmt: skip
    return most


def _fd(frame: zmq.Frame) -> int:
    """The descriptor of the connection that a part came on."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:  # it was gone before libzmq knew where it came from
        return -1


def _shown(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    ip, port = address[:2]
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
