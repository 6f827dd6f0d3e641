"""Runs of three echoes with files lost or late: what is sent is what a replay finds, and no volume mixes others'."""

import math

import pytest

from rtgod.sources.dicom.series import DicomSeries
from rtgod.sources.echoes import Combine
from tests.rtgod.receivers.test_watcher import N_VOLUMES, Bridge, folder, same_as_replayed
from tests.rtgod.sources.dicom import test_siemens_mosaic as test_mosaic
from tests.rtgod.sources.dicom.dicoms import N_Z, TR_S, enhanced, save, single_slice

__all__ = ["folder"]
ECHOES_MS = (12.0, 30.0, 45.0)
#: Volumes of the second echo have the voxels of volumes that are numbered from here, and so on.
SHIFT = 8


def change(dataset, **elements):
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def mosaic(number, echo):
    return [
        test_mosaic.dicom(
            number + SHIFT * (echo - 1),
            EchoTime=ECHOES_MS[echo - 1],
            InstanceNumber=3 * (number - 1) + echo,
            AcquisitionNumber=number,
            AcquisitionTime=f"1000{2 * number:02d}",
            SOPInstanceUID=f"1.{number}.{echo}",
        )
    ]


def numbered_mosaic(number, echo):
    return [change(one, EchoNumbers=echo) for one in mosaic(number, echo)]


def mosaic_of_one_acquisition(number, echo):
    return [change(one, AcquisitionNumber=1) for one in mosaic(number, echo)]


def slices(number, echo):
    return [
        change(
            single_slice(number + SHIFT * (echo - 1), z, TemporalPositionIdentifier=number),
            EchoTime=ECHOES_MS[echo - 1],
            InstanceNumber=3 * ((number - 1) * N_Z + z) + echo,
            AcquisitionNumber=number,
            AcquisitionTime=single_slice(number, z).AcquisitionTime,
        )
        for z in range(N_Z)
    ]


def enhanced_file(number, echo, **elements):
    dataset = enhanced([number], echoes_ms=(ECHOES_MS[echo - 1],), **elements)
    pixels = enhanced([number + SHIFT * (echo - 1)]).PixelData
    return [change(dataset, PixelData=pixels, SOPInstanceUID=f"1.{number}.{echo}")]


def counted_by_the_clock_alone(number, echo):
    return enhanced_file(number, echo, temporal=False, InstanceNumber=1, AcquisitionNumber=1)


def counted_by_the_clock_within_an_echo(number, echo):
    return enhanced_file(number, echo, temporal=False, InstanceNumber=echo, AcquisitionNumber=1)


FORMATS = [
    mosaic,
    numbered_mosaic,
    mosaic_of_one_acquisition,
    slices,
    enhanced_file,
    counted_by_the_clock_alone,
    counted_by_the_clock_within_an_echo,
]


def played(folder, make, lost=(), late_s=None, n_volumes=N_VOLUMES, **options):
    """Write a run's files, echo after echo, but for (volume, echo) that are lost; wait before those that are late."""
    bridge = Bridge(folder, **{"echo": Combine()} | options)
    for number in range(1, n_volumes + 1):
        for echo in (1, 2, 3):
            bridge.step((late_s or {}).get((number, echo), 0.02))
            for dataset in make(number, echo) if (number, echo) not in lost else ():
                bridge.n_files += 1
                save(dataset, folder / f"{bridge.n_files:04d}.dcm")
                bridge.step()
        bridge.step(TR_S)
    bridge.stop()
    return bridge


def assert_unmixed(volumes):
    """Check that each combined volume has the echoes of its own number, by its first voxel."""
    weights = [echo_ms * math.exp(-echo_ms / 45.0) for echo_ms in ECHOES_MS]
    for volume in volumes:
        echoes = [1000.0 * (volume.index + 1 + SHIFT * turn) for turn in range(3)]
        expected = sum(weight * echo for weight, echo in zip(weights, echoes, strict=True)) / sum(weights)
        assert volume.data[0, 0, 0] == pytest.approx(expected, rel=1e-6), f"volume {volume.index + 1} mixes others'"


