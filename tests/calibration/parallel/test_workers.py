import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count, repeat

import dask
import numba
import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster
from threadpoolctl import threadpool_info, threadpool_limits

from calibration.parallel import cluster
from calibration.parallel import workers as module
from calibration.parallel.cluster import differences
from calibration.parallel.pools import in_order
from calibration.parallel.workers import workers
from rtgod.errors import InputError, WorkerError

WAIT_S = 60


@pytest.fixture(params=["this process", "local", "scheduler"])
def each(request, pool, scheduler):
    """The three kinds of workers."""
    if request.param == "local":
        yield pool
        return
    with workers(1) if request.param == "this process" else workers(scheduler=scheduler) as found:
        yield found


@pytest.fixture(scope="module")
def scheduler():
    """Address of a scheduler with two workers, each a process."""
    with cluster_of(2, processes=True) as someones:
        yield someones.scheduler_address


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(cluster, "_CONNECT_TIMEOUT_S", 1)
    monkeypatch.setattr(cluster, "_FIRST_WORKER_TIMEOUT_S", 0.1)


@contextmanager
def cluster_of(n_workers, n_threads=1, processes=False):
    """A cluster, whose workers are threads of this process unless asked for otherwise."""
    with LocalCluster(
        n_workers=n_workers,
        threads_per_worker=n_threads,
        processes=processes,
        protocol="tcp",
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        silence_logs=logging.CRITICAL,
    ) as someones:
        yield someones


def decomposed(seed):
    """Numbers whose last bits depend on the number of threads and on the order of sums."""
    X = np.random.default_rng(seed).normal(size=(300, 400))
    return np.linalg.eigh(X @ X.T)[1]


def threads():
    return {numba.get_num_threads(), *(found["num_threads"] for found in threadpool_info())}


def own_process(_):
    return os.getpid()


def refuse(name):
    raise InputError(f"run {name}: no such thing; look for it")


def squared(n, folder):
    """The square of a number; the first process that is asked for that of 7 never gets there."""
    if n == 7:
        try:
            with (folder / "stuck").open("x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            pass
        else:
            (folder / "stuck").rename(folder / "pid")
            (folder / "stuck").touch()
            threading.Event().wait(WAIT_S)
    return n, n * n


# ---------------------------------------------------------------- the same, whoever does it


def test_results_are_the_same_bytes_in_the_order_of_the_calls(each):
    found = list(each.map(decomposed, range(12), timeout=WAIT_S))
    with workers(1) as here:
        expected = list(here.map(decomposed, range(12)))
    assert [values.tobytes() for values in found] == [values.tobytes() for values in expected]


def test_each_call_has_one_thread_and_leaves_this_process_its_own(each):
    numba.set_num_threads(2)
    try:
        with threadpool_limits(2):
            assert threads() == {2}
            assert each.submit(threads).result(WAIT_S) == {1}
            assert threads() == {2}
    finally:
        numba.set_num_threads(1)


def test_errors_come_through_as_they_are(each):
    with pytest.raises(InputError) as caught:
        each.submit(refuse, name="3").result(WAIT_S)
    assert str(caught.value) == "run 3: no such thing; look for it"
    assert list(each.map(pow, [2, 3], repeat(2), timeout=WAIT_S)) == [4, 9]  # others go on


def test_what_is_large_travels_without_a_warning(each):
    values = np.arange(3_000_000, dtype=np.float64)  # 24 MB; Dask warns from 10 on
    assert each.submit(partial(np.add, 1), values).result(WAIT_S).tobytes() == (values + 1).tobytes()


def test_one_worker_is_this_process_and_others_are_not(pool, scheduler):
    with workers(1) as here, workers(scheduler=scheduler) as there:
        assert here.submit(os.getpid).result() == os.getpid()
        elsewhere = {found.submit(os.getpid).result(WAIT_S) for found in (pool, there)}
    assert os.getpid() not in elsewhere


# ---------------------------------------------------------------- no further ahead than asked


@pytest.mark.parametrize("n_ahead", [1, 3])
def test_calls_are_taken_as_results_are(n_ahead):
    taken = count()
    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, n_ahead, lambda n: -n, (next(taken) for _ in range(100)))
        assert [next(results) for _ in range(5)] == [0, -1, -2, -3, -4]
        assert next(taken) == n_ahead + 4
    assert list(in_order(ThreadPoolExecutor(1), n_ahead, abs, [])) == []


def test_an_endless_list_of_calls_is_begun(each):
    results = each.map(abs, count(), timeout=WAIT_S)
    assert [next(results) for _ in range(20)] == list(range(20))


# ---------------------------------------------------------------- processes that die


def test_a_worker_that_is_killed_changes_nothing(pool, tmp_path):
    results = pool.map(squared, range(20), repeat(tmp_path), timeout=WAIT_S)
    found = [next(results) for _ in range(4)]
    wait_for(tmp_path / "pid")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    found += results
    with workers(1) as here:
        assert found == list(here.map(squared, range(20), repeat(tmp_path)))


