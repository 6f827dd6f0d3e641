"""Trials that no run reaches are left out of a running scan, and told."""

import pytest

from rtgod.errors import InputError
from rtgod.events.table import events_table
from rtgod.receivers.run_options import RunOptions, live_trials
from rtgod.settings import EventsSettings
from tests import small


def table(tmp_path, onsets, duration):
    path = tmp_path / "events.tsv"
    rows = "".join(f"{onset}\t{duration}\t{name}\n" for onset, name in zip(onsets, "abcdefgh", strict=False))
    path.write_text(f"onset\tduration\ttrial_type\n{rows}")
    return events_table(path)


def run(events):
    return RunOptions(events=events).run("run-1", "1.2", 2.0, small.SHAPE, small.AFFINE, None)


def test_a_table_of_milliseconds_beyond_a_day_is_refused(tmp_path):
    events = table(tmp_path, (100_000_000, 200_000_000), 9000)
    with pytest.raises(InputError, match=r"2 of 2 trials end more than a day after .*are these milliseconds\?"):
        live_trials(events, EventsSettings(), None)
    made, notes = run(events)
    assert made.blocks == ()
    assert "volumes are decoded without them" in " ".join(notes)


def test_some_trials_beyond_a_day_are_left_out_and_the_others_kept(tmp_path):
    events = table(tmp_path, (20, 40, 100_000_000), 9)
    read, note = live_trials(events, EventsSettings(), 2.0)
    assert [trial.onset_s for trial in read.trials] == [20, 40]
    assert note.startswith("1 of 3 trials end more than a day after the run's start")
    made, notes = run(events)
    assert (len(made.blocks), sum(note in line for line in notes)) == (2, 1)


def test_trials_of_a_usual_run_are_kept_without_a_word(tmp_path):
    read, note = live_trials(table(tmp_path, (20, 40), 9), EventsSettings(), 2.0)
    assert (len(read.trials), note) == (2, "")
