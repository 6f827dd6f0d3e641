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

import ctypes
import logging
import math
import os
import socket as host
import struct
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass

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
#: All connections to it together may have so many times as much outstanding as one.
_MOST_TOGETHER = 2
#: A subscriber sends a handshake, one subscription, and heartbeats.
_MOST_SUBSCRIBER_BYTES = 8 << 10
#: Heartbeats of an honest client, with encryption, and twice that.
_HEARTBEAT_BYTES_S = 128.0
#: A message has a header and an array or two; of longer ones so many parts are kept to say what is wrong.
_MOST_PARTS = 16

#: Connections to each of the sockets; and descriptors that the rest of the process needs.
_MOST_CONNECTIONS, _OTHER_DESCRIPTORS = 128, 96
#: When there are too many, a connection this old on which nothing whole ever came goes before the newest.
_UNKNOWN_S = 1.0
#: What came on a connection that is gone waits to be read, but incomplete messages are dropped: it counts for so long.
_GONE_S = 2.0

#: Connections are looked at so often, or less often where that would take more than this share of a processor.
_LOOK_S, _MOST_BUSY = 0.01, 0.02
#: While nothing was received for so long, less often.
_QUIET_S, _QUIET_LOOK_S = 1.0, 0.025
#: So often it is said that connections were cut.
_SAY_S = 1.0
#: Memory is given back to the system after so much was freed, so long after the cut, and not more often.
_FREED_BYTES, _FREED_S = 256 << 10, 0.5

_TCP_INFO_BYTES_RECEIVED = struct.Struct("@128xQ")


