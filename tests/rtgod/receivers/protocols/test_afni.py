"""AFNI's real-time protocol: what a source sends, in pieces of any size, becomes the volumes that it has."""

import contextlib
import socket
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtgod.errors import InputError, ServerError
from rtgod.messages import Run, RunEnd, Volume
from rtgod.receivers.listening import listening_at
from rtgod.receivers.outbox import Outbox
from rtgod.receivers.protocols.afni import END_OF_RUN, AfniEnd, AfniRun, AfniStream, data_port_of
from rtgod.receivers.protocols.afni_net import AfniReceiver
from rtgod.receivers.run_options import RunOptions
from rtgod.sources.echoes import Combine
from tests import naive
from tests.rtgod.receivers.protocols.plain import Receiver, held_port

SHAPE = (4, 3, 5)
RNG = np.random.default_rng(5)


def settings_text(kind="3D+timing", **lines):
    """The text of a run as Dimon writes it; None takes a line out."""
    said = {
        "ACQUISITION_TYPE": kind, "TR": "2.0", "XYMATRIX": "4 3 5", "XYFOV": "12 9 20", "XYZAXES": "R-L A-P I-S",
        "DATUM": "short", "BYTEORDER": "LSB_FIRST", **lines,
    }  # fmt: skip
    return "\n".join(f"{word} {value}" for word, value in said.items() if value is not None).encode() + b"\0"


def volumes_of(n, dtype="<i2"):
    return [RNG.integers(0, 200, SHAPE).astype(dtype) for _ in range(n)]


def images_of(volumes, order=None):
    """The bytes of volumes, whole or slice by slice."""
    if order is None:
        return b"".join(volume.tobytes(order="F") for volume in volumes)
    return b"".join(volume[:, :, z].tobytes(order="F") for volume in volumes for z in order)


def channels_by_slice(volumes, n_channels, order):
    """The bytes of volumes of several channels, which take turns slice by slice."""
    return b"".join(
        volumes[turn + channel][:, :, z].tobytes(order="F")
        for turn in range(0, len(volumes), n_channels) for z in order for channel in range(n_channels)
    )  # fmt: skip


def marker(n_bytes):
    return END_OF_RUN.ljust(n_bytes, b"\0")


def fed(content, sizes=(), **options):
    """Feed bytes in pieces of the given sizes, and the rest at once."""
    stream, found = AfniStream(**options), []
    for size in sizes:
        found += stream.feed(content[:size])
        content = content[size:]
    return [*found, *stream.feed(content), *stream.close()]


def arrays(found):
    return [one for one in found if isinstance(one, np.ndarray)]


@given(
    sizes=st.lists(st.integers(1, 200), max_size=40),
    is_big=st.booleans(),
    datum=st.sampled_from(["short", "float", "byte"]),
)
@settings(deadline=None, max_examples=60)
def test_whole_volumes_in_any_pieces(sizes, is_big, datum):
    dtype = np.dtype({"short": "i2", "float": "f4", "byte": "u1"}[datum]).newbyteorder(">" if is_big else "<")
    sent = volumes_of(4, dtype)
    text = settings_text(DATUM=datum, BYTEORDER="MSB_FIRST" if is_big else "LSB_FIRST")
    found = fed(text + images_of(sent) + marker(60 * dtype.itemsize), sizes)
    assert [volume.tolist() for volume in arrays(found)] == [volume.tolist() for volume in sent]
    assert isinstance(found[0], AfniRun)
    assert found[-1] == AfniEnd(0, is_said=True)


@pytest.mark.parametrize(
    ("zorder", "order"),
    [("alt", [0, 2, 4, 1, 3]), ("seq", range(5)), (None, [0, 2, 4, 1, 3]), ("explicit 4 3 2 1 0", [4, 3, 2, 1, 0]),
     ("explicit 3 1 2 5 4", [2, 0, 1, 4, 3])],
)  # fmt: skip
def test_slices_in_their_order(zorder, order):
    sent = volumes_of(3)
    found = fed(settings_text("2D+zt", ZORDER=zorder) + images_of(sent, order), [50, 1, 77])
    assert [volume.tolist() for volume in arrays(found)] == [volume.tolist() for volume in sent]


