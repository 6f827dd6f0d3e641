"""Random fields that are smooth over points, a volume or the whole head, and random courses that are slow."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from rtgod.messages import Float32Array, Float64Array

#: Full width at half maximum of a Gaussian of standard deviation 1.
_FWHM = math.sqrt(8 * math.log(2))
#: Standard deviations at which the kernel over a volume is cut off.
_TRUNCATE = 3.0
#: Time constant of slow courses in seconds: activity at rest is mostly slower than 0.1 Hz (Fox & Raichle 2007).
_SLOW_S = 8.0


def smoothing_of(positions_mm: Float64Array, fwhm_mm: float) -> Float32Array:
    """Return the matrix that smooths white noise on points into a field of standard deviation 1.

    Parameters
    ----------
    positions_mm : ndarray of shape (n_points, 3), float64
    fwhm_mm : float
        Full width at half maximum of the Gaussian kernel; 0 smooths nothing.

    Returns
    -------
    ndarray of shape (n_points, n_points), float32
        `noise @ matrix` is smooth along the last axis.
    """
    if fwhm_mm == 0:
        return np.eye(len(positions_mm), dtype=np.float32)
    squared = np.square(positions_mm).sum(axis=1)
    distance = np.maximum(squared[:, np.newaxis] + squared - 2 * positions_mm @ positions_mm.T, 0)
    kernel = np.exp(-0.5 * distance * (_FWHM / fwhm_mm) ** 2)
    return (kernel / np.linalg.norm(kernel, axis=0)).astype(np.float32)


class SmoothNoise:
    """Source of noise of standard deviation 1 that is smooth over a volume.

    Parameters
    ----------
    shape : (x, y, z)
        Number of voxels along each axis.
    voxel_mm : (x, y, z)
        Voxel edges in mm.
    fwhm_mm : float
        Full width at half maximum of the Gaussian kernel that smooths white noise; 0 smooths nothing.
    """

    def __init__(self, shape: tuple[int, ...], voxel_mm: tuple[float, ...], fwhm_mm: float) -> None:
        self._shape = shape
        self._sd_voxels = [fwhm_mm / _FWHM / edge for edge in voxel_mm]
        self._scale = np.float32(1 / math.prod(self._left(n, sd) for n, sd in zip(shape, self._sd_voxels, strict=True)))

    @staticmethod
    def _left(n_voxels: int, sd_voxels: float) -> float:
        """Return the standard deviation that smoothing along one axis leaves of white noise."""
        if sd_voxels == 0:
            return 1.0
        impulse = np.zeros(n_voxels)
        impulse[0] = 1.0
        return float(np.linalg.norm(ndimage.gaussian_filter1d(impulse, sd_voxels, mode="wrap", truncate=_TRUNCATE)))

    def draw(self, rng: np.random.Generator) -> Float32Array:
        """Draw a volume of the shape given, float32.

        Parameters
        ----------
        rng : numpy.random.Generator
        """
        white = rng.standard_normal(self._shape, np.float32)
        # Wrapped, so that the edges of the volume vary as much as its middle.
        smooth = ndimage.gaussian_filter(white, self._sd_voxels, mode="wrap", truncate=_TRUNCATE)
        return np.asarray(smooth * self._scale, np.float32)


def wide_field(shape: tuple[int, ...], rng: np.random.Generator) -> Float32Array:
    """Draw a field of standard deviation about 1 that varies over a quarter of the head.

    Parameters
    ----------
    shape : (x, y, z)
        Number of voxels along each axis.
    rng : numpy.random.Generator
    """
    x, y, z = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij", sparse=True)
    field = np.zeros(shape)
    for _ in range(6):
        waves = rng.uniform(-2, 2, 3)
        phase = rng.uniform(0, 2 * np.pi)
        field += np.cos(2 * np.pi * (waves[0] * x + waves[1] * y + waves[2] * z) + phase)
    return (field / np.sqrt(3)).astype(np.float32)


def slow_courses(n_volumes: int, n: int, tr_s: float, rng: np.random.Generator) -> Float32Array:
    """Draw courses of standard deviation 1 that forget within seconds: AR(1), shape (n_volumes, n), float32.

    Parameters
    ----------
    n_volumes, n : int
    tr_s : float
    rng : numpy.random.Generator
    """
    kept = np.exp(-tr_s / _SLOW_S)
    courses = rng.standard_normal((n_volumes, n))
    for volume in range(1, n_volumes):
        courses[volume] = kept * courses[volume - 1] + np.sqrt(1 - kept**2) * courses[volume]
    return courses.astype(np.float32)
