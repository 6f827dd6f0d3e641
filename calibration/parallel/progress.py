"""Report the progress of work, and share work out over a pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

#: Called with the name of a stage, and the numbers of its steps that are done and in all.
Report = Callable[[str, int, int], object]
_T = TypeVar("_T")


def quiet(stage: str, done: int, total: int) -> None:
    """Report to nobody: a `Report` that does nothing.

    Parameters
    ----------
    stage : str
    done, total : int
        Number of steps done, and of all steps of the stage.
    """


def in_pool(
    pool: Executor, stage: str, report: Report, work: Callable[..., _T], arguments: Sequence[tuple[Any, ...]]
) -> list[_T]:
    """Return the results of a function, in the order of its arguments, computed by the pool's processes.

    Parameters
    ----------
    pool : Executor
    stage : str
        Name of the work for people.
    report : callable
        Called with (stage, steps done, steps in all).
    work : callable
    arguments : sequence of tuple
        Positional arguments of each call.
    """
    report(stage, 0, len(arguments))
    results = []
    for result in pool.map(work, *zip(*arguments, strict=True)):
        results.append(result)
        report(stage, len(results), len(arguments))
    return results
