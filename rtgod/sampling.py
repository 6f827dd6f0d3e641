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


def _lanczos_table(n_steps: int) -> Float32Array:
    """Normalised weights of the six neighbours at fractions 0, 1/n, … 1 of a voxel: shape (n_steps + 1, 6)."""
    distance = np.linspace(0, 1, n_steps + 1)[:, np.newaxis] - np.arange(-2, 4)
    weights = np.sinc(distance) * np.sinc(distance / 3) * (np.abs(distance) < 3)
    # Unnormalised, a constant image would not stay constant.
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


#: Interpolated linearly, 512 steps are within 1e-5 of the exact weights, at a fifth of the time of their sines.
_STEPS = 512
_TABLE = _lanczos_table(_STEPS)


@njit(cache=True)
def lanczos_weights(fraction: float) -> tuple[float, float, float, float, float, float]:
    """Weights, float32, of the neighbours at −2 … 3 of a point at `fraction` (0 … 1) of a voxel; for use in kernels."""
    position = fraction * _STEPS
    node = min(int(position), _STEPS - 1)
    t = np.float32(position - node)
    low, high = _TABLE[node], _TABLE[node + 1]
    return (
        low[0] + t * (high[0] - low[0]),
        low[1] + t * (high[1] - low[1]),
        low[2] + t * (high[2] - low[2]),
        low[3] + t * (high[3] - low[3]),
        low[4] + t * (high[4] - low[4]),
        low[5] + t * (high[5] - low[5]),
    )


@njit(cache=True, parallel=True, error_model="numpy", fastmath={"contract"})
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
        i, j, k = math.floor(x), math.floor(y), math.floor(z)
        along_x, along_y, along_z = lanczos_weights(x - i), lanczos_weights(y - j), lanczos_weights(z - k)
        # Beyond the edge the outer voxel repeats. The last axis is summed last, so that each row costs one weight;
        # unsigned positions spare a check for negative ones at every value.
        k0, k1, k2 = np.uint64(max(k - 2, 0)), np.uint64(max(k - 1, 0)), np.uint64(max(k, 0))
        k3, k4, k5 = np.uint64(min(k + 1, nz - 1)), np.uint64(min(k + 2, nz - 1)), np.uint64(min(k + 3, nz - 1))
        # Single precision throughout: converting each value would take longer than adding it.
        sum0 = sum1 = sum2 = sum3 = sum4 = sum5 = np.float32(0.0)
        for di in range(6):
            si = min(max(i + di - 2, 0), nx - 1)
            for dj in range(6):
                sj = min(max(j + dj - 2, 0), ny - 1)
                weight = along_x[di] * along_y[dj]
                row = np.uint64((si * ny + sj) * nz)
                sum0 += weight * flat[row + k0]
                sum1 += weight * flat[row + k1]
                sum2 += weight * flat[row + k2]
                sum3 += weight * flat[row + k3]
                sum4 += weight * flat[row + k4]
                sum5 += weight * flat[row + k5]
        near = along_z[0] * sum0 + along_z[1] * sum1 + along_z[2] * sum2
        out[p] = near + along_z[3] * sum3 + along_z[4] * sum4 + along_z[5] * sum5
    return n_outside
