"""Processes that share work; each computes on one thread, since together they fill the machine."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import numba


@contextmanager
def workers(n: int) -> Iterator[Executor]:
    """`n` processes for the length of a `with` block; when it fails, what they have not begun is dropped."""
    # Spawned, not forked: OpenMP's and torch's threads do not survive a fork.
    with ProcessPoolExecutor(n, get_context("spawn"), initializer=numba.set_num_threads, initargs=(1,)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
