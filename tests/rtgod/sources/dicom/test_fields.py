"""Fields are read as they lie in a file, without pydicom's conversions: the values are those that pydicom gives."""

import io

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from rtgod.errors import InputError
from rtgod.sources.dicom.fields import image_type, number_or_0, numbers, rescale_of, text_of
from rtgod.sources.dicom.file import read_growing
from rtgod.sources.dicom.series import format_of, tags_read
from tests.rtgod.sources.dicom import test_siemens_mosaic as test_mosaic
from tests.rtgod.sources.dicom.dicoms import N_Z, enhanced, save

PLACES = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


def read_back(implicit=False, **elements):
    """A data set with these elements, as it is read from bytes."""
    dataset = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    stream = io.BytesIO()
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(stream, dataset)
    stream.seek(0)
    return pydicom.dcmread(stream, force=True)


@given(
    position=st.lists(st.floats(-1e4, 1e4).map(lambda mm: round(mm, 5)), min_size=3, max_size=3),
    slope=st.none() | st.floats(1e-3, 1e3).map(lambda slope: round(slope, 6)),
    implicit=st.booleans(),
)
def test_numbers_are_those_of_pydicom(position, slope, implicit):
    elements = {"ImagePositionPatient": position} | ({} if slope is None else {"RescaleSlope": slope})
    raw, converted = read_back(implicit, **elements), read_back(implicit, **elements)
    theirs = [float(mm) for mm in converted.ImagePositionPatient]
    for _ in range(2):  # as they lie in the file, and once pydicom has converted them
        assert numbers("a file", raw, "ImagePositionPatient", 3) == theirs
        assert rescale_of(raw) == (1.0 if slope is None else float(converted.RescaleSlope), 0.0)
        raw.decode()


def test_fields_that_are_missing_empty_or_too_many_are_told_apart():
    dataset = read_back(PixelSpacing=[3, 3], SliceThickness=None, ImageType=["ORIGINAL", "M"])
    assert (text_of(dataset, "EchoTime"), number_or_0(dataset, "SliceThickness")) == ("", 0.0)
    assert image_type(dataset) == ["ORIGINAL", "M"]
    with pytest.raises(InputError, match=r"SliceThickness .* is empty"):
        numbers("a file", dataset, "SliceThickness", 1)
    with pytest.raises(InputError, match="is empty, or not 3 numbers"):
        numbers("a file", dataset, "PixelSpacing", 3)
    with pytest.raises(AttributeError):
        numbers("a file", dataset, "ImagePositionPatient", 3)


@pytest.mark.parametrize("series", ["siemens-run", "siemens-mosaic", "siemens-cmrr-mosaic", "ge-epirt", "ge-hb3"])
def test_real_headers_say_what_pydicom_reads_in_them(shared_data, series):
    for path in sorted((shared_data / series).rglob("*"))[:40]:
        if path.is_dir():
            continue
        header, _, _ = read_growing(path, tags_read())
        if header is None:
            continue
        theirs = pydicom.dcmread(path, stop_before_pixels=True)
        for keyword in PLACES:
            expected = [float(number) for number in theirs[keyword].value]
            assert numbers(path, header, keyword, len(expected)) == expected
        assert number_or_0(header, "EchoTime") == float(theirs.EchoTime)
        assert image_type(header) == list(theirs.ImageType)


@pytest.mark.parametrize("make", [lambda: enhanced([1]), test_mosaic.dicom], ids=["enhanced", "mosaic"])
def test_a_header_longer_than_any_usual_one_is_read(tmp_path, make):
    dataset = make()
    block = dataset.private_block(0x0031, "A LONG HEADER", create=True)
    block.add_new(0x10, "OB", bytes(300_000))
    path = save(dataset, tmp_path / "long.dcm")
    raw = path.read_bytes()
    for source in (path, raw):
        header, start, n_missing = read_growing(source, tags_read())
        assert (raw[start : start + 4], n_missing) == (b"\xe0\x7f\x10\x00", 0)
        (piece,) = format_of(header).pieces(path, header)
        assert len(piece.planes) == N_Z
    path.write_bytes(raw[:200_000])
    header, _, n_missing = read_growing(path, tags_read())
    assert n_missing is None
