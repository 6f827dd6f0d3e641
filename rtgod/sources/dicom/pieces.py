"""Pieces of volumes as DICOM files hold them, and the interface of a format.

A format says which files are its own and reads a file's header into pieces: each is a whole volume, or slices of one.
Everything else, from the order of volumes to their place in the world, is the same for all formats; see
`rtgod.sources.dicom.volumes`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from pydicom.dataset import FileDataset

from rtgod.messages import Array, Float64Array
from rtgod.sources.dicom.fields import number_or_0, numbers


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice in a file.

    Attributes
    ----------
    frame : int
        Its place among the slices that the format reads from the file, from 0.
    position_mm : tuple of 3 float
        Centre of its first pixel in DICOM's coordinates (x to left, y to posterior).
    rescale : tuple of 2 float
        Slope and intercept of its intensities.
    """

    frame: int
    position_mm: tuple[float, float, float]
    rescale: tuple[float, float] = (1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Grid:
    """Properties on which all pieces of a series must agree.

    Attributes
    ----------
    n_columns, n_rows : int
        Size of a slice.
    along_x, along_y : tuple of 3 float
        Directions from column to column, and from row to row, in DICOM's coordinates.
    mm_x, mm_y : float
        Distances between columns and between rows.
    mm_z : float
        Distance between slices as the file states it; counts for a single slice only.
    tr_s : float
        Repetition time; 0 without one.
    echo_ms : float
        Echo time; 0 without one.
    coil : str
        Name of the receive coil; empty without one.
    """

    n_columns: int
    n_rows: int
    along_x: tuple[float, float, float]
    along_y: tuple[float, float, float]
    mm_x: float
    mm_y: float
    mm_z: float
    tr_s: float
    echo_ms: float
    coil: str = ""

    def differences(self, other: Grid) -> list[str]:
        """Name what differs.

        Parameters
        ----------
        other : Grid
        """
        checks = {
            "matrix": (self.n_columns, self.n_rows) == (other.n_columns, other.n_rows),
            "position": np.allclose(self._in_plane(), other._in_plane(), rtol=0, atol=1e-3),
            "repetition time": self.tr_s == other.tr_s,
            "echo time": self.echo_ms == other.echo_ms,
        }
        return [name for name, agrees in checks.items() if not agrees]

    def _in_plane(self) -> Float64Array:
        return np.array([*self.along_x, *self.along_y, self.mm_x, self.mm_y])

    def normal(self) -> Float64Array:
        """Return the direction at right angles to the slices, of length 1."""
        normal = np.cross(np.array(self.along_x), np.array(self.along_y)).astype(np.float64)
        unit: Float64Array = normal / math.sqrt(float(normal @ normal))
        return unit


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole volume, or slices of one, in a file.

    Attributes
    ----------
    path : Path
    instance, acquisition : int or None
        InstanceNumber and AcquisitionNumber.
    temporal : tuple of int
        Place in the order of volumes as the file states it: temporal position, then whatever else tells volumes of one
        temporal position apart. Empty without one.
    clock_s : float or None
        Seconds from midnight to its acquisition.
    grid : Grid
    planes : tuple of Plane
        Its slices; of a whole volume, in an order that is the same for all volumes.
    is_whole : bool
        Whether it is a volume, rather than slices of which others make a volume.
    n_promised : int
        Number of slices of a volume as the file states it; 0 if it does not.
    series : int or None
        SeriesNumber, where each volume of the run has a series of its own; None elsewhere.
    """

    path: Path
    instance: int | None
    acquisition: int | None
    temporal: tuple[int, ...]
    clock_s: float | None
    grid: Grid
    planes: tuple[Plane, ...] = field(repr=False)
    is_whole: bool = True
    n_promised: int = 0
    series: int | None = None

    @property
    def numbers(self) -> tuple[int | None, int | None, tuple[int, ...]]:
        """What the scanner counted it by: instance, acquisition and temporal position."""
        return self.instance, self.acquisition, self.temporal

    @property
    def place(self) -> tuple[float, ...]:
        """Position of its first slice, mm, without what is below the files' own rounding."""
        return tuple(round(mm, 2) for mm in self.planes[0].position_mm)


def grid_of(path: Path, header: FileDataset, n_columns: int, n_rows: int) -> Grid:
    """Read the grid of a file whose elements are not in sequences.

    Parameters
    ----------
    path : Path
        The file, for messages.
    header : FileDataset
    n_columns, n_rows : int
        Size of a slice.

    Raises
    ------
    InputError
        If the file does not say where its voxels lie.
    """
    # DICOM: the first three cosines run along a row of pixels, that is from column to column; PixelSpacing begins with
    # the distance between rows.
    cosines = numbers(path, header, "ImageOrientationPatient", 6)
    mm_y, mm_x = numbers(path, header, "PixelSpacing", 2)
    spacing = "SpacingBetweenSlices" if number_or_0(header, "SpacingBetweenSlices") else "SliceThickness"
    (mm_z,) = numbers(path, header, spacing, 1)
    return Grid(
        n_columns=n_columns,
        n_rows=n_rows,
        along_x=(cosines[0], cosines[1], cosines[2]),
        along_y=(cosines[3], cosines[4], cosines[5]),
        mm_x=mm_x,
        mm_y=mm_y,
        mm_z=mm_z,
        tr_s=number_or_0(header, "RepetitionTime") / 1000,
        echo_ms=number_or_0(header, "EchoTime"),
        coil=str(header.get("ReceiveCoilName") or ""),
    )


class DicomFormat(Protocol):
    """Interface of a format: which files are of it, and how they are read.

    A package adds one of its own by an entry point of the group `rtgod.dicom_formats`.
    """

    @property
    def name(self) -> str:
        """What people call it: "Siemens mosaic"."""

    @property
    def tags(self) -> Sequence[str | int]:
        """Elements that it reads besides `SURVEYED`: keywords, or tags as 0xGGGGEEEE."""

    def fits(self, header: FileDataset) -> bool:
        """Return whether a file is of this format.

        Parameters
        ----------
        header : FileDataset
            The elements of `SURVEYED` and of `tags`.
        """

    def pieces(self, path: Path, header: FileDataset) -> Sequence[Piece]:
        """Read a file's header into pieces of volumes; images that are no magnitudes are left out.

        Parameters
        ----------
        path : Path
            The file, for messages.
        header : FileDataset
            The elements of `SURVEYED` and of `tags`.

        Raises
        ------
        InputError
            If the file does not say where its voxels lie.
        """

    def slices(self, pixels: Array, piece: Piece) -> Array:
        """Return the slices of a piece, shape (n_columns, n_rows, n_planes), in the order of its planes.

        Parameters
        ----------
        pixels : ndarray of shape (n_frames, n_rows, n_columns), int16 or uint16
            Stored numbers of the whole file.
        piece : Piece
        """


#: Elements by which files are told apart, and what is read of every file.
SURVEYED: Sequence[str] = (
    "SOPClassUID", "ImageType", "Manufacturer", "SeriesInstanceUID", "SeriesNumber", "NumberOfFrames",
    "FrameOfReferenceUID", "ProtocolName", "SoftwareVersions", "Rows", "Columns", "BitsAllocated", "SamplesPerPixel",
    "BitsStored", "PixelRepresentation", "LossyImageCompression", "InstanceNumber", "AcquisitionNumber",
    "AcquisitionTime",
)  # fmt: skip
#: Elements that `grid_of` and `rescale_of` read.
FLAT: Sequence[str] = (
    "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SpacingBetweenSlices", "SliceThickness",
    "RepetitionTime", "EchoTime", "ReceiveCoilName", "RescaleSlope", "RescaleIntercept",
)  # fmt: skip
