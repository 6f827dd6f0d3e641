"""A scanner's folder, watched: files in any order and of any format become the volumes that a replay would send."""

import itertools
import random
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest

from rtgod.errors import RefusedError, ServerError
from rtgod.events.table import events_table
from rtgod.messages import Run, RunEnd, Volume
from rtgod.receivers import watcher as module
from rtgod.receivers.arrivals import Arrivals
from rtgod.receivers.live_runs import LiveRuns
from rtgod.receivers.live_series import LiveSeries
from rtgod.receivers.run_options import RunOptions
from rtgod.receivers.server_rules import ServerRules
from rtgod.receivers.watcher import Watcher
from rtgod.settings import EventsSettings
from rtgod.sources.dicom.series import DicomSeries
from tests.rtgod.sources.dicom import test_siemens_mosaic as test_mosaic
from tests.rtgod.sources.dicom.dicoms import N_Z, PLANTED, TR_S, enhanced, save, single_slice, voxels

N_VOLUMES = 6


class Server:
    """Takes what a sender sends, unless it is told to fail."""

    def __init__(self):
        self.messages, self.error = [], None

    def send(self, message):
        if self.error is not None:
            raise self.error
        self.messages.append(message)

    @property
    def volumes(self):
        return [message for message in self.messages if isinstance(message, Volume)]

    @property
    def runs(self):
        return [message for message in self.messages if isinstance(message, Run)]


class Bridge:
    """A watcher of a folder, whose clock the test moves."""

    def __init__(self, folder, **options):
        self.server, self.lines, self.now_s, self.n_files = Server(), [], 0.0, 0
        self.arrivals = Arrivals(folder, with_events=False, clock=lambda: self.now_s)
        runs = LiveRuns(self.server, RunOptions(**options), self.lines.append, clock=lambda: self.now_s)
        self.watcher = Watcher(self.arrivals, runs, self.lines.append, clock=lambda: self.now_s)

    def step(self, seconds=0.02):
        self.now_s += seconds
        self.watcher.step()

    def stop(self):
        self.watcher.run(lambda: True)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "export").mkdir()
    return tmp_path / "export"


def events(folder, *rows):
    path = folder / "events.tsv"
    lines = ["\t".join(map(str, row)) for row in (("onset", "duration", "trial_type"), *rows)]
    path.write_text("\n".join(lines) + "\n")
    return events_table(path)


def mosaics():
    return [[test_mosaic.dicom(number)] for number in range(1, N_VOLUMES + 1)]


def slices():
    return [[single_slice(number, z) for z in range(N_Z)] for number in range(1, N_VOLUMES + 1)]


def enhanced_files():
    return [[enhanced([number])] for number in range(1, N_VOLUMES + 1)]


def interoperability():
    return [
        [enhanced([number], SeriesNumber=100 + number, SeriesInstanceUID=f"1.2.3.{number}", InstanceNumber=1,
                  AcquisitionNumber=1, temporal=False)]
        for number in range(1, N_VOLUMES + 1)
    ]  # fmt: skip


FORMATS = [mosaics, slices, enhanced_files, interoperability]


def written(bridge, folder, volumes, order=None, every_s=TR_S):
    """Write files as they are acquired, each volume's in an order of its own, and step on."""
    for turn, number in enumerate(order or range(len(volumes))):
        files = list(volumes[number])
        random.Random(turn).shuffle(files)  # noqa: S311 # no secret
        for dataset in files:
            bridge.n_files += 1
            save(dataset, folder / f"{bridge.n_files * 31 % 997:03d}.dcm")
            bridge.step()
        bridge.step(every_s)


def same_as_replayed(volumes, replayed):
    assert [volume.index for volume in volumes] == [volume.index for volume in replayed]
    for ours, theirs in zip(volumes, replayed, strict=True):
        assert ours.run_id == theirs.run_id
        assert ours.acquired_s == pytest.approx(theirs.acquired_s)
        assert (ours.data.dtype, ours.data.tobytes()) == (theirs.data.dtype, theirs.data.tobytes())


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize("order", [None, [0, 2, 1, 3, 5, 4], [1, 0, 2, 4, 3, 5]], ids=["in order", "swapped", "late"])
def test_what_is_watched_is_what_is_replayed(folder, make, order):
    bridge = Bridge(folder)
    written(bridge, folder, make(), order)
    bridge.stop()
    source = DicomSeries(folder)
    (run,) = bridge.server.runs
    assert (run.run_id, run.acquisition, run.tr_s, run.shape) == (
        source.run.run_id, source.acquisition(), source.run.tr_s, source.run.shape,
    )  # fmt: skip
    np.testing.assert_array_equal(run.affine, source.run.affine)
    same_as_replayed(bridge.server.volumes, list(source))
    assert bridge.server.messages[-1] == RunEnd(run.run_id, N_VOLUMES)


