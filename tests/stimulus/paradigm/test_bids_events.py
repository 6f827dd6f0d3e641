"""Schedules in files: what is written is read, by the display and by the server alike; what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.events.table import blocks_of, read_trials
from stimulus.paradigm.bids_events import PLAN_COLUMNS, RESULT_COLUMNS, read_schedule, seconds, write_events, write_plan
from stimulus.paradigm.schedule import (
    Image,
    Step,
    StepKind,
    deal,
    feedback_run,
    from_steps,
    imagery_run,
    perception_run,
)
from stimulus.paradigm.timing_settings import ProtocolSettings

HEAD = "onset\tduration\tevent_type\tcategory_name\tstimulus_name\n"
IDS = [f"n{number:08d}" for number in range(30)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all examples of a test."""
    return tmp_path_factory.mktemp("plans")


@pytest.fixture
def write(tmp_path):
    def write_text(text: str, name: str = "run-1_events.tsv") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_text


def whole_s(places):
    """Durations that a table can hold to the last digit."""
    return st.integers(1, 40 * places).map(lambda n: n / places)


def settings_of(times):
    parts = ("rest_s", "end_s", "block_s", "cue_s", "imagery_s", "rating_s", "pause_s", "feedback_s", "naming_s")
    return st.builds(ProtocolSettings, tr_s=st.just(3.0), **dict.fromkeys(parts, times))


@st.composite
def runs(draw, times):
    settings, rng = draw(settings_of(times)), np.random.default_rng(draw(st.integers(0, 99)))
    paradigm = draw(st.sampled_from(("perception", "imagery", "feedback")))
    n_trials = draw(st.integers(5, 12))
    if paradigm == "perception":
        return perception_run("run-1", [Image(f"{c}_1", c) for c in IDS[:n_trials]], settings, rng)
    (categories,) = deal(IDS, 1, n_trials, rng)
    return (imagery_run if paradigm == "imagery" else feedback_run)("run-1", categories, settings)


class TestWhatIsWritten:
    @given(runs(whole_s(8)))
    def test_reads_back_equal(self, folder, schedule):
        write_plan(folder / "run-1_events.tsv", schedule)
        assert read_schedule(folder / "run-1_events.tsv", 3.0) == schedule

    @given(runs(st.floats(0.05, 40)))
    def test_times_are_kept_to_the_microsecond(self, folder, schedule):
        path = folder / "run-1_events.tsv"
        write_plan(path, schedule)
        again = read_schedule(path, 3.0)
        assert [s.onset_s for s in again.steps] == pytest.approx([s.onset_s for s in schedule.steps], abs=1e-6)
        assert [s.duration_s for s in again.steps] == pytest.approx([s.duration_s for s in schedule.steps], abs=1e-6)
        write_plan(path, again)
        assert read_schedule(path, 3.0) == again

    @given(runs(whole_s(8)))
    def test_the_server_counts_the_same_blocks(self, folder, schedule):
        write_plan(folder / "run-1_events.tsv", schedule)
        trials = read_trials(folder / "run-1_events.tsv")
        assert [(t.onset_s, t.duration_s, t.category) for t in trials] == [
            (t.onset_s, t.duration_s, t.category) for t in schedule.trials
        ]
        assert [t.kind for t in trials] == [t.kind for t in schedule.trials]
        assert [t.stimulus or "" for t in trials] == [t.stimulus for t in schedule.trials]
        assert len(blocks_of(trials)) == len(schedule.trials)

    def test_one_back_targets_are_those_that_rtgod_finds(self, folder):
        images = [Image(f"{c}_1", c) for c in IDS[:20]]
        schedule = perception_run("run-1", images, ProtocolSettings(), np.random.default_rng(0))
        write_plan(folder / "run-1_events.tsv", schedule)
        assert sum(trial.repeat for trial in read_trials(folder / "run-1_events.tsv")) == 5

    def test_a_free_trial_is_read_back_without_a_category(self, folder):
        schedule = feedback_run("run-1", ["n1", ""], ProtocolSettings())
        write_plan(folder / "run-1_events.tsv", schedule)
        assert read_schedule(folder / "run-1_events.tsv", 3.0) == schedule

    def test_every_column_is_explained_and_every_event(self, folder):
        for columns in (PLAN_COLUMNS, RESULT_COLUMNS):
            write_events(folder / "run-1_events.tsv", columns, [{"onset": "0"}])
            header, row = (folder / "run-1_events.tsv").read_text().splitlines()
            assert row.split("\t") == ["0", *["n/a"] * (len(columns) - 1)]
            described = json.loads((folder / "run-1_events.json").read_text())
            assert list(described) == header.split("\t") == list(columns)
        assert set(described["event_type"]["Levels"]) == set(StepKind)

    def test_a_name_with_tabs_and_line_ends_moves_no_column(self, folder):
        schedule = from_steps("run-1", 3.0, [Step(0.0, 3.0, StepKind.CUE, category="great\tgrey\r\nowl")])
        write_plan(folder / "run-1_events.tsv", schedule)
        assert read_schedule(folder / "run-1_events.tsv", 3.0).steps[0].category == "great grey owl"

    @given(st.floats(-1e6, 1e6))
    def test_seconds_are_short_and_exact_to_a_microsecond(self, value):
        assert float(seconds(value)) == pytest.approx(value, abs=5.1e-7)
        assert seconds(value) != "-0"
        assert not ("." in seconds(value) and seconds(value).endswith("0"))


