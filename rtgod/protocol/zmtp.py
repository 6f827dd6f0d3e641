"""ZeroMQ's wire protocol as a listening PAIR socket speaks it: the bytes of a connection to messages, without sockets.

ZMTP 3.0 (RFC 23) with the NULL mechanism. libzmq is not used for senders that are not rtgod's: it does not limit the
parts of a message that never ends, does not name the peer of a PAIR socket, and leaves a second one without an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rtgod.errors import InputError

#: Bits of the first byte of a frame: more frames of its message follow, its length has 8 bytes, it is a command.
_MORE, _LONG, _COMMAND = 1, 2, 4
#: Signature, version, mechanism, role and padding, 64 bytes in all.
_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
#: Most bytes of a frame before the peer has introduced itself, and of a command.
_LONGEST_COMMAND = 1024
#: Most bytes that wait for a peer that does not read.
_MOST_WAITING = 2**16


class PairConnection:
    """One peer's connection, whose bytes come in pieces of any size.

    Parameters
    ----------
    most_parts : int
        Most parts of a message.
    most_bytes : int
        Most bytes of all parts of a message.

    Attributes
    ----------
    is_ready : bool
        Whether the peer has introduced itself as a PAIR socket.
    outgoing : bytearray
        Bytes to send to the peer; whoever sends some takes them out.
    """

    def __init__(self, most_parts: int, most_bytes: int) -> None:
        self._most_parts, self._most_bytes = most_parts, most_bytes
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._is_greeted = self.is_ready = False
        self.outgoing = bytearray(_GREETING)

    @property
    def is_within_message(self) -> bool:
        """Whether a message has begun to come, and is not whole."""
        return bool(self._parts or self._buffer)

    def feed(self, data: bytes) -> Iterator[tuple[bytes, ...]]:
        """Take bytes, and give the messages that they complete, each as its parts.

        Parameters
        ----------
        data : bytes

        Raises
        ------
        InputError
            If the peer does not speak this protocol, is no PAIR socket, or sends more than it may.
        """
        self._buffer += data
        if not self._is_greeted and not self._greet():
            return
        while (frame := self._frame()) is not None:
            flags, body = frame
            if flags & _COMMAND:
                self._command(body)
                continue
            if not self.is_ready:
                raise InputError("it sends messages before it has introduced itself")
            self._parts.append(body)
            if not flags & _MORE:
                message, self._parts = tuple(self._parts), []
                yield message

    def send(self, parts: Sequence[bytes]) -> None:
        """Queue a message.

        Parameters
        ----------
        parts : sequence of bytes

        Raises
        ------
        InputError
            If the peer does not read what was sent before.
        """
        last = len(parts) - 1
        for place, part in enumerate(parts):
            self._queue(_framed(part, _MORE if place < last else 0))

    def _queue(self, frame: bytes) -> None:
        self.outgoing += frame
        if len(self.outgoing) > _MOST_WAITING:
            raise InputError("it does not read the answers")

    def _greet(self) -> bool:
        """Check the peer's greeting, once it has come, and introduce us."""
        greeting = bytes(self._buffer[: len(_GREETING)])
        if greeting[:1] not in (b"", b"\xff") or (len(greeting) > 9 and not greeting[9] & 1):
            raise InputError("it does not speak ZeroMQ's protocol")
        if len(greeting) > 10 and greeting[10] < 3:
            raise InputError("its ZeroMQ is older than version 4; update it")
        if len(greeting) < len(_GREETING):
            return False
        if greeting[12:32].rstrip(b"\0") != b"NULL":
            raise InputError("it wants to encrypt or to name itself, which this protocol does not")
        del self._buffer[: len(_GREETING)]
        self._is_greeted = True
        kind = b"PAIR"
        self._queue(_framed(b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind, _COMMAND))
        return True

    def _frame(self) -> tuple[int, bytes] | None:
        """Take the next frame out of the buffer; None if it is not whole."""
        if not self._buffer:
            return None
        flags = self._buffer[0]
        if flags > _MORE | _LONG | _COMMAND or (flags & _COMMAND and flags & _MORE):
            raise InputError("a frame of it begins with none of ZeroMQ's flags")
        n_head = 9 if flags & _LONG else 2
        if len(self._buffer) < n_head:
            return None
        n_bytes = int.from_bytes(self._buffer[1:n_head], "big")
        if flags & _COMMAND or not self.is_ready:
            n_most = _LONGEST_COMMAND
        else:
            n_most = self._most_bytes - sum(map(len, self._parts))
            if len(self._parts) == self._most_parts:
                raise InputError(f"a message of it has more than {self._most_parts} parts")
        if n_bytes > n_most:
            raise InputError(f"it sends {n_bytes} bytes at once, where {n_most} are possible")
        if len(self._buffer) < n_head + n_bytes:
            return None
        with memoryview(self._buffer) as view:
            body = bytes(view[n_head : n_head + n_bytes])
        del self._buffer[: n_head + n_bytes]
        return flags, body

    def _command(self, body: bytes) -> None:
        name, rest = body[1 : 1 + body[0]] if body else b"", body[1 + body[0] :] if body else b""
        if name == b"ERROR":
            raise InputError("it refuses the connection")
        if name == b"READY":
            kind = _properties(rest).get(b"socket-type", b"")
            if self.is_ready or kind != b"PAIR":
                raise InputError("its socket is not of ZeroMQ's kind PAIR")
            self.is_ready = True
        elif name == b"PING" and self.is_ready:
            self._queue(_framed(b"\x04PONG" + rest[2:18], _COMMAND))  # after the time to live, the context is returned


def _framed(body: bytes, flags: int) -> bytes:
    if len(body) > 255:
        return bytes([flags | _LONG]) + len(body).to_bytes(8, "big") + body
    return bytes([flags, len(body)]) + body


def _properties(raw: bytes) -> dict[bytes, bytes]:
    """Read the properties of a peer, by their names in lower case, as far as they are whole."""
    found: dict[bytes, bytes] = {}
    while raw:
        name, rest = raw[1 : 1 + raw[0]], raw[1 + raw[0] :]
        n_bytes = int.from_bytes(rest[:4], "big")
        found[name.lower()] = rest[4 : 4 + n_bytes]
        raw = rest[4 + n_bytes :]
    return found
