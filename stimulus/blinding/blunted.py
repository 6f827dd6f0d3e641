"""Reports of a sealed run that do not give its condition away: they say when things were due, not when they were drawn.

How long a picture takes to draw depends on its content, and the content depends on the condition. So times are rounded,
reports are sent in slots of time, and each report of something shown names the server's answer, not the sham.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from stimulus.blinding.sealed_tables import SLOT_S

#: Times that differ by less than this count as the same, seconds.
_SAME_S = 1e-6


class Blunted:
    """Reports to the server with rounded times, sent with a delay.

    Parameters
    ----------
    report : callable
        Sends a report; called with its kind, its time by the display's clock in seconds, and its value.
    """

    def __init__(self, report: Callable[[str, float, str], None]) -> None:
        self._report = report
        self._waiting: list[tuple[float, str, float, str]] = []

    def onset_s(self, planned_s: float, flip_s: float) -> float:
        """Round a step's onset: the planned one, moved by whole slots; it stays if late by less than half a slot.

        Parameters
        ----------
        planned_s : float
            Planned onset, seconds by the display's clock.
        flip_s : float
            Time at which the step was first on the screen, by the same clock.
        """
        return planned_s + round((flip_s - planned_s) / SLOT_S) * SLOT_S

    def onset(self, kind: str, onset_s: float, value: str) -> None:
        """Take in that a step began; the report is due half a slot later.

        Parameters
        ----------
        kind : str
            Kind of the step.
        onset_s : float
            Onset as the method `onset_s` rounds it, seconds by the display's clock.
        value : str
            Value of the report.
        """
        self._waiting.append((onset_s + SLOT_S / 2, kind, onset_s, value))

    def shown(self, started_s: float, due_s: float, now_s: float, value: str) -> None:
        """Take in that an answer of the server was due on the screen.

        Parameters
        ----------
        started_s : float
            When the run began; all times by the display's clock.
        due_s : float
            When both the answer had come and its step had begun.
        now_s : float
        value : str
            Value of the report.
        """
        at_s, seen_s = (_slot_after(started_s, time_s) for time_s in (due_s, now_s))
        # A picture is drawn within a slot after it is due.
        self._waiting.append((max(at_s + SLOT_S, seen_s), "shown", at_s, value))

    def poll(self, now_s: float = math.inf) -> None:
        """Send the reports that are due.

        Parameters
        ----------
        now_s : float, optional
            Present time by the display's clock, seconds; by default all reports are due.
        """
        if not self._waiting:
            return
        due = sorted(report for report in self._waiting if report[0] <= now_s)
        self._waiting = [report for report in self._waiting if report[0] > now_s]
        for _, kind, at_s, value in due:
            self._report(kind, at_s, value)


def _slot_after(started_s: float, time_s: float) -> float:
    return started_s + math.ceil((time_s - started_s - _SAME_S) / SLOT_S) * SLOT_S
