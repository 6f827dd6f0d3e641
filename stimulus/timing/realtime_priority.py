"""Real-time priority over other programs, so that a busy server on the same machine delays no picture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def realtime_priority() -> Iterator[bool]:
    """Run before other programs if the system permits it; Linux permits it to root, and to users with an rtprio limit.

    Threads and programs that are started meanwhile, such as those that draw, have the same priority.

    Yields
    ------
    bool
        Whether it was permitted.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield False
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(os.sched_get_priority_min(os.SCHED_RR)))
    except PermissionError:
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, *before)
