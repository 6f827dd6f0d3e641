"""Messages and bytes that no honest client sends: a server must refuse the messages by name, and survive them all."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from rtgod.errors import WireError
from rtgod.messages import Event, Ping, Run
from rtgod.protocol.frames import from_frames, to_frames
from rtgod.server.session import Session
from tests import small
from tests.strategies import MESSAGES, json_values, texts

#: Types of messages that a server takes at any time; all others that are well formed need a run that is being received.
_TAKEN = (Run, Event, Ping)

#: The beginning of ZeroMQ's own protocol (RFC 23), version 3.0 without encryption; then READY from a DEALER.
_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


def is_refused(frames: list[bytes]) -> bool:
    """Whether a server that receives no run must refuse these frames."""
    try:
        return bool(frames) and not isinstance(from_frames(frames), _TAKEN)
    except WireError:
        return True


def by_bytes(rng: random.Random) -> list[bytes]:
    """Make frames of a real message with bytes changed, cut, added, repeated or left out, or frames of random bytes."""
    originals = (small.run(), small.volume(rng.randrange(12)), small.RANKING, Session(None).hello())
    while True:
        frames = [bytearray(frame) for frame in to_frames(rng.choice(originals))]
        at = rng.randrange(len(frames))
        match rng.randrange(6):
            case 0:
                frames[0][rng.randrange(len(frames[0]))] = rng.randrange(256)
            case 1:
                del frames[at][rng.randrange(len(frames[at])) :]
            case 2:
                frames[at] += rng.randbytes(rng.randrange(1, 100))
            case 3:
                frames.insert(at, bytearray(frames[at]))
            case 4:
                frames = [bytearray(rng.randbytes(rng.randrange(200))) for _ in range(rng.randrange(1, 5))]
            case _:
                del frames[at]
        sent = [bytes(frame) for frame in frames]
        if is_refused(sent):
            return sent


@st.composite
def by_fields(draw: st.DrawFn) -> list[bytes]:
    """Draw frames of a message of any type, with fields of the header changed, removed or added, or left whole."""
    frames = [bytes(frame) for frame in to_frames(draw(st.one_of(*MESSAGES.values())))]
    header = json.loads(frames[0])
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(header)) | texts)
        if draw(st.booleans()):
            header[name] = draw(json_values)
        else:
            header.pop(name, None)
        assume(header)
    return [json.dumps(header).encode(), *frames[1:]]


def send_by_fields(n: int, send: Callable[[list[bytes]], None]) -> None:
    """Call `send` with `n` messages of `by_fields` that must be refused; each time the same ones."""

    @settings(
        max_examples=n,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(by_fields().filter(is_refused))
    def example(frames: list[bytes]) -> None:
        send(frames)

    example()


def garbage(rng: random.Random) -> bytes:
    """Make bytes to write to a plain connection: random ones, alone, or after ZeroMQ's greeting or an absurd length."""
    length = rng.choice((2**31, 2**40, 2**63 - 1))
    beginnings = (b"", _GREETING, _GREETING + _READY, _GREETING + _READY + b"\x02" + struct.pack(">Q", length))
    return rng.choice(beginnings) + rng.randbytes(rng.randrange(1, 2000))