@pytest.mark.parametrize("make", FORMATS)
def test_a_volume_is_sent_with_its_last_byte_and_not_before(folder, make, tmp_path):
    """No time is waited: one look after the last byte it is on its way."""
    bridge = Bridge(folder)
    first, second, (*files, last) = make()[:3]
    for number, dataset in enumerate([*first, *second, *files]):
        save(dataset, folder / f"{number}.dcm")
        bridge.step()
    n_before = len(bridge.server.volumes)
    assert n_before in (0, 2)  # series of one volume each are known for one run by the third
    whole = save(last, tmp_path / "whole.dcm").read_bytes()
    for n_bytes in (0, 100, 300, len(whole) // 2, len(whole) - 1):
        (folder / "last.dcm").write_bytes(whole[:n_bytes])
        bridge.step()
        assert len(bridge.server.volumes) == n_before
    (folder / "last.dcm").write_bytes(whole)
    bridge.step()
    assert [volume.index for volume in bridge.server.volumes] == [0, 1, 2]


def test_what_is_lost_late_or_doubled_is_said_once(folder):
    bridge = Bridge(folder, patience_tr=2.0)
    volumes = mosaics()
    written(bridge, folder, volumes[:2])
    written(bridge, folder, volumes[3:5])  # the third is missing
    bridge.step(2 * TR_S)
    assert [volume.index for volume in bridge.server.volumes] == [0, 1, 3, 4]
    save(volumes[2][0], folder / "late.dcm")
    save(volumes[4][0], folder / "again.dcm")
    bridge.step()
    other = test_mosaic.dicom(6)
    save(volumes[5][0], folder / "6.dcm")
    bridge.step()
    other.PixelData = bytes(len(other.PixelData))
    save(other, folder / "6 again.dcm")
    bridge.step()
    bridge.stop()
    assert [volume.index for volume in bridge.server.volumes] == [0, 1, 3, 4, 5]
    told = "\n".join(bridge.lines)
    assert told.count("volume 3 did not come in time: lost") == 1
    assert told.count("volume 3 came after later ones were given: not sent") == 1
    assert "volume 5" not in told.replace("since volume 5", "")


def test_a_volume_without_a_slice_is_lost_after_a_while(folder):
    bridge = Bridge(folder)
    volumes = slices()
    del volumes[2][3]
    written(bridge, folder, volumes)
    bridge.stop()
    assert [volume.index for volume in bridge.server.volumes] == [0, 1, 3, 4, 5]
    assert "series 7: volume 3 did not come in time: lost; slices are missing" in bridge.lines


@pytest.mark.parametrize("make", FORMATS[:2])
def test_a_clock_that_goes_back_costs_no_volume(folder, make):
    """Of slices, only the last of each volume does not fit the clock: three such volumes are enough to believe it."""
    bridge, volumes = Bridge(folder), make()
    for dataset in (dataset for files in volumes[3:] for dataset in files):
        dataset.AcquisitionTime = f"09{str(dataset.AcquisitionTime)[2:]}"
    written(bridge, folder, volumes)
    bridge.stop()
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES))
    assert any("the scanner's clock has jumped: volumes count by their numbers" in line for line in bridge.lines)


@pytest.mark.parametrize("make", FORMATS)
def test_voxels_of_volumes_that_were_sent_are_not_kept(folder, make, monkeypatch):
    """Not even of those that are needed to count by."""
    kept = []
    given = LiveSeries.ready
    monkeypatch.setattr(
        LiveSeries,
        "ready",
        lambda self, now_s: (given(self, now_s), kept.append([h.slices.size for h in self._held]))[0],
    )
    bridge = Bridge(folder)
    written(bridge, folder, make())
    assert len(bridge.server.volumes) == N_VOLUMES
    assert kept[-1]
    assert sum(kept[-1]) == 0


def test_old_files_are_never_opened(folder, monkeypatch):
    for number, (dataset,) in enumerate(mosaics()[:3]):
        save(dataset, folder / "old" / f"{number}.dcm")
        save(dataset, folder / f"{number}.dcm")
    opened = []
    monkeypatch.setattr(module, "read_growing", lambda path, _: opened.append(path.name) or (None, 0, None))
    bridge = Bridge(folder)
    assert bridge.arrivals.n_old == 6
    bridge.step(5)
    save(mosaics()[3][0], folder / "old" / "new.dcm")
    bridge.step(5)
    bridge.step(5)
    assert set(opened) == {"new.dcm"}


