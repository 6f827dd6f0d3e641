"""Alignment of volumes to the template: check, convert, register, and sample values at the template's voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rtgod.errors import InputError
from rtgod.messages import (
    Array,
    BoolArray,
    Float32Array,
    Float64Array,
    Int32Array,
    Motion,
    NotReady,
    Reason,
    Run,
    Volume,
)
from rtgod.preprocessing.geometry import Axes, axes_along, turned_affine, voxel_sizes
from rtgod.preprocessing.registration import FEWEST_VOXELS, Alignment, Registration
from rtgod.preprocessing.sampling import Sampler
from rtgod.preprocessing.stopwatch import Stopwatch
from rtgod.settings import MotionSettings, SamplingSettings
from rtgod.state import Stateful
from rtgod.text import times

#: Distance by which a voxel may lie outside the field of view, by the run's affine, and still be found by alignment.
_REACH_MM = 20.0
#: Largest difference of affines that counts as rounding of headers.
_SAME_MM = 0.01
#: Tolerance, in voxels, for rounding of positions on the edge.
_ROUNDING = 1e-6
#: Voxels above this share of the template's 98th percentile count as the head.
_HEAD = 0.1
#: Share of NaN voxels from which a volume counts as masked; one with fewer counts as damaged.
_MASKED = 0.01
#: Largest share of the head's registered voxels that a masked volume may lack.
_MOST_CUT = 0.1
_STILL = Motion((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, None, 0, converged=True)
Int64Array = npt.NDArray[np.int64]
NO_VOXELS: Int32Array = np.empty((0, 3), np.int32)


class Reference(NamedTuple):
    """The space into which volumes are aligned.

    Attributes
    ----------
    template : ndarray of shape (x, y, z), float32
    affine : ndarray of shape (4, 4), float64
        Voxel indices of the template to millimetres.
    voxels : ndarray of shape (n_voxels, 3), int32
        The decoder's voxels, as indices into the template; may be empty.
    """

    template: Float32Array
    affine: Float64Array
    voxels: Int32Array


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """A volume in the template's space.

    Attributes
    ----------
    run_id : str
    index : int
    decoder_values : ndarray of shape (n_voxels,), float32
        Intensities at the reference's voxels; NaN outside the field of view.
    noise_values : ndarray of shape (n_noise_voxels,), float32
        Intensities at the voxels from which noise components are computed; NaN outside the field of view.
    motion : Motion
    gain : float
        Brightness of the head, relative to the template's.
    """

    run_id: str
    index: int
    decoder_values: Float32Array
    noise_values: Float32Array
    motion: Motion
    gain: float


class IdentityRegistration(Stateful):
    """Substitute for a `Registration` if motion is not estimated: every volume is taken to lie where the template does.

    Parameters
    ----------
    template : ndarray of shape (x, y, z), float32
    """

    def __init__(self, template: Float32Array) -> None:
        self._weights = template / np.square(template, dtype=np.float64).sum()

    def align(self, volume: Float32Array) -> Alignment:
        """Return the identity, no motion, and the brightness with which the template fits the volume best.

        Parameters
        ----------
        volume : ndarray of shape (x, y, z), float32
            Volume of the template's shape, with finite values.
        """
        # Not a dot product by BLAS, whose last digits depend on the number of threads.
        return Alignment(np.eye(4), _STILL, float((self._weights * volume).sum()), "")


def registration_to(
    template: Float32Array, affine: Float64Array, run: Run, settings: MotionSettings
) -> Registration | IdentityRegistration:
    """Make the registration that finds the template's head in the volumes of a run.

    Parameters
    ----------
    template : ndarray of shape (x, y, z), float32
    affine : ndarray of shape (4, 4), float64
        Voxel indices of the template to millimetres.
    run : Run
    settings : MotionSettings
        If motion is not to be estimated, an `IdentityRegistration` is made.

    Raises
    ------
    InputError
        If the template has no contrast to align to.
    """
    if settings.estimate:
        return Registration(template, affine, run.shape, run.affine, settings)
    return IdentityRegistration(template)


class Aligner(Stateful):
    """Aligner of the volumes of one run into the template's space.

    Parameters
    ----------
    reference : Reference
    run : Run
    motion : MotionSettings
    sampling : SamplingSettings
    noise_voxels : ndarray of shape (n_noise_voxels, 3), int32
        Further voxels to sample, as indices into the template.

    Raises
    ------
    InputError
        If the run does not fit the reference.
    """

    parts = ("_registration",)

    def __init__(
        self,
        reference: Reference,
        run: Run,
        motion: MotionSettings,
        sampling: SamplingSettings,
        noise_voxels: Int32Array = NO_VOXELS,
    ) -> None:
        check_run(run, reference, motion)
        self._reference = reference
        self._registration = registration_to(reference.template, reference.affine, run, motion)
        self._voxels = np.concatenate([reference.voxels, noise_voxels])
        self._sampler = Sampler(self._voxels, run.shape, sampling)
        self._settings = motion
        self._mm_to_voxel = np.linalg.inv(run.affine)
        self._shape = run.shape
        # Without alignment, voxels are read at the template's positions; the run's axes may be stored in another order.
        self._axes = None if motion.estimate else _axes_to(run, reference)
        self._volume = np.empty(run.shape if self._axes is None else reference.template.shape, np.float32)
        self._read = self._flat(self._voxels, reference)
        self._points = self._flat(self._bright_points(reference), reference)

    def align(self, volume: Volume, stopwatch: Stopwatch) -> Aligned | NotReady:
        """Align a volume into the template's space, or return why that cannot be done.

        Parameters
        ----------
        volume : Volume
        stopwatch : Stopwatch
            Times the stages "convert", "align" and "sample".
        """
        with stopwatch("convert"):
            fault = self._convert(volume)
        if fault:
            return NotReady(volume.run_id, volume.index, Reason.BAD_VOLUME, fault)
        with stopwatch("align"):
            alignment = self._registration.align(self._volume)
        if alignment.problem:
            return NotReady(volume.run_id, volume.index, Reason.MOTION, alignment.problem, alignment.motion)
        if not len(self._reference.voxels):
            return NotReady(volume.run_id, volume.index, Reason.NO_DECODER, "no bundle is loaded", alignment.motion)
        with stopwatch("sample"):
            values = self._sample(alignment.pose)
        n = len(self._reference.voxels)
        return Aligned(volume.run_id, volume.index, values[:n], values[n:], alignment.motion, alignment.gain)

    def _sample(self, pose: Float64Array) -> Float32Array:
        """Sample the intensities at the voxels of the reference and at the noise voxels."""
        if not self._settings.estimate:
            return self._volume[tuple(self._voxels.T)]
        to_volume = self._mm_to_voxel @ (pose if self._settings.correct else np.eye(4)) @ self._reference.affine
        return self._sampler.sample(self._volume, to_volume)[0]

    def _convert(self, volume: Volume) -> str:
        """Copy the volume as float32; return the fault of a volume that cannot be used, or an empty string."""
        if volume.data.shape != self._shape:
            return f"volume of {times(volume.data.shape)} voxels in a run of {times(self._shape)}"
        data = volume.data if self._axes is None else self._axes.turned(volume.data)
        # Numbers that do not fit into single precision become infinite, and are found below.
        with np.errstate(over="ignore"):
            np.copyto(self._volume, data, casting="same_kind" if data.dtype.kind == "f" else "unsafe")
        lowest, highest = float(self._volume.min()), float(self._volume.max())
        if not np.isfinite(lowest) or not np.isfinite(highest):
            if fault := self._fill_background():
                return fault
            lowest, highest = float(self._volume.min()), float(self._volume.max())
        return "volume is constant" if lowest == highest else ""

    def _fill_background(self) -> str:
        """Set NaN that stands for the background to 0; return the fault of the volume if it is not background.

        Masked and resliced images have NaN outside the measured part. NaN is not background at the decoder's voxels,
        or if it covers more than `_MOST_CUT` of the head's registered voxels.
        """
        missing = np.isnan(self._volume)
        n_read, n_points = (int(missing.reshape(-1)[indices].sum()) for indices in (self._read, self._points))
        if n_read or n_points > _MOST_CUT * len(self._points):
            return f"volume has voxels that are not finite, {max(n_read, n_points)} of them in the head"
        if missing.mean() < _MASKED or np.isinf(self._volume).any():
            return "volume has voxels that are not finite"
        self._volume[missing] = 0
        return ""

    def _bright_points(self, reference: Reference) -> Array:
        """Return the template's voxels that registration uses and that are not dark, shape (n_points, 3)."""
        if not isinstance(self._registration, Registration):
            return np.empty((0, 3), np.int64)
        points = _transformed(np.linalg.inv(reference.affine), self._registration.points_mm)
        points = points[((points >= 0) & (points < reference.template.shape)).all(axis=1)]
        return points[in_bright(reference.template)[tuple(points.T)]]

    def _flat(self, voxels: Array, reference: Reference) -> Int64Array:
        """Return flat indices of the volume's voxels that match voxels of the template if the head has not moved."""
        if self._axes is None:
            voxels = _transformed(self._mm_to_voxel @ reference.affine, voxels)
        voxels = voxels[((voxels >= 0) & (voxels < self._volume.shape)).all(axis=1)]
        return np.unique(np.ravel_multi_index(tuple(voxels.T), self._volume.shape))


