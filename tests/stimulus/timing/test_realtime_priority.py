"""The display runs before other programs only where it may, and only as long as it plays."""

import os

import pytest

from stimulus.timing.realtime_priority import realtime_priority

linux = pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="this system has no schedulers to choose from")


@linux
def test_what_was_is_restored():
    before = os.sched_getscheduler(0)
    with realtime_priority() as permitted:
        assert (os.sched_getscheduler(0) == os.SCHED_RR) is permitted
    assert os.sched_getscheduler(0) == before


@linux
def test_without_permission_all_goes_on_as_before(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with realtime_priority() as permitted:
        assert not permitted


def test_systems_without_schedulers_do_without(monkeypatch):
    monkeypatch.delattr(os, "sched_setscheduler", raising=False)
    with realtime_priority() as permitted:
        assert not permitted
