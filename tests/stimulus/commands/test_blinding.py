"""Sealing and unblinding, as a person types them."""

from __future__ import annotations

import getpass
import re
from collections import Counter
from datetime import UTC, datetime

import pytest
import typer
from typer.testing import CliRunner

from rtgod.errors import InputError, JournalError
from rtgod.journal.journal import JournalWriter
from rtgod.messages import Event, Hello, SessionEnd
from stimulus.blinding.conditions import Condition, ConditionKind
from stimulus.blinding.sealed_tables import SealedTables
from stimulus.blinding.sealing import HEADER, commitment, read_sealed, unseal
from stimulus.blinding.sealing import seal as sealed
from stimulus.commands import blinding
from tests import small

PLAN = (
    Condition(ConditionKind.SHUFFLED, seed=9),
    Condition(ConditionKind.YOKED, journal="/data/other.rtgod", run_id="run-2"),
    Condition(ConditionKind.NONE),
)
CONDITIONS = (
    "run\tcondition\tseed\tjournal\tjournal_run\n"
    "1\tshuffled\t9\tn/a\tn/a\n"
    "2\tyoked\tn/a\tother.rtgod\trun-2\n"
    "3\tnone\tn/a\tn/a\tn/a\n"
)


def run(command, *arguments):
    """What a command printed; its errors are raised."""
    app = typer.Typer()
    app.command()(getattr(blinding, command))
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def journal(path, *messages):
    with JournalWriter(path) as writer:
        for message in (Hello("0.1.0", "id", 7, 40), *messages):
            writer.append(message)
    return path


def rankings(*run_ids):
    return [small.replace(small.RANKING, run_id=run_id) for run_id in run_ids]


def kinds(plan):
    return [condition.kind for condition in plan]


def plan_of(path):
    return unseal(read_sealed(path))


def test_sealed_runs_are_as_many_as_asked_and_nothing_of_them_is_printed(tmp_path):
    out = tmp_path / "made" / "plan.sealed"
    printed = run("seal", "--real", 3, "--shuffled", 2, "--transfer", 2, "--out", out)
    plan = plan_of(out)
    assert Counter(kinds(plan)) == {ConditionKind.REAL: 3, ConditionKind.SHUFFLED: 2, ConditionKind.NONE: 2}
    assert kinds(plan)[5:] == [ConditionKind.NONE] * 2
    assert len({condition.seed for condition in plan if condition.kind is ConditionKind.SHUFFLED}) == 2
    assert printed.splitlines() == [
        f"{out}: 7 runs sealed",
        f"commitment, to be noted before the session: {commitment(read_sealed(out))}",
    ]
    assert read_sealed(out).startswith(HEADER)


def test_a_journal_without_confidences_is_told_since_its_runs_would_look_unlike_others(tmp_path):
    sure = [small.replace(one, probability=(0.1, 0.2, 0.3)) for one in rankings("run-1", "run-2")]
    unsure = [small.replace(one, probability=None) for one in rankings("run-1", "run-2")]
    for name, messages, words in (
        ("sure", sure, ""),
        ("mixed", [sure[0], unsure[1]], "1 of its 2"),
        ("old", unsure, "2 of"),
    ):
        path = journal(tmp_path / f"{name}.rtgod", *messages)
        printed = run("seal", "--yoked", 1, "--yoke", path, "--real", 1, "--out", tmp_path / f"{name}.sealed")
        assert ("confidence" in printed) == bool(words)
        assert words in printed


def test_the_order_is_random_unless_it_is_seeded(tmp_path):
    def orders(name, *options):
        paths = [tmp_path / f"{name}-{i}" for i in range(30)]
        for path in paths:
            run("seal", "--real", 4, "--shuffled", 4, "--out", path, *options)
        assert len({read_sealed(path) for path in paths}) == 30
        return {tuple(plan_of(path)) for path in paths}

    assert len(orders("seeded", "--seed", 5)) == 1
    drawn = orders("drawn")
    assert len({tuple(kinds(plan)) for plan in drawn}) > 15  # of 70
    assert len({plan[0].kind for plan in drawn}) == 2


