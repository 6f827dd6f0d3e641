"""What all pools of workers share: results in order, little handed over ahead, and one thread for each call."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import Any, TypeVar

import numba
from threadpoolctl import threadpool_limits

_T = TypeVar("_T")


def in_order(
    pool: Executor,
    n_ahead: int,
    fn: Callable[..., _T],
    *iterables: Iterable[Any],
    timeout: float | None = None,
) -> Iterator[_T]:
    """Yield the results of calls in order; at most `n_ahead` calls without a fetched result are handed over at a time.

    Parameters
    ----------
    pool : Executor
    n_ahead : int
    fn : callable
    *iterables : iterable
        An iterable for each argument.
    timeout : float, optional
        Maximum time to wait for one result, in seconds.
    """
    calls = zip(*iterables, strict=False)
    waiting = deque(pool.submit(fn, *arguments) for arguments in islice(calls, n_ahead))
    while waiting:
        yield waiting.popleft().result(timeout)
        waiting.extend(pool.submit(fn, *arguments) for arguments in islice(calls, 1))


class Pool(Executor):
    """Executor with a `map` that runs ahead no further than it must: by `ahead` calls."""

    ahead = 1

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,  # noqa: ARG002 # one call at a time, as in `ThreadPoolExecutor`
    ) -> Iterator[_T]:
        """Yield results in order.

        Parameters
        ----------
        fn : callable
        *iterables : iterable
            An iterable for each argument.
        timeout : float, optional
            Maximum time to wait for one result, in seconds.
        chunksize : int
            Not used: one call is handed over at a time.
        """
        return in_order(self, self.ahead, fn, *iterables, timeout=timeout)


class Here(Pool):
    """The calling process in the place of workers: `submit` returns when the call is done."""

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Make a call, and return a future that holds its outcome.

        Parameters
        ----------
        fn : callable
        *args, **kwargs
            Its arguments.
        """
        outcome: Future[_T] = Future()
        try:
            outcome.set_result(on_one_thread(fn, *args, **kwargs))
        except Exception as error:  # noqa: BLE001 # the caller of `result` gets it
            outcome.set_exception(error)
        return outcome


def on_one_thread(fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> _T:
    """Make a call with one thread for BLAS, OpenMP and Numba; return its result.

    Parameters
    ----------
    fn : callable
    *args, **kwargs
        Its arguments.
    """
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        with threadpool_limits(1):
            return fn(*args, **kwargs)
    finally:
        numba.set_num_threads(before)


def name_of(fn: Callable[..., object]) -> str:
    """Return the name of a function for messages, or of the class of a callable without a name.

    Parameters
    ----------
    fn : callable
    """
    return getattr(fn, "__name__", type(fn).__name__)
