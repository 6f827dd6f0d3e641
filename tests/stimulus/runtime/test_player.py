"""The loop of a run, played in no time in a simulated laboratory: when what was on the screen, and what was saved."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtgod.candidates import NO_CANDIDATES
from rtgod.errors import InputError, WireError
from rtgod.events.table import read_trials
from rtgod.messages import Hello, NotReady, Ranking, Reason, RunEnd
from stimulus.blinding.sealed_tables import read_sealed_tables
from stimulus.paradigm.schedule import StepKind
from stimulus.paradigm.script import Paradigm, Tone
from stimulus.recording.run_files import SHOWN_COLUMNS
from stimulus.runtime.player import LINGER_S, REDRAW_S, Outcome
from stimulus.screens.feedback import FeedbackSettings, View, When
from stimulus.screens.scene import Scene
from stimulus.screens.texts import ENGLISH
from tests.stimulus.simulated import (
    CANDIDATES,
    HELLO,
    Laboratory,
    Stage,
    hellos,
    imagining,
    not_ready,
    pulses,
    ranking,
    read,
    run_header,
    schedule,
    seeing,
)

FRAME_S = 1 / 60
#: In all runs but those that say otherwise the first trigger comes then.
START_S = 1.0


def laboratory(folder, run, *, keys=(), stage=None, trigger=None, **more):
    """One whose scanner runs as long as the schedule."""
    given = pulses(START_S, START_S + run.duration_s) if trigger is None else trigger
    return Laboratory(folder, run, stage or Stage(keys=[*given, *keys]), **more)


def played(folder, run, *, stopped_at_s=math.inf, outcome=Outcome.COMPLETE, **more):
    lab = laboratory(folder, run, **more)
    assert lab.run(stopped_at_s) is outcome
    return lab


def errors_s(lab, run):
    """How far each step's first picture was from its planned onset; the first cannot be foreseen."""
    onsets = {int(line["step"]): float(line["run_s"]) for line in lab.log("onset")}
    assert set(onsets) == set(range(len(run.steps)))
    return [onsets[place] - step.onset_s for place, step in enumerate(run.steps)][1:]


def cells(lab, column, kind=None):
    return [row[column] for row in lab.table("events") if kind in (None, row["event_type"])]


def has_result(scene):
    return bool(getattr(scene, "thermometer", None) or scene.rows or scene.caption or scene.message)


class TestTiming:
    @settings(max_examples=25)
    @given(
        phase_s=st.floats(0, FRAME_S),
        hz=st.sampled_from((59.94, 60.0, 120.0)),
        draw_s=st.floats(0, 0.008),
        waits=st.booleans(),
        block_s=st.floats(0.2, 0.9),
    )
    def test_each_step_begins_at_the_refresh_nearest_to_its_time(
        self, tmp_path_factory, phase_s, hz, draw_s, waits, block_s
    ):
        run = seeing(4, block_s)
        stage = Stage(frame_hz=hz, phase_s=phase_s, draw_s=draw_s, waits=waits, keys=pulses(1.0, 1.0 + run.duration_s))
        lab = played(tmp_path_factory.mktemp("run"), run, stage=stage, paradigm=Paradigm.TRAINING)
        # Where no refresh is waited for, what is an eighth of a frame late is let be.
        assert max(map(abs, errors_s(lab, run))) <= (0.5 if waits else 0.625) / hz + 1e-5

    def test_a_picture_that_takes_longer_to_draw_than_others_is_no_later(self, tmp_path):
        run = seeing(3, 2.0)
        stage = Stage(draw_s=lambda scene: 0.009 if scene.pictures else 0.001, keys=pulses(1.0, 1.0 + run.duration_s))
        lab = played(tmp_path, run, stage=stage, paradigm=Paradigm.TRAINING)
        assert max(map(abs, errors_s(lab, run))) <= FRAME_S / 2 + 1e-5

    def test_slow_drawing_is_learned_from(self, tmp_path):
        run = seeing(3, 2.0)
        lab = played(tmp_path, run, stage=Stage(draw_s=0.0135, keys=pulses(1.0, 9.0)), paradigm=Paradigm.TRAINING)
        assert max(map(abs, errors_s(lab, run))) <= FRAME_S / 2 + 1e-5

    def test_a_monitor_that_is_not_quite_as_fast_as_said_is_kept_in_step_with(self, tmp_path):
        run = schedule(*[("rest", 7.3)] * 4)
        stage = Stage(frame_hz=60.0, true_hz=59.94, phase_s=0.004, keys=pulses(1.0, 1.0 + run.duration_s))
        lab = played(tmp_path, run, stage=stage)
        drift_s = REDRAW_S * (60 / 59.94 - 1)
        assert max(map(abs, errors_s(lab, run))) <= FRAME_S / 2 + drift_s + 1e-5
        late_ms = [abs(float(line["late_ms"])) for line in lab.table("flips")[1:]]
        assert max(late_ms) <= 1e3 * drift_s + 0.1

    def test_pictures_flash_twice_a_second_from_their_onset_on(self, tmp_path):
        run = seeing(1, 2.0)
        lab = played(tmp_path, run, paradigm=Paradigm.TRAINING)
        shown = [(at_s - START_S, bool(scene.pictures)) for at_s, scene in lab.stage.drawn if at_s > START_S]
        changes = [(at_s, on) for (_, was), (at_s, on) in pairwise(shown) if on != was]
        assert [on for _, on in changes] == [True, False] * 4
        for number, (at_s, _) in enumerate(changes):
            assert at_s == pytest.approx(2.0 + number * 0.25, abs=FRAME_S / 2 + 1e-5)

    @pytest.mark.parametrize("phase", [0.02, 0.25, 0.5, 0.75, 0.98])
    def test_every_flash_lasts_as_many_frames(self, tmp_path, phase):
        jitter = np.random.default_rng(0).uniform(-0.002, 0.002, 1000)
        stage = Stage(keys=pulses(START_S + phase * FRAME_S, 6.0), waits=False)
        draw = stage.draw
        stage.draw = lambda scene, due_s: draw(scene, due_s + jitter[len(stage.drawn)])
        lab = played(tmp_path, seeing(1, 2.0), paradigm=Paradigm.TRAINING, stage=stage)
        shown = [(at_s, bool(getattr(scene, "pictures", None))) for at_s, scene in lab.stage.drawn]
        changes = [at_s for (_, was), (at_s, on) in pairwise(shown) if on != was]
        assert len(changes) == 8
        frames = np.diff(changes) / FRAME_S
        assert np.rint(frames).tolist() == [15.0] * 7

    def test_what_does_not_change_is_drawn_each_half_second(self, tmp_path):
        lab = played(tmp_path, seeing(), trigger=(), stopped_at_s=20.0, outcome=Outcome.STOPPED)
        waited = [at_s for at_s, _ in lab.stage.drawn if at_s < 20.0]
        gaps_s = [b - a for a, b in pairwise(waited)]
        assert gaps_s == pytest.approx([REDRAW_S] * len(gaps_s), abs=1.1 * FRAME_S)

    def test_a_loop_that_was_held_up_draws_what_is_due_by_then(self, tmp_path):
        run = schedule(("rest", 1.0), *[("inter_rest", 1.0, 1)] * 6)
        lab = laboratory(tmp_path, run)
        usual, held_up = lab.stage.keys, []

        def keys():
            if lab.stage.at_s > 3.2 and not held_up:
                held_up.append(True)
                lab.stage.sleep(2.5)
            return usual()

        lab.stage.keys = keys
        lab.run()
        assert [int(line["step"]) for line in lab.log("onset")] == [0, 1, 2, 4, 5, 6]
        assert float(lab.log("onset")[3]["run_s"]) == pytest.approx(4.7, abs=2 * FRAME_S)

    def test_a_rehearsal_takes_less_time(self, tmp_path):
        run = seeing(4, 2.0)
        lab = played(tmp_path, run, speed=4.0, trigger=pulses(1.0, 1.0 + run.duration_s / 4, 0.25))
        assert lab.stage.at_s == pytest.approx(START_S + run.duration_s / 4 + LINGER_S / 4, abs=3 * FRAME_S)
        assert max(map(abs, errors_s(lab, run))) <= 4 * FRAME_S / 2 + 1e-4

    def test_looking_around_costs_next_to_nothing(self, tmp_path):
        lab = laboratory(tmp_path, imagining("n01"), trigger=(), says=hellos(20))
        began_s = time.process_time()
        lab.run(stopped_at_s=20.0)
        assert lab.stage.n_polls > 15_000
        assert (time.process_time() - began_s) / lab.stage.n_polls < 0.0003


