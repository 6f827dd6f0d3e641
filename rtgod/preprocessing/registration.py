"""Rigid registration: the position of the template's head in a volume.

Inverse-compositional Gauss-Newton (Baker & Matthews 2004) on a fixed set of informative template points: the gradient
is that of the template and is computed once. Both images are smoothed first, as SPM's realignment does (Friston et al.
1995), and interpolated by cubic B-splines. Points that do not fit, because of a spike, a lost signal or tissue that
moves differently, lose their weight. One thread computes the residual of a point, and sums run over a fixed number of
chunks in a fixed order, so the result does not depend on the number of threads.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import numpy as np
from numba import njit, prange

from rtgod.errors import InputError
from rtgod.kernels import launch
from rtgod.messages import Array, Float32Array, Float64Array, Motion
from rtgod.preprocessing.geometry import (
    HEAD_RADIUS_MM,
    displacement_mm,
    rigid,
    rotation_angles,
    translation_of,
    voxel_sizes,
)
from rtgod.preprocessing.splines import FAST, basis, basis_slope, convolve, evaluate, smoothing_kernel
from rtgod.settings import MotionSettings
from rtgod.state import Stateful

#: Number of parts into which sums are split, whatever the number of threads.
_N_CHUNKS = 64
#: First steps use every eighth point, until the next step should be shorter than this.
_STRIDE, _STRIDE_TOLERANCE_MM = 8, 0.02
#: Coarse search: size of blocks of voxels, smoothing in blocks, most points, and length of the last step.
_COARSE_MM, _COARSE_FWHM_VOXELS, _COARSE_POINTS, _COARSE_TOLERANCE_MM = 8.0, 2.5, 4000, 0.1
#: Least number of voxels along each axis, as splines need four.
FEWEST_VOXELS = 4
#: Least number of points, and least share of them that must be inside the volume and fit.
_LEAST_POINTS, _LEAST_OVERLAP = 200, 0.5
#: Size of a residual, in standard deviations, from which it has no weight; up to half of it the weight is full.
_OUTLIER_SDS = 12.0
#: Least standard deviation of residuals, as a share of the mean intensity, for images that are almost equal.
_LEAST_SD = 1e-3
#: Least ratio of a step's length to that of the step before that is used to predict the next step.
_LEAST_CONTRACTION = 0.1
#: Limits of the brightness relative to the template; beyond them the volume is another kind of image.
_LEAST_GAIN, _MOST_GAIN = 0.2, 5.0
#: Sums of the normal equations: upper triangle; right-hand side; then squared residuals, ones, values and squared
#: values, all weighted.
_TRIANGLE = np.triu_indices(7)
_N_SUMS = 28 + 7 + 4


class Alignment(NamedTuple):
    """Result of a registration: the pose as a matrix and as head motion, and the brightness.

    Attributes
    ----------
    pose : ndarray of shape (4, 4), float64
        Millimetres in the template's world to millimetres in the volume's world.
    motion : Motion
    gain : float
        Brightness of the volume's head, relative to the template's.
    problem : str
        Why the pose must not be used; empty if it may be.
    """

    pose: Float64Array
    motion: Motion
    gain: float
    problem: str


class _Fit(NamedTuple):
    """State of the iterations: pose and brightness, and the quality of the fit.

    `step_mm` is the length of the last step and `contraction` its ratio to the one before; `explained` is the share of
    the template's variance that the volume explains, and `overlap` the share of points that fit.
    """

    pose: Float64Array
    gain: float
    step_mm: float
    residual: float
    explained: float
    overlap: float
    n_iterations: int
    contraction: float = 1.0

    @property
    def left_mm(self) -> float:
        """Expected length of the next step, as steps shrink by about the same ratio, whatever points are used."""
        return self.step_mm * self.contraction


#: Start of the iterations at the template's position: the head has not moved.
_START = _Fit(np.eye(4), 1.0, math.inf, math.inf, -math.inf, 0.0, 0)


class Registration(Stateful):
    """Registration of volumes to one template.

    Parameters
    ----------
    template : ndarray of shape (x, y, z), float32
    affine : ndarray of shape (4, 4), float64
        Voxel indices of the template to millimetres.
    volume_shape : tuple of 3 int
    volume_affine : ndarray of shape (4, 4), float64
        Voxel indices of the volumes to millimetres. Volumes may be prescribed differently from the template: at another
        angle, with voxels of another size, with flipped axes.
    settings : MotionSettings

    Attributes
    ----------
    points_mm : ndarray of shape (n_points, 3), float64
        Informative points of the head, in the template's world.
    centre_mm : ndarray of shape (3,), float64
        Centre of intensity of the points, about which rotations are described.

    Raises
    ------
    InputError
        If the template has no contrast to align to.
    """

    changing: ClassVar = {"_last": _Fit, "_last_motion": Motion | None}

    def __init__(
        self,
        template: Float32Array,
        affine: Float64Array,
        volume_shape: tuple[int, int, int],
        volume_affine: Float64Array,
        settings: MotionSettings,
    ) -> None:
        self._settings = settings
        fwhm_mm = settings.smoothing_fwhm_mm
        self._fine = _Level(template, affine, volume_shape, volume_affine, 0.0, fwhm_mm, settings.n_points)
        self._coarse = _coarse_level(template, affine, volume_shape, volume_affine)
        self.points_mm, self.centre_mm = self._fine.points_mm, self._fine.centre_mm
        self.reset()

    def reset(self) -> None:
        """Forget the last pose, so that the search in the next volume starts at the template's position."""
        self._last = _START
        self._last_motion: Motion | None = None

    def align(self, volume: Float32Array) -> Alignment:
        """Estimate the pose of one volume, starting from the last pose that could be used.

        Parameters
        ----------
        volume : ndarray of shape (x, y, z), float32
            Volume with finite values.

        Returns
        -------
        Alignment
            If the estimate must not be used, its `problem` is not empty and `motion.converged` is False; the next call
            then starts again from the last good pose.
        """
        self._fine.load(volume)
        fit = self._refine(self._last)
        if self._problem_of(fit):
            searched = self._refine(self._search(volume))
            fit = searched._replace(n_iterations=fit.n_iterations + searched.n_iterations)
        problem = self._problem_of(fit)
        motion = self._describe(fit, converged=not problem)
        if not problem:
            self._last, self._last_motion = fit._replace(n_iterations=0), motion
        return Alignment(fit.pose, motion, fit.gain, problem)

    def _search(self, volume: Float32Array) -> _Fit:
        """Search at low resolution from the last pose, the template's position and the volume's centre of intensity."""
        if self._coarse is None:
            return _START
        return _from_afar(self._coarse, volume, (self._last, _START), self._settings.max_iterations)

    def _refine(self, start: _Fit) -> _Fit:
        settings = self._settings
        near = self._fine.fit(start, _STRIDE, max(_STRIDE_TOLERANCE_MM, settings.tolerance_mm), settings.max_iterations)
        fit = self._fine.fit(near, 1, settings.tolerance_mm, settings.max_iterations)
        return fit._replace(n_iterations=start.n_iterations + near.n_iterations + fit.n_iterations)

    def _problem_of(self, fit: _Fit) -> str:
        if fit.overlap < _LEAST_OVERLAP:
            return "half of the head is out of the field of view, or its signal is lost"
        if fit.left_mm > self._settings.tolerance_mm or not _LEAST_GAIN < fit.gain < _MOST_GAIN:
            return "the head could not be found in this volume"
        if fit.explained < self._settings.least_explained:
            explained = f"{100 * max(fit.explained, 0):.0f} % of the template explained"
            if self._last_motion is None:
                return f"this is not the template's head, or it moved meanwhile or is distorted: {explained}"
            return f"the head moved while this volume was acquired, or the volume is distorted: {explained}"
        return ""

    def _describe(self, fit: _Fit, converged: bool) -> Motion:
        translation = translation_of(fit.pose, self.centre_mm)
        rotation = rotation_angles(fit.pose[:3, :3])
        displacement = 0.0
        if self._last_motion is not None:
            moved = translation - np.array(self._last_motion.translation_mm)
            displacement = displacement_mm(moved, rotation - np.radians(self._last_motion.rotation_deg))
        tx, ty, tz = (float(v) for v in translation)
        rx, ry, rz = (float(v) for v in np.degrees(rotation))
        cx, cy, cz = (float(v) for v in self.centre_mm)
        return Motion((tx, ty, tz), (rx, ry, rz), displacement, fit.residual, fit.n_iterations, converged, (cx, cy, cz))


