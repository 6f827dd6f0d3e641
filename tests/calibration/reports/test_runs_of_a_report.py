"""A report says what it leaves out, and one foreign run does not spoil it: small runs of a decoder of noise."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from calibration.reports.session_report import best_median_worst, blocks_of_trials, tables_of, write_report
from rtgod.bundle import DecoderBundle
from rtgod.commands.main import make_app
from rtgod.errors import InputError
from rtgod.events.table import Trial, blocks_of, read_trials
from rtgod.journal.journal import JournalWriter
from rtgod.messages import Block, Motion, NotReady, Reason, RunEnd
from rtgod.server.session import Session
from tests import small

#: A row is a trial of one of the bundle's candidates, at the blocks of `small.messages`.
HEADER = "onset\tduration\ttrial_type\n"


def rows_for(run, categories):
    """An events table for the run's blocks."""
    rows = [
        f"{block.onset_s}\t{block.duration_s}\t{category}"
        for block, category in zip(run.blocks, categories, strict=True)
    ]
    return HEADER + "\n".join(rows) + "\n"


def session_of(runs, indices, session):
    """Messages of runs, one after the other, and what a session answers."""
    yield session.hello()
    for run in runs:
        volumes = [m for m in small.messages(indices=indices) if not hasattr(m, "shape") and not isinstance(m, RunEnd)]
        for message in (run, *(replace(volume, run_id=run.run_id) for volume in volumes), RunEnd(run.run_id, 12)):
            yield message
            for answer, _ in session.handle(message):
                yield replace(answer, stage_ms={"receive": 1.0, **answer.stage_ms})


@pytest.fixture
def run():
    (found,) = [m for m in small.messages() if hasattr(m, "shape")]
    return replace(found, subject="01", blocks=(Block(2.0, 6.0), Block(10.0, 6.0)))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "small"
    small.bundle().save(folder)
    return folder


@pytest.fixture
def report(tmp_path, bundle):
    """Writes the report of a journal of some runs; gives its folder, summary, left-out rows and what was printed."""

    def write(runs, tables=None, indices=range(12), events=(), console=None):
        folder = tmp_path / "dataset"
        folder.mkdir(exist_ok=True)
        for name, text in (tables or {}).items():
            (folder / f"{name}_events.tsv").write_text(text)
        journal = tmp_path / f"{len(list(tmp_path.glob('*.rtgod')))}.rtgod"
        with JournalWriter(journal) as writer:
            for message in session_of(runs, indices, Session(DecoderBundle.load(bundle))):
                writer.append(message)
        console = console or Console(file=io.StringIO(), width=160)
        dataset = folder if tables else None
        write_report(journal, tmp_path / "out", bundle, dataset, None, console, events)
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        with (tmp_path / "out" / "left_out.tsv").open() as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return tmp_path / "out", summary, rows, console.file.getvalue()

    return write


KNOWN = ["n00000001", "n00000002"]


def named(run, name, **changes):
    return replace(run, run_id=name, **changes)


def test_trials_are_used_or_left_out_with_a_reason(report, run):
    three = replace(run, blocks=(*run.blocks, Block(18.0, 4.0)))
    table = rows_for(three, [KNOWN[0], "no-candidate", KNOWN[1]]) + f"60\t4\t{KNOWN[0]}\n"
    out, summary, rows, printed = report([three], {three.name: table})
    trials = next(row for row in rows if row["what"] == "trials seen")
    assert int(trials["n"]) == 4 == int(trials["used"]) + int(trials["left_out"])
    assert "1 no candidate" in trials["why"]
    assert "1 begins after the run's end" in trials["why"]
    assert summary["seen_blocks"] == int(trials["used"])
    assert summary["trials_left_out"] == int(trials["left_out"])
    assert "1 no candidate" in printed
    assert len((out / "ranks.tsv").read_text().splitlines()) == 1 + summary["seen_blocks"]