OTHERS = {
    "a localizer": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    "phase images": {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND", "MOSAIC"]},
    "derived images": {"ImageType": ["DERIVED", "PRIMARY", "MOSAIC"]},
    "a single-band reference": {"SeriesDescription": "bold_SBRef"},
    "no echo-planar images": {"ScanningSequence": ["GR", "IR"]},
    "no MR images": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.22"},
    "images that the scanner corrected for motion (--corrected takes them)": {
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOCO", "MOSAIC"]
    },
}


def test_what_belongs_to_no_functional_run_is_left_out_and_named_once(folder):
    bridge = Bridge(folder)
    for turn, (dataset,) in enumerate(mosaics()):
        save(dataset, folder / f"{turn}.dcm")
        for number, changes in enumerate(OTHERS.values()):
            other = {"SeriesNumber": 20 + number, "SeriesInstanceUID": f"1.9.{number}"} | changes
            save(test_mosaic.dicom(turn + 1, **other), folder / f"{turn}-{number}.dcm")
        bridge.step()
    (folder / "physio.log").write_text(100 * "0 1 2\n")
    bridge.step()
    bridge.step(1)
    bridge.step(1)
    bridge.stop()
    assert len(bridge.server.volumes) == N_VOLUMES
    for number, kind in enumerate(OTHERS):
        assert bridge.lines.count(f"series {20 + number}: {kind}: left out") == 1
    assert bridge.lines.count("files that are no DICOM images are left out") == 1


def test_corrected_images_are_taken_in_place_of_the_others(folder):
    bridge = Bridge(folder, corrected=True)
    corrected = {
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOCO", "MOSAIC"],
        "SeriesNumber": 8,
        "SeriesInstanceUID": "1.2.4",
    }
    for number in range(1, 4):
        save(test_mosaic.dicom(number), folder / f"{number}.dcm")
        save(test_mosaic.dicom(number, **corrected), folder / f"{number}-corrected.dcm")
        bridge.step()
    assert [run.run_id[:8] for run in bridge.server.runs] == ["series-8"]
    assert len(bridge.server.volumes) == 3


def test_the_next_series_is_the_next_run_and_a_restart_is_another(folder):
    bridge = Bridge(folder, events=events(folder.parent, (4, 2, "face")))
    for number in range(1, 4):
        save(test_mosaic.dicom(number), folder / "first" / f"{number}.dcm")
        bridge.step(TR_S)
    for number in range(1, 3):
        save(test_mosaic.dicom(number, SeriesNumber=9, SeriesInstanceUID="1.2.5"), folder / "second" / f"{number}.dcm")
        bridge.step(TR_S)
    bridge.step(TR_S)
    save(test_mosaic.dicom(4), folder / "first" / "4.dcm")
    bridge.step()
    bridge.stop()
    kinds = [type(message).__name__ for message in bridge.server.messages]
    assert kinds == ["Run", *["Volume"] * 3, "RunEnd", "Run", *["Volume"] * 2, "RunEnd"]
    first, second = bridge.server.runs
    assert first.acquisition != second.acquisition
    assert [(block.onset_s, block.duration_s) for block in first.blocks] == [(4.0, 2.0)]
    assert "series 7: images came after its run had ended: left out" in bridge.lines


def test_a_run_whose_length_is_known_ends_with_its_last_volume(folder):
    bridge = Bridge(folder)
    for number in range(1, 7):
        save(enhanced([number], NumberOfTemporalPositions=6), folder / f"{number}.dcm")
        bridge.step()
    bridge.step(2 * TR_S)
    assert bridge.server.messages[-1] == RunEnd(bridge.server.runs[0].run_id, 6)
    assert bridge.server.runs[0].n_volumes == 6


def test_a_planned_number_of_volumes_ends_a_run_at_once(folder):
    bridge = Bridge(folder, n_volumes=3)
    written(bridge, folder, mosaics()[:3], every_s=0.0)
    assert bridge.server.messages[-1] == RunEnd(bridge.server.runs[0].run_id, 3)


def test_trials_that_are_none_of_the_run_cost_no_volume(folder):
    in_ms = events(folder.parent, (4000, 2000, "s1"), (8000, 2000, "s2"))
    bridge = Bridge(folder, events=in_ms, n_volumes=N_VOLUMES)
    written(bridge, folder, mosaics())
    bridge.stop()
    assert len(bridge.server.volumes) == N_VOLUMES
    assert bridge.server.runs[0].blocks == ()
    assert sum("are these milliseconds" in line for line in bridge.lines) == 1


def test_silence_is_told_within_two_repetition_times(folder):
    bridge = Bridge(folder)
    written(bridge, folder, mosaics()[:2], every_s=0.0)
    assert not [line for line in bridge.lines if "no volume" in line]
    bridge.step(2 * TR_S)
    bridge.step(2 * TR_S)
    assert len([line for line in bridge.lines if "series 7: no volume for 2 TR, since volume 2" in line]) == 1
    written(bridge, folder, [[test_mosaic.dicom(3)]])
    assert "series 7: volumes come again" in bridge.lines


@pytest.mark.parametrize("n_volumes", [1, 2])
@pytest.mark.parametrize("make", FORMATS)
def test_silence_after_the_first_volumes_is_told_even_before_a_run_begins(folder, make, n_volumes):
    """A first volume is held, and so are two of a series each; their run begins as ever if more come."""
    bridge = Bridge(folder)
    written(bridge, folder, make()[:n_volumes], every_s=0.0)
    bridge.step(1.9 * TR_S)
    assert not [line for line in bridge.lines if "no volume" in line]
    for _ in range(4):
        bridge.step(0.2 * TR_S)
    said = f": no volume for 2 TR, since volume {n_volumes}: did the scan stop"
    assert sum(said in line for line in bridge.lines) == 1
    bridge.step(20 * TR_S)
    assert sum("no volume for" in line for line in bridge.lines) == 1
    written(bridge, folder, make()[n_volumes:])
    bridge.stop()
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES))
    assert sum("volumes come again" in line for line in bridge.lines) == 1


