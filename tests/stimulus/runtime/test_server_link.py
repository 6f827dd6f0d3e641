"""A server as the display knows it: heard, lost, of another version, in another run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rtgod.errors import ServerError, WireError
from rtgod.messages import RunEnd, Status
from stimulus.runtime.server_link import Link
from tests.stimulus.simulated import HELLO, ranking, run_header


class Desk:
    """A link with all that is around it: a clock, a queue of messages, a reporter, an operator."""

    def __init__(self, server=""):
        self.now_s, self.queue, self.told, self.reports = 0.0, [], [], []
        self.offset_s, self.offset_error_s = 1.5, 0.002
        self.failure = None
        self.link = Link(_Queue(self.queue), self, self.told.append, lambda: self.now_s, server)

    def poll(self):
        """The reporter's."""
        if self.failure is not None:
            raise self.failure

    def report(self, *what):
        self.reports.append(what)

    def hears(self, *messages, at_s=None):
        self.now_s = self.now_s if at_s is None else at_s
        self.queue += messages
        return self.link.poll()


class _Queue:
    def __init__(self, queue):
        self._queue = queue

    def poll(self):
        message = self._queue.pop(0) if self._queue else None
        if isinstance(message, Exception):
            raise message
        return message


@pytest.fixture
def desk():
    return Desk()


def test_messages_come_in_their_order_and_no_more_than_a_hundred_at_once(desk):
    answers = [ranking(n) for n in range(230)]
    desk.link.begin()
    assert [len(desk.hears(*answers)), len(desk.hears()), len(desk.hears()), len(desk.hears())] == [100, 100, 30, 0]
    assert desk.link.answer is answers[-1]


def test_nothing_is_known_at_first(desk):
    assert (desk.link.hello, desk.link.run, desk.link.answer) == (None, None, None)
    assert desk.link.offset == (1.5, 0.002)


def test_the_operator_is_told_that_volumes_are_not_taken_and_that_they_are_again(desk):
    fine = Status(0.0, 0.0, "a.rtgod", 10**9)
    full = replace(fine, problem="journal a.rtgod: cannot be written; make room on its disk")
    for second, status in enumerate((fine, full, full, fine, fine)):
        desk.hears(HELLO, status, at_s=float(second))
    assert desk.told == [
        "the server takes no volumes, sources wait: journal a.rtgod: cannot be written; make room on its disk",
        "the server takes volumes again",
    ]


def test_a_server_that_never_was_there_is_told_once(desk):
    for n in range(1200):
        desk.hears(at_s=n / 100)
    assert desk.told == ["the server was not heard for 5 s; the run goes on without feedback"]


def test_a_server_that_is_not_there_is_named():
    desk = Desk("tcp://127.0.0.1:5556")
    desk.hears(at_s=6.0)
    assert desk.told == [
        "the server at tcp://127.0.0.1:5556 was not heard for 5 s (is `rtgod serve` running there?); the run goes on "
        "without feedback"
    ]


def test_the_operator_is_told_what_the_server_says_and_when_it_no_longer_holds(desk):
    fine = Status(0.0, 0.0, "a.rtgod", 10**9)
    astray = replace(fine, notice="run run-1: none of the first 3 volumes could be aligned to the bundle's head")
    for second, status in enumerate((fine, astray, astray, fine, fine)):
        desk.hears(HELLO, status, at_s=float(second))
    assert desk.told == [f"the server says: {astray.notice}", f"no longer so: {astray.notice}"]


def test_a_server_that_goes_and_comes_is_told_each_time(desk):
    answer = ranking()
    desk.link.begin()
    desk.hears(HELLO, answer, at_s=1.0)
    desk.hears(at_s=5.9)
    assert desk.link.answer is answer
    desk.hears(at_s=6.1)
    assert desk.link.answer is None
    desk.hears(HELLO, at_s=7.0)
    assert desk.link.answer is answer
    desk.hears(at_s=13.0)
    assert [line.split(";")[0] for line in desk.told] == [
        "the server was not heard for 5 s", "the server is heard again", "the server was not heard for 5 s",
    ]  # fmt: skip


