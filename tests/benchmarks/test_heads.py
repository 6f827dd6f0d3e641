import numpy as np
import pytest

from benchmarks.heads import HeadScanner, errors, with_noise
from rtgod.preprocessing.geometry import rigid
from rtgod.preprocessing.registration import Registration
from rtgod.settings import MotionSettings


@pytest.fixture(scope="module")
def scanner():
    return HeadScanner((32, 32, 25), 6.0)


def test_voxels_lie_where_the_affine_says(scanner):
    """The centre of intensity of the volume and of the fine drawing are the same place."""
    head = scanner.scan(np.zeros(3), np.zeros(3))
    fine = np.indices(scanner._spline.shape).reshape(3, -1)
    weights = np.maximum(scanner._spline, 0).ravel()
    fine_mm = scanner._fine_affine[:3, :3] @ (fine @ weights / weights.sum()) + scanner._fine_affine[:3, 3]
    image = np.maximum(head.image, 0)
    ijk = np.indices(image.shape).reshape(3, -1) @ image.ravel() / image.sum()
    np.testing.assert_allclose(scanner.affine[:3, :3] @ ijk + scanner.affine[:3, 3], fine_mm, atol=0.3)


def test_the_motion_that_was_scanned_is_found(scanner):
    still = scanner.scan(np.zeros(3), np.zeros(3))
    template = still.image.astype(np.float32)
    registration = Registration(template, scanner.affine, template.shape, scanner.affine, MotionSettings())
    moved = scanner.scan(np.array([1.5, -1.0, 0.7]), np.array([1.0, -0.5, 0.8]))
    found = registration.align(moved.image)
    assert max(errors(found.pose, moved.pose, scanner.centre_mm)) < 0.1  # voxels of 6 mm


def test_noise_is_a_share_of_the_brain_and_seeded():
    zero = np.zeros((20, 20, 20), np.float32)
    assert with_noise(zero, 0.01, 3).std() == pytest.approx(8, rel=0.05)
    assert with_noise(zero, 0.01, 3).tobytes() == with_noise(zero, 0.01, 3).tobytes()


def test_errors_are_in_mm_and_degrees():
    centre = np.array([5.0, -3.0, 8.0])
    true = rigid(np.array([1.0, 0, 0]), np.radians([3.0, 0, 0]), centre)
    found = true @ rigid(np.array([0.1, -0.2, 0]), np.radians([0, 0.05, 0]), centre)
    np.testing.assert_allclose(errors(found, true, centre), (0.2, 0.05), atol=1e-9)
