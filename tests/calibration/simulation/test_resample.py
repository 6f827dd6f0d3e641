"""Three passes move a volume as one lookup in three dimensions would."""

import numpy as np
import pytest
from scipy import ndimage

from calibration.simulation.resample import resample
from rtgod.preprocessing.geometry import rotation_matrix

SHAPE = (40, 36, 30)


def smooth_image(x, y, z):
    return 500 + 200 * np.sin(x / 6) * np.cos(y / 7) * np.sin(z / 5)


def rigid(rotation_deg, shift):
    """Index mapping of a rotation about the middle of the volume and a shift in voxels."""
    middle = (np.array(SHAPE) - 1) / 2
    mapping = np.eye(4)
    mapping[:3, :3] = rotation_matrix(np.radians(rotation_deg))
    mapping[:3, 3] = np.array(shift) + middle - mapping[:3, :3] @ middle
    return mapping


def looked_up(mapping):
    """Where each output voxel comes from, shape (3, x, y, z), and whether that is well inside."""
    indices = np.stack([*np.indices(SHAPE), np.ones(SHAPE)])
    source = np.einsum("ij,jxyz->ixyz", mapping[:3], indices)
    limits = np.array(SHAPE)[:, None, None, None]
    return source, ((source > 4) & (source < limits - 5)).all(axis=0)


def test_standing_still_changes_nothing():
    volume = np.random.default_rng(0).random(SHAPE, np.float32)
    np.testing.assert_array_equal(resample(volume, np.eye(4)), volume)


@pytest.mark.parametrize(
    ("rotation_deg", "shift"),
    [((0, 0, 0), (0.4, 0, 0)), ((0, 0, 0), (-0.3, 0.5, 1.7)), ((2, 0, 0), (0, 0, 0)), ((3, -2, 4), (0.5, -1.2, 0.8))],
)
def test_a_smooth_image_is_found_where_it_went(rotation_deg, shift):
    mapping = rigid(rotation_deg, shift)
    source, inside = looked_up(mapping)
    assert inside.sum() > 5000
    moved = resample(smooth_image(*np.indices(SHAPE)).astype(np.float32), mapping)
    np.testing.assert_allclose(moved[inside], smooth_image(*source)[inside], atol=0.01 * 200)


def test_agrees_with_splines_on_an_image_with_detail():
    """Another method, another library; the detail is that of a volume with voxels of twice the resolution's limit."""
    volume = ndimage.gaussian_filter(np.random.default_rng(1).random(SHAPE), 1.2).astype(np.float32)
    mapping = rigid((1.5, -1, 2), (0.3, 0.6, -0.4))
    source, inside = looked_up(mapping)
    expected = ndimage.map_coordinates(volume.astype(float), source, order=5)
    error = (resample(volume, mapping) - expected)[inside]
    assert np.sqrt(np.mean(error**2)) < 0.02 * volume[inside].std()


def test_what_lies_outside_is_dark():
    moved = resample(np.ones(SHAPE, np.float32), rigid((0, 0, 0), (0, 0, 10)))
    assert not moved[..., -9:].any()
    np.testing.assert_allclose(moved[..., :-12], 1, atol=1e-5)
