"""Workers: this process alone, several on this machine, or a Dask cluster; results are the same for all.

Each piece of work runs on one thread: together they fill the machine, and sums in another order would differ in their
last bits. The inputs of a piece travel with it, and stay with the scheduler until its result has arrived: when a
process dies, another does its work again.
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
#: Number of pieces handed over at a time for each process: enough that none waits for work, few enough for the memory.
_AHEAD = 4
#: Packages that compute the numbers; another version of one may change them.
_COMPUTING = ("rtgod", "numpy", "numba", "nibabel", "pillow", "scikit-learn", "scipy", "torch", "torchvision")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_DASK = {
    # Dask warns that large arguments should be stored on a worker first; but they are lost there when it dies.
    "distributed.admin.large-graph-warning-threshold": "1 PB",
    # Dask would set the number of threads not only of its workers, but also of this process.
    "distributed.nanny.pre-spawn-environ": {},
    # Maximum time that a result is looked for at a worker that has just died.
    "distributed.comm.timeouts.connect": f"{_CONNECT_TIMEOUT_S} s",
    # Dask would not restart a worker that was slow to return after its death.
    "distributed.deploy.lost-worker-timeout": "1 day",
    "distributed.scheduler.no-workers-timeout": "5 minutes",
}


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
    waiting = deque(pool.submit(fn, *one) for one in islice(calls, n_ahead))
    while waiting:
        yield waiting.popleft().result(timeout)
        waiting.extend(pool.submit(fn, *one) for one in islice(calls, 1))


class _Pool(Executor):
    """Executor with a `map` that runs ahead no further than it must: by `ahead` calls."""

    ahead: int

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,  # noqa: ARG002 # one call at a time, as in `ThreadPoolExecutor`
    ) -> Iterator[_T]:
        """Yield results in order, waiting at most `timeout` seconds for each."""
        return in_order(self, self.ahead, fn, *iterables, timeout=timeout)


class _Here(_Pool):
    ahead = 1

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        outcome: Future[_T] = Future()
        try:
            with _one_thread():
                outcome.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 # the caller of `result` gets it
            outcome.set_exception(error)
        return outcome


class _Cluster(_Pool):
    """Executor whose calls are tasks of Dask; a result leaves the cluster as soon as it exists."""

    def __init__(self, client: Client, n_processes: int) -> None:
        self.ahead = _AHEAD * n_processes
        self._client = client
        # The type allows None; the property raises if the client is not running.
        self._loop = cast("IOLoop", client.loop)
        self._session = uuid4().hex
        self._number = count()

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        # Keys of one group for each function make Dask give out tasks as workers come free.
        key = (f"{funcname(fn)}-{self._session}", next(self._number))
        # Pickled, so that Dask does not search the arguments for tasks, and the scheduler does not unpack them.
        task = self._client.submit(_call, pickle.dumps((fn, args, kwargs), protocol=5), key=key)
        outcome: Future[_T] = Future()
        outcome.set_running_or_notify_cancel()
        self._loop.add_callback(_settle, outcome, self._client, task, funcname(fn))
        return outcome


async def _settle(outcome: Future[Any], client: Client, task: Task[Any], name: str) -> None:
    """Pass the outcome of one task to the future that waits for it."""
    try:
        outcome.set_result(await client.gather(task, asynchronous=True))
    except KilledWorker as error:
        problem = f"{name}: {error.allowed_failures + 1} processes died of it in turn, perhaps for want of memory"
        outcome.set_exception(WorkerError(f"{problem}; use fewer --workers, or workers with more of it"))
    except (CancelledError, NoWorkerError):
        problem = f"{name}: the scheduler is gone, or all its workers"
        outcome.set_exception(WorkerError(f"{problem}; start them again, then this"))
    except Exception as error:  # noqa: BLE001 # the caller of `result` gets it
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
    """Start a cluster on this machine; its processes are still starting when the block begins."""
    with (
        _set_up(),
        LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            memory_limit=None,
            # Dask would bind port 8787 for None, even without a dashboard.
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
            # Dask would wait until running calls end.
            for nanny in cluster.workers.values():
                nanny.close_gracefully()
                with suppress(ProcessLookupError):
                    if pid := nanny.pid:
                        os.kill(pid, signal.SIGKILL)
            raise


def _block_interrupts() -> None:
    """Block Ctrl-C in processes that this thread starts: a terminal sends it to all, but only one should handle it."""
    resource_tracker.ensure_running()  # its first use elsewhere would unblock them
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """Connect to a cluster that somebody else runs."""
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
    """Connect and disconnect: a `Client` would wait forever for the greeting of a server that is no scheduler."""
    comm = await connect(address, timeout=_CONNECT_TIMEOUT_S, **Security().get_connection_args("client"))
    await comm.close()


@contextmanager
def _set_up() -> Iterator[None]:
    """Apply our settings of Dask, and silence it: errors report problems."""
    with dask.config.set(_DASK), _silent("distributed"):
        yield


@contextmanager
def _silent(package: str) -> Iterator[None]:
    """Log only critical messages of a package; its loggers would pass everything to this process's handlers."""
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
    """Raise `InputError` unless there are workers with one thread each and with the packages used here."""
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
    # Only asynchronous clients return a coroutine here.
    versions = cast("Mapping[str, Any]", client.get_versions(packages=_COMPUTING))
    if different := differences(versions):
        raise InputError(f"--scheduler {address}: {'; '.join(different)}; install the same versions as here")


def differences(versions: Mapping[str, Any]) -> list[str]:
    """List the package versions of a scheduler and its workers that differ from this process's, as lines for people.

    Parameters
    ----------
    versions : mapping
        Result of `Client.get_versions`.
    """
    here = versions["client"]["packages"]
    # The scheduler computes nothing, but it must know the classes that it passes on.
    wanted: list[tuple[str, Any, tuple[str, ...]]] = [("the scheduler", versions["scheduler"], ("rtgod",))]
    wanted += [(f"worker {worker}", found, _COMPUTING) for worker, found in sorted(versions["workers"].items())]
    return [
        f"{place} has {name} {found['packages'][name] or 'not at all'}, here is {here[name]}"
        for place, found, names in wanted
        for name in names
        if found["packages"][name] != here[name]
    ]
