"""Rigid head motion: where the template's head lies in a volume.

Inverse-compositional Gauss-Newton (Baker & Matthews 2004) on a fixed set of informative template voxels: the gradient,
and with it the normal matrix, is that of the template and is computed once. Both images are smoothed first, as SPM's
realignment does. Sums run over a fixed number of chunks in a fixed order, so the result does not depend on the threads.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from rtgod.errors import InputError
from rtgod.messages import Array, Float32Array, Float64Array, Motion
from rtgod.settings import MotionSettings

#: Sums are split into this many parts whatever the number of threads.
N_CHUNKS = 64
#: Rotations are turned into millimetres on a sphere of this radius (Power et al. 2012).
HEAD_RADIUS_MM = 50.0
#: Least share of the template's voxels that must lie inside the volume.
MIN_OVERLAP = 0.5


class Alignment(NamedTuple):
    """One registration: the pose as a matrix, and the same as people read it.

    Attributes
    ----------
    pose : ndarray of shape (4, 4), float64
        Millimetres in the template's world to millimetres in the volume's world.
    motion : Motion
    """

    pose: Float64Array
    motion: Motion


class Registration:
    """Registers volumes to one template.

    Parameters
    ----------
    template : ndarray of shape (x, y, z), float32
    affine : ndarray of shape (4, 4), float64
        Voxel to millimetres of the template.
    volume_affine : ndarray of shape (4, 4), float64
        Voxel to millimetres of the volumes; they have the template's shape.
    settings : MotionSettings

    Attributes
    ----------
    points_mm : ndarray of shape (n_points, 3), float64
        The informative voxels, in the template's world.
    centre_mm : ndarray of shape (3,), float64
        Their centre of intensity, about which rotations are described.

    Raises
    ------
    InputError
        If the template has no contrast to align to.
    """

    def __init__(
        self, template: Float32Array, affine: Float64Array, volume_affine: Float64Array, settings: MotionSettings
    ) -> None:
        self._settings = settings
        self._kernels = [gaussian_kernel(settings.smoothing_fwhm_mm / mm) for mm in voxel_sizes(volume_affine)]
        self._smoothed = np.empty(template.shape, np.float32)
        self._scratch = np.empty(template.shape, np.float32)
        smoothed = np.empty(template.shape, np.float32)
        kernels = [gaussian_kernel(settings.smoothing_fwhm_mm / mm) for mm in voxel_sizes(affine)]
        smooth(np.ascontiguousarray(template, np.float32), *kernels, self._scratch, smoothed)
        self._select_voxels(smoothed, affine)
        self._mm_to_voxel = np.linalg.inv(volume_affine)
        self._parts = np.empty((N_CHUNKS, 9))
        self.reset()

    def reset(self) -> None:
        """Forget the last pose: the next volume starts from the template's position."""
        self._pose = np.eye(4)
        self._scale = 1.0
        self._last_motion: Motion | None = None

    def align(self, volume: Float32Array) -> Alignment:
        """Estimate the pose of one volume, starting from the last one that converged.

        Parameters
        ----------
        volume : ndarray of shape (x, y, z), float32
            Finite values.

        Returns
        -------
        Alignment
            With `motion.converged` False when the estimate must not be used; the next call then starts afresh from
            the last good pose.
        """
        smooth(volume, *self._kernels, self._scratch, self._smoothed)
        pose, scale = self._pose.copy(), self._scale
        step_mm, n_iterations, residual, overlap = math.inf, 0, math.inf, 0.0
        while n_iterations < self._settings.max_iterations and step_mm > self._settings.tolerance_mm:
            delta, residual, overlap = self._gauss_newton_step(pose, scale)
            if overlap < MIN_OVERLAP or not np.isfinite(delta).all():
                break
            pose = pose @ np.linalg.inv(self._rigid(delta[:6]))
            scale *= 1.0 + delta[6]
            step_mm = float(np.abs(delta[:3]).sum() + HEAD_RADIUS_MM * np.abs(delta[3:6]).sum())
            n_iterations += 1
        converged = step_mm <= self._settings.tolerance_mm and overlap >= MIN_OVERLAP and 0.2 < scale < 5.0
        motion = self._describe(pose, residual, n_iterations, converged)
        if converged:
            self._pose, self._scale, self._last_motion = pose, scale, motion
        return Alignment(pose, motion)

    def _select_voxels(self, smoothed: Float32Array, affine: Float64Array) -> None:
        """Keep the head's voxels with the steepest gradient, and the normal matrix over them."""
        # einsum, here and below: its order of summation is fixed, that of a threaded matrix product is not.
        per_voxel = np.stack(np.gradient(smoothed.astype(np.float64)), axis=-1)
        gradient = np.einsum("xyzi,ij->xyzj", per_voxel, np.linalg.inv(affine[:3, :3]))
        steepness = np.linalg.norm(gradient, axis=-1)
        # Two voxels from the edge of the field of view the smoothed image already lacks neighbours.
        inner = np.zeros(smoothed.shape, bool)
        inner[2:-2, 2:-2, 2:-2] = True
        bright = float(np.percentile(smoothed, 98))
        eligible = np.flatnonzero(inner & (smoothed > 0.1 * bright) & (steepness > 0))
        if bright <= 0 or eligible.size < 500:
            raise InputError("template has no contrast to align to: is it a volume of a head?")
        # A stable sort: among equally steep voxels the choice must not depend on the platform's sorting.
        steepest = eligible[np.argsort(-steepness.ravel()[eligible], kind="stable")[: self._settings.n_voxels]]
        chosen = np.sort(steepest)
        ijk = np.stack(np.unravel_index(chosen, smoothed.shape), axis=1)
        self.points_mm = np.einsum("pi,ji->pj", ijk, affine[:3, :3]) + affine[:3, 3]
        self._values = smoothed.ravel()[chosen].astype(np.float64)
        self.centre_mm = np.average(self.points_mm, axis=0, weights=self._values)
        slopes = gradient.reshape(-1, 3)[chosen]
        arms = self.points_mm - self.centre_mm
        self._jacobian = np.column_stack([slopes, np.cross(arms, slopes), self._values])
        self._inverse_normal = np.linalg.inv(np.einsum("pi,pj->ij", self._jacobian, self._jacobian))
        self._mean_intensity = float(self._values.mean())

    def _gauss_newton_step(self, pose: Float64Array, scale: float) -> tuple[Float64Array, float, float]:
        to_voxel = self._mm_to_voxel @ pose
        _accumulate(self._smoothed, self.points_mm, self._values, self._jacobian, to_voxel, 1.0 / scale, self._parts)
        total = self._parts.sum(axis=0)
        n_inside = total[8]
        residual = math.sqrt(total[7] / n_inside) / self._mean_intensity if n_inside else math.inf
        return self._inverse_normal @ total[:7], residual, n_inside / self._values.size

    def _rigid(self, parameters: Float64Array) -> Float64Array:
        """Translation and small rotation about the centre as a matrix."""
        matrix = np.eye(4)
        matrix[:3, :3] = rotation_matrix(parameters[3:])
        matrix[:3, 3] = parameters[:3] + self.centre_mm - matrix[:3, :3] @ self.centre_mm
        return matrix

    def _describe(self, pose: Float64Array, residual: float, n_iterations: int, converged: bool) -> Motion:
        translation = pose[:3, :3] @ self.centre_mm + pose[:3, 3] - self.centre_mm
        rotation = rotation_angles(pose[:3, :3])
        displacement = 0.0
        if self._last_motion is not None:
            moved = np.abs(translation - np.array(self._last_motion.translation_mm)).sum()
            turned = np.abs(rotation - np.radians(self._last_motion.rotation_deg)).sum()
            displacement = float(moved + HEAD_RADIUS_MM * turned)
        tx, ty, tz = (float(v) for v in translation)
        rx, ry, rz = (float(v) for v in np.degrees(rotation))
        return Motion((tx, ty, tz), (rx, ry, rz), displacement, float(residual), n_iterations, bool(converged))