def test_a_silence_of_the_next_series_is_told_after_that_of_the_run_before_it(folder):
    bridge = Bridge(folder)
    written(bridge, folder, mosaics()[:3])
    bridge.step(2 * TR_S)
    save(test_mosaic.dicom(1, SeriesNumber=9, SeriesInstanceUID="1.2.9"), folder / "next.dcm")
    bridge.step()
    bridge.step(2 * TR_S)
    told = [line.split(":")[0] for line in bridge.lines if "no volume for 2 TR" in line]
    assert told == ["series 7", "series 9"]


def test_a_folder_that_goes_and_comes_back_is_watched_on(folder):
    bridge = Bridge(folder)
    written(bridge, folder, mosaics()[:2])
    shutil.rmtree(folder)
    bridge.step()
    assert bridge.arrivals.is_gone
    folder.mkdir()
    written(bridge, folder, [[test_mosaic.dicom(3)], [test_mosaic.dicom(4)]])
    assert [volume.index for volume in bridge.server.volumes] == [0, 1, 2, 3]


def test_nothing_is_lost_while_the_server_is_away(folder):
    bridge = Bridge(folder)
    written(bridge, folder, mosaics()[:2])
    bridge.server.error = ServerError("no answer from tcp://127.0.0.1:5555")
    written(bridge, folder, [[test_mosaic.dicom(3)], [test_mosaic.dicom(4)]])
    assert len(bridge.server.volumes) == 2
    bridge.server.error = None
    bridge.step()
    assert [volume.index for volume in bridge.server.volumes] == [0, 1, 2, 3]
    assert [line for line in bridge.lines if "waiting for the server" in line]


def test_a_run_that_the_server_refuses_is_not_sent_on(folder):
    bridge = Bridge(folder)
    bridge.server.error = RefusedError("another person's run")
    written(bridge, folder, mosaics()[:2])
    bridge.server.error = None
    written(bridge, folder, [[test_mosaic.dicom(3)]])
    assert bridge.server.messages == []
    assert len([line for line in bridge.lines if "the server refuses it: another person's run" in line]) == 1


def test_a_damaged_file_is_named_without_its_name(folder):
    bridge = Bridge(folder)
    for number in (1, 4):
        save(test_mosaic.dicom(number), folder / f"{number}.dcm")
        bridge.step()
    save(test_mosaic.dicom(2, EchoTime=60), folder / f"{PLANTED[0]}.dcm")
    bridge.step()
    whole = save(test_mosaic.dicom(3), folder / f"{PLANTED[1]}.dcm").read_bytes()
    (folder / f"{PLANTED[1]}.dcm").write_bytes(whole[:-9])
    bridge.step()
    bridge.step(1)
    bridge.step(1)
    bridge.stop()
    told = "\n".join(bridge.lines)
    assert "series 7: an image is left out: its echo time differs" in told
    assert told.count("a file of series 7 lacks 9 bytes of its voxels; it is waited for") == 1
    assert not any(planted in told for planted in PLANTED)
    assert [volume.index for volume in bridge.server.volumes] == [0, 3]


def test_nothing_in_the_folder_is_changed_and_nothing_personal_is_sent(folder):
    bridge = Bridge(folder)
    written(bridge, folder, mosaics())
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    bridge.step(1)
    bridge.stop()
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()} == before
    sent = repr(bridge.server.messages) + "\n".join(bridge.lines)
    assert not any(planted in sent for planted in PLANTED)