def test_transfer_runs_may_be_mixed_in(tmp_path):
    firsts = set()
    for seed in range(20):
        out = tmp_path / f"{seed}"
        run("seal", "--real", 3, "--transfer", 3, "--mix-transfer", "--seed", seed, "--out", out)
        firsts.add(plan_of(out)[0].kind)
        assert Counter(kinds(plan_of(out))) == {ConditionKind.REAL: 3, ConditionKind.NONE: 3}
    assert firsts == {ConditionKind.REAL, ConditionKind.NONE}


def test_yoked_runs_take_journals_and_their_runs_in_turn(tmp_path, monkeypatch):
    journal(tmp_path / "a.rtgod", *rankings("a-1", "a-2"))
    journal(tmp_path / "b.rtgod", *rankings("b-1"))
    monkeypatch.chdir(tmp_path)
    run("seal", "--yoked", 5, "--yoke", "a.rtgod", "--yoke", "b.rtgod", "--real", 2, "--out", "plan")
    plan = plan_of(tmp_path / "plan")
    taken = [(c.journal, c.run_id) for c in plan if c.kind is ConditionKind.YOKED]
    a, b = "a.rtgod", "b.rtgod"
    assert taken == [(a, "a-1"), (b, "b-1"), (a, "a-2"), (b, "b-1"), (a, "a-1")]
    assert len(plan) == 7


def test_what_cannot_be_sealed_is_refused_and_nothing_is_written(tmp_path):
    out = tmp_path / "plan"
    empty = journal(tmp_path / "empty.rtgod")
    damaged = journal(tmp_path / "damaged.rtgod", *rankings("a"), SessionEnd(1.0))
    content = bytearray(damaged.read_bytes())
    content[content.rindex(b"\nrec") - 1] ^= 1  # of the ranking's scores
    damaged.write_bytes(content)
    for options, why in [
        ((), "no runs to seal"),
        (("--yoked", 1), "belong together"),
        (("--real", 1, "--yoke", empty), "belong together"),
        (("--yoked", 1, "--yoke", tmp_path / "absent.rtgod"), r"absent\.rtgod: cannot be read"),
        (("--yoked", 1, "--yoke", empty), r"empty\.rtgod: no run with a ranking"),
        (("--yoked", 1, "--yoke", damaged), r"damaged\.rtgod: damaged"),
    ]:
        with pytest.raises(InputError, match=why):
            run("seal", *options, "--out", out)
        assert not out.exists()
    out.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        run("seal", "--real", 1, "--out", out)
    assert out.read_text() == "precious"


def committed(folder, value=None, number=0):
    """What a display reports when a sealed run begins."""
    value = commitment(read_sealed(folder / "plan.sealed")) if value is None else value
    return Event("stimulus-1", number, "commitment", 3.0, run_id="run-1", value=value)


@pytest.fixture
def session(tmp_path):
    """A folder with a sealed plan, what was shown, and the journals of a session that ended and of one that goes on."""
    (tmp_path / "plan.sealed").write_text(sealed(PLAN))
    for name in ("run-1", "run-2"):
        with SealedTables(tmp_path / f"{name}_shown.sealed", {"shown": ["run_s", "top1"]}) as tables:
            tables.write("shown", ["12.5", name])
    (tmp_path / "today").mkdir()
    journal(tmp_path / "ended.rtgod", committed(tmp_path), SessionEnd(1.0))
    journal(tmp_path / "today" / "running.rtgod", committed(tmp_path))
    return tmp_path


def opened(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".tsv")


