"""Folders of 3-D NIfTI files as runs: order by number, what is missing, what is refused; files that claim too much."""

import gzip
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from calibration.datasets.recordings import list_recordings
from calibration.datasets.runs import find_plain_runs
from rtgod.commands.main import make_app
from rtgod.errors import InputError
from rtgod.sources import open_source
from rtgod.sources.nifti_file import read_layout, read_one
from rtgod.sources.nifti_series import ORDER, NiftiSeries, holds_volumes
from tests.rtgod.sources.dicom.dicoms import save
from tests.rtgod.sources.dicom.test_siemens_mosaic import dicom
from tests.rtgod.sources.test_nifti import make_nifti

EVENTS = "onset\tduration\ttrial_type\n2\t2\tface\n"


def make(folder, numbers, name="vol_{}.nii", **how):
    for number in numbers:
        path = make_nifti(folder / name.format(number), shape=(5, 4, 3), seed=number, **how)
        with_tr(path)


def with_tr(path, tr=2.0):
    """Write the step of the fourth dimension, which nibabel sets for 4-D files alone."""
    raw = bytearray(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    raw[92:96] = np.float32(tr).tobytes()
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)


def numbers_of(source):
    return [(volume.index, int(volume.data.sum())) for volume in source]


def sum_of(path):
    return int(np.asanyarray(nib.load(path).dataobj).sum())


@pytest.mark.parametrize("name", ["vol_{}.nii", "vol{:03d}.nii.gz", "{}.nii"])
def test_volumes_are_in_the_order_of_their_numbers(tmp_path, name):
    make(tmp_path, [8, 9, 10, 100, 11], name)
    source = open_source(tmp_path)
    assert numbers_of(source) == [
        (number - 8, sum_of(tmp_path / name.format(number))) for number in (8, 9, 10, 11, 100)
    ]
    assert source.run.n_volumes == 93
    assert any("88 numbers missing" in note for note in source.notes)
    assert any(ORDER in note and "the first is number 8" in note for note in source.notes)
    assert (source.run.tr_s, source.run.subject) == (2.0, "unknown")


def test_a_run_has_the_name_of_its_voxels_wherever_it_lies(tmp_path):
    make(tmp_path / "sub-01_Doe", range(3), "Doe_{}.nii")
    make(tmp_path / "b", range(3), "Doe_{}.nii")
    make(tmp_path / "c", range(1, 4), "Doe_{}.nii")
    names = [open_source(tmp_path / folder).run.run_id for folder in ("sub-01_Doe", "b", "c")]
    assert names[0] == names[1] != names[2]
    source = open_source(tmp_path / "b", run_id="mine", subject="01")
    assert (source.run.run_id, source.run.subject) == ("mine", "01")
    assert "Doe" not in repr((names, source.acquisition()))


def test_other_files_are_passed_over_and_counted(tmp_path):
    make(tmp_path, range(3))
    make_nifti(tmp_path / "all.nii")
    make_nifti(tmp_path / "T1_1.nii", shape=(9, 9, 9))
    make_nifti(tmp_path / "bold_e1.nii", shape=(5, 4, 3))
    (tmp_path / "vol_1.json").write_text("{")
    (tmp_path / "other_7.nii").write_bytes(b"no image")
    source = open_source(tmp_path)
    assert len(list(source)) == 3
    assert any("4 other NIfTI files passed over" in note for note in source.notes)


def test_a_folder_of_dicom_files_stays_one(tmp_path):
    make(tmp_path, range(4))
    for number in (1, 2):
        save(dicom(number), tmp_path / f"{number}.dcm")
    assert open_source(tmp_path).run.run_id.startswith("series-")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: make(folder, range(3), "b_{}.nii"), "2 runs, of .*: they differ in name, matrix or place"),
        (lambda folder: make(folder, [1], "vol_0{}.nii"), "have the same number; take one of them out"),
        (lambda folder: make(folder, [10**6]), "the numbers of its files go from 0 to 1000000"),
        (lambda folder: (folder / "vol_3.nii").write_bytes(b"cut"), "vol_3.nii: not a readable NIfTI file"),
    ],
)
def test_what_is_ambiguous_is_refused(tmp_path, change, says):
    make(tmp_path, range(3))
    assert len(list(open_source(tmp_path))) == 3
    change(tmp_path)
    with pytest.raises(InputError, match=says):
        open_source(tmp_path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_damaged_volume_is_named(tmp_path, ending):
    make(tmp_path, range(4), f"vol_{{}}{ending}")
    raw = (tmp_path / f"vol_2{ending}").read_bytes()
    (tmp_path / f"vol_2{ending}").write_bytes(raw[:-1])
    with pytest.raises(InputError, match=r"vol_2.*(its voxels cannot be read|not a readable NIfTI file)"):
        list(open_source(tmp_path))


def test_a_folder_whose_volumes_are_all_damaged_names_one(tmp_path):
    make(tmp_path, range(4))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"vol_0\.nii: not a readable NIfTI file"):
        open_source(tmp_path)


