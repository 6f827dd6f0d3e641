"""Rigid poses and voxel grids: matrices, and the numbers by which people read them. Millimetres are RAS+."""

from __future__ import annotations

import math

import numpy as np

from rtgod.messages import Float64Array, Motion

#: Rotations are turned into millimetres on a sphere of this radius (Power et al. 2012).
HEAD_RADIUS_MM = 50.0


def voxel_sizes(affine: Float64Array) -> Float64Array:
    """Length in mm of a voxel along each axis of the array, shape (3,)."""
    return np.linalg.norm(affine[:3, :3], axis=0)


def rotation_matrix(angles: Float64Array) -> Float64Array:
    """Rotation by `angles` (3,) in radians about x, y and z, right-handed, z applied first."""
    (ca, cb, cc), (sa, sb, sc) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def rotation_angles(matrix: Float64Array) -> Float64Array:
    """Angles (3,) in radians that `rotation_matrix` turns into `matrix` (3, 3)."""
    return np.array(
        [
            math.atan2(-matrix[1, 2], matrix[2, 2]),
            math.asin(min(1.0, max(-1.0, matrix[0, 2]))),
            math.atan2(-matrix[0, 1], matrix[0, 0]),
        ]
    )


def rigid(translation_mm: Float64Array, angles: Float64Array, centre_mm: Float64Array) -> Float64Array:
    """The pose, shape (4, 4), that turns by `angles` (radians) about `centre_mm` and then translates; each (3,)."""
    pose = np.eye(4)
    pose[:3, :3] = rotation_matrix(angles)
    pose[:3, 3] = translation_mm + centre_mm - pose[:3, :3] @ centre_mm
    return pose


def translation_of(pose: Float64Array, centre_mm: Float64Array) -> Float64Array:
    """How far a pose (4, 4) moves `centre_mm`, shape (3,), in mm."""
    return pose[:3, :3] @ centre_mm + pose[:3, 3] - centre_mm


def pose_of(motion: Motion, centre_mm: Float64Array) -> Float64Array:
    """The pose that `motion` describes, shape (4, 4): template millimetres to volume millimetres."""
    return rigid(np.array(motion.translation_mm), np.radians(motion.rotation_deg), centre_mm)


def displacement_mm(moved_mm: Float64Array, turned: Float64Array) -> float:
    """Framewise displacement (Power et al. 2012): sum of absolute shifts (3,) and of turns (3,) in radians as arcs."""
    return float(np.abs(moved_mm).sum() + HEAD_RADIUS_MM * np.abs(turned).sum())