class TestTrigger:
    def test_dummies_come_before_the_run(self, tmp_path):
        run = seeing(1)
        lab = played(tmp_path, run, n_dummies=2, trigger=pulses(1.0, 3.0 + run.duration_s))
        assert [float(line["run_s"]) for line in lab.log("started")] == [0.0]
        assert float(lab.log("started")[0]["clock_s"]) == pytest.approx(103.0)
        assert lab.stage.scene_at(2.9).message == ENGLISH.wait

    def test_how_well_the_scanner_keeps_time_is_in_the_log(self, tmp_path):
        trigger = [(START_S, "5"), (START_S + 1.004, "5"), (START_S + 1.997, "5"), (START_S + 3, "5")]
        lab = played(tmp_path, schedule(("rest", 3.5)), trigger=trigger)
        assert [line["value"] for line in lab.log("trigger")] == ["+0.00 ms", "+4.00 ms", "-3.00 ms", "+0.00 ms"]
        (summary,) = lab.log("triggers")
        assert summary["value"].startswith("4 of 4 expected; 0 came too fast; their timing error 4.0 ms at worst")

    def test_a_key_that_was_pressed_before_the_run_waited_does_not_count_and_is_told(self, tmp_path):
        run = seeing(1)
        lab = played(tmp_path, run, keys=[(0.0, "5"), (0.0, "t")])
        assert float(lab.log("started")[0]["clock_s"]) == pytest.approx(101.0)
        assert "pressed before the trigger was waited for: 5, t" in lab.lines[0]

    def test_escape_that_was_pressed_while_images_were_loaded_stops(self, tmp_path):
        played(tmp_path, seeing(), keys=[(0.0, "escape")], outcome=Outcome.STOPPED)

    def test_a_device_that_heard_the_trigger_before_begins_at_the_right_second(self, tmp_path):
        run = seeing(1)
        stage = Stage(at_s=1.3)
        lab = laboratory(tmp_path, run, stage=stage, pulses=Device(stage, [1.0, *range(2, 5)]))
        assert lab.run() is Outcome.COMPLETE
        assert float(lab.log("started")[0]["clock_s"]) == pytest.approx(101.0)
        assert max(map(abs, errors_s(lab, run))) <= FRAME_S / 2 + 1e-5

    def test_no_trigger_for_a_minute_is_told_and_nothing_else_happens(self, tmp_path):
        lab = played(tmp_path, seeing(), trigger=(), stopped_at_s=125.0, outcome=Outcome.STOPPED)
        assert [round(at_s) for at_s, line in lab.told if line.startswith("no trigger for")] == [60, 120]
        assert {scene for at_s, scene in lab.stage.drawn if at_s < 125.0} == {lab.stage.drawn[0][1]}
        assert not (tmp_path / f"{lab.record.name}_events.tsv").exists()

    def test_a_storm_is_told_a_few_times_and_moves_nothing(self, tmp_path):
        run = seeing(2)
        storm = [(START_S + n / 500, "5") for n in range(int(500 * run.duration_s))]
        lab = played(tmp_path, run, trigger=storm)
        assert max(map(abs, errors_s(lab, run))) <= FRAME_S / 2 + 1e-5
        assert sum("too fast" in line for line in lab.lines) <= 6
        assert len(lab.log("trigger")) <= 2 * run.n_volumes  # a storm fills no disk

    def test_a_device_that_fails_in_mid_run_is_told_once_and_the_run_goes_on(self, tmp_path):
        run = seeing(3)
        stage = Stage()
        lab = laboratory(tmp_path, run, stage=stage, pulses=Device(stage, [1.0, 2.0, 3.0], fails_at_s=3.5))
        assert lab.run() is Outcome.COMPLETE
        assert lab.lines.count("the box is unplugged; check its cable") == 1
        assert max(map(abs, errors_s(lab, run))) <= FRAME_S / 2 + 1e-5

    def test_a_scanner_that_stops_sending_is_told_in_the_run_but_not_after_it(self, tmp_path):
        run = seeing(3)
        lab = played(tmp_path, run, trigger=pulses(1.0, 2.5))
        assert [round(at_s, 1) for at_s, line in lab.told if line.startswith("no trigger")] == [3.5]
        whole = played(tmp_path, replace(run, name="whole"), trigger=pulses(1.0, 7.0))
        assert whole.stage.at_s > 1.0 + run.duration_s + LINGER_S - 0.1
        assert not any(line.startswith("no trigger") for line in whole.lines)
        assert "6 of 6 expected" in whole.lines[-1]

    def test_one_trigger_alone_is_enough_where_no_more_are_to_come(self, tmp_path):
        lab = played(tmp_path, seeing(), trigger=[(1.0, "5")], hears_every_volume=False)
        assert not any(line.startswith("no trigger") for line in lab.lines)


class Device:
    """A box with a clock of its own, that may fail."""

    def __init__(self, stage, times_s, fails_at_s=math.inf):
        self._stage, self._times_s, self._fails_at_s = stage, list(times_s), fails_at_s

    def poll(self, keys, messages):  # noqa: ARG002
        if self._stage.at_s >= self._fails_at_s:
            raise InputError("the box is unplugged; check its cable")
        due = [at_s for at_s in self._times_s if at_s <= self._stage.at_s]
        self._times_s = self._times_s[len(due) :]
        return [at_s + self._stage.origin_s for at_s in due]


