"""Refusals: all are counted, few are logged, none is long."""

import logging

import pytest

from rtgod.server import refusals
from rtgod.server.refusals import LONGEST_REASON, Refusals


@pytest.fixture
def clock(monkeypatch):
    now_s = [100.0]
    monkeypatch.setattr(refusals.time, "monotonic", lambda: now_s[0])
    return now_s


def test_each_is_counted_and_one_a_second_is_logged(clock, caplog):
    noted = Refusals()
    with caplog.at_level(logging.WARNING):
        for number in range(1000):
            noted.note(f"reason {number}")
        clock[0] += 0.5
        noted.tell()
        clock[0] += 0.6
        noted.tell()
        clock[0] += 5.0
        noted.tell()
    assert noted.n == 1000
    assert caplog.messages == ["refused: reason 0", "refused 999 messages, the newest: reason 999"]


def test_what_was_sent_for_its_length_is_shortened(clock, caplog):  # noqa: ARG001 # no second passes
    with caplog.at_level(logging.WARNING):
        told = Refusals().note("<a " * 300_000 + "\x1b[31m")
    assert len(told) < LONGEST_REASON + 30
    assert told.endswith(f"… ({900_005 - LONGEST_REASON} more)")
    assert len(caplog.messages[0]) < LONGEST_REASON + 50


def test_what_would_move_a_terminal_does_not(clock):  # noqa: ARG001
    assert "\x1b" not in Refusals().note("\x1b[2J")
