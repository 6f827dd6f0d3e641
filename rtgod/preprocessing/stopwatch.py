"""A stopwatch for the stages of a volume."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


class Stopwatch:
    """Collects the milliseconds of each stage, in the order in which they run."""

    def __init__(self) -> None:
        self.stage_ms: dict[str, float] = {}

    def time(self, stage: str, work: Callable[[], _T]) -> _T:
        """Run `work` and add its time to `stage`."""
        start = time.perf_counter_ns()
        try:
            return work()
        finally:
            self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + (time.perf_counter_ns() - start) / 1e6
