"""Sampling of a volume at the decoder's voxels, after motion: only these few thousand points are interpolated."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from rtgod.kernels import launch
from rtgod.messages import Array, Float32Array, Float64Array, Int32Array
from rtgod.preprocessing.splines import FAST, basis, evaluate, interpolation_coefficients
from rtgod.settings import SamplingSettings

#: Tolerance, in voxels, so that rounding drops no point on the edge, which is at the centres of the outer voxels.
_MARGIN = 1e-3


class Sampler:
    """Sampler of volumes at a fixed set of template voxels.

    Parameters
    ----------
    voxels : ndarray of shape (n_voxels, 3), int32
        Indices into the template.
    volume_shape : tuple of 3 int
    settings : SamplingSettings
    """

    def __init__(self, voxels: Int32Array, volume_shape: tuple[int, int, int], settings: SamplingSettings) -> None:
        self._voxels = voxels
        self._coefficients = np.empty(volume_shape, np.float32) if settings.interpolation == "cubic" else None

    def sample(self, volume: Float32Array, to_volume: Float64Array) -> tuple[Float32Array, int]:
        """Interpolate one volume.

        Parameters
        ----------
        volume : ndarray of shape (x, y, z), float32, C-contiguous
        to_volume : ndarray of shape (4, 4), float64
            Template indices to volume indices.

        Returns
        -------
        values : ndarray of shape (n_voxels,), float32
            NaN for points outside the volume.
        n_outside : int
            Number of points outside the volume.
        """
        values = np.empty(len(self._voxels), np.float32)
        if self._coefficients is None:
            return values, int(launch(_linear, 16 * len(values), volume, self._voxels, to_volume, values))
        interpolation_coefficients(volume, self._coefficients)
        return values, int(launch(_cubic, 64 * len(values), self._coefficients, self._voxels, to_volume, values))


@njit(cache=True)
def _position(to_volume: Array, voxel: Array) -> tuple[float, float, float]:
    a, b, c = voxel[0], voxel[1], voxel[2]
    return (
        to_volume[0, 0] * a + to_volume[0, 1] * b + to_volume[0, 2] * c + to_volume[0, 3],
        to_volume[1, 0] * a + to_volume[1, 1] * b + to_volume[1, 2] * c + to_volume[1, 3],
        to_volume[2, 0] * a + to_volume[2, 1] * b + to_volume[2, 2] * c + to_volume[2, 3],
    )


@njit(cache=True)
def _inside(x: float, y: float, z: float, shape: tuple[int, int, int]) -> bool:
    return (
        -_MARGIN <= x <= shape[0] - 1 + _MARGIN
        and -_MARGIN <= y <= shape[1] - 1 + _MARGIN
        and -_MARGIN <= z <= shape[2] - 1 + _MARGIN
    )


@njit(cache=True)
def _mirrored(index: int, size: int) -> int:
    """Reflect `index` at the first and the last of `size` voxels."""
    if size == 1:
        return 0
    index = abs(index) % (2 * size - 2)
    return min(index, 2 * size - 2 - index)


@njit(cache=True, parallel=True, fastmath=FAST, error_model="numpy")
def _cubic(coefficients: Array, voxels: Array, to_volume: Array, out: Array) -> int:
    nx, ny, nz = coefficients.shape
    flat = coefficients.reshape(-1)
    n_outside = 0
    for p in prange(voxels.shape[0]):
        x, y, z = _position(to_volume, voxels[p])
        if not _inside(x, y, z, coefficients.shape):
            out[p] = np.nan
            n_outside += 1
            continue
        i, j, k = math.floor(x), math.floor(y), math.floor(z)
        wx, wy, wz = basis(x - i), basis(y - j), basis(z - k)
        if 1 <= i < nx - 2 and 1 <= j < ny - 2 and 1 <= k < nz - 2:
            out[p] = evaluate(flat, ny, nz, i - 1, j - 1, k - 1, wx, wy, wz)
            continue
        total = np.float32(0.0)
        for a in range(4):
            ia = _mirrored(i + a - 1, nx)
            for b in range(4):
                jb = _mirrored(j + b - 1, ny)
                for c in range(4):
                    total += wx[a] * wy[b] * wz[c] * coefficients[ia, jb, _mirrored(k + c - 1, nz)]
        out[p] = total
    return n_outside


@njit(cache=True, parallel=True, fastmath=FAST, error_model="numpy")
def _linear(volume: Array, voxels: Array, to_volume: Array, out: Array) -> int:
    nx, ny, nz = volume.shape
    n_outside = 0
    for p in prange(voxels.shape[0]):
        x, y, z = _position(to_volume, voxels[p])
        if not _inside(x, y, z, volume.shape):
            out[p] = np.nan
            n_outside += 1
            continue
        i, j, k = max(math.floor(x), 0), max(math.floor(y), 0), max(math.floor(z), 0)
        # The last voxel has no next one; the weight of a next one is then only rounding.
        i1, j1, k1 = min(i + 1, nx - 1), min(j + 1, ny - 1), min(k + 1, nz - 1)
        u, v, w = np.float32(x - i), np.float32(y - j), np.float32(z - k)
        one = np.float32(1.0)
        near = (volume[i, j, k] * (one - w) + volume[i, j, k1] * w) * (one - v)
        near += (volume[i, j1, k] * (one - w) + volume[i, j1, k1] * w) * v
        far = (volume[i1, j, k] * (one - w) + volume[i1, j, k1] * w) * (one - v)
        far += (volume[i1, j1, k] * (one - w) + volume[i1, j1, k1] * w) * v
        out[p] = near * (one - u) + far * u
    return n_outside
