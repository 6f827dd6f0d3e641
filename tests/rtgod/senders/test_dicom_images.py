"""Images that are made of a run lie where it lies, by our own reader, by dcm2niix and by nibabel, voxel by voxel."""

import re
import subprocess
from datetime import datetime
from io import BytesIO

import dcm2niix
import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.messages import Volume
from rtgod.senders.dicom_images import DICOM_STYLES, DicomImages, encoded
from rtgod.senders.voxels import range_of, stored_as, tiled
from rtgod.sources import open_source
from rtgod.sources.dicom.series import DicomSeries
from tests.rtgod.senders.runs import N_VOLUMES, SHAPE, Recorded, affine

BEGAN = datetime(2026, 3, 29, 10, 2, 3)


def files(source, style, began=BEGAN):
    images = DicomImages(source.run, range_of(source), style, began)
    return [encoded(image) for volume in source for image in images.of(volume)], images.notes


def written(folder, source, style, began=BEGAN):
    contents, notes = files(source, style, began)
    for number, content in enumerate(contents):
        (folder / f"{number * 31 % 997:03d}.dcm").write_bytes(content)
    return notes


def in_world(data, there):
    """Voxels with axes to right, anterior and superior, and the affine that they then have."""
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(data), there))
    return np.asanyarray(image.dataobj), image.affine


def by_dcm2niix(folder, out):
    out.mkdir()
    command = [dcm2niix.bin, "-f", "run", "-o", out, folder]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (path,) = out.glob("*.nii")
    return nib.load(path)


@pytest.mark.parametrize("style", DICOM_STYLES)
@pytest.mark.parametrize("handedness", [1, -1], ids=["right-handed", "left-handed"])
@pytest.mark.parametrize("angles", [(0, 0, 0), (20, -7, 11), (85, 3, 2), (4, 80, -5)])
def test_images_lie_where_the_run_lies(tmp_path, style, handedness, angles):
    source = Recorded(there=affine(handedness, angles))
    written(tmp_path, source, style)
    data = np.stack([volume.data for volume in source], axis=-1)
    expected, there = in_world(data, source.run.affine)
    own = DicomSeries(tmp_path)
    read, where = in_world(np.stack([volume.data for volume in own], axis=-1), own.run.affine)
    np.testing.assert_array_equal(read, expected)
    np.testing.assert_allclose(where, there, atol=1e-6)
    theirs = by_dcm2niix(tmp_path, tmp_path / "out")
    read, where = in_world(theirs.dataobj, theirs.affine)
    np.testing.assert_array_equal(read, expected)
    np.testing.assert_allclose(where, there, atol=1e-3)
    assert theirs.header.get_zooms()[3] == pytest.approx(source.run.tr_s)


@pytest.mark.parametrize("style", DICOM_STYLES)
@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32"])
def test_a_run_is_read_back_as_it_is(tmp_path, style, dtype):
    source = Recorded(dtype, tr_s=1.97, coil="HeadNeck_20")
    midnight_comes = datetime(2026, 3, 29, 23, 59, 55)
    written(tmp_path, source, style, midnight_comes)
    own = DicomSeries(tmp_path)
    assert (own.run.tr_s, own.run.shape, own.run.n_volumes) == (1.97, SHAPE, N_VOLUMES)
    np.testing.assert_allclose(own.run.affine, source.run.affine, atol=1e-6)
    assert [volume.data.tolist() for volume in own] == [volume.data.tolist() for volume in source]
    assert [volume.acquired_s for volume in own] == pytest.approx([volume.acquired_s for volume in source], abs=1e-6)


@pytest.mark.parametrize("style", DICOM_STYLES)
@pytest.mark.parametrize("series", ["siemens-cmrr-mosaic", "siemens-xa30", "ge-epirt"])
def test_a_real_series_is_converted_as_what_is_made_of_it(shared_data, tmp_path, series, style):
    """dcm2niix makes the same of the scanner's files and of ours."""
    folder = shared_data / series / "dicom"
    source = open_source(folder)
    for number, content in enumerate(files(source, style)[0]):
        (tmp_path / f"{number}.dcm").write_bytes(content)
    ours = by_dcm2niix(tmp_path, tmp_path / "out")
    theirs = by_dcm2niix(folder, tmp_path / "original")
    (read, where), (expected, there) = (in_world(image.dataobj, image.affine) for image in (ours, theirs))
    np.testing.assert_array_equal(read, expected)
    np.testing.assert_allclose(where, there, atol=1e-3)


def test_left_handed_rows_are_turned_round_and_said(tmp_path):
    source = Recorded(there=affine(-1))
    (note,) = written(tmp_path, source, "slices")
    assert "rows are turned round" in note
    (volume, *_) = DicomSeries(tmp_path)
    assert volume.data.tolist() == source.volumes[0].data[:, ::-1].tolist()
    assert files(source, "mosaic")[1] == ()  # it says its direction


