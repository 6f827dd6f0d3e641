"""Single slices whose number nothing promises, first volumes that lack one, and runs so long that memory counts."""

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from rtgod.receivers import live_series
from rtgod.receivers.live_runs import LiveRuns
from rtgod.receivers.run_options import RunOptions
from rtgod.sources.dicom.series import DicomSeries
from tests.rtgod.receivers.test_watcher import Bridge, Server, folder, same_as_replayed
from tests.rtgod.sources.dicom.dicoms import N_Z, TR_S, clock, enhanced, save, single_slice

__all__ = ["folder"]
N_VOLUMES = 7


def unpromised(number, z, counted_by, **changes):
    """A slice of a file that does not say how many there are, as Siemens's without mosaics, or anonymised ones."""
    numbers = {
        "InstanceNumber": {},
        "AcquisitionNumber": {"AcquisitionNumber": number},
        "AcquisitionNumber, and slices by InstanceNumber": {"AcquisitionNumber": number, "InstanceNumber": z + 1},
        "TemporalPositionIdentifier": {"TemporalPositionIdentifier": number},
    }[counted_by]
    dataset = single_slice(number, z, **numbers, **changes)
    del dataset.private_block(0x21, "GEMS_RELA_01")[0x4F]
    return dataset


COUNTED_BY = [
    "InstanceNumber",
    "AcquisitionNumber",
    "AcquisitionNumber, and slices by InstanceNumber",
    "TemporalPositionIdentifier",
]


def played(folder, files):
    """Write files, each at its time in seconds."""
    bridge = Bridge(folder)
    for turn, (time_s, dataset) in enumerate(sorted(files, key=lambda file: file[0])):
        while bridge.now_s + 0.1 < time_s:
            bridge.step(0.1)
        save(dataset, folder / f"{turn * 31 % 997:03d}.dcm")
        bridge.step(0.001)
    for _ in range(30):
        bridge.step(0.2)
    return bridge


def in_time(counted_by, lost=()):
    return [
        (TR_S * (number + z / N_Z), unpromised(number, z, counted_by))
        for number in range(1, N_VOLUMES + 1)
        for z in range(N_Z)
        if (number, z) not in lost
    ]


@pytest.mark.parametrize("counted_by", COUNTED_BY)
@pytest.mark.parametrize("z", [0, 2, N_Z - 1])
@pytest.mark.parametrize("late_tr", [None, 0.85, 1.25])
def test_a_slice_that_the_first_volume_lacks_is_not_taken_out_of_all(folder, counted_by, z, late_tr):
    files = in_time(counted_by, lost=[(1, z)])
    if late_tr is not None:
        files.append((TR_S * (1 + z / N_Z + late_tr), unpromised(1, z, counted_by)))
    bridge = played(folder, files)
    bridge.stop()
    source = DicomSeries(folder)
    assert bridge.server.runs[0].shape == source.run.shape
    assert source.run.shape[2] == N_Z
    lost = 1 if late_tr is None else 0
    assert [volume.index for volume in bridge.server.volumes] == list(range(lost, N_VOLUMES))
    same_as_replayed(bridge.server.volumes, list(source))
    named = [line for line in bridge.lines if "volume 1" in line]
    assert named == ["series 7: volume 1 did not come in time: lost; slices are missing"] * lost


@pytest.mark.parametrize("counted_by", COUNTED_BY)
def test_volumes_are_sent_once_a_third_has_begun_or_the_watch_ends(folder, counted_by):
    files = sorted(in_time(counted_by), key=lambda file: file[0])
    bridge = played(folder, files[: 2 * N_Z])
    assert not bridge.server.volumes
    save(files[2 * N_Z][1], folder / "third.dcm")
    bridge.step()
    assert [volume.index for volume in bridge.server.volumes] == [0, 1]
    bridge.stop()


def test_a_run_of_two_volumes_is_sent_at_the_end(folder):
    bridge = played(folder, in_time("AcquisitionNumber")[: 2 * N_Z])
    bridge.stop()
    assert [volume.index for volume in bridge.server.volumes] == [0, 1]
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder)))


