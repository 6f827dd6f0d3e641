import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from rtgod.motion import rotation_matrix
from rtgod.sampling import sample
from tests import naive

SHAPE = (14, 11, 9)
EVERYWHERE = np.argwhere(np.ones(SHAPE, bool)).astype(np.int32)


def noise(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).normal(700, 150, shape).astype(np.float32)


def shift(*voxels):
    to_volume = np.eye(4)
    to_volume[:3, 3] = voxels
    return to_volume


def sampled(volume, voxels, to_volume):
    out = np.full(len(voxels), -1, np.float32)
    n_outside = sample(volume, voxels, to_volume, out)
    return out, n_outside


@pytest.mark.parametrize(
    "to_volume",
    [shift(0.5, 0.5, 0.5), shift(0.31, -0.77, 0.02), shift(-3.2, 2.9, 0.999), np.diag([0.9, 0.8, 0.7, 1.0])],
    ids=["half", "fractions", "far", "finer"],
)
def test_equals_lanczos_written_out(to_volume):
    to_volume = to_volume @ shift(0.1, -0.2, 0.05)
    to_volume[:3, :3] = rotation_matrix(np.array([0.1, -0.2, 0.3])) @ to_volume[:3, :3]
    volume, voxels = noise(), EVERYWHERE[::3]
    values, n_outside = sampled(volume, voxels, to_volume)
    points = voxels @ to_volume[:3, :3].T + to_volume[:3, 3]
    expected = np.array([naive.lanczos(volume, point) for point in points])
    np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
    assert n_outside == np.isnan(expected).sum() > 0
    np.testing.assert_allclose(values, expected, rtol=1e-4)


@given(st.tuples(*[st.floats(0, n - 1) for n in SHAPE]))
def test_equals_lanczos_written_out_anywhere(point):
    values, n_outside = sampled(noise(), np.zeros((1, 3), np.int32), shift(*point))
    assert n_outside == 0
    np.testing.assert_allclose(values, naive.lanczos(noise(), point), rtol=1e-4)


def test_is_exact_at_voxel_centres():
    volume = noise()
    values, n_outside = sampled(volume, EVERYWHERE, np.eye(4))
    assert n_outside == 0
    np.testing.assert_array_equal(values, volume.ravel())


def test_rounding_of_a_pose_does_not_throw_out_the_edge():
    volume = noise()
    for off in (1e-7, -1e-7, 5e-4, -5e-4):
        values, n_outside = sampled(volume, EVERYWHERE, shift(off, off, off))
        assert n_outside == 0
        np.testing.assert_allclose(values, volume.ravel(), atol=2)  # of 150 from voxel to voxel


@given(st.tuples(*[st.floats(0, n - 1) for n in SHAPE]))
def test_a_constant_image_stays_constant_up_to_the_edge(point):
    values, n_outside = sampled(np.full(SHAPE, 812.5, np.float32), np.zeros((1, 3), np.int32), shift(*point))
    assert n_outside == 0
    np.testing.assert_allclose(values, 812.5, rtol=1e-6)


def test_points_outside_are_nan_and_counted():
    values, n_outside = sampled(noise(), EVERYWHERE, shift(0, 0, 2.5))
    outside = EVERYWHERE[:, 2] + 2.5 > SHAPE[2] - 1
    np.testing.assert_array_equal(np.isnan(values), outside)
    assert n_outside == outside.sum()
    for far in (1e6, -1e6, np.nan, np.inf):
        values, n_outside = sampled(noise(), EVERYWHERE, shift(far, 0, 0))
        assert np.isnan(values).all()
        assert n_outside == len(EVERYWHERE)


def test_agrees_with_quintic_splines_on_a_smooth_image():
    volume = ndimage.gaussian_filter(noise((24, 24, 24)), 2).astype(np.float32)
    voxels = np.argwhere(np.ones((14, 14, 14), bool)).astype(np.int32) + 5
    to_volume = shift(0.4, -0.3, 0.2)
    to_volume[:3, :3] = rotation_matrix(np.array([0.02, 0.03, -0.02]))
    values, n_outside = sampled(volume, voxels, to_volume)
    points = to_volume[:3, :3] @ voxels.T + to_volume[:3, 3:]
    expected = ndimage.map_coordinates(volume.astype(float), points, order=5)
    assert n_outside == 0
    spread = expected.std()
    assert np.abs(values - expected).max() < 0.01 * expected.mean()
    assert np.sqrt(np.mean((values - expected) ** 2)) < 0.05 * spread


def test_no_voxels_are_no_error():
    values, n_outside = sampled(noise(), np.empty((0, 3), np.int32), np.eye(4))
    assert values.size == n_outside == 0


def test_threads_change_no_byte():
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs two threads")
    previous, results = numba.get_num_threads(), []
    try:
        for n_threads in (1, 2):
            numba.set_num_threads(n_threads)
            values, n_outside = sampled(noise(), EVERYWHERE, shift(0.3, 0.4, -0.6))
            results.append((values.tobytes(), n_outside))
    finally:
        numba.set_num_threads(previous)
    assert results[0] == results[1]
