"""Kernels run on one thread where their work is small, and afterwards everything is as it was."""

import numba
import numpy as np
import pytest

from rtgod.decoding.decoder import rows_dot
from rtgod.kernels import WORTH_THREADS, launch

needs_threads = pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only")


@needs_threads
@pytest.mark.parametrize(("n_operations", "n_threads"), [(0, 1), (WORTH_THREADS - 1, 1), (WORTH_THREADS, 2)])
def test_small_work_is_done_on_one_thread(n_operations, n_threads):
    before = numba.get_num_threads()
    numba.set_num_threads(2)
    try:
        assert launch(lambda plus: numba.get_num_threads() + plus, n_operations, 5) == n_threads + 5
        assert numba.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            launch(lambda: 1 / 0, n_operations)
        assert numba.get_num_threads() == 2
    finally:
        numba.set_num_threads(before)


def test_a_row_s_product_does_not_depend_on_how_many_rows_there_are():
    """On both sides of the limit, on one thread and on all, a row gives the same bytes."""
    rng = np.random.default_rng(0)
    matrix, vector = rng.standard_normal((3000, 97), np.float32), rng.standard_normal(97, np.float32)
    few, many = np.empty(10, np.float32), np.empty(3000, np.float32)
    assert matrix[:10].size < WORTH_THREADS < matrix.size
    rows_dot(matrix[:10], vector, few)
    rows_dot(matrix, vector, many)
    assert few.tobytes() == many[:10].tobytes()
