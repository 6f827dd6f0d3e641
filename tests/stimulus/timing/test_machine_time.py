"""The clock that nobody sets, and what it says where the wall clock says something else."""

from __future__ import annotations

import time

import pytest

from stimulus.timing import machine_time
from stimulus.timing.machine_time import MachineTime, Moment


def test_it_goes_on_and_comes_back_from_a_log():
    first = machine_time.machine_time()
    if first is None:
        pytest.skip("this system does not say when it was started")
    second = machine_time.machine_time()
    assert first.boot == second.boot
    assert 0 <= second.at_s - first.at_s < 60
    assert second.at_s >= time.monotonic() - 1
    read = MachineTime.read(str(first))
    assert (read.boot, read.at_s) == (first.boot, pytest.approx(first.at_s, abs=1e-6))


@pytest.mark.parametrize("text", ["", "n/a", "boot", "boot x", "boot x y", "boot x 1 2", "run-1"])
def test_other_cells_hold_none(text):
    assert MachineTime.read(text) is None


def test_a_system_without_it_has_none(monkeypatch, tmp_path):
    monkeypatch.setattr(machine_time, "_BOOT_ID", tmp_path / "absent")
    assert machine_time.machine_time() is None


@pytest.mark.parametrize("set_by_s", [0.0, 0.4, -0.4, 0.6, -7200.0])
def test_the_wall_clock_does_not_count_and_that_it_was_set_is_said(set_by_s):
    start = Moment(1000.0, MachineTime("a", 50.0))
    since_s, line = Moment(1010.0 + set_by_s, MachineTime("a", 60.0)).since(start)
    assert since_s == 10.0
    assert bool(line) == (abs(set_by_s) > 0.5)
    if line:
        assert f"set by {set_by_s:+.1f} s" in line


@pytest.mark.parametrize(
    ("start", "now", "why"),
    [
        (None, None, "this machine has no other"),
        (None, MachineTime("a", 60.0), "the log tells of no other"),
        (MachineTime("a", 50.0), MachineTime("b", 60.0), "started again"),
    ],
)
def test_where_there_is_no_other_the_wall_clock_counts_and_that_is_said(start, now, why):
    since_s, line = Moment(1010.0, now).since(Moment(1000.0, start))
    assert since_s == 10.0
    assert why in line
    since_s, line = Moment(990.0, now).since(Moment(1000.0, start))
    assert since_s == 0.0
    assert "-10.0 s ago" in line
