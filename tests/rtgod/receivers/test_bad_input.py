"""What goes wrong around a running scan: other patients, shares that go, full disks, servers that stay away."""

import errno
import gc
import os
import tempfile
import tracemalloc

import numpy as np
import pytest

from rtgod.errors import ServerError
from rtgod.journal.journal import JournalWriter
from rtgod.messages import Run, RunEnd, Volume
from rtgod.protocol.clients import Sender
from rtgod.receivers import watcher as module
from rtgod.receivers.backlog import Backlog
from rtgod.receivers.live_series import _Held
from rtgod.receivers.outbox import Outbox
from tests import small
from tests.rtgod.receivers.test_watcher import Bridge, Server, interoperability, mosaics, written
from tests.rtgod.sources.dicom import test_siemens_mosaic as test_mosaic
from tests.rtgod.sources.dicom.dicoms import TR_S, save
from tests.serving import running

OTHER = {
    "PatientID": "ID-OF-ANOTHER",
    "PatientName": "Another^Must^Not",
    "SeriesNumber": 9,
    "SeriesInstanceUID": "1.7.1",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "export").mkdir()
    return tmp_path / "export"


def indices(bridge):
    return [volume.index for volume in bridge.server.volumes]


# ---------------------------------------------------------------- other patients


def both(bridge, folder, **changes):
    """A run of one patient, in the middle of which another's begins."""
    written(bridge, folder, mosaics()[:3])
    localizer = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesNumber": 8, "SeriesInstanceUID": "1.7.0"}
    save(test_mosaic.dicom(1, **(OTHER | localizer | changes)), folder / "localizer.dcm")
    for number in range(1, 5):
        save(test_mosaic.dicom(number, **(OTHER | changes)), folder / f"other-{number}.dcm")
        bridge.step(TR_S)
    written(bridge, folder, mosaics()[3:])
    bridge.step(2 * TR_S)
    bridge.stop()


def test_another_patients_series_is_told_at_once_and_not_sent(folder):
    bridge = Bridge(folder, subject="01")
    both(bridge, folder)
    assert len(bridge.server.runs) == 1
    assert indices(bridge) == list(range(6))
    for number in (8, 9):
        (line,) = [line for line in bridge.lines if line.startswith(f"series {number}:")]
        assert "another patient's, by PatientID" in line
        assert "start again with their label" in line
    assert not any(secret in "".join(bridge.lines) for secret in ("ANOTHER", "Must"))


def test_one_person_with_two_numbers_is_sent_when_asked(folder):
    bridge = Bridge(folder, several_patients=True)
    both(bridge, folder)
    assert len(bridge.server.runs) == 2
    assert not [line for line in bridge.lines if "patient" in line]


@pytest.mark.parametrize("number", ["", None])
def test_images_without_a_patients_number_may_be_of_anybody(folder, number):
    bridge = Bridge(folder)
    both(bridge, folder, PatientID=number)
    assert len(bridge.server.runs) == 2
    assert not [line for line in bridge.lines if "patient" in line]


def test_the_patient_is_that_of_the_first_run_and_not_of_what_came_before(folder):
    """Images that a reconstruction sends after its patient has left keep nobody's run from being sent."""
    bridge = Bridge(folder)
    late = OTHER | {"ImageType": ["DERIVED", "PRIMARY", "MOSAIC"]}
    save(test_mosaic.dicom(1, **late), folder / "late.dcm")
    save(test_mosaic.dicom(2, **OTHER), folder / "stray.dcm")
    bridge.step()
    written(bridge, folder, mosaics())
    bridge.stop()
    assert [run.run_id[:9] for run in bridge.server.runs] == ["series-7-"]
    assert indices(bridge) == list(range(6))
    assert [line for line in bridge.lines if line.startswith("series 9: another patient's")]


def test_an_image_of_another_patient_in_the_same_series_is_left_out(folder):
    bridge = Bridge(folder)
    volumes = mosaics()
    volumes[3] = [test_mosaic.dicom(4, PatientID="ID-OF-ANOTHER")]
    written(bridge, folder, volumes)
    bridge.stop()
    assert indices(bridge) == [0, 1, 2, 4, 5]


