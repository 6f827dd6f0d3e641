import hashlib
import json

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from calibration.simulation import dataset
from calibration.simulation.dataset import simulate
from calibration.simulation.head import REGIONS, UNIONS
from calibration.simulation.objects import object_categories
from calibration.simulation.scanner import slice_times_s
from calibration.simulation.settings import StimulusSettings, SubjectSettings
from calibration.simulation.truth import read_settings
from rtgod.errors import InputError
from rtgod.events.table import read_trials
from rtgod.preprocessing.registration import Registration
from rtgod.settings import MotionSettings
from rtgod.sources import open_source
from tests import naive
from tests.subjects import SILENT, STILL

#: One training and one imagery run.
TINY = SubjectSettings(
    shape=(32, 32, 25),
    voxel_mm=(6.0, 6.0, 6.0),
    n_test_runs=0,
    n_imagery_runs=1,
    stimuli=StimulusSettings(
        n_images_per_category=1, n_test_categories=20, n_other_categories=0, n_images_per_candidate=1, size_px=32
    ),
)
RUN = "sub-01_ses-perceptionTraining01_task-perception_run-01"


class Pixels:
    """Stands in for the network: what is shown here does not depend on it, and it takes long."""

    def __init__(self, network):
        self.layers = network.layers

    def extract(self, images, progress):
        thumbs = np.stack([np.asarray(Image.open(path).resize((8, 8))).ravel() for path in images])
        progress(len(images))
        return {layer: thumbs.astype(np.float32) for layer in self.layers}


@pytest.fixture
def pixels(monkeypatch):
    monkeypatch.setattr(dataset, "FeatureExtractor", Pixels)


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def table(path):
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


# ---------------------------------------------------------------- the same bytes, or nothing


