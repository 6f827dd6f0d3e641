"""Guard of the connections to a server's sockets: it counts the bytes held for each, and cuts those that hold too many.

libzmq has a limit on the messages that wait for a reader (RCVHWM), but it must not be used. When it is reached, the
connection's input stops; if the peer then resets the connection, the engine notes the error and goes on waiting for the
reader, and any write to it before that aborts the process (`Assertion failed: !_io_error`): its own heartbeat, or the
reply to a PING of the peer that was received after the limit was reached. So input never stops here
(`never_stop_input`). The kernel detects dead peers, and waiting data are bounded from outside: the kernel counts the
bytes that came on each connection, the server reports the bytes of the messages that it took out, and a connection is
shut if more bytes are outstanding on it than an honest client ever has under way. Its client connects again and sends
again the messages that were not acknowledged.

The difference between the two counts consists of messages that wait, parts of an incomplete message, and heartbeats. A
connection's messages come out in the order in which they went in: when one comes out, all heartbeats before it have
been handled. So heartbeats are subtracted then, at the rate at which honest clients send them; nothing is subtracted
while a message stays incomplete, however slowly it grows.
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

#: Whether the operating system tells how many bytes came on a connection.
IS_BOUNDED = sys.platform == "linux"

#: Messages of an XPUB socket for a subscription to everything, and for its end.
SUBSCRIPTION, UNSUBSCRIPTION = b"\x01", b"\x00"

#: Seconds of silence after which a peer counts as dead, and after which it is first probed; then it is every second.
_SILENT_S, _PROBE_AFTER_S = 5, 2

#: Bytes that may be outstanding on a connection to the ingest socket besides two volumes: a message's header, and
#: events. With keys, a part of a message is as long on the wire as in memory, or longer; without keys, an empty part
#: takes 32 times as much memory.
_MOST_PLAIN_BYTES, _MOST_ENCRYPTED_BYTES = 1 << 20, 8 << 20
#: All connections together may have as many bytes outstanding as one. If this share of them was left behind by
#: connections that are gone, and waits to be read, no connection is admitted for now.
_MOST_LEFT_BEHIND = 0.25
#: Most bytes from a subscriber, which sends a handshake, one subscription, and heartbeats.
_MOST_SUBSCRIBER_BYTES = 8 << 10
#: Upper limit of the length of a handshake.
_HANDSHAKE_BYTES = 1 << 10
#: Twice the rate at which an honest client sends bytes of heartbeats, with encryption.
_HEARTBEAT_BYTES_S = 128.0
#: Parts of a message that are kept to say what is wrong with it; a real one has a header and an array or two.
_MOST_PARTS = 16

#: Most connections to each of the sockets, and descriptors that the rest of the process needs.
_MOST_CONNECTIONS, _OTHER_DESCRIPTORS = 128, 96
#: Age in seconds from which a connection without any complete message is cut if there are too many connections.
_UNKNOWN_S = 1.0
#: Seconds for which the bytes of a connection that is gone count as outstanding, unless nothing waits before: they wait
#: to be read, or were incomplete and are dropped.
_GONE_S = 10.0
#: Bytes that are assumed to have come on a connection that was gone before it could be examined.
_UNSEEN_SENDER_BYTES, _UNSEEN_SUBSCRIBER_BYTES = 256 << 10, 4 << 10
#: Most bytes from subscribers that are gone; libzmq takes long to search and to drop the subscriptions in them.
_MOST_GONE_SUBSCRIBER_BYTES = 512 << 10

#: Connections are examined when data come: at least `_LOOK_S` after the last time, later if this would take more than
#: the share `_MOST_BUSY` of a processor, but at most `_LATEST_LOOK_S` later; without data, each `_IDLE_LOOK_S`.
_LOOK_S, _MOST_BUSY, _LATEST_LOOK_S, _IDLE_LOOK_S = 0.001, 0.05, 0.02, 0.5
#: Seconds between log lines about connections that were cut.
_SAY_S = 1.0
#: Bytes freed by a cut from which memory is given back to the system, and seconds from the cut until that is done.
_FREED_BYTES, _FREED_S = 256 << 10, 0.5

#: An option of libzmq's contexts, since 4.3, for which pyzmq has no name.
_ZERO_COPY_RECV = 10
_TCP_INFO_BYTES_RECEIVED = struct.Struct("@128xQ")
#: A packet filter of one instruction: return 0, keep nothing.
_INSTRUCTION = ctypes.create_string_buffer(struct.pack("@HBBI", 0x06, 0, 0, 0), 8)
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_DROP_ALL = struct.pack("@HP", 1, ctypes.addressof(_INSTRUCTION))


def never_stop_input(socket: zmq.Socket[bytes]) -> None:
    """Set a socket so that its peers cannot make libzmq abort the process.

    The waiting messages must then be limited in another way.

    Parameters
    ----------
    socket : zmq.Socket
        Socket that is not bound or connected yet.
    """
    socket.setsockopt(zmq.RCVHWM, 0)


def context() -> zmq.Context[zmq.Socket[bytes]]:
    """Make a context in which a short part of a message does not keep its receive buffer of 18 kB in memory."""
    zmq_context = zmq.Context()
    try:
        zmq_context.set(_ZERO_COPY_RECV, 0)
    except zmq.ZMQError:  # ZeroMQ may drop this option, which only saves memory
        log.warning("this libzmq (%s) keeps more memory than it needs for short messages", zmq.zmq_version())
    return zmq_context


def notice_dead_peers(socket: zmq.Socket[bytes]) -> None:
    """Let the kernel close connections whose peer was silent for five seconds.

    Heartbeats of ZeroMQ do the same, but write to connections that may have failed.

    Parameters
    ----------
    socket : zmq.Socket
        Socket that is not bound yet.
    """
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, _PROBE_AFTER_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, _SILENT_S - _PROBE_AFTER_S)
    socket.setsockopt(zmq.TCP_MAXRT, _SILENT_S * 1000)


@dataclass(slots=True, eq=False)
class _Connection:
    """Counts of one connection.

    Attributes
    ----------
    socket : socket.socket
        Duplicate of libzmq's socket, so that its descriptor cannot be reused while it is examined.
    peer : str
        Address of the peer.
    since_s : float
        Time at which the connection was accepted.
    forgiven_s : float
        Time up to which heartbeats are subtracted.
    n_received : int
        Bytes that came.
    n_outstanding : float
        Bytes that came and that the server has not taken out.
    is_known : bool
        Whether a complete message ever came out of the connection.
    was_read : bool
        Whether a complete message came out since the connection was last examined.
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
        """Ask the kernel for the number of bytes that came.

        Raises
        ------
        OSError
            If the kernel does not tell.
        """
        info = self.socket.getsockopt(host.IPPROTO_TCP, host.TCP_INFO, _TCP_INFO_BYTES_RECEIVED.size)
        if len(info) < _TCP_INFO_BYTES_RECEIVED.size:
            raise OSError("this kernel does not tell what came on a connection; it must be Linux 4.1 or later")
        (n_received,) = _TCP_INFO_BYTES_RECEIVED.unpack(info)
        # It is negative only if bytes were taken out that came on an earlier connection.
        self.n_outstanding = max(0.0, self.n_outstanding + n_received - self.n_received)
        self.n_received = n_received

    def forgive(self, now_s: float) -> None:
        """Subtract as many bytes as honest clients send as heartbeats."""
        self.n_outstanding = max(0.0, self.n_outstanding - _HEARTBEAT_BYTES_S * (now_s - self.forgiven_s))
        self.forgiven_s = now_s


