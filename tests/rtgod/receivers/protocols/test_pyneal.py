"""Pyneal-Scanner's messages, from libzmq's own PAIR sockets: volumes in any order, of any type that is exact."""

import json
import socket
import struct
import tracemalloc

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.messages import Run, RunEnd, Volume
from rtgod.protocol.zmtp import PairConnection
from rtgod.receivers.plain_runs import PlainRuns
from rtgod.receivers.protocols.plain_receiver import PIECE
from rtgod.receivers.protocols.pyneal import MOST_BYTES, pyneal_volume
from rtgod.receivers.protocols.pyneal_net import PynealReceiver
from rtgod.receivers.run_options import RunOptions
from rtgod.sources import open_source
from tests.rtgod.protocol.test_zmtp import GREETING, frame, ready
from tests.rtgod.receivers.protocols.plain import Receiver

SHAPE = (4, 3, 5)
AFFINE = np.array([[3, 0, 0, -4.5], [0, 3, 0.5, -3], [0, 0, 4, -8], [0, 0, 0, 1]])
RNG = np.random.default_rng(11)


def volume(shape=SHAPE):
    return RNG.normal(500, 90, shape)


def message(data, index, tr="2.0", affine=AFFINE, **changes):
    header = {
        "volIdx": index,
        "dtype": str(data.dtype),
        "shape": data.shape,
        "affine": json.dumps(np.asarray(affine).tolist()),
    }
    header |= {"TR": tr} if tr is not None else {}
    return [json.dumps(header | changes).encode(), np.ascontiguousarray(data).tobytes()]


@pytest.mark.parametrize(
    ("dtype", "becomes"),
    [
        ("int8", "int16"), ("uint8", "int16"), ("int16", "int16"), ("uint16", "uint16"), ("int32", "int32"),
        ("uint32", "float64"), ("int64", "float64"), ("uint64", "float64"), ("float16", "float32"),
        ("float32", "float32"), ("float64", "float64"), (">i2", "int16"), ("<u2", "uint16"), (">f8", "float64"),
    ],
)  # fmt: skip
def test_a_volume_of_any_type_keeps_its_values(dtype, becomes):
    sent = (RNG.random(SHAPE) * 120).astype(dtype)
    found = pyneal_volume(*message(sent, 3))
    kept = Volume("run", 3, 0.0, found.data).data
    assert (kept.dtype.name, kept.tolist()) == (becomes, sent.tolist())
    assert (found.index, found.tr_s, found.affine.tolist()) == (3, 2.0, AFFINE.tolist())


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([b"not JSON", b""], "is not JSON with volIdx"),
        ([b"\xff\xfe", b""], "is not JSON with volIdx"),
        ([b"[" * 60_000, b""], "is not JSON with volIdx"),
        ([b" " * 70_000, b""], "header is too long"),
        (message(volume(), 0, volIdx="0"), "is not JSON with volIdx"),
        (message(volume(), -1), "volIdx is none"),
        (message(volume(), 10**30), "volIdx is none|is not JSON"),
        (message(volume(), 0, dtype="object"), "dtype is none of"),
        (message(volume(), 0, dtype="|O"), "dtype is none of"),
        (message(volume(), 0, dtype="complex128"), "dtype is none of"),
        (message(volume(), 0, dtype="i4,f4"), "dtype is none of"),
        (message(volume(), 0, shape=[4, 3]), "is not JSON with volIdx"),
        (message(volume(), 0, shape=[4, 3, 0]), "shape is none"),
        (message(volume(), 0, shape=[4, 3, 2**40]), "shape is none"),
        (message(volume(), 0, shape=[1024, 1024, 1024]), "8589934592 bytes, but 480 came"),
        (message(volume(), 0, dtype="float32"), "240 bytes, but 480 came"),
        (message(volume(), 0, affine=np.eye(3)), "affine is not"),
        (message(volume(), 0, affine=AFFINE * np.nan), "affine is not"),
        (message(volume(), 0, tr="two"), "TR is no number"),
        (message(np.full(SHAPE, 2**53 + 1), 0), "too large to be kept exactly"),
        (message(np.full(SHAPE, -(2**63)), 0), "too large to be kept exactly"),
    ],
)
def test_what_is_no_volume_says_why(parts, says):
    with pytest.raises(InputError, match=says):
        pyneal_volume(*parts)


