"""What is played to AFNI: bytes as its protocol has them, and runs that our receiver takes as they are."""

import math
import socket
import time
from types import SimpleNamespace

import numpy as np
import pytest

from rtgod.errors import InputError, ServerError
from rtgod.messages import RunEnd
from rtgod.receivers.protocols.afni_net import AfniReceiver
from rtgod.senders import connecting
from rtgod.senders.afni import control_text, datum_of, end_of_run, image, run_text
from rtgod.senders.afni_net import AfniExport
from rtgod.senders.faults import read_faults
from rtgod.senders.play import play
from rtgod.senders.voxels import range_of
from tests.rtgod.receivers.protocols.plain import Receiver, held_port
from tests.rtgod.senders.runs import N_VOLUMES, SHAPE, TR_S, Recorded, affine, played

PATIENCE_S = 30.0


def said(source):
    """The lines of a run's text, by their words."""
    text = run_text(source.run, datum_of(range_of(source))[0])
    assert text.endswith(b"\n\0")
    assert text.count(b"\0") == 1
    assert len(text) < 32 * 1024
    lines = [line.split(" ", 1) for line in text[:-2].decode("ascii").split("\n")]
    assert all(len(" ".join(line)) <= 1023 for line in lines)
    return dict(lines)


def test_the_texts_are_those_of_the_protocol():
    assert control_text("scanner", 7960) == b"tcp:scanner:7960\n\0"
    there = np.array([[-3.0, 0, 0, 90], [0, -3, 0, 80], [0, 0, 4, -60], [0, 0, 0, 1]])
    lines = said(Recorded(there=there, tr_s=1.97))
    assert lines == {
        "ACQUISITION_TYPE": "3D+timing", "TR": "1.97", "XYFOV": "18.0 12.0 20.0", "XYMATRIX": "6 4 5",
        "DATUM": "short", "BYTEORDER": "LSB_FIRST", "NUMVOL": "6",
        # The index grows from right to left, from anterior to posterior and from inferior to superior.
        "XYZAXES": "R-L A-P I-S",
        "OBLIQUE_XFORM": "3.0 0.0 0.0 -90.0 0.0 3.0 0.0 -80.0 0.0 0.0 4.0 -60.0 0.0 0.0 0.0 1.0",
    }  # fmt: skip
    assert said(Recorded(there=np.array([[0, 0, 4.0, -20], [3, 0, 0, 1], [0, -3, 0, 9], [0, 0, 0, 1]])))["XYZAXES"] == (
        "P-A S-I L-R"
    )


def test_images_have_x_fastest_and_the_end_is_one_image_long():
    source = Recorded()
    datum, dtype = datum_of(range_of(source))
    volume = source.volumes[0].data
    content = image(volume, dtype)
    numbers = [int.from_bytes(content[at : at + 2], "little", signed=True) for at in range(0, len(content), 2)]
    assert numbers == [volume[x, y, z] for z in range(SHAPE[2]) for y in range(SHAPE[1]) for x in range(SHAPE[0])]
    end = end_of_run(source.run, dtype)
    assert (datum, len(end)) == ("short", 2 * math.prod(SHAPE))
    assert end.rstrip(b"\0") == b"Et Earello Endorenna utulien!!"


@pytest.mark.parametrize(
    ("dtype", "highest", "datum"),
    [("int16", 900, "short"), ("uint16", 900, "short"), ("uint16", 60000, "float"), ("int32", 2**20, "float"),
     ("int32", 2**30, "double"), ("float32", 1.5, "float"), ("float64", 1.5, "double")],
)  # fmt: skip
def test_a_type_is_chosen_that_holds_every_number(dtype, highest, datum):
    source = Recorded(dtype, n=2)
    data = source.volumes[1].data.copy()
    data[0, 0, 0] = highest - (1 if highest > 2 else 0)
    object.__setattr__(source.volumes[1], "data", data)
    found, stored = datum_of(range_of(source))
    assert found == datum
    back = np.frombuffer(image(data, stored), stored).reshape(SHAPE, order="F")
    np.testing.assert_array_equal(back, data)


