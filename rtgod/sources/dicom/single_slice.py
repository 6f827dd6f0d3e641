"""One file a slice, as GE and Philips scanners, and Siemens's without mosaics, export them.

Which volume a slice belongs to is said by its temporal position, or follows from its number and that of the slices of a
volume; `rtgod.sources.dicom.volumes` decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import FileDataset

from rtgod.messages import Array
from rtgod.sources.dicom.fields import image_type, integer_of, n_frames_of, numbers, rescale_of, seconds_of_day, text_of
from rtgod.sources.dicom.image_kinds import TAGS as KIND_TAGS
from rtgod.sources.dicom.image_kinds import no_magnitude
from rtgod.sources.dicom.pieces import FLAT, Piece, Plane, grid_of

#: Private elements that count the slices of a volume: group, creator, element.
_N_SLICES = ((0x2001, "Philips Imaging DD 001", 0x18), (0x0021, "GEMS_RELA_01", 0x4F))


def _private_tags() -> list[int]:
    """List the elements of `_N_SLICES`, with those that name their creators, wherever their blocks begin."""
    blocks = range(0x10, 0x14)
    creators = [(group << 16) + block for group, _, _ in _N_SLICES for block in blocks]
    return creators + [(group << 16) + (block << 8) + element for group, _, element in _N_SLICES for block in blocks]


class SingleSlice:
    """Format of files with one slice each; see `rtgod.sources.dicom.pieces.DicomFormat`."""

    name = "single-slice"
    tags = (*FLAT, *KIND_TAGS, "TemporalPositionIdentifier", *_private_tags())

    def fits(self, header: FileDataset) -> bool:
        """Return whether a file is a slice.

        Parameters
        ----------
        header : FileDataset
        """
        return "MOSAIC" not in image_type(header) and n_frames_of(header) == 1

    def pieces(self, path: Path, header: FileDataset) -> Sequence[Piece]:
        """Read a file's header: one piece, a slice; none for a phase, real or imaginary image.

        Parameters
        ----------
        path : Path
        header : FileDataset

        Raises
        ------
        InputError
            If the file does not say where its voxels lie.
        """
        if no_magnitude(header):
            return ()
        x, y, z = numbers(path, header, "ImagePositionPatient", 3)
        temporal = integer_of(text_of(header, "TemporalPositionIdentifier"))
        return (
            Piece(
                path=path,
                instance=integer_of(text_of(header, "InstanceNumber")),
                acquisition=integer_of(text_of(header, "AcquisitionNumber")),
                temporal=() if temporal is None else (temporal,),
                clock_s=seconds_of_day(text_of(header, "AcquisitionTime")),
                grid=grid_of(path, header, int(header.Columns), int(header.Rows)),
                planes=(Plane(0, (x, y, z), rescale_of(header)),),
                is_whole=False,
                n_promised=_n_promised(header),
            ),
        )

    def slices(self, pixels: Array, piece: Piece) -> Array:
        """Return the slice, shape (n_columns, n_rows, 1).

        Parameters
        ----------
        pixels : ndarray of shape (1, n_rows, n_columns)
        piece : Piece
        """
        del piece  # the file holds nothing else
        return pixels.transpose(2, 1, 0)


def _n_promised(header: FileDataset) -> int:
    for group, creator, element in _N_SLICES:
        try:
            return int(str(header.private_block(group, creator)[element].value))
        except (KeyError, ValueError):
            continue
    return 0
