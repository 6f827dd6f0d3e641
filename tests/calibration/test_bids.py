import gzip

import nibabel as nib
import numpy as np
import pytest

from calibration.bids import find_candidates, find_images, find_mask, find_runs, read_mask, read_names
from rtgod.errors import InputError
from rtgod.messages import Run

AFFINE = np.array([[3.0, 0, 0, -9], [0, 3, 0, -12], [0, 0, 4, 5], [0, 0, 0, 1]])
RUN = Run("run-1", "01", 2.0, (4, 5, 6), AFFINE)
STEM = "sub-01_ses-{}_task-perception_run-{}"


@pytest.fixture
def dataset(tmp_path):
    """Two training runs and a test run of subject 01, a run of subject 02, a region, images and candidates."""
    for session, number, suffix in (
        ("training", "02", ".nii.gz"),
        ("training", "01", ".nii"),
        ("test", "01", ".nii.gz"),
    ):
        folder = tmp_path / "sub-01" / f"ses-{session}" / "func"
        folder.mkdir(parents=True, exist_ok=True)
        stem = STEM.format(session, number)
        for name in (f"{stem}_bold{suffix}", f"{stem}_bold.json", f"{stem}_events.tsv"):
            (folder / name).touch()
    (tmp_path / "sub-02").mkdir()
    rois = tmp_path / "derivatives" / "rois" / "sub-01" / "anat"
    rois.mkdir(parents=True)
    for region in ("V1", "VC"):
        (rois / f"sub-01_space-bold_label-{region}_mask.nii.gz").touch()
    for name in (
        "shown/a_1.JPEG",
        "shown/b_2.png",
        "candidates/a/a_9.png",
        "candidates/b/b_9.jpg",
        "candidates/b/x.txt",
    ):
        (tmp_path / "stimuli" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "stimuli" / name).touch()
    return tmp_path


def mask_image(folder, data=None, affine=AFFINE, name="mask.nii.gz"):
    data = np.ones(RUN.shape, np.uint8) if data is None else data
    nib.save(nib.Nifti1Image(data, affine), folder / name)
    return folder / name


# ---------------------------------------------------------------- what is found


def test_runs_are_found_in_order_with_their_events(dataset):
    runs = find_runs(dataset, "01", "training")
    assert [run.bold.name for run in runs] == [STEM.format("training", "01") + "_bold.nii",
                                               STEM.format("training", "02") + "_bold.nii.gz"]  # fmt: skip
    assert all(run.events.is_file() and run.events.parent == run.bold.parent for run in runs)
    assert len(find_runs(dataset, "01", "")) == 3


def test_masks_images_and_candidates_are_found(dataset):
    assert find_mask(dataset, "01", "V1").name == "sub-01_space-bold_label-V1_mask.nii.gz"
    assert {"a_1", "b_2"} <= set(find_images(dataset / "stimuli"))
    assert [(c, p.name) for c, p in find_candidates(dataset / "stimuli" / "candidates")] == [
        ("a", "a_9.png"), ("b", "b_9.jpg"),
    ]  # fmt: skip


def test_a_mask_is_its_voxels(tmp_path):
    data = np.zeros(RUN.shape, np.float32)
    data[3, 4, 5], data[1, 0, 2], data[0, 0, 0] = 0.5, 1, -1
    voxels = read_mask(mask_image(tmp_path, data), RUN)
    assert voxels.tolist() == [[1, 0, 2], [3, 4, 5]]
    assert voxels.dtype == np.int32
    rounded = AFFINE + np.array([0.004, 0, 0, 0])  # as headers round
    assert len(read_mask(mask_image(tmp_path, data, rounded), RUN)) == 2


def test_names_are_found_whatever_the_columns_beside_them(tmp_path):
    (tmp_path / "names.tsv").write_text("shown_in\tname\tcategory_id\ntest\tgreen owl\tn1\n\nother\tcafé\tn2\textra\n")
    assert read_names(tmp_path / "names.tsv") == {"n1": "green owl", "n2": "café"}
    assert read_names(None) == {}


# ---------------------------------------------------------------- what is missing


