"""A series that is scanned again under its number is another run; a clock that is set anew loses no volume."""

import pytest

from rtgod.errors import InputError
from rtgod.messages import RunEnd
from rtgod.sources.dicom.series import DicomSeries
from tests.rtgod.receivers.test_watcher import N_VOLUMES, Bridge, folder, same_as_replayed, written
from tests.rtgod.sources.dicom import test_siemens_mosaic as test_mosaic
from tests.rtgod.sources.dicom.dicoms import N_Z, TR_S, enhanced, save, single_slice

__all__ = ["folder"]
MINUTES = 60.0


def clock(seconds):
    """Seconds after 10 o'clock as a time of day."""
    minutes, seconds = divmod(36000 + seconds, 60)
    return f"{int(minutes // 60):02d}{int(minutes % 60):02d}{seconds:09.6f}"


def mosaic(number, shift, later_s):
    return [
        test_mosaic.dicom(
            number + shift, InstanceNumber=number, AcquisitionNumber=number, AcquisitionTime=clock(2 * number + later_s)
        )
    ]


def slices(number, shift, later_s):
    return [
        single_slice(
            number + shift,
            z,
            InstanceNumber=(number - 1) * N_Z + z + 1,
            AcquisitionTime=clock(TR_S * (number + z / N_Z) + later_s),
        )
        for z in range(N_Z)
    ]


def enhanced_file(number, shift, later_s):
    dataset = enhanced([number])
    dataset.PixelData = enhanced([number + shift]).PixelData
    for z, frame in enumerate(reversed(dataset.PerFrameFunctionalGroupsSequence)):
        content = frame.FrameContentSequence[0]
        content.FrameAcquisitionDateTime = "20200101" + clock(TR_S * (number + z / N_Z) + later_s)
    return [dataset]


FORMATS = [mosaic, slices, enhanced_file]


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize("order", [None, [1, 0, 2, 3, 5, 4]], ids=["in order", "swapped"])
def test_a_series_that_is_scanned_again_under_its_number_is_another_run(folder, tmp_path, make, order):
    first = [make(number, 0, 0.0) for number in range(1, 4)]
    second = [make(number, 10, 5 * MINUTES) for number in range(1, N_VOLUMES + 1)]
    bridge = Bridge(folder)
    written(bridge, folder, first)
    written(bridge, folder, second, order)
    bridge.stop()
    one, other = bridge.server.runs
    assert other.run_id == f"{one.run_id}-restart-1"
    assert one.acquisition != other.acquisition
    assert bridge.server.messages[-1] == RunEnd(other.run_id, N_VOLUMES)
    assert sum("it was restarted" in line for line in bridge.lines) == 1
    assert not [line for line in bridge.lines if "late" in line.replace("later", "") or "lost" in line]
    for run, volumes in ((one, first), (other, second)):
        files = tmp_path / run.run_id
        for number, dataset in enumerate(dataset for volume in volumes for dataset in volume):
            save(dataset, files / f"{number}.dcm")
        sent = [volume for volume in bridge.server.volumes if volume.run_id == run.run_id]
        same_as_replayed(sent, list(DicomSeries(files, run_id=run.run_id)))


def test_a_run_that_has_ended_is_restarted_too(folder):
    bridge = Bridge(folder, n_volumes=3)
    written(bridge, folder, [mosaic(number, 0, 0.0) for number in range(1, 4)])
    for turn in (1, 2):
        written(bridge, folder, [mosaic(number, 10 * turn, 5 * MINUTES * turn) for number in range(1, 4)])
    bridge.stop()
    assert [run.run_id.rpartition("-")[2] for run in bridge.server.runs][1:] == ["1", "2"]
    assert len(bridge.server.volumes) == 9


def test_images_from_before_a_restart_are_not_mixed_with_those_after_it(folder):
    bridge = Bridge(folder)
    written(bridge, folder, [mosaic(number, 0, 0.0) for number in range(1, 4)])
    written(bridge, folder, [mosaic(number, 10, 5 * MINUTES) for number in range(1, 3)])
    written(bridge, folder, [mosaic(4, 0, 0.0), mosaic(2, 0, 0.0)])  # one that is late, and a copy
    written(bridge, folder, [mosaic(number, 10, 5 * MINUTES) for number in range(3, 5)])
    bridge.stop()
    _, other = bridge.server.runs
    sent = [volume for volume in bridge.server.volumes if volume.run_id == other.run_id]
    assert [volume.data[0, 0, 0] for volume in sent] == [1000 * (number + 10) for number in range(1, 5)]
    assert sum("acquired before its series was restarted" in line for line in bridge.lines) == 1