def test_a_file_that_is_written_to_after_it_was_taken_is_named(folder):
    bridge = Bridge(folder)
    written(bridge, folder, mosaics())
    altered = test_mosaic.dicom(2)
    altered.PixelData = b"\1\0" + altered.PixelData[2:]
    save(altered, sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)[1])
    bridge.step(0.2)
    bridge.step(0.2)
    bridge.stop()
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES))
    assert sum("different voxels" in line for line in bridge.lines) == 1


@pytest.mark.parametrize("make", FORMATS[:2])
def test_numbers_that_are_rescaled_from_a_volume_on_are_those_of_a_replay(folder, make):
    """Those before them stay as they are stored."""
    bridge, volumes = Bridge(folder), make()
    for dataset in (dataset for files in volumes[3:] for dataset in files):
        dataset.RescaleSlope, dataset.RescaleIntercept = "2", "0"
    written(bridge, folder, volumes)
    bridge.stop()
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder)))
    kinds = [volume.data.dtype.name for volume in bridge.server.volumes]
    assert kinds[:3] == 3 * [kinds[0]] != kinds[3:] == 3 * ["float32"]


# ---------------------------------------------------------------- full length before the content


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize("pause_s", [0.1, 1.5])
@pytest.mark.parametrize("is_first", [False, True], ids=["later", "first"])
def test_a_file_that_has_its_full_length_before_its_content_is_taken_once_it_is_filled(
    folder, make, pause_s, is_first, tmp_path
):
    """As a copy to a share may have, with pauses between its pieces."""
    bridge, volumes = Bridge(folder, patience_tr=1e6), make()
    n_before = 0 if is_first else 3
    written(bridge, folder, volumes[:n_before])
    for dataset in volumes[n_before]:
        whole = save(dataset, tmp_path / "whole.dcm").read_bytes()
        for n_written in (0, len(whole) // 2, len(whole) - 0.9 * len(dataset.PixelData), len(whole) - 130, len(whole)):
            content = whole[: int(n_written)]
            (folder / f"filled {dataset.SOPInstanceUID}.dcm").write_bytes(content + bytes(len(whole) - len(content)))
            for _ in range(3):
                bridge.step(pause_s / 3)
    written(bridge, folder, volumes[n_before + 1 :])
    bridge.step(2)
    bridge.stop()
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder)))
    assert not [line for line in bridge.lines if "different voxels" in line]


def test_images_that_end_blank_are_taken_once_one_of_them_has_not_changed_for_a_while_and_that_is_said(folder):
    """As masked ones do; later ones are not waited for."""
    bridge, run = Bridge(folder), mosaics()
    for (dataset,) in run:
        dataset.PixelData = dataset.PixelData[:100] + bytes(len(dataset.PixelData) - 100)
    written(bridge, folder, run[:1], every_s=0.1)
    assert not bridge.lines
    for _ in range(3):
        bridge.step(1)
    for number, (dataset,) in enumerate(run[1:], 2):
        save(dataset, folder / f"{number}.dcm")
        bridge.step()
        assert [volume.index for volume in bridge.server.volumes] == list(range(number))
    bridge.stop()
    assert sum("ends with more zeros than those before it" in line for line in bridge.lines) == 1


# ---------------------------------------------------------------- files that are written anew


def rewritten(bridge, folder, volumes, every_s=TR_S):
    """Write volumes into the files that are there, as programs do that open a file for writing."""
    for number, (dataset,) in enumerate(volumes):
        path = folder / f"{number}.dcm"
        inode = path.stat().st_ino if path.exists() else None
        save(dataset, path)
        assert inode in (None, path.stat().st_ino)
        bridge.step()
        bridge.step(every_s)


@pytest.mark.parametrize("are_old", [False, True])
def test_files_that_are_written_anew_in_place_are_another_run(folder, are_old):
    if are_old:
        rewritten(SimpleNamespace(step=lambda *_: None), folder, mosaics())
    bridge = Bridge(folder)
    if not are_old:
        rewritten(bridge, folder, mosaics())
    bridge.step(3 * TR_S)
    again = [[test_mosaic.dicom(n + 1, SeriesNumber=9, SeriesInstanceUID="1.2.9")] for n in range(N_VOLUMES)]
    rewritten(bridge, folder, again)
    bridge.stop()
    assert [run.run_id[:8] for run in bridge.server.runs] == (["series-9"] if are_old else ["series-7", "series-9"])
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES)) * len(bridge.server.runs)


