"""Enhanced and single-slice series: order, geometry, faults and privacy; real ones lie where dcm2niix puts them."""

import gzip
import shutil
import subprocess
import tarfile
from importlib.metadata import EntryPoint

import dcm2niix
import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEG2000Lossless

from rtgod.errors import InputError
from rtgod.sources import open_source
from rtgod.sources.dicom import file as dicom_file
from rtgod.sources.dicom import series as dicom_series
from rtgod.sources.dicom.series import GROUP, DicomSeries
from rtgod.sources.dicom.single_slice import SingleSlice
from tests.rtgod.sources.dicom.dicoms import (
    N_X,
    N_Y,
    N_Z,
    PLANTED,
    TR_S,
    affine,
    enhanced,
    save,
    single_slice,
    voxels,
)  # fmt: skip

NUMBERS = (1, 2, 3, 4)


def slices_of(folder, numbers=NUMBERS, without=(), change=lambda number, z: {}):  # noqa: ARG005 # nothing
    """Single slices of volumes, under names whose order says nothing."""
    for number in numbers:
        for z in range(N_Z):
            if (number, z) not in without:
                save(single_slice(number, z, **change(number, z)), folder / f"{(number * 7 + z * 13) % 101}.dcm")
    return folder


def check(source, numbers=NUMBERS, voxels_of=voxels):
    """The source gives these volumes, each at its time and place."""
    assert source.run.shape == (N_X, N_Y, N_Z)
    np.testing.assert_allclose(source.run.affine, affine(), atol=1e-6)
    volumes = list(source)
    assert [volume.index for volume in volumes] == [number - 1 for number in numbers]
    for volume, number in zip(volumes, numbers, strict=True):
        np.testing.assert_array_equal(volume.data, voxels_of(number))
        assert volume.acquired_s == pytest.approx((number - 1) * TR_S)


# ---------------------------------------------------------------- order and place


def test_slices_become_volumes_whatever_the_names(tmp_path):
    source = DicomSeries(slices_of(tmp_path))
    check(source)
    assert (source.notes, source.run.tr_s, source.run.n_volumes) == ((), TR_S, 4)


@pytest.mark.parametrize(
    "change",
    [
        lambda number, z: {"InstanceNumber": z * len(NUMBERS) + number},  # slice after slice, with all of its times
        lambda number, _: {"InstanceNumber": None, "TemporalPositionIdentifier": number},
        lambda number, z: {"InstanceNumber": 900 - z, "TemporalPositionIdentifier": number},
        lambda number, z: {"InstanceNumber": z + 1, "AcquisitionNumber": number},
        lambda *_: {"AcquisitionTime": "100000"},  # as GE writes it: that of the series
    ],
    ids=["slice by slice", "temporal position", "temporal position before instance", "acquisition", "one time"],
)
def test_volumes_are_told_apart_by_whatever_the_scanner_counts(tmp_path, change):
    check(DicomSeries(slices_of(tmp_path, change=change)))


def test_slices_that_nothing_puts_in_order_are_refused(tmp_path):
    slices_of(tmp_path, change=lambda *_: {"InstanceNumber": None, "AcquisitionNumber": None})
    with pytest.raises(InputError, match="so nothing says which came first"):
        DicomSeries(tmp_path)


@pytest.mark.parametrize("per_file", [1, 2, 4])
def test_enhanced_files_hold_one_volume_or_many(tmp_path, per_file):
    for start in range(0, 4, per_file):
        save(enhanced(NUMBERS[start : start + per_file]), tmp_path / f"{9 - start}.dcm")
    source = DicomSeries(tmp_path)
    check(source)
    assert source.run.coil == "HeadNeck_20"


def test_enhanced_files_without_a_temporal_position_are_numbered_by_the_file(tmp_path):
    for number in NUMBERS:
        save(enhanced([number], temporal=False), tmp_path / f"{9 - number}.dcm")
    check(DicomSeries(tmp_path))


def test_every_frame_has_its_own_rescaling(tmp_path):
    save(enhanced(NUMBERS, rescale=(0.5, -3)), tmp_path / "1.dcm")
    source = DicomSeries(tmp_path)
    check(source, voxels_of=lambda number: (voxels(number) * 0.5 - 3).astype(np.float32))


