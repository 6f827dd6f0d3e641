"""Launch of parallel kernels: on one thread where waking others takes longer than the work, and where it may wait.

Waking a thread and waiting for it takes some 10 µs, in which one core multiplies and adds more than 10,000 times; and
where another process, as the display or a source, holds the other core, it takes as long as that process is let run,
several milliseconds. Kernels give the same bytes for any number of threads, so that only their time changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

#: Multiplications and additions, in single precision, from which on a kernel runs on all threads: some 50 µs of work.
WORTH_THREADS = 2**18


def launch(kernel: Callable[..., Any], n_operations: int, *arguments: Any) -> Any:
    """Call a kernel, on one thread if its work is small; return its result.

    Parameters
    ----------
    kernel : callable
        Compiled with `parallel = True`.
    n_operations : int
        Number of multiplications with an addition, roughly.
    *arguments
        The kernel's arguments.
    """
    if n_operations >= WORTH_THREADS:
        return kernel(*arguments)
    before = numba.get_num_threads()
    if before == 1:
        return kernel(*arguments)
    numba.set_num_threads(1)
    try:
        return kernel(*arguments)
    finally:
        numba.set_num_threads(before)