class TestResponses:
    def test_a_repeat_that_was_noticed(self, tmp_path):
        run = seeing(3)
        lab = played(tmp_path, run, keys=[(5.4, "1"), (6.9, "3"), (6.4, "x")], paradigm=Paradigm.TRAINING)
        responses = lab.log("response")
        assert [(line["step"], line["value"]) for line in responses] == [("3", "1"), ("4", "3")]
        assert [float(line["run_s"]) for line in responses] == pytest.approx([4.4, 5.9])
        assert cells(lab, "response_time") == ["n/a", "n/a", "n/a", "4.4", "5.9"]

    def test_a_press_belongs_to_the_step_that_was_on_the_screen(self, tmp_path):
        run = seeing(3)
        # The third image is planned for 5.0, and the picture before it drawn from 10 ms before: no poll in between.
        lab = played(tmp_path, run, keys=[(4.995, "1"), (6.02, "1")], paradigm=Paradigm.TRAINING)
        assert [line["step"] for line in lab.log("response")] == ["2", "4"]

    def test_presses_before_the_run_are_logged_and_answer_nothing(self, tmp_path):
        lab = played(tmp_path, seeing(1), keys=[(0.5, "1")])
        assert [(line["step"], line["run_s"]) for line in lab.log("response")] == [("n/a", "n/a")]
        assert set(cells(lab, "response_time")) == {"n/a"}

    def test_a_key_that_is_held_down_counts_once_and_is_told(self, tmp_path):
        held = [(3.2, "1"), *((3.7 + n / 30, "1") for n in range(60))]
        lab = played(tmp_path, seeing(5), keys=held)
        assert [float(line["clock_s"]) for line in lab.log("response")] == pytest.approx([103.2])
        assert sum("held down" in line for line in lab.lines) == 1

    def test_the_last_rating_counts(self, tmp_path):
        run = imagining("n01", "n02")  # rated from 5 s on, and from 11.5 s on
        lab = played(tmp_path, run, keys=[(6.2, "1"), (6.5, "2"), (6.8, "2"), (6.9, "1")])
        markers = [lab.stage.scene_at(at_s).choice.chosen for at_s in (6.1, 6.25, 6.65, 6.97)]
        assert markers == [None, 2, 3, 4]
        assert cells(lab, "evaluation") == ["n/a", *["4"] * 6, *["n/a"] * 6, "n/a"]
        assert cells(lab, "response_time", "evaluation") == ["5.9", "n/a"]

    def test_the_marker_stays_within_its_row(self, tmp_path):
        keys = [(6.05 + 0.15 * n, "2") for n in range(6)]
        lab = played(tmp_path, imagining("n01"), keys=keys)
        assert set(cells(lab, "evaluation")[1:-1]) == {"5"}

    def test_a_free_trial_is_named_afterwards(self, tmp_path):
        run = imagining("", "n05", naming=True)  # named from 5 s on
        lab = played(tmp_path, run, keys=[(6.2, "2"), (6.6, "2")])
        assert cells(lab, "category_name") == ["n/a", *["n03"] * 7, *["n05"] * 7, "n/a"]
        assert cells(lab, "response_time", "naming") == ["5.6", "n/a"]
        assert [trial.category for trial in read_trials(tmp_path / f"{lab.record.name}_events.tsv")] == ["n03", "n05"]

    def test_a_free_trial_that_nobody_named_is_not_applicable(self, tmp_path):
        lab = played(tmp_path, imagining("", naming=True))
        assert set(cells(lab, "category_name")) == {"n/a"}

    def test_the_operator_sets_the_target_of_trials_that_are_free(self, tmp_path):
        run = imagining("", "n05", "", "")
        lab = played(tmp_path, run, types=[(1.5, "target n04"), (17.5, " target  n06 ")])
        assert cells(lab, "category_name", "imagery") == ["n04", "n05", "n04", "n06"]
        # The cue says so from its first picture on.
        titles = [scene.title for at_s, scene in lab.stage.drawn if 2.99 < at_s < 3.9]
        assert set(titles) == {"thing 4"}

    def test_a_target_that_is_typed_in_a_trial_is_for_the_next(self, tmp_path):
        lab = played(tmp_path, imagining("", ""), types=[(3.5, "target n04")])
        assert cells(lab, "category_name", "imagery") == ["n/a", "n04"]
        assert lab.stage.scene_at(3.9).title == ENGLISH.your_choice

    def test_what_can_be_typed_is_told_while_the_trigger_is_waited_for(self, tmp_path):
        lab = played(tmp_path / "feedback", imagining(""))
        (told_s,) = (at_s for at_s, line in lab.told if "`stop`" in line)
        assert told_s < 1.0
        (line,) = (line for line in lab.lines if "`stop`" in line)
        assert all(words in line for words in ("press escape", "`target ID`", "`note WORDS`"))
        lab = played(tmp_path / "seeing", seeing(1), paradigm=Paradigm.TRAINING, candidates=NO_CANDIDATES)
        assert any("`stop`" in line and "`target" not in line for line in lab.lines)

    def test_a_note_is_kept_with_its_time_and_sent(self, tmp_path):
        lab = played(tmp_path, imagining(""), types=[(2.0, " note  moved her hand "), (2.5, "note")], says=hellos(10.0))
        (line,) = lab.log("note")
        assert (line["value"], float(line["run_s"])) == ("moved her hand", pytest.approx(1.0, abs=0.01))
        assert [value for kind, _, _, value in lab.server.reports if kind == "note"] == ["moved her hand"]
        assert "noted: moved her hand" in lab.lines
        assert any("'note' is not understood" in line for line in lab.lines)

    def test_what_the_operator_types_wrongly_is_said(self, tmp_path):
        lab = played(tmp_path, imagining(""), types=[(2.0, "target n99"), (2.1, "faster"), (2.2, "")])
        assert [line for line in lab.lines if "not understood" in line] == [
            f"{typed!r} is not understood; type `stop`, `note WORDS`, or `target CATEGORY` with a candidate's "
            "identifier"
            for typed in ("target n99", "faster")
        ]

    def test_tones_mark_imagery_with_closed_eyes(self, tmp_path):
        lab = played(tmp_path, imagining("n01"), feedback=FeedbackSettings(when=When.AFTER))
        assert [tone for _, tone in lab.stage.tones] == [Tone.BEGIN, Tone.END]
        assert [at_s for at_s, _ in lab.stage.tones] == pytest.approx([4.0, 6.0], abs=FRAME_S)


class Sham:
    """Everything upside down, and another target; remembers what it was given."""

    def __init__(self):
        self.given = []

    def shown(self, answer, target):
        self.given.append((answer.index, target))
        if not isinstance(answer, Ranking):
            return answer, target
        return replace(answer, order=answer.order[::-1]), None if target is None else target + 1


