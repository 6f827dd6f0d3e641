import numpy as np
import pytest

from rtgod.response import LASTS_S, block_response
from tests import naive

CANONICAL = (5, 15, 1 / 6)


@pytest.mark.parametrize("shape", [CANONICAL, (6, 16, 0.2), (4, 12, 0.0)])
@pytest.mark.parametrize("duration_s", [0.5, 9.0, 22.5])
def test_equals_the_densities_summed_up(duration_s, shape):
    time_s = np.array([-3.0, 0.0, 1.5, 5.0, 12.0, 20.0, 31.0])
    expected = [naive.response(t, duration_s, *shape) for t in time_s]
    np.testing.assert_allclose(block_response(time_s, duration_s, *shape), expected, atol=1e-4)


def test_a_lasting_block_reaches_1_and_nothing_is_left_in_the_end():
    assert block_response(np.array([100.0]), 200.0, *CANONICAL)[0] == pytest.approx(1, abs=1e-6)
    assert abs(block_response(np.array([9.0 + LASTS_S]), 9.0, *CANONICAL)[0]) < 2e-3
