"""Values of a volume at the decoder's voxels, after motion: Lanczos-3, at those few thousand points only."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from rtgod.messages import Array, Float32Array, Float64Array


def sample(volume: Float32Array, voxels: Array, to_volume: Float64Array, out: Float32Array) -> int:
    """Interpolate a volume at template voxels.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z), float32, C-contiguous
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


@njit(cache=True)
def _weights(f: float) -> tuple[float, float, float, float, float, float]:
    """Lanczos-3 weights sinc(d) sinc(d / 3) of the six neighbours of a point at fraction `f`, normalised to sum 1.

    The neighbours' distances are d = f + 2, f + 1, … f − 3. Their sines follow from those of f by angle addition, so a
    point costs one sine and one cosine per axis instead of twelve. Unnormalised, a constant image would not stay so.
    """
    if f < 1e-6:
        return 0.0, 0.0, 1.0, 0.0, 0.0, 0.0
    if f > 1 - 1e-6:
        return 0.0, 0.0, 0.0, 1.0, 0.0, 0.0
    slow_sin, slow_cos = math.sin(math.pi * f / 3), math.cos(math.pi * f / 3)
    # sin(π (f + m)) is ±sin(π f); the sign and the common factor leave sin(π (f + m) / 3) / (f + m)² to be computed.
    half_root = math.sqrt(0.75)
    m2 = (slow_cos * half_root - slow_sin * 0.5) / ((f + 2) * (f + 2))
    m1 = -(slow_sin * 0.5 + slow_cos * half_root) / ((f + 1) * (f + 1))
    p0 = slow_sin / (f * f)
    p1 = -(slow_sin * 0.5 - slow_cos * half_root) / ((f - 1) * (f - 1))
    p2 = (-slow_sin * 0.5 - slow_cos * half_root) / ((f - 2) * (f - 2))
    p3 = slow_sin / ((f - 3) * (f - 3))
    total = m2 + m1 + p0 + p1 + p2 + p3
    return m2 / total, m1 / total, p0 / total, p1 / total, p2 / total, p3 / total


@njit(cache=True, parallel=True, error_model="numpy")
def _lanczos(volume: Array, voxels: Array, to_volume: Array, out: Array) -> int:
    nx, ny, nz = volume.shape
    flat = volume.reshape(-1)
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
        along_x, along_y, along_z = _weights(x - i), _weights(y - j), _weights(z - k)
        z0, z1, z2, z3, z4, z5 = along_z
        # Beyond the edge the outer voxel repeats. Unsigned positions spare a check for negative ones at every tap.
        k0, k1, k2 = np.uint64(max(k - 2, 0)), np.uint64(max(k - 1, 0)), np.uint64(max(k, 0))
        k3, k4, k5 = np.uint64(min(k + 1, nz - 1)), np.uint64(min(k + 2, nz - 1)), np.uint64(min(k + 3, nz - 1))
        total = 0.0
        for di in range(6):
            si = min(max(i + di - 2, 0), nx - 1)
            plane = 0.0
            for dj in range(6):
                sj = min(max(j + dj - 2, 0), ny - 1)
                row = np.uint64((si * ny + sj) * nz)
                near = z0 * flat[row + k0] + z1 * flat[row + k1] + z2 * flat[row + k2]
                plane += along_y[dj] * (near + z3 * flat[row + k3] + z4 * flat[row + k4] + z5 * flat[row + k5])
            total += along_x[di] * plane
        out[p] = total
    return n_outside
