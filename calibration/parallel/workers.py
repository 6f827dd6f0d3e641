"""Workers: this process alone, several on this machine, or a Dask cluster; results are the same for all.

Each piece of work runs on one thread: together they fill the machine, and sums in another order would differ in their
last bits. The inputs of a piece travel with it, so that when a process dies, another does its work again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from threading import Lock
from typing import Any, Self, TypeVar

from calibration.parallel.pools import Here, Pool, name_of, on_one_thread
from rtgod.errors import InputError, WorkerError

_T = TypeVar("_T")
#: Number of pieces handed over at a time for each process: enough that none waits for work, few enough for the memory.
_AHEAD = 4
#: Number of deaths of processes, after which the work that they were doing is given up.
_MOST_DEATHS = 4


@contextmanager
def workers(n: int | None = None, scheduler: str | None = None) -> Iterator[Executor]:
    """Open processes that share work for the length of a `with` block; work that is not done at its end is dropped.

    `submit` hands over one call; `map` gives results in the order of the calls, and takes new calls as its results are
    taken, so that neither all calls nor all results are in memory at once. Calls and results are pickled.

    Parameters
    ----------
    n : int, optional
        Number of processes on this machine, by default one for each core. One is this process itself, and `submit`
        returns when the call is done.
    scheduler : str, optional
        Address of a Dask scheduler, such as tcp://HOST:8786, whose workers are used instead. They must find the same
        files under the same paths.

    Raises
    ------
    InputError
        If no scheduler answers, it has no workers, their packages differ from this process's, or `n` is given, too.
    """
    if scheduler and n:
        raise InputError(f"--workers {n} --scheduler {scheduler}: a cluster has its own workers; give one of the two")
    if scheduler:
        from calibration.parallel.cluster import connected

        with connected(scheduler, _AHEAD) as cluster:
            yield cluster
    elif (n := n or os.cpu_count() or 1) == 1:
        yield Here()
    else:
        with _Processes(n) as processes:
            yield processes


class _Processes(Pool):
    """Processes of this machine. When one dies, all are started anew, and do again what was not done."""

    def __init__(self, n: int) -> None:
        self.ahead = _AHEAD * n
        self._n, self._lock = n, Lock()
        self._others = set(multiprocessing.active_children())
        self._processes = _started(n)

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        outcome: Future[_T] = Future()
        outcome.set_running_or_notify_cancel()

        def attempt(n_deaths: int) -> None:
            with self._lock:
                try:
                    call = self._processes.submit(on_one_thread, fn, *args, **kwargs)
                except BrokenProcessPool:
                    self._processes = _started(self._n)
                    call = self._processes.submit(on_one_thread, fn, *args, **kwargs)
            call.add_done_callback(lambda call: settle(call, n_deaths))

        def settle(call: Future[_T], n_deaths: int) -> None:
            try:
                outcome.set_result(call.result())
            except BrokenProcessPool:
                if n_deaths + 1 < _MOST_DEATHS:
                    attempt(n_deaths + 1)
                    return
                problem = f"{name_of(fn)}: {_MOST_DEATHS} processes died of it in turn, perhaps for want of memory"
                outcome.set_exception(WorkerError(f"{problem}; use fewer --workers, or workers with more of it"))
            except BaseException as error:  # noqa: BLE001 # the caller of `result` gets it
                outcome.set_exception(error)

        attempt(0)
        return outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._processes.shutdown(wait=False, cancel_futures=True)
        if kind is not None:  # do not wait until running calls end
            for process in set(multiprocessing.active_children()) - self._others:
                process.kill()
        self._processes.shutdown()


def _started(n: int) -> ProcessPoolExecutor:
    """Start processes, which ignore Ctrl-C: a terminal sends it to all, but only one should handle it."""
    processes = ProcessPoolExecutor(n, multiprocessing.get_context("spawn"), _ignore_interrupts)
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        return processes
    # Processes inherit that it is blocked until they ignore it; the first call starts all of them.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        processes.submit(int)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return processes


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
