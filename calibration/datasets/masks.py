"""Mask images, which choose the voxels to decode from."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError

from calibration.datasets.regions import IndexArray, select_region
from rtgod.errors import InputError, what_went_wrong
from rtgod.messages import Array, BoolArray, Float32Array, Float64Array, Int32Array, Run
from rtgod.preprocessing.geometry import Axes, axes_along, furthest_mm, turned_affine
from rtgod.text import number_of

#: What the region of a single image is called.
_SINGLE = "mask"
#: Brighter than this share of the template's bright voxels (their 98th percentile) is the head.
_HEAD = 0.3
#: Affines that differ by less than this, in mm, differ only by the rounding of headers.
_SAME_MM = 0.01
#: Number of labels that a note lists; more are only counted.
_MOST_LABELS = 8
#: Errors that nibabel and zlib raise for files that are damaged or are not images.
_UNREADABLE = (OSError, ImageFileError, EOFError, ValueError, zlib.error)


@dataclass(frozen=True, slots=True)
class Region:
    """Voxels to decode from: an expression over mask images.

    Attributes
    ----------
    expression : str
        See `calibration.datasets.regions`.
    masks : mapping of str to tuple of Path
        The images of each region that the expression names; several images, such as two hemispheres, are united.
    notes : tuple of str
        Notes on the image that was taken, for regions that have several.
    """

    expression: str
    masks: Mapping[str, tuple[Path, ...]]
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All mask images, each once."""
        return tuple(dict.fromkeys(path for files in self.masks.values() for path in files))

    def voxels(self, run: Run) -> Int32Array:
        """Return the region's voxels in the space of a run, shape (n_voxels, 3), int32.

        Parameters
        ----------
        run : Run
            Only its shape and affine count.

        Raises
        ------
        InputError
            If an image cannot be read or lies in another space, or the region has no voxels.
        """
        indices = select_region(self.expression, {name: _united(files, run) for name, files in self.masks.items()})
        if not len(indices):
            names = ", ".join(path.name for path in self.files)
            if self.expression == _SINGLE:
                raise InputError(f"mask {names}: none of its voxels is above 0; give another with --mask")
            raise InputError(f"region {self.expression!r}: no voxel in it ({names}); choose another with --region")
        return np.stack(np.unravel_index(indices, run.shape), axis=1).astype(np.int32)


def single_mask(path: Path) -> Region:
    """The voxels of one image.

    Parameters
    ----------
    path : Path
        Image of one volume, whose voxels above 0 are taken.
    """
    return Region(_SINGLE, {_SINGLE: (path,)})


def read_mask(path: Path, run: Run) -> Int32Array:
    """Read the voxels of a mask in the space of a run, shape (n_voxels, 3), int32.

    Parameters
    ----------
    path : Path
        Image of one volume, whose voxels above 0 are taken.
    run : Run
        Only its shape and affine count.

    Raises
    ------
    InputError
        If the image cannot be read, is empty, or lies in another space.
    """
    return single_mask(path).voxels(run)


def in_head(template: Float32Array) -> BoolArray:
    """Select voxels of the head by their brightness; the result has the template's shape.

    Parameters
    ----------
    template : ndarray of shape (x, y, z), float32
        Intensities.
    """
    return template > _HEAD * float(np.percentile(template, 98))


def _united(files: Sequence[Path], run: Run) -> IndexArray:
    return np.unique(np.concatenate([mask_indices(path, run) for path in files]))


def mask_indices(path: Path, run: Run) -> IndexArray:
    """Return flat indices of a mask's voxels; empty for an area that a hemisphere lacks.

    Trailing axes of one voxel are dropped; the order and direction in which the other axes are stored do not matter.

    Parameters
    ----------
    path : Path
        Image of one volume, whose voxels above 0 are taken.
    run : Run
        Only its shape and affine count.

    Raises
    ------
    InputError
        If the image cannot be read, holds colours, complex or infinite values or several volumes, or lies in another
        space.
    """
    mask, affine = _read(path)
    if mask.dtype.kind not in "iufb":
        raise InputError(f"mask {path}: its voxels are colours or complex; give an image with one number in each voxel")
    if np.isinf(mask).any():
        raise InputError(f"mask {path}: has infinite values; give an image with a finite number in each voxel")
    while mask.ndim > 3 and mask.shape[-1] == 1:
        mask = mask[..., 0]
    if mask.ndim != 3:
        raise InputError(f"mask {path}: its shape is {mask.shape}, and one volume (x, y, z) is needed; give one mask")
    if axes := _axes_of(affine, run):
        affine, mask = turned_affine(affine, mask.shape, axes), axes.turned(mask)
    if mask.shape != run.shape or not np.allclose(affine, run.affine, atol=_SAME_MM):
        distance = (
            f", up to {furthest_mm(affine, run.affine, run.shape):.3g} mm away" if mask.shape == run.shape else ""
        )
        raise InputError(
            f"mask {path}: shape {mask.shape} or affine differ from those of run {run.run_id} {run.shape}{distance}; "
            "resample it to the functional images"
        )
    return np.flatnonzero(mask > 0)


def notes_on_values(path: Path) -> tuple[str, ...]:
    """Note that a mask has several labels or fractions, though every voxel above 0 is taken; empty if it has not.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
        If the image cannot be read.
    """
    mask, _ = _read(path)
    values = np.unique(mask[mask > 0])
    n_nan = int(np.isnan(mask).sum())
    nan = (f"mask {path.name}: {number_of(n_nan, 'voxel')} with NaN, not taken",) if n_nan else ()
    if len(values) < 2:
        return nan
    if (values % 1 != 0).any():
        return (
            *nan,
            f"mask {path.name}: values between {values[0]:.3g} and {values[-1]:.3g}: voxels above 0 are taken",
        )
    labels = ", ".join(f"{label:g}" for label in values[:_MOST_LABELS])
    more = f", … ({len(values)} in all)" if len(values) > _MOST_LABELS else ""
    return (
        *nan,
        f"mask {path.name} has labels {labels}{more}: all taken as one region",
    )


def _read(path: Path) -> tuple[Array, Float64Array]:
    """Read a mask's voxels and its affine."""
    try:
        image = nib.load(path)
        return np.asarray(image.dataobj), np.asarray(image.affine, np.float64)
    except _UNREADABLE as error:
        raise InputError(
            f"mask {path}: cannot be read ({what_went_wrong(error)}); copy or download it again"
        ) from error


def lies_in(path: Path, run: Run) -> bool:
    """Return whether an image can be read and its header places it in the grid of a run.

    Parameters
    ----------
    path : Path
    run : Run
        Only its shape and affine count.
    """
    try:
        image = nib.load(path)
    except _UNREADABLE:
        return False
    shape, affine = image.shape, np.asarray(image.affine, np.float64)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    axes = _axes_of(affine, run)
    if len(shape) != 3 or axes is None:
        return False
    affine, shape = turned_affine(affine, shape, axes), tuple(shape[axis] for axis in axes.order)
    return shape == run.shape and np.allclose(affine, run.affine, atol=_SAME_MM)


def _axes_of(affine: Float64Array, run: Run) -> Axes | None:
    """Return how an image's axes run along a run's axes; None if its affine is not finite or is singular."""
    is_affine = np.isfinite(affine).all() and np.linalg.matrix_rank(affine) == 4
    return axes_along(affine, run.affine) if is_affine else None