def test_after_the_session_everything_is_opened_and_put_on_record(session):
    with SealedTables(session / "elsewhere" / "notes_shown.sealed", {"shown": ["a"], "flips": ["c"]}) as tables:
        tables.write("flips", ["d"])
    before = datetime.now(UTC).replace(microsecond=0)
    printed = run(
        "unblind", session / "plan.sealed", "--journal", session / "ended.rtgod",
        "--shown", session / "elsewhere" / "notes_shown.sealed",
    )  # fmt: skip
    assert opened(session) == ["conditions.tsv", "run-1_shown.tsv", "run-2_shown.tsv", "unblinding.tsv"]
    assert (session / "conditions.tsv").read_text() == CONDITIONS
    assert (session / "run-2_shown.tsv").read_text() == "run_s\ttop1\n12.5\trun-2\n"
    assert (session / "elsewhere" / "notes_shown.tsv").read_text() == "a\n"
    assert (session / "elsewhere" / "notes_flips.tsv").read_text() == "c\nd\n"
    sealed_as = commitment(read_sealed(session / "plan.sealed"))
    heading, line = (session / "unblinding.tsv").read_text().splitlines()
    assert heading == "utc\tuser\tcommitment\tjournal\treason"
    utc, *rest = line.split("\t")
    assert before <= datetime.fromisoformat(utc) <= datetime.now(UTC)
    assert rest == [getpass.getuser(), sealed_as, str(session / "ended.rtgod"), "n/a"]
    assert f"commitment: {sealed_as}\n" in printed
    for row in CONDITIONS.splitlines():
        assert re.search(r"\s+".join(map(re.escape, row.split("\t"))), printed)


def test_while_the_session_goes_on_nothing_is_opened(session):
    before = sorted(session.iterdir())
    for options, why in [
        ((), "--journal .* or --early"),
        (("--journal", session / "today" / "running.rtgod"), r"running\.rtgod: the session has not ended"),
        (("--early", "  "), "say why"),
        (("--journal", session / "today" / "running.rtgod", "--early", ""), "say why"),
    ]:
        with pytest.raises(InputError, match=why):
            run("unblind", session / "plan.sealed", *options)
    with pytest.raises(JournalError, match="cannot be read"):
        run("unblind", session / "plan.sealed", "--journal", session / "absent.rtgod")
    assert sorted(session.iterdir()) == before


def test_only_the_journals_of_the_session_open_its_conditions(session):
    other = journal(session / "other.rtgod", committed(session, "0123456789abcdef"), SessionEnd(1.0))
    empty = journal(session / "empty.rtgod", SessionEnd(1.0))
    ended = session / "ended.rtgod"
    named_so = journal(session / "named.rtgod", small.replace(committed(session), kind="note"), SessionEnd(1.0))
    before = sorted(session.iterdir())
    for journals, why in [
        ([empty], r"empty\.rtgod: not of the session .*no display reported any.* or give --early"),
        ([other], r"other\.rtgod: not of the session .*others \(0123456789abcdef\)"),
        ([named_so], "no display reported any"),
        ([ended, empty], r"empty\.rtgod: not of the session"),
        ([ended, session / "today" / "running.rtgod"], r"running\.rtgod: the session has not ended"),
    ]:
        with pytest.raises(InputError, match=why):
            run("unblind", session / "plan.sealed", *[word for path in journals for word in ("--journal", path)])
        assert sorted(session.iterdir()) == before
    second = journal(session / "second.rtgod", committed(session, number=5), SessionEnd(1.0))
    run("unblind", session / "plan.sealed", "--journal", ended, "--journal", second)
    assert (session / "unblinding.tsv").read_text().splitlines()[1].split("\t")[3] == f"{ended}, {second}"


def test_a_session_that_goes_on_in_another_journal_beside_it_has_not_ended(session):
    journal(session / "next.rtgod", committed(session))
    (session / "notes.rtgod").write_text("no journal")
    with pytest.raises(InputError, match=r"next\.rtgod: the session goes on here"):
        run("unblind", session / "plan.sealed", "--journal", session / "ended.rtgod")
    assert opened(session) == []