@pytest.mark.parametrize("make", FORMATS)
def test_copies_are_no_restart(folder, make):
    volumes = [make(number, 0, 0.0) for number in range(1, N_VOLUMES + 1)]
    bridge = Bridge(folder)
    written(bridge, folder, [*volumes[:4], *volumes[:3], *volumes[4:]])
    bridge.stop()
    assert len(bridge.server.runs) == 1
    assert [volume.index for volume in bridge.server.volumes] == list(range(N_VOLUMES))


def test_a_replay_of_a_restarted_series_says_what_it_is(tmp_path):
    for number in (1, 2):
        save(mosaic(number, 0, 0.0)[0], tmp_path / f"{number}.dcm")
        save(mosaic(number, 10, 5 * MINUTES)[0], tmp_path / f"{number + 10}.dcm")
    with pytest.raises(InputError, match="acquired 300 s apart: the series was restarted"):
        DicomSeries(tmp_path)


# ---------------------------------------------------------------- a clock that is set anew


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize(
    "step_s", [-3600.0, -1.0 - TR_S, 3600.0], ids=["summer time ends", "back", "summer time begins"]
)
def test_a_clock_that_is_set_anew_is_named_and_costs_no_volume(folder, make, step_s):
    n_volumes, n_before = 10, 4
    bridge = Bridge(folder)
    volumes = [make(n, 0, 3 * 3600 + step_s * (n > n_before)) for n in range(1, n_volumes + 1)]
    written(bridge, folder, volumes)
    bridge.stop()
    source = DicomSeries(folder)
    same_as_replayed(bridge.server.volumes, list(source))
    assert [volume.index for volume in bridge.server.volumes] == list(range(n_volumes))
    assert [volume.acquired_s for volume in bridge.server.volumes] == pytest.approx(
        [TR_S * n for n in range(n_volumes)]
    )
    way = "back" if step_s < 0 else "on"
    for lines in (bridge.lines, source.notes):
        assert sum(f"clock goes {way} by" in line and "to volume 5" in line for line in lines) == 1
    assert len(bridge.server.runs) == 1


def test_midnight_is_no_jump(folder):
    bridge = Bridge(folder)
    times = [f"2359{56 + 2 * n:02d}.000000" if n < 2 else f"0000{2 * n - 4:02d}.000000" for n in range(N_VOLUMES)]
    written(bridge, folder, [[test_mosaic.dicom(n, AcquisitionTime=time)] for n, time in enumerate(times, 1)])
    bridge.stop()
    assert [volume.acquired_s for volume in bridge.server.volumes] == [2.0 * n for n in range(N_VOLUMES)]
    assert not [line for line in bridge.lines if "clock" in line]


@pytest.mark.parametrize("later_s", [8.0, 5 * MINUTES])
@pytest.mark.parametrize("make", FORMATS)
def test_a_series_that_is_restarted_after_its_first_volume_loses_none_of_the_next_run(folder, make, later_s):
    bridge = Bridge(folder)
    written(bridge, folder, [make(1, 0, 0.0)])
    written(bridge, folder, [make(number, 10, later_s) for number in range(1, N_VOLUMES + 1)])
    bridge.stop()
    *_, run = bridge.server.runs
    assert run.run_id.endswith("-restart-1")
    sent = [volume for volume in bridge.server.volumes if volume.run_id == run.run_id]
    assert [volume.index for volume in sent] == list(range(N_VOLUMES))
    assert sum("it was restarted" in line for line in bridge.lines) == 1
    if len(bridge.server.volumes) == N_VOLUMES:
        assert "series 7: 1 volume: not sent" in bridge.lines


def test_volumes_of_one_number_count_by_the_clock_and_are_no_restart(folder):
    """Not even if the second is missing."""
    bridge = Bridge(folder)
    volumes = [mosaic(number, 0, 0.0) for number in (1, 3, 4, 5)]
    for (dataset,) in volumes:
        dataset.InstanceNumber = dataset.AcquisitionNumber = 1
    written(bridge, folder, volumes)
    bridge.stop()
    assert len(bridge.server.runs) == 1
    assert [volume.index for volume in bridge.server.volumes] == [0, 2, 3, 4]
    assert not [line for line in bridge.lines if "restarted" in line]
