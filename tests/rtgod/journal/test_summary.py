"""Counting a journal: what a real session gives is right, and each way in which a server could be wrong is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.journal.journal import read_headers
from rtgod.journal.summary import account, spans
from rtgod.messages import NotReady, Reason, RunEnd, SessionEnd
from rtgod.protocol.frames import to_frames
from tests import small
from tests.journals import event, record


def count(messages):
    return account(bytes(to_frames(message)[0]) for message in messages)


def answer(index, run_id="run-1"):
    return NotReady(run_id, index, Reason.WARMING_UP)


def test_a_session_is_counted(tmp_path):
    messages = small.messages(indices=[0, 1, 2, 5, 6, 4, 7, 9])
    messages[3:3] = [event(0), event(1)]
    written = record(tmp_path / "a.rtgod", [*messages, *small.messages("run-1~2", range(2))[:-1]], small.bundle())
    found = account(read_headers(tmp_path / "a.rtgod"))
    first, second = found.runs.values()
    assert found.problems == []
    assert (found.n_starts, found.n_events, found.ended) == (1, 2, True)
    assert (first.run_id, first.subject, first.n_planned, first.n_ended) == ("run-1", "small", 12, 10)
    assert first.taken == {0, 1, 2, 4, 5, 6, 7, 9}
    assert first.lost == [3, 8]
    assert first.answered == set(range(10))
    assert first.n_rankings == sum(type(message).__name__ == "Ranking" for message in written)
    assert (second.run_id, second.n_ended, second.taken, second.owed) == ("run-1~2", None, {0, 1}, set())


@pytest.mark.parametrize("n_written", range(1, 9))
def test_a_session_that_was_killed_anywhere_has_no_problem_and_owes_what_was_not_answered(tmp_path, n_written):
    written = record(tmp_path / "a.rtgod", small.messages(indices=[0, 3]), ended=False)
    kinds = ["Hello", "Run", "Volume", "NotReady", "Volume", "NotReady", "NotReady", "NotReady", "RunEnd"]
    assert [type(message).__name__ for message in written] == kinds
    found = count(written[:n_written])
    assert found.problems == []
    assert not found.ended
    owed = [run.owed for run in found.runs.values()]
    assert owed == [[], [set()], [{0}], [set()], [{1, 2, 3}], [{2, 3}], [{3}], [set()]][n_written - 1]


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([small.volume(0), answer(0), small.volume(0), answer(0)], "volume 1 was taken twice"),
        ([small.volume(0), answer(0), answer(0)], "volume 1 was answered, and it was not its turn"),
        ([small.volume(0), answer(1)], "volume 2 was answered, and it was not its turn"),
        ([small.volume(0), small.volume(1), answer(1)], "volumes 1 were not answered"),
        ([small.volume(4), answer(4), SessionEnd(1.0)], "volumes 1-4 were not answered"),
        ([RunEnd("run-1", 2), event(0)], "volumes 1-2 were not answered"),
        ([small.run()], "begins twice"),
        ([small.run("run-2"), small.volume(0), answer(0)], "goes on where it should not"),
    ],
)
def test_what_no_server_does_is_named(messages, problem):
    assert f"run run-1: {problem}" in count([small.run(), *messages]).problems


def test_a_run_without_its_beginning_is_named():
    assert count([small.volume(0)]).problems == ["run run-1: goes on where it should not"]


def test_a_last_header_that_is_none_ends_the_count():
    headers = [bytes(to_frames(message)[0]) for message in small.messages(indices=[0])]
    assert account([*headers[:1], b"\0" * 40, *headers[1:]]).runs["run-1"].taken == set()


@given(st.sets(st.integers(0, 60)))
def test_spans_name_every_volume_once_counted_from_1(numbers):
    found = []
    for part in filter(None, spans(numbers).split(", ")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    assert found == [index + 1 for index in sorted(numbers)]


def test_spans_are_as_people_write_them():
    assert spans([18, 2, 16, 17]) == "3, 17-19"


def test_numbers_that_no_server_takes_are_a_problem_and_not_counted_out():
    run, volume = small.run(acquisition="a"), small.volume(0)
    assert count([run, volume, answer(0), RunEnd("run-1", 2**62)]).problems == [
        f"run run-1: ends at {2**62} volumes, right after 1: no server takes that"
    ]


def test_a_run_with_an_identity_may_be_gone_on_with_after_another():
    first, second = small.run("a", acquisition="1"), small.run("b", acquisition="2")
    messages = [first, small.volume(0, "a"), answer(0, "a"), second, small.volume(0, "b"), answer(0, "b")]
    messages += [small.volume(1, "a"), answer(1, "a")]
    found = count(messages)
    assert found.problems == []
    assert found.current == "a"
    assert found.runs["a"].taken == {0, 1}
    assert count([small.run("a"), small.run("b"), small.volume(1, "a")]).problems != []
