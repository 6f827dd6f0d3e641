"""Runs of several echoes, as they come from the scanner: one is chosen for calibration, or all are combined."""

import numpy as np
import pytest

from calibration.datasets.dataset_files import DatasetOptions, find_any_runs
from rtgod.errors import InputError
from rtgod.settings import EventsSettings
from rtgod.sources.dicom.series import DicomSeries
from rtgod.sources.echoes import Combine
from tests.rtgod.sources.dicom.dicoms import enhanced, save


@pytest.fixture
def runs(tmp_path):
    folders = []
    for run in (1, 2):
        folder = tmp_path / f"run-{run}"
        changes = {"SeriesNumber": run, "SeriesInstanceUID": f"1.2.{run}"}
        for number in range(1, 6):
            dataset = enhanced([number], echoes_ms=(12.0, 30.0), **changes)
            for frame in dataset.PerFrameFunctionalGroupsSequence:
                content = frame.FrameContentSequence[0]
                content.FrameAcquisitionDateTime = content.FrameAcquisitionDateTime.replace("1000", f"1{run}00", 1)
            save(dataset, folder / f"{number}.dcm")
        (folder / "events.tsv").write_text("onset\tduration\ttrial_type\n2\t2\tface\n6\t2\thouse\n")
        folders.append(folder)
    return folders


@pytest.mark.parametrize("echo", [1, 2, Combine(30.0)], ids=["first", "second", "combined"])
def test_runs_are_read_as_their_replay_is(runs, echo):
    found = find_any_runs(DatasetOptions(paths=runs, subject="S1", echo=echo), None)
    assert len(found.runs) == 2
    for run, folder in zip(found.runs, runs, strict=True):
        source, replayed = run.open(EventsSettings()), DicomSeries(folder, echo=echo)
        assert source.run.run_id == replayed.run.run_id
        for ours, theirs in zip(source, replayed, strict=True):
            np.testing.assert_array_equal(ours.data, theirs.data)


def test_without_a_choice_the_echoes_are_named(runs):
    found = find_any_runs(DatasetOptions(paths=runs, subject="S1"), None)
    with pytest.raises(InputError, match="choose one with --echo N, or combine them"):
        found.runs[0].open()


def test_a_bids_data_set_has_its_echoes_in_files(tmp_path):
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    (tmp_path / "sub-01" / "func").mkdir(parents=True)
    with pytest.raises(InputError, match="leave out --echo"):
        find_any_runs(DatasetOptions(paths=[tmp_path], subject="01", echo=Combine()), None)