def test_volumes_that_never_came_are_counted_as_lost(report, run):
    _, summary, rows, _ = report([run], indices=[0, 1, 2, 3, 4, 6, 7, 8, 9, 11])
    (volumes,) = [row for row in rows if row["what"] == "volumes"]
    assert "2 lost volume" in volumes["why"]
    assert summary["volumes_lost"] == 2
    assert int(volumes["n"]) == 12


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"subject": "02"}, "subject 02"), ({"tr_s": 2.5}, "a volume each 2.5 s")],
)
def test_one_foreign_run_is_left_out_and_said(report, run, changes, why):
    runs = [named(run, "a"), named(run, "odd", **changes), named(run, "b")]
    tables = {one.name: rows_for(one, KNOWN) for one in runs}
    _, alone, _, _ = report([runs[0], runs[2]], tables)
    _, summary, rows, printed = report(runs, tables)
    assert summary["runs_left_out"] == 1
    assert {row["of"]: row["why"] for row in rows if row["what"] == "run"}["odd"].startswith(why)
    assert f"left out odd: {why}" in printed
    assert summary["seen_blocks"] == alone["seen_blocks"] == 4
    assert summary["volumes_received"] == alone["volumes_received"]


def test_a_run_without_a_table_does_not_spoil_those_that_have_one(report, run):
    runs = [named(run, "a"), named(run, "b")]
    _, summary, rows, _ = report(runs, {"a": rows_for(run, KNOWN)})
    assert summary["seen_blocks"] == 2
    assert [row["why"] for row in rows if row["of"] == "b" and row["what"] == "run"] == [
        "no events table: no ranks of it"
    ]


def test_the_table_of_another_run_is_noticed(report, run):
    runs = [named(run, "a"), named(run, "b")]
    other = HEADER + f"5\t2\t{KNOWN[0]}\n14\t3\t{KNOWN[1]}\n"
    _, summary, rows, _ = report(runs, {"a": rows_for(run, KNOWN), "b": other})
    assert summary["seen_blocks"] == 2
    (why,) = [row["why"] for row in rows if row["of"] == "b" and row["what"] == "run"]
    assert "another run's events" in why


def test_tables_are_given_for_runs_in_no_data_set(report, run, tmp_path):
    for name in ("first.tsv", "second.tsv"):
        (tmp_path / name).write_text(rows_for(run, KNOWN))
    paths = [tmp_path / "first.tsv", tmp_path / "second.tsv"]
    _, summary, _, _ = report([named(run, "a"), named(run, "b")], events=paths)
    assert summary["seen_blocks"] == 4
    with pytest.raises(InputError, match=r"1 table of events for 2 runs without one \(a, b\)"):
        report([named(run, "a"), named(run, "b")], events=paths[:1])
    with pytest.raises(InputError, match="no such file"):
        report([run], events=[tmp_path / "absent.tsv"])


def test_a_table_that_is_named_as_its_run_is_that_run_s(run, tmp_path):
    from calibration.reports.session_report import JournaledRun

    (tmp_path / "b_events.tsv").write_text(rows_for(run, KNOWN))
    found = tables_of([JournaledRun(named(run, "a")), JournaledRun(named(run, "b"))], None, [tmp_path / "b_events.tsv"])
    assert found == {"b": tmp_path / "b_events.tsv"}


@pytest.mark.parametrize(
    "names",
    [
        ("a_events.tsv", "b_events.tsv", "other.tsv"),
        ("a_events.tsv", "b_events.tsv", "again/a_events.tsv"),
        ("a_events.tsv", "b_events.tsv", "a~2_events.tsv"),
        ("b_events.tsv", "a~2_events.tsv", "a_events.tsv"),
    ],
)
def test_each_acquisition_of_a_run_has_its_own_table_where_there_are_enough(run, tmp_path, names):
    from calibration.reports.session_report import JournaledRun

    (tmp_path / "again").mkdir()
    for name in names:
        (tmp_path / name).write_text(rows_for(run, KNOWN))
    records = [JournaledRun(named(run, run_id)) for run_id in ("a", "b", "a~2")]
    found = tables_of(records, None, [tmp_path / name for name in names])
    assert (found["a"].name, found["b"].name) == ("a_events.tsv", "b_events.tsv")
    assert len(set(found.values())) == 3
    shared = tables_of(records[::2], None, [tmp_path / "a_events.tsv"])
    assert shared == dict.fromkeys(("a", "a~2"), tmp_path / "a_events.tsv")


