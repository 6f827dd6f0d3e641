"""Who does the work: this process alone, several on this machine, or a Dask cluster; what comes out is the same.

Each piece of work runs on one thread: together they fill the machine, and sums in another order would differ in their
last bits. What a piece needs travels with it, and stays with the scheduler until its result has arrived: when a process
dies, another does its work again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager, suppress
from itertools import count, islice
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import uuid4

import dask
import numba
from dask.utils import funcname
from distributed import Client, KilledWorker, LocalCluster, Security
from distributed import Future as Task
from distributed.comm.core import connect
from distributed.scheduler import NoWorkerError
from threadpoolctl import threadpool_limits

from rtgod.errors import InputError, WorkerError

if TYPE_CHECKING:
    from tornado.ioloop import IOLoop

_T = TypeVar("_T")
_CONNECT_TIMEOUT_S = 10
_FIRST_WORKER_TIMEOUT_S = 30
#: Pieces handed over at a time for each process: enough that none waits for work, and few enough to hold in memory.
_AHEAD = 4
#: What the numbers come from; with another version of one they may differ.
_COMPUTING = ("rtgod", "numpy", "numba", "nibabel", "pillow", "scikit-learn", "scipy", "torch", "torchvision")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_DASK = {
    # Dask warns that large arguments should be stored on a worker first; but there they are lost when it dies.
    "distributed.admin.large-graph-warning-threshold": "1 PB",
    # Dask would set the number of threads of this process, too, not only of its workers.
    "distributed.nanny.pre-spawn-environ": {},
    # How long a result is looked for at a worker that has just died.
    "distributed.comm.timeouts.connect": f"{_CONNECT_TIMEOUT_S} s",
    # Dask would not start a worker again that was slow to return after its death.
    "distributed.deploy.lost-worker-timeout": "1 day",
    "distributed.scheduler.no-workers-timeout": "5 minutes",
}


@contextmanager
def workers(n: int | None = None, scheduler: str | None = None) -> Iterator[Executor]:
    """Processes that share work for the length of a `with` block; what they have not done at its end is dropped.

    `submit` hands over one call; `map` gives results in the order of the calls, and takes new calls as its results are
    taken, so that neither need be in memory at once. What is called, with what, and what comes back is pickled.

    Parameters
    ----------
    n : int, optional
        Processes on this machine, by default one for each core. One is this process itself, and then `submit` returns
        when the call is done.
    scheduler : str, optional
        Address of a Dask scheduler, such as tcp://HOST:8786, whose workers are used instead. They must find the same
        files under the same paths.

    Raises
    ------
    InputError
        If no scheduler answers, it has no workers, their packages are not those of this process, or `n` is given, too.
    """
    if scheduler and n:
        raise InputError(f"--workers {n} --scheduler {scheduler}: a cluster has its own workers; give one of the two")
    if scheduler:
        with _connected(scheduler) as client:
            yield _Cluster(client, sum(client.nthreads().values()))
    elif (n := n or os.cpu_count() or 1) == 1:
        yield _Here()
    else:
        with _started(n) as client:
            yield _Cluster(client, n)


def in_order(
    pool: Executor,
    n_ahead: int,
    fn: Callable[..., _T],
    *iterables: Iterable[Any],
    timeout: float | None = None,
) -> Iterator[_T]:
    """Results of calls in their order; never are more than `n_ahead` calls handed over whose results are not taken.

    Parameters
    ----------
    pool : Executor
    n_ahead : int
    fn : callable
    *iterables : iterable
        One for each argument.
    timeout : float, optional
        The longest that one result is waited for, seconds.
    """
    calls = zip(*iterables, strict=False)
    waiting = deque(pool.submit(fn, *one) for one in islice(calls, n_ahead))
    while waiting:
        yield waiting.popleft().result(timeout)
        waiting.extend(pool.submit(fn, *one) for one in islice(calls, 1))


class _Pool(Executor):
    """Adds a `map` that runs no further ahead than it must; `ahead` is how many calls are handed over at a time."""

    ahead: int

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,  # noqa: ARG002 # one by one, as `ThreadPoolExecutor` does
    ) -> Iterator[_T]:
        """Results in order, each waited for by `timeout` seconds at most."""
        return in_order(self, self.ahead, fn, *iterables, timeout=timeout)


class _Here(_Pool):
    ahead = 1

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        outcome: Future[_T] = Future()
        try:
            with _one_thread():
                outcome.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 # whoever asks for the result is told
            outcome.set_exception(error)
        return outcome


class _Cluster(_Pool):
    """Calls as tasks of Dask's; a result leaves the cluster as soon as it is there."""

    def __init__(self, client: Client, n_processes: int) -> None:
        self.ahead = _AHEAD * n_processes
        self._client = client
        # Typed as if it could be None; it raises where it is not running.
        self._loop = cast("IOLoop", client.loop)
        self._session = uuid4().hex
        self._number = count()

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        # One group of keys for each function: Dask then gives out tasks as workers come free.
        key = (f"{funcname(fn)}-{self._session}", next(self._number))
        # Pickled, so that Dask does not look through the arguments for tasks, nor the scheduler unpack them.
        task = self._client.submit(_call, pickle.dumps((fn, args, kwargs), protocol=5), key=key)
        outcome: Future[_T] = Future()
        outcome.set_running_or_notify_cancel()
        self._loop.add_callback(_settle, outcome, self._client, task, funcname(fn))
        return outcome