def test_volumes_with_series_of_their_own_are_one_run(tmp_path):
    """As Siemens XA's interoperability export writes them."""
    for number in NUMBERS:
        own = {"SeriesNumber": 100 + number, "SeriesInstanceUID": f"1.2.3.4.{number}", "InstanceNumber": 1}
        save(enhanced([number], **own, StudyInstanceUID=f"1.{number}"), tmp_path / f"{9 - number}.dcm")
    check(DicomSeries(tmp_path))
    save(enhanced([1], SeriesNumber=200, SeriesInstanceUID="1.5", ProtocolName="other"), tmp_path / "other.dcm")
    with pytest.raises(InputError, match=r"series 101 \(4 files\), series 200 \(1 files\): choose one"):
        DicomSeries(tmp_path)


def test_phase_is_left_out_and_an_echo_is_chosen(tmp_path):
    save(enhanced(NUMBERS, kinds=("MAGNITUDE", "PHASE"), echoes_ms=(12.0, 30.0)), tmp_path / "1.dcm")
    with pytest.raises(InputError, match=r"volumes of 2 echoes \(1: 12 ms, 2: 30 ms\); choose one with --echo N"):
        DicomSeries(tmp_path)
    for echo, shift in ((1, 0), (2, 7)):
        check(DicomSeries(tmp_path, echo=echo), voxels_of=lambda number, shift=shift: voxels(number) + np.int16(shift))
    with pytest.raises(InputError, match="no echo 3"):
        DicomSeries(tmp_path, echo=3)


class Upended:
    """A format of another package, of which only the entry point is known: slices from the last row to the first."""

    name, tags = "upended", ()

    def fits(self, header):
        return header.get("ProtocolName") == "upended"

    def pieces(self, path, header):
        return SingleSlice().pieces(path, header)

    def slices(self, pixels, piece):
        return SingleSlice().slices(pixels[:, ::-1], piece)


def test_another_package_adds_a_format(tmp_path, monkeypatch):
    point = EntryPoint("upended", f"{__name__}:Upended", GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda _: Upended)
    monkeypatch.setattr(dicom_series, "entry_points", lambda group: [point] if group == GROUP else [])
    dicom_series.formats.cache_clear()
    try:
        slices_of(tmp_path, change=lambda *_: {"ProtocolName": "upended"})
        check(DicomSeries(tmp_path), voxels_of=lambda number: voxels(number)[:, ::-1])
    finally:
        dicom_series.formats.cache_clear()


# ---------------------------------------------------------------- faults


def test_a_volume_that_lacks_a_slice_is_lost_and_named(tmp_path):
    source = DicomSeries(slices_of(tmp_path, without={(3, 2)}))
    check(source, (1, 2, 4))
    assert source.run.n_volumes == 4
    assert source.notes == (f"{tmp_path}: 1 volume without all slices, taken for lost (volume 3 lacks 1 of 5)",)


def test_a_slice_that_is_missing_everywhere_is_noticed(tmp_path):
    slices_of(tmp_path, without={(number, 2) for number in NUMBERS})
    with pytest.raises(InputError, match=r"slices lie unevenly, 4\.00 to 8\.00 mm apart: a slice is missing in every"):
        DicomSeries(tmp_path)


def test_the_first_slice_that_is_missing_everywhere_is_noticed_where_the_scanner_counts_them(tmp_path):
    for number in NUMBERS:
        for z in range(1, N_Z):
            dataset = single_slice(number, z, TemporalPositionIdentifier=number, Manufacturer="Philips")
            dataset.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x18, "SL", N_Z)
            save(dataset, tmp_path / f"{number}-{z}.dcm")
    source = DicomSeries(tmp_path)
    assert source.notes == (f"{tmp_path}: its files speak of 5 slices, and 4 are there: the others are lost",)


def test_a_slice_sent_twice_counts_once_and_two_that_differ_are_refused(tmp_path):
    slices_of(tmp_path)
    save(single_slice(2, 3), tmp_path / "again.dcm")
    check(DicomSeries(tmp_path))
    other = single_slice(2, 3)
    other.PixelData = bytes(len(other.PixelData))
    save(other, tmp_path / "again.dcm")
    with pytest.raises(InputError, match="same InstanceNumber and AcquisitionNumber but different voxels"):
        DicomSeries(tmp_path)


