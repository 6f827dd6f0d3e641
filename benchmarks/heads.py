"""Synthetic heads that moved by a known motion, sampled as a scanner samples them.

A head is drawn at a third of the voxel size and moved by quintic splines; then k-space is cut off in the plane, and
fine slices are averaged. No code is shared with the motion correction that is tested.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from calibration.simulation.head import BRAIN_MEAN, build_head
from rtgod.messages import Float32Array, Float64Array
from rtgod.preprocessing.geometry import rigid, rotation_angles, translation_of

#: Number of fine voxels along each edge of a voxel.
_FINE = 3


@dataclass(frozen=True)
class MovedHead:
    """A volume (x, y, z), float32, without noise, and the pose (4, 4) that its head was moved by."""

    image: Float32Array
    pose: Float64Array


class HeadScanner:
    """Simulated scanner of one head in any pose.

    Parameters
    ----------
    shape : tuple of 3 int
        Number of voxels of a volume along each axis.
    voxel_mm : float
        Size of a voxel, millimetres.
    """

    def __init__(self, shape: tuple[int, int, int], voxel_mm: float) -> None:
        self.shape = shape
        x, y, z = shape
        fine = build_head((_FINE * x, _FINE * y, _FINE * z), (voxel_mm / _FINE,) * 3)
        self._fine_affine = fine.affine
        self._spline = ndimage.spline_filter(fine.template.astype(np.float64), 5)
        self.affine = fine.affine.copy()
        self.affine[:3, :3] *= _FINE
        self.affine[:3, 3] += fine.affine[:3, :3].sum(axis=1)  # the first voxel's centre is the second fine one's
        self.centre_mm = (self.affine @ [*(np.array(shape) - 1) / 2, 1])[:3]

    def scan(self, translation_mm: Float64Array, rotation_deg: Float64Array) -> MovedHead:
        """Scan the head after a motion about the middle of the field of view."""
        pose = rigid(np.asarray(translation_mm), np.radians(rotation_deg), self.centre_mm)
        mapping = np.linalg.inv(self._fine_affine) @ np.linalg.inv(pose) @ self._fine_affine
        fine = ndimage.affine_transform(
            self._spline, mapping[:3, :3], mapping[:3, 3], order=5, prefilter=False, mode="constant"
        )
        return MovedHead(self._acquire(fine).astype(np.float32), pose)

    def _acquire(self, fine: Float64Array) -> Float64Array:
        x, y, z = self.shape
        spectrum = np.fft.fftshift(np.fft.fft2(fine, axes=(0, 1)), axes=(0, 1))
        low_x, low_y = (spectrum.shape[0] - x) // 2, (spectrum.shape[1] - y) // 2
        spectrum = spectrum[low_x : low_x + x, low_y : low_y + y]
        # Shift by one fine voxel, from the first one's centre to the second's, which is the whole voxel's centre.
        phase_x, phase_y = ((np.arange(n) - n // 2) / (_FINE * n) for n in (x, y))
        spectrum = spectrum * np.exp(2j * np.pi * (phase_x[:, None] + phase_y))[:, :, None]
        plane = np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(0, 1)), axes=(0, 1)).real / _FINE**2
        return plane.reshape(x, y, z, _FINE).mean(axis=3)


def with_noise(image: Float32Array, share: float, seed: int) -> Float32Array:
    """Add white noise to an image; its SD is a share of the brain's mean."""
    noise = np.random.default_rng(seed).normal(0, share * BRAIN_MEAN, image.shape)
    return (image + noise).astype(np.float32)


def errors(found: Float64Array, true: Float64Array, centre_mm: Float64Array) -> tuple[float, float]:
    """Return the largest difference of two poses along an axis, mm at `centre_mm`, and about an axis, degrees."""
    apart = np.linalg.inv(true) @ found
    degrees = np.degrees(rotation_angles(apart[:3, :3]))
    return float(np.abs(translation_of(apart, centre_mm)).max()), float(np.abs(degrees).max())