async def _settle(outcome: Future[Any], client: Client, task: Task[Any], name: str) -> None:
    """Give the outcome of one task to whoever waits for it."""
    try:
        outcome.set_result(await client.gather(task, asynchronous=True))
    except KilledWorker as error:
        problem = f"{name}: {error.allowed_failures + 1} processes died of it in turn, perhaps for want of memory"
        outcome.set_exception(WorkerError(f"{problem}; use fewer --workers, or workers with more of it"))
    except (CancelledError, NoWorkerError):
        problem = f"{name}: the scheduler is gone, or all its workers"
        outcome.set_exception(WorkerError(f"{problem}; start them again, then this"))
    except Exception as error:  # noqa: BLE001 # whoever asks for the result is told
        outcome.set_exception(error)


def _call(pickled: bytes) -> Any:
    fn, args, kwargs = pickle.loads(pickled)  # noqa: S301 # from `submit`, through a scheduler that the user named
    with _one_thread():
        return fn(*args, **kwargs)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        numba.set_num_threads(before)


@contextmanager
def _started(n: int) -> Iterator[Client]:
    """A cluster on this machine; its processes are still starting when the block begins."""
    with (
        _set_up(),
        LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            memory_limit=None,
            # None would bind port 8787, dashboard or not.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,  # of the workers
            env=_ONE_THREAD,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        cluster.loop.add_callback(_block_interrupts)
        cluster.scale(n)
        try:
            yield client
        except BaseException:
            # Dask would wait for what they are doing.
            for nanny in cluster.workers.values():
                nanny.close_gracefully()
                with suppress(ProcessLookupError):
                    if pid := nanny.pid:
                        os.kill(pid, signal.SIGKILL)
            raise


def _block_interrupts() -> None:
    """Processes that this thread starts inherit it: Ctrl-C in a terminal reaches them all, but is for one to handle."""
    resource_tracker.ensure_running()  # unblocks them where it is first needed
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """A cluster that somebody else runs."""
    with _set_up():
        try:
            asyncio.run(asyncio.wait_for(_greet(address), 2 * _CONNECT_TIMEOUT_S))
            client = Client(address, timeout=_CONNECT_TIMEOUT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            problem = str(error) or "something else listens there"
            raise InputError(
                f"--scheduler {address}: no Dask scheduler answers ({problem}); start one with `dask scheduler`, and "
                "workers with `dask worker ADDRESS --nworkers N --nthreads 1`"
            ) from error
        with client:
            _check(client, address)
            yield client


async def _greet(address: str) -> None:
    """Connect and leave again: a `Client` would wait forever for the greeting of what is no scheduler."""
    comm = await connect(address, timeout=_CONNECT_TIMEOUT_S, **Security().get_connection_args("client"))
    await comm.close()


@contextmanager
def _set_up() -> Iterator[None]:
    """Our settings of Dask, and silence: what goes wrong is said by errors."""
    with dask.config.set(_DASK), _silent("distributed"):
        yield


@contextmanager
def _silent(package: str) -> Iterator[None]:
    """Nothing but disasters is logged by a package; its loggers would hand everything to this process's handlers."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == package]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _check(client: Client, address: str) -> None:
    """That there are workers, that each does one thing at a time, and that they compute with the packages used here."""
    try:
        client.wait_for_workers(1, timeout=_FIRST_WORKER_TIMEOUT_S)
    except TimeoutError as error:
        raise InputError(
            f"--scheduler {address}: no workers within {_FIRST_WORKER_TIMEOUT_S} s; start some with "
            f"`dask worker {address} --nworkers N --nthreads 1`"
        ) from error
    if busy := [worker for worker, n_threads in client.nthreads().items() if n_threads > 1]:
        raise InputError(
            f"--scheduler {address}: {len(busy)} workers, such as {busy[0]}, do several things at a time in a process; "
            f"start them with `dask worker {address} --nworkers N --nthreads 1`"
        )
    # A coroutine only of clients that are themselves asynchronous.
    versions = cast("Mapping[str, Any]", client.get_versions(packages=_COMPUTING))
    if different := differences(versions):
        raise InputError(f"--scheduler {address}: {'; '.join(different)}; install the same versions as here")


def differences(versions: Mapping[str, Any]) -> list[str]:
    """What a scheduler and its workers have installed otherwise than this process, as lines for people.

    Parameters
    ----------
    versions : mapping
        From `Client.get_versions`.
    """
    here = versions["client"]["packages"]
    # The scheduler computes nothing, but it must know what it passes on.
    wanted: list[tuple[str, Any, tuple[str, ...]]] = [("the scheduler", versions["scheduler"], ("rtgod",))]
    wanted += [(f"worker {worker}", found, _COMPUTING) for worker, found in sorted(versions["workers"].items())]
    return [
        f"{place} has {name} {found['packages'][name] or 'not at all'}, here is {here[name]}"
        for place, found, names in wanted
        for name in names
        if found["packages"][name] != here[name]
    ]
