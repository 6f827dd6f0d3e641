"""Hostile messages are hostile: none of them is one that a server takes."""

import random

from benchmarks import hostile
from rtgod.errors import WireError
from rtgod.messages import Run, RunEnd, Volume
from rtgod.protocol.frames import from_frames, to_frames
from tests import small


def kinds(messages):
    found = set()
    for frames in messages:
        try:
            found.add(type(from_frames(frames)))
        except WireError:
            found.add(WireError)
    return found


def test_frames_by_bytes_are_none_that_a_server_takes():
    rng = random.Random(1)  # noqa: S311 # chance, not secrets
    found = kinds(hostile.by_bytes(rng) for _ in range(500))
    assert WireError in found
    assert Run not in found


def test_frames_by_fields_are_of_every_kind_and_the_same_each_time():
    first, second = [], []
    hostile.send_by_fields(600, first.append)
    hostile.send_by_fields(600, second.append)
    assert first == second
    assert len(first) == 600
    assert {WireError, Volume, RunEnd} <= kinds(first)
    assert Run not in kinds(first)


def test_what_a_server_takes_is_not_hostile():
    assert not hostile.is_refused([bytes(frame) for frame in to_frames(small.run())])
    assert hostile.is_refused([bytes(frame) for frame in to_frames(small.volume(0))])
    assert hostile.is_refused([b"{}"])


def test_garbage_may_begin_as_a_client_does():
    rng = random.Random(1)  # noqa: S311 # chance, not secrets
    drawn = [hostile.garbage(rng) for _ in range(50)]
    assert len(hostile._GREETING) == 64  # RFC 23
    assert 0 < sum(one.startswith(hostile._GREETING) for one in drawn) < len(drawn)
