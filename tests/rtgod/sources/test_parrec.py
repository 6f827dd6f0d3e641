"""Philips PAR and REC files: places and numbers are dcm2niix's and nibabel's, gaps are said, and names are not."""

import contextlib
import subprocess
import warnings
from pathlib import Path

import dcm2niix
import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibration.datasets.recordings import list_recordings
from calibration.datasets.runs import find_plain_runs
from rtgod.errors import InputError
from rtgod.sources import open_source
from tests.rtgod.sources.parrecs import PLANTED, TR_S, write_parrec

SHAPE = (8, 7, 5)
EVENTS = "onset\tduration\ttrial_type\n2\t2\tface\n"


def voxels(n_volumes=4, shape=SHAPE, dtype="uint16", high=900):
    rng = np.random.default_rng(3)
    return [rng.integers(0, high, shape).astype(dtype) for _ in range(n_volumes)]


def converted(path, out, *options):
    """The NIfTI file that dcm2niix makes of the first echo's magnitudes."""
    out.mkdir()
    subprocess.run([dcm2niix.bin, *options, "-f", "run", "-o", out, path], check=True, stdout=subprocess.DEVNULL)
    names = ["run.nii", "run_e1.nii"]
    return next(nib.load(out / name) for name in names if (out / name).exists())


def read_by_nibabel(path):
    """The voxels and the affine that nibabel reads; it leaves the file open."""
    image = nib.load(path, permit_truncated=True, strict_sort=True)
    try:
        return image.get_fdata(), image.affine
    finally:
        image.dataobj.file_like.close()


def same_as(source, image, most_mm=1e-3, factor=1.0):
    """Every voxel is where a NIfTI file has it, with the same number but for a factor."""
    values = np.asarray(image.dataobj, dtype=np.float64)
    values = values.reshape(*values.shape[:3], -1)
    ours = np.linalg.inv(source.run.affine) @ image.affine
    indices = np.indices(values.shape[:3]).reshape(3, -1)
    exact = ours[:3, :3] @ indices + ours[:3, 3:]
    places = np.rint(exact).astype(int)
    assert np.abs(source.run.affine[:3, :3] @ (exact - places)).max() < most_mm
    volumes = list(source)
    assert len(volumes) == values.shape[3]
    for volume, theirs in zip(volumes, np.moveaxis(values, 3, 0), strict=True):
        np.testing.assert_allclose(factor * volume.data[tuple(places)].reshape(theirs.shape), theirs, rtol=1e-5)


@pytest.mark.parametrize("version", ["V4", "V4.1", "V4.2"])
@pytest.mark.parametrize("n_echoes", [1, 2])
@pytest.mark.parametrize("with_phase", [False, True], ids=["", "phase"])
def test_numbers_and_places_are_those_of_dcm2niix(tmp_path, version, n_echoes, with_phase):
    made = voxels()
    path = write_parrec(tmp_path / "x.PAR", made, version=version, n_echoes=n_echoes, with_phase=with_phase)
    source = open_source(path, echo=1 if n_echoes > 1 else None)
    same_as(source, converted(path, tmp_path / "out"))
    assert [volume.data.tolist() for volume in source] == [volume.tolist() for volume in made]
    assert [(volume.index, volume.acquired_s) for volume in source] == [(n, n * TR_S) for n in range(4)]
    assert (source.run.tr_s, source.run.n_volumes, next(iter(source)).data.dtype) == (TR_S, 4, np.uint16)
    assert sum("are no magnitudes" in note for note in source.notes) == with_phase
    assert sum("half a voxel" in note for note in source.notes) == (version == "V4")
    if n_echoes > 1:
        assert next(iter(open_source(path, echo=2))).data.tolist() == (made[0] + 1000).tolist()


def test_rescaled_numbers_are_those_that_the_console_shows(tmp_path):
    made = voxels()
    path = write_parrec(tmp_path / "x.PAR", made, scale=(1.29035, -3.5, 0.0042))
    source = open_source(path)
    same_as(source, converted(path, tmp_path / "console", "-p", "n"))
    expected, _ = read_by_nibabel(path)
    for volume in source:
        assert volume.data.dtype == np.float32
        np.testing.assert_allclose(volume.data, expected[..., volume.index], rtol=1e-5)
    assert source.notes == ()


def test_voxels_of_8_bits_are_read(tmp_path):
    made = voxels(dtype="uint8", high=250)
    source = open_source(write_parrec(tmp_path / "x.PAR", made))
    assert [volume.data.tolist() for volume in source] == [volume.tolist() for volume in made]


def test_a_real_series_becomes_itself(tmp_path, shared_data):
    real = open_source(shared_data / "studyforrest-localizer" / "sub-02_task-oneback_run-1_bold.nii.gz")
    made = [volume.data.astype(np.uint16) for volume, _ in zip(real, range(4), strict=False)]
    path = write_parrec(tmp_path / "x.PAR", made, n_echoes=2, with_phase=True)
    source = open_source(path, echo=1)
    same_as(source, converted(path, tmp_path / "out"))
    assert [volume.data.tobytes() for volume in source] == [volume.tobytes() for volume in made]