class Afni(Receiver):
    """A receiver on a pair of neighbouring ports, which steps whenever a source in this process waits."""

    def __init__(self, monkeypatch=None, **options):
        while True:
            super().__init__(AfniReceiver, **options)
            try:
                self.held = held_port(self.receiver.port - 1)
            except OSError:  # somebody has it
                super().__exit__()
                continue
            self.to = f"127.0.0.1:{self.receiver.port}"
            break
        if monkeypatch is not None:
            clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: self.step(1))
            monkeypatch.setattr(connecting, "time", clock)

    def __exit__(self, *_):
        super().__exit__()
        self.held.close()

    def wait(self, seconds):
        """Take what was sent by now, and let the time pass; what passes in fact is far below a second."""
        self.step()
        self.now_s = float(round(seconds))

    def played(self, source, *faults):
        lines = []
        with AfniExport(self.to, PATIENCE_S, lines.append) as export:
            list(play(source, export, 1.0, read_faults(faults), 0, lines.append, self.wait))
        self.receiver.run(lambda: True)
        return [line for line in lines if not line.startswith("waiting")]


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("handedness", [1, -1])
def test_a_run_comes_out_as_it_is(monkeypatch, dtype, handedness):
    source = Recorded(dtype, affine(handedness))
    with Afni(monkeypatch) as here:
        told = here.played(source)
    (run,) = here.server.runs
    assert (run.tr_s, run.shape, run.n_volumes) == (TR_S, SHAPE, N_VOLUMES)
    np.testing.assert_array_equal(run.affine, source.run.affine)
    assert [volume.data.tolist() for volume in here.server.volumes] == [volume.data.tolist() for volume in source]
    assert here.server.messages[-1] == RunEnd(run.run_id, N_VOLUMES)
    assert not [line for line in here.lines if "refused" in line or "lost" in line]
    assert told == []


@pytest.mark.parametrize(
    ("fault", "numbers", "line"),
    [
        ("late:3", [1, 2, 3, 4, 5, 6], "volume 3 came 5.0 s after the one before it: 1 volume may be lost"),
        ("late:3+0.2", [1, 2, 3, 4, 5, 6], None),
        ("missing:3", [1, 2, 4, 5, 6], "volume 3 came 4.0 s after the one before it: 1 volume may be lost"),
        ("truncated:3", [1, 2, 4, 5, 6], "volume 3 is not whole: lost"),
    ],
)
def test_each_fault_is_met_as_it_is_meant(monkeypatch, fault, numbers, line):
    source = Recorded()
    with Afni(monkeypatch) as here:
        (told,) = here.played(source, fault)
    assert told.startswith("fault: volume 3 ")
    assert [volume.data.tolist() for volume in here.server.volumes] == [
        source.volumes[number - 1].data.tolist() for number in numbers
    ]
    # A source that breaks off begins anew: to the receiver that is another run.
    assert len(here.server.runs) == (2 if fault.startswith("truncated") else 1)
    assert sum(line in one for one in here.lines) == 1 if line else not any("lost" in one for one in here.lines)


@pytest.mark.parametrize("fault", ["doubled:2", "out-of-order:5%"])
def test_faults_without_numbers_are_refused(fault):
    with pytest.raises(InputError, match=r"with --as afni: its images have no numbers"):
        played(Recorded(), AfniExport("127.0.0.1:7961", PATIENCE_S, print), fault)


def test_a_receiver_that_goes_away_is_named(monkeypatch):
    here, lines = Afni(monkeypatch), []
    with AfniExport(here.to, PATIENCE_S, lines.append) as export:
        playing = play(Recorded(n=400), export, math.inf, (), 0, lines.append)
        next(playing)
        here.step()
        here.__exit__()
        with pytest.raises(ServerError, match="the receiver is gone"):
            list(playing)


def test_nobody_who_answers_is_named():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines = []
    with pytest.raises(ServerError, match=f"127.0.0.1:{port}: nobody answers there"):
        played(Recorded(), AfniExport(f"127.0.0.1:{port}", 0.3, lines.append))
    assert lines == [f"waiting for 127.0.0.1:{port}, up to 0.3 s: nobody answers there yet; start the receiver"]
