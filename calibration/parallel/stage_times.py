"""Where the time goes: seconds of each stage, as the work tells of it."""

from __future__ import annotations

import time
from collections.abc import Callable


class StageTimes:
    """Passes progress on, and keeps how long each stage took on the clock, from when it was first told of to the last.

    Parameters
    ----------
    told : callable
        Told (stage, steps done, steps in all), too.

    Attributes
    ----------
    seconds : dict of str to float
        In the order in which the stages began.
    """

    def __init__(self, told: Callable[[str, int, int], object]) -> None:
        self._told = told
        self._began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note, and pass it on."""
        now = time.perf_counter()
        self.seconds[stage] = now - self._began.setdefault(stage, now)
        self._told(stage, done, total)