@pytest.mark.parametrize("order", [None, [0, 2, 4, 1, 3]])
@pytest.mark.parametrize("echo", [1, 2, 3])
def test_one_of_several_channels(order, echo):
    sent = volumes_of(9)
    text = settings_text("2D+zt" if order else "3D+t", NUM_CHAN=3)
    content = images_of(sent) if order is None else channels_by_slice(sent, 3, order)
    found = fed(text + content, [13, 200], echo=echo)
    assert [volume.tolist() for volume in arrays(found)] == [volume.tolist() for volume in sent[echo - 1 :: 3]]
    text = settings_text("2D+zt" if order else "3D+t", NUM_CHAN=3, ECHO_TIMES="12 28 44")
    combined = arrays(fed(text + content, [13, 200], echo=Combine(40.0)))
    assert [volume.dtype for volume in combined] == [np.dtype("float32")] * 3
    for number, volume in enumerate(combined):
        expected = naive.combined_echoes(sent[3 * number : 3 * number + 3], (12.0, 28.0, 44.0), 40.0)
        np.testing.assert_allclose(volume, expected, rtol=1e-6)
    with pytest.raises(InputError, match="3 channels without ECHO_TIMES"):
        fed(settings_text(NUM_CHAN=3), echo=Combine())
    with pytest.raises(InputError, match="nothing to combine"):
        fed(settings_text(ECHO_TIMES="12"), echo=Combine())
    with pytest.raises(InputError, match="3 channels; choose one with --echo"):
        fed(text + content)


