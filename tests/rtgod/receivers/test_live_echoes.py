"""Echoes of a running series: one is chosen, or all are combined, live as in a replay; what lacks an echo is lost."""

import gzip
import io
import random

import numpy as np
import pydicom
import pytest

from rtgod.messages import RunEnd
from rtgod.sources.dicom.series import DicomSeries
from rtgod.sources.echoes import Combine
from rtgod.sources.filling import FILLED_S
from tests import naive
from tests.rtgod.receivers.test_watcher import N_VOLUMES, Bridge, folder, same_as_replayed, written
from tests.rtgod.sources.dicom import test_siemens_mosaic as test_mosaic
from tests.rtgod.sources.dicom.dicoms import N_Z, enhanced, save, single_slice, voxels

__all__ = ["folder"]
ECHOES_MS = (12.0, 30.0)
#: Volumes of the second echo have the voxels of volumes that are numbered from here.
SHIFT = 20


def numbered(number, echo, n_images=1, image=0):
    """The numbers that a scanner gives to images whose echoes follow each other."""
    turn = (number - 1) * n_images + image
    return {"InstanceNumber": 2 * turn + echo, "AcquisitionNumber": number, "EchoTime": ECHOES_MS[echo - 1]}


def mosaics():
    return [
        [
            test_mosaic.dicom(
                number + SHIFT * (echo - 1), **numbered(number, echo), AcquisitionTime=f"1000{2 * number:02d}"
            )
            for echo in (1, 2)
        ]
        for number in range(1, N_VOLUMES + 1)
    ]


def mosaics_of_one_acquisition():
    return [[change(dataset, AcquisitionNumber=1) for dataset in volume] for volume in mosaics()]


def slices():
    return [
        [
            change(
                single_slice(number + SHIFT * (echo - 1), z, TemporalPositionIdentifier=number),
                **numbered(number, echo, N_Z, z),
                AcquisitionTime=single_slice(number, z).AcquisitionTime,
            )
            for echo in (1, 2)
            for z in range(N_Z)
        ]
        for number in range(1, N_VOLUMES + 1)
    ]


def enhanced_files():
    return [
        [
            change(
                enhanced([number], echoes_ms=(echo_ms,)),
                PixelData=enhanced([number + SHIFT * turn]).PixelData,
                SOPInstanceUID=f"1.{number}.{turn}",
            )
            for turn, echo_ms in enumerate(ECHOES_MS)
        ]
        for number in range(1, N_VOLUMES + 1)
    ]


def enhanced_files_of_both():
    return [[enhanced([number], echoes_ms=ECHOES_MS)] for number in range(1, N_VOLUMES + 1)]


def change(dataset, **elements):
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


FORMATS = [mosaics, mosaics_of_one_acquisition, slices, enhanced_files, enhanced_files_of_both]


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize("order", [None, [0, 2, 1, 3, 5, 4]], ids=["in order", "swapped"])
@pytest.mark.parametrize("echo", [1, 2, Combine(), Combine(28.0)], ids=["first", "second", "combined", "at 7 T"])
def test_echoes_that_differ_in_echo_time_alone_are_watched_as_they_are_replayed(folder, make, order, echo):
    bridge = Bridge(folder, echo=echo)
    written(bridge, folder, make(), order)
    bridge.stop()
    source = DicomSeries(folder, echo=echo)
    same_as_replayed(bridge.server.volumes, list(source))
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES))
    assert bridge.server.messages[-1] == RunEnd(source.run.run_id, N_VOLUMES)
    if make is slices and echo == 2:
        assert bridge.server.volumes[3].data.tolist() == voxels(4 + SHIFT).tolist()
    if isinstance(echo, Combine):
        assert {volume.data.dtype for volume in bridge.server.volumes} == {np.dtype("float32")}
        assert sum("2 echoes (1: 12 ms, 2: 30 ms) are combined" in line for line in bridge.lines) == 1


@pytest.mark.parametrize("make", [mosaics, slices, enhanced_files])
def test_combined_voxels_are_those_of_a_naive_average(folder, make):
    bridge = Bridge(folder, echo=Combine(40.0))
    written(bridge, folder, make())
    bridge.stop()
    singly = [list(DicomSeries(folder, echo=echo)) for echo in (1, 2)]
    for combined, *echoes in zip(bridge.server.volumes, *singly, strict=True):
        expected = naive.combined_echoes([volume.data for volume in echoes], ECHOES_MS, 40.0)
        np.testing.assert_allclose(combined.data, expected, rtol=1e-6)
        assert not np.array_equal(combined.data, echoes[0].data)


@pytest.mark.parametrize("make", [mosaics, slices, enhanced_files])
def test_a_volume_that_lacks_an_echo_is_lost_and_named(folder, make):
    volumes = make()
    volumes[2] = volumes[2][: len(volumes[2]) // 2]  # its second echo never comes
    bridge = Bridge(folder, echo=Combine())
    written(bridge, folder, volumes)
    bridge.stop()
    source = DicomSeries(folder, echo=Combine())
    same_as_replayed(bridge.server.volumes, list(source))
    assert [volume.index for volume in bridge.server.volumes] == [0, 1, 3, 4, 5]
    assert sum("echo 2: volume 3 did not come in time: lost" in line for line in bridge.lines) == 1
    assert [note for note in source.notes if "volume 3 lacks echo 2" in note]


def test_the_last_volume_that_lacks_an_echo_is_named_at_the_end(folder):
    volumes = mosaics()
    del volumes[-1][1]
    bridge = Bridge(folder, echo=Combine())
    written(bridge, folder, volumes)
    bridge.stop()
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES - 1))
    assert "series 7: volume 6 lacks echo 2: lost" in bridge.lines


