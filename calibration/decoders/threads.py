"""Work on the parts of an array, several at a time: the parts are the same whatever the number of threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from numba import get_num_threads

_LENGTH = 256


def in_threads(work: Callable[[slice], None], n: int) -> None:
    """Do `work` on each part of the positions 0 to `n`, as many at once as numba has threads.

    Gains time where `work` is NumPy's, which lets other threads run meanwhile. What goes wrong in it is raised here.
    """
    parts = [slice(start, min(start + _LENGTH, n)) for start in range(0, n, _LENGTH)]
    with ThreadPoolExecutor(get_num_threads()) as pool:
        list(pool.map(work, parts))
