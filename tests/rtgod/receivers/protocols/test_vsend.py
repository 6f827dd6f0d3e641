"""MURFI's vSend: an image a connection, in pieces of any size, with the header of either layout."""

import math
import socket
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.messages import Run, RunEnd, Volume
from rtgod.receivers.protocols.vsend import VsendImage
from rtgod.receivers.protocols.vsend_net import VsendReceiver
from tests.rtgod.receivers.protocols.plain import Receiver

#: The structure as compilers lay it out: on 64 bits, and on 32.
LAYOUTS = {616: "<5s3xi64s64s16s256s16s??2x4d3i16f4i?5s6x6d", 612: "<5s3xi64s64s16s256s16s??2x4d3i16f4i?5s2x6d"}
SHAPE = (4, 3, 5)
AFFINE = np.array([[-3, 0, 0, 4.5], [0, 3, 0.5, -3], [0, 0, 4, -8], [0, 0, 0, 1]])
RNG = np.random.default_rng(7)


def volume(shape=SHAPE):
    return RNG.integers(0, 900, shape).astype(np.int16)


def image(data, number, series=b"1.2.3", corrected=False, mosaic=False, n_header=616, pre=False, affine=AFFINE,
          tr_ms=2000, magic=b"ERTI", n_volumes=9, data_type=b"int16_t"):  # fmt: skip
    n_x, n_y, n_z = data.shape
    fields = [
        magic, 4, series, b"MR", b"3D", b"Doe^Jane", data_type, True, mosaic, 3.0, 3.0, 4.0, 0.0, n_x, n_y, n_z,
        *affine.ravel(), tr_ms, 0, number, n_volumes, corrected, b"XYZ", *[0.0] * 6,
    ]  # fmt: skip
    header = struct.pack(LAYOUTS[n_header], *fields)
    assert len(header) == n_header
    voxels = data.astype("<i2").tobytes(order="F")
    if mosaic:
        n_tiles = math.ceil(math.sqrt(n_z))
        tiles = np.zeros((n_tiles * n_y, n_tiles * n_x), "<i2")
        for z in range(n_z):
            row, column = divmod(z, n_tiles)
            tiles[row * n_y : (row + 1) * n_y, column * n_x : (column + 1) * n_x] = data[:, :, z].T
        voxels = tiles.tobytes()
    return (struct.pack("<ii", len(header), len(voxels)) if pre else b"") + header + voxels


def read(content):
    reader = VsendImage()
    reader.feed(content)
    return reader.volume()


@pytest.mark.parametrize("mosaic", [False, True], ids=["volume", "mosaic"])
@pytest.mark.parametrize("pre", [False, True], ids=["", "pre-header"])
@pytest.mark.parametrize("n_header", [616, 612])
@given(sizes=st.lists(st.integers(1, 400), max_size=10))
@settings(deadline=None, max_examples=15)
def test_an_image_in_any_pieces(mosaic, pre, n_header, sizes):
    sent = volume()
    content = image(sent, 3, mosaic=mosaic, pre=pre, n_header=n_header)
    reader, is_whole = VsendImage(), []
    for size in sizes:
        is_whole.append(reader.feed(content[:size]))
        content = content[size:]
    is_whole.append(reader.feed(content))
    found = reader.volume()
    assert found.data.tolist() == sent.tolist()
    assert (found.index, found.n_volumes, found.tr_s, found.is_corrected) == (2, 9, 2.0, False)
    assert found.affine.tolist() == AFFINE.tolist()
    # Only without a pre-header and with the shorter structure it is the closed connection that tells.
    assert any(is_whole) == (pre or n_header == 616)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"GET / HTTP/1.1\r\n", "does not begin as an image of vSend"),
        (image(volume(), 1)[:300], "ends before its header"),
        (image(volume(), 1)[:-1], "bytes of its image are missing"),
        (image(volume(), 1) + b"x", "more bytes came"),
        (image(volume(), 1, data_type=b"colour"), "its type of data is none of"),
        (image(volume(), 0), "none of a volume"),
        (image(volume(), 1, affine=np.zeros((4, 4))), "spans no volume"),
        (struct.pack("<ii", 616, 2**31 - 1) + b"JUNK" * 200, "does not begin as one of vSend"),
    ],
)
def test_what_is_no_image_says_why(content, says):
    with pytest.raises(InputError, match=says):
        read(content)


