"""Each volume a series of its own: which are of one run, how they are counted, and that replays agree."""

import pytest

from rtgod.errors import InputError
from rtgod.messages import RunEnd
from rtgod.receivers.identity_table import IdentityTable
from rtgod.receivers.live_runs import LiveRuns
from rtgod.receivers.live_series import LiveSeries
from rtgod.receivers.run_options import RunOptions
from rtgod.sources.dicom.series import DicomSeries
from tests.rtgod.receivers.test_restarts import clock
from tests.rtgod.receivers.test_watcher import Bridge, folder, same_as_replayed, written
from tests.rtgod.sources.dicom.dicoms import N_Z, TR_S, enhanced

__all__ = ["folder"]
MINUTES = 60.0


def lone(series, at_s, shift=0, **changes):
    """A volume that is series `series`, acquired at `at_s`."""
    own = {"SeriesNumber": series, "SeriesInstanceUID": f"1.2.3.{series}.{shift}", "InstanceNumber": 1}
    dataset = enhanced([1], temporal=False, **own, AcquisitionNumber=1, **changes)
    dataset.PixelData = enhanced([series % 10 + shift]).PixelData
    for z, frame in enumerate(reversed(dataset.PerFrameFunctionalGroupsSequence)):
        frame.FrameContentSequence[0].FrameAcquisitionDateTime = "20200101" + clock(at_s + z * TR_S / N_Z)
    return [dataset]


def run_of(first, n_volumes, at_s, shift=0):
    return [lone(first + turn, at_s + turn * TR_S, shift) for turn in range(n_volumes)]


def sent(bridge):
    """Indices of each run's volumes, by SeriesNumber."""
    return {
        int(run.run_id.split("-")[1]): [one.index for one in bridge.server.volumes if one.run_id == run.run_id]
        for run in bridge.server.runs
    }


# Run 1 is series 101 to 106, and ends at 12 s.
NEXT = {
    "numbers begin anew, soon": (201, 12 + 8.0),
    "numbers begin anew, later": (201, 12 + 5 * MINUTES),
    "numbers begin anew as if volumes were lost between, but for a pause": (118, 12 + 60.0),
    "numbers go on, 14 s later": (107, 12 + 14.0),
    "numbers go on, 40 minutes later": (107, 12 + 40 * MINUTES),
    "numbers are used again": (101, 12 + 5 * MINUTES),
}


@pytest.mark.parametrize("order", [None, [0, 1, 2, 4, 3]], ids=["in order", "swapped"])
@pytest.mark.parametrize(("first", "at_s"), NEXT.values(), ids=NEXT)
def test_the_next_run_of_the_same_protocol_is_a_run_of_its_own(folder, tmp_path, first, at_s, order):
    bridge, table = Bridge(folder), tmp_path / "identities.tsv"
    bridge.watcher._runs = LiveRuns(
        bridge.server,
        RunOptions(),
        bridge.lines.append,
        clock=lambda: bridge.now_s,
        identities=IdentityTable(table),
    )
    written(bridge, folder, run_of(101, 6, 0.0))
    for _ in range(4):
        bridge.step(TR_S)
    written(bridge, folder, run_of(first, 5, at_s, shift=40), order)
    bridge.stop()
    one, other = bridge.server.runs
    assert [message.n_volumes for message in bridge.server.messages if isinstance(message, RunEnd)] == [6, 5]
    assert [row.split("\t")[0] for row in table.read_text().splitlines()[1:]] == [one.run_id, other.run_id]
    assert not [line for line in bridge.lines if "lost" in line or "not sent" in line]
    assert sum("it is of another" in line for line in bridge.lines) == 1
    if first == 101:
        with pytest.raises(InputError, match=r"series 101 \(\d files\), series 101 \(\d files\): choose one"):
            DicomSeries(folder)
        return
    with pytest.raises(InputError, match=rf"series 101 \(6 files\), series {first} \(5 files\): choose one with --ser"):
        DicomSeries(folder)
    for run, series in ((one, 101), (other, first)):
        source = DicomSeries(folder, series=series)
        assert (run.run_id, run.acquisition) == (source.run.run_id, source.acquisition())
        same_as_replayed([one for one in bridge.server.volumes if one.run_id == run.run_id], list(source))


def test_a_series_of_a_run_can_still_be_read_by_itself(folder):
    written(Bridge(folder), folder, run_of(101, 5, 0.0))
    assert DicomSeries(folder, series=103).run.run_id.startswith("series-103-")
    with pytest.raises(InputError, match="there is no series 110"):
        DicomSeries(folder, series=110)


#: Seconds by which the clock is moved from volume 5 on, and whether that is told.
MOVED = {"ten minutes back": (-600.0, True), "3 s back": (-3.0, True), "3 s on": (3.0, False), "5 TR": (10.0, False)}


