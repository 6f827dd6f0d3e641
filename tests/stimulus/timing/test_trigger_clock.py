"""What pulses mean, against a naive reference; and what the operator is told, word for word where it matters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stimulus.timing.trigger_clock import TriggerClock

TR_S = 2.0


def told(metronome, *times_s):
    """All lines that these pulses give."""
    return [line for at_s in times_s for line in metronome.pulse(at_s)]


def ticked(metronome, first_s, last_s):
    """When something was told, and what, ticking each half second."""
    halves = range(round(2 * first_s), round(2 * last_s) + 1)
    return [(half / 2, line) for half in halves for line in metronome.tick(half / 2)]


def steady(n, first_s=100.0, interval_s=TR_S):
    return [first_s + k * interval_s for k in range(n)]


def accepted_naively(times_s, tr_s):
    accepted = []
    for at_s in times_s:
        if not accepted or at_s - accepted[-1] >= tr_s / 2:
            accepted.append(at_s)
    return accepted


@given(
    times_s=st.lists(st.floats(0, 300), max_size=60).map(sorted),
    tr_s=st.floats(0.3, 5),
    n_dummies=st.integers(0, 4),
    ticks=st.booleans(),
)
def test_any_pulses_are_counted_as_a_naive_reference_counts_them(times_s, tr_s, n_dummies, ticks):
    metronome = TriggerClock(tr_s, n_dummies)
    for at_s in times_s:
        if ticks:
            metronome.tick(at_s)
        metronome.pulse(at_s)
    accepted = accepted_naively(times_s, tr_s)
    run = accepted[n_dummies:]
    assert metronome.started_s == (run[0] if run else None)
    assert metronome.n_pulses == len(run)
    assert metronome.n_bounced == len(times_s) - len(accepted)
    assert len(metronome.errors_s) == len(run)
    assert all(abs(error_s) <= tr_s / 2 + 1e-9 for error_s in metronome.errors_s)
    assert metronome.errors_s[:1] == ((0.0,) if run else ())
    assert f"{metronome.n_bounced} came too fast" in metronome.summary()


@given(
    jitters_s=st.lists(st.floats(-0.004, 0.004), min_size=1, max_size=40),
    lost=st.sets(st.integers(1, 39)),
    started_s=st.floats(0, 1e4),
)
def test_errors_are_the_jitter_however_many_pulses_are_lost(jitters_s, lost, started_s):
    jitters_s[0] = 0.0
    metronome = TriggerClock(TR_S)
    kept = [k for k in range(len(jitters_s)) if k not in lost]
    for k in kept:
        metronome.pulse(started_s + k * TR_S + jitters_s[k])
    assert metronome.errors_s == pytest.approx([jitters_s[k] for k in kept], abs=1e-9)
    assert f"{len(kept)} of {kept[-1] + 1} expected" in metronome.summary()


def test_a_scanner_that_keeps_time_gives_the_operator_nothing_to_read():
    metronome = TriggerClock(TR_S, n_dummies=2)
    lines = ticked(metronome, 90, 100)
    for at_s in steady(50):
        lines += metronome.pulse(at_s + 0.003 * (-1) ** round(at_s)) + ticked(metronome, at_s + 0.5, at_s + 2)
    assert lines == []
    assert metronome.n_pulses == 48


def test_summary():
    metronome = TriggerClock(TR_S, n_dummies=1)
    told(metronome, 98.0)
    assert metronome.summary() == "triggers: no volume yet, 1 of 1 dummies; 0 came too fast"
    told(metronome, 100.0, 100.01, 102.001, 106.004)
    assert metronome.summary() == (
        "triggers: 3 of 4 expected; 1 came too fast; their timing error 4.0 ms at worst, 1.0 ms in the median"
    )
    metronome.tick(109.1)
    assert "3 of 5 expected" in metronome.summary()


def test_bounces_are_told_at_the_1st_10th_and_100th():
    metronome = TriggerClock(TR_S)
    metronome.pulse(0.0)
    lines = [metronome.pulse(0.5 + 0.0049 * k) for k in range(100)]
    assert [n for n, line in enumerate(lines, 1) if line] == [1, 10, 100]
    assert lines[0] == ["1 trigger pulse came too fast, within 1 s (half a TR) of the one before: ignored"]
    assert lines[9] == ["10 trigger pulses came too fast, within 1 s (half a TR) of the one before: ignored"]


def test_a_key_held_down_is_suspected():
    metronome = TriggerClock(TR_S)
    repeats_s = [0.0, *(0.5 + k / 30 for k in range(30))]
    lines = told(metronome, *repeats_s)
    assert [line.endswith("a key may be held down") for line in lines] == [False, True]
    assert metronome.n_pulses == 2  # half a TR on, one is accepted


def test_pulses_too_fast_or_too_seldom_for_a_key_are_not_called_one():
    for interval_s in (0.005, 0.16):
        metronome = TriggerClock(10.0)
        lines = told(metronome, *steady(12, interval_s=interval_s))
        assert len(lines) == 2
        assert "held" not in "".join(lines)


def test_another_tr_than_the_schedules_is_told_once():
    metronome = TriggerClock(TR_S)
    lines = [metronome.pulse(at_s) for at_s in steady(30, interval_s=1.5)]
    assert [n for n, line in enumerate(lines, 1) if line] == [6]
    assert lines[5][0].startswith("triggers come every 1.5 s, but the schedule's TR is 2 s")


@pytest.mark.parametrize(("interval_s", "n_lines"), [(1.91, 0), (2.09, 0), (1.89, 1), (2.11, 1)])
def test_a_tr_within_5_percent_is_the_schedules(interval_s, n_lines):
    assert len(told(TriggerClock(TR_S), *steady(10, interval_s=interval_s))) == n_lines


def test_two_lost_pulses_do_not_make_another_tr():
    metronome = TriggerClock(TR_S)
    lines = told(metronome, *(100 + TR_S * k for k in (0, 2, 3, 5, 6, 7)))
    assert not any("schedule" in line for line in lines)


def test_waiting_in_vain_is_told_as_often_as_patience_ends():
    metronome = TriggerClock(TR_S, patience_s=20)
    lines = ticked(metronome, 7, 70)
    assert [at_s for at_s, _ in lines] == [27, 47, 67]
    assert lines[0][1].startswith("no trigger for 20 s: check the trigger's cable")
    assert lines[1][1].startswith("no trigger for 40 s")


def test_a_dummy_is_a_sign_of_life():
    metronome = TriggerClock(TR_S, n_dummies=3, patience_s=20)
    assert ticked(metronome, 0, 19) == []
    metronome.pulse(19.5)
    assert [at_s for at_s, _ in ticked(metronome, 20, 45)] == [39.5]


def test_a_pulse_that_never_came_is_told_at_most_once_a_minute():
    metronome = TriggerClock(TR_S)
    told(metronome, *steady(3, first_s=0.0))
    lines = ticked(metronome, 4.5, 130)
    assert [at_s for at_s, _ in lines] == [7.5, 67.5, 127.5]
    assert lines[0][1].startswith("no trigger for 3.5 s; the run goes on")


def test_a_gap_between_two_ticks_is_told_by_the_pulse_that_ends_it():
    metronome = TriggerClock(0.5)
    told(metronome, 0.0, 0.5)
    assert metronome.tick(1.2) == []
    assert metronome.pulse(1.5) == [
        "no trigger for 1.0 s; the run goes on by this computer's clock: check the trigger's cable"
    ]


def test_a_scanner_that_only_tells_the_beginning_is_told_of_once():
    metronome = TriggerClock(TR_S)
    metronome.pulse(0.0)
    assert [at_s for at_s, _ in ticked(metronome, 0.5, 300)] == [3.5]


def test_a_display_that_was_started_again_counts_from_there():
    metronome = TriggerClock(TR_S, n_dummies=4)
    metronome.rejoin(100.0)
    assert (metronome.started_s, metronome.n_pulses, metronome.errors_s) == (100.0, 0, ())
    assert ticked(metronome, 151, 151.5) == []
    assert told(metronome, 152.003, 154.001) == []
    assert (metronome.started_s, metronome.n_pulses) == (100.0, 2)
    assert metronome.errors_s == pytest.approx((0.003, 0.001))
    assert "2 of 2 expected" in metronome.summary()


def test_a_display_that_was_started_again_and_hears_nothing_says_so():
    metronome = TriggerClock(TR_S)
    metronome.rejoin(100.0)
    assert [at_s for at_s, _ in ticked(metronome, 150.5, 250)] == [154]
    assert "0 of 49 expected" in metronome.summary()


def test_what_was_told_while_waiting_holds_back_nothing_within_the_run():
    metronome = TriggerClock(TR_S, patience_s=20)
    assert [at_s for at_s, _ in ticked(metronome, 0, 21)] == [20]
    metronome.pulse(22.0)
    assert [at_s for at_s, _ in ticked(metronome, 22.5, 30)] == [25.5]