def test_a_matrix_of_2_gigabytes_is_refused():
    content = bytearray(image(volume(), 1))
    content[464:476] = struct.pack("<3i", 4096, 4096, 64)
    with pytest.raises(InputError, match="up to 16 MB"):
        VsendImage().feed(bytes(content))


@given(st.binary(max_size=700), st.integers(0, 700), st.integers(0, 255))
@settings(deadline=None, max_examples=200)
def test_no_bytes_break_it(junk, place, byte):
    content = bytearray(image(volume(), 1))
    content[place] = byte
    for damaged in (junk, bytes(content), bytes(content[:place]), bytes(content[:place]) + junk):
        try:
            read(damaged)
        except InputError as error:
            assert str(error)  # noqa: PT017 # whether it is raised depends on the bytes


def test_memory_is_bounded_whatever_comes_on_all_connections():
    largest = bytearray(image(volume(), 1)[:700])
    largest[464:476] = struct.pack("<3i", 512, 512, 32)  # 16 MB, the most that is read
    tracemalloc.start()
    images = [VsendImage() for _ in range(VsendReceiver.MOST_CONNECTIONS)]
    for one in images:
        one.feed(bytes(largest))
        for _ in range(60):
            one.feed(bytes(2**18))
    with pytest.raises(InputError, match="more bytes came"):
        images[0].feed(bytes(2**20 + 1))
    with pytest.raises(InputError, match="bytes of its image are missing"):
        images[1].volume()
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


# ---------------------------------------------------------------- sockets


class Vsend(Receiver):
    """A receiver to which a scanner sends."""

    def __init__(self, **options):
        super().__init__(VsendReceiver, **options)

    def sent(self, content):
        with socket.create_connection(("127.0.0.1", self.receiver.port), 10) as source:
            source.sendall(content)
            self.step()
        self.step(seconds=2.0)


def test_runs_follow_each_other():
    first, second = [volume() for _ in range(3)], [volume() for _ in range(2)]
    with Vsend() as here:
        for number, data in enumerate(first, 1):
            here.sent(image(data, number, mosaic=True, n_header=612))
            here.sent(image(data + 1, number, corrected=True))
        for number, data in enumerate(second, 1):
            here.sent(image(data, number, series=b"1.2.4"))
        here.receiver.run(lambda: True)
    assert [type(message) for message in here.server.messages] == [
        Run, *[Volume] * 3, RunEnd, Run, *[Volume] * 2, RunEnd
    ]  # fmt: skip
    assert [one.data.tolist() for one in here.server.volumes] == [data.tolist() for data in first + second]
    assert [one.acquired_s for one in here.server.volumes[:3]] == [0.0, 2.0, 4.0]
    assert sum("corrected for motion are left out" in line for line in here.lines) == 1
    assert "Doe" not in repr(here.server.messages) + "".join(here.lines)


def test_corrected_images_are_taken_in_place_of_the_others():
    sent = volume()
    with Vsend(corrected=True) as here:
        here.sent(image(sent, 1))
        here.sent(image(sent + 1, 1, corrected=True))
        assert [one.data.tolist() for one in here.server.volumes] == [(sent + 1).tolist()]


def test_what_is_lost_late_damaged_or_silent_is_told():
    with Vsend() as here:
        for number in (1, 4, 3, 4):
            here.sent(image(volume(), number))
        here.sent(image(volume(), 5)[:-9])
        here.sent(image(volume((4, 3, 6)), 6))
        here.step(seconds=4.0)
        here.sent(image(volume(), 7))
        assert [one.index for one in here.server.volumes] == [0, 3, 6]
    for words in (
        "volumes 2 to 3 did not come", "volume 3 came after volume 4", "volume 4 came after volume 4",
        "9 bytes of its image are missing", "matrix differs", "no volume for 2 TR, since volume 4", "come again",
        "volumes 5 to 6 did not come",
    ):  # fmt: skip
        assert sum(words in line for line in here.lines) == 1, (words, here.lines)


