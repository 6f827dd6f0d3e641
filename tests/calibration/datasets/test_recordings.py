"""What a path stands for: files, folders of DICOM files, folders of such."""

import nibabel as nib
import numpy as np
import pytest

from calibration.datasets.recordings import list_recordings
from calibration.datasets.run_patterns import RunPatterns
from calibration.datasets.runs import find_plain_runs
from rtgod.errors import InputError
from tests.rtgod.sources.dicom.test_siemens_mosaic import make_series

EVENTS = "onset\tduration\ttrial_type\n2\t2\tface\n"


def nifti(path, n_volumes=3):
    shape = (4, 4, 4, n_volumes) if n_volumes else (4, 4, 4)
    image = nib.Nifti1Image(np.zeros(shape, np.int16), np.diag([3.0, 3, 3, 1]))
    image.header.set_xyzt_units("mm", "sec")
    if n_volumes:
        image.header.set_zooms((3, 3, 3, 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def dicom(folder, n=2, uid="1.2.3", number=7, hour="10"):
    folder.mkdir(parents=True)
    for k in range(1, n + 1):
        make_series(folder, [k], SeriesInstanceUID=uid, SeriesNumber=number, AcquisitionTime=f"{hour}00{2 * k:02d}.5")
    return folder


def names(path):
    found = list_recordings(path)
    return [run.relative_to(path).as_posix() for run in found.runs], found.passed_over


def test_files_as_dcm2niix_names_them_are_runs_and_single_volumes_are_none(tmp_path):
    for name in ("4_localizer_run1.nii", "5_localizer_run2.nii.gz"):
        nifti(tmp_path / name)
    nifti(tmp_path / "2_T1.nii", n_volumes=0)
    nifti(tmp_path / "3_sbref.nii", n_volumes=1)
    (tmp_path / "broken.nii").write_bytes(b"no image")
    assert names(tmp_path) == (["4_localizer_run1.nii", "5_localizer_run2.nii.gz"], ())


def test_where_some_files_are_called_bold_the_others_are_named(tmp_path):
    nifti(tmp_path / "a_bold.nii")
    nifti(tmp_path / "b.nii")
    nifti(tmp_path / "c.nii")
    (tmp_path / "b_events.tsv").write_text(EVENTS)
    assert names(tmp_path) == (["a_bold.nii"], ('b.nii: no "bold" in its name, as others have; give it by itself',))


def test_a_folder_of_dicom_files_is_a_run_and_a_folder_of_such_several(tmp_path):
    for k in (1, 2):
        dicom(tmp_path / f"run-{k}" / "dicom", uid=f"1.2.{k}", number=k, hour=f"1{k}")
        (tmp_path / f"run-{k}" / "events.tsv").write_text(EVENTS)
    assert names(tmp_path) == (["run-1/dicom", "run-2/dicom"], ())
    found = find_plain_runs([tmp_path], pattern="run-2")
    assert [(run.bold.parent.name, run.events.parent.name) for run in found.runs] == [("run-2", "run-2")]
    run = found.runs[0].open().run
    assert (run.n_volumes, len(run.blocks), run.run_id) == (2, 1, found.runs[0].run_id)
    assert run.run_id.startswith("series-2-")  # as it is when it is replayed
    both = find_plain_runs([tmp_path / "run-1" / "dicom", tmp_path / "run-2" / "dicom"]).runs
    assert len({files.run_id for files in both}) == 2


def test_dicom_files_beside_the_nifti_file_made_of_them_are_not_taken_twice(tmp_path):
    nifti(tmp_path / "run1.nii")
    dicom(tmp_path / "dicom")
    runs, passed_over = names(tmp_path)
    assert runs == ["run1.nii"]
    assert passed_over == (
        "dicom: DICOM files beside NIfTI files, which may be the same runs; give the folder by itself",
    )


@pytest.mark.parametrize("other", [{"uid": "1.2.3"}, {"uid": "1.2.9"}], ids=["a copy", "an echo"])
def test_two_folders_of_one_acquisition_are_no_two_runs(tmp_path, other):
    for name, changes in (("a", {}), ("b", other)):
        dicom(tmp_path / name, **changes)
        (tmp_path / name / "events.tsv").write_text(EVENTS)
    with pytest.raises(InputError, match="are of one acquisition"):
        find_plain_runs([tmp_path])


def test_runs_are_chosen_from_files_that_are_listed(tmp_path):
    files = [nifti(tmp_path / f"run{k}.nii") for k in range(1, 13)]
    (tmp_path / "events.tsv").write_text(EVENTS)
    found = find_plain_runs(files, pattern="run1")
    assert [run.bold.name for run in found.runs] == ["run1.nii"]
    says = r"no run with 'run77' in its name: --training run77; there: run1.nii, run10.nii"
    with pytest.raises(InputError, match=says):
        find_plain_runs(files, pattern="run77")
    several = RunPatterns.parse(["run1", str(files[2])])
    assert [run.bold.name for run in find_plain_runs(files, pattern=several).runs] == ["run1.nii", "run3.nii"]
    with pytest.raises(InputError, match=r"no run with 'run77' in its name; there: run1.nii"):
        find_plain_runs(files, pattern=RunPatterns.parse(["run1", "run77"]))


def test_folders_above_do_not_choose_runs_that_are_told_apart_without_them(tmp_path):
    files = [nifti(tmp_path / "Training_run-1" / name) for name in ("run-1.nii", "run-2.nii")]
    (tmp_path / "Training_run-1" / "events.tsv").write_text(EVENTS)
    assert [run.bold.name for run in find_plain_runs(files, pattern="run-1").runs] == ["run-1.nii"]
    others = [nifti(tmp_path / f"run-{k}" / "bold.nii") for k in (1, 2)]
    for path in others:
        path.with_name("events.tsv").write_text(EVENTS)
    assert [run.bold for run in find_plain_runs(others, pattern="run-1").runs] == others[:1]


def test_a_real_folder_of_mosaics_is_a_run(shared_data):
    for path in (shared_data / "siemens-run", shared_data / "siemens-run" / "dicom"):
        (files,) = find_plain_runs([path]).runs
        assert files.events == shared_data / "siemens-run" / "events.tsv"
        assert (files.open().run.n_volumes, len(files.open().run.blocks)) == (155, 7)


def test_a_folder_of_single_slices_is_a_run(shared_data, tmp_path):
    (tmp_path / "run").mkdir()
    for path in (shared_data / "ge-epirt" / "dicom").iterdir():
        (tmp_path / "run" / path.name).symlink_to(path)
    (tmp_path / "run" / "events.tsv").write_text("onset\tduration\ttrial_type\n0\t4\tface\n")
    (run,) = find_plain_runs([tmp_path]).runs
    assert run.open().run.shape == (64, 64, 32)