@given(st.binary(max_size=200), st.data())
@settings(deadline=None, max_examples=300)
def test_no_bytes_break_it(junk, data):
    header, voxels = message(volume(), 1)
    place = data.draw(st.integers(0, len(header) - 1))
    changed = bytearray(header)
    changed[place] = data.draw(st.integers(0, 255))
    for parts in ((junk, voxels), (bytes(changed), voxels), (header[:place], voxels), (header, junk)):
        try:
            pyneal_volume(*parts)
        except InputError as error:
            assert str(error)  # noqa: PT017 # whether it is raised depends on the bytes


class Forgetful:
    """A server that keeps nothing."""

    def send(self, message):
        pass


def test_the_longest_messages_take_less_than_64_megabytes():
    """While as many wait for one before them as may."""
    data, lines = np.zeros((128, 128, 127)), []
    runs = PlainRuns(Forgetful(), RunOptions(patience_tr=1e6), lines.append)
    runs.begin("run", 2.0, data.shape, AFFINE, None)
    connection = PairConnection(2, MOST_BYTES)
    list(connection.feed(GREETING + ready()))
    messages = [message(data, index) for index in range(1, 5)]
    tracemalloc.start()
    for header, voxels in messages:
        content = memoryview(b"".join([frame(header, 1), frame(voxels)]))
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for start in range(0, len(content), PIECE):
            for parts in connection.feed(bytes(content[start : start + PIECE])):
                found = pyneal_volume(*parts)
                runs.hold(found.index, found.data)
                runs.step()
                del found, parts
        assert tracemalloc.get_traced_memory()[1] - before < 40e6
        assert tracemalloc.get_traced_memory()[0] - len(content) < 24e6  # what waits
    tracemalloc.stop()
    assert sum("volume 1 did not come: lost" in line for line in lines) == 1


NUMBERS = st.floats(allow_nan=True) | st.sampled_from([0.0, 1.0, 2.0, 1e-310, 1e308, 3.0])
SAID = st.fixed_dictionaries(
    {},
    optional={
        "volIdx": st.integers(-1, 10) | st.integers(),
        "TR": st.text(max_size=5) | NUMBERS.map(str) | NUMBERS | st.none(),
        "dtype": st.sampled_from(["float64", "object", ">f8", "int64", "V8", "<M8[s]", ""]),
        "shape": st.lists(st.integers(-1, 6) | st.integers(), max_size=4) | st.just([5, 3, 4]),
        "affine": st.lists(st.lists(NUMBERS, min_size=4, max_size=4), min_size=4, max_size=4).map(json.dumps)
        | st.text(max_size=9),
    },
)


@given(st.lists(st.tuples(SAID, st.floats(0, 5)), min_size=1, max_size=12))
@settings(deadline=None, max_examples=80)
def test_whatever_is_said_is_answered_and_ends_nothing(messages):
    with Receiver(PynealReceiver) as here:
        for index, (said, seconds) in enumerate(messages):
            header, voxels = message(volume(), index)
            header = json.dumps(json.loads(header) | said).encode()
            answer = here.receiver._answer((header, voxels))
            assert answer == b"refused" or answer.startswith(b"received volIdx ")
            here.now_s += seconds
            here.receiver.step(0.0)
        here.receiver._answer((b"hello",))
        assert here.receiver._answer(tuple(message(volume(), 0))) == b"received volIdx 0"
        here.receiver.run(lambda: True)
        assert [type(one) for one in here.server.messages[-3:]] == [Run, Volume, RunEnd]


# ---------------------------------------------------------------- sockets


