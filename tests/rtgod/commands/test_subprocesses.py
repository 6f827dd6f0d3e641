"""Whoever waits for one process notices the death of another that it needs."""

import time

import pytest

from rtgod.commands.subprocesses import CommandProcess, PartError, step

#: Asks for a status where nobody is, for an hour.
PATIENT = ("status", "--from", "tcp://127.0.0.1:1", "--wait", "3600")
WAIT_S = 60.0


def test_a_wait_ends_with_the_part_that_is_needed():
    with CommandProcess("serve", "no-such-bundle", lasting=True) as server:
        began_s = time.monotonic()
        with pytest.raises(PartError, match="`rtgod serve` failed with code 2"):
            step(*PATIENT, beside=[server])
        assert time.monotonic() - began_s < WAIT_S


def test_so_does_the_wait_for_a_ready_file(tmp_path):
    with (
        CommandProcess("serve", "no-such-bundle") as server,
        CommandProcess(*PATIENT, beside=[server]) as display,
        pytest.raises(PartError, match="`rtgod serve` failed"),
    ):
        display.wait_for(tmp_path / "ready")


@pytest.mark.parametrize("lasting", [True, False])
def test_a_good_end_is_one_only_for_what_is_not_to_last(lasting):
    with (
        CommandProcess("keys", "--help", lasting=lasting) as other,
        CommandProcess(*PATIENT, beside=[other]) as waiting,
    ):
        other._process.wait(WAIT_S)
        with pytest.raises(PartError, match="ended early" if lasting else "did not end within"):
            waiting.wait_end(0.5)


def test_a_part_that_does_its_work_has_done_it():
    step("keys", "--help")
    with pytest.raises(PartError, match="failed with code 2"):
        step("keys", "--no-such-option")
