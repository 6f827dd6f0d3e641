import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.messages import Motion
from rtgod.preprocessing.geometry import (
    displacement_mm,
    pose_of,
    rigid,
    rotation_angles,
    rotation_matrix,
    translation_of,
    voxel_sizes,
)
from tests import naive

angles = st.tuples(*[st.floats(-1.5, 1.5)] * 3)
millimetres = st.tuples(*[st.floats(-80, 80)] * 3)


@given(angles)
def test_angles_and_matrices_are_each_other_s_inverse(radians):
    matrix = rotation_matrix(np.array(radians))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    np.testing.assert_allclose(rotation_angles(matrix), radians, atol=1e-9)
    np.testing.assert_allclose(matrix, naive.rigid((0, 0, 0), np.degrees(radians), (0, 0, 0))[:3, :3], atol=1e-12)


@given(millimetres, angles, millimetres)
def test_a_pose_turns_about_its_centre_and_translates(shift, radians, centre):
    pose = rigid(np.array(shift), np.array(radians), np.array(centre))
    np.testing.assert_allclose(pose, naive.rigid(shift, np.degrees(radians), centre), atol=1e-9)
    np.testing.assert_allclose(translation_of(pose, np.array(centre)), shift, atol=1e-9)
    motion = Motion(shift, tuple(np.degrees(radians)), 0.0, 0.0, 1, True)
    np.testing.assert_allclose(pose_of(motion, np.array(centre)), pose, atol=1e-9)


def test_displacement_is_that_of_power():
    before = Motion((0, 0, 0), (0, 0, 0), 0, 0, 1, True)
    after = Motion((0.3, -0.2, 0.1), (1, 0, -2), 0, 0, 1, True)
    expected = naive.framewise_displacement(before, after)
    moved = displacement_mm(np.array(after.translation_mm), np.radians(after.rotation_deg))
    assert moved == pytest.approx(expected)


def test_voxel_sizes_are_the_columns_lengths():
    affine = naive.rigid((5, 6, 7), (20, -30, 10), (0, 0, 0)) @ np.diag([2, -3, 4.5, 1])
    np.testing.assert_allclose(voxel_sizes(affine), [2, 3, 4.5])