def test_what_comes_before_and_after_garbage_is_heard(desk):
    first, last = ranking(1), ranking(2)
    assert desk.hears(first, WireError("garbage"), last) == [first]
    assert desk.hears() == [last]
    desk.hears(*[WireError("garbage")] * 3)
    desk.hears()
    assert desk.told == ["the run goes on without the server: garbage"]


def test_a_server_that_turns_the_reporter_away_is_still_heard(desk):
    desk.failure = ServerError("the server does not know the key")
    for _ in range(3):
        assert len(desk.hears(ranking())) == 1
    assert desk.told == ["the run goes on without the server: the server does not know the key"]


def test_another_error_is_no_matter_of_the_server(desk):
    with pytest.raises(ZeroDivisionError):
        desk.hears(ZeroDivisionError())


def test_what_another_bundle_answered_is_forgotten(desk):
    desk.link.begin()
    desk.hears(HELLO, ranking())
    desk.hears(HELLO)
    assert desk.link.answer is not None
    desk.hears(replace(HELLO, bundle_id="another"))
    assert desk.link.answer is None


class TestRuns:
    def test_the_run_whose_first_volume_comes_is_ours(self, desk):
        header = run_header(20)
        desk.hears(header)
        assert desk.link.run is header
        desk.link.begin()
        desk.hears(ranking(0), ranking(1))
        assert desk.link.run is header
        assert desk.link.answer.index == 1
        assert not desk.link.has_ended([RunEnd("run-9", 20)])
        assert desk.link.has_ended([HELLO, RunEnd("run-1", 20)])

    def heard_before(self, desk, *messages):
        """What the server said that nobody heard of since but that it is there."""
        desk.hears(run_header(20), ranking(7), *messages)
        for _ in range(6):
            desk.hears(HELLO, ranking(7), at_s=desk.now_s + 1.0)
        assert desk.link.run is None

    def test_one_that_was_over_is_another(self, desk):
        self.heard_before(desk)
        desk.link.begin()
        assert (desk.link.run, desk.link.answer) == (None, None)
        assert not desk.link.has_ended([RunEnd("run-1", 20)])
        desk.link.report("started", 1.0, "")
        desk.hears(run_header(30, "run-2"), ranking(0, run_id="run-2"))
        desk.link.report("rest", 2.0, "")
        assert desk.link.run.n_volumes == 30
        assert desk.link.answer.run_id == "run-2"
        assert desk.link.has_ended([RunEnd("run-2", 20)])
        assert desk.reports == [("started", 1.0, "", ""), ("rest", 2.0, "run-2", "")]
        assert desk.told == []

    def test_one_whose_end_was_heard_just_now_is_another(self, desk):
        desk.hears(run_header(20), ranking(19), RunEnd("run-1", 20))
        desk.hears()
        desk.link.begin()
        assert (desk.link.run, desk.link.answer) == (None, None)

    def test_one_that_is_under_way_is_ours_and_told(self, desk):
        desk.hears(ranking(6))
        desk.hears(ranking(7))
        desk.hears()
        desk.link.begin()
        assert desk.link.answer.index == 7
        assert len(desk.told) == 1
        assert "run run-1 had 8 volumes before the trigger came here" in desk.told[0]

    def test_one_that_follows_another_in_no_time_is_ours(self, desk):
        self.heard_before(desk)
        desk.hears(run_header(30, "run-2"), ranking(0, run_id="run-2"))
        desk.link.begin()
        assert desk.link.answer.run_id == "run-2"
        assert desk.told == []

    def test_what_comes_with_the_trigger_is_ours_even_if_it_is_more_than_one_volume(self, desk):
        desk.hears(ranking(0), ranking(1))
        desk.link.begin()
        assert desk.link.answer.index == 1

    def test_a_display_that_was_started_again_goes_on_with_it(self, desk):
        desk.hears(ranking(7))
        desk.link.rejoin()
        assert desk.link.answer.index == 7
        assert desk.link.has_ended([RunEnd("run-1", 20)])
