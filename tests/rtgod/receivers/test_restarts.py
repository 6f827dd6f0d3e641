"""A series that is scanned again under its number is another run; a clock that is set anew loses no volume."""

import pytest

from rtgod.errors import InputError
from rtgod.messages import RunEnd
from rtgod.sources.dicom.series import DicomSeries
from rtgod.sources.echoes import Combine
from tests.rtgod.receivers.test_missing_echoes import enhanced_file as echo_file
from tests.rtgod.receivers.test_missing_echoes import mosaic as echo_mosaic
from tests.rtgod.receivers.test_missing_echoes import slices as echo_slices
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


# ---------------------------------------------------------------- a series that was restarted before it had two volumes


def echoes_of(make, number, later_s):
    """A volume's files of two echoes, acquired later than they are."""
    files = [dataset for echo in (1, 2) for dataset in make(number, echo)]
    for dataset in files:
        for frame in dataset.get("PerFrameFunctionalGroupsSequence", ()):
            frame.FrameContentSequence[0].FrameAcquisitionDateTime = "20200101" + clock(TR_S * number + later_s)
        if "AcquisitionTime" in dataset:
            dataset.AcquisitionTime = clock(TR_S * number + later_s)
    return files


def both_echoes(number, later_s):
    """One file of both echoes."""
    dataset = enhanced([number], echoes_ms=(12.0, 30.0))
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.FrameContentSequence[0].FrameAcquisitionDateTime = "20200101" + clock(TR_S * number + later_s)
    return [dataset]


def written_in_order(bridge, folder, files, every_s):
    for dataset in files:
        bridge.n_files += 1
        save(dataset, folder / f"{bridge.n_files * 31 % 997:03d}.dcm")
        bridge.step(every_s)


def assert_restarted(bridge, tmp_path, files, n_restarts=1, **options):
    """Check that the last run is a replay of its files, and named after its restarts."""
    run = bridge.server.runs[-1]
    assert run.run_id.endswith(f"-restart-{n_restarts}")
    sent = [volume for volume in bridge.server.volumes if volume.run_id == run.run_id]
    assert [volume.index for volume in sent] == list(range(N_VOLUMES))
    for number, dataset in enumerate(files):
        save(dataset, tmp_path / "last" / f"{number}.dcm")
    same_as_replayed(sent, list(DicomSeries(tmp_path / "last", run_id=run.run_id, **options)))
    assert sum("it was restarted" in line for line in bridge.lines) == n_restarts


@pytest.mark.parametrize("make", [echo_mosaic, echo_slices, echo_file, both_echoes])
@pytest.mark.parametrize("n_before", [1, 2, 3])
@pytest.mark.parametrize("echo", [Combine(), 1, 2], ids=["combined", "first", "second"])
def test_echoes_that_are_restarted_within_the_first_volumes_lose_none_of_the_next_run(
    folder, tmp_path, make, n_before, echo
):
    """Also where the first run had one echo of one volume, or a slice of it."""
    bridge = Bridge(folder, echo=echo)
    runs = [
        [
            dataset
            for number in range(1, N_VOLUMES + 1)
            for dataset in (both_echoes(number, later_s) if make is both_echoes else echoes_of(make, number, later_s))
        ]
        for later_s in (0.0, MINUTES)
    ]
    written_in_order(bridge, folder, runs[0][:n_before], TR_S / 2)
    bridge.step(MINUTES)
    written_in_order(bridge, folder, runs[1], TR_S / len(runs[1]) * N_VOLUMES)
    bridge.stop()
    assert_restarted(bridge, tmp_path, runs[1], echo=echo)


@pytest.mark.parametrize("n_slices", [1, 2, N_Z - 1])
@pytest.mark.parametrize("later_s", [8.0, 5 * MINUTES])
@pytest.mark.parametrize("has_one_time", [False, True])
def test_slices_that_are_restarted_within_the_first_volume_lose_none_of_the_next_run(
    folder, tmp_path, n_slices, later_s, has_one_time
):
    """Scanners that give all slices of a run the time at which it began, too."""
    bridge = Bridge(folder)
    first = slices(1, 0, 0.0)[:n_slices]
    second = [dataset for number in range(1, N_VOLUMES + 1) for dataset in slices(number, 10, later_s)]
    for files, began_s in ((first, 0.0), (second, later_s)):
        for dataset in files if has_one_time else ():
            dataset.AcquisitionTime = clock(began_s)
    written_in_order(bridge, folder, first, TR_S / N_Z)
    bridge.step(later_s)
    written_in_order(bridge, folder, second, TR_S / N_Z)
    bridge.stop()
    assert_restarted(bridge, tmp_path, second)


@pytest.mark.parametrize("make", [*FORMATS, lambda number, _, later_s: both_echoes(number, later_s)])
@pytest.mark.parametrize("n_restarts", [2, 3])
def test_a_series_that_is_restarted_again_and_again_after_its_first_volume_loses_none_of_the_last(
    folder, tmp_path, make, n_restarts
):
    bridge = Bridge(folder, echo=Combine() if make not in FORMATS else 0)
    for turn in range(n_restarts):
        written(bridge, folder, [make(1, 10 * turn, turn * MINUTES)])
        bridge.step(MINUTES)
    last = [make(number, 40, n_restarts * MINUTES) for number in range(1, N_VOLUMES + 1)]
    written(bridge, folder, last)
    bridge.stop()
    options = {} if make in FORMATS else {"echo": Combine()}
    assert_restarted(bridge, tmp_path, [dataset for volume in last for dataset in volume], n_restarts, **options)


def test_volumes_that_only_the_clock_counts_are_one_run_though_their_time_is_not_that_of_the_header(folder):
    """Nearly two TR of the header from one to the next."""
    bridge = Bridge(folder)
    volumes = [mosaic(number, 0, 1.5 * number) for number in range(1, N_VOLUMES + 1)]
    for (dataset,) in volumes:
        dataset.InstanceNumber = dataset.AcquisitionNumber = 1
    written(bridge, folder, volumes)
    bridge.stop()
    assert len(bridge.server.runs) == 1
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder)))
    assert not [line for line in bridge.lines if "restarted" in line]


def test_the_first_volume_s_other_files_that_come_after_a_restart_are_not_mixed_with_its_own(folder, tmp_path):
    bridge = Bridge(folder, echo=Combine())
    (first, late), *_ = [echoes_of(echo_mosaic, number, 0.0) for number in (1, 2)]
    second = [dataset for number in range(1, N_VOLUMES + 1) for dataset in echoes_of(echo_mosaic, number, MINUTES)]
    written_in_order(bridge, folder, [first], TR_S)
    bridge.step(MINUTES)
    written_in_order(bridge, folder, [second[0], late, *second[1:]], TR_S / 2)
    bridge.stop()
    assert_restarted(bridge, tmp_path, second, echo=Combine())


def test_a_volume_of_which_nothing_tells_whether_it_is_of_another_run_is_named_at_the_end(folder):
    bridge = Bridge(folder)
    for turn in range(2):
        written(bridge, folder, [mosaic(1, 10 * turn, turn * MINUTES)])
        bridge.step(MINUTES)
    bridge.stop()
    assert not bridge.server.volumes
    assert bridge.lines.count("series 7: 1 volume: not sent") == 2
