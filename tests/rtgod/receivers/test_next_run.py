"""The next run, of which much is there before the one under way is silent; and series beside it, which are none."""

import os

import pytest

from rtgod.sources.dicom.series import DicomSeries
from tests.rtgod.receivers.test_restarts import clock
from tests.rtgod.receivers.test_watcher import Bridge, folder, same_as_replayed
from tests.rtgod.sources.dicom import test_siemens_mosaic as test_mosaic
from tests.rtgod.sources.dicom.dicoms import TR_S, save

__all__ = ["folder"]
N_FIRST, N_SECOND = 10, 25
#: Seconds after the first run's beginning at which the second begins.
LATER_S = 60.0


def mosaic(number, series, later_s=0.0, **changes):
    return test_mosaic.dicom(
        number + series,
        InstanceNumber=number,
        AcquisitionNumber=number,
        AcquisitionTime=clock(TR_S * number + later_s),
        SeriesNumber=series,
        SeriesInstanceUID=f"1.2.{series}",
        **changes,
    )


def paced(bridge, folder, series, numbers, **changes):
    for number in numbers:
        save(mosaic(number, series, **changes), folder / f"{series}" / f"{number}.dcm")
        bridge.step()
        bridge.step(TR_S - 0.02)


def at_once(folder, files):
    """Write files that appear at once, in the order in which they are given."""
    away = folder.parent / "away"
    for turn, dataset in enumerate(files, 1):
        path = save(dataset, away / f"{turn * 31 % 997:03d}.dcm")
        os.utime(path, (turn, turn))
    away.rename(folder / "back")


def sent_of(bridge):
    """Indices of volumes, by the number of their series."""
    return {
        int(run.run_id.split("-")[1]): [one.index for one in bridge.server.volumes if one.run_id == run.run_id]
        for run in bridge.server.runs
    }


def without_time(files):
    for dataset in files:
        del dataset.AcquisitionTime
    return files


@pytest.mark.parametrize("n_there", [2, 9, 10, N_SECOND])
@pytest.mark.parametrize("order", ["in order", "the next run first", "in order, without times"])
def test_the_end_of_a_run_and_much_of_the_next_that_appear_at_once_are_sent(folder, tmp_path, n_there, order):
    first = [mosaic(number, 7) for number in range(1, N_FIRST + 1)]
    second = [mosaic(number, 8, LATER_S) for number in range(1, N_SECOND + 1)]
    if order == "in order, without times":
        without_time(first + second)
    bridge = Bridge(folder)
    for turn, dataset in enumerate(first[:5]):
        save(dataset, folder / "7" / f"{turn}.dcm")
        bridge.step()
        bridge.step(TR_S - 0.02)
    bridge.step(LATER_S)
    rest, there = first[5:], second[:n_there]
    at_once(folder, there + rest if order == "the next run first" else rest + there)
    bridge.step()
    for turn, dataset in enumerate(second[n_there:]):
        save(dataset, folder / "8" / f"{turn}.dcm")
        bridge.step()
        bridge.step(TR_S - 0.02)
    bridge.step(3 * TR_S)
    bridge.stop()
    assert sent_of(bridge) == {7: list(range(N_FIRST)), 8: list(range(N_SECOND))}
    for turn, dataset in enumerate(second):
        save(dataset, tmp_path / "second" / f"{turn}.dcm")
    of_second = [volume for volume in bridge.server.volumes if volume.run_id == bridge.server.runs[1].run_id]
    same_as_replayed(of_second, list(DicomSeries(tmp_path / "second")))
    assert not [line for line in bridge.lines if "left out" in line]


def test_runs_that_are_exported_faster_than_they_were_acquired_are_all_sent(folder):
    bridge = Bridge(folder)
    paced(bridge, folder, 7, range(1, N_FIRST + 1))
    for series, later_s in ((8, LATER_S), (9, 2 * LATER_S)):
        for number in range(1, N_SECOND + 1):
            save(mosaic(number, series, later_s), folder / f"{series}" / f"{number}.dcm")
            bridge.step(0.02)
    for _ in range(6):
        bridge.step(TR_S)
    bridge.stop()
    everything = list(range(N_SECOND))
    assert sent_of(bridge) == {7: list(range(N_FIRST)), 8: everything, 9: everything}


@pytest.mark.parametrize("has_times", [True, False])
def test_a_series_that_grows_beside_the_run_under_way_is_left_out_and_named_once(folder, has_times):
    bridge = Bridge(folder)
    for number in range(1, N_SECOND + 1):
        files = [mosaic(number, 7), mosaic(number, 8, ProtocolName="other")]
        for dataset in files if has_times else without_time(files):
            save(dataset, folder / f"{dataset.SeriesNumber}" / f"{number}.dcm")
            bridge.step()
        bridge.step(TR_S)
    bridge.stop()
    assert sent_of(bridge) == {7: list(range(N_SECOND))}
    assert bridge.lines.count("series 8: it comes beside series 7, which is sent: left out") == 1


def test_an_old_series_that_is_exported_again_during_a_run_is_left_out(folder):
    bridge = Bridge(folder)
    for number in range(1, N_SECOND + 1):
        save(mosaic(number, 7, LATER_S), folder / "7" / f"{number}.dcm")
        bridge.step()
        if number > 5:
            save(mosaic(number - 5, 3), folder / "3" / f"{number}.dcm")
            bridge.step()
        bridge.step(TR_S)
    bridge.stop()
    assert sent_of(bridge) == {7: list(range(N_SECOND))}
    assert bridge.lines.count("series 3: it comes beside series 7, which is sent: left out") == 1
