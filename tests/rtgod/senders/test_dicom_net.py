"""Images that are played to a DICOM node: the run comes out, each fault is told, and DCMTK stores what we send."""

import shutil
import socket
import subprocess
import threading
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import MRImageStorage

from rtgod.errors import InputError, ServerError
from rtgod.senders.dicom_images import DICOM_STYLES
from rtgod.senders.dicom_net import DicomStore
from rtgod.sources.dicom.series import DicomSeries
from tests.rtgod.receivers.test_dicom_net import Node
from tests.rtgod.senders.runs import N_VOLUMES, Recorded, played
from tests.rtgod.senders.test_dicom_folder import same_as_played

PATIENCE_S = 30.0


def received(source, *faults, style="mosaic"):
    with Node() as node:
        store = DicomStore(f"SCANNER-PC@127.0.0.1:{node.node.port}", style, PATIENCE_S, lambda _: None)
        told = played(source, store, *faults)
        node.stop()
    return node, told


@pytest.mark.parametrize("style", DICOM_STYLES)
def test_a_run_comes_out_as_it_is(style):
    source = Recorded("uint16", tr_s=1.97)
    node, told = received(source, style=style)
    same_as_played(node.server, source)
    assert told == []
    assert not [line for line in node.lines if "lost" in line or "left out" in line]
    assert "doe-jane" not in repr(node.server.messages)


FAULTS = {
    "late:2": ([1, 2, 3, 4, 5, 6], None),
    "doubled:3": ([1, 2, 3, 4, 5, 6], None),
    "out-of-order:3": ([1, 2, 3, 4, 5, 6], None),
    "missing:3": ([1, 2, 4, 5, 6], "volume 3 did not come in time: lost"),
    "truncated:3": ([1, 2, 4, 5, 6], "bytes of its voxels are missing"),
}


@pytest.mark.parametrize("style", DICOM_STYLES)
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_met_as_it_is_meant(fault, style):
    source = Recorded()
    node, told = received(source, fault, style=style)
    numbers, line = FAULTS[fault]
    same_as_played(node.server, source, numbers)
    assert len(told) == 1
    assert sum(line in one for one in node.lines) == 1 if line else not any("lost" in one for one in node.lines)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.mark.skipif(not shutil.which("storescp", path="/usr/bin"), reason="needs DCMTK (Debian: dcmtk)")
@pytest.mark.parametrize("style", DICOM_STYLES)
def test_dcmtk_stores_what_is_sent(tmp_path, style):
    source, port, lines = Recorded(), free_port(), []
    command = ["/usr/bin/storescp", "-aet", "LAB", "-od", str(tmp_path), "-uf", str(port)]
    with subprocess.Popen(command) as node:
        try:
            played(source, DicomStore(f"LAB@127.0.0.1:{port}", style, PATIENCE_S, lines.append))
        finally:
            node.terminate()
    own = DicomSeries(tmp_path)
    assert [volume.data.tolist() for volume in own] == [volume.data.tolist() for volume in source]
    np.testing.assert_allclose(own.run.affine, source.run.affine, atol=1e-6)


class Other:
    """A node of pynetdicom whose answers the test chooses, with what it was asked."""

    def __init__(self, *answers):
        self.images, self.titles, self._answers = [], [], list(answers)
        node = AE(ae_title="LAB")
        node.require_called_aet = True
        node.add_supported_context(MRImageStorage)
        self.server = node.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        self.port = self.server.server_address[1]

    def _store(self, event):
        self.titles.append(event.assoc.remote["ae_title"])
        answer = self._answers.pop(0) if self._answers else 0
        if answer == "break off":
            event.assoc.abort()
            return 0
        if answer == 0:
            self.images.append(pydicom.dcmread(BytesIO(event.encoded_dataset())))
        return answer


def sent_to(other, patience_s=PATIENCE_S):
    try:
        return played(Recorded(n=2), DicomStore(f"LAB@127.0.0.1:{other.port}", "mosaic", patience_s, lambda _: None))
    finally:
        other.server.shutdown()


@pytest.mark.parametrize("answers", [[], [0xA700, 0, 0xA701, 0xA702], ["break off"], [0, "break off"]])
def test_an_image_that_is_not_taken_now_is_sent_again(answers):
    other = Other(*answers)
    sent_to(other)
    assert [int(image.InstanceNumber) for image in other.images] == [1, 2]
    assert set(other.titles) == {"RTGOD_REPLAY"}


def test_an_image_that_is_refused_ends_it_with_the_nodes_reason():
    with pytest.raises(ServerError, match=r"LAB: does not take an image \(status C001\)"):
        sent_to(Other(0, 0xC001))


def test_a_node_that_knows_no_such_images_is_named():
    other = Other()
    store = DicomStore(f"LAB@127.0.0.1:{other.port}", "enhanced", PATIENCE_S, lambda _: None)
    with pytest.raises(ServerError, match="takes no MR images of this kind"):
        played(Recorded(), store)
    other.server.shutdown()


def test_a_node_of_another_title_is_not_sent_to():
    other, lines = Other(), []
    with pytest.raises(ServerError, match=r"OTHER@127\.0\.0\.1:\d+: nobody answers there"):
        played(Recorded(), DicomStore(f"OTHER@127.0.0.1:{other.port}", "mosaic", 0.3, lines.append))
    other.server.shutdown()
    assert not other.images


def test_nobody_who_answers_is_waited_for_and_named():
    port, lines = free_port(), []
    with pytest.raises(ServerError, match="nobody answers there"):
        played(Recorded(), DicomStore(f"127.0.0.1:{port}", "mosaic", 0.3, lines.append))
    assert lines == [f"waiting for 127.0.0.1:{port}, up to 0.3 s: nobody answers there yet; start the receiver"]


def test_a_node_that_comes_up_late_gets_everything():
    port, nodes = free_port(), []

    def come_up(_):
        nodes.append(threading.Thread(target=listen))
        nodes[0].start()

    stored = []

    def listen():
        node = AE()
        node.add_supported_context(MRImageStorage)
        handlers = [(evt.EVT_C_STORE, lambda event: stored.append(event.request.AffectedSOPInstanceUID) or 0)]
        server = node.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        done.wait(PATIENCE_S)
        server.shutdown()

    done = threading.Event()
    played(Recorded(), DicomStore(f"127.0.0.1:{port}", "mosaic", PATIENCE_S, come_up))
    done.set()
    nodes[0].join(PATIENCE_S)
    assert len(stored) == N_VOLUMES


@pytest.mark.parametrize("to", ["", "host", "A@host:0", "A@host:99999", "SEVENTEEN-LETTERS@h:1", "@host:1", "a/b:1:2"])
def test_what_is_no_node_is_refused(to):
    with pytest.raises(InputError, match="--to"):
        DicomStore(to, "mosaic", 1.0, lambda _: None)
