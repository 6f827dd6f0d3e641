"""Mask images: which voxels are decoded from."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError

from calibration.regions import IndexArray, select_region
from rtgod.errors import InputError
from rtgod.geometry import axes_along, furthest_mm, turned_affine
from rtgod.messages import BoolArray, Float32Array, Int32Array, Run

#: Brighter than this share of the template's bright voxels (their 98th percentile) is the head.
_HEAD = 0.3


@dataclass(frozen=True, slots=True)
class Region:
    """Voxels to decode from: an expression over mask images.

    Attributes
    ----------
    expression : str
        See `calibration.regions`.
    masks : mapping of str to tuple of Path
        The images of each region that the expression names; several, such as those of two hemispheres, are united.
    """

    expression: str
    masks: Mapping[str, tuple[Path, ...]]

    @property
    def files(self) -> tuple[Path, ...]:
        """Every mask image, each once."""
        return tuple(dict.fromkeys(path for files in self.masks.values() for path in files))

    def voxels(self, run: Run) -> Int32Array:
        """Voxels in the space of a run, shape (n_voxels, 3), int32.

        Raises
        ------
        InputError
            If an image cannot be read or lies in another space, or the region has no voxels.
        """
        indices = select_region(self.expression, {name: _united(files, run) for name, files in self.masks.items()})
        if not len(indices):
            names = ", ".join(path.name for path in self.files)
            raise InputError(f"region {self.expression!r}: no voxel in it ({names}); choose another with --region")
        return np.stack(np.unravel_index(indices, run.shape), axis=1).astype(np.int32)


def single_mask(path: Path) -> Region:
    """The voxels of one image."""
    return Region("mask", {"mask": (path,)})


def read_mask(path: Path, run: Run) -> Int32Array:
    """Voxels of a mask in the space of a run, shape (n_voxels, 3), int32.

    Raises
    ------
    InputError
        If the image cannot be read, is empty, or lies in another space.
    """
    return single_mask(path).voxels(run)


def in_head(template: Float32Array) -> BoolArray:
    """Voxels of the head by their brightness, of the template's shape."""
    return template > _HEAD * float(np.percentile(template, 98))


def _united(files: Sequence[Path], run: Run) -> IndexArray:
    return np.unique(np.concatenate([_indices(path, run) for path in files]))


def _indices(path: Path, run: Run) -> IndexArray:
    """Flat indices of a mask's voxels; may be none, as of an area that one hemisphere lacks.

    Trailing axes of one voxel do not count, nor does the order and the direction in which the other axes are stored.
    """
    try:
        image = nib.load(path)
        mask = np.asarray(image.dataobj)
    except (OSError, ImageFileError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"mask {path}: cannot be read ({error}); copy or download it again") from error
    if mask.dtype.kind not in "iufb":
        raise InputError(f"mask {path}: its voxels are colours or complex; give an image with one number in each voxel")
    while mask.ndim > 3 and mask.shape[-1] == 1:
        mask = mask[..., 0]
    if mask.ndim != 3:
        raise InputError(f"mask {path}: its shape is {mask.shape}, and one volume (x, y, z) is needed; give one mask")
    affine = np.asarray(image.affine, np.float64)
    if np.isfinite(affine).all() and np.linalg.matrix_rank(affine) == 4:
        axes = axes_along(affine, run.affine)
        affine, mask = turned_affine(affine, mask.shape, axes), axes.turned(mask)
    if mask.shape != run.shape or not np.allclose(affine, run.affine, atol=0.01):
        where = f", up to {furthest_mm(affine, run.affine, run.shape):.3g} mm away" if mask.shape == run.shape else ""
        raise InputError(
            f"mask {path}: shape {mask.shape} or affine differ from those of run {run.run_id} {run.shape}{where}; "
            "resample it to the functional images"
        )
    return np.flatnonzero(mask > 0)