def test_slices_that_follow_the_head_are_called_so(tmp_path):
    def moved(number, z):
        position = single_slice(number, z).ImagePositionPatient
        return {"ImagePositionPatient": [position[0] + 0.3 * (number == 3), *position[1:]]}

    with pytest.raises(InputError, match=r"prospective correction.*not supported"):
        DicomSeries(slices_of(tmp_path, change=moved))


@pytest.mark.parametrize("n_bytes", [200, 2000, -20])
@pytest.mark.parametrize("make", [lambda: single_slice(2, 3), lambda: enhanced([2])], ids=["slice", "enhanced"])
def test_a_truncated_file_is_named(tmp_path, make, n_bytes):
    path = save(make(), tmp_path / "2.dcm")
    path.write_bytes(path.read_bytes()[: min(n_bytes, path.stat().st_size - 20)])
    with pytest.raises(InputError, match=r"2\.dcm"):
        DicomSeries(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    is_enhanced=st.booleans(),
    damage=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_no_damaged_file_raises_or_warns_anything_but_an_input_error(tmp_path, is_enhanced, damage):
    raw = bytearray(save(enhanced([1]) if is_enhanced else single_slice(1, 0), tmp_path / "1.dcm").read_bytes())
    for place, value in damage:
        raw[int(place * (len(raw) - 1))] = value
    (tmp_path / "1.dcm").write_bytes(raw)
    try:
        source = DicomSeries(tmp_path)
        told = repr((source.run, len(list(source))))
    except InputError as error:
        told = str(error)
    assert not any(planted in told for planted in PLANTED)


@pytest.mark.parametrize(
    "make", [slices_of, lambda folder: save(enhanced([1, 2]), folder / "1")], ids=["slices", "enhanced"]
)
def test_no_planted_string_leaves_a_series(tmp_path, make):
    make(tmp_path)
    source = DicomSeries(tmp_path)
    told = repr((source.run, source.notes, source.acquisition(), list(source)))
    assert not any(planted in told for planted in PLANTED)


# ---------------------------------------------------------------- real series, against dcm2niix


def stored_in(image):
    """The numbers that a NIfTI file holds, without its slope, as (x, y, z, volume)."""
    stored = np.asarray(image.dataobj.get_unscaled())
    return stored.reshape(*stored.shape[:3], -1)


def same_as(source, stored, affine, slope=1.0):
    """Every voxel is at the same place as in a NIfTI file, with the same stored number, in the same volume."""
    ours = np.linalg.inv(source.run.affine) @ affine
    indices = np.indices(stored.shape[:3]).reshape(3, -1)
    exact = ours[:3, :3] @ indices + ours[:3, 3:]
    places = np.rint(exact).astype(int)
    assert np.abs(source.run.affine[:3, :3] @ (exact - places)).max() < 1e-3  # mm
    volumes = list(source)
    assert len(volumes) == stored.shape[3]
    for volume, theirs in zip(volumes, np.moveaxis(stored, 3, 0), strict=True):
        numbers = volume.data if slope == 1.0 else np.rint(volume.data / slope)
        np.testing.assert_array_equal(numbers[tuple(places)].reshape(theirs.shape), theirs)


@pytest.mark.parametrize(
    ("folder", "reference"),
    [
        ("ge-epirt", "epiRT_IntAsc_GD0_2.nii"),
        ("ge-hb3", "Ax_fMRI_HB3_48sl_int_asc_14.nii"),
        ("siemens-cmrr-mosaic", "8_cmrr_Int.nii"),
    ],
)
def test_real_series_are_where_their_references_say(shared_data, folder, reference):
    source = open_source(shared_data / folder / "dicom")
    assert source.notes == ()
    image = nib.load(shared_data / folder / reference)
    same_as(source, stored_in(image), image.affine)


def converted(folder, out):
    """The NIfTI file that dcm2niix makes of a series."""
    subprocess.run([dcm2niix.bin, "-f", "run", "-o", out, folder], check=True, stdout=subprocess.DEVNULL)
    return nib.load(out / "run.nii")


@pytest.fixture
def interoperability(shared_data, tmp_path):
    """The XA series as its interoperability export writes it: each volume is a series of a study of its own."""
    for path in (shared_data / "siemens-xa30" / "dicom").iterdir():
        dataset = pydicom.dcmread(path)
        number = dataset.InstanceNumber
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = f"1.3.{number}", f"1.4.{number}"
        dataset.SeriesNumber, dataset.InstanceNumber = 700 + number, 1
        save(dataset, tmp_path / "interop" / path.name[-12:])
    return tmp_path / "interop"


def test_a_real_xa_series_is_where_dcm2niix_puts_it(shared_data, tmp_path, interoperability):
    folder = shared_data / "siemens-xa30" / "dicom"
    reference = converted(folder, tmp_path)
    source = open_source(folder)
    same_as(source, stored_in(reference), reference.affine)
    assert [volume.acquired_s for volume in source] == pytest.approx(np.arange(20.0), abs=0.01)
    same_as(open_source(interoperability), stored_in(reference), reference.affine)


@pytest.fixture
def philips(shared_data, tmp_path):
    """Folders with one of the packed Philips files each, by the number of their series."""
    for path in (shared_data / "philips-enhanced").glob("*.dcm.gz"):
        folder = tmp_path / path.name[:4]
        folder.mkdir()
        with gzip.open(path) as packed, (folder / "1.dcm").open("wb") as file:
            shutil.copyfileobj(packed, file)
    return tmp_path


PHILIPS_SLOPES = {"1903": 1.33870573870573, "2001": 1.29157509157509}


def test_real_philips_files_of_two_echoes_with_phase(shared_data, philips):
    with pytest.raises(InputError, match=r"2 echoes \(1: 2\.3 ms, 2: 4\.6 ms\)"):
        DicomSeries(philips / "2001", tr_s=2.0)
    for echo in (1, 2):
        reference = nib.load(shared_data / "philips-enhanced" / f"2001_WIP_fcMRI_Field_Mapping_enh_e{echo}.nii.gz")
        source = DicomSeries(philips / "2001", tr_s=2.0, echo=echo)
        same_as(source, stored_in(reference), reference.affine, PHILIPS_SLOPES["2001"])


def test_a_real_philips_file_of_six_volumes_is_in_order_of_time(shared_data, philips):
    """The reference has one label's volumes after the other's; here they alternate, as they were acquired."""
    reference = nib.load(shared_data / "philips-enhanced" / "1903_WIP_SOURCE_-_3DpCASL_enh.nii.gz")
    source = DicomSeries(philips / "1903")
    assert [volume.acquired_s for volume in source][:2] == [0.0, 4.25]
    same_as(source, stored_in(reference)[..., [0, 3, 1, 4, 2, 5]], reference.affine, PHILIPS_SLOPES["1903"])


def test_a_real_philips_series_of_single_slices(shared_data, tmp_path):
    """Its first three volumes, one slice of them twice, under names in no order."""
    with tarfile.open(shared_data / "studyforrest-localizer" / "dicoms.tar.xz") as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
    for number, name in enumerate(sorted(files)[: 3 * 35]):  # the scanner names them by the time
        (tmp_path / f"{number * 37 % 105}.dcm").write_bytes(files[name])
    (tmp_path / "again.dcm").write_bytes((tmp_path / "5.dcm").read_bytes())
    reference = nib.load(next((shared_data / "studyforrest-localizer").glob("*.nii.gz")))
    source = open_source(tmp_path)
    assert source.run.tr_s == pytest.approx(2.0)
    same_as(source, stored_in(reference)[..., :3], reference.affine)


def test_lossless_compression_is_read_with_the_extra_and_named_without(shared_data, tmp_path, monkeypatch):
    folder = shared_data / "ge-epirt" / "dicom"
    for path in sorted(folder.iterdir())[:32]:
        dataset = pydicom.dcmread(path)
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        save(dataset, tmp_path / path.name)
    (volume,) = open_source(tmp_path)
    np.testing.assert_array_equal(volume.data, next(iter(open_source(folder))).data)
    monkeypatch.setattr(dicom_file, "_has_decoder", lambda _: False)
    with pytest.raises(InputError, match=r"compressed as JPEG 2000 .*pip install 'rtgod\[compressed\]'"):
        open_source(tmp_path)
