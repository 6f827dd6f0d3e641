import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from rtgod.preprocessing.geometry import rotation_matrix
from rtgod.preprocessing.sampling import Sampler
from rtgod.settings import SamplingSettings

SHAPE = (14, 11, 9)
EVERYWHERE = np.argwhere(np.ones(SHAPE, bool)).astype(np.int32)
ORDERS = {"cubic": 3, "linear": 1}


def noise(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).normal(700, 150, shape).astype(np.float32)


def shift(*voxels):
    to_volume = np.eye(4)
    to_volume[:3, 3] = voxels
    return to_volume


def sampled(volume, voxels, to_volume, interpolation="cubic"):
    sampler = Sampler(voxels, volume.shape, SamplingSettings(interpolation=interpolation))
    return sampler.sample(volume, to_volume)


def by_scipy(volume, points, order):
    """scipy's value at each of (n, 3) points, NaN a thousandth of a voxel and more beyond the outer voxels' centres."""
    last = np.array(volume.shape) - 1
    outside = ((points < -1e-3) | (points > last + 1e-3)).any(axis=1)
    values = ndimage.map_coordinates(volume.astype(float), points.T, order=order, mode="mirror")
    return np.where(outside, np.nan, values)


@pytest.mark.parametrize("interpolation", ORDERS)
@pytest.mark.parametrize(
    "to_volume",
    [shift(0.5, 0.5, 0.5), shift(0.31, -0.77, 0.02), shift(-3.2, 2.9, 0.999), np.diag([0.9, 0.8, 0.7, 1.0])],
    ids=["half", "fractions", "far", "finer"],
)
def test_equals_scipy(to_volume, interpolation):
    to_volume = to_volume @ shift(0.1, -0.2, 0.05)
    to_volume[:3, :3] = rotation_matrix(np.array([0.1, -0.2, 0.3])) @ to_volume[:3, :3]
    volume, voxels = noise(), EVERYWHERE
    values, n_outside = sampled(volume, voxels, to_volume, interpolation)
    points = voxels @ to_volume[:3, :3].T + to_volume[:3, 3]
    expected = by_scipy(volume, points, ORDERS[interpolation])
    np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
    assert n_outside == np.isnan(expected).sum() > 0
    # Beyond the edge, by up to a thousandth of a voxel, each continues the image in its own way.
    within = ((points >= 0) & (points <= np.array(SHAPE) - 1)).all(axis=1)
    np.testing.assert_allclose(values[within], expected[within], atol=700 * 1e-5)


@pytest.mark.parametrize("interpolation", ORDERS)
@given(point=st.tuples(*[st.floats(0, n - 1) for n in SHAPE]))
def test_equals_scipy_anywhere(point, interpolation):
    values, n_outside = sampled(noise(), np.zeros((1, 3), np.int32), shift(*point), interpolation)
    assert n_outside == 0
    expected = by_scipy(noise(), np.array([point]), ORDERS[interpolation])
    np.testing.assert_allclose(values, expected, atol=700 * 1e-5)


@pytest.mark.parametrize("interpolation", ORDERS)
@pytest.mark.parametrize("shape", [(14, 11, 1), (14, 2, 3)])
def test_a_thin_slab_can_be_sampled(shape, interpolation):
    volume, voxels = noise(shape), np.argwhere(np.ones(shape, bool)).astype(np.int32)
    to_volume = shift(0.3, 0.0, 0.0)
    values, n_outside = sampled(volume, voxels, to_volume, interpolation)
    expected = by_scipy(volume, voxels + np.array([0.3, 0, 0]), ORDERS[interpolation])
    assert n_outside == np.isnan(expected).sum()
    np.testing.assert_allclose(values, expected, atol=700 * 1e-5)


@pytest.mark.parametrize("interpolation", ORDERS)
def test_is_exact_at_voxel_centres(interpolation):
    volume = noise()
    values, n_outside = sampled(volume, EVERYWHERE, np.eye(4), interpolation)
    assert n_outside == 0
    np.testing.assert_allclose(values, volume.ravel(), rtol=2e-6)


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
    assert np.abs(values - expected).max() < 0.01 * expected.mean()
    assert np.sqrt(np.mean((values - expected) ** 2)) < 0.05 * expected.std()


def test_the_edge_is_the_outer_voxels_centre_give_or_take_rounding():
    corner = np.zeros((1, 3), np.int32)
    for point, inside in (((-0.0009, 0, 0), True), ((13.0009, 10, 8), True), ((-0.0011, 0, 0), False),
                          ((0, 10.0011, 0), False), ((0, 0, np.nan), False)):  # fmt: skip
        values, n_outside = sampled(noise(), corner, shift(*point))
        assert (n_outside == 0) == np.isfinite(values[0]) == inside


def test_no_voxels_are_no_values():
    values, n_outside = sampled(noise(), np.empty((0, 3), np.int32), np.eye(4))
    assert values.shape == (0,)
    assert n_outside == 0


@pytest.mark.parametrize("interpolation", ORDERS)
def test_threads_change_no_byte(interpolation):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs two threads")
    previous, found = numba.get_num_threads(), []
    try:
        for n_threads in (1, 2):
            numba.set_num_threads(n_threads)
            found.append(sampled(noise(), EVERYWHERE, shift(0.3, 0.6, 0.1), interpolation)[0].tobytes())
    finally:
        numba.set_num_threads(previous)
    assert found[0] == found[1]
