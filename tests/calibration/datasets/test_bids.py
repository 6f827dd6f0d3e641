import os
import shutil

import nibabel as nib
import numpy as np
import pytest

from calibration.datasets.bids import find_masks, find_region, find_runs, read_names, search_runs
from calibration.datasets.mask_choice import MaskFor
from rtgod.errors import InputError

#: Where a region has one image, no run is opened.
NONE = MaskFor(lambda: pytest.fail("a run was opened"), "")
STEM = "sub-01_ses-{}_task-perception_run-{}"


@pytest.fixture
def dataset(tmp_path):
    """Two training runs and a test run of subject 01, a run of subject 02, regions, images and candidates."""
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
    return tmp_path


# ---------------------------------------------------------------- what is found


def test_runs_are_found_in_order_with_their_events(dataset):
    runs = find_runs(dataset, "01", "training")
    assert [run.bold.name for run in runs] == [STEM.format("training", "01") + "_bold.nii",
                                               STEM.format("training", "02") + "_bold.nii.gz"]  # fmt: skip
    assert all(run.events.is_file() and run.events.parent == run.bold.parent for run in runs)
    assert len(find_runs(dataset, "01", "")) == 3


def test_events_of_a_task_may_lie_above_its_runs(dataset):
    (dataset / "dataset_description.json").touch()
    (dataset / "task-perception_events.tsv").touch()
    next(dataset.rglob("*training*01_events.tsv")).unlink()
    first, second = find_runs(dataset, "01", "training")
    assert first.events == dataset / "task-perception_events.tsv"
    assert second.events.parent == second.bold.parent


def test_what_is_missing_of_a_run_is_named_and_the_others_are_found(dataset):
    folder = dataset / "sub-01" / "ses-training" / "func"
    for number in ("04", "05", "06"):
        (folder / f"{STEM.format('training', number)}_bold.nii.gz").touch()
        (folder / f"{STEM.format('training', number)}_events.tsv").touch()
    (folder / f"{STEM.format('training', '02')}_events.tsv").unlink()
    (folder / f"{STEM.format('training', '04')}_bold.nii.gz").unlink()
    link = folder / f"{STEM.format('training', '05')}_bold.nii.gz"
    link.unlink()
    link.symlink_to("../../.git/annex/objects/absent")
    found = search_runs(dataset, "01", "training")
    assert [run.events.name for run in found.runs] == [
        STEM.format("training", number) + "_events.tsv" for number in ("01", "06")
    ]
    assert found.missing == (
        STEM.format("training", "02") + ": images, but no events",
        STEM.format("training", "03") + ": neither images nor events",
        STEM.format("training", "04") + ": events, but no images",
        STEM.format("training", "05") + ": images are a link to nothing; download them (datalad get)",
    )


def test_regions_are_found_wherever_they_lie(tmp_path):
    """By BIDS's names, and by those of ds001246, in which areas have hemispheres and dorsal and ventral parts."""
    names = {
        "derivatives/rois/sub-01/anat": ["hemi-L_space-bold_label-FFA_mask", "hemi-R_space-bold_label-FFA_mask",
                                         "space-bold_label-PPA_mask", "space-T1w_label-PPA_mask"],
        "derivatives/fmriprep/sub-01/func": ["task-x_desc-brain_mask"],
        "sourcedata/sub-01/anat": [f"mask_{side}_{area}" for side in ("LH", "RH")
                                   for area in ("V1d", "V1v", "V2d", "V2v", "V3d", "V3v", "V4", "HVC")],
    }  # fmt: skip
    for folder, files in names.items():
        (tmp_path / folder).mkdir(parents=True)
        for name in files:
            (tmp_path / folder / f"sub-01_{name}.nii.gz").touch()
    found = find_masks(tmp_path, "01")
    assert [path.name for path in found["PPA"][0]] == [f"sub-01_{name}.nii.gz" for name in (
        "space-T1w_label-PPA_mask", "space-bold_label-PPA_mask")]  # fmt: skip
    by_name = {name: [paths[0].name.removeprefix("sub-01_") for paths in parts] for name, parts in found.items()}
    assert by_name["FFA"] == ["hemi-L_space-bold_label-FFA_mask.nii.gz", "hemi-R_space-bold_label-FFA_mask.nii.gz"]
    assert by_name["LH_FFA"] == by_name["FFA"][:1]
    assert by_name["PPA"] == ["space-T1w_label-PPA_mask.nii.gz"]
    assert by_name["RH_V1"] == ["mask_RH_V1d.nii.gz", "mask_RH_V1v.nii.gz"]
    assert sorted(by_name["V1"]) == [f"mask_{side}H_V1{part}.nii.gz" for side in "LR" for part in "dv"]
    assert set(by_name["LVC"]) == {f"mask_{side}H_V{n}{part}.nii.gz" for side in "LR" for n in "123" for part in "dv"}
    assert set(by_name["VC"]) == {f"{name}.nii.gz" for name in names["sourcedata/sub-01/anat"]}
    assert find_masks(tmp_path, "02") == {}


