"""Report the progress of work, and share work out over a pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

Report = Callable[[str, int, int], object]
_T = TypeVar("_T")


def quiet(stage: str, done: int, total: int) -> None:
    """Report to nobody: a `Report` that does nothing."""


def in_pool(
    pool: Executor, stage: str, report: Report, work: Callable[..., _T], arguments: Sequence[tuple[Any, ...]]
) -> list[_T]:
    """Return the results of `work`, in the order of its arguments, computed by the pool's processes."""
    report(stage, 0, len(arguments))
    found = []
    for result in pool.map(work, *zip(*arguments, strict=True)):
        found.append(result)
        report(stage, len(found), len(arguments))
    return found
