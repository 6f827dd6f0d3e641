"""Images that are sent to a DICOM node, by pynetdicom and by DCMTK, become the volumes that a replay would send."""

import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from types import SimpleNamespace

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.sop_class import EnhancedMRImageStorage, MRImageStorage

from rtgod.errors import InputError
from rtgod.messages import Volume
from rtgod.receivers.dicom_net import DicomNode, ImageQueue, NodeOptions
from rtgod.receivers.live_runs import LiveRuns
from rtgod.receivers.run_options import RunOptions
from rtgod.sources.dicom.series import DicomSeries
from tests.rtgod.receivers.test_watcher import N_VOLUMES, Server, enhanced_files, mosaics, same_as_replayed, slices
from tests.rtgod.sources.dicom.dicoms import PLANTED, save


class Node:
    """A node whose images are decoded when the test says so."""

    def __init__(self, **options):
        self.server, self.lines = Server(), []
        runs = LiveRuns(self.server, RunOptions(), self.lines.append)
        self.node = DicomNode(NodeOptions(port=0, **options), runs, self.lines.append)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.node.__exit__(None, None, None)

    def stop(self):
        self.node.run(lambda: True)

    def connected(self, **options):
        peer = AE()
        for kind in (MRImageStorage, EnhancedMRImageStorage, "1.2.840.10008.1.1"):
            peer.add_requested_context(kind)
        return peer.associate("127.0.0.1", self.node.port, **options)


def read(path):
    return pydicom.dcmread(path)


@pytest.fixture(params=[mosaics, slices, enhanced_files], ids=["mosaics", "slices", "enhanced"])
def folder(request, tmp_path):
    for number, dataset in enumerate(dataset for volume in request.param() for dataset in volume):
        save(dataset, tmp_path / "series" / f"{number:03d}.dcm")
    return tmp_path / "series"


def test_what_is_sent_is_what_is_replayed(folder):
    with Node() as node:
        association = node.connected()
        assert association.send_c_echo().Status == 0
        for path in sorted(folder.iterdir(), reverse=True):
            assert association.send_c_store(read(path)).Status == 0
        association.release()
        node.stop()
    same_as_replayed(node.server.volumes, list(DicomSeries(folder)))
    assert not any(planted in repr(node.server.messages) + "".join(node.lines) for planted in PLANTED)


def test_several_senders_at_once_lose_nothing(folder):
    with Node() as node:
        paths = sorted(folder.iterdir())

        def send(part):
            association = node.connected()
            for path in part:
                association.send_c_store(read(path))
            association.release()

        threads = [threading.Thread(target=send, args=(paths[i::3],)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        node.stop()
    same_as_replayed(node.server.volumes, list(DicomSeries(folder)))


@pytest.mark.skipif(not shutil.which("dcmsend", path="/usr/bin"), reason="needs DCMTK (Debian: dcmtk)")
def test_dcmtk_sends(folder):
    with Node() as node:
        command = ["/usr/bin/storescu", "-aec", "RTGOD", "+sd", "127.0.0.1", str(node.node.port), str(folder)]
        subprocess.run(command, check=True, timeout=60)
        node.stop()
    assert len(node.server.volumes) == N_VOLUMES
    same_as_replayed(node.server.volumes, list(DicomSeries(folder)))


def test_a_damaged_image_is_left_out_and_the_others_go_on(folder):
    paths = sorted(folder.iterdir())
    with Node() as node:
        association = node.connected()
        damaged = read(paths[0])
        damaged.PixelData = damaged.PixelData[:-20]
        damaged.SeriesInstanceUID = "1.2.77"
        association.send_c_store(damaged)
        for path in paths:
            association.send_c_store(read(path))
        association.release()
        node.stop()
    assert len([message for message in node.server.messages if isinstance(message, Volume)]) == N_VOLUMES
    assert node.lines
    assert not any(planted in "".join(node.lines) for planted in PLANTED)


def test_images_that_wait_are_bounded_by_their_bytes_and_a_larger_one_is_taken_alone():
    queue = ImageQueue(100)
    assert [queue.put(bytes(40), 0.0) for _ in range(3)] == [True, True, False]
    assert queue.get(0.0) == bytes(40)
    assert queue.put(bytes(60), 0.0)
    assert not queue.put(bytes(1), 0.0)
    assert [len(queue.get(0.0)), len(queue.get(0.0)), queue.get(0.0)] == [40, 60, None]
    assert queue.put(bytes(500), 0.0)
    assert not queue.put(bytes(1), 0.0)
    putting = threading.Thread(target=queue.put, args=(b"last", 30.0))  # waits for room
    putting.start()
    assert len(queue.get(30.0)) == 500
    assert queue.get(30.0) == b"last"
    putting.join(30)


def test_many_large_images_at_once_go_on_to_be_sent_while_others_still_wait():
    """What is decoded is handed on, so that a burst does not lie in memory in decoded form."""
    taken, n_waiting = [], []
    with Node() as node:
        runs = SimpleNamespace(
            take=lambda *_: taken.append(1), step=lambda: n_waiting.append(len(node.node._queue._images))
        )
        node.node._runs = runs
        dataset = mosaics()[0][0]
        dataset.Rows, dataset.Columns = 1800, 600
        dataset.PixelData = bytes(2 * 1800 * 600)
        association = node.connected()
        for _ in range(12):
            assert association.send_c_store(dataset).Status == 0
        association.release()
        node.node.step(0.0)
    assert len(taken) == 12
    assert len(n_waiting) >= 3
    assert n_waiting[0] > n_waiting[-1] == 0


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl, for a certificate")
def test_tls(folder, tmp_path):
    certificate, key = tmp_path / "node.pem", tmp_path / "node.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=node",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    with Node(certificate=certificate, private_key=key) as node:
        with socket.create_connection(("127.0.0.1", node.node.port), 30) as clear, suppress(ConnectionResetError):
            clear.sendall(b"\1\0" + bytes(100))
            assert clear.recv(1)[:1] != b"\2"  # an association would be accepted with it
        association = node.connected(tls_args=(context, None))
        for path in sorted(folder.iterdir()):
            association.send_c_store(read(path))
        association.release()
        node.stop()
    assert len(node.server.volumes) == N_VOLUMES


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"host": "0.0.0.0"}, "name with --allow which networks may connect"),  # noqa: S104 # refused
        ({"allowed": ("192.168.2.1/8",)}, "--allow: .*has host bits set; give a network such as"),
        ({"host": "scanner"}, "give an address such as"),
        ({"host": "192.0.2.1", "allowed": ("192.0.2.0/24",)}, "cannot listen there"),
        ({"certificate": "nowhere.pem"}, "nowhere.pem: cannot be used"),
    ],
)
def test_what_cannot_be_listened_to_is_refused(options, says):
    with pytest.raises(InputError, match=says):
        Node(**options)