def likeness(
    template: Float32Array, affine: Float64Array, volume: Float32Array, volume_affine: Float64Array, max_iterations: int
) -> float:
    """Compute the share of a template's variance that a volume explains at low resolution, after a search for the head.

    Parameters
    ----------
    template : ndarray of shape (x, y, z), float32
    affine : ndarray of shape (4, 4), float64
        Voxel indices of the template to millimetres.
    volume : ndarray of shape (x, y, z), float32
    volume_affine : ndarray of shape (4, 4), float64
        Voxel indices of the volume to millimetres.
    max_iterations : int
        Limit for the search from each start.

    Returns
    -------
    float
        The share, at most 1; minus infinity for a slab of too few slices.
    """
    level = _coarse_level(template, affine, (volume.shape[0], volume.shape[1], volume.shape[2]), volume_affine)
    return -math.inf if level is None else _from_afar(level, volume, (_START,), max_iterations).explained


def _from_afar(level: _Level, volume: Float32Array, starts: tuple[_Fit, ...], max_iterations: int) -> _Fit:
    """Return the best fit from several starts, one of which puts the template's centre of intensity on the volume's."""
    level.load(volume)
    shifted = np.eye(4)
    shifted[:3, 3] = level.centre_of_volume_mm() - level.centre_of_template_mm
    fits = [
        level.fit(start, 1, _COARSE_TOLERANCE_MM, max_iterations) for start in (*starts, _START._replace(pose=shifted))
    ]
    best = max(fits, key=lambda fit: fit.explained)
    return best._replace(n_iterations=sum(fit.n_iterations for fit in fits))


