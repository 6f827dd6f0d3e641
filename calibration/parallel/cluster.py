"""A Dask cluster that somebody else runs, as a pool of workers."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, cast

import dask
from distributed import Client, KilledWorker, Security
from distributed.comm import connect  # type: ignore[attr-defined] # documented, if not exported to type checkers

from calibration.parallel.pools import Pool, name_of, on_one_thread
from rtgod.errors import InputError, WorkerError

_T = TypeVar("_T")
_CONNECT_TIMEOUT_S = 10
_FIRST_WORKER_TIMEOUT_S = 30
#: Packages that compute the numbers; another version of one may change them.
_COMPUTING = ("rtgod", "numpy", "numba", "nibabel", "pillow", "scikit-learn", "scipy", "torch", "torchvision")
# Dask warns that large arguments should be stored on a worker first; but they are lost there when it dies.
_DASK = {"distributed.admin.large-graph-warning-threshold": "1 PB"}


@contextmanager
def connected(address: str, ahead: int) -> Iterator[Pool]:
    """Connect to a cluster; errors report its problems, so Dask's own words are not logged.

    Parameters
    ----------
    address : str
        Address of its scheduler, such as tcp://HOST:8786.
    ahead : int
        Number of calls that `map` hands over at a time for each worker.

    Raises
    ------
    InputError
        If no scheduler answers, it has no workers, or their packages differ from this process's.
    """
    with dask.config.set(_DASK), _silent("distributed"):
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
            yield _Cluster(client.get_executor(pure=False), ahead * len(client.nthreads()))


async def _greet(address: str) -> None:
    """Connect and disconnect: a `Client` would wait forever for the greeting of a server that is no scheduler."""
    comm = await connect(address, timeout=_CONNECT_TIMEOUT_S, **Security().get_connection_args("client"))
    await comm.close()


class _Cluster(Pool):
    """Workers of a scheduler; a result leaves the cluster as soon as it exists."""

    def __init__(self, executor: Executor, ahead: int) -> None:
        self._executor, self.ahead = executor, ahead

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        outcome: Future[_T] = Future()
        outcome.set_running_or_notify_cancel()

        def settle(task: Future[_T]) -> None:
            try:
                outcome.set_result(task.result())
            except KilledWorker as error:
                problem = f"{name_of(fn)}: {error.allowed_failures + 1} processes died of it in turn"
                advice = "use fewer --workers, or workers with more of it"
                outcome.set_exception(WorkerError(f"{problem}, perhaps for want of memory; {advice}"))
            except CancelledError:
                problem = f"{name_of(fn)}: the scheduler is gone, or all its workers"
                outcome.set_exception(WorkerError(f"{problem}; start them again, then this"))
            except BaseException as error:  # noqa: BLE001 # the caller of `result` gets it
                outcome.set_exception(error)

        # Pickled, so that Dask does not search the arguments for tasks, and the scheduler does not unpack them.
        pickled = pickle.dumps(partial(on_one_thread, fn, *args, **kwargs), protocol=5)
        self._executor.submit(_call, pickled).add_done_callback(settle)
        return outcome


def _call(pickled: bytes) -> Any:
    return pickle.loads(pickled)()  # noqa: S301 # from `submit`, through a scheduler that the user named


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
    wanted += [(f"worker {worker}", theirs, _COMPUTING) for worker, theirs in sorted(versions["workers"].items())]
    return [
        f"{place} has {name} {theirs['packages'][name] or 'not at all'}, here is {here[name]}"
        for place, theirs, names in wanted
        for name in names
        if theirs["packages"][name] != here[name]
    ]