def test_a_known_file_that_is_not_written_to_is_not_found_again(folder):
    """Looks at known files are in turns: more of them than one look takes are all looked at."""
    for number in range(700):
        (folder / f"{number}.dcm").write_bytes(b"old")
    arrivals = Arrivals(folder, with_events=False, clock=itertools.count(0, 0.05).__next__)
    assert not any(arrivals.poll() for _ in range(50))
    (folder / "555.dcm").write_bytes(b"new content")
    found = [path.name for _ in range(50) for path in arrivals.poll()]
    assert found == ["555.dcm"]
    status = (folder / "555.dcm").stat()
    arrivals.done(folder / "555.dcm", status.st_size, status.st_mtime_ns)
    assert not any(arrivals.poll() for _ in range(50))


def test_events_tell_of_a_file_that_is_written_anew(folder):
    (folder / "old.dcm").write_bytes(b"old")
    with Arrivals(folder, with_events=True) as arrivals:
        (folder / "old.dcm").write_bytes(b"new content")
        until_s = time.monotonic() + 20
        while not (found := arrivals.poll()) and time.monotonic() < until_s:
            arrivals.wait(0.02)
    assert [path.name for path in found] == ["old.dcm"]


# ---------------------------------------------------------------- objects without voxels


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("1.2.840.10008.5.1.4.1.1.66", "no MR images"),
        ("1.2.840.10008.5.1.4.1.1.88.11", "no MR images"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "no MR images"),
        ("1.2.840.10008.5.1.4.1.1.4.2", "spectra"),
    ],
    ids=["raw data", "report", "presentation state", "spectra"],
)
def test_objects_without_voxels_are_named_and_not_waited_for(folder, kind, why):
    bridge = Bridge(folder)
    for (dataset,) in mosaics()[:2]:
        dataset.SOPClassUID, dataset.SeriesNumber, dataset.SeriesInstanceUID = kind, 12, "1.2.12"
        del dataset.PixelData
        save(dataset, folder / f"{dataset.InstanceNumber}.dcm")
        bridge.step()
    bridge.step(5)
    bridge.stop()
    assert bridge.lines == [f"series 12: {why}: left out"]


# ---------------------------------------------------------------- links, and folders that are renamed


@pytest.mark.parametrize("is_old", [False, True])
def test_a_link_to_a_folder_is_followed(folder, tmp_path, is_old):
    (tmp_path / "elsewhere").mkdir()
    bridge = None if is_old else Bridge(folder)
    (folder / "session").symlink_to(tmp_path / "elsewhere")
    bridge = bridge or Bridge(folder)
    written(bridge, folder / "session", mosaics())
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES))


def test_a_link_to_a_folder_that_is_made_later_is_followed(folder, tmp_path):
    (folder / "session").symlink_to(tmp_path / "elsewhere")
    bridge = Bridge(folder)
    bridge.step(10)
    (tmp_path / "elsewhere").mkdir()
    (folder / "another.log").write_text("")  # a link does not tell that what it leads to is there
    bridge.step()
    written(bridge, folder / "session", mosaics())
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES))


def test_a_link_to_a_folder_that_is_watched_is_not_followed_once_more(folder):
    (folder / "session").mkdir()
    (folder / "session" / "above").symlink_to(folder)
    bridge = Bridge(folder)
    (folder / "latest").symlink_to(folder / "session")
    written(bridge, folder / "session", mosaics())
    bridge.stop()
    assert bridge.arrivals.n_old == N_VOLUMES
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES))


def test_old_files_stay_old_when_their_folder_is_renamed(folder):
    for (dataset,) in mosaics():
        save(dataset, folder / "old" / "inner" / f"{dataset.InstanceNumber}.dcm")
    bridge = Bridge(folder)
    (folder / "old").rename(folder / "kept")
    written(bridge, folder / "kept", [[test_mosaic.dicom(n, SeriesInstanceUID="1.2.9")] for n in range(1, 4)])
    bridge.stop()
    assert [volume.index for volume in bridge.server.volumes] == [0, 1, 2]


def test_a_file_that_waits_when_its_folder_is_renamed_is_taken_there(folder, tmp_path):
    bridge = Bridge(folder)
    written(bridge, folder / "new", mosaics()[:2])
    whole = save(mosaics()[2][0], tmp_path / "whole.dcm").read_bytes()
    (folder / "new" / "last.dcm").write_bytes(whole[:-9])
    bridge.step(0.1)
    (folder / "new").rename(folder / "kept")
    (folder / "kept" / "last.dcm").write_bytes(whole)
    for _ in range(3):
        bridge.step(0.1)
    bridge.stop()
    assert [volume.index for volume in bridge.server.volumes] == [0, 1, 2]


def test_a_copy_with_other_voxels_is_named_however_late(folder):
    bridge = Bridge(folder)
    written(bridge, folder, mosaics())
    altered = test_mosaic.dicom(1)
    altered.PixelData = b"\1\0" + altered.PixelData[2:]
    written(bridge, folder, [[altered]])
    bridge.stop()
    assert sum("different voxels" in line for line in bridge.lines) == 1