def in_bright(template: Float32Array) -> BoolArray:
    """Return a mask of the head, of the template's shape: the voxels that are not dark.

    Parameters
    ----------
    template : ndarray of shape (x, y, z), float32
    """
    bright: BoolArray = template > _HEAD * np.percentile(template, 98)
    return bright


def _transformed(affine: Array, positions: Array) -> Int64Array:
    nearest: Int64Array = np.rint(positions @ affine[:3, :3].T + affine[:3, 3]).astype(np.int64)
    return nearest


def _axes_to(run: Run, reference: Reference) -> Axes | None:
    """Match a run's axes to the template's; None if the grids differ in more than the order and direction of axes."""
    axes = axes_along(run.affine, reference.affine)
    shape = tuple(run.shape[axis] for axis in axes.order)
    same = shape == reference.template.shape
    affine = turned_affine(run.affine, run.shape, axes)
    return axes if same and np.allclose(affine, reference.affine, atol=_SAME_MM) else None


def check_run(run: Run, reference: Reference, settings: MotionSettings) -> None:
    """Raise `InputError` if the run cannot be aligned, or holds less than half of the reference's voxels.

    Parameters
    ----------
    run : Run
    reference : Reference
    settings : MotionSettings
        If motion is not to be estimated, the run's grid must be the template's, up to the order and direction of axes.
    """
    if not settings.estimate:
        if _axes_to(run, reference) is None:
            raise InputError(
                f"run {run.run_id}: its {times(run.shape)} voxels or its affine are not the template's, and with "
                "motion.estimate = false nothing is aligned; resample the run, or let motion be estimated"
            )
        return
    if min(run.shape) < FEWEST_VOXELS:
        raise InputError(
            f"run {run.run_id}: volumes of {times(run.shape)} voxels cannot be aligned; at least "
            f"{FEWEST_VOXELS} slices, rows and columns are needed, or motion.estimate = false in the settings"
        )
    inside = share_inside(run, reference, _REACH_MM)
    if inside < 0.5:
        raise InputError(
            f"run {run.run_id}: by its affine, the {times(run.shape)} voxels hold {100 * inside:.0f} % "
            "of the bundle's; prescribe the slices so that they cover what was calibrated"
        )