def never_stop_input(socket: zmq.Socket[bytes]) -> None:
    """Make a socket, before it is bound or connected, one whose peers cannot make libzmq abort the process.

    Whoever reads it must bound what waits in another way.
    """
    socket.setsockopt(zmq.RCVHWM, 0)


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
    peer : str
        Its address.
    inode : int
        Of the socket; tells it from a later one with the same descriptor.
    since_s : float
        When it was accepted.
    forgiven_s : float
        Up to when heartbeats are accounted for.
    n_received : int
        Bytes that came.
    n_outstanding : float
        Those of them that the server has not taken out.
    is_known : bool
        Whether anything whole came out of it.
    is_cut : bool
    """

    peer: str
    inode: int
    since_s: float
    forgiven_s: float
    n_received: int = 0
    n_outstanding: float = 0.0
    is_known: bool = False
    is_cut: bool = False


class _Door:
    """A listening socket and the connections to it, by their descriptors."""

    def __init__(self, name: str, monitor: zmq.Socket[bytes]) -> None:
        self.name, self.monitor = name, monitor
        self.connections: dict[int, _Connection] = {}
        #: Descriptor, bytes and time of those that are gone, oldest first.
        self.gone: deque[tuple[int, float, float]] = deque()

    @property
    def n_waiting(self) -> float:
        """Bytes outstanding on all connections, also on those that are gone."""
        there = sum(max(0.0, one.n_outstanding) for one in self.connections.values())
        return there + self.n_gone

    @property
    def n_gone(self) -> float:
        """Bytes outstanding on connections that are gone."""
        return sum(n_bytes for _, n_bytes, _ in self.gone)

    def forget(self, fd: int, now_s: float) -> None:
        """Take in that there is no connection with this descriptor any more; what came on it may still be read."""
        if (left := self.connections.pop(fd, None)) and left.n_outstanding > 0:
            self.gone.append((fd, left.n_outstanding, now_s))


@dataclass(frozen=True, slots=True)
class _TakenOut:
    """A message was taken out of the ingest socket."""

    fd: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class _Empty:
    """Nothing complete waits in the ingest socket."""


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
        self._is_empty = True
        self._failure: Exception | None = None
        self._said_s, self._n_unsaid, self._trim_s = -_SAY_S, 0, 0.0
        self._free = getattr(ctypes.CDLL(None), "malloc_trim", None) if IS_BOUNDED else None
        self._thread: threading.Thread | None = None
        if not IS_BOUNDED:
            log.warning("this system does not tell what comes on a connection: what clients make the server hold "
                        "is not bounded; let only clients connect that you trust")  # fmt: skip
            return
        self._most_connections = _most_connections()
        self._ingest, self._publish = (
            _Door(name, _monitor(socket)) for name, socket in zip(("ingest", "publish"), self._sockets, strict=True)
        )
        # What is looked at is doubled into one descriptor, kept for that: so it stays what it is while it is looked at,
        # and a process that has no descriptor left can still cut connections.
        self._null = os.open(os.devnull, os.O_RDONLY)
        self._held = host.socket(host.AF_INET, host.SOCK_STREAM)
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
        socket = self._sockets[0]
        frames = [socket.recv(copy=False)]
        n_parts = n_bytes = 0
        frame = frames[0]
        while frame.more:
            frame = socket.recv(copy=False)
            n_parts += 1
            n_bytes += self._on_the_wire(len(frame))
            if n_parts <= _MOST_PARTS:
                frames.append(frame)
            elif n_parts == _MOST_PARTS + 1:
                self._offence(frame, "a message of very many parts")
        self._is_empty = False
        if self._thread and len(frames) > 1:
            self._notes.append(_TakenOut(_fd(frames[1]), n_bytes))
        self._check()
        return frames

    def nothing_waits(self) -> None:
        """Take note that no complete message waits in the ingest socket."""
        if self._thread and not self._is_empty:
            self._notes.append(_Empty())
        self._is_empty = True
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
            door.monitor.close(linger=0)
        os.close(self._null)
        for one in (self._held, self._wake, self._woken):
            one.close()

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
            for socket in (self._ingest.monitor, self._publish.monitor, self._woken):
                poller.register(socket, zmq.POLLIN)
            wait_s, active_s = 1.0, 0.0
            while not self._stopping.is_set():
                ready = dict(poller.poll(math.ceil(wait_s * 1e3)))
                if self._woken.fileno() in ready:
                    self._woken.recv(4096)
                started_s = time.monotonic()
                if self._look(started_s):
                    active_s = started_s
                if not (self._ingest.connections or self._publish.connections or self._trim_s):
                    wait_s = 1.0
                else:
                    look_s = _LOOK_S if started_s - active_s < _QUIET_S else _QUIET_LOOK_S
                    wait_s = max(look_s, (time.monotonic() - started_s) / _MOST_BUSY)
        except Exception as error:  # noqa: BLE001 # whatever it is: the server's thread ends with it
            self._failure = error

    def _look(self, now_s: float) -> bool:
        """Bring the counts up to date, and cut what is over them; whether anything came."""
        came = False
        for door in (self._ingest, self._publish):
            while door.monitor.poll(0):
                heard = recv_monitor_message(door.monitor)
                self._hear(door, heard["event"], int(heard["value"]), now_s)
                came = True
        for _ in range(len(self._notes)):
            self._take_note(self._notes.popleft(), now_s)
        came |= self._measure(self._ingest, now_s) + self._measure(self._publish, now_s) > 0
        for door in (self._ingest, self._publish):
            while door.gone and now_s - door.gone[0][2] > _GONE_S:
                door.gone.popleft()
        self._cut_senders(now_s)
        self._cut_subscribers(now_s)
        if self._free and self._trim_s and now_s > self._trim_s:
            self._trim_s = 0.0
            self._free(0)
        if self._n_unsaid and now_s - self._said_s > _SAY_S:
            log.warning("%d more connections were cut", self._n_unsaid)
            self._said_s, self._n_unsaid = now_s, 0
        return came

    def _hear(self, door: _Door, event: int, fd: int, now_s: float) -> None:
        """Take in that a connection was made, or is gone."""
        door.forget(fd, now_s)
        if event != zmq.EVENT_ACCEPTED or not self._hold(fd):
            return
        try:
            peer = _shown(self._held.getpeername())
        except OSError:  # gone already, of which is told next
            return
        finally:
            inode = os.fstat(self._held.fileno()).st_ino
            self._let_go()
        door.connections[fd] = _Connection(peer, inode, now_s, now_s)
        if door is self._ingest and door.n_gone > self._most_bytes:
            self._cut(door, fd, "what others left behind has not been read yet", now_s)
        there = [(fd, one) for fd, one in door.connections.items() if not one.is_cut]
        if len(there) > self._most_connections:
            unknown = [fd for fd, one in there if not one.is_known and now_s - one.since_s > _UNKNOWN_S]
            self._cut(door, unknown[0] if unknown else there[-1][0], "there are too many connections", now_s)

    def _take_note(self, note: _TakenOut | _Empty | _Subscribed | _Offence, now_s: float) -> None:
        match note:
            case _TakenOut(fd, n_bytes):
                self._count(fd, n_bytes, now_s)
            case _Empty():
                self._ingest.gone.clear()
            case _Subscribed(fd):
                if connection := self._publish.connections.get(fd):
                    connection.is_known = True
            case _Offence(fd, at_publish, why):
                self._cut(self._publish if at_publish else self._ingest, fd, why, now_s)

    def _count(self, fd: int, n_bytes: float, now_s: float) -> None:
        """Take note that so many bytes of a connection, or of one that had its descriptor, were taken out."""
        for at, (of, n_left, since_s) in enumerate(self._ingest.gone):
            if of == fd:
                self._ingest.gone[at] = of, max(0.0, n_left - n_bytes), since_s
                n_bytes -= min(n_bytes, n_left)
        if not n_bytes or not (connection := self._ingest.connections.get(fd)):
            return
        connection.is_known = True
        connection.n_outstanding -= n_bytes
        if connection.n_outstanding > 0:
            forgiven = _HEARTBEAT_BYTES_S * (now_s - connection.forgiven_s)
            connection.n_outstanding = max(0.0, connection.n_outstanding - forgiven)
        connection.forgiven_s = now_s

    def _measure(self, door: _Door, now_s: float) -> int:
        """Ask the kernel what came since the last time; how much, on all connections."""
        came = 0
        for fd, connection in [*door.connections.items()]:
            if not self._hold(fd, connection.inode):
                # Closed: libzmq tells of it next, or not at all.
                door.forget(fd, now_s)
                continue
            info = self._held.getsockopt(host.IPPROTO_TCP, host.TCP_INFO, _TCP_INFO_BYTES_RECEIVED.size)
            if len(info) < _TCP_INFO_BYTES_RECEIVED.size:
                raise OSError("this kernel does not tell what came on a connection; it must be Linux 4.1 or later")
            (n_received,) = _TCP_INFO_BYTES_RECEIVED.unpack(info)
            # What was taken out since the notes were read may come to less than nothing; more than that was another's.
            before = max(0.0, connection.n_outstanding)
            connection.n_outstanding = before + n_received - connection.n_received
            came += n_received - connection.n_received
            connection.n_received = n_received
        self._let_go()
        return came

    def _cut_senders(self, now_s: float) -> None:
        """Cut connections on which too much is outstanding, and of too many on which much is, the worst."""
        door = self._ingest
        waiting = {fd: one.n_outstanding for fd, one in door.connections.items() if not one.is_cut}
        for fd, n_bytes in waiting.items():
            if n_bytes > self._most_bytes:
                self._cut(door, fd, "what it sent is incomplete, or more than is read in time", now_s)
        if door.n_waiting > _MOST_TOGETHER * self._most_bytes and waiting:
            fd = max(waiting, key=waiting.__getitem__)
            if not door.connections[fd].is_cut and waiting[fd] > _MOST_SUBSCRIBER_BYTES:
                self._cut(door, fd, "what all clients sent is incomplete, or more than is read in time", now_s)

    def _cut_subscribers(self, now_s: float) -> None:
        """Cut subscribers that send more than a subscription and heartbeats."""
        for fd, connection in self._publish.connections.items():
            forgiven = _HEARTBEAT_BYTES_S * (now_s - connection.forgiven_s)
            connection.n_outstanding = max(0.0, connection.n_outstanding - forgiven)
            connection.forgiven_s = now_s
            if connection.n_outstanding > _MOST_SUBSCRIBER_BYTES and not connection.is_cut:
                self._cut(self._publish, fd, "a subscriber sends no more than a subscription and heartbeats", now_s)

    def _cut(self, door: _Door, fd: int, why: str, now_s: float) -> None:
        """Shut a connection; libzmq then closes it, and drops what is incomplete."""
        connection = door.connections.get(fd)
        if connection is None or connection.is_cut or not self._hold(fd, connection.inode):
            return
        connection.is_cut = True
        try:
            self._held.shutdown(host.SHUT_RDWR)
        except OSError:  # the peer was quicker
            return
        finally:
            self._let_go()
        self.n_cut += 1
        if self._free and not self._trim_s and (door is self._publish or connection.n_outstanding > _FREED_BYTES):
            self._trim_s = now_s + _FREED_S
        if now_s - self._said_s < _SAY_S:
            self._n_unsaid += 1
            return
        self._said_s = now_s
        kb = connection.n_outstanding / 1e3
        log.warning("cut off %s (%s), with %.0f kB outstanding: %s", connection.peer, door.name, kb, why)

    def _hold(self, fd: int, inode: int | None = None) -> bool:
        """Double a descriptor into `_held`, so that it cannot become another; whether it is there, and that socket."""
        try:
            os.dup2(fd, self._held.fileno(), inheritable=False)
        except OSError:  # closed meanwhile
            return False
        return inode is None or os.fstat(self._held.fileno()).st_ino == inode

    def _let_go(self) -> None:
        os.dup2(self._null, self._held.fileno(), inheritable=False)


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


def _most_connections() -> int:
    """Connections to each socket for which there are descriptors; there may be twice as many for a moment."""
    import resource  # it is not on every system

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = _MOST_CONNECTIONS
    if limit != resource.RLIM_INFINITY:
        most = max(4, min(most, (limit - _OTHER_DESCRIPTORS) // 4))
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