def pose_of(motion: Motion, centre_mm: Float64Array) -> Float64Array:
    """The pose that `motion` describes, shape (4, 4): template millimetres to volume millimetres."""
    pose = np.eye(4)
    pose[:3, :3] = rotation_matrix(np.radians(motion.rotation_deg))
    pose[:3, 3] = motion.translation_mm + centre_mm - pose[:3, :3] @ centre_mm
    return pose


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


def gaussian_kernel(fwhm_voxels: float) -> Float32Array:
    """Normalised Gaussian of odd length, cut at three standard deviations; a single 1 for no smoothing."""
    sigma = fwhm_voxels / math.sqrt(8 * math.log(2))
    radius = math.ceil(3 * sigma)
    if radius == 0:
        return np.ones(1, np.float32)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (weights / weights.sum()).astype(np.float32)


@njit(cache=True, parallel=True, error_model="numpy")
def smooth(volume: Array, kernel_x: Array, kernel_y: Array, kernel_z: Array, scratch: Array, out: Array) -> None:
    """Separable smoothing into `out`; edges repeat. All arrays are C-contiguous float32 of one shape."""
    nx, ny, nz = volume.shape
    rx, ry, rz = kernel_x.size // 2, kernel_y.size // 2, kernel_z.size // 2
    for x in prange(nx):
        for y in range(ny):
            for z in range(nz):
                scratch[x, y, z] = 0.0
            for tap in range(kernel_x.size):
                source = min(max(x + tap - rx, 0), nx - 1)
                weight = kernel_x[tap]
                for z in range(nz):
                    scratch[x, y, z] += weight * volume[source, y, z]
    for x in prange(nx):
        line = np.empty(nz, np.float32)
        for y in range(ny):
            for z in range(nz):
                line[z] = 0.0
            for tap in range(kernel_y.size):
                source = min(max(y + tap - ry, 0), ny - 1)
                weight = kernel_y[tap]
                for z in range(nz):
                    line[z] += weight * scratch[x, source, z]
            for z in range(nz):
                value = np.float32(0.0)
                for tap in range(kernel_z.size):
                    value += kernel_z[tap] * line[min(max(z + tap - rz, 0), nz - 1)]
                out[x, y, z] = value