def share_inside(run: Run, reference: Reference, reach_mm: float = 0.0) -> float:
    """Compute the share of the reference's voxels that lie inside a run's volumes, by its affine.

    Parameters
    ----------
    run : Run
    reference : Reference
        If it has no voxels, the corners of the template count instead.
    reach_mm : float
        Voxels that lie up to this far outside count as inside.
    """
    corners = np.argwhere(np.ones((2, 2, 2), bool)) * (np.array(reference.template.shape) - 1)
    voxels = reference.voxels if len(reference.voxels) else corners
    to_run = np.linalg.inv(run.affine) @ reference.affine
    positions = voxels @ to_run[:3, :3].T + to_run[:3, 3]
    reach = reach_mm / voxel_sizes(run.affine)
    inside = (positions > -reach - _ROUNDING) & (positions < np.array(run.shape) - 1 + reach + _ROUNDING)
    return float(inside.all(axis=1).mean())


def check_reference(reference: Reference, motion: MotionSettings) -> None:
    """Raise `InputError` if no run can be aligned to the template, voxels lie outside it, or most lie outside the head.

    Parameters
    ----------
    reference : Reference
    motion : MotionSettings
        If motion is not to be estimated, the template's contrast and size are not checked.
    """
    template, affine, voxels = reference
    if motion.estimate:
        x, y, z = template.shape
        Registration(template, affine, (x, y, z), affine, motion)
    if not len(voxels):
        return
    if (voxels < 0).any() or (voxels >= template.shape).any():
        raise InputError("decoder's voxels lie outside the template; take mask and template from the same images")
    in_head = in_bright(template)[tuple(voxels.T)].mean()
    if in_head < 0.5:
        raise InputError(
            f"only {100 * in_head:.0f} % of the decoder's voxels lie in the head; "
            "is the mask in the functional images' space?"
        )