def test_a_run_that_is_whole_ends_by_itself():
    with Vsend() as here:
        for number in (1, 2):
            here.sent(image(volume(), number, n_volumes=2))
        here.step(seconds=4.0)
        assert here.server.messages[-1] == RunEnd(here.server.runs[0].run_id, 2)
        here.sent(image(volume(), 3, n_volumes=2))
    assert not [line for line in here.lines if "no volume" in line]
    assert sum("volume 3 came after its run had ended" in line for line in here.lines) == 1


def test_an_image_that_stops_in_the_middle_is_given_up():
    with Vsend() as here, socket.create_connection(("127.0.0.1", here.receiver.port), 10) as source:
        source.sendall(image(volume(), 1)[:700])
        here.step()
        here.step(seconds=31.0)
        assert sum("stopped in the middle" in line for line in here.lines) == 1
        assert source.recv(1) == b""


def test_an_image_that_is_under_way_when_it_is_stopped_is_told():
    with Vsend() as here, socket.create_connection(("127.0.0.1", here.receiver.port), 10) as source:
        source.sendall(image(volume(), 1)[:700])
        here.step()
        here.receiver.run(lambda: True)
    assert sum("stopped in the middle" in line for line in here.lines) == 1


def twice(here, second, pause_s, n_volumes=4):
    """Send a series of four volumes, and after a pause others under the same identity; return who came when."""
    for number in range(1, 5):
        here.sent(image(volume(), number, n_volumes=n_volumes))
    here.step(seconds=pause_s)
    for number, data in second:
        here.sent(image(data, number, n_volumes=n_volumes))
    here.receiver.run(lambda: True)
    ids = [run.run_id for run in here.server.runs]
    return [(ids.index(one.run_id), one.index) for one in here.server.volumes]


def test_a_series_that_is_scanned_again_under_the_same_identity_is_another_run():
    second = [(number, volume()) for number in range(1, 5)]
    whole = [(0, index) for index in range(4)]
    with Vsend() as here:
        assert twice(here, second, 10.0) == whole + [(1, index) for index in range(4)]
    assert here.server.runs[1].run_id == f"{here.server.runs[0].run_id}-restart-1"
    assert here.server.runs[0].acquisition != here.server.runs[1].acquisition
    assert sum("it was restarted" in line for line in here.lines) == 1
    with Vsend() as here:  # its first volume is lost
        assert twice(here, second[1:], 10.0) == whole + [(1, index) for index in range(1, 4)]
    with Vsend() as here:  # broken off without a pause
        assert twice(here, second, 0.0, n_volumes=9) == whole + [(1, index) for index in range(4)]
    with Vsend() as here:  # the same recording, played twice
        one = volume()
        here.sent(image(one, 1, n_volumes=1))
        here.step(seconds=10.0)
        here.sent(image(one, 1, n_volumes=1))
        assert len(here.server.runs) == 2


def test_volumes_that_come_twice_or_late_begin_no_run():
    sent = {number: volume() for number in range(1, 5)}
    with Vsend() as here:
        for number in (1, 1, 2, 1, 4, 3, 4):
            here.sent(image(sent[number], number, n_volumes=9))
        here.receiver.run(lambda: True)
    assert len(here.server.runs) == 1
    assert [one.index for one in here.server.volumes] == [0, 1, 3]
    with Vsend() as here:
        for number in (2, 3, 1):
            here.sent(image(sent[number], number, n_volumes=9))
        here.receiver.run(lambda: True)
    assert [one.index for one in here.server.volumes] == [1, 2]
    assert sum("volume 1 came after volume 3" in line for line in here.lines) == 1


def test_more_connections_than_are_taken_at_a_time_wait_for_their_turn():
    """As when this machine was busy for a moment: each brings a volume, and none is turned away."""
    sent = [volume((64, 64, 30)) for _ in range(12)]
    with Vsend() as here:
        sources = [socket.create_connection(("127.0.0.1", here.receiver.port), 10) for _ in sent]
        for number, source in enumerate(sources, 1):
            source.sendall(image(sent[number - 1], number, n_volumes=12))
            source.close()
        here.step(60)
        assert len(here.receiver._selector.get_map()) == 1
        here.receiver.run(lambda: True)
    assert [one.index for one in here.server.volumes] == list(range(12))
    assert not [line for line in here.lines if "lost" in line]