class Broken(io.StringIO):
    """A console whose code page has too few letters, or whose reader has gone."""

    def write(self, text):
        raise UnicodeEncodeError("charmap", text, 0, 1, "character maps to <undefined>")


def test_files_are_written_whatever_the_console_can_print(report, run, tmp_path):
    with pytest.raises(UnicodeEncodeError):
        report([run], {run.name: rows_for(run, KNOWN)}, console=Console(file=Broken(), width=100))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"summary.json", "left_out.tsv", "ranks.tsv", "ranks.png", "latency.png", "motion.png"}
    assert "confusion.png" in names  # seven candidates can be read as a matrix
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["seen_blocks"] == 2


def test_few_candidates_have_no_top_ten_and_few_blocks_are_marked(report, run):
    _, summary, _, printed = report([run], {run.name: rows_for(run, KNOWN)})
    assert "seen_top10" not in summary
    assert "fewer than 10 blocks: too few to say much" in " ".join(printed.split())
    assert "no result of so few could bring below 0.5" in " ".join(printed.split())
    assert "share ranked below the true one" in " ".join(printed.split())
    assert 0 <= summary["seen_low"] <= summary["seen_identification_accuracy"] <= summary["seen_high"] <= 1


def test_trials_are_matched_to_blocks_by_time_and_label(run):
    trials = [Trial(float(t), 4.0, "stimulus", name) for t, name in [(2, "a"), (10, "b"), (20, "a"), (30, "c")]]
    labelled = blocks_of(trials)
    sent = replace(run, blocks=(labelled[1], replace(labelled[2], onset_s=20.4), replace(labelled[3], label="other")))
    assert blocks_of_trials(sent, trials) == {1: 0, 2: 1}
    assert blocks_of_trials(replace(run, blocks=(Block(10.0, 4.0),)), trials) == {1: 0}


def test_best_median_and_worst_are_chosen():
    names = ["best", "best", "median", "median", "worst", "worst"]
    assert best_median_worst(50, 6) == list(zip(names, [0, 1, 24, 25, 48, 49], strict=True))
    assert best_median_worst(7, 6) == list(zip(names, [0, 1, 2, 3, 5, 6], strict=True))
    assert [position for _, position in best_median_worst(4, 6)] == [0, 1, 2, 3]


def test_the_run_s_table_is_read(run, tmp_path):
    (tmp_path / "e.tsv").write_text(rows_for(run, KNOWN))
    assert len(read_trials(tmp_path / "e.tsv")) == len(run.blocks) == 2
    assert np.isfinite(run.tr_s)


def test_a_table_in_milliseconds_is_refused_and_named(report, run):
    table = rows_for(run, KNOWN).splitlines()
    rows = [
        [str(1000 * float(cell)) if i < 2 else cell for i, cell in enumerate(line.split("\t"))] for line in table[1:]
    ]
    text = "\n".join([table[0], *("\t".join(row) for row in rows), ""])
    with pytest.raises(InputError, match=r"run-1_events\.tsv: all 2 trials begin after its 24 s.*milliseconds"):
        report([run], {run.name: text})


def test_without_tables_it_says_that_there_are_no_ranks(report, run):
    *_, said = report([run])
    assert "no ranks: they need --dataset or --events" in said


