"""Rigid poses and voxel grids: matrices, and the numbers by which people read them. Millimetres are RAS+."""

from __future__ import annotations

import math
from itertools import permutations, product
from typing import NamedTuple

import numpy as np

from rtgod.messages import Array, Float64Array, Motion

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


class Axes(NamedTuple):
    """How the axes of one array run along those of another.

    Attributes
    ----------
    order : tuple of 3 int
        For each axis of the other array, the one of this that runs along it.
    flipped : tuple of 3 bool
        For each axis of the other array, whether this one runs against it.
    """

    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    def turned(self, data: Array) -> Array:
        """A view of an array of shape (x, y, z) with the axes of the other one."""
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return data.transpose(self.order)[steps]


def axes_along(affine: Float64Array, other: Float64Array) -> Axes:
    """The axes of a grid that run most nearly along those of another.

    Parameters
    ----------
    affine, other : ndarray of shape (4, 4), float64
        Voxel to millimetres of each.
    """
    along = (other[:3, :3] / voxel_sizes(other)).T @ (affine[:3, :3] / voxel_sizes(affine))
    order = max(permutations(range(3)), key=lambda o: sum(abs(along[axis, o[axis]]) for axis in range(3)))
    x, y, z = (bool(along[axis, order[axis]] < 0) for axis in range(3))
    return Axes((order[0], order[1], order[2]), (x, y, z))


def turned_affine(affine: Float64Array, shape: tuple[int, ...], axes: Axes) -> Float64Array:
    """Voxel to millimetres of an array of `shape` once its axes are turned, shape (4, 4)."""
    turned = affine.copy()
    for axis, (old, flip) in enumerate(zip(*axes, strict=True)):
        turned[:, axis] = -affine[:, old] if flip else affine[:, old]
        turned[:, 3] += affine[:, old] * (shape[old] - 1) * flip
    return turned


def furthest_mm(affine: Float64Array, other: Float64Array, shape: tuple[int, ...]) -> float:
    """Largest distance between where two affines have a voxel of an array of `shape`, mm."""
    corners = np.array([*product(*((0, n - 1) for n in shape))])
    apart = corners @ (affine - other)[:3, :3].T + (affine - other)[:3, 3]
    return float(np.linalg.norm(apart, axis=1).max())