def phantoms():
    from nibabel.testing import data_path

    return [*sorted(Path(data_path).glob("*EPI*.PAR")), Path(data_path) / "phantom_fake_v4.PAR"]


@pytest.mark.parametrize("phantom", phantoms(), ids=lambda path: path.stem)
def test_real_headers_in_every_direction_lie_where_nibabel_and_dcm2niix_put_them(tmp_path, phantom):
    path = tmp_path / "x.PAR"
    path.write_bytes(phantom.read_bytes())
    if phantom.with_suffix(".REC").exists():
        path.with_suffix(".REC").write_bytes(phantom.with_suffix(".REC").read_bytes())
    else:
        n_columns, n_rows = (80, 80) if "Phantom" in phantom.name else (64, 64)
        n_images = sum(line[:3].strip().isdecimal() for line in phantom.read_text().splitlines())
        numbers = np.random.default_rng(1).integers(0, 3000, n_columns * n_rows * n_images)
        path.with_suffix(".REC").write_bytes(numbers.astype("<u2").tobytes())
    source = open_source(path)
    expected, affine = read_by_nibabel(path)
    shift = np.eye(4)
    shift[:2, 3] = -0.5 if "v4" in phantom.stem and "_1" not in phantom.stem else 0
    np.testing.assert_allclose(source.run.affine, affine @ shift, atol=1e-9)
    expected = expected.reshape(*source.run.shape, -1)
    for volume in source:
        np.testing.assert_allclose(volume.data, expected[..., volume.index], rtol=1e-5)
    # dcm2niix takes the distance of slices from places that the scanner rounded to 0.01 mm.
    image = converted(path, tmp_path / "out", "-p", "n")
    same_as(source, image, most_mm=0.02)


def test_what_nibabel_permits_to_be_truncated_is_counted():
    from nibabel.testing import data_path

    source = open_source(Path(data_path) / "phantom_truncated.PAR")
    (note,) = source.notes
    assert "it speaks of 4 dynamics, and its last volume is number 3" in note
    assert len(list(source)) == 3


@pytest.mark.parametrize(
    ("without", "indices", "says"),
    [
        ([(4, 5), (4, 4)], [0, 1, 2], "1 volume without all slices"),
        ([(2, 3)], [0, 2, 3], "1 volume without all slices"),
        ([(2, None)], [0, 2, 3], "1 volume missing between the first and the last"),
        ([(1, None)], [1, 2, 3], "its first volume is number 2"),
        ([(4, None)], [0, 1, 2], "speaks of 4 dynamics, and its last volume is number 3"),
    ],
)
def test_what_is_missing_leaves_a_gap_and_is_said(tmp_path, without, indices, says):
    made = voxels()
    source = open_source(write_parrec(tmp_path / "x.PAR", made, without=without))
    assert [volume.index for volume in source] == indices
    assert [volume.data.tolist() for volume in source] == [made[index].tolist() for index in indices]
    assert any(says in note for note in source.notes)
    assert open_source(write_parrec(tmp_path / "whole.PAR", made)).notes == ()


def test_a_voxel_file_that_is_cut_short_loses_its_last_volumes(tmp_path):
    made = voxels()
    path = write_parrec(tmp_path / "x.PAR", made)
    rec = path.with_suffix(".REC")
    rec.write_bytes(rec.read_bytes()[:-1])
    source = open_source(path)
    assert [volume.index for volume in source] == [0, 1, 2]
    assert any("1 volume without all slices" in note for note in source.notes)
    rec.write_bytes(b"")
    with pytest.raises(InputError, match="no volume has all of its 5 slices"):
        open_source(path)
    rec.unlink()
    with pytest.raises(InputError, match=r"no \.REC file"):
        open_source(path)


def test_images_in_another_order_are_found_by_their_index(tmp_path):
    made = voxels()
    path = write_parrec(tmp_path / "x.PAR", made)
    head, _, rest = path.read_text().partition("IMAGE INFORMATION ====")
    first, *lines = rest.split("\n")
    images = [line for line in lines if line.strip() and not line.startswith("#")]
    path.write_text(head + "IMAGE INFORMATION ====" + first + "\n" + "\n".join(images[::-1]) + "\n# END\n")
    assert [volume.data.tolist() for volume in open_source(path)] == [volume.tolist() for volume in made]


