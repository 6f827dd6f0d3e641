"""Volumes that are discarded, and the volume from which a table counts: one rule for all that read a run."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.events.counting import in_words, onset_0_s, those_used
from rtgod.events.table import read_events
from rtgod.messages import Run, RunEnd, Volume
from rtgod.receivers.outbox import Outbox
from rtgod.receivers.run_options import RunOptions
from rtgod.settings import EventsSettings
from rtgod.sources import open_source
from tests import small
from tests.rtgod.receivers.test_watcher import Server


@pytest.fixture
def run_file(tmp_path):
    path = tmp_path / "sub-01_bold.nii"
    volumes = np.stack([small.volume(index).data for index in range(12)], axis=-1)
    image = nib.Nifti1Image(volumes, small.AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((4, 4, 4, small.TR_S))
    nib.save(image, path)
    (tmp_path / "sub-01_events.tsv").write_text("onset\tduration\ttrial_type\n0\t4\tface\n6\t4\thouse\n")
    return path


@pytest.mark.parametrize(
    ("n_discarded", "count_from", "onsets_s"), [(0, 1, [0, 6]), (0, 3, [4, 10]), (2, 3, [0, 6]), (2, 1, [2])]
)
def test_onsets_count_from_the_first_volume_that_is_used(run_file, n_discarded, count_from, onsets_s):
    source = open_source(run_file, reading=EventsSettings(discard_volumes=n_discarded, count_from=count_from))
    assert [block.onset_s for block in source.run.blocks] == onsets_s
    assert source.run.n_volumes == 12 - n_discarded
    volumes, delivered = list(source), list(open_source(run_file))[n_discarded:]
    assert [volume.index for volume in volumes] == list(range(12 - n_discarded))
    assert [volume.acquired_s for volume in volumes] == [2.0 * index for index in range(12 - n_discarded)]
    assert all(np.array_equal(a.data, b.data) for a, b in zip(volumes, delivered, strict=True))
    assert bool(source.read.counted) == ((n_discarded, count_from) != (0, 1))


def test_a_run_of_which_all_volumes_would_be_discarded_is_refused(run_file):
    with pytest.raises(InputError, match=r"its 12 volumes would all be discarded \(events.discard_volumes = 12"):
        open_source(run_file, reading=EventsSettings(discard_volumes=12))


def test_what_will_happen_is_said_in_one_line():
    rules = EventsSettings(discard_volumes=5, count_from=6)
    table = [type("T", (), {"onset_s": 20.0})]
    assert in_words(rules, table) == (
        "5 volumes are discarded; onset 0 is the start of volume 6; the first trial is at 20 s"
    )
    assert in_words(rules, table, 2.0).endswith("; the first trial, at 20 s, begins in volume 16")
    assert in_words(EventsSettings(count_from=-4)) == (
        "no volume is discarded; onset 0 is 5 TR before the start of volume 1"
    )
    assert in_words(EventsSettings(discard_volumes=1)).startswith("1 volume is discarded")


@pytest.mark.parametrize(("first_s", "asks"), [(20.0, False), (3590.0, False), (20_000.0, True)])
def test_a_first_trial_hours_after_the_start_is_asked_about(first_s, asks):
    for tr_s in (1.5, None):
        said = in_words(EventsSettings(), [type("T", (), {"onset_s": first_s})], tr_s)
        assert said.endswith("are these milliseconds, or another run's events?") is asks


@given(st.integers(0, 40), st.integers(-40, 40), st.floats(0.1, 5), st.sets(st.integers(0, 60), max_size=30))
def test_a_volume_and_an_onset_move_together(n_discarded, count_from, tr_s, indices):
    rules = EventsSettings(discard_volumes=n_discarded, count_from=count_from)
    delivered = [Volume("run-1", index, index * tr_s, np.zeros((1, 1, 1), np.int16)) for index in sorted(indices)]
    kept = list(those_used(delivered, n_discarded, tr_s))
    assert [volume.index + n_discarded for volume in kept] == [
        index for index in sorted(indices) if index >= n_discarded
    ]
    # Onset 0 is the start of volume `count_from`, by its number among those that were delivered.
    assert onset_0_s(rules, tr_s) == pytest.approx((count_from - 1) * tr_s - n_discarded * tr_s, abs=1e-9)


def test_what_is_received_is_discarded_counted_and_said():
    server, lines = Server(), []
    outbox = Outbox(server, lines.append)
    outbox.put(small.run(), RunOptions(rules=EventsSettings(discard_volumes=3)))
    for index in (0, 2, 3, 5):  # a lost one among those that are discarded, and another after them
        outbox.put(small.volume(index))
    outbox.put(RunEnd("run-1", 6))
    outbox.end()
    assert isinstance(server.messages[0], Run)
    assert [volume.index for volume in server.volumes] == [0, 2]
    assert server.messages[-1] == RunEnd("run-1", 3)
    assert "run-1: 2 volumes are discarded" in lines


def test_without_a_repetition_time_onsets_stay_as_the_table_has_them(run_file):
    read = read_events(run_file.with_name("sub-01_events.tsv"), EventsSettings(count_from=3))
    assert [trial.onset_s for trial in read.trials] == [0, 6]
