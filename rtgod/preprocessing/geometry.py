"""Rigid poses and voxel grids: matrices, and their translations, angles and sizes. Millimetres are RAS+."""

from __future__ import annotations

import math
from itertools import permutations, product
from typing import NamedTuple

import numpy as np

from rtgod.messages import Array, Float64Array, Motion

#: Radius of the sphere on which rotations are converted into millimetres (Power et al. 2012).
HEAD_RADIUS_MM = 50.0


def voxel_sizes(affine: Float64Array) -> Float64Array:
    """Return the length in mm of a voxel along each axis of the array, shape (3,).

    Parameters
    ----------
    affine : ndarray of shape (4, 4), float64
        Voxel indices to millimetres.
    """
    return np.linalg.norm(affine[:3, :3], axis=0)


def rotation_matrix(angles: Float64Array) -> Float64Array:
    """Return the rotation by `angles` about x, y and z, right-handed, z applied first.

    Parameters
    ----------
    angles : ndarray of shape (3,), float64
        In radians.
    """
    (ca, cb, cc), (sa, sb, sc) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def rotation_angles(matrix: Float64Array) -> Float64Array:
    """Return the angles (3,) in radians for which `rotation_matrix` gives `matrix`.

    Parameters
    ----------
    matrix : ndarray of shape (3, 3), float64
    """
    return np.array(
        [
            math.atan2(-matrix[1, 2], matrix[2, 2]),
            math.asin(min(1.0, max(-1.0, matrix[0, 2]))),
            math.atan2(-matrix[0, 1], matrix[0, 0]),
        ]
    )


def rigid(translation_mm: Float64Array, angles: Float64Array, centre_mm: Float64Array) -> Float64Array:
    """Return the pose (4, 4) that turns by `angles` about `centre_mm` and then translates.

    Parameters
    ----------
    translation_mm : ndarray of shape (3,), float64
    angles : ndarray of shape (3,), float64
        In radians; see `rotation_matrix`.
    centre_mm : ndarray of shape (3,), float64
    """
    pose = np.eye(4)
    pose[:3, :3] = rotation_matrix(angles)
    pose[:3, 3] = translation_mm + centre_mm - pose[:3, :3] @ centre_mm
    return pose


def translation_of(pose: Float64Array, centre_mm: Float64Array) -> Float64Array:
    """Return the translation of `centre_mm` by a pose, shape (3,), in mm.

    Parameters
    ----------
    pose : ndarray of shape (4, 4), float64
    centre_mm : ndarray of shape (3,), float64
    """
    return pose[:3, :3] @ centre_mm + pose[:3, 3] - centre_mm


def pose_of(motion: Motion, centre_mm: Float64Array) -> Float64Array:
    """Return the pose that `motion` describes, shape (4, 4): template millimetres to volume millimetres.

    Parameters
    ----------
    motion : Motion
    centre_mm : ndarray of shape (3,), float64
        Point about which the motion's rotations are described: `Registration.centre_mm`.
    """
    return rigid(np.array(motion.translation_mm), np.radians(motion.rotation_deg), centre_mm)


def displacement_mm(moved_mm: Float64Array, turned: Float64Array) -> float:
    """Compute framewise displacement (Power et al. 2012) from shifts and from turns, as arcs.

    Parameters
    ----------
    moved_mm : ndarray of shape (3,), float64
        Changes of the translation along x, y and z.
    turned : ndarray of shape (3,), float64
        Changes of the angles about x, y and z, in radians.
    """
    return float(np.abs(moved_mm).sum() + HEAD_RADIUS_MM * np.abs(turned).sum())


class Axes(NamedTuple):
    """Order and directions of the axes of an array against those of another array.

    Attributes
    ----------
    order : tuple of 3 int
        For each axis of the other array, the axis of this array that runs along it.
    flipped : tuple of 3 bool
        For each axis of the other array, whether the axis of this array runs in the opposite direction.
    """

    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    def turned(self, data: Array) -> Array:
        """Return a view of an array with the axes in the other array's order and directions.

        Parameters
        ----------
        data : ndarray of shape (x, y, z)
        """
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return data.transpose(self.order)[steps]


def axes_along(affine: Float64Array, other: Float64Array) -> Axes:
    """Match each axis of another grid with the axis of a grid that runs most nearly along it.

    Parameters
    ----------
    affine, other : ndarray of shape (4, 4), float64
        Voxel indices of each grid to millimetres.
    """
    along = (other[:3, :3] / voxel_sizes(other)).T @ (affine[:3, :3] / voxel_sizes(affine))
    order = max(permutations(range(3)), key=lambda o: sum(abs(along[axis, o[axis]]) for axis in range(3)))
    x, y, z = (bool(along[axis, order[axis]] < 0) for axis in range(3))
    return Axes((order[0], order[1], order[2]), (x, y, z))


def turned_affine(affine: Float64Array, shape: tuple[int, ...], axes: Axes) -> Float64Array:
    """Return the affine, shape (4, 4), of an array of `shape` after its axes are turned by `axes`.

    Parameters
    ----------
    affine : ndarray of shape (4, 4), float64
        Voxel indices of the array, not yet turned, to millimetres.
    shape : tuple of 3 int
        Shape of the array, not yet turned.
    axes : Axes
    """
    turned = affine.copy()
    for axis, (old, flip) in enumerate(zip(*axes, strict=True)):
        turned[:, axis] = -affine[:, old] if flip else affine[:, old]
        turned[:, 3] += affine[:, old] * (shape[old] - 1) * flip
    return turned


def furthest_mm(affine: Float64Array, other: Float64Array, shape: tuple[int, ...]) -> float:
    """Return the largest distance, in mm, between the places of a voxel by two affines of an array of `shape`.

    Parameters
    ----------
    affine, other : ndarray of shape (4, 4), float64
        Voxel indices to millimetres.
    shape : tuple of 3 int
    """
    corners = np.array([*product(*((0, n - 1) for n in shape))])
    apart = corners @ (affine - other)[:3, :3].T + (affine - other)[:3, 3]
    return float(np.linalg.norm(apart, axis=1).max())
