"""Move a volume rigidly in three passes, each along one axis of the array.

The decoder samples a few thousand voxels in three dimensions at once; the simulated scanner needs whole volumes, for
which one-dimensional passes (Catmull & Smith 1980) take a fifth of the time. The method also differs from the one
that will undo the motion.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from rtgod.messages import Array, Float32Array, Float64Array


def resample(volume: Float32Array, mapping: Float64Array) -> Float32Array:
    """Look a volume up at mapped indices: `out[p] = volume[mapping @ p]`, 0 outside the volume.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z), float32
    mapping : ndarray of shape (4, 4), float64
        Maps output indices to input indices; near enough to the identity that no axis is turned into another.

    Returns
    -------
    ndarray of the same shape, float32
    """
    first, second, third = _factorise(mapping)
    # The pass along an axis works on lines that are contiguous in memory: that axis is moved to the end.
    along_x = _pass(np.ascontiguousarray(volume.transpose(1, 2, 0)), first[[1, 2, 0, 3]])
    along_y = _pass(np.ascontiguousarray(along_x.transpose(2, 1, 0)), second[[0, 2, 1, 3]])
    return _pass(np.ascontiguousarray(along_y.transpose(0, 2, 1)), third)


def _factorise(mapping: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return coefficients (of x, y, z and 1) of the coordinate that each pass looks up.

    The last pass looks up z' = m₃·p. The pass before it must give y' = m₂·p, but meets z' in place of z; the first must
    give x' = m₁·p, but meets y' and z'. The coefficients follow by solving for the original coordinates.
    """
    m = mapping
    third = m[2]
    # z = (z' − m₃₀ x − m₃₁ y − m₃₃) / m₃₂, put into m₂.
    z_from = np.array([-m[2, 0], -m[2, 1], 1.0, -m[2, 3]]) / m[2, 2]
    second = np.array([m[1, 0], m[1, 1], 0.0, m[1, 3]]) + m[1, 2] * z_from
    # y = (y' − s₀ x − s₂ z' − s₃) / s₁, with s the second pass; z then follows from x, y and z'.
    y_from = np.array([-second[0], 1.0, -second[2], -second[3]]) / second[1]
    z_from_later = np.array([z_from[0], 0.0, z_from[2], z_from[3]]) + z_from[1] * y_from
    first = np.array([m[0, 0], 0.0, 0.0, m[0, 3]]) + m[0, 1] * y_from + m[0, 2] * z_from_later
    return first, second, third


def _pass(lines: Float32Array, coefficients: Float64Array) -> Float32Array:
    out = np.empty_like(lines)
    _lanczos_lines(lines, coefficients, out)
    return out


def _lanczos_table(n_steps: int) -> Float32Array:
    """Return normalised weights of the six neighbours at fractions 0, 1/n, … 1 of a voxel: shape (n_steps + 1, 6)."""
    distance = np.linspace(0, 1, n_steps + 1)[:, np.newaxis] - np.arange(-2, 4)
    weights = np.sinc(distance) * np.sinc(distance / 3) * (np.abs(distance) < 3)
    # Without normalisation a constant image would not stay constant.
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


#: 512 steps, interpolated linearly, come within 1e-5 of the exact weights in a fifth of the time of computing sines.
_STEPS = 512
_TABLE = _lanczos_table(_STEPS)


@njit(cache=True)
def _lanczos_weights(fraction: float) -> tuple[float, float, float, float, float, float]:
    """Return weights, float32, of the neighbours at −2 … 3 of a point at `fraction` (0 … 1) of a voxel."""
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


@njit(cache=True, fastmath={"contract"}, error_model="numpy")
def _lanczos_lines(lines: Array, coefficients: Array, out: Array) -> None:
    """Interpolate by Lanczos-3 along the last axis, at position c₀ i + c₁ j + c₂ k + c₃ for output (i, j, k)."""
    ni, nj, nk = lines.shape
    for i in range(ni):
        for j in range(nj):
            if not lines[i, j].any():
                # Air: a third of all lines.
                out[i, j] = 0.0
                continue
            start = coefficients[0] * i + coefficients[1] * j + coefficients[3]
            for k in range(nk):
                position = start + coefficients[2] * k
                if not 0.0 <= position <= nk - 1:
                    out[i, j, k] = 0.0
                    continue
                node = int(position)
                weights = _lanczos_weights(position - node)
                total = np.float32(0.0)
                if 2 <= node < nk - 3:
                    for tap in range(6):
                        total += weights[tap] * lines[i, j, node + tap - 2]
                else:
                    for tap in range(6):
                        # The outermost voxel repeats beyond the edge.
                        total += weights[tap] * lines[i, j, min(max(node + tap - 2, 0), nk - 1)]
                out[i, j, k] = total
