"""What a sealed run reports while nobody may know its condition: when things were due, not when they were drawn.

How long a picture takes to draw depends on what is in it, and what is drawn depends on the condition. So times are
rounded, reports are sent in slots of time, and what is told to have been shown is what the server answered.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from stimulus.blinding.sealed_tables import SLOT_S

#: Times closer than this are the same.
_SAME_S = 1e-6


class Blunted:
    """Reports to the server, rounded and put off.

    Parameters
    ----------
    report : callable
        Sends a report: kind, time of the display's clock, value.
    """

    def __init__(self, report: Callable[[str, float, str], None]) -> None:
        self._report = report
        self._waiting: list[tuple[float, str, float, str]] = []

    def onset_s(self, planned_s: float, flip_s: float) -> float:
        """When a step began, to the next slot: as planned, unless it was late by more than half of one."""
        return planned_s + round((flip_s - planned_s) / SLOT_S) * SLOT_S

    def onset(self, kind: str, onset_s: float, value: str) -> None:
        """A step began; half a slot later it is sent."""
        self._waiting.append((onset_s + SLOT_S / 2, kind, onset_s, value))

    def shown(self, started_s: float, due_s: float, now_s: float, value: str) -> None:
        """An answer of the server was due on the screen.

        Parameters
        ----------
        started_s : float
            When the run began.
        due_s : float
            When the answer had come, and its step had begun.
        now_s : float
        value : str
        """
        at_s, seen_s = (_slot_after(started_s, time_s) for time_s in (due_s, now_s))
        # A picture is drawn within a slot after it is due.
        self._waiting.append((max(at_s + SLOT_S, seen_s), "shown", at_s, value))

    def poll(self, now_s: float = math.inf) -> None:
        """Send what is to be sent by now; by default everything."""
        if not self._waiting:
            return
        due = sorted(waiting for waiting in self._waiting if waiting[0] <= now_s)
        self._waiting = [waiting for waiting in self._waiting if waiting[0] > now_s]
        for _, kind, at_s, value in due:
            self._report(kind, at_s, value)


def _slot_after(started_s: float, time_s: float) -> float:
    return started_s + math.ceil((time_s - started_s - _SAME_S) / SLOT_S) * SLOT_S