class TestFeedback:
    @pytest.mark.parametrize("at_s", [4.2 + n * FRAME_S / 7 for n in range(7)])
    @pytest.mark.parametrize("draw_s", [0.001, 0.008])
    def test_an_answer_is_seen_within_two_frames(self, tmp_path, at_s, draw_s):
        run = imagining("n01")
        stage = Stage(draw_s=draw_s, keys=pulses(1.0, 1.0 + run.duration_s))
        says = [*hellos(10), (4.0, ranking(3, order=range(11, -1, -1))), (at_s, ranking(4))]
        lab = played(tmp_path, run, stage=stage, says=says)
        seen = [(seen_s, scene.thermometer) for seen_s, scene in stage.drawn if getattr(scene, "thermometer", None)]
        first_s = next(seen_s for seen_s, thermometer in seen if thermometer.level > 0.15)  # it was below 1/11 before
        assert first_s - at_s <= 2 * FRAME_S
        shown = lab.table("shown")
        assert [row["index"] for row in shown] == ["3", "4"]
        assert float(shown[1]["run_s"]) == pytest.approx(first_s - START_S, abs=1e-5)
        assert [report for report in lab.server.reports if report[0] == "shown"][1] == (
            "shown", pytest.approx(first_s), "run-1", "4",
        )  # fmt: skip

    def test_the_bar_glides(self, tmp_path):
        lab = played(tmp_path, imagining("n01"), says=[*hellos(10), (4.2, ranking(3))])
        levels = [scene.thermometer.level for _, scene in lab.stage.drawn if getattr(scene, "thermometer", None)]
        rising = [b - a for a, b in pairwise(levels)][:17]
        assert all(0 <= step < 0.2 for step in rising)
        assert levels[18] == pytest.approx(10 / 11)

    def test_nothing_glides_from_one_trial_to_the_next(self, tmp_path):
        after = FeedbackSettings(when=When.AFTER)
        says = [*hellos(17), (4.2, ranking(3)), (10.7, ranking(9, block=1, order=[2, 1, 0]))]
        lab = played(tmp_path, imagining("n01", "n02"), says=says, feedback=after)
        seen = [
            (at_s, scene.thermometer.level) for at_s, scene in lab.stage.drawn if getattr(scene, "thermometer", None)
        ]
        for begins_s in (7.5, 14.0):
            first = next(level for at_s, level in seen if at_s > begins_s - FRAME_S)
            assert 0 < first < 0.2

    def test_what_the_table_says(self, tmp_path):
        says = [*hellos(10), (3.2, not_ready(2, Reason.MOTION)), (4.2, ranking(3)), (7.2, ranking(6, order=[3, 1, 0]))]
        lab = played(tmp_path, imagining("n01"), says=says)
        rows = [list(row.values())[1:] for row in lab.table("shown")]
        assert rows[0] == ["2", "not ready: motion", *["n/a"] * 4]
        first = ", ".join(f"thing {n}" for n in range(10))
        assert rows[1] == ["3", "thermometer", "thing_1", f"{10 / 11:.6f}", "1.00", first]
        # That of 7.2 came in a pause, and was first seen with the feedback at 7.5.
        assert rows[2] == ["6", "thermometer", "thing_1", "0.500000", "1.00", "thing 3, thing 1, thing 0"]
        assert float(lab.table("shown")[2]["run_s"]) == pytest.approx(6.5, abs=FRAME_S)

    def test_what_looks_the_same_is_told_as_well(self, tmp_path):
        says = [
            *hellos(10),
            (4.2, not_ready(3, Reason.MOTION)),
            (4.6, not_ready(4, Reason.LOST_VOLUME)),
            (4.8, not_ready(5)),
        ]
        lab = played(tmp_path, imagining("n01"), says=says)
        assert [row["index"] for row in lab.table("shown")] == ["3", "4", "5"]
        assert [float(row["run_s"]) for row in lab.table("shown")] == pytest.approx([3.2, 3.6, 3.8], abs=2 * FRAME_S)

    def test_an_answer_about_another_block_is_not_shown(self, tmp_path):
        says = [*hellos(17), (4.2, ranking(3, block=1)), (9.8, ranking(9, block=0))]
        lab = played(tmp_path, imagining("n01", "n02"), says=says)
        assert not any(has_result(scene) for at_s, scene in lab.stage.drawn if 1.1 < at_s < 17)
        assert lab.table("shown") == []
        assert not any(kind == "shown" for kind, *_ in lab.server.reports)

    def test_a_trials_ranking_stays_when_a_volume_after_it_has_none(self, tmp_path):
        says = [*hellos(17), (4.2, ranking(3)), (4.7, not_ready(4, Reason.MOTION)), (7.6, not_ready(6))]
        lab = played(tmp_path, imagining("n01", "n02"), says=says)
        assert [row["index"] for row in lab.table("shown")] == ["3"]
        for at_s in (4.9, 7.9, 8.9):
            assert lab.stage.scene_at(at_s).thermometer.level == pytest.approx(10 / 11)
        assert not has_result(lab.stage.scene_at(11.4))

    def test_an_answer_that_the_server_repeats_is_told_once(self, tmp_path):
        says = [*hellos(10), (4.2, ranking(3)), (4.7, ranking(3)), (4.9, ranking(3))]
        lab = played(tmp_path, imagining("n01"), says=says)
        assert [row["index"] for row in lab.table("shown")] == ["3"]

    def test_sham_feedback_shows_another_answer_and_another_target(self, tmp_path):
        sham = Sham()
        lab = played(tmp_path, imagining("n01"), says=[*hellos(10), (4.2, ranking(3))], instead=sham)
        assert sham.given == [(3, 1)]  # once, and not at each frame
        (row,) = lab.table("shown")
        assert (row["target"], row["percentile"]) == ("thing_2", f"{2 / 11:.6f}")
        assert row["first"].startswith("thing 11, thing 10")
        assert lab.stage.scene_at(5.9).thermometer.level == pytest.approx(2 / 11)

    def test_the_target_is_that_of_the_block_which_the_ranking_is_about(self, tmp_path):
        sham = Sham()
        says = [*hellos(17), (4.2, ranking(3)), (9.7, ranking(9)), (10.7, ranking(10, block=1)), (11.0, ranking(11, 7))]
        played(tmp_path, imagining("n01", "n02"), says=says, instead=sham)
        assert sham.given == [(3, 1), (9, 1), (10, 2), (11, None)]

    def test_a_sliding_window_is_about_the_step_that_is_on(self, tmp_path):
        sham = Sham()
        says = [*hellos(17), (4.2, ranking(3, None)), (10.7, ranking(9, None))]
        played(tmp_path, imagining("n01", "n02"), says=says, instead=sham)
        assert [target for index, target in sham.given if index == 3] == [1, 2]
        assert (9, 2) in sham.given

    def test_what_was_named_just_before_is_the_target_of_an_answer_that_was_there(self, tmp_path):
        run = imagining("", naming=True)  # imagery from 3, naming from 5, feedback from 7.5 s on
        lab = played(tmp_path, run, says=[*hellos(10), (4.5, ranking(3))], keys=[(6.2, "1")])
        assert lab.stage.scene_at(5.5).rows  # without a target, the list
        assert lab.stage.scene_at(9.5).thermometer.label == ENGLISH.target.format("thing 2")
        assert [(row["index"], row["target"]) for row in lab.table("shown")] == [("3", "n/a"), ("3", "thing_2")]

    def test_the_operators_target_has_a_thermometer(self, tmp_path):
        lab = played(tmp_path, imagining(""), says=[*hellos(10), (4.5, ranking(3))], types=[(1.5, "target n04")])
        assert [row["target"] for row in lab.table("shown")] == ["thing_4"]

    def test_sealed_conditions_seal_what_was_shown(self, tmp_path):
        lab = played(tmp_path, imagining("n01"), says=[*hellos(10), (4.2, ranking(3))], sealed=True)
        rows = read_sealed_tables(tmp_path / f"{lab.record.name}_shown.sealed")["shown"]
        assert rows[0] == list(SHOWN_COLUMNS)
        assert [row[1] for row in rows[1:]] == ["3"]
        assert not (tmp_path / f"{lab.record.name}_shown.tsv").exists()

    def test_after_the_block_alone(self, tmp_path):
        after = FeedbackSettings(when=When.AFTER, view=View.LIST)
        lab = played(tmp_path, imagining("n01"), says=[*hellos(10), (4.2, ranking(3))], feedback=after)
        assert not has_result(lab.stage.scene_at(5.9))
        assert lab.stage.scene_at(8.5).rows
        assert float(lab.table("shown")[0]["run_s"]) == pytest.approx(6.5, abs=FRAME_S)