def test_the_events_are_corrected_and_no_more_the_second_time(session):
    events = session / "run-1_events.tsv"
    planned = "onset\tduration\tevent_type\tplanned_onset\n0\t2\trest\t0\n2\t3\tcue\t2\n6\t1\trest\t6\n"
    events.write_text(planned)
    with SealedTables(session / "run-1_shown.sealed", {"onsets": ["planned_onset", "onset"]}) as tables:
        for row in (["0", "0.012"], ["2", "2.008"], ["2", "3.5"], ["6", "5.995"]):
            tables.write("onsets", row)
    for _ in range(2):
        run("unblind", session / "plan.sealed", "--journal", session / "ended.rtgod")
        rows = [line.split("\t") for line in events.read_text().splitlines()[1:]]
        # The second ended a second before the third began, and still does.
        assert [row[:2] for row in rows] == [["0.012", "1.996"], ["2.008", "2.992"], ["5.995", "1.005"]]


def test_conditions_sealed_elsewhere_name_no_folder_of_this_machine(tmp_path):
    (tmp_path / "old").mkdir()
    journal(tmp_path / "old" / "a.rtgod", *rankings("a-1"))
    printed = run(
        "seal", "--yoked", 1, "--yoke", tmp_path / "old" / "a.rtgod", "--out", tmp_path / "new" / "plan.sealed"
    )
    (condition,) = plan_of(tmp_path / "new" / "plan.sealed")
    assert condition.journal == "../old/a.rtgod"
    assert "keep a.rtgod where it is" in printed
    run("unblind", tmp_path / "new" / "plan.sealed", "--early", "why")
    assert str(tmp_path) not in (tmp_path / "new" / "conditions.tsv").read_text()


def test_early_unblinding_is_recorded_with_its_reason_each_time(session):
    run("unblind", session / "plan.sealed", "--early", "a\tparticipant\nasked")
    run("unblind", session / "plan.sealed", "--early", "again", "--journal", session / "today" / "running.rtgod")
    run("unblind", session / "plan.sealed", "--journal", session / "ended.rtgod")
    _, *lines = (session / "unblinding.tsv").read_text().splitlines()
    assert [line.split("\t")[3:] for line in lines] == [
        ["n/a", "a participant asked"],
        [str(session / "today" / "running.rtgod"), "again"],
        [str(session / "ended.rtgod"), "n/a"],
    ]


def test_nothing_is_told_that_cannot_be_put_on_record(session):
    (session / "unblinding.tsv").mkdir()
    with pytest.raises(InputError, match="nothing is opened unrecorded"):
        run("unblind", session / "plan.sealed", "--early", "why")
    assert opened(session) == ["unblinding.tsv"]


def test_a_user_without_a_name_can_unblind(session, monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr(getpass, "getuser", nameless)
    run("unblind", session / "plan.sealed", "--early", "why")
    assert (session / "unblinding.tsv").read_text().splitlines()[1].split("\t")[1] == "n/a"


def test_the_conditions_of_another_plan_are_not_overwritten(session):
    (session / "conditions.tsv").write_text("those of another participant\n")
    with pytest.raises(InputError, match="move it elsewhere"):
        run("unblind", session / "plan.sealed", "--early", "why")
    assert (session / "conditions.tsv").read_text() == "those of another participant\n"


def test_a_damaged_plan_or_table_is_refused_by_name(session):
    table = session / "run-2_shown.sealed"
    table.write_bytes(b"xxxx" + table.read_bytes())
    with pytest.raises(InputError, match=r"run-2_shown\.sealed, line 1: damaged"):
        run("unblind", session / "plan.sealed", "--early", "why")
    plan = session / "plan.sealed"
    plan.write_text(plan.read_text()[:-10])
    with pytest.raises(InputError, match=r"plan\.sealed: damaged"):
        run("unblind", plan, "--early", "why")
