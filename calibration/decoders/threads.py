"""Work on parts of an array in several threads; the parts do not depend on the number of threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from numba import get_num_threads

_LENGTH = 256


def in_threads(work: Callable[[slice], None], n: int) -> None:
    """Do `work` on each part of the positions 0 to `n`, in as many threads as numba has.

    This saves time if `work` is in NumPy, which lets other threads run meanwhile. An error in `work` is raised here.

    Parameters
    ----------
    work : callable
        Takes each part as a slice.
    n : int
        Number of positions.
    """
    parts = [slice(start, min(start + _LENGTH, n)) for start in range(0, n, _LENGTH)]
    with ThreadPoolExecutor(get_num_threads()) as pool:
        list(pool.map(work, parts))
