"""Volumes as DICOM images: mosaics, one file a slice, or enhanced multi-frame files, as scanners export them.

Nothing of what a recording is called is written: the patient is the subject's label, and all identities are fresh.
"""

from __future__ import annotations

import io
import re
import secrets
import struct
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from rtgod.errors import InputError
from rtgod.messages import Array, Float64Array, Run, Volume
from rtgod.senders.voxels import VoxelRange, stored_as, tiled
from rtgod.sources.dicom.file import to_ras

DicomStyle = Literal["mosaic", "slices", "enhanced"]
DICOM_STYLES: tuple[DicomStyle, ...] = get_args(DicomStyle)

#: Largest distance of a voxel from where the run has it, mm.
_MOST_OFF_MM = 1e-3
#: Smallest step, and largest voxel, that single precision holds, with room for the rounding of the step's decimals.
_SMALLEST_STEP, _LARGEST = 1.2e-38, 3.4e38
#: Longest label that a patient's name and number hold.
_LONGEST_LABEL = 64
_DIMENSIONS = ("StackID", "InStackPositionNumber", "TemporalPositionIndex")


class DicomImages:
    """Maker of a run's images.

    Parameters
    ----------
    run : Run
    voxels : VoxelRange
        Numbers of all voxels of the run.
    style : {"mosaic", "slices", "enhanced"}
        Siemens mosaics, or one file a slice, or enhanced multi-frame files of one volume.
    began : datetime
        When the run began, on the scanner's clock.

    Attributes
    ----------
    mark : str
        A few letters that tell the series from others.
    notes : tuple of str
        What is rounded or turned round, for the operator.

    Raises
    ------
    InputError
        If the run's axes are not at right angles, which these images cannot say, or its voxels beyond single precision.
    """

    def __init__(self, run: Run, voxels: VoxelRange, style: DicomStyle, began: datetime) -> None:
        self._run, self._style, self._began = run, style, began
        self._stored, rounded = stored_as(voxels)
        largest = max(abs(voxels.lowest), abs(voxels.highest))
        if self._stored.slope != 1 and not (self._stored.slope >= _SMALLEST_STEP and largest <= _LARGEST):
            raise InputError(
                f"its voxels, from {voxels.lowest:g} to {voxels.highest:g}, do not fit single precision, in which "
                "receivers keep what DICOM scales; scale the run, or use --as afni or --as pyneal"
            )
        notes = [rounded] if rounded else []
        affine, self._is_turned = run.affine, False
        if np.linalg.det(affine[:3, :3]) < 0 and style != "mosaic":
            # Readers stack slices along the cross product of columns and rows; a mosaic says its direction itself.
            affine, self._is_turned = _with_rows_turned(affine, run.shape[1]), True
            notes.append("its axes are left-handed, which slices cannot be: rows are turned round, and stay in place")
        self._lps = to_ras(affine)
        sizes = np.linalg.norm(self._lps[:3, :3], axis=0)
        self._mm_x, self._mm_y, self._mm_z = (float(size) for size in sizes)
        self._along = self._lps[:3, :3] / sizes
        self._check_axes()
        self._series, self._frame, self._study = (str(generate_uid(None)) for _ in range(3))
        self.mark, self.notes = secrets.token_hex(4), tuple(notes)

    def _check_axes(self) -> None:
        """Refuse an affine with axes that are not at right angles, as far as that moves a voxel."""
        normal = np.cross(self._along[:, 0], self._along[:, 1])
        normal *= np.sign(normal @ self._along[:, 2]) / np.linalg.norm(normal)
        upright = np.cross(normal, self._along[:, 0])
        upright *= np.sign(upright @ self._along[:, 1])
        off = np.column_stack([np.zeros(3), self._along[:, 1] - upright, self._along[:, 2] - normal])
        off_mm = np.abs(off * [self._mm_x, self._mm_y, self._mm_z]) @ np.array(self._run.shape)
        if off_mm.max() > _MOST_OFF_MM:
            raise InputError(
                f"its axes are not at right angles (voxels would lie up to {off_mm.max():.2g} mm away), which DICOM "
                "images cannot say; resample the run, or use --as afni or --as pyneal"
            )

    def of(self, volume: Volume) -> list[Dataset]:
        """Make the images of a volume: one, or one for each slice.

        Parameters
        ----------
        volume : Volume
        """
        data = self._stored.of(volume.data)
        if self._is_turned:
            data = data[:, ::-1]
        if self._style == "mosaic":
            return [self._mosaic(volume, data)]
        if self._style == "enhanced":
            return [self._enhanced(volume, data)]
        return [self._slice(volume, data, z) for z in range(data.shape[2])]

    def _mosaic(self, volume: Volume, data: Array) -> Dataset:
        pixels = tiled(data)
        n_x, n_y, n_z = data.shape
        # Siemens puts the centre of the whole mosaic at the centre of the first slice, and gives the mosaic's corner.
        beyond = [-(pixels.shape[1] - n_x) / 2, -(pixels.shape[0] - n_y) / 2, 0.0]
        image = self._image(volume, volume.index + 1, pixels)
        self._place(image, beyond)
        image.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
        block = image.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x08, "CS", "IMAGE NUM 4")
        normal = [f"{cosine:.8f}" for cosine in self._along[:, 2]]
        fields = {"NumberOfImagesInMosaic": ("US", [str(n_z)]), "SliceNormalVector": ("FD", normal)}
        block.add_new(0x10, "OB", csa_header(fields))
        return image

    def _slice(self, volume: Volume, data: Array, z: int) -> Dataset:
        n_z = data.shape[2]
        image = self._image(volume, volume.index * n_z + z + 1, data[:, :, z].T)
        self._place(image, [0.0, 0.0, float(z)])
        image.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        image.TemporalPositionIdentifier = volume.index + 1
        self._promise(image)
        return image

    def _place(self, image: Dataset, voxel: Sequence[float]) -> None:
        """Say where an image's first pixel is, and how its pixels lie."""
        image.ImagePositionPatient = self._position(voxel)
        image.ImageOrientationPatient = self._cosines()
        image.PixelSpacing = [_decimal(self._mm_y), _decimal(self._mm_x)]
        image.SliceThickness = image.SpacingBetweenSlices = _decimal(self._mm_z)
        image.RepetitionTime = _decimal(1000 * self._run.tr_s)
        image.ScanningSequence, image.SequenceVariant = "EP", "SK"
        if self._stored.slope != 1:
            image.RescaleSlope, image.RescaleIntercept = _decimal(self._stored.slope), "0"

    def _promise(self, image: Dataset) -> None:
        """Say how many volumes the run will have, as these kinds of image can."""
        if self._run.n_volumes:
            image.NumberOfTemporalPositions = self._run.n_volumes

    def _position(self, voxel: Sequence[float]) -> list[str]:
        return [_decimal(mm) for mm in (self._lps @ [*voxel, 1.0])[:3]]

    def _cosines(self) -> list[str]:
        return [_decimal(cosine) for cosine in (*self._along[:, 0], *self._along[:, 1])]

    def _enhanced(self, volume: Volume, data: Array) -> Dataset:
        n_z = data.shape[2]
        image = self._image(volume, volume.index + 1, data.transpose(2, 1, 0))
        image.ImageType = ["ORIGINAL", "PRIMARY", "FMRI", "NONE"]
        image.NumberOfFrames = n_z
        self._promise(image)
        image.EchoPlanarPulseSequence = "YES"
        image.ComplexImageComponent = "MAGNITUDE"
        organization = str(generate_uid(None))
        image.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
        image.DimensionIndexSequence = [
            _item(
                DimensionOrganizationUID=organization,
                DimensionIndexPointer=tag_for_keyword(name),
                FunctionalGroupPointer=tag_for_keyword("FrameContentSequence"),
            )
            for name in _DIMENSIONS
        ]
        shared = Dataset()
        thick = _decimal(self._mm_z)
        spacing = [_decimal(self._mm_y), _decimal(self._mm_x)]
        shared.PixelMeasuresSequence = [_item(PixelSpacing=spacing, SliceThickness=thick, SpacingBetweenSlices=thick)]
        shared.MRTimingAndRelatedParametersSequence = [_item(RepetitionTime=_decimal(1000 * self._run.tr_s))]
        shared.PixelValueTransformationSequence = [
            _item(RescaleSlope=_decimal(self._stored.slope), RescaleIntercept="0", RescaleType="US")
        ]
        shared.MRImageFrameTypeSequence = [
            _item(FrameType=["ORIGINAL", "PRIMARY", "FMRI", "NONE"], ComplexImageComponent="MAGNITUDE")
        ]
        image.SharedFunctionalGroupsSequence = [shared]
        image.PerFrameFunctionalGroupsSequence = [self._frame_of(volume, z) for z in range(n_z)]
        return image

    def _frame_of(self, volume: Volume, z: int) -> Dataset:
        moment = self._acquired(volume)
        content = {
            "StackID": "1",
            "InStackPositionNumber": z + 1,
            "TemporalPositionIndex": volume.index + 1,
            "DimensionIndexValues": [1, z + 1, volume.index + 1],
            "FrameAcquisitionDateTime": f"{moment:%Y%m%d%H%M%S.%f}",
        }
        frame = Dataset()
        frame.FrameContentSequence = [_item(**content)]
        # Siemens says the orientation of each frame by itself; dcm2niix joins no files in which all frames share it.
        frame.PlaneOrientationSequence = [_item(ImageOrientationPatient=self._cosines())]
        frame.PlanePositionSequence = [_item(ImagePositionPatient=self._position([0.0, 0.0, float(z)]))]
        return frame

    def _acquired(self, volume: Volume) -> datetime:
        return self._began + timedelta(seconds=volume.acquired_s)

    def _image(self, volume: Volume, number: int, pixels: Array) -> Dataset:
        """Make what all images share, with the pixels of shape (…, n_rows, n_columns)."""
        moment, label = self._acquired(volume), _one_value(self._run.subject, _LONGEST_LABEL)
        image = Dataset()
        kind = EnhancedMRImageStorage if self._style == "enhanced" else MRImageStorage
        # The same image, sent twice, has the same identity.
        elements: dict[str, Any] = {
            "SpecificCharacterSet": "ISO_IR 192",
            "SOPClassUID": kind,
            "SOPInstanceUID": f"{self._series}.{number}",
            "StudyInstanceUID": self._study,
            "SeriesInstanceUID": self._series,
            "FrameOfReferenceUID": self._frame,
            "Modality": "MR",
            "Manufacturer": "SIEMENS",
            "ManufacturerModelName": "rtgod replay",
            "StudyDate": f"{self._began:%Y%m%d}",
            "StudyTime": f"{self._began:%H%M%S.%f}",
            "SeriesDate": f"{self._began:%Y%m%d}",
            "SeriesTime": f"{self._began:%H%M%S.%f}",
            "AcquisitionDate": f"{moment:%Y%m%d}",
            "AcquisitionTime": f"{moment:%H%M%S.%f}",
            "AcquisitionDateTime": f"{moment:%Y%m%d%H%M%S.%f}",
            "ContentDate": f"{moment:%Y%m%d}",
            "ContentTime": f"{moment:%H%M%S.%f}",
            "PatientName": label,
            "PatientID": label,
            "PatientPosition": "HFS",
            "ProtocolName": "rtgod",
            "SeriesDescription": "rtgod",
            "SeriesNumber": 1,
            "InstanceNumber": number,
            "AcquisitionNumber": volume.index + 1,
            "MRAcquisitionType": "2D",
            "Rows": pixels.shape[-2],
            "Columns": pixels.shape[-1],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": int(pixels.dtype.kind == "i"),
        }
        if self._run.coil:
            elements["ReceiveCoilName"] = _one_value(self._run.coil, 16)
        for keyword, value in elements.items():
            setattr(image, keyword, value)
        image.add_new("PixelData", "OW", np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<")).tobytes())
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = kind
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        return image


def encoded(image: Dataset) -> bytes:
    """Return what a file of an image holds.

    Parameters
    ----------
    image : Dataset
        Of `DicomImages.of`.
    """
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, image, enforce_file_format=True)
    return stream.getvalue()