# ---------------------------------------------------------------- folders that go and come back


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that are opened."""
    names = []
    read = module.read_growing
    monkeypatch.setattr(module, "read_growing", lambda path, tags: names.append(path.name) or read(path, tags))
    return names


def with_old_files(folder):
    """Old files; the last one of a folder is written a little later than its folder was changed, and may be new."""
    for number in range(1, 5):
        save(test_mosaic.dicom(number, **OTHER), folder / "before" / f"old-{number}.dcm")
        save(test_mosaic.dicom(number, **OTHER), folder / f"old-{number}.dcm")


@pytest.mark.parametrize("leaves", ["an empty folder", "nothing"])
def test_a_share_that_is_unmounted_and_back_brings_no_old_files(folder, opened, leaves):
    with_old_files(folder)
    bridge = Bridge(folder)
    written(bridge, folder, mosaics()[:2])
    away = folder.with_name("share")
    folder.rename(away)
    if leaves == "an empty folder":
        folder.mkdir()
    for _ in range(3):
        bridge.step()
    save(mosaics()[2][0], away / "while away.dcm")
    if leaves == "an empty folder":
        folder.rmdir()
    away.rename(folder)
    for _ in range(3):
        bridge.step(1)
    bridge.n_files = 10
    written(bridge, folder, mosaics()[3:])
    bridge.stop()
    assert indices(bridge) == list(range(6))
    assert {name for name in opened if name.startswith("old")} <= {"old-4.dcm"}
    assert len(bridge.server.runs) == 1


def test_a_folder_that_is_deleted_and_made_again_may_use_its_names_again(folder):
    with_old_files(folder)
    bridge = Bridge(folder)
    for turn, volumes in enumerate((range(1, 4), range(4, 7))):
        for number in volumes:
            save(test_mosaic.dicom(number), folder / f"old-{number - 3 * turn}.dcm.new").rename(
                folder / f"{number - 3 * turn}.dcm"
            )
            bridge.step(TR_S)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
        folder.mkdir()  # before anybody looks
    assert indices(bridge) == list(range(6))


def test_a_folder_in_it_that_goes_and_comes_back_brings_no_old_files(folder, opened):
    with_old_files(folder)
    bridge = Bridge(folder)
    (folder / "before").rename(folder.with_name("elsewhere"))
    bridge.step()
    bridge.step(1)
    folder.with_name("elsewhere").rename(folder / "before")
    save(mosaics()[0][0], folder / "before" / "new.dcm")
    for _ in range(4):
        bridge.step(1)
    bridge.stop()
    assert "new.dcm" in opened
    assert set(opened) <= {"new.dcm", "old-4.dcm"}
    assert indices(bridge) == []


def test_a_file_that_is_half_written_when_its_share_goes_is_read_once_it_is_back(folder, tmp_path):
    bridge = Bridge(folder)
    written(bridge, folder, mosaics()[:2])
    whole = save(mosaics()[2][0], tmp_path / "whole.dcm").read_bytes()
    (folder / "3.dcm").write_bytes(whole[:-50])
    bridge.step()
    folder.rename(folder.with_name("share"))
    bridge.step()
    bridge.step()
    with (folder.with_name("share") / "3.dcm").open("ab") as file:
        file.write(whole[-50:])
    folder.with_name("share").rename(folder)
    for _ in range(3):
        bridge.step(1)
    assert indices(bridge) == [0, 1, 2]


def test_a_clock_that_goes_back_hides_no_file(folder):
    """Neither that of a share, which dates folders and files, nor one of the machine that copies them."""
    bridge = Bridge(folder)
    for number in range(1, 7):
        path = save(test_mosaic.dicom(number), folder / f"{number}.dcm")
        os.utime(path, (1e9 - 1000 * number,) * 2)
        os.utime(folder, (1e9 - 1000 * number,) * 2)
        bridge.step(TR_S)
    assert indices(bridge) == list(range(6))


# ---------------------------------------------------------------- servers that cannot take what comes


class FullDisk(JournalWriter):
    """A journal on a disk that is full until the test makes room."""

    is_full = False

    def append(self, message):
        if self.is_full and isinstance(message, Volume):
            from rtgod.errors import JournalError

            raise JournalError(f"journal: cannot be written ({os.strerror(errno.ENOSPC)}); make room on its disk")
        super().append(message)


def test_volumes_wait_until_the_servers_disk_has_room(tmp_path, monkeypatch):
    lines = []
    with running(tmp_path, writer=FullDisk) as server, Sender(server.ingest, patience_s=0.5) as sender:
        runs = Outbox(sender, lines.append)
        sent = small.messages(indices=range(4))
        runs.put(sent[0])
        monkeypatch.setattr(FullDisk, "is_full", True)
        for message in sent[1:]:
            runs.put(message)
        runs.send()
        assert runs.n_sent == 0
        assert "make room" in lines[-1]
        monkeypatch.setattr(FullDisk, "is_full", False)
        for _ in range(40):
            runs.send()
        assert [one.index for one in server.recorded(Volume)] == [0, 1, 2, 3]
        assert server.recorded(RunEnd)


def volumes(n, shape=(64, 64, 20)):
    return [Volume("run", index, 2.0 * index, np.full(shape, index, np.int16)) for index in range(n)]


RUN = Run("run", "01", 2.0, (64, 64, 20), np.diag([3.0, 3.0, 3.0, 1.0]))


def test_what_waits_for_the_server_neither_fills_memory_nor_is_lost():
    server, lines = Server(), []
    server.error = ServerError("no answer from tcp://127.0.0.1:5555")
    outbox = Outbox(server, lines.append, most_bytes=2**20)
    tracemalloc.start()
    outbox.put(RUN)
    for index in range(100):  # 16 MB
        outbox.put(Volume("run", index, 2.0 * index, np.full(RUN.shape, index, np.int16)))
        outbox.send()
    assert tracemalloc.get_traced_memory()[0] < 3 * 2**20
    tracemalloc.stop()
    assert sum("further ones are in a file" in line for line in lines) == 1
    assert sum("waiting for the server" in line for line in lines) < 10
    server.error = None
    outbox.put(RunEnd("run", 100))
    outbox.send()
    assert outbox.n_sent == 100
    assert [int(one.data.min()) for one in server.volumes] == list(range(100))
    assert [(one.index, one.acquired_s, one.data.shape) for one in server.volumes] == [
        (index, 2.0 * index, RUN.shape) for index in range(100)
    ]
    assert server.messages[-1] == RunEnd("run", 100)


def test_the_file_of_what_waits_has_no_name_and_is_used_again(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    backlog = Backlog(most_bytes=0)
    for turn in range(3):
        for message in volumes(5):
            backlog.append(message)
        assert list(tmp_path.iterdir()) == []
        assert (backlog.n_volumes, backlog.n_stored) == (5, 5)
        for index in range(5):
            assert (turn, backlog.first().data.max()) == (turn, index)
            backlog.popleft()
        assert (len(backlog), backlog.n_stored) == (0, 0)
    assert backlog._file is None


def test_without_room_for_a_file_volumes_stay_in_memory_and_it_is_said_once(monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    server, lines = Server(), []
    server.error = ServerError("no answer")
    outbox = Outbox(server, lines.append, most_bytes=0)
    for message in volumes(4):
        outbox.put(message)
    assert sum("they are kept in memory" in line for line in lines) == 1
    server.error = None
    outbox.send()
    assert [int(one.data.min()) for one in server.volumes] == [0, 1, 2, 3]


def test_voxels_that_were_given_are_not_kept(folder):
    """Volumes that are series of their own; the last ones are kept to count by."""
    bridge = Bridge(folder)
    written(bridge, folder, interoperability())
    assert len(bridge.server.volumes) >= 5
    given = [one for one in gc.get_objects() if type(one) is _Held and one.given_as is not None]
    assert given
    assert sum(one.slices.nbytes for one in given) == 0


def test_an_index_that_no_run_has_is_told_and_ends_nothing(folder):
    bridge = Bridge(folder)
    for number in range(1, 4):
        save(test_mosaic.dicom(number, InstanceNumber=200_000 + number), folder / f"{number}.dcm")
        bridge.step(TR_S)
    bridge.step(10)
    bridge.stop()
    assert any("at most 100000 volumes" in line and "not sent" in line for line in bridge.lines)