def without(*patterns):
    def change(dataset):
        for pattern in patterns:
            for path in dataset.rglob(pattern):
                path.unlink()

    return change


@pytest.mark.parametrize(
    ("change", "find", "what"),
    [
        (None, lambda d: find_runs(d / "nowhere", "01", ""), "nowhere: no such folder; give the root of a BIDS"),
        (None, lambda d: find_runs(d, "03", ""), "no subject '03'; subjects found: 01, 02"),
        (None, lambda d: find_runs(d / "stimuli", "01", ""), "no subject '01'; subjects found: none"),
        (None, lambda d: find_runs(d, "01", "Rest"), "contains 'Rest'; choose runs with --training"),
        (None, lambda d: find_runs(d, "02", ""), "no .*_bold.nii.gz whose name"),
        (without("*training*02_events.tsv"), lambda d: find_runs(d, "01", ""),
         "runs without events: sub-01_ses-training_task-perception_run-02_events.tsv; add them or"),
        (None, lambda d: find_mask(d, "01", "FFA"), "no mask of region 'FFA' for subject 01; there: V1, VC; .*--mask"),
        (None, lambda d: find_mask(d, "02", "V1"), "there: none"),
        (None, lambda d: find_images(d / "sub-01"), "no images; give the folder of the shown images with --images"),
        (None, lambda d: find_images(d / "nowhere"), "no images"),
        (None, lambda d: find_candidates(d / "nowhere"), "at least two categories; see --candidates"),
        (None, lambda d: find_candidates(d / "stimuli" / "shown"), "at least two categories"),
        (without("b_9.jpg"), lambda d: find_candidates(d / "stimuli" / "candidates"), "at least two categories"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_and_what_to_do(dataset, change, find, what):
    if change:
        change(dataset)
    with pytest.raises(InputError, match=what) as refused:
        find(dataset)
    assert str(dataset) in str(refused.value)


def cut(folder):
    rng = np.random.default_rng(0)
    path = mask_image(folder, rng.integers(0, 2, RUN.shape).astype(np.float64))
    path.write_bytes(path.read_bytes()[:-60])
    return path


def damaged(folder):
    path = mask_image(folder, np.random.default_rng(0).random(RUN.shape))
    content = bytearray(path.read_bytes())
    content[12:40] = bytes([255]) * 28
    path.write_bytes(content)
    return path


def text(folder):
    (folder / "mask.nii.gz").write_bytes(gzip.compress(b"no image"))
    return folder / "mask.nii.gz"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda d: mask_image(d, np.ones((4, 5, 7), np.uint8)), "differ from those of run run-1 .*; resample it"),
        (lambda d: mask_image(d, np.ones((*RUN.shape, 1), np.uint8)), "resample it"),
        (lambda d: mask_image(d, affine=AFFINE + np.eye(4) * [1, 0, 0, 0]), "resample it"),
        (lambda d: mask_image(d, np.zeros(RUN.shape, np.uint8)), "no voxel above 0"),
        (lambda d: d / "none.nii.gz", "cannot be read"),
        (cut, "cannot be read"),
        (damaged, "cannot be read"),
        (text, "cannot be read"),
    ],
    ids=["shape", "four axes", "affine", "empty", "missing", "cut short", "damaged", "no image"],
)
def test_a_mask_that_does_not_fit_is_refused(tmp_path, make, what):
    path = make(tmp_path)
    with pytest.raises(InputError, match=what) as refused:
        read_mask(path, RUN)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "cannot be read"),
        (b"", "needs tab-separated columns category_id and name"),
        (b"category_id,name\nn1,owl\n", "needs tab-separated columns category_id and name"),
        (b"category_id\tlabel\nn1\towl\n", "needs tab-separated columns category_id and name"),
        (b"category_id\tname\nn1\towl\nn2\n", "line 3 has too few columns"),
        (b"category_id\tname\nn1\t\xff\n", "cannot be read"),
    ],
)
def test_a_table_of_names_that_cannot_be_used_is_refused(tmp_path, content, what):
    path = tmp_path / "names.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=what) as refused:
        read_names(path)
    assert str(path) in str(refused.value)