@pytest.mark.parametrize("order", [None, [0, 1, 3, 2, 4, 5, 6, 8, 7]], ids=["in order", "swapped"])
@pytest.mark.parametrize(("moved_s", "is_told"), MOVED.values(), ids=MOVED)
def test_a_clock_that_is_set_anew_costs_no_volume_and_moves_none(folder, moved_s, is_told, order):
    """Nor does a short pause: its length is in the volumes' times."""
    bridge = Bridge(folder)
    volumes = run_of(101, 4, 0.0) + [lone(105 + turn, 8 + moved_s + TR_S * turn) for turn in range(5)]
    written(bridge, folder, volumes, order)
    bridge.stop()
    assert sent(bridge) == {101: list(range(9))}
    source = DicomSeries(folder)
    same_as_replayed(bridge.server.volumes, list(source))
    times_s = [volume.acquired_s for volume in source]
    assert times_s[4] - times_s[3] == pytest.approx(TR_S if is_told else TR_S + moved_s)
    assert sum("clock goes back" in line for line in bridge.lines) == is_told
    assert any("clock goes back" in line for line in source.notes) == is_told
    assert not [line for line in bridge.lines if "lost" in line or "left out" in line]


@pytest.mark.parametrize("lost", [1, 7], ids=["one", "seven"])
def test_volumes_that_are_lost_are_counted_by_number_and_time(folder, lost):
    """However many: those after them are of the same run."""
    bridge, volumes = Bridge(folder), run_of(101, 15, 0.0)
    written(bridge, folder, volumes[:4] + volumes[4 + lost :])
    bridge.stop()
    indices = [*range(4), *range(4 + lost, 15)]
    assert sent(bridge) == {101: indices}
    assert [volume.index for volume in DicomSeries(folder)] == indices
    assert sum("did not come in time: lost" in line for line in bridge.lines) == 1


def test_series_of_other_images_between_those_of_a_run_are_not_counted(folder):
    """Two numbers a volume, as with phase images beside, and one more for something else after the third."""
    bridge = Bridge(folder)
    numbers = [101, 103, 105, 108, 110, 112]
    written(bridge, folder, [lone(number, TR_S * turn) for turn, number in enumerate(numbers)])
    bridge.stop()
    assert sent(bridge) == {101: list(range(6))}
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder)))


def test_series_of_one_number_count_by_the_clock(folder):
    bridge, volumes = Bridge(folder), run_of(101, 6, 0.0)
    for (dataset,) in volumes:
        dataset.SeriesNumber = 101
    written(bridge, folder, [*volumes[:3], *volumes[4:]])
    bridge.stop()
    assert sent(bridge) == {101: [0, 1, 2, 4, 5]}
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder)))


def test_without_times_numbers_count(folder):
    bridge, volumes = Bridge(folder), run_of(101, 5, 0.0)
    for (dataset,) in volumes:
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            del frame.FrameContentSequence[0].FrameAcquisitionDateTime
    written(bridge, folder, [*volumes[:3], *volumes[4:]])
    bridge.stop()
    assert sent(bridge) == {101: [0, 1, 2, 4]}
    same_as_replayed(bridge.server.volumes, list(DicomSeries(folder)))


def test_volumes_after_the_planned_number_are_named_once_and_no_run(folder):
    bridge = Bridge(folder, n_volumes=5)
    written(bridge, folder, run_of(101, 10, 0.0))
    assert sent(bridge) == {101: list(range(5))}
    written(bridge, folder, run_of(111, 5, 20 + 12.0))
    bridge.stop()
    assert sent(bridge) == {101: list(range(5)), 111: list(range(5))}
    assert [line for line in bridge.lines if "left out" in line] == [
        "series 101: images came after its run had ended: left out"
    ]


def test_what_is_kept_does_not_grow_with_the_run(folder, monkeypatch):
    n_held, ready = [], LiveSeries.ready
    monkeypatch.setattr(
        LiveSeries, "ready", lambda self, now_s: (ready(self, now_s), n_held.append(len(self._held)))[0]
    )
    bridge = Bridge(folder)
    written(bridge, folder, run_of(101, 30, 0.0))
    bridge.stop()
    assert sent(bridge) == {101: list(range(30))}
    assert max(n_held) <= 5


def test_a_volume_from_before_the_first_is_named_and_not_sent(folder):
    bridge, volumes = Bridge(folder), run_of(101, 8, 0.0)
    written(bridge, folder, [*volumes[1:], volumes[0]])
    bridge.stop()
    assert sent(bridge) == {102: list(range(7))}
    assert "series 102: a volume from before the first came after later ones were given: not sent" in bridge.lines
