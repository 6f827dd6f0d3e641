"""The list of what leaves the bridge: fields of messages that are made of a scanner's files, and nothing else.

`docs/scanners.md` holds the same list, and tests compare both with what is sent when every other element is changed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SentField:
    """A field of a message, and the elements of the files that it is made of.

    Attributes
    ----------
    field : str
        Class and field: "Run.tr_s".
    elements : tuple of str
        DICOM's keywords; "CSA" for Siemens's private header, of which numbers are read.
    how : str
        What of them is sent.
    """

    field: str
    elements: tuple[str, ...]
    how: str


_PLACE = (
    "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SpacingBetweenSlices", "SliceThickness",
)  # fmt: skip
_COUNTED = (
    "SeriesNumber", "InstanceNumber", "AcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionIndex",
    "DimensionIndexValues", "AcquisitionTime", "FrameAcquisitionDateTime",
)  # fmt: skip
_VOXELS = ("PixelData", "RescaleSlope", "RescaleIntercept", "EchoTime", "EffectiveEchoTime")

SENT_FIELDS = (
    SentField(
        "Run.run_id", ("SeriesNumber", "SeriesInstanceUID"), "the number, ten digits of a digest, a count of restarts"
    ),
    SentField("Run.acquisition", ("SeriesNumber", "SeriesInstanceUID"), "a digest"),
    SentField("Run.tr_s", ("RepetitionTime",), "seconds"),
    SentField("Run.shape", ("Rows", "Columns", "NumberOfFrames", "CSA"), "numbers of voxels"),
    SentField("Run.affine", (*_PLACE, "CSA"), "millimetres"),
    SentField("Run.n_volumes", ("NumberOfTemporalPositions",), "the planned number"),
    SentField("Run.coil", ("ReceiveCoilName",), "the first 64 characters"),
    SentField("Volume.run_id", ("SeriesNumber", "SeriesInstanceUID"), "as Run.run_id"),
    SentField("Volume.index", _COUNTED, "a count from 0"),
    SentField("Volume.acquired_s", ("AcquisitionTime", "FrameAcquisitionDateTime"), "seconds from the run's start"),
    SentField("Volume.data", _VOXELS, "voxels; echo times weight combined echoes"),
    SentField("RunEnd.run_id", ("SeriesNumber", "SeriesInstanceUID"), "as Run.run_id"),
    SentField("RunEnd.n_volumes", _COUNTED, "a count"),
)
#: Fields that come from the command line, or from the bridge itself.
OWN_FIELDS = ("Run.subject", "Run.blocks", "Volume.held_s", "Volume.n_waiting")
