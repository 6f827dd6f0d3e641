"""Files that are played into a folder, watched as a scanner's are: the run comes out, and each fault is told."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from rtgod.errors import InputError
from rtgod.messages import RunEnd
from rtgod.receivers.arrivals import Arrivals
from rtgod.receivers.live_runs import LiveRuns
from rtgod.receivers.run_options import RunOptions
from rtgod.receivers.watcher import Watcher
from rtgod.senders.dicom_folder import DicomFolder
from rtgod.senders.dicom_images import DICOM_STYLES
from rtgod.sources import open_source
from tests.rtgod.receivers.test_watcher import Bridge, Server
from tests.rtgod.senders.runs import N_VOLUMES, TR_S, Recorded, affine, played

#: The files of the whole run are played well within it.
PATIENCE_S = 120.0


def watched(folder, source, *faults, style="mosaic", in_pieces=False, **options):
    """Play a run into a folder that is watched, a look after each volume; return what the server got, and the lines."""
    folder.mkdir()
    bridge = Bridge(folder, **options)

    def look():
        bridge.step(TR_S)
        bridge.step()

    told = played(source, DicomFolder(folder, style, in_pieces=in_pieces), *faults, between=look)
    for _ in range(4):
        bridge.step(TR_S)
    bridge.stop()
    return bridge, told


def same_as_played(server, source, numbers=range(1, N_VOLUMES + 1)):
    (run,) = server.runs
    assert (run.tr_s, run.shape) == (source.run.tr_s, source.run.shape)
    np.testing.assert_allclose(run.affine, source.run.affine, atol=1e-6)
    assert [volume.index + 1 for volume in server.volumes] == list(numbers)
    assert [volume.data.tolist() for volume in server.volumes] == [
        volume.data.tolist() for volume in source if volume.index + 1 in numbers
    ]


@pytest.mark.parametrize("style", DICOM_STYLES)
@pytest.mark.parametrize("in_pieces", [False, True], ids=["renamed", "in pieces"])
def test_a_run_comes_out_as_it_is(tmp_path, style, in_pieces):
    source = Recorded()
    bridge, told = watched(tmp_path / "export", source, style=style, in_pieces=in_pieces)
    same_as_played(bridge.server, source)
    assert [volume.acquired_s for volume in bridge.server.volumes] == pytest.approx([2.0 * i for i in range(N_VOLUMES)])
    assert bridge.server.messages[-1] == RunEnd(bridge.server.runs[0].run_id, N_VOLUMES)
    assert told == []
    assert not [line for line in bridge.lines if "lost" in line or "left out" in line]


def test_a_left_handed_run_keeps_its_voxels_in_mosaics(tmp_path):
    source = Recorded("uint16", affine(-1))
    bridge, _ = watched(tmp_path / "export", source)
    same_as_played(bridge.server, source)


FAULTS = {
    "late:2": ([1, 2, 3, 4, 5, 6], None),
    "late:2+3": ([1, 2, 3, 4, 5, 6], None),
    "doubled:3": ([1, 2, 3, 4, 5, 6], None),
    "out-of-order:3": ([1, 2, 3, 4, 5, 6], None),
    "missing:3": ([1, 2, 4, 5, 6], "volume 3 did not come in time: lost"),
    "truncated:3": ([1, 2, 4, 5, 6], "volume 3 did not come in time: lost"),
}


@pytest.mark.parametrize("style", DICOM_STYLES)
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_met_as_it_is_meant(tmp_path, fault, style):
    source = Recorded()
    bridge, told = watched(tmp_path / "export", source, fault, style=style, patience_tr=6.0)
    numbers, line = FAULTS[fault]
    same_as_played(bridge.server, source, numbers)
    assert len(told) == 1
    assert told[0].startswith(f"fault: volume {fault[-1] if '+' not in fault else 2} ")
    assert sum(line in told for told in bridge.lines) == 1 if line else not any("lost" in one for one in bridge.lines)
    is_cut = fault.startswith("truncated")
    assert any("not written to the end" in one or "lacks" in one for one in bridge.lines) == is_cut


def test_a_volume_later_than_the_patience_is_lost_and_named(tmp_path):
    bridge, _ = watched(tmp_path / "export", Recorded(), "late:2+3", patience_tr=1.0)
    assert [volume.index + 1 for volume in bridge.server.volumes] == [1, 3, 4, 5, 6]
    assert sum("volume 2 came after later ones were given: not sent" in line for line in bridge.lines) == 1


def test_a_second_playing_of_a_run_is_another_series_and_overwrites_nothing(tmp_path):
    for _ in range(2):
        played(Recorded(), DicomFolder(tmp_path, "mosaic"), "doubled:2")
    assert len(list(tmp_path.iterdir())) == 2 * (N_VOLUMES + 1)
    assert {path.suffix for path in tmp_path.iterdir()} == {".dcm"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    with pytest.raises(InputError, match=r"--to .*: no folder can be made there"):
        played(Recorded(), DicomFolder(tmp_path / "no" / "folder", "mosaic"))


def test_a_whole_real_run_played_by_another_process_loses_nothing(shared_data, tmp_path):
    """All files grow in pieces, at once after each other, some in the wrong order, late or twice."""
    origin, export, lines, done = shared_data / "siemens-run" / "dicom", tmp_path / "export", [], threading.Event()
    export.mkdir()
    server = Server()
    command = [
        sys.executable, "-m", "rtgod", "replay", origin, "--as", "dicom-folder", "--to", export, "--chunks",
        "--speed", "40", "--fault", "out-of-order:20%,late:5%,doubled:5%", "--seed", "7",
    ]  # fmt: skip
    with Arrivals(export, with_events=True) as arrivals:
        runs = LiveRuns(server, RunOptions(patience_tr=20.0), lines.append)
        thread = threading.Thread(target=Watcher(arrivals, runs, lines.append).run, args=(done.is_set,))
        thread.start()
        try:
            player = subprocess.run(command, check=True, timeout=PATIENCE_S, capture_output=True, text=True)
            for _ in range(int(50 * PATIENCE_S)):
                if runs.n_sent == 155:
                    break
                done.wait(0.02)
        finally:
            done.set()
            thread.join(PATIENCE_S)
    source = open_source(origin)
    assert player.stderr.count("comes after the next one") > 10
    assert [volume.index for volume in server.volumes] == list(range(155))
    assert [volume.data.tobytes() for volume in server.volumes] == [volume.data.tobytes() for volume in source]
    np.testing.assert_allclose(server.runs[0].affine, source.run.affine, atol=1e-6)
    assert server.messages[-1] == RunEnd(server.runs[0].run_id, 155)
    assert not [line for line in lines if "lost" in line or "different" in line]