class TestConfidence:
    """What is told where nobody knows how sure the decoder is."""

    def lines(self, folder, probability, **more):
        answers = [(4.0 + n / 4, replace(ranking(3 + n), probability=probability)) for n in range(3)]
        lab = played(folder, imagining("n01"), says=[*hellos(10.0), *answers], **more)
        return [line for line in lab.lines if "confidence is not known" in line]

    def test_it_is_told_once_and_only_where_it_is_unknown(self, tmp_path):
        assert self.lines(tmp_path / "known", (0.2, 0.5, 0.7)) == []
        (line,) = self.lines(tmp_path / "unknown", None)
        assert "nothing is drawn pale" in line

    def test_it_is_about_the_servers_answers_whatever_is_shown(self, tmp_path):
        class Other:
            def shown(self, answer, target):
                return replace(answer, probability=(0.2, 0.5, 0.7)), target

        assert len(self.lines(tmp_path, None, instead=Other(), sealed=True)) == 1


class TestServer:
    RUN = schedule(("rest", 1.0), ("imagery", 12.0, 1, "n01"), ("rest", 1.0))

    def test_gone_and_back(self, tmp_path):
        says = [*hellos(3), (3.0, ranking(1)), *hellos(20, since_s=11.0), (11.0, ranking(1))]
        lab = played(tmp_path, self.RUN, says=says)
        assert has_result(lab.stage.scene_at(7.9))
        assert lab.stage.scene_at(8.2) == Scene()
        assert has_result(lab.stage.scene_at(11.5))
        heard = [(round(at_s), line) for at_s, line in lab.told if "heard" in line]
        assert heard == [
            (8, "the server was not heard for 5 s; the run goes on without feedback"),
            (11, "the server is heard again"),
        ]
        assert [row["index"] for row in lab.table("shown")] == ["1"]

    def test_what_cannot_be_understood_is_told_once_each(self, tmp_path):
        garbage = [(1.5 + n / 10, WireError(f"kind {n % 2} is unknown")) for n in range(40)]
        lab = played(tmp_path, self.RUN, says=[*hellos(15), *garbage])
        assert [line for line in lab.lines if "unknown" in line] == [
            "the run goes on without the server: kind 0 is unknown",
            "the run goes on without the server: kind 1 is unknown",
        ]

    def test_a_scanner_that_stops_before_the_schedule_ends_is_told_once(self, tmp_path):
        says = [*hellos(15), *[(0.5 + n, run_header(10)) for n in range(3)]]
        lab = played(tmp_path, self.RUN, says=says)
        told = [line for line in lab.lines if "10 volumes" in line]
        assert told == ["the scanner's run has 10 volumes and the schedule needs 14: its end will not be recorded"]
        enough = played(tmp_path, replace(self.RUN, name="b"), says=[*hellos(15), (0.5, run_header(14))])
        assert not any("volumes and" in line for line in enough.lines)

    def test_the_run_before_is_another_matter(self, tmp_path):
        # Whoever connects is told the last run and its last answer again.
        before = [(0.1, run_header(9, "run-0")), (0.1, ranking(8, run_id="run-0")), (9.0, RunEnd("run-0", 9))]
        says = [*hellos(25), *before, (11.0, run_header(14)), (11.0, ranking(3))]
        lab = played(tmp_path, self.RUN, says=says, trigger=pulses(7.0, 21.0))
        assert not any("volumes and" in line for line in lab.lines)
        assert not has_result(lab.stage.scene_at(10.9))
        assert has_result(lab.stage.scene_at(11.5))
        assert [run_id for kind, _, run_id, _ in lab.server.reports] == ["", "", "", "run-1", "run-1", "run-1"]

    def test_a_trigger_that_comes_late_is_told(self, tmp_path):
        says = [*hellos(15), *[(0.1 + n / 4, ranking(n)) for n in range(50)]]
        lab = played(tmp_path, self.RUN, says=says)
        assert sum("had 4 volumes before the trigger came here" in line for line in lab.lines) == 1
        assert len(lab.table("shown")) > 30

    def test_its_end_long_before_the_schedules_stops_the_run(self, tmp_path):
        says = [*hellos(15), (1.5, run_header()), (2.5, ranking(0)), (5.0, RunEnd("run-1", 4))]
        lab = played(tmp_path, self.RUN, says=says, outcome=Outcome.NO_MORE_VOLUMES)
        assert "the server's run ended 10 s before the schedule; it stops here" in lab.lines
        assert [line["value"] for line in lab.log("stopped")] == ["no more volumes"]
        assert cells(lab, "event_type") == ["rest", "imagery"]
        assert float(cells(lab, "duration")[1]) == pytest.approx(3.0, abs=2 * FRAME_S)
        assert lab.stage.drawn[-1][1].title == ENGLISH.stopped

    def test_its_end_with_the_schedules_does_not(self, tmp_path):
        says = [*hellos(15), (1.5, run_header()), (2.5, ranking(0)), (13.5, RunEnd("run-1", 13))]
        played(tmp_path, self.RUN, says=says)

    OTHER = Hello("0.1.0", "another", 12, 400)

    def test_another_bundle_is_refused_before_the_run(self, tmp_path):
        lab = laboratory(tmp_path, self.RUN, says=[(0.5, self.OTHER)])
        with pytest.raises(InputError, match="bundle another, and --bundle is 3f2a9c1e0b7d"):
            lab.run()

    def test_another_bundle_during_the_run_is_told_and_nothing_of_it_is_shown(self, tmp_path):
        says = [(0.5, HELLO), (2.5, ranking(1)), *[(5.0 + n, self.OTHER) for n in range(4)], (6.5, ranking(5)),
                *hellos(15, since_s=9.0), (10.0, ranking(9))]  # fmt: skip
        lab = played(tmp_path, self.RUN, says=says)
        assert sum("No feedback is shown" in line for line in lab.lines) == 1
        assert not has_result(lab.stage.scene_at(5.5))
        assert [row["index"] for row in lab.table("shown")] == ["1", "9"]

    def test_what_is_reported(self, tmp_path):
        says = [*hellos(9), (0.5, run_header(9)), (1.8, ranking(0, None))]
        lab = played(tmp_path, imagining("n01"), says=says, keys=[(6.5, "1")])
        assert [(kind, value) for kind, _, _, value in lab.server.reports] == [
            ("started", "sub-01_run-01"), ("rest", ""), ("cue", "n01"), ("imagery", "n01"), ("shown", "0"),
            ("evaluation", "n01"), ("button", "1"), ("rating", "3"), ("inter_rest", "n01"), ("feedback", "n01"),
            ("inter_rest", "n01"), ("rest", ""), ("ended", "complete"),
        ]  # fmt: skip
        times = [at_s for _, at_s, _, _ in lab.server.reports]
        assert times == sorted(times)


