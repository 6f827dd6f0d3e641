import numpy as np
import pytest

from rtgod.preprocessing.smoothing import Smoother
from tests import naive

AFFINE = naive.rigid((-20, 10, 5), (10, -20, 30), (0, 0, 0)) @ np.diag([2.0, 3.0, 4.0, 1.0])


def ragged(n=200, seed=0):
    """Some voxels of a box, in no order."""
    rng = np.random.default_rng(seed)
    return rng.permutation(np.argwhere(np.ones((9, 8, 7), bool)))[:n].astype(np.int32)


@pytest.mark.parametrize("fwhm_mm", [2.0, 5.0, 9.0])
def test_is_the_gaussian_mean_of_the_voxels_that_there_are(fwhm_mm):
    voxels = ragged()
    values = np.random.default_rng(1).normal(1, 1, len(voxels)).astype(np.float32)
    positions_mm = voxels @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    found = Smoother(voxels, AFFINE, fwhm_mm).smooth(values)
    np.testing.assert_allclose(found, naive.smooth_among(values, positions_mm, fwhm_mm), rtol=1e-5, atol=1e-6)


def test_a_voxel_alone_and_a_constant_stay():
    lonely = np.array([[0, 0, 0], [30, 30, 30]], np.int32)
    np.testing.assert_array_equal(Smoother(lonely, AFFINE, 6.0).smooth(np.array([2, -5], np.float32)), [2, -5])
    np.testing.assert_allclose(Smoother(ragged(), AFFINE, 6.0).smooth(np.full(200, 3, np.float32)), 3, rtol=1e-6)
