"""What is played by vSend: bytes as its structure has them, and runs that our receiver takes as they are."""

import socket
import struct

import numpy as np
import pytest

from rtgod.errors import ServerError
from rtgod.messages import RunEnd
from rtgod.receivers.protocols.vsend_net import VsendReceiver
from rtgod.senders import vsend_net
from rtgod.senders.vsend import image
from rtgod.senders.vsend_net import VsendExport
from tests.rtgod.receivers.protocols.plain import Receiver
from tests.rtgod.senders.runs import N_VOLUMES, SHAPE, TR_S, Recorded, affine, played

PATIENCE_S = 30.0


def test_the_bytes_are_those_of_the_structure():
    """Every field by its place, as a compiler for 64 bits puts it."""
    source = Recorded(tr_s=1.97)
    content = image(source.run, "2.25.77", 3, source.volumes[3].data)

    def at(form, place):
        found = struct.unpack_from(f"<{form}", content, place)
        return found[0] if len(found) == 1 else found

    assert len(content) == 616 + 2 * 9 * SHAPE[0] * SHAPE[1]  # 5 slices in 3 × 3 tiles
    assert (at("5s", 0), at("i", 8)) == (b"ERTI\0", 4)
    texts = {12: "2.25.77", 76: "EPI", 140: "3D", 156: "", 412: "int16_t"}
    for place, text in texts.items():
        assert content[place:].split(b"\0")[0].decode() == text
    assert at("??", 428) == (True, True)
    np.testing.assert_allclose(at("4d", 432), [2.5, 3, 3.6, 0])
    assert at("3i", 464) == SHAPE
    np.testing.assert_allclose(np.reshape(at("16f", 476), (4, 4)), source.run.affine, rtol=1e-6)
    assert at("4i", 540) == (1970, 0, 4, N_VOLUMES)
    assert (at("?", 556), at("6d", 568)) == (False, (0.0,) * 6)
    mosaic = np.frombuffer(content, "<i2", offset=616).reshape(3 * SHAPE[1], 3 * SHAPE[0])
    for z in range(SHAPE[2]):
        row, column = z // 3 * SHAPE[1], z % 3 * SHAPE[0]
        tile = mosaic[row : row + SHAPE[1], column : column + SHAPE[0]]
        np.testing.assert_array_equal(tile, source.volumes[3].data[:, :, z].T)
    assert not mosaic[SHAPE[1] * 2 :].any()


@pytest.fixture
def vsend(monkeypatch):
    """A receiver that takes an image as soon as it is sent, two seconds after the one before it."""
    here = Receiver(VsendReceiver)

    def taken(_):
        here.step()
        here.step(seconds=TR_S)

    # The sender waits for it to be read, and nobody else runs.
    monkeypatch.setattr(vsend_net, "_wait_until_read", lambda connection: connection.close())
    here.played = lambda source, *faults: played(
        source, VsendExport(f"127.0.0.1:{here.receiver.port}", PATIENCE_S, print), *faults, between=lambda: taken(None)
    )
    yield here
    here.receiver.__exit__(None, None, None)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32"])
@pytest.mark.parametrize("handedness", [1, -1])
def test_a_run_comes_out_as_it_is(vsend, dtype, handedness):
    source = Recorded(dtype, affine(handedness))
    assert vsend.played(source) == []
    vsend.receiver.run(lambda: True)
    (run,) = vsend.server.runs
    assert (run.tr_s, run.shape, run.n_volumes) == (TR_S, SHAPE, N_VOLUMES)
    np.testing.assert_array_equal(run.affine, source.run.affine.astype(np.float32))  # the protocol has no more
    assert [volume.data.tolist() for volume in vsend.server.volumes] == [volume.data.tolist() for volume in source]
    assert vsend.server.messages[-1] == RunEnd(run.run_id, N_VOLUMES)
    assert [line for line in vsend.lines if "begins" not in line and "ended" not in line] == []


def test_what_is_rounded_is_said(vsend):
    source = Recorded("float32", tr_s=2.0004)
    rounded, whole_ms = vsend.played(source)
    assert "in steps of" in rounded
    assert "TR 2000.4 ms is sent as 2000 ms" in whole_ms
    step = max(float(volume.data.max()) for volume in source) / 32767
    for ours, theirs in zip(vsend.server.volumes, source, strict=True):
        np.testing.assert_allclose(ours.data * step, theirs.data, atol=0.501 * step)


@pytest.mark.parametrize(
    ("fault", "numbers", "lines"),
    [
        ("late:3", [1, 2, 4, 5, 6], ["volume 3 did not come", "volume 3 came after volume 4"]),
        ("out-of-order:3", [1, 2, 4, 5, 6], ["volume 3 did not come", "volume 3 came after volume 4"]),
        ("doubled:3", [1, 2, 3, 4, 5, 6], ["volume 3 came after volume 3, or twice"]),
        ("missing:3", [1, 2, 4, 5, 6], ["volume 3 did not come: lost"]),
        ("truncated:3", [1, 2, 4, 5, 6], ["bytes of its image are missing", "volume 3 did not come"]),
    ],
)
def test_each_fault_is_met_as_it_is_meant(vsend, fault, numbers, lines):
    source = Recorded()
    (told,) = vsend.played(source, fault)
    assert told.startswith("fault: volume 3 ")
    assert [volume.index + 1 for volume in vsend.server.volumes] == numbers
    assert [volume.data.tolist() for volume in vsend.server.volumes] == [
        source.volumes[number - 1].data.tolist() for number in numbers
    ]
    for line in lines:
        assert sum(line in one for one in vsend.lines) == 1, (line, vsend.lines)


def test_the_next_image_is_not_sent_before_the_last_one_is_read_or_a_moment_has_passed():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        export = VsendExport(f"127.0.0.1:{listener.getsockname()[1]}", PATIENCE_S, print)
        source = Recorded(n=1)
        assert played(source, export) == []  # nobody reads: it goes on by itself
        accepted, _ = listener.accept()
        with accepted:
            content = b"".join(iter(lambda: accepted.recv(2**16), b""))
    series = content[12:76].split(b"\0")[0].decode()
    assert content == image(source.run, series, 0, source.volumes[0].data)


def test_nobody_who_answers_is_named():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ServerError, match=f"127.0.0.1:{port}: nobody answers there"):
        played(Recorded(), VsendExport(f"127.0.0.1:{port}", 0.3, print))