def test_two_files_or_files_without_numbers_are_no_run(tmp_path):
    make(tmp_path, range(2))
    assert not holds_volumes(tmp_path)
    with pytest.raises(InputError, match="no DICOM files in it"):
        open_source(tmp_path)
    with pytest.raises(InputError, match="no 3-D NIfTI files in it whose names end in numbers"):
        NiftiSeries(tmp_path)
    make(tmp_path, [2])
    assert holds_volumes(tmp_path)
    for option in ("series", "echo"):
        with pytest.raises(InputError, match=f"--{option}"):
            open_source(tmp_path, **{option: 1})


def test_the_repetition_time_is_the_header_s_or_given(tmp_path):
    make(tmp_path, range(3), unit="unknown")
    with pytest.raises(InputError, match=r"no repetition time, with a unit, .*; give it with --tr"):
        open_source(tmp_path)
    assert open_source(tmp_path, tr_s=1.5).run.tr_s == 1.5
    make(tmp_path, range(3))
    with pytest.raises(InputError, match=r"--tr 3 s contradicts the 2 s of .*pixdim\[4\]"):
        open_source(tmp_path, tr_s=3.0)


def test_events_in_the_folder_are_its_trials_and_replay_says_how_it_is_ordered(tmp_path):
    make(tmp_path, range(3))
    (tmp_path / "events.tsv").write_text(EVENTS)
    assert len(open_source(tmp_path).run.blocks) == 1
    result = CliRunner().invoke(make_app(), ["replay", str(tmp_path), "--dry-run"])
    assert result.exit_code == 0
    said = " ".join(result.output.split())
    assert ORDER in said
    assert "3 volumes of 5 × 4 × 3, TR 2 s, 1 trial" in said


def test_folders_of_volumes_are_calibrated_on(tmp_path):
    for n, name in enumerate(("a", "b_bold")):
        make(tmp_path / name, range(10 * n, 10 * n + 3), "bold_{}.nii")
        (tmp_path / name / "events.tsv").write_text(EVENTS)
    assert list_recordings(tmp_path / "a").runs == (tmp_path / "a",)
    found = find_plain_runs([tmp_path]).runs
    assert [run.bold.name for run in found] == ["a", "b_bold"]
    assert [run.open().run.run_id for run in found] == [run.run_id for run in found]
    make_nifti(tmp_path / "run_bold.nii")
    recordings = list_recordings(tmp_path)
    assert [run.name for run in recordings.runs] == ["run_bold.nii"]
    assert "a: 3-D NIfTI files beside 4-D ones, which may be the same runs; give the folder by itself" in (
        recordings.passed_over
    )


# ---------------------------------------------------------------- files that claim too much


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    ("at", "value"),
    [
        (42, np.array([30000, 30000, 30000], "<i2")),  # dim
        (42, np.array([1024, 1024, 8], "<i2")),
        (108, np.array([2**30], "<f4")),  # vox_offset
        (108, np.array([2**26], "<f4")),
    ],
)
def test_no_header_makes_it_take_much_memory(tmp_path, ending, at, value):
    raw = bytearray(make_nifti(tmp_path / "x.nii", shape=(5, 4, 3)).read_bytes())
    raw[at : at + value.nbytes] = value.tobytes()
    raw += bytes(2**25) if ending else b""  # which compresses to 32 kB
    path = tmp_path / f"vol_1.nii{ending}"
    path.write_bytes(gzip.compress(raw, mtime=0) if ending else raw)
    del raw
    tracemalloc.start()
    try:
        try:
            assert read_one(path, read_layout(path)) is None or (ending and value[0] == 1024)
        except InputError as error:
            assert str(error)  # noqa: PT017 # whether it is raised depends on the header
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
