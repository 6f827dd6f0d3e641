"""Masks of one region in several spaces, resolutions or folders: that of the runs' grid is taken, and it is said."""

import nibabel as nib
import numpy as np
import pytest

from calibration.datasets.bids import find_region
from calibration.datasets.dataset_files import DatasetOptions, find_study, find_training
from calibration.datasets.mask_choice import MaskFor, choose_mask
from calibration.training.dry_run import plan_calibration, plan_study
from rtgod.errors import InputError
from rtgod.messages import Run
from rtgod.settings import PipelineSettings

AFFINE = np.array([[3.0, 0, 0, -9], [0, 3, 0, -12], [0, 0, 4, 5], [0, 0, 0, 1]])
FINER = np.diag([2.0, 2, 2, 1])
RUN = Run("run-1", "01", 2.0, (4, 5, 6), AFFINE)
FUNCTIONAL = "sub-01_task-x_run-1_bold.nii.gz"


@pytest.fixture
def image(tmp_path):
    def save(name, data=None, affine=AFFINE):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.ones(RUN.shape, np.uint8) if data is None else data, affine), path)
        return path

    return save


def chosen(paths, file_name=FUNCTIONAL):
    return choose_mask("V1", paths, MaskFor(lambda: RUN, file_name))


def test_a_single_mask_is_taken_without_a_word_whatever_its_grid(image):
    path = image("V1.nii.gz", affine=FINER)
    assert choose_mask("V1", [path], MaskFor(lambda: pytest.fail("opened"), "")) == (path, "")


@pytest.mark.parametrize("first", ["anatomy", "functional"])
@pytest.mark.parametrize("flip", [False, True])
def test_the_mask_in_the_runs_grid_is_taken_and_the_other_named(image, first, flip):
    affine, data = AFFINE.copy(), np.ones(RUN.shape, np.uint8)
    if flip:  # stored the other way round, it lies where it lay
        affine[:, 0], affine[0, 3] = -affine[:, 0], affine[0, 3] + 3 * 3
    functional = image("sub-01_space-bold_label-V1_mask.nii.gz", data, affine)
    anatomy = image("sub-01_space-T1w_label-V1_mask.nii.gz", np.ones((9, 9, 9), np.uint8), FINER)
    path, note = chosen([anatomy, functional] if first == "anatomy" else [functional, anatomy])
    assert path == functional
    assert note == f"region V1: of 2 masks {functional} was taken, the only one in the runs' grid; not {anatomy}"


def test_of_several_in_the_grid_that_of_the_runs_space_and_resolution_is_taken(image):
    other = np.zeros(RUN.shape, np.uint8)
    other[1:3] = 1
    paths = [
        image("sub-01_space-MNI_res-1_label-V1_mask.nii.gz", other),
        image("sub-01_space-MNI_res-2_label-V1_mask.nii.gz"),
        image("sub-01_label-V1_mask.nii.gz", 1 - other),
    ]
    assert chosen(paths, "sub-01_task-x_space-MNI_res-2_bold.nii.gz")[0] == paths[1]
    assert "which is called as the runs are" in chosen(paths)[1]
    assert chosen(paths)[0] == paths[2]


def test_masks_that_fit_alike_and_differ_are_refused_by_name_with_the_option(image):
    paths = [
        image("a/sub-01_label-V1_mask.nii.gz"),
        image("b/sub-01_label-V1_mask.nii.gz", np.eye(30, dtype=np.uint8)[:4].reshape(4, 5, 6)),
    ]
    with pytest.raises(InputError) as refused:
        chosen(paths)
    assert "2 masks that differ lie in the grid of run run-1" in str(refused.value)
    assert "say which is meant with --mask" in str(refused.value)
    assert all(str(path) in str(refused.value) for path in paths)


def test_copies_of_a_mask_are_one(image):
    paths = [image(f"{folder}/sub-01_label-V1_mask.nii.gz") for folder in "ab"]
    path, note = chosen(paths)
    assert path == paths[0]
    assert "the same as 1 other in the runs' grid" in note


def test_where_none_lies_in_the_grid_or_can_be_read_all_are_named(image):
    paths = [image("a/sub-01_label-V1_mask.nii.gz", affine=FINER), image("b/sub-01_label-V1_mask.nii.gz")]
    paths[1].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"none of its 2 masks lies in the grid of run run-1 .*with --mask") as refused:
        chosen(paths)
    assert all(str(path) in str(refused.value) for path in paths)


@pytest.fixture
def dataset(tmp_path, image):
    """A BIDS data set of two runs whose region V1 has a mask in two spaces."""
    (tmp_path / "dataset_description.json").write_text("{}")
    noise = np.random.default_rng(0).integers(0, 900, (*RUN.shape, 30), np.int16)
    for number in (1, 2):
        path = image(f"sub-01/func/sub-01_task-Training_run-{number}_bold.nii.gz", noise)
        path.with_name(path.name.replace("bold.nii.gz", "bold.json")).write_text('{"RepetitionTime": 2.0}')
        rows = "".join(f"{onset}\t6\t{name}\n" for onset, name in zip((6, 20, 34, 48), "abab", strict=True))
        path.with_name(path.name.replace("bold.nii.gz", "events.tsv")).write_text(
            "onset\tduration\ttrial_type\n" + rows
        )
    image("derivatives/rois/sub-01/sub-01_space-MNI_label-V1_mask.nii.gz", np.ones((9, 9, 9), np.uint8), FINER)
    image("derivatives/rois/sub-01/sub-01_space-bold_label-V1_mask.nii.gz")
    return tmp_path


def test_calibrate_and_evaluate_say_which_was_taken(dataset):
    """Of the MNI mask, which comes first by its name, no voxel is read."""
    asked = DatasetOptions(paths=[dataset], subject="01", region="V1")
    inputs = find_training(asked)
    assert [path.name for path in inputs.region.files] == ["sub-01_space-bold_label-V1_mask.nii.gz"]
    plan = plan_calibration(inputs, PipelineSettings())
    assert plan.n_voxels == {"V1": 120}
    study = find_study(asked, "leave-one-run-out")
    for notes in (plan.notes, plan_study(study, PipelineSettings()).notes):
        assert sum("space-bold_label-V1_mask.nii.gz was taken, the only one in the runs' grid" in n for n in notes) == 1


def test_a_mask_elsewhere_of_a_region_that_is_not_asked_for_stops_nothing(dataset, image):
    for folder in "ab":
        image(f"derivatives/{folder}/sub-01_label-V2_mask.nii.gz", np.ones((7, 7, 7), np.uint8), FINER)
    region = find_region(dataset, "01", "V1", MaskFor(lambda: RUN, FUNCTIONAL))
    assert len(region.voxels(RUN)) == 120
    with pytest.raises(InputError, match="region V2: none of its 2 masks"):
        find_region(dataset, "01", "V1 - V2", MaskFor(lambda: RUN, FUNCTIONAL))
