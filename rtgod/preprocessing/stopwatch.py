"""A stopwatch for the stages of processing a volume."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Stopwatch that collects the milliseconds of each stage, in the order in which stages end.

    It is used as `with stopwatch("align"): ...`.
    """

    def __init__(self) -> None:
        self.stage_ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the duration of the `with` block to a stage, even if the block raises."""
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + (time.perf_counter_ns() - start) / 1e6
