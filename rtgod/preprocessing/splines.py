"""Cubic B-splines on a voxel grid (Unser et al. 1993): their coefficients, for interpolation and for smoothing.

The value at any point is the sum of coefficients times the B-spline around each voxel. For interpolation the
coefficients undo the B-spline's own blur at the voxels; for smoothing, this blur is part of the smoothing.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from rtgod.messages import Array, Float32Array

#: Options that let the compiler reorder sums, equally for all threads; it must still handle NaN.
FAST = {"contract", "reassoc", "nsz"}
Weights = tuple[np.float32, np.float32, np.float32, np.float32]
_POLE = math.sqrt(3) - 2
_GAIN = (1 - _POLE) * (1 - 1 / _POLE)
#: Voxels after which the influence of the recursion's start has fallen below 1e-9.
_REACH = 16
#: Kernel weights up to this size are cut off.
_NEGLIGIBLE = 1e-4


def smoothing_kernel(fwhm_voxels: float) -> Float32Array:
    """Compute the kernel that turns voxels into the coefficients of their Gaussian smoothing; odd length, sum 1.

    In the frequency domain it is the Gaussian divided by the response of the B-spline at the voxels. For no smoothing
    the coefficients are those of the interpolation.

    Parameters
    ----------
    fwhm_voxels : float
        Full width at half maximum of the Gaussian; 0 for no smoothing.
    """
    variance = fwhm_voxels**2 / (8 * math.log(2))
    size = 2 * math.ceil(5 * math.sqrt(variance) + 20)
    cosine = np.cos(2 * np.pi * np.fft.fftfreq(size))
    # The squared frequency, approximated up to the eighth power of the frequency. Unlike the exact one it has no kink
    # at the end of the period, which would make the kernel long.
    u = 1 - cosine
    squared = u * (2 + u * (1 / 3 + u * 4 / 45))
    weights = np.fft.ifft(np.exp(-variance * squared / 2) / ((2 + cosine) / 3)).real
    radius = int(np.flatnonzero(np.abs(weights[: size // 2]) > _NEGLIGIBLE)[-1])
    kernel = np.concatenate([weights[size - radius :], weights[: radius + 1]])
    return (kernel / kernel.sum()).astype(np.float32)


@njit(cache=True, parallel=True, fastmath=FAST, error_model="numpy")
def convolve(volume: Array, kernel_x: Array, kernel_y: Array, kernel_z: Array, out: Array) -> None:
    """Convolve with a symmetric kernel along each axis into `out`; edges repeat.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z), float32, C-contiguous
    kernel_x, kernel_y, kernel_z : ndarray of odd length, float32
        For example from `smoothing_kernel`.
    out : ndarray of shape (x, y, z), float32
    """
    nx, ny, nz = volume.shape
    rx, ry, rz = kernel_x.size // 2, kernel_y.size // 2, kernel_z.size // 2
    planes = volume.reshape(nx, ny * nz)
    for x in prange(nx):
        # One plane at a time, and both neighbours at a distance together: long loops over data in the cache. Slices
        # start at 0, so that no loop needs a check for negative positions.
        padded, plane = np.empty((ny + 2 * ry) * nz, np.float32), np.empty(ny * nz, np.float32)
        along_x = padded[ry * nz : (ry + ny) * nz]
        _scale(planes[x], kernel_x[rx], along_x)
        for t in range(1, rx + 1):
            _add_both(planes[max(x - t, 0)], planes[min(x + t, nx - 1)], kernel_x[rx + t], along_x)
        for y in range(ry):
            padded[y * nz : (y + 1) * nz] = along_x[:nz]
            padded[(ry + ny + y) * nz : (ry + ny + y + 1) * nz] = along_x[(ny - 1) * nz :]
        _scale(along_x, kernel_y[ry], plane)
        for t in range(1, ry + 1):
            _add_both(padded[(ry - t) * nz :], padded[(ry + t) * nz :], kernel_y[ry + t], plane)
        line = np.empty(nz + 2 * rz, np.float32)
        for y in range(ny):
            line[rz : rz + nz] = plane[y * nz : (y + 1) * nz]
            line[:rz] = line[rz]
            line[rz + nz :] = line[rz + nz - 1]
            _scale(line[rz:], kernel_z[rz], out[x, y])
            for t in range(1, rz + 1):
                _add_both(line[rz - t :], line[rz + t :], kernel_z[rz + t], out[x, y])


@njit(cache=True)
def _scale(values: Array, weight: float, out: Array) -> None:
    for p in range(out.size):
        out[p] = weight * values[p]


@njit(cache=True, fastmath=FAST)
def _add_both(before: Array, after: Array, weight: float, out: Array) -> None:
    for p in range(out.size):
        out[p] += weight * (before[p] + after[p])


@njit(cache=True, parallel=True, fastmath=FAST, error_model="numpy")
def interpolation_coefficients(volume: Array, out: Array) -> None:
    """Write into `out` the coefficients of the spline through `volume`, mirrored at the edges.

    Parameters
    ----------
    volume, out : ndarray of shape (x, y, z), float32
    """
    nx, ny, nz = volume.shape
    for y in prange(ny):
        lines = np.empty((nx, nz), np.float32)
        for x in range(nx):
            for z in range(nz):
                lines[x, z] = volume[x, y, z]
        _filter_down(lines)
        for x in range(nx):
            for z in range(nz):
                out[x, y, z] = lines[x, z]
    for x in prange(nx):
        lines = np.empty((ny, nz), np.float32)
        turned = np.empty((nz, ny), np.float32)
        for y in range(ny):
            for z in range(nz):
                lines[y, z] = out[x, y, z]
        _filter_down(lines)
        for y in range(ny):
            for z in range(nz):
                turned[z, y] = lines[y, z]
        _filter_down(turned)
        for y in range(ny):
            for z in range(nz):
                out[x, y, z] = turned[z, y]


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _filter_down(lines: Array) -> None:
    """Apply the recursive filter down the columns of `lines` (n, m), in place; all columns at once, row by row."""
    n, m = lines.shape
    if n == 1:
        return
    pole, gain = np.float32(_POLE), np.float32(_GAIN)
    for k in range(n):
        for j in range(m):
            lines[k, j] *= gain
    # The causal pass starts from the sum over the mirrored signal, up to `_REACH` voxels.
    power, period = np.float32(1.0), 2 * n - 2
    start = lines[0].copy()
    for step in range(1, _REACH):
        power *= pole
        k = step % period
        k = k if k < n else period - k
        for j in range(m):
            start[j] += power * lines[k, j]
    for j in range(m):
        lines[0, j] = start[j]
    for k in range(1, n):
        for j in range(m):
            lines[k, j] += pole * lines[k - 1, j]
    end = np.float32(_POLE / (_POLE * _POLE - 1.0))
    for j in range(m):
        lines[n - 1, j] = end * (lines[n - 1, j] + pole * lines[n - 2, j])
    for k in range(n - 2, -1, -1):
        for j in range(m):
            lines[k, j] = pole * (lines[k + 1, j] - lines[k, j])


@njit(cache=True, fastmath=FAST)
def basis(fraction: float) -> Weights:
    """Return the weights of the coefficients at −1, 0, 1 and 2 for a point at `fraction`, float32; a kernel.

    Parameters
    ----------
    fraction : float
        Position between two neighbouring voxels, from 0 to 1.
    """
    f = np.float32(fraction)
    g = np.float32(1.0) - f
    sixth, two_thirds, half = np.float32(1 / 6), np.float32(2 / 3), np.float32(0.5)
    return (
        sixth * g * g * g,
        two_thirds - f * f * (np.float32(1.0) - half * f),
        two_thirds - g * g * (np.float32(1.0) - half * g),
        sixth * f * f * f,
    )


@njit(cache=True)
def basis_slope(fraction: float) -> Weights:
    """Return the derivatives of `basis` per voxel.

    Parameters
    ----------
    fraction : float
        Position between two neighbouring voxels, from 0 to 1.
    """
    f = np.float32(fraction)
    g = np.float32(1.0) - f
    half, three_halves, two = np.float32(0.5), np.float32(1.5), np.float32(2.0)
    return -half * g * g, f * (three_halves * f - two), g * (two - three_halves * g), half * f * f


@njit(cache=True, fastmath=FAST)
def evaluate(
    flat: Array, ny: int, nz: int, i: int, j: int, k: int, wx: Weights, wy: Weights, wz: Weights
) -> np.float32:
    """Sum the 64 coefficients from (i, j, k) on, weighted along each axis.

    Parameters
    ----------
    flat : ndarray of shape (nx * ny * nz,), float32
        Coefficients of shape (nx, ny, nz), flattened in C order.
    ny, nz : int
    i, j, k : int
        First coefficient along each axis, one before the voxel that precedes the point; it and the next three must
        exist.
    wx, wy, wz : tuple of 4 float32
        Weights along each axis, from `basis` or `basis_slope`.
    """
    # The last axis is summed last, so that each row needs one weight. Unsigned positions avoid a check for negative
    # ones at every value, and single precision a conversion.
    sum0 = sum1 = sum2 = sum3 = np.float32(0.0)
    for a in range(4):
        for b in range(4):
            weight = wx[a] * wy[b]
            row = np.uint64(((i + a) * ny + j + b) * nz + k)
            sum0 += weight * flat[row]
            sum1 += weight * flat[row + np.uint64(1)]
            sum2 += weight * flat[row + np.uint64(2)]
            sum3 += weight * flat[row + np.uint64(3)]
    return wz[0] * sum0 + wz[1] * sum1 + wz[2] * sum2 + wz[3] * sum3