def csa_header(fields: Mapping[str, tuple[str, Sequence[str]]]) -> bytes:
    """Write Siemens's private header (format "SV10") of an image.

    Parameters
    ----------
    fields : mapping of str to tuple
        By name: the kind of value, as DICOM abbreviates it, and the values as text.
    """
    raw = b"SV10\4\3\2\1" + struct.pack("<II", len(fields), 77)
    for name, (kind, values) in fields.items():
        # Six values at least, of which those that are not used are empty.
        texts = [f"{value}\0".encode() for value in values]
        texts += [b""] * (6 - len(texts))
        raw += struct.pack("<64si4siii", name.encode(), len(values), kind.encode(), 6, len(texts), 77)
        for text in texts:
            raw += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4)
    return raw


def _with_rows_turned(affine: Float64Array, n_rows: int) -> Float64Array:
    turned = affine.copy()
    turned[:, 3] += (n_rows - 1) * turned[:, 1]
    turned[:, 1] *= -1
    return turned


def _one_value(text: str, longest: int) -> str:
    """Take out what separates values, or parts of a name, in DICOM."""
    return re.sub(r"[\\^=\x00-\x1f\x7f]", "-", text)[:longest]


def _decimal(number: float) -> str:
    """Write a number in the 16 characters that DICOM has for it."""
    return str(format_number_as_ds(float(number)))


def _item(**elements: object) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item
