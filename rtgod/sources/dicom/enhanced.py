"""Enhanced multi-frame files, as Siemens XA, Philips and Canon scanners export them: a file holds one volume or many.

What all frames share lies in one sequence of the header, and what differs in another, with an item for each frame.
Frames are told apart by their dimension indices (DICOM PS3.3 C.7.6.17): those of the slice order a volume, all others
tell volumes apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset, FileDataset

from rtgod.errors import InputError
from rtgod.messages import Array
from rtgod.sources.dicom.fields import (
    image_type,
    integer_of,
    n_frames_of,
    number_or_0,
    numbers,
    rescale_of,
    seconds_of_day,
    text_of,
)
from rtgod.sources.dicom.image_kinds import kind_of
from rtgod.sources.dicom.pieces import Grid, Piece, Plane

#: Dimensions that tell slices of a volume apart, or echoes and kinds of image, which frames themselves state.
_WITHIN_VOLUME = {"StackID", "InStackPositionNumber", "EffectiveEchoTime", "ComplexImageComponent"}
#: Philips's private type of image (magnitude, phase …), which the frame's own type says as well.
_PHILIPS_IMAGE_TYPE = 0x20051011


class EnhancedMultiFrame:
    """Format of enhanced files; see `rtgod.sources.dicom.pieces.DicomFormat`."""

    name = "enhanced multi-frame"
    tags = (
        "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence",
        "ComplexImageComponent",
    )  # fmt: skip

    def fits(self, header: FileDataset) -> bool:
        """Return whether a file has frames.

        Parameters
        ----------
        header : FileDataset
        """
        return "NumberOfFrames" in header

    def pieces(self, path: Path, header: FileDataset) -> Sequence[Piece]:
        """Read a file's header: a piece for each volume, in their order; frames that are no magnitudes are left out.

        Parameters
        ----------
        path : Path
        header : FileDataset

        Raises
        ------
        InputError
            If the file does not say where its voxels lie, or slices of a volume are missing or doubled.
        """
        volumes: dict[tuple[tuple[int, ...], float], list[tuple[Plane, _Frame]]] = {}
        for number in range(n_frames_of(header)):
            frame = _Frame(path, header, number)
            if frame.is_magnitude():
                volumes.setdefault((frame.temporal(), frame.echo_ms()), []).append((frame.plane(), frame))
        return tuple(
            _piece(path, header, temporal, frames) for (temporal, _), frames in sorted(volumes.items(), key=_by_place)
        )

    def slices(self, pixels: Array, piece: Piece) -> Array:
        """Choose a volume's frames, shape (n_columns, n_rows, n_slices).

        Parameters
        ----------
        pixels : ndarray of shape (n_frames, n_rows, n_columns)
        piece : Piece
        """
        return pixels[[plane.frame for plane in piece.planes]].transpose(2, 1, 0)


def _by_place(item: tuple[tuple[tuple[int, ...], float], object]) -> tuple[tuple[int, ...], float]:
    return item[0]


def _piece(path: Path, header: FileDataset, temporal: tuple[int, ...], frames: Sequence[tuple[Plane, _Frame]]) -> Piece:
    grid = frames[0][1].grid()
    for _, frame in frames[1:]:
        if differences := grid.differences(frame.grid()):
            raise InputError(
                f"{path}: the {' and '.join(differences)} of its frames differs within a volume; export each volume or "
                "echo by itself."
            )
    normal = grid.normal()
    planes = sorted((plane for plane, _ in frames), key=lambda plane: float(np.dot(plane.position_mm, normal)))
    clocks = [clock_s for _, frame in frames if (clock_s := frame.clock_s()) is not None]
    return Piece(
        path=path,
        instance=integer_of(text_of(header, "InstanceNumber")),
        acquisition=integer_of(text_of(header, "AcquisitionNumber")),
        temporal=temporal,
        clock_s=min(clocks, default=None),
        grid=grid,
        planes=tuple(planes),
    )


class _Frame:
    """Elements of one frame: its own, or those that all frames share."""

    def __init__(self, path: Path, header: FileDataset, number: int) -> None:
        self._path, self._header, self._number = path, header, number
        self._groups = (header.PerFrameFunctionalGroupsSequence[number], header.SharedFunctionalGroupsSequence[0])

    def _of(self, sequence: str) -> Dataset:
        """Return the item of a functional group; empty without one."""
        for groups in self._groups:
            if items := groups.get(sequence):
                item: Dataset = items[0]
                return item
        return Dataset()

    def is_magnitude(self) -> bool:
        """Whether the frame is no phase, real or imaginary image."""
        kind = self._of("MRImageFrameTypeSequence")
        component = text_of(kind, "ComplexImageComponent") or text_of(self._header, "ComplexImageComponent")
        return not kind_of(image_type(kind, "FrameType"), component)

    def temporal(self) -> tuple[int, ...]:
        """Temporal position, then the indices of other dimensions that tell volumes apart."""
        content = self._of("FrameContentSequence")
        position = integer_of(content.get("TemporalPositionIndex"))
        values = content.get("DimensionIndexValues") or ()
        values = [values] if isinstance(values, int) else list(values)
        pointers = [int(item.DimensionIndexPointer) for item in self._header.get("DimensionIndexSequence") or ()]
        others = []
        for pointer, value in zip(pointers, values, strict=False):
            keyword = keyword_for_tag(pointer)
            if keyword == "TemporalPositionIndex":
                position = int(value) if position is None else position
            elif keyword not in _WITHIN_VOLUME and pointer != _PHILIPS_IMAGE_TYPE:
                others.append(int(value))
        return () if position is None and not others else (position or 0, *others)

    def echo_ms(self) -> float:
        """Echo time, milliseconds; 0 without one."""
        return float(self._of("MREchoSequence").get("EffectiveEchoTime") or 0)

    def clock_s(self) -> float | None:
        """Time of day of its acquisition, in seconds."""
        return seconds_of_day(text_of(self._of("FrameContentSequence"), "FrameAcquisitionDateTime"))

    def plane(self) -> Plane:
        """Its place in the file and in the world."""
        x, y, z = numbers(self._path, self._of("PlanePositionSequence"), "ImagePositionPatient", 3)
        return Plane(self._number, (x, y, z), rescale_of(self._of("PixelValueTransformationSequence")))

    def grid(self) -> Grid:
        """Its grid."""
        cosines = numbers(self._path, self._of("PlaneOrientationSequence"), "ImageOrientationPatient", 6)
        measures = self._of("PixelMeasuresSequence")
        mm_y, mm_x = numbers(self._path, measures, "PixelSpacing", 2)
        return Grid(
            n_columns=int(self._header.Columns),
            n_rows=int(self._header.Rows),
            along_x=(cosines[0], cosines[1], cosines[2]),
            along_y=(cosines[3], cosines[4], cosines[5]),
            mm_x=mm_x,
            mm_y=mm_y,
            mm_z=number_or_0(measures, "SpacingBetweenSlices") or number_or_0(measures, "SliceThickness"),
            tr_s=number_or_0(self._of("MRTimingAndRelatedParametersSequence"), "RepetitionTime") / 1000,
            echo_ms=self.echo_ms(),
            coil=str(self._of("MRReceiveCoilSequence").get("ReceiveCoilName") or ""),
        )
