"""The loop of a run, played in no time by a simulated laboratory: when what was on the screen, and what was saved."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stimulus.flips import Flips
from stimulus.paradigm import Paradigm, Tone
from stimulus.player import REDRAW_S, Outcome
from tests.stimulus.simulated import Laboratory, Stage, imagining, pulses, schedule, seeing

FRAME_S = 1 / 60


def laboratory(folder, run, stage=None, **more):
    stage = Stage(keys=pulses(1.0, 1.0 + run.duration_s)) if stage is None else stage
    return Laboratory(folder, run, stage, **more)


def errors_s(lab, run):
    """How far each step's first picture was from its planned onset; the first cannot be foreseen."""
    onsets = {int(line["step"]): float(line["run_s"]) for line in lab.log("onset")}
    assert set(onsets) == set(range(len(run.steps)))
    return [onsets[place] - step.onset_s for place, step in enumerate(run.steps)][1:]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    phase_s=st.floats(0, FRAME_S),
    hz=st.sampled_from((59.94, 60.0, 120.0)),
    draw_s=st.floats(0, 0.008),
    waits=st.booleans(),
    block_s=st.floats(0.2, 0.9),
)
def test_each_step_begins_at_the_refresh_that_is_nearest_to_its_time(
    tmp_path_factory, phase_s, hz, draw_s, waits, block_s
):
    run = seeing(4, block_s)
    stage = Stage(frame_hz=hz, phase_s=phase_s, draw_s=draw_s, waits=waits, keys=pulses(1.0, 1.0 + run.duration_s))
    lab = laboratory(tmp_path_factory.mktemp("run"), run, stage, paradigm=Paradigm.TRAINING)
    assert lab.run() is Outcome.COMPLETE
    # Where no refresh is waited for, what is an eighth of a frame late is let be.
    assert max(map(abs, errors_s(lab, run))) <= (0.5 if waits else 0.625) / hz + 1e-5