@njit(cache=True, parallel=True, error_model="numpy")
def _accumulate(
    volume: Array, points_mm: Array, values: Array, jacobian: Array, to_voxel: Array, gain: float, parts: Array
) -> None:
    """Add up Jᵀe (7), e·e and the number of voxels inside, one row of `parts` per chunk; trilinear sampling."""
    n_points = points_mm.shape[0]
    nx, ny, nz = volume.shape
    for chunk in prange(N_CHUNKS):
        for k in range(9):
            parts[chunk, k] = 0.0
        for p in range(chunk * n_points // N_CHUNKS, (chunk + 1) * n_points // N_CHUNKS):
            mx, my, mz = points_mm[p, 0], points_mm[p, 1], points_mm[p, 2]
            x = to_voxel[0, 0] * mx + to_voxel[0, 1] * my + to_voxel[0, 2] * mz + to_voxel[0, 3]
            y = to_voxel[1, 0] * mx + to_voxel[1, 1] * my + to_voxel[1, 2] * mz + to_voxel[1, 3]
            z = to_voxel[2, 0] * mx + to_voxel[2, 1] * my + to_voxel[2, 2] * mz + to_voxel[2, 3]
            if not (0.0 <= x < nx - 1 and 0.0 <= y < ny - 1 and 0.0 <= z < nz - 1):
                continue
            i, j, k = int(x), int(y), int(z)
            u, v, w = x - i, y - j, z - k
            c00 = volume[i, j, k] * (1 - w) + volume[i, j, k + 1] * w
            c01 = volume[i, j + 1, k] * (1 - w) + volume[i, j + 1, k + 1] * w
            c10 = volume[i + 1, j, k] * (1 - w) + volume[i + 1, j, k + 1] * w
            c11 = volume[i + 1, j + 1, k] * (1 - w) + volume[i + 1, j + 1, k + 1] * w
            sample = (c00 * (1 - v) + c01 * v) * (1 - u) + (c10 * (1 - v) + c11 * v) * u
            error = sample * gain - values[p]
            for q in range(7):
                parts[chunk, q] += jacobian[p, q] * error
            parts[chunk, 7] += error * error
            parts[chunk, 8] += 1.0