class TestEnds:
    def events(self, lab):
        return [(row["event_type"], float(row["onset"]), float(row["duration"])) for row in lab.table("events")]

    @pytest.mark.parametrize("how", ["escape", "sigterm", "typed"])
    def test_stopped(self, tmp_path, how):
        run = seeing(5)
        keys = [(4.5, "escape")] if how == "escape" else []
        types = [(4.5, "stop")] if how == "typed" else []
        stopped_at_s = 4.5 if how == "sigterm" else math.inf
        lab = played(
            tmp_path, run, keys=keys, types=types, stopped_at_s=stopped_at_s, outcome=Outcome.STOPPED,
            paradigm=Paradigm.TRAINING,
        )  # fmt: skip
        kinds, onsets_s, durations_s = zip(*self.events(lab), strict=True)
        assert kinds == ("rest", "stimulus", "stimulus")
        assert onsets_s == pytest.approx((0, 2, 3), abs=2 * FRAME_S)
        assert durations_s == pytest.approx((2, 1, 0.5), abs=2 * FRAME_S)
        assert [line["value"] for line in lab.log("stopped")] == ["stopped"]
        assert lab.stage.drawn[-1][1].title == ENGLISH.stopped

    def test_an_exception_while_drawing(self, tmp_path):
        run = seeing(5)
        lab = laboratory(tmp_path, run)
        lab.stage.fails_at_s = 4.5
        with pytest.raises(RuntimeError, match="graphics card"):
            lab.run()
        assert [kind for kind, *_ in self.events(lab)] == ["rest", "stimulus", "stimulus"]
        assert [line["value"] for line in lab.log("failed")] == ["RuntimeError: the graphics card is gone"]
        # It can be gone on with.
        again = laboratory(tmp_path, run, stage=Stage(at_s=5.2, origin_s=7.0))
        assert again.run() is Outcome.COMPLETE
        assert again.record.name == lab.record.name
        assert [int(line["step"]) for line in again.log("onset")] == list(range(7))

    def test_before_the_trigger(self, tmp_path):
        lab = played(tmp_path, seeing(), keys=[(0.5, "escape")], outcome=Outcome.STOPPED)
        assert not (tmp_path / f"{lab.record.name}_events.tsv").exists()
        again = played(tmp_path, seeing())
        assert again.record.name == lab.record.name  # nothing had happened under it
        assert len(again.table("events")) == 5

    def test_the_events_are_written_before_the_last_picture(self, tmp_path):
        lab = laboratory(tmp_path, seeing())
        usual = lab.stage.draw

        def draw(scene, due_s):
            if scene.title == ENGLISH.end:
                assert len(lab.table("events")) == 5
                raise SystemExit
            return usual(scene, due_s)

        lab.stage.draw = draw
        with pytest.raises(SystemExit):
            lab.run()

    def test_the_table_of_events(self, tmp_path):
        run = seeing(4)
        lab = played(tmp_path, run, keys=[(5.4, "1")], paradigm=Paradigm.TRAINING)
        path = tmp_path / f"{lab.record.name}_events.tsv"
        trials = read_trials(path)
        assert [(trial.category, trial.stimulus, trial.repeat) for trial in trials] == [
            ("n00", "n00_1", False), ("n01", "n01_1", False), ("n01", "n01_1", True), ("n02", "n02_1", False)
        ]  # fmt: skip
        for trial, step in zip(trials, run.trials, strict=True):
            assert trial.onset_s == pytest.approx(step.onset_s, abs=FRAME_S / 2 + 1e-5)
            assert trial.duration_s == pytest.approx(step.duration_s, abs=FRAME_S + 1e-5)
        rows = lab.table("events")
        assert [float(row["planned_onset"]) for row in rows] == [step.onset_s for step in run.steps]
        described = json.loads(path.with_suffix(".json").read_text())
        assert set(described) == set(rows[0])
        assert all(about for about in described.values())

    def test_each_line_of_the_log_has_every_clock(self, tmp_path):
        lab = played(tmp_path, seeing(1), says=hellos(5))
        for line in lab.log("onset", "started", "ended"):
            assert float(line["utc_s"]) == pytest.approx(float(line["run_s"]) + 1_750_000_001, abs=2e-6)
            assert float(line["clock_s"]) == pytest.approx(float(line["run_s"]) + 101, abs=2e-6)
            assert (line["server_offset_s"], line["server_offset_error_s"]) == ("7.000000", "0.000500")