class Pyneal(Receiver):
    """A receiver to which Pyneal-Scanner sends, by libzmq."""

    def __init__(self, **options):
        super().__init__(PynealReceiver, **options)
        self.context, self.scanners = zmq.Context(), []

    def __exit__(self, *_):
        super().__exit__()
        self.context.destroy(linger=0)

    def scanner(self, hello=b"hello from pyneal_scanner"):
        scanner = self.context.socket(zmq.PAIR)
        self.scanners.append(scanner)
        scanner.connect(f"tcp://127.0.0.1:{self.receiver.port}")
        if hello:
            assert self.asked(scanner, [hello]) == hello
        return scanner

    def asked(self, scanner, parts):
        """Send a message, and return the answer."""
        scanner.send_multipart(parts)
        for _ in range(500):
            self.step(1)
            if scanner.poll(0):
                return scanner.recv()
        raise AssertionError("no answer")

    def sent(self, scanner, data, index, seconds=2.0, **said):
        answer = self.asked(scanner, message(data, index, **said))
        self.step(1, seconds)
        return answer

    def left(self, scanner):
        """Close a scanner, and wait until that is seen."""
        scanner.close(linger=0)
        for _ in range(500):
            self.step(1)
            if self.receiver._peer is None:
                return
        raise AssertionError("it is still connected")


def test_runs_follow_each_other():
    first, second = [volume() for _ in range(3)], [volume() for _ in range(2)]
    with Pyneal(subject="07") as here:
        scanner = here.scanner()
        assert [here.sent(scanner, data, index) for index, data in enumerate(first)] == [
            b"received volIdx 0", b"received volIdx 1", b"received volIdx 2"
        ]  # fmt: skip
        for index, data in enumerate(second):
            here.sent(scanner, data, index)
        here.receiver.run(lambda: True)
    assert [type(one) for one in here.server.messages] == [Run, *[Volume] * 3, RunEnd, Run, *[Volume] * 2, RunEnd]
    assert [one.data.tolist() for one in here.server.volumes] == [data.tolist() for data in first + second]
    assert {one.data.dtype.name for one in here.server.volumes} == {"float64"}
    run = here.server.runs[0]
    assert (run.tr_s, run.shape, run.subject, run.affine.tolist()) == (2.0, SHAPE, "07", AFFINE.tolist())


def test_another_place_another_matrix_and_another_greeting_begin_another_run():
    with Pyneal() as here:
        scanner = here.scanner()
        here.sent(scanner, volume(), 0)
        here.sent(scanner, volume(), 1, affine=AFFINE + np.diag([0, 1, 0, 0]))
        here.sent(scanner, volume((4, 3, 6)), 2, affine=AFFINE + np.diag([0, 1, 0, 0]))
        here.asked(scanner, [b"hello again"])
        here.sent(scanner, volume((4, 3, 6)), 3, affine=AFFINE + np.diag([0, 1, 0, 0]))
        here.receiver.run(lambda: True)
    assert [run.shape for run in here.server.runs] == [SHAPE, SHAPE, (4, 3, 6), (4, 3, 6)]
    assert [one.index for one in here.server.volumes] == [0, 1, 2, 3]


def test_volumes_that_overtake_each_other_are_put_in_order():
    sent = [volume() for _ in range(6)]
    with Pyneal() as here:
        scanner = here.scanner()
        for index in (1, 0, 3, 2, 5, 4):
            here.sent(scanner, sent[index], index, seconds=1.0)
    assert [one.index for one in here.server.volumes] == [0, 1, 2, 3, 4, 5]
    assert [one.data.tolist() for one in here.server.volumes] == [data.tolist() for data in sent]
    assert not [line for line in here.lines if "lost" in line or "not sent" in line]


def test_a_first_volume_that_comes_too_late_is_named_and_ends_nothing():
    sent = [volume() for _ in range(7)]
    with Pyneal() as here:
        scanner = here.scanner()
        for index in (1, 2, 3, 0, 4, 0, 5, 6):
            here.sent(scanner, sent[index], index)
        here.receiver.run(lambda: True)
    assert len(here.server.runs) == 1
    assert [one.index for one in here.server.volumes] == [1, 2, 3, 4, 5, 6]
    assert sum("volume 1 did not come: lost" in line for line in here.lines) == 1
    assert sum("volume 1 came after volume" in line for line in here.lines) == 2


def test_another_first_volume_begins_a_run_and_the_same_one_only_after_a_pause():
    sent, other = [volume() for _ in range(3)], volume()
    with Pyneal() as here:
        scanner = here.scanner()
        for index in (0, 1, 2, 0):
            here.sent(scanner, sent[index], index)
        assert len(here.server.runs) == 1
        here.sent(scanner, other, 0)
        assert len(here.server.runs) == 2
        here.step(seconds=4.0)
        here.sent(scanner, other, 0)
        assert len(here.server.runs) == 3