def test_a_blank_file_is_waited_for_and_one_that_never_comes_is_counted(folder, tmp_path):
    bridge = Bridge(folder)
    whole = save(test_mosaic.dicom(2), tmp_path / "whole.dcm").read_bytes()
    n_voxels = len(test_mosaic.dicom(2).PixelData)
    written(bridge, folder, mosaics()[:1])
    late = folder / "late.dcm"
    late.write_bytes(whole[:-n_voxels] + bytes(n_voxels))
    bridge.step(0.1)
    late.write_bytes(whole)
    bridge.step(0.1)
    assert [volume.index for volume in bridge.server.volumes] == [0, 1]
    assert all(volume.data.any() for volume in bridge.server.volumes)
    (folder / "cut.dcm").write_bytes(whole[:-20])
    bridge.step(0.1)
    bridge.stop()
    assert sum("1 file not written to the end" in line for line in bridge.lines) == 1


@pytest.mark.parametrize("seed", range(3))
def test_slices_of_a_real_scan_in_any_order(folder, seed, shared_data):
    files = sorted((shared_data / "ge-epirt" / "dicom").iterdir())
    random.Random(seed).shuffle(files)  # noqa: S311 # no secret
    bridge = Bridge(folder, patience_tr=1e6)
    for number, file in enumerate(files):
        (folder / f"{number}.dcm").write_bytes(file.read_bytes())
        bridge.step()
    bridge.stop()
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder)))


def test_slices_that_are_not_numbered_from_the_first_are_not_mixed(folder):
    # Something else was counted before them: three slices of a calibration, say.
    run = [
        [
            single_slice(number, z, InstanceNumber=(number - 1) * N_Z + z + 4, AcquisitionNumber=number)
            for z in range(N_Z)
        ]
        for number in range(1, N_VOLUMES + 1)
    ]
    bridge = Bridge(folder)
    written(bridge, folder, run)
    bridge.stop()
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES))
    expected = [voxels(number) for number in range(1, N_VOLUMES + 1)]
    assert [volume.data.tolist() for volume in bridge.server.volumes] == [volume.tolist() for volume in expected]
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder)))


@pytest.mark.parametrize("n_ahead", range(N_Z))
@pytest.mark.parametrize("n_cut", [0, 2, 4])
@pytest.mark.parametrize(
    "order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0, 2, 4, 1, 3]], ids=["up", "down", "interleaved"]
)
@pytest.mark.parametrize("renumbered", [True, False])
def test_an_export_that_began_within_a_volume_is_not_mixed(folder, n_ahead, n_cut, order, renumbered):
    """Nothing but InstanceNumber counts slices, from the first that was exported or from the scan's first."""
    turns = [(number, z) for number in range(1, N_VOLUMES + 1) for z in order]
    first = (N_Z - n_ahead) % N_Z
    exported = turns[first : len(turns) - n_cut]
    bridge = Bridge(folder)
    for instance, (number, z) in enumerate(exported, 1 if renumbered else first + 1):
        without = {"AcquisitionTime": None, "AcquisitionNumber": None}
        save(single_slice(number, z, InstanceNumber=instance, **without), folder / f"{instance * 31 % 97:02d}.dcm")
        bridge.step()
    bridge.step(3 * TR_S)
    bridge.stop()
    whole = [number for number in range(1, N_VOLUMES + 1) if sum(turn[0] == number for turn in exported) == N_Z]
    sent = [(volume.index, volume.data.tolist()) for volume in bridge.server.volumes]
    assert sent == [(number - 1, voxels(number).tolist()) for number in whole]
    source = DicomSeries(folder)
    same_as_replayed(bridge.server.volumes, list(source))
    if n_ahead:
        assert any("volume 1 lacks" in note for note in source.notes)
        assert any("volume 1 did not come in time: lost; slices are missing" in line for line in bridge.lines)


def test_files_that_are_renamed_once_they_are_whole_are_taken_once(folder):
    bridge = Bridge(folder)
    for number in range(1, 4):
        path = save(test_mosaic.dicom(number), folder / f"{number}.dcm.tmp")
        bridge.step()
        path.rename(folder / f"{number}.dcm")
        bridge.step()
    assert [volume.index for volume in bridge.server.volumes] == [0, 1, 2]


def test_a_series_whose_planned_volumes_would_all_be_discarded_is_named_once(folder):
    bridge = Bridge(folder, n_volumes=5, rules=EventsSettings(discard_volumes=5))
    written(bridge, folder, mosaics())
    bridge.stop()
    assert sum("would all be discarded" in line for line in bridge.lines) == 1
    assert not bridge.server.messages


