"""Values of a volume at the decoder's voxels, after motion: Lanczos-3, at those few thousand points only."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from rtgod.messages import Array, Float32Array, Float64Array

_RADIUS = 3


def sample(volume: Float32Array, voxels: Array, to_volume: Float64Array, out: Float32Array) -> int:
    """Interpolate a volume at template voxels.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z), float32
    voxels : ndarray of shape (n_voxels, 3), int32
        Indices into the template.
    to_volume : ndarray of shape (4, 4), float64
        Template indices to volume indices.
    out : ndarray of shape (n_voxels,), float32
        Filled with the values; NaN where a point lies outside the volume, whose edge is the outer voxels' centre.

    Returns
    -------
    int
        How many points lay outside.
    """
    return int(_lanczos(volume, voxels, to_volume, out))


@njit(cache=True, inline="always")
def _weight(distance: float) -> float:
    """Lanczos window of radius 3: sinc(d) sinc(d / 3)."""
    if distance == 0.0:
        return 1.0
    if abs(distance) >= _RADIUS:
        return 0.0
    a = math.pi * distance
    return _RADIUS * math.sin(a) * math.sin(a / _RADIUS) / (a * a)


@njit(cache=True, parallel=True, error_model="numpy")
def _lanczos(volume: Array, voxels: Array, to_volume: Array, out: Array) -> int:
    nx, ny, nz = volume.shape
    n_outside = 0
    for p in prange(voxels.shape[0]):
        a, b, c = voxels[p, 0], voxels[p, 1], voxels[p, 2]
        x = to_volume[0, 0] * a + to_volume[0, 1] * b + to_volume[0, 2] * c + to_volume[0, 3]
        y = to_volume[1, 0] * a + to_volume[1, 1] * b + to_volume[1, 2] * c + to_volume[1, 3]
        z = to_volume[2, 0] * a + to_volume[2, 1] * b + to_volume[2, 2] * c + to_volume[2, 3]
        # A thousandth of a voxel: rounding must not throw out points that lie on the edge.
        if not (-1e-3 <= x <= nx - 1 + 1e-3 and -1e-3 <= y <= ny - 1 + 1e-3 and -1e-3 <= z <= nz - 1 + 1e-3):
            out[p] = np.nan
            n_outside += 1
            continue
        i, j, k = int(math.floor(x)), int(math.floor(y)), int(math.floor(z))
        total, weights = 0.0, 0.0
        for di in range(1 - _RADIUS, _RADIUS + 1):
            wx = _weight(x - (i + di))
            si = min(max(i + di, 0), nx - 1)
            for dj in range(1 - _RADIUS, _RADIUS + 1):
                wxy = wx * _weight(y - (j + dj))
                sj = min(max(j + dj, 0), ny - 1)
                for dk in range(1 - _RADIUS, _RADIUS + 1):
                    weight = wxy * _weight(z - (k + dk))
                    total += weight * volume[si, sj, min(max(k + dk, 0), nz - 1)]
                    weights += weight
        # The window's weights do not add up to exactly 1; a constant image must stay constant.
        out[p] = total / weights
    return n_outside
