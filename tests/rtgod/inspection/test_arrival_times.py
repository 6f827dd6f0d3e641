"""What the times of files are worth: the scanner's, a copy's, those of another clock or time zone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.inspection.arrival_times import Stamp, judged, nearest_to_0, spread_of

DAY, NOON_S, TR_S = 20000, 43200.0, 2.0
HOUR_S = 3600.0


def stamps(delay_s, n=30, day=DAY, start_s=NOON_S):
    return [
        Stamp(7, day, (start_s + k * TR_S) % 86400, DAY * 86400 + start_s + k * TR_S + delay_s(k)) for k in range(n)
    ]


@given(st.lists(st.floats(0.0, 5.0), min_size=30, max_size=30), st.sampled_from([DAY, None]))
def test_files_at_the_pace_of_their_acquisition_arrived_then(jitter_s, day):
    times = judged(stamps(lambda k: TR_S + jitter_s[k], day=day))
    assert (times.are_known, times.is_relative, times.offset_s, times.remark) == (True, False, 0.0, "")


@pytest.mark.parametrize("after_s", [-50.0, 2000.0, 30 * 86400.0], ids=["before", "within the hour", "a month later"])
def test_files_that_were_written_at_once_are_a_copy(after_s):
    end_s = DAY * 86400 + NOON_S + 30 * TR_S
    times = judged([Stamp(7, DAY, NOON_S + k * TR_S, end_s + after_s + 0.01 * k) for k in range(30)])
    assert not times.are_known
    assert not times.is_burst
    assert "copy" in times.remark


def test_a_series_written_at_once_after_its_end_is_no_live_export_or_a_copy():
    end_s = DAY * 86400 + NOON_S + 30 * TR_S
    times = judged([Stamp(7, DAY, NOON_S + k * TR_S, end_s + 20 + 0.01 * k) for k in range(30)])
    assert times.is_burst
    assert not times.are_known


@pytest.mark.parametrize("hours", [-8, -1, 1, 5.5, 10])
def test_the_difference_of_a_time_zone_is_taken_off(hours):
    times = judged(stamps(lambda k: TR_S + 0.3 + 0.01 * (k % 5) + hours * HOUR_S))
    assert times.are_known
    assert times.offset_s == hours * HOUR_S
    assert f"{abs(hours):g} h apart" in times.remark


@pytest.mark.parametrize("off_s", [-140.0, 1300.0, 40 * 86400.0, -400 * 86400.0])
def test_clocks_that_differ_otherwise_leave_delays_relative_and_tell_no_date(off_s):
    times = judged(stamps(lambda k: TR_S + 0.3 + 0.01 * (k % 5) + off_s))
    assert (times.are_known, times.is_relative) == (True, True)
    assert times.offset_s == pytest.approx(TR_S + 0.3 + off_s)
    if abs(off_s) > 86400:
        assert not any(character.isdigit() for character in times.remark)


def test_midnight_is_no_jump_where_days_are_not_said():
    times = judged(stamps(lambda _: TR_S + 0.3, day=None, start_s=86400 - 20.0))
    assert (times.are_known, times.is_relative) == (True, False)


def test_files_of_one_clock_time_are_judged_by_when_they_were_written():
    """As GE's, which all have the time of the series."""
    assert judged([Stamp(7, DAY, NOON_S, DAY * 86400 + NOON_S + 2.3 + k * TR_S) for k in range(30)]).are_known
    assert not judged([Stamp(7, DAY, NOON_S, DAY * 86400 + NOON_S + 1e7 + k / 100) for k in range(30)]).are_known


def test_files_without_times_have_no_delays():
    times = judged([Stamp(7, None, None, DAY * 86400 + 3.0 * k) for k in range(30)])
    assert not times.are_known
    assert "do not say when they were acquired" in times.remark


@given(st.integers(-(10**6), 10**6))
def test_whole_days_are_taken_off(seconds):
    assert -43200 <= nearest_to_0(seconds) <= 43200
    assert (nearest_to_0(seconds) - seconds) % 86400 == 0


@given(st.lists(st.floats(-10, 100), min_size=1))
def test_the_worst_is_the_worst(delays_s):
    middle, most, worst = spread_of(delays_s)
    assert worst == max(delays_s)
    assert min(delays_s) <= middle <= most <= worst
