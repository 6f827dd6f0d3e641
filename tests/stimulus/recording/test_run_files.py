"""Files of a run: written line by line, read again after a crash, refused where they are another run's."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.events.table import read_trials
from stimulus.blinding.sealed_tables import read_sealed_tables
from stimulus.paradigm.bids_events import RESULT_COLUMNS
from stimulus.recording.run_files import LOG_COLUMNS, SHOWN_COLUMNS, RunRecord
from stimulus.recording.run_state import Entry, RunState
from tests.stimulus.simulated import imagining, read, seeing

UTC_S = 1_750_000_000.0
RUN = imagining("n01", "", naming=True)  # 2 s of rest, two trials of 7.5 s, 1 s of rest: steps 0, 1 to 7, 8 to 14, 15


def begun(folder, run=RUN, until_place=0, **more):
    """A run of which so many steps were shown, each when it was planned, and that was left then."""
    record = RunRecord(folder, run, UTC_S, **more)
    record.log("started", UTC_S + 1, 11.0, 0.0)
    for place, step in enumerate(run.steps[: until_place + 1]):
        record.log("onset", UTC_S + 1 + step.onset_s, 11.0 + step.onset_s, step.onset_s, place, str(step.kind))
    return record


def log_path(folder, name=RUN.name):
    return folder / f"{name}_log.tsv"


class TestGoingOn:
    def test_a_folder_that_is_new(self, tmp_path):
        with RunRecord(tmp_path / "a" / "b", RUN, UTC_S) as record:
            assert record.name == RUN.name
            assert record.happened == RunState(RUN)
        for what in ("log", "flips", "shown"):
            assert (tmp_path / "a" / "b" / f"{RUN.name}_{what}.tsv").exists()

    @pytest.mark.parametrize("name", ["-rf", ".hidden", "..", "[red]", "CON"])
    def test_its_files_are_safe_to_list_and_to_remove(self, tmp_path, name):
        run = replace(RUN, name=name)
        with begun(tmp_path, run, until_place=3) as record:
            assert record.name == name
        names = [path.name for path in tmp_path.iterdir()]
        assert len(names) == 3
        assert not [name for name in names if name[0] in "-."]
        with RunRecord(tmp_path, run, UTC_S + 2) as record:
            assert record.happened.started_utc_s == UTC_S + 1, "it is gone on with"

    def test_what_happened_is_known_again(self, tmp_path):
        with begun(tmp_path, until_place=12) as record:
            record.log("wanted", UTC_S + 1.5, 11.5, 0.5, value="n07")
            record.log("response", UTC_S + 7, 17.0, 6.2, 4, "1")
            record.log("answer", UTC_S + 7, 17.0, 6.2, 4, "3")
            record.log("answer", UTC_S + 8, 18.0, 6.7, 4, "4")
            record.log("target", UTC_S + 11, 21.0, 9.5, 8, "n07")
            record.log("answer", UTC_S + 14, 24.0, 12.8, 10, "n02")
            record.log("rejoined", UTC_S + 15, 25.0, 13.9)
            record.log("trigger", UTC_S + 16, 26.0)
        with RunRecord(tmp_path, RUN, UTC_S + 16) as again:
            assert again.name == RUN.name
            assert again.happened == record.happened
            assert again.happened.answers == {4: (6.7, "4"), 10: (12.8, "n02")}
            assert again.happened.chosen == {2: "n02"}
            assert again.happened.wanted == "n07"

    def test_a_run_that_ended_has_its_name(self, tmp_path):
        for number, name in enumerate((RUN.name, f"{RUN.name}~2", f"{RUN.name}~3")):
            with begun(tmp_path) as record:
                assert record.name == name
                record.log("ended" if number % 2 else "stopped", UTC_S + 9, 19.0, 8.0)

    def test_another_schedule_may_follow_one_that_ended(self, tmp_path):
        with begun(tmp_path, until_place=15) as record:
            record.log("answer", UTC_S + 9, 19.0, 8.0, 11, "3")
            record.log("ended", UTC_S + 9, 19.0, 8.0)
        with RunRecord(tmp_path, seeing(1, name=RUN.name), UTC_S + 10) as other:
            assert other.name == f"{RUN.name}~2"
            assert other.happened.onsets_s == {}

    def test_a_run_that_never_began_has_no_name_yet(self, tmp_path):
        with RunRecord(tmp_path, RUN, UTC_S) as record:
            record.log("response", UTC_S, 0.0, value="1")
            record.log("stopped", UTC_S, 0.0)
        with begun(tmp_path, seeing(1, name=RUN.name)) as other:
            assert other.name == RUN.name
            assert not other.happened.ended
        with RunRecord(tmp_path, seeing(1, name=RUN.name), UTC_S + 2) as again:
            assert again.happened.started_utc_s == UTC_S + 1

    @pytest.mark.parametrize(("run", "speed"), [(imagining("n02", "", naming=True), 1.0), (RUN, 2.0)])
    def test_another_schedule_or_speed_is_refused_while_one_is_unfinished(self, tmp_path, run, speed):
        begun(tmp_path).close()
        with pytest.raises(
            InputError, match=r"log.tsv: this run was left unfinished with another schedule or speed; go on"
        ):
            RunRecord(tmp_path, run, UTC_S + 5, speed=speed)

    def test_a_run_that_must_be_over_is_closed(self, tmp_path):
        begun(tmp_path, until_place=2).close()
        with RunRecord(tmp_path, RUN, UTC_S + 1 + RUN.duration_s - 0.001) as record:
            assert record.name == RUN.name
        with RunRecord(tmp_path, RUN, UTC_S + 1 + RUN.duration_s) as record:
            assert record.name == f"{RUN.name}~2"
        assert [row["event_type"] for row in read(tmp_path / f"{RUN.name}_events.tsv")] == ["rest", "cue", "imagery"]

    def test_a_faster_run_is_over_sooner(self, tmp_path):
        begun(tmp_path, speed=10.0).close()
        with RunRecord(tmp_path, RUN, UTC_S + 1 + RUN.duration_s / 10, speed=10.0) as record:
            assert record.name == f"{RUN.name}~2"

    def test_events_that_were_not_written_in_the_end_are_written(self, tmp_path):
        with begun(tmp_path, until_place=2) as record:
            record.log("stopped", UTC_S + 5, 15.0, 4.0)
        RunRecord(tmp_path, RUN, UTC_S + 5).close()
        rows = read(tmp_path / f"{RUN.name}_events.tsv")
        assert [(row["onset"], row["duration"]) for row in rows] == [("0", "2"), ("2", "1"), ("3", "1")]


class TestTornAndDamaged:
    @settings(max_examples=60)
    @given(data=st.data())
    def test_a_log_that_is_cut_anywhere_is_gone_on_with(self, tmp_path_factory, data):
        folder = tmp_path_factory.mktemp("run")
        with begun(folder, until_place=10) as record:
            record.log("answer", UTC_S + 14, 24.0, 12.8, 10, "n02")
        whole = log_path(folder).read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        log_path(folder).write_bytes(whole[:cut])
        expected = RunState(RUN)
        for line in whole[:cut].decode().split("\n")[1:-1]:
            cells = dict(zip(LOG_COLUMNS, line.split("\t"), strict=True))
            run_s, step = (None if cells[name] == "n/a" else float(cells[name]) for name in ("run_s", "step"))
            place = None if step is None else int(step)
            expected.apply(Entry(cells["kind"], float(cells["utc_s"]), run_s, place, cells["value"]))
        with RunRecord(folder, RUN, UTC_S + 15) as again:
            assert again.happened == expected
            again.log("warning", UTC_S + 15, 25.0, value="one more")
        lines = log_path(folder).read_text().split("\n")
        assert lines[0] == "\t".join(LOG_COLUMNS)
        assert all(line.count("\t") == len(LOG_COLUMNS) - 1 for line in lines[:-1])
        RunRecord(folder, RUN, UTC_S + 15).close()

    @pytest.mark.parametrize(
        "line", [b"\0\0\0\0", b"x\t1\t1\t1\t1\tonset\t1\tn/a", b"1\t1\t1\t1\t1\tonset\t1", b"\xff"]
    )
    def test_a_line_that_is_damaged_is_named(self, tmp_path, line):
        begun(tmp_path).close()
        whole = log_path(tmp_path).read_bytes()
        log_path(tmp_path).write_bytes(whole + line + b"\n" + whole.split(b"\n")[1] + b"\n")
        with pytest.raises(InputError, match=r"log.tsv, line 5: damaged"):
            RunRecord(tmp_path, RUN, UTC_S + 2)

    @given(st.binary(max_size=300))
    @settings(max_examples=60)
    def test_any_file_of_that_name_is_gone_on_with_or_refused(self, tmp_path_factory, content):
        folder = tmp_path_factory.mktemp("run")
        log_path(folder).write_bytes("\t".join(LOG_COLUMNS).encode() + b"\n" + content)
        try:
            RunRecord(folder, RUN, UTC_S + 2).close()
        except InputError as error:
            assert "log.tsv" in str(error)  # noqa: PT017 # either is right

    def test_a_log_of_something_else_is_refused(self, tmp_path):
        log_path(tmp_path).write_text("onset\tduration\n1\t2\n")
        with pytest.raises(InputError, match=r"log.tsv: no log of a run"):
            RunRecord(tmp_path, RUN, UTC_S)

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="cannot be written"):
            RunRecord(tmp_path / "file" / "folder", RUN, UTC_S)


class TestFullDisks:
    def test_events_that_cannot_be_written_are_when_the_record_is_closed(self, tmp_path):
        told = []
        record = begun(tmp_path / "out", until_place=15, tell=told.append)
        path = tmp_path / "out" / f"{RUN.name}_events.tsv"
        path.mkdir()
        record.save_events()
        (line,) = record.poll(0.0)
        assert f"{path}: cannot be written" in line
        assert "tried again at the end" in line
        path.rmdir()
        assert not record.is_saved
        record.close()
        assert told == []
        assert record.is_saved
        assert len(read(path)) == len(RUN.steps)
        assert not list(path.parent.glob(".*"))

    def test_or_they_are_put_elsewhere(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
        told = []
        record = begun(tmp_path / "out", until_place=15, tell=told.append)
        (tmp_path / "out" / f"{RUN.name}_events.tsv").mkdir()
        record.save_events()
        record.poll(0.0)
        record.close()
        (copy,) = tmp_path.glob("rtgod-*/*_events.tsv")
        assert [str(copy) in line for line in told] == [True]
        assert not record.is_saved
        record.close()
        assert len(told) == 1
        assert len(read(copy)) == len(RUN.steps)


class TestTables:
    def test_flips_and_what_was_shown(self, tmp_path):
        with RunRecord(tmp_path, RUN, UTC_S) as record:
            record.flip(12.5, None, None, 0.1234, "scene")
            record.flip(13.5, 1.25, 4, -0.5, "step")
            record.shown(["3.5", "2", "list", "a\tb\nc", "0.5", "1.00", "x, y"])
        flips = [list(row.values()) for row in read(tmp_path / f"{RUN.name}_flips.tsv")]
        assert flips == [
            ["12.500000", "n/a", "n/a", "0.123", "scene"],
            ["13.500000", "1.250000", "4", "-0.500", "step"],
        ]
        (shown,) = read(tmp_path / f"{RUN.name}_shown.tsv")
        assert list(shown) == list(SHOWN_COLUMNS)
        assert shown["target"] == "a b c"

    def test_sealed_ones_have_their_names_once(self, tmp_path):
        for index in ("2", "3"):
            with RunRecord(tmp_path, RUN, UTC_S, sealed=True) as record:
                record.log("started", UTC_S + 1, 11.0, 0.0)
                record.shown(["3.5", index, *["n/a"] * 5])
        rows = read_sealed_tables(tmp_path / f"{RUN.name}_shown.sealed")["shown"]
        assert [row[:2] for row in rows] == [["run_s", "index"], ["3.5", "2"], ["3.5", "3"]]

    def test_the_events(self, tmp_path):
        with begun(tmp_path, until_place=15) as record:
            record.log("response", UTC_S + 7, 17.0, 6.2, 4, "2")
            record.log("answer", UTC_S + 7, 17.0, 6.2, 4, "4")
            record.log("answer", UTC_S + 14, 24.0, 12.8, 10, "n02")
            record.log("response", UTC_S + 5, 15.0, 4.25, 2, "1")
            record.log("response", UTC_S + 5, 15.0, 4.5, 2, "1")
            path = record.write_events()
        rows = read(path)
        assert list(rows[0]) == list(RESULT_COLUMNS)
        assert [row["evaluation"] for row in rows] == ["n/a", *["4"] * 7, *["n/a"] * 8]
        assert [row["category_name"] for row in rows] == ["n/a", *["n01"] * 7, *["n02"] * 7, "n/a"]
        assert {place: row["response_time"] for place, row in enumerate(rows) if row["response_time"] != "n/a"} == {
            2: "4.25", 4: "6.2", 10: "12.8",
        }  # fmt: skip
        assert [trial.category for trial in read_trials(path)] == ["n01", "n02"]
        described = json.loads(path.with_suffix(".json").read_text())
        assert set(described) == set(RESULT_COLUMNS)

    def test_a_step_ends_with_the_next_or_as_planned_where_the_display_was_away(self):
        happened = RunState(seeing(4))  # 2 s of rest, four images of 1 s, 1 s of rest
        for kind, run_s, place in (
            ("onset", 0.004, 0), ("onset", 2.006, 1), ("rejoined", 2.7, None), ("onset", 3.002, 2),
            ("rejoined", 5.2, None), ("onset", 5.25, 4), ("onset", 6.001, 5), ("stopped", 6.4, None),
        ):  # fmt: skip
            happened.apply(Entry(kind, UTC_S, run_s, place))
        assert [(row["onset"], row["duration"], row["planned_onset"]) for row in happened.rows()] == [
            ("0.004", "2.002", "0"), ("2.006", "0.996", "2"), ("3.002", "0.998", "3"), ("5.25", "0.751", "5"),
            ("6.001", "0.399", "6"),
        ]  # fmt: skip

    def test_a_step_that_is_shown_again_keeps_its_first_onset(self):
        happened = RunState(seeing(1))
        for run_s in (2.0, 2.5):
            happened.apply(Entry("onset", UTC_S, run_s, 1))
        assert happened.onsets_s == {1: 2.0}