@pytest.mark.parametrize("where", ["local", "scheduler"])
def test_work_that_kills_whoever_does_it_is_given_up(monkeypatch, where):
    monkeypatch.setattr(module, "_MOST_DEATHS", 2)
    with ExitStack() as stack:
        address = None
        if where == "scheduler":
            stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 1}))
            address = stack.enter_context(cluster_of(2, processes=True)).scheduler_address
        pool = stack.enter_context(workers(None if address else 2, address))
        stack.enter_context(pytest.raises(WorkerError, match="raise_signal: 2 processes died of it in turn, perhaps"))
        pool.submit(signal.raise_signal, signal.SIGKILL).result(WAIT_S)


def test_a_scheduler_that_goes_is_missed(impatient):  # noqa: ARG001
    with cluster_of(1) as someones, workers(scheduler=someones.scheduler_address) as pool:
        assert pool.submit(abs, -1).result(WAIT_S) == 1
        someones.close()
        with pytest.raises(WorkerError, match="abs: the scheduler is gone"):
            pool.submit(abs, -1).result(WAIT_S)


@pytest.mark.parametrize("failing", [True, False], ids=["failure", "interruption"])
def test_whatever_happens_no_process_is_left(failing):
    code = (
        "import signal, time\n"
        # What starts the tests may ignore it, and so would its children.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from calibration.parallel.workers import workers\n"
        "with workers(2) as pool:\n"
        "    pool.submit(abs, -1).result(60)\n"
        "    waiting = [pool.submit(time.sleep, 600) for _ in range(9)]\n"
        "    print('ready', flush=True)\n"
        "    input()\n"
        + ("    raise SystemExit(3)\n" if failing else "    waiting[0].result()\n")
    )  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            children = psutil.Process(process.pid).children(recursive=True)
            assert len(children) >= 2
            process.stdin.write(b"\n")
            process.stdin.flush()
            if not failing:
                os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            assert process.wait(WAIT_S) in ((3,) if failing else (-signal.SIGINT, 1))
        finally:
            process.kill()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]


def wait_for(path):
    for _ in range(100 * WAIT_S):
        if path.exists():
            return
        threading.Event().wait(0.01)
    raise TimeoutError(path)


# ---------------------------------------------------------------- who listens, and to whom


def test_processes_of_this_machine_listen_to_nobody(pool):
    for process_id in set(pool.map(own_process, range(8), timeout=WAIT_S)):
        connections = psutil.Process(process_id).net_connections("tcp")
        assert not [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "tcp://127.0.0.1", "somewhere", "smoke://signals:1"])
def test_a_scheduler_that_is_not_there(address):
    expected = f"--scheduler {address}: no Dask scheduler answers .*`dask scheduler`"
    with pytest.raises(InputError, match=expected), workers(scheduler=address):
        pytest.fail("nobody is there")


@pytest.mark.usefixtures("impatient")
def test_a_program_that_is_no_scheduler():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(InputError, match="no Dask scheduler answers \\(something else listens there\\)"),
        workers(scheduler=f"tcp://127.0.0.1:{server.getsockname()[1]}"),
    ):
        pytest.fail("it never answers")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("n_workers", "n_threads", "problem"), [(0, 1, "no workers within"), (1, 2, "several things at a time")]
)
def test_workers_that_cannot_be_used(n_workers, n_threads, problem):
    with cluster_of(n_workers, n_threads) as someones:
        expected = f"--scheduler {someones.scheduler_address}: .*{problem}.*--nthreads 1"
        with pytest.raises(InputError, match=expected), workers(scheduler=someones.scheduler_address):
            pytest.fail("nobody could work")


def test_workers_with_other_packages_are_refused(scheduler, monkeypatch):
    def other(self, packages):
        versions = get_versions(self, packages=packages)
        next(iter(versions["workers"].values()))["packages"]["numpy"] = "1.0"
        return versions

    get_versions = Client.get_versions
    monkeypatch.setattr(Client, "get_versions", other)
    with (
        pytest.raises(InputError, match=f"worker tcp://.* has numpy 1.0, here is {np.__version__}; install the same"),
        workers(scheduler=scheduler),
    ):
        pytest.fail("numbers would differ")


def test_differences_of_packages():
    same = dict.fromkeys(cluster._COMPUTING, "1")
    versions = {
        "client": {"packages": same | {"python": "3.11"}},
        "scheduler": {"packages": {"rtgod": None}},
        "workers": {"b": {"packages": same | {"numba": "2", "torch": None}}, "a": {"packages": same}},
    }
    assert differences(versions) == [
        "the scheduler has rtgod not at all, here is 1",
        "worker b has numba 2, here is 1",
        "worker b has torch not at all, here is 1",
    ]


def test_a_cluster_has_its_own_workers():
    with pytest.raises(InputError, match=r"--workers 2 --scheduler tcp://a:1: .*give one"), workers(2, "tcp://a:1"):
        pytest.fail("which of them?")