class _Door:
    """A listening socket and the connections to it, by their descriptors.

    Parameters
    ----------
    name : str
        Name of the socket in the log.
    socket : zmq.Socket
        Socket that is bound to a port.
    unseen_bytes : int
        Bytes to count for a connection that was gone before it could be examined.
    """

    def __init__(self, name: str, socket: zmq.Socket[bytes], unseen_bytes: int) -> None:
        self.name, self._unseen_bytes = name, unseen_bytes
        self.monitor = _monitor(socket)
        self._port = int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        self._listener = _listener(self._port)
        self._spare, self._null = host.socket(), os.open(os.devnull, os.O_RDONLY)
        self.is_shut, self.said_s = False, -_SAY_S
        #: Ready if bytes came on any connection since the last poll.
        self.news = select.epoll()
        self.connections: dict[int, _Connection] = {}
        #: Descriptor, outstanding bytes and time of connections that are gone, oldest first.
        self.gone: deque[tuple[int, float, float]] = deque()

    @property
    def n_gone(self) -> float:
        """Outstanding bytes of connections that are gone."""
        return sum(n_bytes for _, n_bytes, _ in self.gone)

    def add(self, fd: int, now_s: float) -> _Connection | None:
        """Add a new connection; return None if it is gone already."""
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
        """Shut a connection if no descriptor is left to duplicate it, by means of a descriptor kept for this."""
        with contextlib.suppress(OSError):  # the connection may be gone, or its descriptor be another socket's
            os.dup2(fd, self._spare.fileno(), inheritable=False)
            if self._spare.getsockname()[1] == self._port:
                self._spare.shutdown(host.SHUT_RDWR)
        os.dup2(self._null, self._spare.fileno(), inheritable=False)

    def forget(self, fd: int, now_s: float) -> None:
        """Remove the connection with a descriptor, if any; bytes that came on it may still wait to be read."""
        if connection := self.connections.pop(fd, None):
            connection.measure()
            connection.socket.close()
            if connection.n_outstanding > _HANDSHAKE_BYTES:
                self.gone.append((fd, connection.n_outstanding, now_s))

    def measure(self, now_s: float) -> None:
        """Update the counts of all connections, and remove those that are gone."""
        for fd, connection in [*self.connections.items()]:
            connection.measure()
            if connection.was_read:
                connection.forgive(now_s)
                connection.was_read = False
            try:
                is_open = os.fstat(fd).st_ino == os.fstat(connection.socket.fileno()).st_ino
            except OSError:
                is_open = False
            if not is_open:  # libzmq closed it, and reports that later or not at all
                self.forget(fd, now_s)
        while self.gone and now_s - self.gone[0][2] > _GONE_S:
            self.gone.popleft()

    def shut(self, is_shut: bool) -> None:
        """Stop admitting connections, or admit them again; clients meanwhile try again after a second, as TCP does.

        libzmq cannot be told to wait, and has read megabytes from a connection before it reports it; so the kernel
        drops all packets for the listening socket.
        """
        if is_shut != self.is_shut:
            self.is_shut = is_shut
            if is_shut:
                self._listener.setsockopt(host.SOL_SOCKET, _SO_ATTACH_FILTER, _DROP_ALL)
            else:
                self._listener.setsockopt(host.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def close(self) -> None:
        """Close the duplicated sockets and the monitor."""
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
    """Note that a message was taken out of the ingest socket."""

    fd: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class _Empty:
    """Note that no complete message waits in a socket."""

    at_publish: bool


@dataclass(frozen=True, slots=True)
class _Subscribed:
    """Note that a valid subscription came."""

    fd: int


@dataclass(frozen=True, slots=True)
class _Offence:
    """Note that a message came that no honest client sends."""

    fd: int
    at_publish: bool
    why: str


class ConnectionGuard(Closing):
    """Guard that cuts connections on which a server would have to hold too much, in a thread of its own.

    The thread also works while the server computes, as libzmq receives meanwhile, too. The public methods are for the
    server's thread.

    Parameters
    ----------
    ingest : zmq.Socket
        A bound ROUTER socket.
    publish : zmq.Socket
        A bound XPUB socket.
    encrypted : bool
        Whether the sockets are CURVE servers.

    Attributes
    ----------
    n_cut : int
        Number of connections that were cut so far.

    Raises
    ------
    ServerError
        If a port's listening socket cannot be found among the descriptors of this process.
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
        """Set the size of the largest expected volume, from which the limit of a connection follows.

        Parameters
        ----------
        volume_bytes : int
            Upper limit of the length of the volume's array, in bytes.
        """
        self._most_bytes = self._base_bytes + 2 * volume_bytes

    def receive(self) -> list[zmq.Frame]:
        """Receive one complete message from the ingest socket: identity, header and arrays.

        If it has very many parts, only the first are kept, and its connection is cut: no honest client sends it.

        Raises
        ------
        ServerError
            If the guard's thread failed, so that the server's memory is not protected any more.
        """
        receive = self._sockets[0].recv
        frames = [frame := receive(copy=False)]
        while frame.more and len(frames) <= _MOST_PARTS:
            frames.append(frame := receive(copy=False))
        n_bytes = sum(self._on_the_wire(len(part)) for part in frames[1:])
        if frame.more:
            # All other parts, perhaps half a million, must be taken out before the next message can be.
            self._offence(frame, "a message of very many parts")
            while frame.more:
                frame = receive(copy=False)
                n_bytes += len(frame) + 2
        if self._thread and len(frames) > 1:
            self._notes.append(_TakenOut(_fd(frames[1]), n_bytes))
        self._check()
        return frames

    def nothing_waits(self, *, at_publish: bool = False) -> None:
        """Note that no complete message waits in one of the sockets.

        Parameters
        ----------
        at_publish : bool
            Whether it is the publish socket, and not the ingest socket.

        Raises
        ------
        ServerError
            See `receive`.
        """
        if self._thread and (self._publish if at_publish else self._ingest).gone:
            self._notes.append(_Empty(at_publish))
        self._check()

    def receive_subscription(self) -> bool:
        """Receive a message at the publish socket; return whether it is a subscription to everything.

        A connection is cut if it sends anything but such a subscription or its end.
        """
        frame = self._sockets[1].recv(copy=False)
        if (sent := frame.bytes) not in (SUBSCRIPTION, UNSUBSCRIPTION) or frame.more:
            self._offence(frame, "a subscription to something else than everything (the empty prefix)", at_publish=True)
            return False
        if self._thread and sent == SUBSCRIPTION:
            self._notes.append(_Subscribed(_fd(frame)))
        return sent == SUBSCRIPTION

    def close(self) -> None:
        """Stop watching the connections."""
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
        except BlockingIOError:  # the thread has been woken already
            return

    def _on_the_wire(self, n_bytes: int) -> int:
        """Return the bytes of a part on the wire: with 33 for encryption, a length in 1 or 8 bytes, and flags."""
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
        except Exception as error:  # noqa: BLE001 # any error is raised in the server's thread
            self._failure = error

    def _look(self, now_s: float) -> None:
        """Update the counts, and cut connections that exceed the limits."""
        for door in (self._ingest, self._publish):
            door.news.poll(0)
            while door.monitor.poll(0):
                report = recv_monitor_message(door.monitor)
                self._hear(door, report["event"], int(report["value"]), now_s)
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
        """Take in an event of the monitor: a connection was made, or is gone."""
        door.forget(fd, now_s)
        if event != zmq.EVENT_ACCEPTED:
            return
        if door.add(fd, now_s) and len(door.connections) > self._most_connections:
            self._cut(door, fd, "there are too many connections", now_s)

    def _shut_or_open(self, door: _Door, most_gone_bytes: float, now_s: float) -> None:
        """Admit no connections while there are too many, or while bytes of those that are gone wait to be read."""
        is_full = len(door.connections) >= self._most_connections
        if is_full:
            for fd, connection in [*door.connections.items()]:
                if not connection.is_known and now_s - connection.since_s > _UNKNOWN_S:
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
        """Subtract bytes that were taken out, first from connections gone that had this descriptor, then from this."""
        for position, (gone_fd, n_left, since_s) in enumerate(self._ingest.gone):
            if gone_fd == fd:
                self._ingest.gone[position] = gone_fd, max(0.0, n_left - n_bytes), since_s
                n_bytes -= min(n_bytes, n_left)
        if n_bytes and (connection := self._ingest.connections.get(fd)):
            connection.is_known = connection.was_read = True
            connection.n_outstanding -= n_bytes

    def _cut_senders(self, now_s: float) -> None:
        """Cut connections with too many bytes outstanding; if all together have too many, cut the worst ones, too."""
        door = self._ingest
        waiting = {fd: connection.n_outstanding for fd, connection in door.connections.items() if not connection.is_cut}
        for fd, n_bytes in waiting.items():
            if n_bytes > self._most_bytes:
                self._cut(door, fd, "what it sent is incomplete, or more than is read in time", now_s)
        excess_bytes = sum(waiting.values()) - self._most_bytes
        for fd in sorted(waiting, key=waiting.__getitem__, reverse=True):
            if excess_bytes <= 0 or waiting[fd] <= _HANDSHAKE_BYTES:
                return
            excess_bytes -= waiting[fd]
            self._cut(door, fd, "what all clients sent is incomplete, or more than is read in time", now_s)

    def _cut_subscribers(self, now_s: float) -> None:
        """Cut subscribers that send more than a subscription and heartbeats."""
        for fd, connection in self._publish.connections.items():
            connection.forgive(now_s)
            if connection.n_outstanding > _MOST_SUBSCRIBER_BYTES and not connection.is_cut:
                self._cut(self._publish, fd, "a subscriber sends no more than a subscription and heartbeats", now_s)

    def _cut(self, door: _Door, fd: int, why: str, now_s: float) -> None:
        """Shut a connection; libzmq then closes it, and drops incomplete messages."""
        connection = door.connections.get(fd)
        if connection is None or connection.is_cut:
            return
        connection.is_cut = True
        try:
            # This resets the connection when libzmq closes it: otherwise a peer that writes would wait for a minute.
            connection.socket.setsockopt(host.SOL_SOCKET, host.SO_LINGER, struct.pack("@ii", 1, 0))
            connection.socket.shutdown(host.SHUT_RDWR)
        except OSError:  # the peer closed the connection first
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
    """Make a monitor that reports when a connection is made, and when it is gone.

    The monitor's queue is unlimited, as libzmq's thread would wait if it were full.
    """
    address = f"inproc://connections-{id(socket)}"
    socket.monitor(address, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
    monitor = socket.context.socket(zmq.PAIR)
    monitor.setsockopt(zmq.RCVHWM, 0)
    monitor.setsockopt(zmq.LINGER, 0)
    monitor.connect(address)
    return monitor


def _double(fd: int) -> host.socket:
    """Duplicate the descriptor of a socket; raise OSError if it is not that of a socket."""
    double = os.dup(fd)
    try:
        return host.socket(fileno=double)
    except OSError:
        os.close(double)
        raise


def _listener(port: int) -> host.socket:
    """Duplicate the socket of this process that listens on a port."""
    for path in Path("/proc/self/fd").iterdir():
        try:
            double = _double(int(path.name))
        except OSError:  # not a socket, or the descriptor of this listing
            continue
        with contextlib.suppress(OSError):
            if double.getsockopt(host.SOL_SOCKET, host.SO_ACCEPTCONN) and double.getsockname()[1] == port:
                return double
        double.close()
    raise ServerError(f"the socket that listens on port {port} cannot be found; is /proc mounted?")


def _most_connections() -> int:
    """Return the most connections to each socket, by the limit of descriptors; a moment may need twice as many."""
    import resource  # not available on every system

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
    """Return the descriptor of the connection on which a part came; -1 if it is not known."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:  # the connection was gone before libzmq noted its descriptor
        return -1


def _shown(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    ip, port = address[:2]
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