def test_a_slice_that_none_of_the_first_volumes_has_is_named(folder):
    """Nothing can tell of it in time: the run has one slice less, and goes on."""
    bridge = played(folder, in_time("AcquisitionNumber", lost=[(number, N_Z - 1) for number in (1, 2, 3)]))
    bridge.stop()
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES))
    assert {volume.data.shape[2] for volume in bridge.server.volumes} == {N_Z - 1}
    said = "it lies where none of the first volumes' 4 slices does: they lacked it, and the run is sent without it"
    assert sum(said in line for line in bridge.lines) == 1


@pytest.mark.parametrize("n_slices", [2, 3, 4])
@pytest.mark.parametrize("least", [0, 1])
def test_slices_without_times_are_counted_from_the_lowest_number_that_came(folder, n_slices, least):
    random = np.random.default_rng(n_slices)
    bridge = Bridge(folder)
    for number in range(1, N_VOLUMES + 1):
        for z in random.permutation(n_slices).tolist():
            instance = (number - 1) * n_slices + z + least
            dataset = single_slice(number, z, InstanceNumber=instance, AcquisitionTime=clock(1))
            dataset.private_block(0x21, "GEMS_RELA_01")[0x4F].value = n_slices
            save(dataset, folder / f"{number}-{z}.dcm")
            bridge.step(TR_S / n_slices)
    bridge.stop()
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES))
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder)))


# ---------------------------------------------------------------- long runs


def with_two_dimensions(number):
    """A file whose volumes are told apart by their time and by one more dimension."""
    dataset = enhanced([number], InstanceNumber=1, AcquisitionNumber=1)
    dimension = type(dataset)()
    dimension.DimensionIndexPointer = 0x00200012
    dataset.DimensionIndexSequence.append(dimension)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        content = frame.FrameContentSequence[0]
        content.DimensionIndexValues = [*content.DimensionIndexValues, 1]
    return dataset


def test_a_long_run_of_several_dimensions_is_counted_by_its_last_volumes(folder, monkeypatch):
    n_counted, numberings = [], live_series.numberings

    def counted(pieces, *others):
        n_counted.append(len(pieces))
        return numberings(pieces, *others)

    monkeypatch.setattr(live_series, "numberings", counted)
    bridge = Bridge(folder)
    order = [2, 1, *range(3, 20), 21, 20, *range(22, 31)]
    for number in order:
        save(with_two_dimensions(number), folder / f"{number}.dcm")
        bridge.step(TR_S)
    bridge.stop()
    assert [volume.index for volume in bridge.server.volumes] == list(range(30))
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder)))
    assert max(n_counted) <= 7


def test_a_long_run_of_single_slices_takes_little_memory_and_still_knows_its_copies():
    n_slices, n_volumes = 20, 16
    server, lines, now = Server(), [], [0.0]
    server.send = lambda _: None
    runs = LiveRuns(server, RunOptions(), lines.append, clock=lambda: now[0])

    def take(number, z, voxel=0):
        dataset = single_slice(number, 0)
        dataset.InstanceNumber, dataset.AcquisitionTime = (number - 1) * n_slices + z + 1, clock(number)
        dataset.ImagePositionPatient = [*dataset.ImagePositionPatient[:2], 15 + 4 * z]
        dataset.private_block(0x21, "GEMS_RELA_01")[0x4F].value = n_slices
        runs.take(dataset, lambda: np.full((1, 4, 6), voxel, np.int16), Path("slice"))
        runs.step()

    tracemalloc.start()
    used = []
    for number in range(1, n_volumes + 1):
        for z in range(n_slices):
            take(number, z)
        now[0] += TR_S
        gc.collect()  # pydicom's data sets are circles
        used.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert runs.n_sent == n_volumes
    assert used[-1] - used[7] < 450 * n_slices * (n_volumes - 8)
    take(2, 3)
    assert not [line for line in lines if "twice" in line]
    take(2, 3, voxel=1)
    assert sum("an image came twice, with different voxels" in line for line in lines) == 1
