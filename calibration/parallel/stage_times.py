"""Measure the seconds that each stage of work takes, from its reports of progress."""

from __future__ import annotations

import time
from collections.abc import Callable


class StageTimes:
    """Reporter that passes progress on, and measures the clock time of each stage from its first to its last report.

    Parameters
    ----------
    told : callable
        Called with (stage, steps done, steps in all), too.

    Attributes
    ----------
    seconds : dict of str to float
        Seconds of each stage, in the order in which the stages began.
    """

    def __init__(self, told: Callable[[str, int, int], object]) -> None:
        self._told = told
        self._began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Measure the time of a report, and pass it on."""
        now = time.perf_counter()
        self.seconds[stage] = now - self._began.setdefault(stage, now)
        self._told(stage, done, total)
