"""ZeroMQ's wire protocol, spoken with libzmq, and with peers that break it."""

import socket
import struct

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.protocol.zmtp import PairConnection

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)


def frame(body, flags=0):
    return (
        bytes([flags | 2]) + struct.pack(">Q", len(body)) + body
        if len(body) > 255
        else bytes([flags, len(body)]) + body
    )


def ready(kind=b"PAIR"):
    return frame(b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind, 4)


def met(most_parts=2, most_bytes=5000):
    connection = PairConnection(most_parts, most_bytes)
    assert list(connection.feed(GREETING + ready())) == []
    assert connection.is_ready
    connection.outgoing.clear()
    return connection


@given(
    st.lists(st.lists(st.binary(max_size=600), min_size=1, max_size=2), min_size=1, max_size=5),
    st.lists(st.integers(1, 200), max_size=30),
)
@settings(deadline=None, max_examples=60)
def test_messages_in_any_pieces(messages, sizes):
    content = GREETING + ready()
    for parts in messages:
        content += b"".join(frame(part, place < len(parts) - 1) for place, part in enumerate(parts))
    connection, found = PairConnection(2, 5000), []
    for size in [*sizes, len(content)]:
        found += connection.feed(content[:size])
        content = content[size:]
    assert found == [tuple(parts) for parts in messages]
    assert not connection.is_within_message


def test_what_it_sends_is_what_it_reads():
    connection, peer = met(), met()
    connection.send([b"a", b"b" * 300])
    assert list(peer.feed(bytes(connection.outgoing))) == [(b"a", b"b" * 300)]


def test_a_ping_is_answered_with_its_context():
    connection = met()
    assert list(connection.feed(frame(b"\x04PING\0\x0acontext", 4))) == []
    assert bytes(connection.outgoing) == frame(b"\x04PONGcontext", 4)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "does not speak ZeroMQ"),
        (b"\xff" + bytes(8) + b"\x00", "does not speak ZeroMQ"),
        (b"\xff" + bytes(8) + b"\x7f\x01", "older than version 4"),
        (GREETING[:12] + b"CURVE".ljust(20, b"\0") + bytes(32), "wants to encrypt"),
        (GREETING + ready(b"DEALER"), "not of ZeroMQ's kind PAIR"),
        (GREETING + frame(b"\x05READY", 4), "not of ZeroMQ's kind PAIR"),
        (GREETING + ready() + ready(), "not of ZeroMQ's kind PAIR"),
        (GREETING + frame(b"\x05ERROR\x02no", 4), "refuses the connection"),
        (GREETING + frame(b"hello"), "before it has introduced itself"),
        (GREETING + b"\x06" + struct.pack(">Q", 2**31), "2147483648 bytes at once, where 1024"),
        (GREETING + ready() + b"\x02" + struct.pack(">Q", 2**31), "2147483648 bytes at once, where 5000"),
        (GREETING + ready() + b"\x02" + struct.pack(">Q", 2**63), "bytes at once"),
        (GREETING + ready() + frame(b"x" * 3000, 1) + frame(b"x" * 2001), "2001 bytes at once, where 2000"),
        (GREETING + ready() + frame(b"a", 1) * 2 + frame(b"a"), "more than 2 parts"),
        (GREETING + ready() + b"\x08\x00", "none of ZeroMQ's flags"),
        (GREETING + ready() + b"\x05\x00", "none of ZeroMQ's flags"),
    ],
)
def test_who_breaks_the_protocol_is_told_why(content, says):
    with pytest.raises(InputError, match=says):
        list(PairConnection(2, 5000).feed(content))


def test_a_message_without_end_does_not_grow():
    connection = met(most_parts=2, most_bytes=5000)
    assert list(connection.feed(frame(b"", 1) * 2)) == []
    with pytest.raises(InputError, match="parts"):
        list(connection.feed(frame(b"", 1)))


def test_who_does_not_read_is_let_go():
    connection = met()
    ping = frame(b"\x04PING\0\x0a" + b"c" * 16, 4)
    assert list(connection.feed(ping * 2000)) == []
    with pytest.raises(InputError, match="does not read"):
        list(connection.feed(ping * 2000))


@given(st.binary(max_size=300), st.data())
@settings(deadline=None, max_examples=300)
def test_no_bytes_break_it(junk, data):
    whole = GREETING + ready() + frame(b"{}", 1) + frame(b"voxels" * 60)
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] = data.draw(st.integers(0, 255))
    for content in (junk, bytes(changed), whole[:place], whole[:place] + junk, GREETING + ready() + junk):
        connection = PairConnection(2, 5000)
        try:
            list(connection.feed(content))
        except InputError as error:
            assert str(error)  # noqa: PT017 # whether it is raised depends on the bytes


class LibzmqPeer:
    """A PAIR socket of libzmq, connected to this side of a plain socket."""

    def __init__(self, heartbeat_ms):
        self.connection, self.context = PairConnection(2, 100_000), zmq.Context()
        self.socket = self.context.socket(zmq.PAIR)
        self.socket.rcvtimeo = self.socket.sndtimeo = 10_000
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, heartbeat_ms)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.socket.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
            listener.settimeout(10)
            self.plain, _ = listener.accept()
        self.plain.settimeout(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.plain.close()
        self.context.destroy(linger=0)

    def messages(self, n):
        """Read so many messages."""
        found = []
        while len(found) < n:
            self.flush()
            piece = self.plain.recv(4096)
            assert piece, "libzmq hung up"
            found += self.connection.feed(piece)
        return found

    def flush(self):
        self.plain.sendall(self.connection.outgoing)
        self.connection.outgoing.clear()


@pytest.mark.parametrize("heartbeat_ms", [0, 5])
def test_libzmq_is_understood_and_understands(heartbeat_ms):
    with LibzmqPeer(heartbeat_ms) as peer:
        for n_bytes in (0, 1, 254, 255, 256, 70_000):
            parts = [b"header", b"x" * n_bytes]
            peer.socket.send_multipart(parts)
            assert peer.messages(1) == [tuple(parts)]
            peer.connection.send([b"received", b"y" * min(n_bytes, 60_000)])
            peer.flush()
            assert peer.socket.recv_multipart() == [b"received", b"y" * min(n_bytes, 60_000)]