@pytest.mark.usefixtures("pixels")
def test_the_bytes_are_the_seed_s_whatever_the_number_of_workers(tmp_path):
    for name, changes, n_workers in (("one", {}, 1), ("two", {}, 2), ("other", {"seed": 1, "n_imagery_runs": 0}, 2)):
        simulate(tmp_path / name, TINY.model_copy(update=changes), n_workers)
    one, two, other = (digests(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert sum(path.startswith("sub-") for path in one) == 2 * sum(path.startswith("sub-") for path in other) == 4
    same = {path for path in one if one[path] == other.get(path)}
    assert not [path for path in same if path.endswith((".nii.gz", ".png", "events.tsv", ".safetensors"))]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other", "two"]  # nothing is left beside them


@pytest.mark.parametrize("error", [RuntimeError, OSError])
def test_what_fails_leaves_nothing_behind(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error("on the way")

    monkeypatch.setattr("calibration.simulation.truth.build_head", fail)
    with pytest.raises(InputError if error is OSError else error, match="on the way"):
        simulate(tmp_path / "subject", TINY, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("pixels")
def test_a_null_subject_is_scanned_like_any_other_and_lacks_what_it_is_named_for(tmp_path):
    """In silence, the whole visual cortex of a subject without signal stays as it is, and nobody else's does."""
    quiet = TINY.model_copy(update={"noise": SILENT, "motion": STILL, "n_imagery_runs": 0})
    for null in ("", "no-signal"):
        simulate(tmp_path / f"{null}subject", quiet.model_copy(update={"null": null}), 1)
        root = tmp_path / f"{null}subject"
        run = np.asarray(nib.load(next(root.rglob("*_bold.nii.gz"))).dataobj).astype(float)
        cortex = np.asarray(nib.load(next(root.rglob("*label-VC_mask.nii.gz"))).dataobj) > 0
        assert read_settings(root).null == null
        assert run[~cortex].std(axis=-1).max() < 1  # rounding
        changes = run[cortex].std(axis=-1) > 1
        assert not changes.any() if null else changes.mean() > 0.9


def test_a_folder_that_exists_is_refused_and_kept(tmp_path):
    (tmp_path / "subject").mkdir()
    (tmp_path / "subject" / "mine").touch()
    with pytest.raises(InputError, match="exists already"):
        simulate(tmp_path / "subject", TINY, 1)
    assert [path.name for path in tmp_path.rglob("*")] == ["subject", "mine"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        simulate(tmp_path / "file" / "subject", TINY, 1)


def test_images_that_do_not_fill_runs_are_refused(tmp_path):
    stimuli = TINY.stimuli.model_copy(update={"n_training_categories": 51})
    with pytest.raises(InputError, match="multiple of 50"):
        simulate(tmp_path / "subject", TINY.model_copy(update={"stimuli": stimuli}), 1)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- what is in it


def test_runs_lie_where_those_of_the_published_data_set_lie(subject, shared_data):
    published = {path.relative_to(shared_data / "ds001246") for path in shared_data.glob("ds001246/sub-*/**/*.tsv")}
    ours = {path.relative_to(subject) for path in subject.glob("sub-*/**/*.tsv")}
    assert len(ours) == 4
    assert ours <= published
    for events in ours:
        bold = subject / str(events).replace("_events.tsv", "_bold.nii.gz")
        run = open_source(bold).run
        assert (run.n_volumes, run.tr_s, run.subject) == (213 if "imagery" in bold.name else 178, 3.0, "01")
        assert nib.load(bold).get_data_dtype() == np.int16


def test_the_json_files_say_what_the_images_are(subject, shared_data):
    description = json.loads((subject / "dataset_description.json").read_text())
    assert {"Name", "BIDSVersion", "DatasetType", "License"} <= set(description)
    for task in ("perception", "imagery"):
        ours, theirs = (
            json.loads((root / f"task-{task}_bold.json").read_text()) for root in (subject, shared_data / "ds001246")
        )
        for key in ("TaskName", "RepetitionTime", "SliceEncodingDirection", "EchoTime", "FlipAngle"):
            assert ours[key] == theirs[key]
        np.testing.assert_allclose(ours["SliceTiming"], slice_times_s(25, 3.0), atol=1e-6)
        assert max(ours["SliceTiming"]) < ours["RepetitionTime"]


def test_settings_are_kept_and_give_the_same_subject_again(subject):
    kept = read_settings(subject)
    assert (kept.shape, kept.n_test_runs, kept.stimuli.n_other_categories) == ((32, 32, 25), 1, 10)
    categories = object_categories(80, kept.seed)
    assert [(c.category_id, c.name) for c in categories] == [
        (row["category_id"], row["name"]) for row in table(subject / "stimuli" / "categories.tsv")
    ]


def test_no_test_category_was_trained_on_and_all_shown_ones_have_their_images(subject):
    groups = {}
    for row in table(subject / "stimuli" / "categories.tsv"):
        groups.setdefault(row["shown_in"], set()).add(row["category_id"])
    assert {kind: len(group) for kind, group in groups.items()} == {"training": 50, "test": 20, "other": 10}
    for events in subject.glob("sub-01/**/*_events.tsv"):
        kind = "training" if "Training" in events.name else "test"
        trials = read_trials(events)
        assert {trial.category for trial in trials} <= groups[kind]
        for trial in trials:
            assert trial.stimulus is None or (subject / "stimuli" / kind / f"{trial.stimulus}.png").is_file()
    assert not groups["training"] & groups["test"]


def test_no_candidate_s_image_was_ever_shown(subject):
    candidates = list((subject / "stimuli" / "candidates").rglob("*.png"))
    shown = [path for kind in ("training", "test") for path in (subject / "stimuli" / kind).glob("*.png")]
    assert len({path.parent.name for path in candidates}) == 80
    assert len(shown) == 50 * 2 + 20
    assert not {path.stem for path in candidates} & {path.stem for path in shown}
    assert len({path.read_bytes() for path in candidates + shown}) == len(candidates) + len(shown)


def test_every_training_image_is_shown_in_one_run_only(subject):
    names = [
        trial.stimulus
        for events in subject.glob("sub-01/ses-perceptionTraining01/func/*_events.tsv")
        for trial in read_trials(events)
        if not trial.repeat
    ]
    assert sorted(names) == sorted(path.stem for path in (subject / "stimuli" / "training").glob("*.png"))


@pytest.mark.parametrize("tissue", ["WM", "CSF"])
def test_masks_of_tissues_hold_no_cortex(subject, tissue):
    folder = subject / "derivatives" / "rois" / "sub-01" / "anat"
    mask, cortex = (
        np.asarray(nib.load(folder / f"sub-01_space-bold_label-{name}_mask.nii.gz").dataobj) > 0
        for name in (tissue, "VC")
    )
    assert 10 < mask.sum() < 0.3 * mask.size
    assert not (mask & cortex).any()


def test_masks_of_unions_are_the_union_of_their_regions(subject):
    folder = subject / "derivatives" / "rois" / "sub-01" / "anat"
    run = nib.load(next(subject.glob("sub-01/**/*_bold.nii.gz")))

    def mask(name):
        image = nib.load(folder / f"sub-01_space-bold_label-{name}_mask.nii.gz")
        np.testing.assert_allclose(image.affine, run.affine, atol=1e-5)
        return np.asarray(image.dataobj) > 0

    for union, members in UNIONS.items():
        np.testing.assert_array_equal(mask(union), np.any([mask(name) for name in members], axis=0))
    labels = np.asarray(nib.load(folder / "sub-01_space-bold_desc-visual_dseg.nii.gz").dataobj)
    rows = table(folder / "sub-01_space-bold_desc-visual_dseg.tsv")
    assert [row["name"] for row in rows] == list(REGIONS)
    for row in rows:
        np.testing.assert_array_equal(labels == int(row["index"]), mask(row["name"]))
    truth = load_file(subject / "derivatives" / "truth" / "tuning.safetensors")
    np.testing.assert_array_equal(truth["voxels"], np.argwhere(labels > 0))


@pytest.mark.parametrize("run", [RUN, RUN.replace("Training", "Test"), "sub-01_ses-imageryTest01_task-imagery_run-01"])
def test_the_head_is_found_where_the_truth_says_it_is(subject, run):
    boldref = nib.load(subject / "derivatives/rois/sub-01/anat/sub-01_space-bold_boldref.nii.gz")
    template = boldref.get_fdata(dtype=np.float32)
    registration = Registration(template, boldref.affine, template.shape, boldref.affine, MotionSettings(n_points=5000))
    truth = np.loadtxt(subject / "derivatives" / "truth" / "sub-01" / f"{run}_motion.tsv", skiprows=1)
    centre_mm = boldref.affine[:3, :3] @ ((np.array(boldref.shape) - 1) / 2) + boldref.affine[:3, 3]
    apart_mm, inverse_mm = [], []
    volumes = list(open_source(next(subject.rglob(f"{run}_bold.nii.gz"))))
    assert len(truth) == len(volumes)
    for volume, parameters in zip(volumes[::12], truth[::12], strict=True):
        pose, _, _, problem = registration.align(volume.data.astype(np.float32))
        assert not problem
        true_pose = naive.rigid(parameters[:3], parameters[3:], centre_mm)
        apart_mm.append(naive.mean_displacement(pose, true_pose, registration.points_mm))
        inverse_mm.append(naive.mean_displacement(pose, np.linalg.inv(true_pose), registration.points_mm))
    assert max(apart_mm) < 0.3
    assert np.mean(inverse_mm) > 3 * np.mean(apart_mm)