class TestRejoining:
    RUN = imagining("n01", "", "n02", naming=True)  # trials from 2, 9.5 and 17 s on, of 7.5 s; 25.5 s in all
    #: Rated, named, rated.
    KEYS = ((7.3, "1"), (13.8, "2"), (15.0, "1"), (15.3, "2"))

    def interrupted(self, folder, n_frames, away_s, **more):
        keys = [*pulses(START_S, START_S + self.RUN.duration_s), *self.KEYS]
        first = Laboratory(folder, self.RUN, Stage(keys=keys), **more)
        first.dropped_after(n_frames)
        back_s = first.stage.at_s + away_s
        second = Laboratory(folder, self.RUN, Stage(keys=keys, at_s=back_s, origin_s=-3000.0, phase_s=0.003), **more)
        return first, second, back_s

    @settings(max_examples=25)
    @given(n_frames=st.integers(70, 1580), away_s=st.floats(0.0, 12.0))
    def test_at_any_moment(self, tmp_path_factory, n_frames, away_s):
        first, second, back_s = self.interrupted(tmp_path_factory.mktemp("run"), n_frames, away_s)
        gone_s, end_s = first.stage.at_s, START_S + self.RUN.duration_s
        if back_s >= end_s:
            assert second.record.name == f"{self.RUN.name}~2"
            second.record.close()
            return
        assert second.run() is Outcome.COMPLETE
        assert second.record.name == self.RUN.name
        rows = second.table("events")
        planned = [float(row["planned_onset"]) for row in rows]
        assert planned == sorted(set(planned))
        for step in self.RUN.steps:
            begins_s, ends_s = START_S + step.onset_s, START_S + step.end_s
            row = rows[planned.index(step.onset_s)] if step.onset_s in planned else None
            # Time enough for a frame, either way.
            if begins_s < gone_s - 0.05:
                assert float(row["onset"]) == pytest.approx(step.onset_s, abs=2 * FRAME_S)
            elif begins_s > back_s + 0.05:
                assert float(row["onset"]) == pytest.approx(step.onset_s, abs=FRAME_S)
            elif gone_s + 0.05 < begins_s and ends_s < back_s - 0.05:
                assert row is None
            elif gone_s + 0.05 < begins_s and back_s + 0.05 < ends_s:
                assert float(row["onset"]) == pytest.approx(back_s - START_S, abs=4 * FRAME_S)
            if row is not None:
                assert float(row["onset"]) + float(row["duration"]) == pytest.approx(step.end_s, abs=3 * FRAME_S)
        self.check_answers(rows, gone_s, back_s)

    def check_answers(self, rows, gone_s, back_s):
        """Whatever was pressed while there was a display counts; the marker stands where it was."""
        if any(abs(key_s - edge_s) < 0.2 for key_s, _ in self.KEYS for edge_s in (gone_s, back_s)):
            return
        heard = [not gone_s < key_s < back_s for key_s, _ in self.KEYS]
        by_trial = {row["trial_no"]: row for row in rows}
        if "1" in by_trial:
            assert by_trial["1"]["evaluation"] == ("3" if heard[0] else "n/a")
        if "2" in by_trial:
            assert by_trial["2"]["category_name"] == ("n02" if heard[1] else "n/a")
            n_heard = heard[2] + heard[3]
            assert by_trial["2"]["evaluation"] == {0: "n/a", 1: "3", 2: "4"}[n_heard]

    def test_the_right_second_is_told_and_shown(self, tmp_path):
        _, second, back_s = self.interrupted(tmp_path, 400, 2.0)
        second.run()
        (line,) = second.log("rejoined")
        assert float(line["run_s"]) == pytest.approx(back_s - START_S)
        assert f"goes on at {back_s - START_S:.1f} s of the run" in second.lines[0]

    def test_a_rating_that_was_given_is_still_marked(self, tmp_path):
        _, second, back_s = self.interrupted(tmp_path, 904, 0.1)  # rated at 15.0 and 15.3, until 15.5
        assert 15.0 < back_s < 15.3
        second.run()
        assert second.stage.scene_at(15.25).choice.chosen == 2
        assert second.stage.scene_at(15.45).choice.chosen == 3

    def test_a_step_that_goes_on_is_not_reported_again_and_sounds_no_tone(self, tmp_path):
        says = hellos(30)
        after = FeedbackSettings(when=When.AFTER)
        first, second, back_s = self.interrupted(tmp_path, 270, 0.5, says=says, feedback=after)
        assert 4.5 < back_s < 5.5  # imagery until 6
        second.run()
        assert [value for kind, _, _, value in first.server.reports if kind == "imagery"] == ["n01"]
        assert [value for kind, _, _, value in second.server.reports if kind == "imagery"] == ["", "n02"]
        assert [tone for _, tone in second.stage.tones][:2] == [Tone.END, Tone.BEGIN]

    def test_eyes_that_are_closed_are_opened_again(self, tmp_path):
        after = FeedbackSettings(when=When.AFTER)
        _, second, _ = self.interrupted(tmp_path, 300, 1.3, feedback=after)  # gone in imagery, back while naming
        second.run()
        assert second.stage.tones[0][1] is Tone.END

    def test_the_run_that_the_server_is_in_is_the_one(self, tmp_path):
        says = [*hellos(30), *[(2.1 + n, ranking(n, None)) for n in range(20)]]
        _, second, back_s = self.interrupted(tmp_path, 300, 1.0, says=says)
        second.run()
        assert int(second.table("shown")[-1]["index"]) > back_s
        assert not any("before the trigger" in line for line in second.lines)

    def test_what_the_operator_wanted_is_remembered(self, tmp_path):
        run = imagining("n01", "")
        keys = pulses(START_S, START_S + run.duration_s)
        first = Laboratory(tmp_path, run, Stage(keys=keys), types=[(2.0, "target n04")])
        first.dropped_after(300)
        second = Laboratory(tmp_path, run, Stage(keys=keys, at_s=first.stage.at_s))
        second.run()
        assert cells(second, "category_name", "imagery") == ["n01", "n04"]

    def test_a_run_that_must_be_over_is_closed(self, tmp_path):
        _, second, _ = self.interrupted(tmp_path, 400, 30.0)
        second.record.close()
        assert second.record.name == f"{self.RUN.name}~2"
        rows = read(tmp_path / f"{self.RUN.name}_events.tsv")
        assert [row["event_type"] for row in rows] == ["rest", "cue", "imagery", "naming"]
        assert float(rows[-1]["onset"]) + float(rows[-1]["duration"]) == 6.0


def test_candidates_may_be_missing_where_nothing_is_fed_back(tmp_path):
    lab = played(tmp_path, seeing(), says=[*hellos(6), (2.5, ranking(0))], candidates=replace(CANDIDATES, bundle_id=""))
    assert lab.table("shown") == []


