"""Reports of sealed runs: the same whatever was drawn, and however long that took."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stimulus.blinding.blunted import Blunted
from stimulus.blinding.sealed_tables import SLOT_S


@given(planned_s=st.floats(0, 1e4), late_s=st.floats(-0.12, 0.12))
def test_an_onset_is_told_as_planned_unless_it_was_late_by_half_a_slot(planned_s, late_s):
    blunted = Blunted(lambda *_: None)
    assert blunted.onset_s(planned_s, planned_s + late_s) == planned_s
    assert blunted.onset_s(planned_s, planned_s + 3 * SLOT_S + late_s) == planned_s + 3 * SLOT_S


def sent(drawing_s):
    """Reports of a cue and of an answer, with the times when they were sent by a loop that draws for so long."""
    told, now_s = [], 100.0
    blunted = Blunted(lambda *report: told.append((*report, now_s)))
    flips = {110.0 + drawing_s: "onset", 110.3 + drawing_s: "shown"}
    for n in range(1200):
        now_s = 109.0 + n * 0.005
        for flip_s in [flip_s for flip_s in flips if flip_s <= now_s]:
            if flips.pop(flip_s) == "onset":
                blunted.onset("cue", blunted.onset_s(110.0, flip_s), "n01")
            else:
                blunted.shown(100.0, 110.29, flip_s, "7")
        blunted.poll(now_s)
    return told


def test_reports_come_when_they_are_due_and_not_when_something_was_drawn():
    first = sent(0.001)
    assert first == [("cue", 110.0, "n01", 110.125), ("shown", 110.5, "7", 110.75)]
    for drawing_s in (-0.008, 0.012, 0.03, 0.1):
        assert sent(drawing_s) == first


def test_what_waits_can_be_sent_at_once():
    told = []
    blunted = Blunted(lambda *report: told.append(report))
    blunted.shown(0.0, 5.0, 5.0, "7")
    blunted.poll(5.1)
    assert told == []
    blunted.poll()
    blunted.poll()
    assert told == [("shown", 5.0, "7")]