# ---------------------------------------------------------------- what is known when a run begins


class Asked:
    """A server that says its rules once the test lets it."""

    def __init__(self, **rules):
        self.rules, self.is_there, self.n_asked = rules, False, 0

    def ask_rules(self):
        self.n_asked += 1
        if not self.is_there:
            raise ServerError("no answer")
        return self.rules


@pytest.mark.parametrize("n_runs", [1, 2])
def test_runs_wait_until_the_server_has_said_its_rules_and_none_are_guessed(folder, n_runs):
    """As when the scan begins before the server is started: all runs are counted by the bundle's rules."""
    asked, lines = Asked(discard_volumes=2, count_from=3), []
    table = events(folder.parent, (4.0, 2.0, "faces"))
    rules = ServerRules(asked.ask_rules, RunOptions(events=table), {}, lines.append)
    bridge = Bridge(folder, events=table, server_rules=rules)
    for turn in range(n_runs):
        number = {"SeriesNumber": 9 + turn, "SeriesInstanceUID": f"1.2.{turn}"}
        written(bridge, folder, [[test_mosaic.dicom(n, **number)] for n in range(1, N_VOLUMES + 1)])
        bridge.step(10 * TR_S)
    assert (bridge.server.messages, lines) == ([], [])
    assert asked.n_asked > 0
    assert sum("waiting for the server" in line for line in bridge.lines) >= 1
    assert sum("decided on once the server has said its bundle's rules" in line for line in bridge.lines) == n_runs
    asked.is_there, n_before = True, asked.n_asked
    bridge.stop()
    assert asked.n_asked == n_before + 1
    assert sum(line.startswith("every run has 1 trial") for line in lines) == 1
    assert len(bridge.server.runs) == n_runs
    for run in bridge.server.runs:
        assert [(block.onset_s, block.duration_s) for block in run.blocks] == [(4.0, 2.0)]
        indices = [volume.index for volume in bridge.server.volumes if volume.run_id == run.run_id]
        assert indices == list(range(N_VOLUMES - 2))
        assert f"{run.run_id}: 2 volumes are discarded" in bridge.lines
    ends = [message.n_volumes for message in bridge.server.messages if isinstance(message, RunEnd)]
    assert ends == [N_VOLUMES - 2] * n_runs
    assert sum(line.startswith("the server is there again") for line in bridge.lines) == 1


def test_with_both_counts_chosen_and_no_table_a_run_is_decided_on_without_the_server(folder):
    asked = Asked()
    counts = {"discard_volumes": 1, "count_from": 2}
    bridge = Bridge(folder, server_rules=ServerRules(asked.ask_rules, RunOptions(), counts, print))
    written(bridge, folder, mosaics())
    bridge.stop()
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES - 1))
    assert asked.n_asked == 0


@pytest.mark.parametrize("is_table", [False, True], ids=["all discarded", "no trial"])
def test_rules_that_do_not_go_with_the_options_are_said_when_they_are_known(folder, is_table):
    """A scan goes on without its trials; a run of which no volume would be left is not sent, and that is said."""
    asked, lines = Asked(**({"ignore": ["faces"]} if is_table else {"discard_volumes": 2})), []
    asked.is_there = True
    given = {"events": events(folder.parent, (4.0, 2.0, "faces"))} if is_table else {"n_volumes": 2}
    bridge = Bridge(folder, **given, server_rules=ServerRules(asked.ask_rules, RunOptions(**given), {}, lines.append))
    written(bridge, folder, mosaics())
    bridge.stop()
    if is_table:
        assert [run.blocks for run in bridge.server.runs] == [()]
        assert len(bridge.server.volumes) == N_VOLUMES
        assert any("Its trials are left out" in line for line in bridge.lines)
    else:
        assert bridge.server.messages == []
        assert any("would all be discarded" in line and line.endswith("nothing of it is sent") for line in bridge.lines)
        assert any("ended; 2 volumes of it not sent" in line for line in bridge.lines)


def test_a_run_ends_with_the_number_that_its_files_promise_before_a_server_misses_a_volume(folder):
    bridge = Bridge(folder)
    promised = {"NumberOfTemporalPositions": N_VOLUMES}
    written(bridge, folder, [[test_mosaic.dicom(n, **promised)] for n in range(1, N_VOLUMES + 1)], every_s=TR_S)
    bridge.step(0.4 * TR_S)
    assert not [message for message in bridge.server.messages if isinstance(message, RunEnd)]
    bridge.step(1.2 * TR_S)
    assert bridge.server.messages[-1].n_volumes == N_VOLUMES
    assert not [line for line in bridge.lines if "no volume" in line]