class TestDisksAndClocks:
    def test_a_run_goes_on_when_its_folder_is_gone_and_writes_everything_when_it_is_back(self, tmp_path):
        run, out = imagining("n01", "n02"), tmp_path / "out"
        lab = laboratory(out, run)
        draw = lab.stage.draw

        def drawn(scene, due_s):
            if 4.0 < lab.stage.at_s < 6.0 and out.is_dir():
                shutil.rmtree(out)
                out.write_text("a file in its place")
            if lab.stage.at_s > 9.0 and out.is_file():
                out.unlink()
            return draw(scene, due_s)

        lab.stage.draw = drawn
        assert lab.run() is Outcome.COMPLETE
        told = [line for line in lab.lines if "_log.tsv" in line or "_flips.tsv" in line]
        assert [("cannot be written" in line, "is written again" in line) for line in told] == [
            (True, False), (True, False), (False, True), (False, True),
        ]  # fmt: skip
        errors_s(lab, run)  # each step is in the log
        assert len(lab.table("events")) == len(run.steps)
        assert len(lab.table("flips")) == len(lab.stage.drawn)
        assert len(lab.log("warning")) == 4

    def test_what_finds_no_place_in_the_end_is_put_elsewhere(self, tmp_path, monkeypatch):
        elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
        elsewhere.mkdir()
        monkeypatch.setattr(tempfile, "gettempdir", lambda: str(elsewhere))
        lab = laboratory(out, imagining("n01"))
        lab.dropped_after(200)
        shutil.rmtree(out)
        out.write_text("a file in its place")
        lab = laboratory(tmp_path / "again", imagining("n01"))
        play = lab.stage.draw

        def drawn(scene, due_s):
            if lab.stage.at_s > 4.0 and (tmp_path / "again").is_dir():
                shutil.rmtree(tmp_path / "again")
                (tmp_path / "again").write_text("a file in its place")
            return play(scene, due_s)

        lab.stage.draw = drawn
        assert lab.run() is Outcome.COMPLETE
        for what in ("log", "flips", "events"):
            (copy,) = elsewhere.glob(f"*/*_{what}.tsv")
            assert any(str(copy) in line for line in lab.lines)
        (log,) = elsewhere.glob("*/*_log.tsv")
        assert {"plan", "started", "onset", "ended"} <= {row["kind"] for row in read(log)}

    @pytest.mark.parametrize("set_by_s", [3600.0, -86400.0, 0.3])
    def test_a_wall_clock_that_is_set_does_not_move_a_run_that_is_gone_on_with(self, tmp_path, set_by_s):
        run = imagining("n01", "n02")
        keys = pulses(START_S, START_S + run.duration_s)
        stage = Stage(keys=keys)
        stage.boot = "b0"
        first = Laboratory(tmp_path, run, stage)
        first.dropped_after(400)
        stage = Stage(keys=keys, at_s=first.stage.at_s + 1.5, origin_s=-3000.0)
        stage.boot, stage.wall_set_by_s = "b0", set_by_s
        second = Laboratory(tmp_path, run, stage)
        assert second.record.name == run.name
        assert second.run() is Outcome.COMPLETE
        assert float(second.log("rejoined")[0]["run_s"]) == pytest.approx(first.stage.at_s + 1.5 - START_S)
        assert sum("wall clock was set by" in line for line in second.lines) == (abs(set_by_s) > 0.5)

    def test_after_a_restart_of_the_machine_the_wall_clock_counts_and_that_is_said(self, tmp_path):
        run = imagining("n01", "n02")
        for boot, at_s in (("b0", 0.0), ("b1", 8.0)):
            stage = Stage(keys=pulses(START_S, START_S + run.duration_s), at_s=at_s)
            stage.boot = boot
            lab = Laboratory(tmp_path, run, stage)
            if boot == "b0":
                lab.dropped_after(300)
        lab.run()
        assert float(lab.log("rejoined")[0]["run_s"]) == pytest.approx(8.0 - START_S)
        assert any("by the wall clock" in line and "started again" in line for line in lab.lines)


class TestSealed:
    SAYS = (*hellos(20), (0.5, run_header()), (4.2, ranking(3)), (10.7, ranking(9, block=1, order=[2, 1, 0])))

    def played(self, folder, **more):
        return played(
            folder, imagining("n01", "n02"), says=self.SAYS, sealed=True, commitment="0123456789abcdef", **more
        )

    def test_the_server_is_told_of_the_commitment_and_of_its_own_answers(self, tmp_path):
        class Nothing:
            def shown(self, answer, target):
                return NotReady(answer.run_id, answer.index, Reason.BETWEEN_TRIALS), target

        for name, more in (("real", {}), ("none", {"instead": Nothing()})):
            reports = self.played(tmp_path / name, **more).server.reports
            told = [(kind, run_id, value) for kind, _, run_id, value in reports if kind in ("commitment", "shown")]
            assert told == [
                ("commitment", "run-1", "0123456789abcdef"), ("shown", "run-1", "3"), ("shown", "run-1", "9"),
            ]  # fmt: skip
            at_s = [at_s for kind, at_s, _, _ in reports if kind == "shown"]
            assert at_s == pytest.approx([4.25, 10.75])
            for kind, at_s, _, _ in reports:
                if kind in {str(kind) for kind in StepKind}:
                    assert (at_s - START_S) % 0.5 == pytest.approx(0.0, abs=1e-6)

    def test_how_late_steps_were_is_told_at_the_end_but_of_a_sealed_run(self, tmp_path):
        open_run = played(tmp_path / "open", imagining("n01"), says=self.SAYS)
        (line,) = (line for line in open_run.lines if "complete" in line)
        assert "their timing error 0.0 ms at worst" in line, "the triggers'"
        assert "steps on the screen: 8 of 8, off by " in line
        worst_ms = 1e3 * max(map(abs, errors_s(open_run, imagining("n01"))))
        assert f"off by {worst_ms:.1f} ms at worst" in line
        assert not any("steps on the screen" in line for line in self.played(tmp_path / "sealed").lines)

    def test_what_was_on_the_screen_and_when_is_known_afterwards(self, tmp_path):
        stage = Stage(phase_s=0.004, keys=pulses(START_S, 17.0))
        lab = self.played(tmp_path, stage=stage)
        tables = read_sealed_tables(tmp_path / f"{lab.record.name}_shown.sealed")
        _, *flips = tables["flips"]
        assert [float(row[0]) for row in flips] == pytest.approx(
            [at_s + 100.0 for at_s, _ in lab.stage.drawn], abs=1e-5
        )
        assert [row[1] for row in tables["shown"][1:]] == ["3", "9"]
        onsets = [(float(planned), float(onset)) for planned, onset in tables["onsets"][1:]]
        assert len(onsets) == len(lab.schedule.steps)
        late_s = [onset - planned for planned, onset in onsets][1:]
        assert max(map(abs, late_s)) < FRAME_S
        assert any(late_s)
        assert [row["onset"] for row in lab.table("events")] == [row["planned_onset"] for row in lab.table("events")]
        assert {row["changed"] for row in lab.table("flips")} == {"step"}

    def test_a_display_that_is_started_again_reports_the_commitment_again(self, tmp_path):
        keys = pulses(START_S, 17.0)
        more = {"says": self.SAYS, "sealed": True, "commitment": "c"}
        first = Laboratory(tmp_path, imagining("n01", "n02"), Stage(keys=keys), **more)
        first.dropped_after(300)
        second = Laboratory(tmp_path, imagining("n01", "n02"), Stage(keys=keys, at_s=first.stage.at_s + 1.0), **more)
        second.run()
        assert [kind for kind, *_ in second.server.reports].count("commitment") == 1

    def test_a_server_that_ranks_strangers_is_told_of_in_every_condition_and_ends_nothing(self, tmp_path):
        says = [*hellos(20), (4.2, ranking(3, order=range(40)))]
        for sealed in (False, True):
            lab = played(tmp_path / str(sealed), imagining("n01"), says=says, sealed=sealed)
            assert sum("ranks candidates that are not among the 12" in line for line in lab.lines) == 1
            assert not any(kind == "shown" for kind, *_ in lab.server.reports)
