"""A NIfTI file: what its header says of its voxels, and the voxels of a file that holds one volume."""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from rtgod.errors import InputError
from rtgod.messages import LARGEST_MM, LONGEST_AXIS, MOST_VOXELS, VOLUME_DTYPES, Array, Float64Array
from rtgod.sources import TrClaim

#: Errors of files that are damaged, or not written to their end.
DAMAGED = (OSError, EOFError, zlib.error)

_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_MILLIMETRES = {"mm": 1.0, "unknown": 1.0, "meter": 1e3, "micron": 1e-3}
#: Largest ratio by which DEFLATE can compress.
_MOST_COMPRESSED = 1032
#: Bytes of a header, the longest.
_N_HEADER = 540
#: Most bytes before the voxels, and after them.
_MOST_BEFORE, _MOST_AFTER = 2**26, 2**20
#: Ends of names whose number is that of an echo.
_ECHO = re.compile(r"(?:_e|echo-?)$", re.IGNORECASE)
_NAME = re.compile(r"(.*?)([0-9]*)\.(?:nii|nii\.gz|hdr|img)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True, eq=False)
class NiftiLayout:
    """What a header says.

    Attributes
    ----------
    offset : int
        Bytes before the voxels, in the decompressed file that has them.
    dtype : dtype
        Type of the stored numbers.
    slope, inter : float
        Factor and summand that make values of them.
    shape : tuple of 3 int
        Voxels of a volume along its axes.
    n_volumes : int
    is_run : bool
        Whether the file is of four dimensions.
    affine : ndarray of shape (4, 4), float64
        Voxel indices to RAS+ millimetres.
    tr : float
        The fourth dimension's step, in its unit.
    tr_unit : str
    """

    offset: int
    dtype: np.dtype[np.generic]
    slope: float
    inter: float
    shape: tuple[int, int, int]
    n_volumes: int
    is_run: bool
    affine: Float64Array
    tr: float
    tr_unit: str

    @property
    def n_bytes(self) -> int:
        """Number of bytes of a volume."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def volume(self, raw: bytes) -> Array:
        """Make a volume of its bytes.

        Parameters
        ----------
        raw : bytes
            As many as `n_bytes`.

        Returns
        -------
        ndarray of shape (x, y, z)
            Of the file's voxel type if that is one of `VOLUME_DTYPES` and unscaled, else float32.
        """
        voxels = np.frombuffer(raw, self.dtype).reshape(self.shape, order="F")
        if (self.slope, self.inter) != (1.0, 0.0):
            with np.errstate(over="ignore"):  # a damaged slope; infinite values are noticed where volumes are aligned
                return (voxels * np.float64(self.slope) + self.inter).astype(np.float32)
        name = self.dtype.name
        # A type by name has native byte order, so this also converts big-endian voxels.
        return voxels.astype(name if name in VOLUME_DTYPES else np.float32)

    @property
    def tr_s(self) -> float:
        """Repetition time, seconds; 0 if the header does not say it with its unit."""
        # Without a unit the number is often a library's default (1.0), so it is ignored.
        if self.tr_unit not in _SECONDS or not self.tr > 0:
            return 0.0
        # Rounded because the header has single precision: 1.97 would become 1.97000002861.
        return round(self.tr * _SECONDS[self.tr_unit], 6)

    def tr_claim(self, path: Path) -> TrClaim | None:
        """Return what the header says of the repetition time; None without a unit or a number.

        Parameters
        ----------
        path : Path
            The file, for messages.
        """
        if not self.tr_s:
            return None
        return TrClaim(self.tr_s, f"{path}, pixdim[4]", self.tr_unit, float(f"{self.tr:.6g}"))

    def is_alike(self, other: NiftiLayout) -> bool:
        """Return whether volumes lie on the same grid.

        Parameters
        ----------
        other : NiftiLayout
        """
        return self.shape == other.shape and np.allclose(self.affine, other.affine, rtol=0, atol=1e-3)


def is_nifti_name(path: Path) -> bool:
    """Return whether a file is called as NIfTI files are: .nii, .nii.gz, or .hdr and .img.

    Parameters
    ----------
    path : Path
    """
    return _NAME.fullmatch(path.name) is not None


def stem_and_number(path: Path) -> tuple[str, int | None]:
    """Return a file's name without extension and without the number at its end, and that number; None without one.

    Parameters
    ----------
    path : Path
        A file that is called as NIfTI files are. The number of an echo, as in run_e2.nii, does not count.
    """
    found = _NAME.fullmatch(path.name)
    stem, digits = found.groups() if found else (path.name, "")
    return (stem, int(digits)) if digits and not _ECHO.search(stem) else (stem + digits, None)


def header_beside(path: Path) -> Path:
    """Return the file that has a file's header: itself, or an image's .hdr.

    Parameters
    ----------
    path : Path
    """
    if not path.name.lower().endswith(".img"):
        return path
    return path.with_name(path.name[:-4] + (".HDR" if path.name.endswith(".IMG") else ".hdr"))


def read_layout(path: Path) -> NiftiLayout:
    """Read a file's header.

    Parameters
    ----------
    path : Path
        A .nii or .nii.gz file, or the .img of a pair.

    Raises
    ------
    InputError
        If it is not readable, or is none of a volume or of a run.
    """
    return layout_of(path, read_header(path))


def read_header(path: Path) -> Any:
    """Read a file's header without its extensions.

    Parameters
    ----------
    path : Path
        A .nii or .nii.gz file, or the .img of a pair.

    Returns
    -------
    nibabel.Nifti1Header or nibabel.Nifti2Header

    Raises
    ------
    InputError
        If it has none, or not all of it.
    """
    try:
        with open_stream(header_beside(path)) as stream:
            raw = stream.read(_N_HEADER)
        kinds = (nib.Nifti1Pair, nib.Nifti2Pair) if header_beside(path) != path else (nib.Nifti1Image, nib.Nifti2Image)
        for kind in kinds:
            if kind.header_class.may_contain_header(raw):
                return kind.header_class(raw[: kind.header_class.template_dtype.itemsize])
    # Errors that nibabel and its decompressors raise on bytes that are not a NIfTI header.
    except (*DAMAGED, InputError, HeaderDataError, ValueError, KeyError, TypeError, OverflowError, IndexError):
        pass
    raise InputError(f"{path}: not a readable NIfTI file; copy or export it again.")


def layout_of(path: Path, header: Any) -> NiftiLayout:
    """Take from a header what volumes are made with.

    Parameters
    ----------
    path : Path
        The file, for messages.
    header : nibabel.Nifti1Header or nibabel.Nifti2Header

    Raises
    ------
    InputError
        If it is none of a volume or of a run.
    """
    try:
        # A damaged affine may hold numbers that cannot be cast; it is refused below.
        with np.errstate(invalid="ignore"):
            shape = tuple(int(n) for n in header.get_data_shape())
            units = header.get_xyzt_units()
            oriented = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
            affine = np.diag([*3 * [_MILLIMETRES[units[0]]], 1.0]) @ header.get_best_affine()
            slope, inter = (default if n is None else float(n) for n, default in zip(
                header.get_slope_inter(), (1.0, 0.0), strict=True))  # fmt: skip
            offset, dtype = int(header.get_data_offset()), header.get_data_dtype()
    except (HeaderDataError, ValueError, KeyError, TypeError, OverflowError, IndexError):
        raise InputError(f"{path}: not a readable NIfTI file; copy or export it again.") from None
    shape = shape[:4] + tuple(n for n in shape[4:] if n != 1)
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise InputError(f"{path}: its shape is {shape}, not (x, y, z, volumes); give the 4-D file of a run.")
    if dtype.kind not in "iuf":
        raise InputError(f"{path}: its voxels are complex or colours; give a file with one number in each voxel.")
    if not oriented:
        raise InputError(
            f"{path}: unknown orientation, sform_code and qform_code are both 0 in its header; convert it again from "
            "DICOM, or set the code once you know that the affine is right."
        )
    if not (np.abs(affine) < LARGEST_MM).all() or np.linalg.matrix_rank(affine) < 4:
        raise InputError(f"{path}: the affine in its header (srow or quatern) maps to no volume; convert it again.")
    if max(shape[:3]) > LONGEST_AXIS or int(np.prod(shape[:3], dtype=object)) > MOST_VOXELS:
        raise InputError(
            f"{path}: its shape is {shape}; a volume has at most {LONGEST_AXIS} voxels along an axis and {MOST_VOXELS} "
            "in all."
        )
    if not 0 <= offset <= _MOST_BEFORE:
        raise InputError(f"{path}: its voxels begin at byte {offset}, says its header (vox_offset); export it again.")
    is_run = len(shape) == 4
    n_volumes = shape[3] if is_run else 1
    tr, unit = float(header["pixdim"][4]), units[1]
    grid = shape[0], shape[1], shape[2]
    return NiftiLayout(offset, dtype, slope, inter, grid, n_volumes, is_run, affine, tr, unit)


def check_size(path: Path, layout: NiftiLayout) -> None:
    """Refuse a file that cannot hold the volumes of its header.

    Parameters
    ----------
    path : Path
    layout : NiftiLayout

    Raises
    ------
    InputError
        If it is too short.
    """
    if _most_bytes(path) < layout.offset + layout.n_bytes * layout.n_volumes:
        raise InputError(f"{path}: too short for the {layout.n_volumes} volumes in its header; copy it again.")


def read_one(path: Path, layout: NiftiLayout) -> bytes | None:
    """Read the bytes of a file's only volume; return None if they are not all there, or are damaged.

    Parameters
    ----------
    path : Path
        A compressed file is whole once its checksum is there, and right.
    layout : NiftiLayout
        With the file's own offset and voxels.
    """
    try:
        if _most_bytes(path) < layout.offset + layout.n_bytes:
            return None
        with open_stream(path) as stream:
            stream.seek(layout.offset)
            raw = stream.read(layout.n_bytes)
            # A compressed file is read on to its end, where its checksum is.
            is_whole = len(raw) == layout.n_bytes and len(stream.read(_MOST_AFTER)) < _MOST_AFTER
    except (*DAMAGED, InputError):
        return None
    return raw if is_whole else None


def open_stream(path: Path) -> IO[bytes]:
    """Open a file, decompressed if its name ends in .gz.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
        If it cannot be opened.
    """
    try:
        return cast("IO[bytes]", gzip.open(path)) if is_gzipped(path) else path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error


def is_gzipped(path: Path) -> bool:
    """Return whether a file is compressed, by its name.

    Parameters
    ----------
    path : Path
    """
    return path.name.lower().endswith(".gz")


def _most_bytes(path: Path) -> int:
    return path.stat().st_size * (_MOST_COMPRESSED if is_gzipped(path) else 1)