def test_numbered_echoes_are_combined_too(folder):
    volumes = [[change(one, EchoNumbers=n) for n, one in enumerate(of_volume, 1)] for of_volume in mosaics()]
    bridge = Bridge(folder, echo=Combine())
    written(bridge, folder, volumes)
    bridge.stop()
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder, echo=Combine())))
    assert len(bridge.server.volumes) == N_VOLUMES


@pytest.mark.parametrize("echo", [2, Combine()], ids=["second", "combined"])
@pytest.mark.parametrize("single", [lambda number: test_mosaic.dicom(number), lambda number: enhanced([number])])
def test_an_echo_that_never_comes_is_not_guessed(folder, echo, single):
    bridge = Bridge(folder, echo=echo)
    written(bridge, folder, [[single(number)] for number in range(1, N_VOLUMES + 1)])
    assert sum("its images have no other than 1: 30 ms: not sent so far" in line for line in bridge.lines) == 1
    bridge.stop()
    assert not bridge.server.messages


def test_without_a_choice_the_first_echo_is_taken_and_the_others_are_named(folder):
    bridge = Bridge(folder)
    written(bridge, folder, mosaics())
    bridge.stop()
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder, echo=1)))
    assert "series 7: echo 1 is taken of 1: 12 ms, 2: 30 ms (--echo)" in bridge.lines


# ---------------------------------------------------------------- real series


def test_a_real_series_rewritten_with_two_echoes(folder, shared_data):
    """Echoes come in any order; each weighs as the formula says."""
    paths = sorted((shared_data / "siemens-cmrr-mosaic" / "dicom").iterdir())
    files = []
    for path in paths:
        for echo, echo_ms in enumerate(ECHOES_MS, 1):
            dataset = pydicom.dcmread(path)
            if echo == 2:
                dataset.PixelData = (dataset.pixel_array // 2).tobytes()
            dataset.InstanceNumber, dataset.EchoTime = 2 * dataset.InstanceNumber + echo - 2, echo_ms
            files.append(dataset)
    random.Random(4).shuffle(files)  # noqa: S311 # no secret
    bridge = Bridge(folder, echo=Combine(), patience_tr=1e6)
    written(bridge, folder, [[dataset] for dataset in files], every_s=0.0)
    bridge.stop()
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder, echo=Combine())))
    single = list(DicomSeries(shared_data / "siemens-cmrr-mosaic" / "dicom"))
    assert len(bridge.server.volumes) == len(single) == len(paths)
    for ours, one in zip(bridge.server.volumes, single, strict=True):
        expected = naive.combined_echoes([one.data, one.data // 2], ECHOES_MS, 45.0)
        np.testing.assert_allclose(ours.data, expected, rtol=1e-6)
        assert ours.acquired_s == one.acquired_s


def test_a_real_philips_file_of_two_echoes_is_combined(tmp_path, folder, shared_data):
    (packed,) = (shared_data / "philips-enhanced").glob("2001*.dcm.gz")
    bridge = Bridge(folder, echo=Combine(20.0))
    dataset = pydicom.dcmread(io.BytesIO(gzip.decompress(packed.read_bytes())))
    # It is a field map, with a repetition time of its own.
    dataset.EchoPlanarPulseSequence = "YES"
    for groups in (*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence):
        for timing in groups.get("MRTimingAndRelatedParametersSequence", ()):
            timing.RepetitionTime = 2000.0
    content = save(dataset, tmp_path / "whole.dcm").read_bytes()
    (folder / "half.dcm").write_bytes(content[: len(content) // 2])
    bridge.step()
    (folder / "half.dcm").write_bytes(content)
    bridge.step()
    bridge.step(FILLED_S)  # it ends with many zeros, as files do that are not filled yet
    bridge.stop()
    source = DicomSeries(folder, echo=Combine(20.0))
    assert source.run.tr_s == 2.0
    same_as_replayed(bridge.server.volumes, list(source))
    (volume,) = bridge.server.volumes
    echoes = [next(iter(DicomSeries(folder, echo=echo))).data for echo in (1, 2)]
    np.testing.assert_allclose(volume.data, naive.combined_echoes(echoes, (2.3, 4.6), 20.0), rtol=1e-5)


def test_a_series_that_is_saved_anew_gives_the_same_bytes(tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    for number, dataset in enumerate(one for volume in mosaics() for one in volume):
        save(dataset, first / f"{number}.dcm")
        save(dataset, again / f"{99 - number}.dcm")
    volumes = [[volume.data.tobytes() for volume in DicomSeries(path, echo=Combine())] for path in (first, again)]
    assert volumes[0] == volumes[1]