def fields(line, **changes):
    """Change fields of an image's line, by their positions."""
    words = line.split()
    for position, word in changes.items():
        words[int(position[1:])] = word
    return " ".join(words)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"n_echoes": 2}, r"images of 2 echoes \(1: 10 ms, 2: 20 ms\); choose one with --echo N"),
        ({"tr_ms": "3000"}, "its repetition time is 2 s in .* and 3 s in"),
        ({"change": lambda line, _: fields(line, _4="11")}, "no magnitude images"),
        ({"change": lambda line, _: fields(line, _6="0")}, "lie at one place"),
        ({"change": lambda line, dynamic: fields(line, _2=str((dynamic + 1) // 2))}, "slices that come twice"),
        ({"change": lambda line, dynamic: fields(line, _2=str((dynamic + 1) // 2), _3=str(dynamic))}, "cardiac phases"),
        ({"change": lambda line, dynamic: fields(line, _9=str(dynamic))}, "differ in recon resolution"),
        ({"change": lambda line, _: fields(line, _9="4096")}, "at most 1024 voxels"),
        ({"change": lambda line, _: fields(line, _7="32")}, "neither 8 nor 16 bits"),
        ({"change": lambda line, _: fields(line, _28="0.0")}, "span no volume"),
        ({"change": lambda line, _: fields(line, _2="0")}, "dynamics are numbered 0 to 0"),
        ({"change": lambda line, _: fields(line, _0="one")}, "not a readable PAR file"),
        ({"orientation": 4}, "does not say where its voxels are"),
    ],
)
def test_what_cannot_be_used_says_why(tmp_path, how, says):
    path = write_parrec(tmp_path / "x.PAR", voxels(), **how)
    with pytest.raises(InputError, match=says):
        open_source(path)


def test_the_repetition_time_is_when_dynamics_began(tmp_path):
    path = write_parrec(tmp_path / "x.PAR", voxels(), tr_ms="3000")
    assert open_source(path, tr_s=2.0).run.tr_s == 2.0
    two = write_parrec(tmp_path / "two.PAR", voxels(), tr_ms="2000.0  500.0")
    assert open_source(two).run.tr_s == 2.0
    with pytest.raises(InputError, match="--series"):
        open_source(two, series=1)


def test_no_name_leaves_the_files(tmp_path):
    path = write_parrec(tmp_path / f"{PLANTED[4]}.PAR", voxels(), with_phase=True, n_dynamics=9)
    source = open_source(path)
    assert source.run.run_id.startswith("parrec-5-")
    assert source.run.subject == "unknown"
    said = repr((source.run, source.acquisition(), [*source]))
    notes = "".join(source.notes).replace(str(path), "")  # which whoever replays it has given
    assert source.notes
    assert not [planted for planted in PLANTED if planted in said + notes]
    for at in range(10, 45):
        lines = path.read_text().split("\n")
        lines[at] = lines[at].replace(":   ", ":").replace("[", "").upper() + " \ufeff"
        damaged = tmp_path / "x.par"
        damaged.write_text("\n".join(lines))
        damaged.with_suffix(".rec").write_bytes(path.with_suffix(".REC").read_bytes())
        with contextlib.suppress(InputError):
            open_source(damaged)
        try:
            open_source(damaged)
        except InputError as error:
            assert not [planted for planted in PLANTED if planted.upper() in str(error).upper()]  # noqa: PT017


def test_a_folder_of_them_is_calibrated_on(tmp_path):
    for number in (1, 2):
        path = write_parrec(tmp_path / f"run-{number}.PAR", voxels())
        path.write_text(
            path.read_text().replace("nr                     :   5", f"nr                     :   {number}")
        )
        (tmp_path / f"run-{number}_events.tsv").write_text(EVENTS)
    write_parrec(tmp_path / "T1.PAR", voxels(1))
    assert [run.name for run in list_recordings(tmp_path).runs] == ["run-1.PAR", "run-2.PAR"]
    found = find_plain_runs([tmp_path]).runs
    assert [run.open().run.run_id for run in found] == [run.run_id for run in found]
    assert [run.run_id[:9] for run in found] == ["parrec-1-", "parrec-2-"]
    assert len(found[0].open().run.blocks) == 1
    (tmp_path / "copy.PAR").write_bytes((tmp_path / "run-1.PAR").read_bytes())
    (tmp_path / "copy_events.tsv").write_text(EVENTS)
    with pytest.raises(InputError, match="are of one acquisition"):
        find_plain_runs([tmp_path])


@given(
    at=st.integers(0, 12_000), value=st.integers(0, 255), cut=st.integers(0, 12_000), cut_rec=st.integers(0, 5000),
    is_cut=st.booleans(),
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_no_bytes_break_it(tmp_path, at, value, cut, cut_rec, is_cut):
    good = tmp_path / "good.PAR"
    if not good.exists():
        write_parrec(good, voxels(), with_phase=True, scale=(2.0, 1.0, 0.5))
    raw = bytearray(good.read_bytes())
    raw[at % len(raw)] = value
    path = tmp_path / "x.PAR"
    path.write_bytes(raw[:cut] if is_cut else raw)
    path.with_suffix(".REC").write_bytes(good.with_suffix(".REC").read_bytes()[cut_rec if is_cut else 0 :])
    with contextlib.suppress(InputError), warnings.catch_warnings():
        warnings.simplefilter("error")
        for volume in open_source(path):
            assert volume.data.ndim == 3