@pytest.mark.parametrize("patience_tr", [2.0, 4.0])
def test_silence_counts_from_when_the_last_volume_came_not_from_when_it_was_sent(patience_tr):
    with Receiver(PynealReceiver, patience_tr=patience_tr) as here:
        for index in (0, 1, 3):
            here.receiver._answer(tuple(message(volume(), index)))
            here.receiver._runs.step()
        for now_s in (3.9, 4.0, 7.9, 8.0, 20.0):
            here.now_s = now_s
            here.receiver._runs.step()
            is_told = any("no volume for 2 TR" in line for line in here.lines)
            assert is_told == (now_s >= 4.0)
            assert len(here.server.volumes) == (3 if now_s >= 2.0 * patience_tr else 2)
        here.receiver._answer(tuple(message(volume(), 4)))
    assert sum("no volume for 2 TR" in line for line in here.lines) == 1
    assert sum("volumes come again" in line for line in here.lines) == 1


def test_what_is_lost_late_twice_or_no_volume_is_told():
    with Pyneal(patience_tr=2.0) as here:
        scanner = here.scanner()
        first = volume()
        here.sent(scanner, first, 0)
        here.sent(scanner, first, 0, seconds=0)
        here.sent(scanner, volume(), 3)
        here.sent(scanner, volume(), 3, seconds=1.9)
        assert [one.index for one in here.server.volumes] == [0]
        here.step(2, seconds=0.2)
        assert [one.index for one in here.server.volumes] == [0, 3]
        here.sent(scanner, volume(), 2)
        assert here.sent(scanner, volume(), 4, dtype="object") == b"refused"
        here.step(2, seconds=4.0)
        assert here.sent(scanner, volume(), 5, seconds=0) == b"received volIdx 5"
        here.receiver.run(lambda: True)
    assert [one.index for one in here.server.volumes] == [0, 3, 5]
    for words in (
        "volume 1 came after volume 1, or twice", "volume 4 came twice", "volumes 2 to 3 did not come",
        "volume 3 came after volume 4", "a volume is left out: its dtype", "no volume for 2 TR",
        "volume 5 did not come",
    ):  # fmt: skip
        assert sum(words in line for line in here.lines) == 1, (words, here.lines)


def test_volumes_that_wait_are_no_silence():
    with Pyneal(patience_tr=4.0) as here:
        scanner = here.scanner()
        here.sent(scanner, volume(), 0)
        for index in (2, 3):
            here.sent(scanner, volume(), index)
        assert not [line for line in here.lines if "no volume" in line]


def test_many_small_volumes_that_wait_are_bounded_too():
    with Receiver(PynealReceiver, patience_tr=1e6) as here:
        for index in (0, *range(2, 103)):
            here.receiver._answer(tuple(message(volume(), index)))
        here.receiver.step(0.0)
        assert [one.index for one in here.server.volumes] == [0, *range(2, 103)]


def test_waiting_volumes_are_bounded():
    shape = (128, 128, 60)
    with Pyneal(patience_tr=100.0) as here:
        scanner = here.scanner()
        for index in (0, 2, 3, 4, 5):
            here.sent(scanner, np.zeros(shape), index, seconds=0)
    assert [one.index for one in here.server.volumes] == [0, 2, 3, 4, 5]
    assert sum("volume 2 did not come" in line for line in here.lines) == 1


@pytest.mark.parametrize("tr", ["2000", "nan", "-1"])
def test_a_tr_in_another_unit_is_not_guessed(tr):
    with Pyneal() as here:
        assert here.sent(here.scanner(), volume(), 0, tr=tr) == b"refused"
        assert not here.server.runs
        assert "give it with --tr" in here.lines[-1]
    with Pyneal(tr_s=1.5) as here:
        here.sent(here.scanner(), volume(), 0, tr=tr)
        assert here.server.runs[0].tr_s == 1.5
        assert sum("that of --tr is taken" in line for line in here.lines) == 1


