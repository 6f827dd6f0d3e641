"""Which events of a key are presses, against a reference that sees all of them at once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stimulus.timing.debounce import KeyDebouncer
from stimulus.timing.triggers import KeyPress

GAPS_S = st.sampled_from((0.004, 0.02, 0.033, 0.09, 0.12, 0.3, 0.9, 1.5))


def taken(events, steps_s=0.001):
    """All presses that are known, looking every so often."""
    presses, lines = KeyDebouncer(), []
    found, now_s, waiting = [], 0.0, list(events)
    while waiting or now_s < (events[-1].at_s if events else 0) + 1:
        due = [event for event in waiting if event.at_s <= now_s]
        waiting = waiting[len(due) :]
        some, told = presses.without_bounces(due, now_s)
        found += some
        lines += told
        now_s += steps_s
    return found, lines


def naive(events):
    """Without bounces, an event is a press unless it soon follows one, or begins a row of repeats."""
    kept = []
    for event in events:
        if not kept or event.at_s - kept[-1].at_s >= 0.015:
            kept.append(event)
    if not kept:
        return []
    before = [float("inf"), *(b.at_s - a.at_s for a, b in pairwise(kept))]
    after = [*before[1:], float("inf")]
    return [
        event
        for event, since_s, until_s in zip(kept, before, after, strict=True)
        if since_s > 1.05 or (since_s > 0.1 and until_s > 0.1)
    ]


@given(st.lists(GAPS_S, max_size=12), st.sampled_from((0.001, 0.017, 0.4)))
def test_presses_are_those_that_one_would_count_afterwards(gaps_s, steps_s):
    events, at_s = [], 0.5
    for gap_s in gaps_s:
        at_s += gap_s
        events.append(KeyPress("1", at_s))
    assert taken(events, steps_s)[0] == naive(events)


def test_keys_do_not_disturb_each_other():
    events = [KeyPress("1", 1.0), KeyPress("2", 1.02), KeyPress("1", 1.3), KeyPress("2", 1.33)]
    assert sorted(taken(events)[0]) == sorted(events)


def test_a_press_by_itself_is_known_at_once_and_one_that_follows_soon_after_a_tenth():
    presses = KeyDebouncer()
    first, second = KeyPress("1", 5.0), KeyPress("1", 5.4)
    assert presses.without_bounces([first], 5.001) == ([first], [])
    assert presses.without_bounces([second], 5.401) == ([], [])
    assert presses.without_bounces([], 5.49) == ([], [])
    assert presses.without_bounces([], 5.51) == ([second], [])


def test_a_contact_that_bounces_is_pressed_once_however_often():
    bounced = [KeyPress("1", at_s + n * 0.003) for at_s in (1.0, 1.4, 1.8) for n in range(4)]
    assert [press.at_s for press in taken(bounced)[0]] == [1.0, 1.4, 1.8]


@pytest.mark.parametrize(("delay_s", "every_s"), [(0.25, 0.033), (0.66, 0.04), (1.0, 0.032), (0.5, 0.09)])
def test_a_key_that_is_held_down_is_pressed_once_and_told_once_each_time(delay_s, every_s):
    held = [
        KeyPress("1", at_s)
        for start_s in (1.0, 9.0)
        for at_s in (start_s, *(start_s + delay_s + n * every_s for n in range(30)))
    ]
    found, lines = taken(held)
    assert [press.at_s for press in found] == [1.0, 9.0]
    assert lines == ["button '1' is held down, or stuck; that counts as one press"] * 2