LOST = [(), ((2, 2),), ((1, 3),), ((1, 1),), ((1, 2), (2, 3)), ((2, 2), (3, 2)), ((3, 1), (4, 3)), ((2, 1), (6, 3))]


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize("lost", LOST, ids=str)
def test_a_lost_image_costs_its_own_volume_and_mixes_none(folder, make, lost):
    bridge = played(folder, make, lost)
    assert [volume.index + 1 for volume in bridge.server.volumes] == [
        number for number in range(1, N_VOLUMES + 1) if number not in dict(lost)
    ]
    assert_unmixed(bridge.server.volumes)
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder, echo=Combine())))
    assert sum("3 echoes (1: 12 ms, 2: 30 ms, 3: 45 ms) are combined" in line for line in bridge.lines) == 1
    assert not [line for line in bridge.lines if "restart" in line]


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize(
    ("late_s", "patience_tr"),
    [({(2, 1): 2.4}, 2.0), ({(2, 2): 4.4}, 2.0), ({}, 0.5)],
    ids=["a volume", "its second echo", "all, for a small patience"],
)
def test_a_second_volume_that_is_late_shifts_nothing(folder, make, late_s, patience_tr):
    bridge = played(folder, make, late_s=late_s, patience_tr=patience_tr)
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES))
    assert_unmixed(bridge.server.volumes)
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder, echo=Combine())))


@pytest.mark.parametrize("make", [mosaic, numbered_mosaic, mosaic_of_one_acquisition, slices, enhanced_file])
@pytest.mark.parametrize("lost", [1, 2, 3, N_VOLUMES])
@pytest.mark.parametrize("echo", [2, 3])
def test_a_lost_volume_of_the_echo_that_is_taken_shifts_nothing(folder, make, lost, echo):
    bridge = played(folder, make, [(lost, echo)], echo=echo)
    found = [(volume.index + 1, int(volume.data[0, 0, 0])) for volume in bridge.server.volumes]
    there = [number for number in range(1, N_VOLUMES + 1) if number != lost]
    assert found == [(number, 1000 * (number + SHIFT * (echo - 1))) for number in there]
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder, echo=echo)))


@pytest.mark.parametrize("make", [mosaic, slices, enhanced_file])
def test_an_echo_that_the_first_two_volumes_lack_is_named_and_not_mixed_in(folder, make):
    """Nothing can tell of it in time; a replay, which sees all, finds fewer volumes, of three echoes."""
    bridge = played(folder, make, [(1, 3), (2, 3)])
    said = "its echo of 45 ms came first after two volumes without it, and is not part of this run; a replay combines"
    assert sum(said in line for line in bridge.lines) == 1
    assert sum("2 echoes (1: 12 ms, 2: 30 ms) are combined" in line for line in bridge.lines) == 1
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES))
    assert [volume.index for volume in DicomSeries(folder, echo=Combine())] == [2, 3, 4, 5]


def test_an_echo_that_came_once_is_told_and_counted_at_the_end_by_the_clock(folder):
    """Its number, 5, is that of another volume's other echo."""
    bridge = Bridge(folder, echo=Combine())
    for number in range(1, N_VOLUMES + 1):
        for echo in (1, 2, 3):
            if echo != 2 or number == 2:
                save(mosaic(number, echo)[0], folder / f"{number}-{echo}.dcm")
                bridge.step()
        bridge.step(TR_S)
    assert not bridge.server.volumes
    assert sum("echo 2 came once, and is counted once its second volume is there" in line for line in bridge.lines) == 1
    bridge.stop()
    assert [volume.index for volume in bridge.server.volumes] == [1]
    assert_unmixed(bridge.server.volumes)
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder, echo=Combine())))


@pytest.mark.parametrize("make", [mosaic, counted_by_the_clock_alone])
def test_a_run_of_one_volume_has_it(folder, make):
    bridge = played(folder, make, n_volumes=1)
    assert [volume.index for volume in bridge.server.volumes] == [0]
    assert_unmixed(bridge.server.volumes)
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder, echo=Combine())))


def test_the_first_volumes_wait_for_half_a_repetition_time_and_later_ones_do_not(folder):
    bridge = Bridge(folder, echo=Combine())
    n_sent = []
    for number in (1, 2, 3):
        for echo in (1, 2, 3):
            save(mosaic(number, echo)[0], folder / f"{number}-{echo}.dcm")
            bridge.step()
        n_sent.append(len(bridge.server.volumes))
        bridge.step(0.49 * TR_S)
        n_sent.append(len(bridge.server.volumes))
        bridge.step(0.02 * TR_S)
        n_sent.append(len(bridge.server.volumes))
        bridge.step(0.49 * TR_S)
    assert n_sent == [0, 0, 0, 0, 0, 2, 3, 3, 3]
    bridge.stop()


def test_images_of_echoes_that_are_not_taken_are_named_once_when_it_is_chosen(folder):
    bridge = played(folder, mosaic, echo=2)
    assert [line for line in bridge.lines if "echo" in line] == [
        "series 7: echo 2 is taken of 1: 12 ms, 2: 30 ms, 3: 45 ms (--echo)"
    ]