def test_motion_that_was_not_estimated_is_not_drawn(run, tmp_path):
    """Whoever reports without the bundle does not know, but a head never lies exactly where it lay."""
    still = Motion((0.0,) * 3, (0.0,) * 3, 0.0, None, 0, converged=True)
    for moved_mm, is_drawn in ((0.0, False), (1e-6, True)):
        journal, out = tmp_path / f"{moved_mm}.rtgod", tmp_path / f"out{moved_mm}"
        motion = replace(still, translation_mm=(moved_mm, 0.0, 0.0))
        with JournalWriter(journal) as writer:
            writer.append(run)
            for index in range(3):
                writer.append(replace(small.volume(index), run_id=run.run_id))
                writer.append(NotReady(run.run_id, index, Reason.WARMING_UP, "", motion))
        console = Console(file=io.StringIO(), width=160)
        write_report(journal, out, None, None, None, console)
        assert (out / "motion.png").exists() == is_drawn
        assert ("as where head motion is not estimated" in console.file.getvalue()) != is_drawn


def test_a_run_that_was_sent_by_other_settings_says_which_trials_are_no_blocks_and_which_blocks_no_trials(report, run):
    rows = rows_for(run, ["n00000001", "n00000002"]).splitlines()
    shifted = "\n".join([*rows[:2], "18\t4\tn00000003", "40\t4\tn00000003", ""])
    _, summary, told, _ = report([run], {run.name: shifted})
    why = {row["what"]: (row["n"], row["used"], row["why"]) for row in told}
    assert why["trials seen"] == (
        "3", "1", "1 was no block of the run: sent by other settings for events?, 1 begins after the run's end",
    )  # fmt: skip
    assert why["blocks sent"] == ("2", "1", "1 no trial by the bundle's settings for events")
    assert summary["trials_left_out"] == 3
    _, summary, told, _ = report([run], {run.name: "\n".join([*rows, ""])})
    assert "blocks sent" not in {row["what"] for row in told}
    assert summary["trials_left_out"] == 0


def command(*arguments):
    result = CliRunner().invoke(make_app(), ["report", *map(str, arguments)], catch_exceptions=False)
    return " ".join(result.output.split())


def test_a_dry_run_says_what_a_report_would_use_and_leave_out_and_writes_nothing(report, run, bundle, tmp_path):
    foreign = replace(run, run_id="run-2", subject="02")
    out, *_ = report([run, foreign, replace(run, run_id="run-3")], {run.name: rows_for(run, ["n00000001"] * 2)})
    journal, new = tmp_path / "0.rtgod", tmp_path / "new"
    said = command(journal, "--bundle", bundle, "--dataset", tmp_path / "dataset", "--out", new, "--dry-run")
    assert f"run-1: 12 volumes, 12 answers, events {tmp_path / 'dataset' / 'run-1_events.tsv'}" in said
    assert "run-3: 12 volumes, 12 answers, events of none" in said
    assert "left out run-2: subject 02, where the others are of 01" in said
    assert "left out run-3: no events table: no ranks of it" in said
    assert f"would be written to {new}: summary.json" in said
    assert not new.exists()
    said = command(journal, "--out", out, "--dry-run")
    assert "no ranks: they need --bundle, and --dataset or --events" in said
    assert "would be refused" in said


def test_a_report_that_is_there_is_replaced_only_if_asked_for(report, run, tmp_path):
    out, *_ = report([run])
    (out / "ranks.tsv").write_text("of an earlier session\n")
    (out / "notes.txt").write_text("mine\n")
    with pytest.raises(InputError, match=r"summary\.json, left_out\.tsv, ranks\.tsv and 2 more are already there"):
        command(tmp_path / "0.rtgod", "--out", out)
    assert "written to" in command(tmp_path / "0.rtgod", "--out", out, "--overwrite")
    assert not (out / "ranks.tsv").exists()  # this one has no ranks
    assert (out / "notes.txt").read_text() == "mine\n"