class _Level:
    """Template points at one resolution, and buffers for volumes at this resolution.

    Parameters
    ----------
    template, affine, volume_shape, volume_affine
        See `Registration`.
    block_mm : float
        Size of the blocks over which voxels are averaged first; 0 for no averaging.
    fwhm_mm : float
        Full width at half maximum of the Gaussian smoothing of both images.
    n_points : int
        Most points that are used.
    """

    def __init__(
        self,
        template: Float32Array,
        affine: Float64Array,
        volume_shape: tuple[int, int, int],
        volume_affine: Float64Array,
        block_mm: float,
        fwhm_mm: float,
        n_points: int,
    ) -> None:
        self._factors = block_factors(volume_affine, block_mm)
        self._affine = block_affine(volume_affine, self._factors)
        self._mm_to_voxel = np.linalg.inv(self._affine)
        shape = tuple(n // f for n, f in zip(volume_shape, self._factors, strict=True))
        if min(shape) < FEWEST_VOXELS:
            raise InputError(f"too few slices or voxels to align: at least {FEWEST_VOXELS} along each axis are needed")
        self._kernels = [smoothing_kernel(fwhm_mm / mm) for mm in voxel_sizes(self._affine)]
        self._coefficients = np.empty(shape, np.float32)

        factors = block_factors(affine, block_mm)
        blocks = block_means(template, factors)
        affine = block_affine(affine, factors)
        coefficients = np.empty_like(blocks)
        kernels = [smoothing_kernel(fwhm_mm / mm) for mm in voxel_sizes(affine)]
        convolve(blocks, *kernels, coefficients)
        self.centre_of_template_mm = _centre_of_intensity(coefficients, affine)
        self._choose_points(coefficients, affine, n_points)
        self._sums = np.empty((_N_CHUNKS, _N_SUMS))

    def load(self, volume: Float32Array) -> None:
        """Average and smooth the volume to which the next fits are made."""
        convolve(block_means(volume, self._factors), *self._kernels, self._coefficients)

    def centre_of_volume_mm(self) -> Float64Array:
        """Return the centre of intensity of the loaded volume, shape (3,)."""
        return _centre_of_intensity(self._coefficients, self._affine)

    def fit(self, start: _Fit, stride: int, tolerance_mm: float, max_iterations: int) -> _Fit:
        """Iterate from a start on every `stride`-th point, until the next step should be at most `tolerance_mm`."""
        fit = start._replace(step_mm=math.inf, n_iterations=0)
        while fit.left_mm > tolerance_mm and fit.n_iterations < max_iterations and 1e-3 < fit.gain < 1e3:
            before_mm, fit = fit.step_mm, self._step(fit, stride)
            if fit.overlap < _LEAST_OVERLAP or not math.isfinite(fit.step_mm):
                break
            if math.isfinite(before_mm):
                fit = fit._replace(contraction=min(1.0, max(_LEAST_CONTRACTION, fit.step_mm / before_mm)))
        return fit

    def _step(self, fit: _Fit, stride: int) -> _Fit:
        """Take one Gauss-Newton step; return the new pose, with the quality of the fit before the step."""
        points = self._points[stride]
        to_voxel = self._mm_to_voxel @ fit.pose
        n_points = points.residuals.size
        at_points = points.mm, points.values, to_voxel, 1.0 / fit.gain, points.residuals
        launch(_compute_residuals, 64 * n_points, self._coefficients, *at_points)
        sd = max(_robust_sd(points.residuals[:: _STRIDE // stride]), _LEAST_SD * self._mean_intensity)
        weighted_by = _OUTLIER_SDS * sd, points.weights, self._sums
        launch(_accumulate, _N_SUMS * n_points, points.residuals, points.values, points.jacobian, *weighted_by)
        total = self._sums.sum(axis=0)
        squares, weight, weighted, weighted_squares = total[35:]
        fit = fit._replace(overlap=weight / n_points, n_iterations=fit.n_iterations + 1)
        if weight <= 0:
            return fit._replace(step_mm=math.inf)
        variance = weighted_squares - weighted**2 / weight
        fit = fit._replace(
            residual=float(math.sqrt(squares / weight) / self._mean_intensity),
            explained=float(1 - squares / variance) if variance > 0 else -math.inf,
        )
        normal = np.zeros((7, 7))
        normal[_TRIANGLE] = total[:28]
        normal.T[_TRIANGLE] = total[:28]
        try:
            step = np.linalg.solve(normal, total[28:35])
        except np.linalg.LinAlgError:
            return fit._replace(step_mm=math.inf)
        if not np.isfinite(step).all():
            return fit._replace(step_mm=math.inf)
        pose = fit.pose @ np.linalg.inv(rigid(step[:3], step[3:6], self.centre_mm))
        return fit._replace(
            pose=pose, gain=fit.gain * (1.0 + float(step[6])), step_mm=displacement_mm(step[:3], step[3:6])
        )

    def _choose_points(self, coefficients: Float32Array, affine: Float64Array, n_points: int) -> None:
        """Choose the head's points with the steepest gradients, and compute how a small motion changes their values."""
        nx, ny, nz = coefficients.shape
        # Within two voxels of the edge of the field of view the smoothed image lacks neighbours. Points lie at random
        # places between voxels, as they will in the volumes: otherwise the template would be sharper than these.
        inner = np.indices((nx - 4, ny - 4, nz - 4) if min(nx, ny, nz) > 4 else (0, 0, 0)).reshape(3, -1).T + 2.0
        inner += np.random.default_rng(0).uniform(-0.5, 0.5, inner.shape)
        values, slopes = np.empty(len(inner), np.float32), np.empty((len(inner), 3))
        _evaluate_slopes(coefficients, inner, values, slopes)
        # einsum, here and below, has a fixed order of summation; a threaded matrix product has not.
        slopes = np.einsum("pi,ij->pj", slopes, np.linalg.inv(affine[:3, :3]))
        steepness = np.linalg.norm(slopes, axis=1)
        bright = float(np.percentile(values, 98)) if len(values) else 0.0
        eligible = np.flatnonzero((values > 0.1 * bright) & (steepness > 1e-6 * bright))
        if bright <= 0 or eligible.size < _LEAST_POINTS:
            raise InputError(
                "template has no contrast to align to, or too few voxels of a head; if it is right, say "
                "motion.estimate = false in the settings"
            )
        # A stable sort: the choice among equally steep points must not depend on the platform's sorting.
        steepest = eligible[np.argsort(-steepness[eligible], kind="stable")[:n_points]]
        chosen = np.sort(steepest)
        self.points_mm = np.einsum("pi,ji->pj", inner[chosen], affine[:3, :3]) + affine[:3, 3]
        values = values[chosen]
        self.centre_mm = np.average(self.points_mm, axis=0, weights=values)
        arms = self.points_mm - self.centre_mm
        jacobian = np.column_stack([slopes[chosen], np.cross(arms, slopes[chosen]), values]).astype(np.float32)
        self._points = {stride: _Points.every(stride, self.points_mm, values, jacobian) for stride in (_STRIDE, 1)}
        normal = np.einsum("pi,pj->ij", jacobian, jacobian, dtype=np.float64)
        # All six directions in millimetres; in a head the weakest has some hundredths of the strongest one's contrast.
        in_mm = np.array([1, 1, 1, HEAD_RADIUS_MM, HEAD_RADIUS_MM, HEAD_RADIUS_MM])
        weakest, *_, strongest = np.linalg.eigvalsh(normal[:6, :6] / np.outer(in_mm, in_mm))
        if weakest < 1e-5 * strongest:
            raise InputError("template has no contrast along some direction: is it a volume of a head?")
        self._mean_intensity = float(values.mean())


class _Points(NamedTuple):
    """Template points, and buffers for the fit of a volume at these points.

    Attributes
    ----------
    mm : ndarray of shape (n_points, 3), float64
    values : ndarray of shape (n_points,), float32
        Values of the template.
    jacobian : ndarray of shape (7, n_points), float32
        Change of the values by three translations, three rotations and the brightness.
    residuals, weights : ndarray of shape (n_points,), float32
        Buffers for the residual and the weight of each point.
    """

    mm: Float64Array
    values: Float32Array
    jacobian: Float32Array
    residuals: Float32Array
    weights: Float32Array

    @classmethod
    def every(cls, stride: int, mm: Float64Array, values: Float32Array, jacobian: Float32Array) -> _Points:
        """Take every `stride`-th of all points; the argument `jacobian` has a row for each point."""
        mm, values = np.ascontiguousarray(mm[::stride]), np.ascontiguousarray(values[::stride])
        by_column = np.ascontiguousarray(jacobian[::stride].T)
        return cls(mm, values, by_column, np.empty_like(values), np.empty_like(values))


def _coarse_level(
    template: Float32Array, affine: Float64Array, volume_shape: tuple[int, int, int], volume_affine: Float64Array
) -> _Level | None:
    """Make the level for the search at low resolution; None for a slab of too few slices to average."""
    fwhm_mm = _COARSE_MM * _COARSE_FWHM_VOXELS
    try:
        return _Level(template, affine, volume_shape, volume_affine, _COARSE_MM, fwhm_mm, _COARSE_POINTS)
    except InputError:
        return None


def block_factors(affine: Float64Array, block_mm: float) -> tuple[int, int, int]:
    """Return the number of voxels along each axis of blocks of about `block_mm`.

    Parameters
    ----------
    affine : ndarray of shape (4, 4), float64
        Voxel indices to millimetres.
    block_mm : float
        Length of a block's edge; 0 for blocks of one voxel.
    """
    x, y, z = (max(1, round(block_mm / mm)) for mm in voxel_sizes(affine))
    return x, y, z


def block_affine(affine: Float64Array, factors: tuple[int, int, int]) -> Float64Array:
    """Return the affine, shape (4, 4), of a grid of blocks of `factors` voxels.

    Parameters
    ----------
    affine : ndarray of shape (4, 4), float64
        Voxel indices to millimetres.
    factors : tuple of 3 int
        Voxels of a block along each axis, from `block_factors`.
    """
    scale = np.diag([*map(float, factors), 1.0])
    scale[:3, 3] = (np.array(factors) - 1) / 2
    return affine @ scale


def block_means(volume: Float32Array, factors: tuple[int, int, int]) -> Float32Array:
    """Average an array over blocks of `factors` voxels; a rest that fills no block is left out.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z), float32
    factors : tuple of 3 int
        Voxels of a block along each axis, from `block_factors`.
    """
    if factors == (1, 1, 1):
        return np.ascontiguousarray(volume, np.float32)
    counts = [n // f for n, f in zip(volume.shape, factors, strict=True)]
    whole = volume[tuple(slice(n * f) for n, f in zip(counts, factors, strict=True))]
    (nx, ny, nz), (fx, fy, fz) = counts, factors
    return np.ascontiguousarray(whole.reshape(nx, fx, ny, fy, nz, fz).mean(axis=(1, 3, 5), dtype=np.float32))


def _centre_of_intensity(image: Float32Array, affine: Float64Array) -> Float64Array:
    """Return the centre in mm, shape (3,), of voxels above a tenth of the 98th percentile; of the grid without any."""
    ijk = np.argwhere(image > 0.1 * max(float(np.percentile(image, 98)), 0.0))
    centre = ijk.mean(axis=0) if len(ijk) else (np.array(image.shape) - 1) / 2
    return affine[:3, :3] @ centre + affine[:3, 3]


def _robust_sd(residuals: Float32Array) -> float:
    """Estimate the standard deviation of Gaussian residuals from their median absolute value; NaN are left out."""
    size = np.abs(residuals[np.isfinite(residuals)])
    return float(np.partition(size, size.size // 2)[size.size // 2]) / 0.6745 if size.size else 0.0


@njit(cache=True, parallel=True, error_model="numpy")
def _evaluate_slopes(coefficients: Array, ijk: Array, values: Array, slopes: Array) -> None:
    """Evaluate a spline and its derivatives per voxel at points `ijk` (n, 3), at least a voxel inside the grid."""
    _, ny, nz = coefficients.shape
    flat = coefficients.reshape(-1)
    for p in prange(ijk.shape[0]):
        x, y, z = ijk[p, 0], ijk[p, 1], ijk[p, 2]
        i, j, k = int(x), int(y), int(z)
        wx, wy, wz = basis(x - i), basis(y - j), basis(z - k)
        sx, sy, sz = basis_slope(x - i), basis_slope(y - j), basis_slope(z - k)
        values[p] = evaluate(flat, ny, nz, i - 1, j - 1, k - 1, wx, wy, wz)
        slopes[p, 0] = evaluate(flat, ny, nz, i - 1, j - 1, k - 1, sx, wy, wz)
        slopes[p, 1] = evaluate(flat, ny, nz, i - 1, j - 1, k - 1, wx, sy, wz)
        slopes[p, 2] = evaluate(flat, ny, nz, i - 1, j - 1, k - 1, wx, wy, sz)


@njit(cache=True, parallel=True, fastmath=FAST, error_model="numpy")
def _compute_residuals(
    coefficients: Array, points_mm: Array, values: Array, to_voxel: Array, gain: float, out: Array
) -> None:
    """Compute volume times `gain` minus template at each point; NaN outside the volume."""
    nx, ny, nz = coefficients.shape
    flat = coefficients.reshape(-1)
    brightness = np.float32(gain)
    for p in prange(out.size):
        mx, my, mz = points_mm[p, 0], points_mm[p, 1], points_mm[p, 2]
        x = to_voxel[0, 0] * mx + to_voxel[0, 1] * my + to_voxel[0, 2] * mz + to_voxel[0, 3]
        y = to_voxel[1, 0] * mx + to_voxel[1, 1] * my + to_voxel[1, 2] * mz + to_voxel[1, 3]
        z = to_voxel[2, 0] * mx + to_voxel[2, 1] * my + to_voxel[2, 2] * mz + to_voxel[2, 3]
        if not (1.0 <= x < nx - 2 and 1.0 <= y < ny - 2 and 1.0 <= z < nz - 2):
            out[p] = np.nan
            continue
        i, j, k = int(x), int(y), int(z)
        value = evaluate(flat, ny, nz, i - 1, j - 1, k - 1, basis(x - i), basis(y - j), basis(z - k))
        out[p] = value * brightness - values[p]


@njit(cache=True, parallel=True, fastmath=FAST, error_model="numpy")
def _accumulate(residuals: Array, values: Array, jacobian: Array, cut: float, weights: Array, sums: Array) -> None:
    """Sum up the weighted normal equations, one row of `sums` per chunk; for its columns see `_N_SUMS`.

    Residuals that are NaN become 0 and get no weight.
    """
    n = residuals.size
    scale, zero, one = np.float32(2.0 / cut), np.float32(0.0), np.float32(1.0)
    for chunk in prange(_N_CHUNKS):
        part = slice(chunk * n // _N_CHUNKS, (chunk + 1) * n // _N_CHUNKS)
        residual, value, weight, row = residuals[part], values[part], weights[part], sums[chunk]
        total = weighted = zero
        for p in range(residual.size):
            outside = np.isnan(residual[p])
            residual[p] = zero if outside else residual[p]
            # Tukey's biweight with a flat top.
            excess = min(max(scale * abs(residual[p]) - one, zero), one)
            inlying = one - excess * excess
            weight[p] = zero if outside else inlying * inlying
            total += weight[p]
            weighted += weight[p] * value[p]
        row[35], row[36] = _dot(weight, residual, residual), total
        row[37], row[38] = weighted, _dot(weight, value, value)
        column = 0
        for a in range(7):
            row[28 + a] = _dot(weight, jacobian[a, part], residual)
            for b in range(a, 7):
                row[column] = _dot(weight, jacobian[a, part], jacobian[b, part])
                column += 1


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _dot(weights: Array, a: Array, b: Array) -> np.float32:
    """Compute the weighted product of two columns of some hundred points; single precision is enough for these."""
    total = np.float32(0.0)
    for p in range(weights.size):
        total += weights[p] * a[p] * b[p]
    return total