def test_a_region_that_has_an_image_is_not_composed(dataset):
    for area in ("V2", "V3", "V4", "HVC"):
        (dataset / f"derivatives/rois/sub-01/anat/sub-01_label-{area}_mask.nii").touch()
    masks = find_masks(dataset, "01")
    assert [path.name for paths in masks["VC"] for path in paths] == ["sub-01_space-bold_label-VC_mask.nii.gz"]
    assert len(masks["LVC"]) == 3


def test_an_expression_names_the_images_it_needs(dataset):
    region = find_region(dataset, "01", "VC - ROI_V1", NONE)
    assert region.expression == "VC - ROI_V1"
    assert [path.name for path in region.files] == [
        "sub-01_space-bold_label-VC_mask.nii.gz", "sub-01_space-bold_label-V1_mask.nii.gz",
    ]  # fmt: skip


def test_names_are_found_whatever_the_columns_beside_them(tmp_path):
    (tmp_path / "names.tsv").write_text("shown_in\tname\tcategory_id\ntest\tgreen owl\tn1\n\nother\tcafé\tn2\textra\n")
    assert read_names(tmp_path / "names.tsv") == {"n1": "green owl", "n2": "café"}
    assert read_names(None) == {}


# ---------------------------------------------------------------- the published data set, with the images made here


@pytest.fixture(scope="module")
def published(tmp_path_factory, shared_data):
    """The real tables of ds001246's first subject, and small images in place of those that were recorded."""
    root = tmp_path_factory.mktemp("published") / "ds001246"
    shutil.copytree(shared_data / "ds001246", root)
    image = nib.Nifti1Image(np.zeros((4, 4, 4, 213), np.int16), np.diag([3.0, 3, 3, 1]))
    image.to_filename(first := root / "bold.nii.gz")
    for table in root.rglob("*_events.tsv"):
        os.link(first, str(table).replace("_events.tsv", "_bold.nii.gz"))
    return root


@pytest.mark.parametrize(
    ("pattern", "n_sessions", "n_runs", "n_volumes"),
    [("perceptionTraining", 3, 24, 178), ("perceptionTest", 4, 35, 178), ("imageryTest", 3, 20, 213)],
)
def test_every_run_of_the_published_data_set(published, pattern, n_sessions, n_runs, n_volumes):
    found = search_runs(published, "01", pattern)
    assert found.missing == ()
    assert len(found.runs) == n_runs
    assert len({run.bold.parent for run in found.runs}) == n_sessions
    headers = [files.open().run for files in found.runs]
    assert {run.tr_s for run in headers} == {3.0}  # from the sidecar of the task, at the root
    assert len({run.run_id for run in headers}) == n_runs
    ends = {max(block.onset_s + block.duration_s for block in run.blocks) for run in headers}
    assert all(0 <= 3.0 * n_volumes - end <= 15 for end in ends)


def test_a_run_of_the_published_data_set_that_was_not_downloaded_is_named(published):
    lost = next(published.rglob("*Training02*run-05_bold.nii.gz"))
    lost.rename(lost.with_suffix(".away"))
    try:
        found = search_runs(published, "01", "Training")
    finally:
        lost.with_suffix(".away").rename(lost)
    assert len(found.runs) == 23
    assert found.missing == ("sub-01_ses-perceptionTraining02_task-perception_run-05: events, but no images",)


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
        (None, lambda d: find_runs(d / "derivatives", "01", ""), "no subject '01'; subjects found: none"),
        (None, lambda d: find_runs(d, "01", "Rest"), "contains 'Rest'; choose runs with --training"),
        (None, lambda d: find_runs(d, "02", ""), "no .*_bold.nii.gz with events whose name"),
        (without("*_events.tsv"), lambda d: find_runs(d, "01", "training"),
         "contains 'training' .*_run-01: images, but no events, .*_run-02: images, but no events.*; choose runs with"),
        (None, lambda d: find_region(d, "01", "V1 + FFA", NONE),
         "no region 'FFA'; there: V1, VC; .*--region, or .*--mask"),
        (None, lambda d: find_region(d, "02", "V1", NONE), "there: none"),
        (None, lambda d: find_region(d, "01", "V1 +", NONE), "ends before it is complete"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_and_what_to_do(dataset, change, find, what):
    if change:
        change(dataset)
    with pytest.raises(InputError, match=what) as refused:
        find(dataset)
    assert str(dataset) in str(refused.value)


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