@pytest.mark.parametrize("style", DICOM_STYLES)
def test_numbers_that_are_no_whole_ones_are_rounded_by_a_known_step_and_said(tmp_path, style):
    source = Recorded("float32")
    (note,) = written(tmp_path, source, style)
    assert note.startswith("its voxels are float32, from 0")
    highest = max(float(volume.data.max()) for volume in source)
    step = highest / 32767
    assert float(re.search(r"in steps of ([0-9.e-]+)", note)[1]) == pytest.approx(step, rel=1e-3)
    for ours, theirs in zip(DicomSeries(tmp_path), source, strict=True):
        assert ours.data.dtype == np.float32
        np.testing.assert_allclose(ours.data, theirs.data, atol=step * 0.501)
        assert (ours.data != theirs.data).any()


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=8, max_size=8))
@settings(max_examples=60)
def test_any_numbers_are_stored_to_half_a_step(numbers):
    source = Recorded(n=1)
    data = np.array(numbers, np.float32).reshape(2, 2, 2)
    object.__setattr__(source.volumes[0], "data", data)
    stored, note = stored_as(range_of(source))
    found = stored.of(data)
    assert found.dtype.name == stored.dtype
    error = np.abs(found * stored.slope - data).max()
    assert error <= 0.5 * stored.slope * (1 + 1e-3) if note else error == 0


def with_voxel(number, place, dtype="float32"):
    """A run of which one voxel is this number, in the volume of that index."""
    source = Recorded(dtype)
    data = source.volumes[place].data.copy()
    data[1, 2, 3] = number
    object.__setattr__(source.volumes[place], "data", data)
    return source


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 3, N_VOLUMES - 1])
def test_voxels_that_are_no_numbers_are_refused(number, place):
    with pytest.raises(InputError, match=f"volume {place + 1} has voxels that are no finite number"):
        range_of(with_voxel(number, place))


@pytest.mark.parametrize("style", DICOM_STYLES)
@pytest.mark.parametrize(
    ("factor", "is_refused"), [(1e38, True), (1e300, True), (1e36, False), (1e-34, False), (1e-40, True), (0.0, False)]
)
def test_voxels_that_receivers_could_not_keep_are_refused(tmp_path, style, factor, is_refused):
    source = Recorded("float64")
    for volume in source.volumes:
        object.__setattr__(volume, "data", volume.data * factor)
    if is_refused:
        with pytest.raises(InputError, match="do not fit single precision"):
            files(source, style)
        return
    written(tmp_path, source, style)
    step = stored_as(range_of(source))[0].slope
    for ours, theirs in zip(source, DicomSeries(tmp_path), strict=True):
        assert np.isfinite(theirs.data).all()
        assert abs(theirs.data.max() - ours.data.max()) <= step * 0.51


def test_whole_steps_of_one_round_and_do_not_cut():
    source = with_voxel(32767.0, 2)
    voxels = range_of(source)
    stored, note = stored_as(voxels)
    assert (stored.slope, bool(note)) == (1.0, True)
    for volume in source:
        assert np.abs(stored.of(volume.data) - volume.data).max() <= 0.5


def test_voxels_too_small_for_any_step_are_refused():
    with pytest.raises(InputError, match="too small for steps"):
        stored_as(range_of([Volume("run", 0, 0.0, np.full(SHAPE, 5e-324))]))


@pytest.mark.parametrize("style", DICOM_STYLES)
def test_axes_that_are_not_at_right_angles_are_refused(style):
    sheared = affine()
    sheared[:3, 2] += 0.002 * sheared[:3, 1]
    with pytest.raises(InputError, match="not at right angles"):
        files(Recorded(there=sheared), style)


@pytest.mark.filterwarnings("ignore:The DICOM readers are highly experimental")
def test_the_private_header_is_one_that_nibabel_reads():
    from nibabel.nicom import csareader

    source = Recorded()
    image = pydicom.dcmread(BytesIO(files(source, "mosaic")[0][0]))
    csa = csareader.get_csa_header(image)
    assert csareader.get_n_mosaic(csa) == SHAPE[2]
    third = source.run.affine[:3, 2] * [-1, -1, 1]
    np.testing.assert_allclose(csareader.get_slice_normal(csa), third / np.linalg.norm(third), atol=1e-7)


@pytest.mark.parametrize("n_z", [1, 4, 5, 9])
def test_tiles_lie_row_by_row(n_z):
    volume = np.arange(3 * 2 * n_z).reshape(3, 2, n_z)
    picture, side = tiled(volume), int(np.ceil(np.sqrt(n_z)))
    assert picture.shape == (side * 2, side * 3)
    for z in range(n_z):
        row, column = z // side * 2, z % side * 3
        np.testing.assert_array_equal(picture[row : row + 2, column : column + 3], volume[:, :, z].T)
    assert picture.sum() == volume.sum()


@pytest.mark.parametrize("style", DICOM_STYLES)
def test_nothing_of_a_person_but_the_label_is_written(style):
    contents, _ = files(Recorded(), style)
    for content in contents:
        assert b"doe-jane" not in content
        image = pydicom.dcmread(BytesIO(content))
        assert (image.PatientName, image.PatientID, image.Modality) == ("01", "01", "MR")
        assert not image.get("PatientBirthDate")
    series = {pydicom.dcmread(BytesIO(content)).SOPInstanceUID for content in contents}
    assert len(series) == len(contents)
    again, _ = files(Recorded(), style)
    first, second = (pydicom.dcmread(BytesIO(one[0])) for one in (contents, again))
    assert first.SeriesInstanceUID != second.SeriesInstanceUID


def test_a_label_is_one_value_whatever_it_holds():
    source = Recorded()
    object.__setattr__(source.run, "subject", "a\\b^c=d\n" + "e" * 100)
    image = pydicom.dcmread(BytesIO(files(source, "mosaic")[0][0]))
    assert image.PatientID == "a-b-c-d-" + "e" * 56
