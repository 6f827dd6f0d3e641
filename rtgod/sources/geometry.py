"""Place of a series' voxels by one of its files, for images that come without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Float64Array
from rtgod.sources.dicom.file import begins_as_dicom, read_header, shielded
from rtgod.sources.dicom.series import format_of, tags_read
from rtgod.sources.dicom.volumes import stack_of
from rtgod.text import times

#: Files of a folder that are opened, the newest first.
_MOST_OPENED = 50
#: Least cosine of two directions that are the same: less than one degree apart.
_SAME_DIRECTION = 0.99985
_NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Shape and place of a volume.

    Attributes
    ----------
    shape : tuple of int
    affine : ndarray of shape (4, 4), float64
        Voxel indices to RAS+ millimetres.
    tr_s : float
        Repetition time, seconds; 0 if the file does not say it.
    is_dicom : bool
        Whether its axes run as those of a scanner's images: NIfTI files may count them from the other end.
    """

    shape: tuple[int, int, int]
    affine: Float64Array
    tr_s: float
    is_dicom: bool

    def along(self, directions: Sequence[Float64Array | None]) -> Float64Array:
        """Return the affine for images whose axes run in given directions.

        Parameters
        ----------
        directions : sequence of 3 ndarray of shape (3,), float64, or None
            Direction of each axis in RAS+, of any length; None if it is not known.

        Raises
        ------
        InputError
            If this is not their geometry, or they cannot be told to be of it.
        """
        affine = self.affine.copy()
        for axis, direction in enumerate(directions):
            if direction is None:
                if self.is_dicom:
                    continue
                raise InputError(
                    "the images do not say in which directions their axes run: give a DICOM file with --geometry, as a "
                    "NIfTI file may count voxels from the other end"
                )
            column = affine[:3, axis].copy()
            cosine = float(column @ direction / np.sqrt((column @ column) * (direction @ direction)))
            if cosine < -_SAME_DIRECTION and not self.is_dicom:
                affine[:3, 3] += (self.shape[axis] - 1) * column
                affine[:3, axis] = -column
            elif not cosine > _SAME_DIRECTION:
                raise InputError(
                    "its slices do not lie as those of --geometry do; give a file of this series, or one in its place"
                )
        return affine


def read_geometry(path: Path, shape: tuple[int, int, int] | None = None) -> Geometry:
    """Read the geometry of a file, or of the newest file of a folder that has a given shape.

    Errors name no file, as their names may be a person's.

    Parameters
    ----------
    path : Path
        DICOM file of a whole volume, NIfTI file, or a folder of such.
    shape : tuple of int, optional
        Shape that is needed.

    Raises
    ------
    InputError
        If it is of none, or of another shape.
    """
    try:
        files = _newest(path) if path.is_dir() else [path]
        geometries, why = [], ""
        for file in files[:_MOST_OPENED]:
            try:
                geometries.append(_read(file))
            except InputError as error:
                why = why or str(error)
            else:
                if shape is None or geometries[-1].shape == shape:
                    return geometries[-1]
    except OSError as error:
        raise InputError(f"--geometry: cannot be read ({error.strerror})") from None
    if not geometries:
        raise InputError(f"--geometry: {why or 'no DICOM or NIfTI file in it'}")
    needed, had = times(shape or (), "g"), times(geometries[0].shape, "g")
    raise InputError(f"the images have {needed} voxels, and the file of --geometry {had}; give one of this series")


def _newest(folder: Path) -> list[Path]:
    with_times = [(file.stat().st_mtime_ns, file) for file in folder.iterdir() if file.is_file()]
    return [file for _, file in sorted(with_times, reverse=True)]


def _read(file: Path) -> Geometry:
    try:
        if file.name.lower().endswith(_NIFTI):
            from rtgod.sources.nifti_file import read_layout  # here, as nibabel takes a moment to load

            layout = read_layout(file)
            return Geometry(layout.shape, layout.affine, layout.tr_s, is_dicom=False)
        if not begins_as_dicom(file):
            raise InputError("neither a DICOM nor a NIfTI file")
        with shielded(file):
            header, _, _ = read_header(file, tags_read())
            known = format_of(header)
            pieces = known.pieces(file, header) if known is not None else ()
            if not pieces:
                raise InputError("a DICOM file of no volume")
            stack = stack_of(pieces)
    except InputError as error:
        raise InputError(str(error).removeprefix(f"{file}: ").replace(str(file), "the file")) from None
    return Geometry(stack.shape, stack.affine, stack.grid.tr_s, is_dicom=True)