class TestRealTables:
    def test_every_table_is_played_as_the_server_decodes_it(self, shared_data):
        tables = sorted(shared_data.rglob("*events.tsv"))
        if not tables:
            pytest.skip(f"no events table in {shared_data}")
        for path in tables:
            schedule, trials = read_schedule(path, 3.0), read_trials(path)
            assert [(s.onset_s, s.duration_s, s.category) for s in schedule.trials] == [
                (t.onset_s, t.duration_s, t.category) for t in trials
            ], path
            assert [schedule.block_of(step) for step in schedule.trials] == list(range(len(trials)))

    def test_the_public_data_sets_runs_have_the_published_length(self, shared_data):
        tables = sorted((shared_data / "ds001246").rglob("*events.tsv"))
        if not tables:
            pytest.skip(f"no ds001246 in {shared_data}")
        for path in tables:
            assert read_schedule(path, 3.0).n_volumes == (213 if "imagery" in path.name else 178)


class TestTables:
    def test_plain_bids(self, write):
        table = (
            "onset\tduration\ttrial_type\tstim_file\n"
            "6\t3\tface\timages/face_1.png\n3\t3\tRest\tn/a\n9\t3\tn/a\tn/a\n12\t3\thouse\thouse/1.png\n15\t1\ttone\tn/a\n18\t3\tFixation\tn/a\n"
        )
        path = write(table)
        schedule = read_schedule(path, 2.0)
        assert (schedule.name, schedule.tr_s, schedule.duration_s) == ("run-1", 2.0, 21)
        assert " ".join(step.kind for step in schedule.steps) == "rest rest stimulus rest stimulus rest rest rest"
        assert [(t.category, t.stimulus) for t in schedule.trials] == [
            ("face", "images/face_1.png"),
            ("house", "house/1.png"),
        ]
        assert [t.onset_s for t in read_trials(path)] == [6, 12]

    def test_an_images_category_is_in_its_name(self, write):
        schedule = read_schedule(write("onset\tduration\tevent_type\tstimulus_name\n0\t9\tstimulus\tn0123_45\n"), 3.0)
        assert schedule.steps == (Step(0.0, 9.0, StepKind.STIMULUS, 1, "n0123", "n0123_45"),)

    def test_numbers_of_trials_are_our_own(self, write):
        head = "onset\tduration\ttrial_no\tevent_type\tcategory_name\n"
        schedule = read_schedule(write(f"{head}0\t3\t1\trest\tn/a\n3\t3\t2\tcue\tn1\n6\t9\t2\timagery\tn1\n"), 3.0)
        assert [step.trial for step in schedule.steps] == [0, 1, 1]

    def test_a_table_with_both_layouts_is_read_as_the_server_reads_it(self, write):
        table = (
            "onset\tduration\tevent_type\ttrial_type\tcategory_name\n0\t3\trest\tface\tn/a\n3\t3\timagery\tface\tn1\n"
        )
        path = write(table)
        assert [(t.onset_s, t.category) for t in read_trials(path)] == [(3, "n1")]
        assert [(s.onset_s, s.category) for s in read_schedule(path, 3.0).trials] == [(3, "n1")]

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "empty"),
            ("duration\tevent_type\n", "line 1: no column 'onset'"),
            ("onset\tevent_type\n", "line 1: no column 'duration'"),
            ("onset\tduration\n0\t3\n", "line 1: no column says what happens"),
            ("onset\tduration\tevent_type\n0\t3\trest\n", "line 1: no column says what happens"),
            (HEAD, "nothing happens in it"),
            (
                f"{HEAD}0\t3\trest\n3\t3\tdancing\n",
                "line 3, column event_type: 'dancing' is unknown; write one of rest",
            ),
            (f"{HEAD}zero\t3\trest\n", "line 2, column onset: is 'zero'"),
            (f"{HEAD}nan\t3\trest\n", "line 2, column onset: is 'nan'"),
            (f"{HEAD}0\tn/a\trest\n", "line 2, column duration: is 'n/a'"),
            (f"{HEAD}0\t-3\trest\n", "line 2, column duration: is -3 s"),
            (f"{HEAD}0\t3\trest\n3\t0\tstimulus\tn1\tn1_1\n", "line 3, column duration: is 0 s"),
            (f"{HEAD}0\tinf\trest\n", "line 2, column duration: is 'inf'"),
            (f"{HEAD}0\n", "line 2, column duration: is ''"),
            (f"{HEAD}-3\t6\trest\n", "begins at -3 s"),
            (f"{HEAD}0\t9\timagery\tn1\n6\t9\timagery\tn2\n", "imagery at 0 s ends at 9 s.*imagery, begins at 6 s"),
        ],
    )
    def test_what_is_wrong_is_named_once_with_its_place(self, write, text, complaint):
        path = write(text)
        with pytest.raises(InputError, match=f"{path.name}.*{complaint}") as caught:
            read_schedule(path, 3.0)
        assert str(caught.value).count(str(path)) == 1

    @given(st.text(alphabet="onsetduraioevt_pycg\t\n\r0123456789.-\"'é", max_size=200))
    def test_any_text_is_a_schedule_or_refused_by_name(self, folder, text):
        path = folder / "any_events.tsv"
        path.write_text(HEAD + text, encoding="utf-8", newline="")
        try:
            schedule = read_schedule(path, 3.0)
        except InputError as error:
            assert "any_events" in str(error)  # noqa: PT017 # either may happen
        else:
            assert schedule.n_volumes > 0

    def test_no_file_and_no_text(self, tmp_path):
        with pytest.raises(InputError, match=r"none\.tsv: cannot be read"):
            read_schedule(tmp_path / "none.tsv", 3.0)
        (tmp_path / "binary.tsv").write_bytes(b"onset\tduration\n\xff\xfe\n")
        with pytest.raises(InputError, match="line 2: not UTF-8"):
            read_schedule(tmp_path / "binary.tsv", 3.0)

    def test_a_plan_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(InputError):
            write_plan(tmp_path / "file" / "run_events.tsv", feedback_run("run", ["n1"], ProtocolSettings()))