def test_without_a_tr_it_is_asked_for():
    with Pyneal() as here:
        assert here.sent(here.scanner(), volume(), 0, tr=None) == b"refused"
        assert "give it with --tr" in here.lines[-1]


def test_a_sender_that_is_gone_ends_its_run_and_the_next_may_come():
    with Pyneal() as here:
        scanner = here.scanner()
        here.sent(scanner, volume(), 0)
        here.left(scanner)
        assert not isinstance(here.server.messages[-1], RunEnd)  # it may connect again
        scanner = here.scanner(hello=None)
        here.sent(scanner, volume(), 1)
        assert [one.index for one in here.server.volumes] == [0, 1]
        here.left(scanner)
        here.step(2, seconds=4.0)
        assert here.server.messages[-1] == RunEnd(here.server.runs[0].run_id, 2)
        here.sent(here.scanner(), volume(), 0)
        assert len(here.server.runs) == 2
    assert sum("no volume" in line for line in here.lines) <= 1


def test_a_second_sender_waits_until_the_first_is_gone():
    with Pyneal() as here:
        first = here.scanner()
        second = here.scanner(hello=None)
        second.send(b"me too")
        for _ in range(200):
            here.step(1)
            if any("another one is connected" in line for line in here.lines):
                break
        here.sent(first, volume(), 0)
        assert not second.poll(0)
        here.left(first)
        for _ in range(500):
            here.step(1)
            if second.poll(0):
                break
        assert second.recv() == b"me too"
    assert sum("another one is connected" in line for line in here.lines) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"GET / HTTP/1.1\r\n", "does not speak ZeroMQ"),
        (b"\xff" + bytes(8) + b"\x7f\x03\0NULL" + bytes(48) + b"\x06" + struct.pack(">Q", 2**31), "2147483648 bytes"),
    ],
)
def test_who_does_not_speak_the_protocol_is_turned_away(content, says):
    with Pyneal() as here:
        with socket.create_connection(("127.0.0.1", here.receiver.port), 10) as stranger:
            stranger.sendall(content)
            here.step()
            while stranger.recv(100):  # until it is closed
                pass
        assert says in here.lines[-1]
        here.sent(here.scanner(), volume(), 0)
        assert len(here.server.volumes) == 1


def test_who_connects_and_says_nothing_is_turned_away():
    with Pyneal() as here, socket.create_connection(("127.0.0.1", here.receiver.port), 10):
        here.step()
        here.step(seconds=11.0)
        assert "does not say what it is" in here.lines[-1]


def test_a_real_run_comes_out_as_it_is_replayed(shared_data):
    """As Pyneal-Scanner does it: float64, with axes to right, anterior and superior."""
    source = open_source(shared_data / "siemens-run" / "dicom")
    flips = np.diag([-1.0, -1.0, 1.0, 1.0])
    flips[:2, 3] = [n - 1 for n in source.run.shape[:2]]
    affine = source.run.affine @ flips
    with Pyneal() as here:
        scanner = here.scanner()
        sent = [one.data[::-1, ::-1].astype(np.float64) for one, _ in zip(source, range(3), strict=False)]
        for index, data in enumerate(sent):
            here.sent(scanner, data, index, tr=str(source.run.tr_s), affine=affine)
        (run,) = here.server.runs
    assert (run.tr_s, run.affine.tolist()) == (source.run.tr_s, affine.tolist())
    for ours, theirs in zip(here.server.volumes, source, strict=False):
        assert ours.data[::-1, ::-1].tolist() == theirs.data.tolist()
    np.testing.assert_allclose(run.affine @ np.linalg.inv(flips), source.run.affine, atol=1e-9)


class Nobody:
    """Networks of which none may connect."""

    def may_connect(self, host):  # noqa: ARG002 # as that of Listening
        return False


def test_a_host_that_is_not_allowed_is_turned_away_and_logged_once(caplog):
    with Pyneal() as here:
        here.receiver._listening = Nobody()
        scanner = here.scanner(hello=None)
        scanner.send(b"let me in")
        for _ in range(100):  # libzmq tries again every 0.1 s
            here.step(1)
        assert not here.receiver._connections
    assert sum("is not allowed to connect; name its network with --allow" in line for line in caplog.messages) == 1
