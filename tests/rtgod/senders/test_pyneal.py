"""What is played to Pyneal: frames as Pyneal-Scanner sends them, one answer each, until it is asked to stop."""

import json
import threading

import nibabel as nib
import numpy as np
import pytest
import zmq

from rtgod.errors import InputError, ServerError
from rtgod.messages import RunEnd
from rtgod.receivers.protocols.pyneal_net import PynealReceiver
from rtgod.senders.pyneal import frames
from rtgod.senders.pyneal_net import PynealExport
from tests.rtgod.receivers.protocols.plain import Receiver
from tests.rtgod.senders.runs import N_VOLUMES, SHAPE, Recorded, affine, played

PATIENCE_S = 30.0


class Pyneal:
    """A receiver as Pyneal's: it returns the first message, then answers each volume, until it has had enough."""

    def __init__(self, n_enough=1000, n_answers=1000):
        self.hello, self.volumes = b"", []
        self._n_enough, self._n_answers, self._done = n_enough, n_answers, threading.Event()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self.to = f"127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join(PATIENCE_S)
        self._context.destroy(linger=0)

    def _serve(self):
        while not self._done.is_set():
            if not self._socket.poll(20):
                continue
            first, *voxels = self._socket.recv_multipart()
            if len(self.volumes) + bool(self.hello) >= self._n_answers:
                continue
            if not voxels:
                self.hello = first
                self._socket.send(first)
                continue
            said = json.loads(first)
            self.volumes.append((said, np.frombuffer(voxels[0], said["dtype"]).reshape(said["shape"])))
            enough = " STOP" if len(self.volumes) >= self._n_enough else ""
            self._socket.send_string(f"received volIdx {said['volIdx']}{enough}")


@pytest.fixture
def ours():
    """Our own receiver, which runs in a thread while it is played to."""
    here, done = Receiver(PynealReceiver, patience_tr=0.0), threading.Event()
    here.to = f"127.0.0.1:{here.receiver.port}"
    thread = threading.Thread(target=here.receiver.run, args=(done.is_set,))

    def heard():
        done.set()
        thread.join(PATIENCE_S)
        return [line for line in here.lines if "begins" not in line and "ended" not in line]

    here.heard = heard
    thread.start()
    yield here
    heard()
    here.receiver.__exit__(None, None, None)


def in_world(source, number):
    image = nib.Nifti1Image(source.volumes[number].data, source.run.affine)
    turned = nib.as_closest_canonical(image)
    return np.asanyarray(turned.dataobj), turned.affine


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("handedness", [1, -1])
@pytest.mark.parametrize("angles", [(20, -7, 11), (85, 3, 2)])
def test_a_run_comes_out_as_it_is_with_axes_along_ras(dtype, handedness, angles):
    source = Recorded(dtype, affine(handedness, angles), tr_s=1.97)
    with Pyneal() as there:
        (told,) = played(source, PynealExport(there.to, PATIENCE_S, print))
    assert "are turned from" in told
    assert len(there.volumes) == N_VOLUMES
    for number, (said, data) in enumerate(there.volumes):
        expected, where = in_world(source, number)
        assert set(said) == {"volIdx", "dtype", "shape", "affine", "TR"}
        assert (said["volIdx"], said["dtype"], float(said["TR"])) == (number, dtype, 1.97)
        np.testing.assert_array_equal(data, expected)
        np.testing.assert_allclose(json.loads(said["affine"]), where, atol=1e-9)


def test_a_run_along_ras_is_sent_as_it_lies():
    source = Recorded(there=np.diag([3.0, 3.0, 3.0, 1.0]))
    header, voxels = frames(source.run, source.volumes[2])
    assert json.loads(header) == {
        "volIdx": 2, "dtype": "int16", "shape": list(SHAPE), "TR": "2.0",
        "affine": "[[3.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0], [0.0, 0.0, 0.0, 1.0]]",
    }  # fmt: skip
    data = source.volumes[2].data
    numbers = [int.from_bytes(voxels[at : at + 2], "little", signed=True) for at in range(0, len(voxels), 2)]
    assert numbers == [data[x, y, z] for x in range(SHAPE[0]) for y in range(SHAPE[1]) for z in range(SHAPE[2])]
    with Pyneal() as there:
        assert played(source, PynealExport(there.to, PATIENCE_S, print)) == []


@pytest.mark.parametrize(
    ("fault", "numbers"),
    [
        ("late:3", [1, 2, 4, 3, 5, 6]),
        ("doubled:3", [1, 2, 3, 3, 4, 5, 6]),
        ("missing:3", [1, 2, 4, 5, 6]),
        ("out-of-order:3", [1, 2, 4, 3, 5, 6]),
    ],
)
def test_each_fault_is_sent_as_it_is_meant(fault, numbers):
    source = Recorded()
    with Pyneal() as there:
        *_, told = played(source, PynealExport(there.to, PATIENCE_S, print), fault)
    assert told.startswith("fault: volume 3 ")
    assert [said["volIdx"] + 1 for said, _ in there.volumes] == numbers
    for said, data in there.volumes:
        np.testing.assert_array_equal(data, in_world(source, said["volIdx"])[0])


def test_a_message_cannot_be_cut():
    with pytest.raises(InputError, match="--fault truncated with --as pyneal: ZeroMQ gives a message whole or not"):
        played(Recorded(), PynealExport("127.0.0.1:5555", PATIENCE_S, print), "truncated:2")


def test_it_stops_when_it_is_asked_to():
    with Pyneal(n_enough=3) as there:
        told = played(Recorded(), PynealExport(there.to, PATIENCE_S, print))
    assert len(there.volumes) == 3
    assert told[-1] == "the receiver asks to stop after volume 3"


@pytest.mark.parametrize("n_answers", [0, 3])
def test_an_answer_that_does_not_come_is_waited_for_and_named(n_answers):
    with Pyneal(n_answers=n_answers) as there:
        with pytest.raises(ServerError, match=f"{there.to}: nobody answers there"):
            played(Recorded(), PynealExport(there.to, 0.1, print))
        assert len(there.volumes) == max(n_answers - 1, 0)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "float64"])
def test_our_receiver_takes_a_run_as_it_is(ours, dtype):
    source = Recorded(dtype, affine(-1))
    played(source, PynealExport(ours.to, PATIENCE_S, print))
    assert ours.heard() == []
    (run,) = ours.server.runs
    assert run.tr_s == source.run.tr_s
    np.testing.assert_allclose(run.affine, in_world(source, 0)[1], atol=1e-9)
    for number, volume in enumerate(ours.server.volumes):
        assert volume.data.dtype == dtype
        np.testing.assert_array_equal(volume.data, in_world(source, number)[0])
    assert ours.server.messages[-1] == RunEnd(run.run_id, N_VOLUMES)


@pytest.mark.parametrize(
    ("fault", "met"),
    [
        ("late:3", "volume 3 came after volume 4, or twice"),
        ("doubled:3", "volume 3 came after volume 3, or twice"),
        ("missing:3", "volume 3 did not come"),
    ],
)
def test_our_receiver_meets_each_fault_as_it_is_meant(ours, fault, met):
    played(Recorded(), PynealExport(ours.to, PATIENCE_S, print), fault)
    assert any(met in line for line in ours.heard()), ours.lines
