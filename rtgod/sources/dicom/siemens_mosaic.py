"""Siemens mosaics: a file is a volume, with its slices tiled into one picture.

Siemens's private CSA header says how many slices there are and in which direction they are numbered; the position is
that of the corner of the whole picture.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset

from rtgod.errors import InputError
from rtgod.messages import Array
from rtgod.sources.dicom.fields import image_type, integer_of, n_frames_of, numbers, rescale_of, seconds_of_day, text_of
from rtgod.sources.dicom.image_kinds import TAGS as KIND_TAGS
from rtgod.sources.dicom.image_kinds import no_magnitude
from rtgod.sources.dicom.pieces import FLAT, Piece, Plane, grid_of

_CSA_FIELDS = ("NumberOfImagesInMosaic", "SliceNormalVector")
#: Elements that may hold the CSA header, each with the one that then names its creator.
_CSA = {0x00290010 + (block << 8): 0x00290000 + block for block in range(0x10, 0x14)}
#: Elements of the CSA header, with the names of who reserved the blocks that it may lie in.
CSA_TAGS = (*_CSA, *_CSA.values())
#: Siemens software that exports mosaics without the private header that tells how their slices lie.
_WITHOUT_CSA = re.compile(r"\bXA1[01]\b")


class SiemensMosaic:
    """Format of mosaics; see `rtgod.sources.dicom.pieces.DicomFormat`."""

    name = "Siemens mosaic"
    tags = (*FLAT, *KIND_TAGS, *CSA_TAGS)

    def fits(self, header: FileDataset) -> bool:
        """Return whether a file is a mosaic: by ImageType, or by the CSA header if ImageType was taken out.

        Parameters
        ----------
        header : FileDataset
        """
        if n_frames_of(header) > 1:
            return False
        return "MOSAIC" in image_type(header) or bool(_read_csa(header).get("NumberOfImagesInMosaic"))

    def pieces(self, path: Path, header: FileDataset) -> Sequence[Piece]:
        """Read a mosaic's header: one piece, the volume; none for a phase, real or imaginary image.

        Parameters
        ----------
        path : Path
        header : FileDataset

        Raises
        ------
        InputError
            If the header does not say how the slices lie.
        """
        csa = _read_csa(header)
        if not csa.get("NumberOfImagesInMosaic") or len(csa.get("SliceNormalVector", ())) != 3:
            raise InputError(
                f"{path}: no number and direction of slices, because Siemens's private CSA header (0029,1010) is "
                f"missing or damaged; {_advice_without_csa(header)}."
            )
        n_slices = int(csa["NumberOfImagesInMosaic"][0])
        n_tiles = math.ceil(math.sqrt(n_slices))
        n_rows, n_columns = int(header.Rows), int(header.Columns)
        if n_tiles < 1 or n_rows % n_tiles or n_columns % n_tiles:
            raise InputError(
                f"{path}: {n_slices} slices cannot tile {n_columns} × {n_rows} pixels; export the series again."
            )
        if no_magnitude(header):
            return ()
        grid = grid_of(path, header, n_columns // n_tiles, n_rows // n_tiles)
        # The cross product is the more exact normal, but only the CSA header tells whether the slices are numbered
        # along it or against it.
        (ax, ay, az), (bx, by, bz) = grid.along_x, grid.along_y
        normal = np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])  # np.cross takes 0.05 ms
        normal *= np.sign(normal @ np.array(csa["SliceNormalVector"]))
        # Siemens puts the centre of the whole mosaic at the centre of the first slice, and gives the mosaic's corner.
        beyond_x, beyond_y = (n_columns - grid.n_columns) / 2, (n_rows - grid.n_rows) / 2
        first = np.array(numbers(path, header, "ImagePositionPatient", 3))
        first = first + beyond_x * grid.mm_x * np.array(grid.along_x) + beyond_y * grid.mm_y * np.array(grid.along_y)
        positions = first + np.arange(n_slices)[:, np.newaxis] * grid.mm_z * normal
        rescale = rescale_of(header)
        return (
            Piece(
                path=path,
                instance=integer_of(text_of(header, "InstanceNumber")),
                acquisition=integer_of(text_of(header, "AcquisitionNumber")),
                temporal=(),
                clock_s=seconds_of_day(text_of(header, "AcquisitionTime")),
                grid=grid,
                planes=tuple(Plane(tile, (x, y, z), rescale) for tile, (x, y, z) in enumerate(positions.tolist())),
            ),
        )

    def slices(self, pixels: Array, piece: Piece) -> Array:
        """Cut the picture into its tiles, shape (n_columns, n_rows, n_slices).

        Parameters
        ----------
        pixels : ndarray of shape (1, n_rows, n_columns)
        piece : Piece
        """
        (mosaic,) = pixels
        return untiled(mosaic, (piece.grid.n_columns, piece.grid.n_rows, len(piece.planes)))


def untiled(mosaic: Array, shape: tuple[int, int, int]) -> Array:
    """Cut a picture into its tiles, row by row, and put them one behind the other.

    Parameters
    ----------
    mosaic : ndarray of shape (n_tiles_y * y, n_tiles_x * x)
        May have more tiles than there are slices.
    shape : tuple of int
        That of the volume: x, y, z.
    """
    n_x, n_y, n_z = shape
    tiles = mosaic.reshape(mosaic.shape[0] // n_y, n_y, mosaic.shape[1] // n_x, n_x).swapaxes(1, 2)
    return tiles.reshape(-1, n_y, n_x)[:n_z].transpose(2, 1, 0)


def _advice_without_csa(header: FileDataset) -> str:
    versions = header.get("SoftwareVersions") or ""
    if match := _WITHOUT_CSA.search(str(versions)):
        return f"software {match[0]} exports mosaics without it, so export the series as enhanced DICOM"
    return "export, or anonymise, with private fields kept, or convert the original series to NIfTI"


def _csa_bytes(header: FileDataset) -> bytes:
    """Return the CSA header as it lies in the file; empty without one."""
    for tag, creator in _CSA.items():
        named, element = header.get_item(creator), header.get_item(tag)
        if named is None or element is None or not isinstance(element.value, bytes):
            continue
        name = named.value.decode("ascii", "replace") if isinstance(named.value, bytes) else str(named.value)
        if name.strip(" \0") == "SIEMENS CSA HEADER":
            return element.value
    return b""


def _read_csa(header: FileDataset) -> dict[str, list[float]]:
    """Read the fields that say how slices lie; empty if the CSA header is missing or damaged."""
    try:
        return {name: [float(value) for value in values] for name, values in read_csa(header, _CSA_FIELDS).items()}
    except ValueError:
        return {}


def read_csa(header: FileDataset, names: Collection[str]) -> dict[str, list[bytes]]:
    """Read fields of Siemens's private image header (format "SV10"); empty if it is missing or damaged.

    nibabel's reader is not used, as importing it warns that it is experimental.

    Parameters
    ----------
    header : FileDataset
        With the elements of `CSA_TAGS`.
    names : collection of str
        Names of the fields.

    Returns
    -------
    dict of str to list of bytes
        Values of each field, as text, without those that are empty.
    """
    wanted = {name.encode(): name for name in names}
    fields: dict[str, list[bytes]] = {}
    raw = _csa_bytes(header)
    if raw[:4] != b"SV10":
        return {}
    try:
        (n_fields,) = struct.unpack_from("<I", raw, 8)
        offset = 16
        for _ in range(n_fields):
            name, n_items = struct.unpack_from("<64s12xI4x", raw, offset)
            offset += 84
            key = wanted.get(name.partition(b"\0")[0])
            values = []
            for _ in range(n_items):
                (n_bytes,) = struct.unpack_from("<4xI8x", raw, offset)
                if key:
                    values.append(raw[offset + 16 : offset + 16 + n_bytes].partition(b"\0")[0].strip())
                offset += 16 + (n_bytes + 3) // 4 * 4
            if key:
                fields[key] = [value for value in values if value]
                if len(fields) == len(wanted):
                    break
    except struct.error:
        return {}
    return fields