class TestToml:
    def test_steps_follow_each_other(self, write):
        text = """
            tr_s = 2.0
            [[step]]
            kind = "rest"
            duration_s = 12
            [[step]]
            kind = "cue"
            duration_s = 2
            category = "owl"
            [[step]]
            kind = "imagery"
            duration_s = 10.5
            category = "owl"
        """
        schedule = read_schedule(write(text, "mine.toml"), 3.0)
        assert (schedule.name, schedule.tr_s) == ("mine", 2.0)
        assert schedule.steps == (
            Step(0.0, 12.0, StepKind.REST),
            Step(12.0, 2.0, StepKind.CUE, 1, "owl"),
            Step(14.0, 10.5, StepKind.IMAGERY, 1, "owl"),
        )

    def test_it_may_have_a_name_and_leave_the_repetition_time_to_the_settings(self, write):
        path = write('name = "sub-01_task-free_run-01"\nstep = [{kind = "rest", duration_s = 3}]', "mine.toml")
        schedule = read_schedule(path, 3.0)
        assert (schedule.name, schedule.tr_s) == ("sub-01_task-free_run-01", 3.0)

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("step = ]", "not valid TOML.*line 1, column 8"),
            ("", "step: Field required"),
            ("step = []", "nothing happens in it"),
            ('step = [{kind = "dance", duration_s = 3}]', "step.0.kind = 'dance': should be 'rest'"),
            ('step = [{kind = "rest"}]', "step.0.duration_s: Field required"),
            ('step = [{kind = "rest", duration_s = 0}]', "step.0.duration_s = 0: should be greater than 0"),
            ('step = [{kind = "rest", duration_s = nan}]', "step.0.duration_s"),
            (
                'step = [{kind = "rest", duration_s = 3, picture = "x"}]',
                "'picture' in .step.0.; known are kind",
            ),
            ('tr_s = -1\nstep = [{kind = "rest", duration_s = 3}]', "tr_s = -1: should be greater than 0"),
            ('name = "../else"\nstep = [{kind = "rest", duration_s = 3}]', "name = '../else': String should match"),
        ],
    )
    def test_what_is_wrong_is_named(self, write, text, complaint):
        with pytest.raises(InputError, match=f"(?s)mine.toml.*{complaint}"):
            read_schedule(write(text, "mine.toml"), 3.0)


def test_a_schedule_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "run-1.toml"
    path.write_bytes(b'\xef\xbb\xbf[[step]]\r\nkind = "rest"\r\nduration_s = 6\r\n')
    assert read_schedule(path, 3.0).duration_s == 6


def test_answers_and_pauses_of_a_recorded_table_are_shown_as_nothing(tmp_path):
    path = tmp_path / "run-1_events.tsv"
    path.write_text(
        "onset\tduration\ttrial_type\n3\t9\tface\n5.2\t0.1\tbutton_press\n12\t6\tITI\n13\t0\tresponse\n18\t9\ttool\n"
        "27\t6\tblank\n"
    )
    schedule = read_schedule(path, 3.0)
    assert [(s.kind, s.onset_s, s.end_s) for s in schedule.steps] == [
        ("rest", 0, 3), ("stimulus", 3, 12), ("rest", 12, 18), ("stimulus", 18, 27), ("rest", 27, 33),
    ]  # fmt: skip
    assert [t.onset_s for t in read_trials(path)] == [t.onset_s for t in schedule.trials]