@pytest.mark.parametrize(
    ("echo", "n_images", "is_lost"),
    [
        (Combine(), 3, False), (Combine(), 4, True), (Combine(), 5, True), (Combine(), 6, False),
        (1, 3, False), (1, 4, False), (1, 5, False), (2, 4, True), (2, 5, False), (3, 4, True), (3, 5, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_marked", [False, True])
def test_a_volume_of_which_a_channel_is_missing_is_counted_if_it_would_be_taken(echo, n_images, is_lost, is_marked):
    text, sent = settings_text("3D+t", NUM_CHAN=3, ECHO_TIMES="12 28 44"), volumes_of(6)
    end = marker(120) if is_marked else b""
    *_, last = fed(text + images_of(sent[:n_images]) + end, [77, 100], echo=echo)
    assert last == AfniEnd(n_images % 3 * 120 if is_lost else 0, is_said=is_marked)
    text, order = settings_text("2D+zt", NUM_CHAN=3, ECHO_TIMES="12 28 44"), [0, 2, 4, 1, 3]
    content = channels_by_slice(sent, 3, order)[: (15 + 12 + n_images - 3) * 24]
    end = marker(24) if is_marked else b""
    *_, last = fed(text + content + end, [77, 100], echo=echo)
    assert last == AfniEnd((12 + n_images - 3) * 24 if is_lost or n_images == 3 else 0, is_said=is_marked)


def test_a_run_of_one_slice():
    sent = [one[:, :, :1] for one in volumes_of(3)]
    for kind, sizes in (("3D+t", {"XYMATRIX": "4 3 1"}), ("2D+zt", {"XYMATRIX": "4 3", "ZNUM": "1", "ZDELTA": "4"})):
        found = fed(settings_text(kind, **sizes) + images_of(sent))
        assert [volume.tolist() for volume in arrays(found)] == [volume.tolist() for volume in sent]


@pytest.mark.parametrize("n_marker", [24, 30, 24 * 5], ids=["a slice", "the marker alone", "a volume"])
@given(sizes=st.lists(st.integers(1, 90), max_size=30))
@settings(deadline=None, max_examples=40)
def test_runs_one_after_another_whatever_the_length_of_the_marker(n_marker, sizes):
    first, second = volumes_of(2), volumes_of(3)
    content = settings_text("2D+zt") + images_of(first, [0, 2, 4, 1, 3]) + marker(n_marker)[:n_marker]
    found = fed(content + settings_text("3D+t", NOTE="x") + images_of(second), sizes)
    assert [volume.tolist() for volume in arrays(found)] == [volume.tolist() for volume in first + second]
    assert [type(one).__name__ for one in found if not isinstance(one, np.ndarray)] == ["AfniRun", "AfniEnd"] * 2


def test_a_volume_that_is_not_whole_is_counted():
    found = fed(settings_text() + images_of(volumes_of(2))[:-7])
    assert len(arrays(found)) == 1
    assert found[-1] == AfniEnd(60 * 2 - 7)


def affine_of(**lines):
    return fed(settings_text(**lines))[0].affine


def test_geometry():
    # Centred at 0: the first voxel lies half the volume to the right, in front and below.
    expected = [[-3, 0, 0, 4.5], [0, -3, 0, 3], [0, 0, 4, -8], [0, 0, 0, 1]]
    assert affine_of().tolist() == expected
    assert affine_of(XYZAXES="RL AP IS").tolist() == expected
    assert affine_of(XYFOV="12 0 20").tolist()[1][1] == -4
    assert affine_of(XYFOV="12 9", ZDELTA="3", ZGAP="1").tolist() == expected
    assert affine_of(ZFIRST="8I").tolist() == expected
    assert affine_of(ZFIRST="8S").tolist()[2] == [0, 0, 4, 8]
    # The example of AFNI's own manual: sagittal slices from 50 mm on the right, or without the letter on the left.
    sagittal = affine_of(XYZAXES="S-I A-P L-R", XYZFIRST="30 20A 50R")
    assert sagittal.tolist() == [[0, 0, 4, 50], [0, -3, 0, 20], [-3, 0, 0, 30], [0, 0, 0, 1]]
    assert affine_of(XYZAXES="S-I A-P L-R", XYZFIRST="30 20A 50").tolist()[0] == [0, 0, 4, -50]
    oblique = np.array([[2.0, 0.1, 0, -90], [0.1, 2, 0.2, -80], [0, 0.2, 3, -40], [0, 0, 0, 1]])
    turned = affine_of(OBLIQUE_XFORM=" ".join(map(str, oblique.ravel())))
    assert turned.tolist() == (np.diag([-1, -1, 1, 1]) @ oblique).tolist()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ({"XYMATRIX": "4"}, "XYMATRIX needs 2 numbers"),
        ({"XYMATRIX": "4 three 5"}, "XYMATRIX has something that is no number"),
        ({"XYMATRIX": "4 3"}, "XYMATRIX, ZNUM: a matrix of 4 × 3 × 0"),
        ({"XYMATRIX": "9000 9000 9000"}, "up to 32 MB"),
        ({"DATUM": "complex"}, "DATUM is none of"),
        ({"ACQUISITION_TYPE": "4D"}, "ACQUISITION_TYPE is none of"),
        ({"BYTEORDER": "middle"}, "BYTEORDER is none of"),
        ({"XYZAXES": "R-L L-R I-S"}, "three different axes"),
        ({"XYZAXES": None}, "three different axes"),
        ({"XYFOV": "nan 9 20"}, "XYFOV needs 2 numbers"),
        ({"XYFOV": "12 9"}, "voxel's size is missing"),
        ({"XYZFIRST": "30 20I 50"}, "not that of its axis"),
        ({"OBLIQUE_XFORM": "0 " * 16}, "spans no volume"),
        ({"NUM_CHAN": "99"}, "up to 32 channels"),
        ({"ZORDER": "explicit 1 1 2 3 4", "ACQUISITION_TYPE": "2D+zt"}, "each of 5 slices once"),
    ],
)
def test_settings_that_cannot_be_used_are_named(lines, says):
    with pytest.raises(InputError, match=says):
        fed(settings_text(**lines))


@pytest.mark.parametrize(
    ("text", "says"),
    [(b"", "does not say where"), (b"shm:afni:1M", "share memory"), (b"tcp:host:80", "from 1024 to 65535"),
     (b"tcp:host:7960\nrm -rf ~", "never done"), (b"tcp:host:x", "none from"), (b"\x8fjunk", "does not say where")],
)  # fmt: skip
def test_what_the_control_port_refuses(text, says):
    with pytest.raises(InputError, match=says):
        data_port_of(text)
    assert data_port_of(b"tcp:scanner:7953\n") == 7953
    assert data_port_of(b"tcp:scanner") == 7960


@given(st.binary(max_size=400), st.integers(0, 300), st.integers(0, 255))
@settings(deadline=None, max_examples=200)
def test_no_bytes_break_it_or_fill_memory(junk, place, byte):
    content = bytearray(settings_text() + images_of(volumes_of(2)) + marker(120) + settings_text("2D+zt"))
    content[place] = byte
    for damaged in (junk, bytes(content), bytes(content[:place]) + junk):
        try:
            fed(damaged, [1, 7, 50])
        except InputError as error:
            assert str(error)  # noqa: PT017 # whether it is raised depends on the bytes


def test_memory_is_bounded():
    tracemalloc.start()
    with pytest.raises(InputError, match="longer than 32 kB"):
        list(AfniStream().feed(b"A" * 2**16))
    after_end = AfniStream()
    list(after_end.feed(settings_text() + marker(120)))
    for _ in range(1000):
        list(after_end.feed(b"A" * 2**16))
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


# ---------------------------------------------------------------- sockets


class Afni(Receiver):
    """A receiver beside a free port for its images."""

    def __init__(self, **options):
        super().__init__(AfniReceiver, **options)
        self.held = held_port()
        self.data_port = self.held.getsockname()[1]

    def __exit__(self, *_):
        super().__exit__()
        self.held.close()

    def announced(self, text=None):
        with socket.create_connection(("127.0.0.1", self.receiver.port), 10) as control:
            control.sendall(text or f"tcp:localhost:{self.data_port}".encode() + b"\0")
            self.step()

    def connected(self):
        self.announced()
        return socket.create_connection(("127.0.0.1", self.data_port), 10)


def test_a_source_is_received_run_after_run():
    sent, later = volumes_of(3), volumes_of(2)
    with Afni() as here:
        with here.connected() as source:
            source.sendall(settings_text(NAME="Doe^Jane", NUMVOL="3", DRIVE_AFNI="SYSTEM touch /tmp/no"))
            for volume in sent:
                source.sendall(images_of([volume]))
                here.step(seconds=2.0)
            source.sendall(marker(120) + settings_text() + images_of(later))
            here.step()
        here.step()
        with here.connected() as source:
            source.sendall(settings_text() + images_of(later)[:-1])
            here.step()
        here.receiver.run(lambda: True)
    messages = here.server.messages
    assert [type(message) for message in messages] == [
        Run, *[Volume] * 3, RunEnd, Run, *[Volume] * 2, RunEnd, Run, Volume, RunEnd
    ]  # fmt: skip
    assert [volume.data.tolist() for volume in here.server.volumes[:5]] == [v.tolist() for v in sent + later]
    assert [volume.acquired_s for volume in here.server.volumes[:3]] == [0.0, 2.0, 4.0]
    assert here.server.runs[0].n_volumes == 3
    assert len({run.run_id for run in here.server.runs}) == 3
    assert any("volume 2 is not whole: lost" in line for line in here.lines)
    assert "Doe" not in repr(messages) + "".join(here.lines)


def test_a_server_that_does_not_answer_keeps_no_source_waiting_and_makes_no_volume_look_late():
    sent, lines, is_away, taken, now_s = volumes_of(20), [], threading.Event(), [], [0.0]

    class Silent:
        def send(self, message):
            taken.append(message)
            if not is_away.wait(60):
                raise ServerError("no answer")

    held = held_port()
    port, listening = held.getsockname()[1], listening_at("127.0.0.1", 0, ())
    with (
        Outbox(Silent(), lines.append) as outbox,
        AfniReceiver(listening, outbox, RunOptions(), lines.append, lambda: now_s[0]) as receiver,
    ):
        with socket.create_connection(("127.0.0.1", receiver.port), 10) as control:
            control.sendall(f"tcp:localhost:{port}".encode() + b"\0")
            for _ in range(3):
                receiver.step(0.02)
        with socket.create_connection(("127.0.0.1", port), 10) as source:
            source.sendall(settings_text())
            for index, volume in enumerate(sent):
                source.sendall(images_of([volume]))
                now_s[0] += 4.0 if index == 12 else 2.0  # one is missing there
                for _ in range(2):
                    receiver.step(0.02)
            assert len(taken) == 1
            is_away.set()
            receiver.run(lambda: True)
    held.close()
    assert [message.data.tolist() for message in taken if isinstance(message, Volume)] == [v.tolist() for v in sent]
    assert [line for line in lines if "lost" in line or "no volume" in line] == [
        f"{taken[0].run_id}: volume 13 came 4.0 s after the one before it: 1 volume may be lost, which this protocol "
        "does not tell"
    ]


@pytest.mark.parametrize(
    ("n_volumes", "pause_s", "is_marked", "other", "n_told"),
    [
        (9, 1.0, False, {}, 1),
        (None, 1.0, False, {}, 1),
        (None, 60.0, False, {}, 0),  # another scan
        (9, 60.0, False, {}, 0),  # the scan would be over
        (9, 12.0, False, {}, 1),  # it would not
        (3, 1.0, False, {}, 0),  # all came
        (9, 1.0, True, {}, 0),  # the source said that it is over
        (9, 1.0, False, {"TR": "3"}, 0),
        (9, 1.0, False, {"XYFOV": "13 9 20"}, 0),
    ],
)
def test_what_may_be_the_rest_of_a_run_that_broke_off_is_told(n_volumes, pause_s, is_marked, other, n_told):
    """Its volumes have no numbers: it begins as a run of its own, with its trials at the wrong volumes."""
    with Afni(n_volumes=n_volumes) as here:
        with here.connected() as source:
            source.sendall(settings_text() + images_of(volumes_of(3)) + (marker(120) if is_marked else b""))
            here.step()
        here.step(seconds=pause_s)
        with here.connected() as source:
            source.sendall(settings_text(**other) + images_of(volumes_of(2)))
            here.step()
            here.receiver.run(lambda: True)
    assert len(here.server.runs) == 2
    assert sum("If it is the same scan, its volumes are counted from 1 again" in line for line in here.lines) == n_told
    is_broken = bool(n_volumes == 9 and not is_marked)
    assert sum("broke off after 3 of 9 planned volumes" in line for line in here.lines) == is_broken
    assert sum("broke off after" in line for line in here.lines) == is_broken  # stopping here breaks nothing off


def test_silence_and_gaps_are_told():
    sent = volumes_of(4)
    with Afni() as here, here.connected() as source:
        source.sendall(settings_text() + images_of(sent[:2]))
        here.step()
        here.step(seconds=4.1)
        assert sum("no volume for 2 TR, since volume 2" in line for line in here.lines) == 1
        here.step(seconds=2.0)
        source.sendall(images_of(sent[2:3]))
        here.step()
        assert sum("2 volumes may be lost" in line for line in here.lines) == 1
        assert sum("volumes come again" in line for line in here.lines) == 1


def test_what_is_refused_says_so_and_ends_nothing():
    sent = volumes_of(2)
    with Afni() as here, here.connected() as source:
        source.sendall(settings_text() + images_of(sent[:1]))
        here.step()
        here.announced(b"shm:afni\0")
        here.announced(b"tcp:x:7000\nevil\0")
        with socket.create_connection(("127.0.0.1", here.data_port), 10) as other:
            here.step()
            assert other.recv(1) == b""
        source.sendall(images_of(sent[1:]))
        here.step()
        assert [volume.data.tolist() for volume in here.server.volumes] == [volume.tolist() for volume in sent]
        assert sum("refused" in line for line in here.lines) == 3


def test_a_source_without_tr_needs_one():
    with Afni() as here, here.connected() as source:
        source.sendall(settings_text(TR=None))
        here.step()
        assert source.recv(1) == b""
        assert any("give it with --tr" in line for line in here.lines)
    with Afni(tr_s=1.5) as here, here.connected() as source:
        source.sendall(settings_text(TR=None) + images_of(volumes_of(1)))
        here.step()
        assert here.server.runs[0].tr_s == 1.5


def test_who_connects_and_says_nothing_keeps_no_source_out():
    with Afni() as here, contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(socket.create_connection(("127.0.0.1", here.receiver.port), 10))
        here.step(30)
        here.step(seconds=11.0)
        for _ in range(3):
            stack.enter_context(here.connected())
            here.step()
        with here.connected() as source:
            source.sendall(settings_text() + images_of(volumes_of(2)))
            here.step()
            assert len(here.server.volumes) == 2
    assert sum("does not say where its images come" in line for line in here.lines) == 1
    assert not [line for line in here.lines if "at the same time" in line]
