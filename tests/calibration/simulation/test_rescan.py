import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from safetensors.numpy import load_file

from calibration.features.extractor import FeatureExtractor
from calibration.simulation import rescan as module
from calibration.simulation import truth
from calibration.simulation.objects import object_categories
from calibration.simulation.photograph import draw
from calibration.simulation.rescan import rescan
from calibration.simulation.scanner import slice_times_s
from rtgod.errors import InputError
from rtgod.events.table import read_trials
from rtgod.sources import open_source
from tests import naive
from tests.subjects import SILENT, STILL

#: Of the fixture's subject: trained on; shown, and imagined in its own runs; neither.
TRAINED, TESTED, OTHER = "s00000003", "s00000055", "s00000077"
CLOSED_LOOP = "sub-01_ses-feedback01_task-imagery_run-01"
COLUMNS = ("onset", "duration", "event_type", "stimulus_name", "category_name", "evaluation")


def schedule(path, *rows):
    """Write an events table of (onset, duration, event_type, stimulus_name, category_name[, evaluation])."""
    cells = [[*map(str, row), *["n/a"] * (len(COLUMNS) - len(row))] for row in rows]
    path.write_text("\n".join("\t".join(row) for row in [COLUMNS, *cells]) + "\n")
    return path


def mixed(path, evaluation="n/a"):
    """A run that shows an image, a category, and has two categories imagined."""
    return schedule(
        path,
        (0, 6, "rest", "n/a", "n/a"),
        (6, 9, "stimulus", f"{TESTED}_0", "n/a"),
        (24, 3, "cue", "n/a", TESTED),
        (27, 12, "imagery", "n/a", TESTED, evaluation),
        (39, 3, "evaluation", "n/a", TESTED, evaluation),
        (60.5, 9, "stimulus", "n/a", TRAINED),
        (81, 15, "imagery", "n/a", OTHER, evaluation),
        (96, 21, "rest", "n/a", "n/a"),
    )


def linked(subject, folder, **changes):
    """The subject with other settings, its images and tuning where they are."""
    (folder / truth.FOLDER).mkdir(parents=True)
    for name in ("stimuli", truth.IMAGINED, truth.FOLDER / "tuning.safetensors"):
        (folder / name).symlink_to(subject / name)
    truth.write_settings(folder, truth.read_settings(subject).model_copy(update=changes))
    return folder


@pytest.fixture(scope="session")
def still(subject, tmp_path_factory):
    """The fixture's subject, who now lies still in a scanner without noise and imagines as vividly as seeing."""
    settings = truth.read_settings(subject)
    return linked(
        subject,
        tmp_path_factory.mktemp("still") / "subject",
        noise=SILENT,
        motion=STILL,
        response=settings.response.model_copy(update={"imagery_gain": 0.9}),
    )


@pytest.fixture
def out(tmp_path):
    return tmp_path / "runs" / f"{CLOSED_LOOP}_bold.nii.gz"


def volumes(path):
    return np.asarray(nib.load(path).dataobj).astype(float)


# ---------------------------------------------------------------- what is scanned


def test_a_run_is_what_a_slow_and_obvious_reference_computes_for_the_strongest_voxel(subject, still, tmp_path, out):
    assert rescan(still, mixed(tmp_path / "any.tsv"), out, (0.5, 1.5)) == 39
    settings = truth.read_settings(still)
    arrays = load_file(still / truth.FOLDER / "tuning.safetensors")
    layers = [f"cnn{k}" for k in range(1, 9)]
    other = object_categories(80, settings.seed)[76]
    assert other.category_id == OTHER
    # Percept by percept: when it starts, how long it lasts, its images, its strength, and whether it is imagined.
    trials = [
        (6, 9, [still / "stimuli" / "test" / f"{TESTED}_0.png"], 1.0, False),
        (27, 12, [still / truth.IMAGINED / TESTED / f"{TESTED}_2000.png"], 0.5 * 0.9, True),
        (60.5, 9, [still / "stimuli" / "training" / f"{TRAINED}_{e}.png" for e in range(2)], 1.0, False),
        (81, 15, [draw(other, 2000, 64, settings.seed)], 1.5 * 0.9, True),
    ]
    extractor = FeatureExtractor(truth.brain_network(settings))
    voxel = int(np.argmax(np.linalg.norm(arrays["mix"], axis=0)))
    x, y, z = arrays["voxels"][voxel]
    expected = np.zeros(39)
    for onset_s, duration_s, images, strength, imagined in trials:
        features = extractor.extract(images)
        amplitudes = []
        for k, layer in enumerate(layers):
            mean = features[layer].mean(axis=0)
            unit_z = (mean - arrays[f"{layer}/unit_mean"]) / arrays[f"{layer}/unit_sd"]
            weights = arrays[f"{layer}/{'imagery_weights' if imagined else 'weights'}"][:, voxel]
            amplitudes.append(arrays["mix"][k, voxel] * (unit_z @ weights))
        for volume in range(39):
            since_s = volume * 3.0 + slice_times_s(25, 3.0)[z] - onset_s
            expected[volume] += strength * arrays["evoked"][voxel] * naive.response(since_s, duration_s)
            for k, amplitude in enumerate(amplitudes):
                late_s = 4.0 * (7 - k) / 7 if imagined else 0.0
                expected[volume] += strength * amplitude * naive.response(since_s - late_s, duration_s)
    boldref = subject / "derivatives/rois/sub-01/anat/sub-01_space-bold_boldref.nii.gz"
    template = nib.load(boldref).get_fdata()[x, y, z]
    run = volumes(out)
    assert np.ptp(expected) * template / 100 > 20  # or rounding to whole numbers would hide it
    np.testing.assert_allclose(run[x, y, z], template * (1 + expected / 100), atol=0.6)


def test_imagery_is_as_strong_as_asked_and_seeing_is_not_touched(still, tmp_path):
    events = mixed(tmp_path / "any.tsv")
    runs = {}
    for name, strength in (("none", (0, 0)), ("one", (1, 1)), ("three", (3, 3)), ("rising", (1, 3))):
        rescan(still, events, tmp_path / f"{name}_bold.nii.gz", strength)
        runs[name] = volumes(tmp_path / f"{name}_bold.nii.gz")
    changed = {name: run - runs["none"] for name, run in runs.items()}
    np.testing.assert_allclose(changed["three"], 3 * changed["one"], atol=2.1)  # each is of rounded volumes
    assert np.abs(changed["one"]).max() > 20
    assert not changed["three"][..., :9].any()  # up to the first imagery
    assert np.ptp(runs["none"][..., :9], axis=-1).max() > 10
    # The first imagery trial's response is over 32 s after its end; until the last begins at 81 s there is no other.
    np.testing.assert_allclose(changed["rising"][..., :27], changed["one"][..., :27], atol=1)
    np.testing.assert_allclose(changed["rising"][..., 28:], changed["three"][..., 28:], atol=1)


def test_strengths_rise_in_equal_steps_over_imagery_alone(tmp_path):
    path = schedule(
        tmp_path / "any.tsv",
        (0, 3, "imagery", "n/a", TESTED), (6, 3, "stimulus", "n/a", TESTED), (9, 3, "imagery", "n/a", TESTED),
        (90, 3, "imagery", "n/a", TESTED),
    )  # fmt: skip
    assert module._strengths(read_trials(path), 0.25, 1.75) == [0.25, 1.0, 1.0, 1.75]
    assert module._strengths(read_trials(path)[:2], 0.25, 1.75) == [0.25, 1.0]  # one imagery trial is the first


def test_what_was_rated_has_no_influence_and_a_category_may_go_by_its_name(subject, tmp_path):
    name = object_categories(80, 1)[int(TESTED[1:]) - 1].name
    bytes_ = []
    for i, (category, evaluation) in enumerate([(TESTED, 2), (TESTED, 5), (name, "n/a")]):
        events = schedule(tmp_path / f"{i}.tsv", (3, 6, "imagery", "n/a", category, evaluation))
        rescan(subject, events, tmp_path / f"{i}_bold.nii.gz")
        bytes_.append((tmp_path / f"{i}_bold.nii.gz").read_bytes())
    assert bytes_[0] == bytes_[1] == bytes_[2]


def test_the_subject_s_own_schedule_scanned_again_is_the_same_head_in_other_noise(subject, tmp_path):
    own = next(subject.glob("sub-01/ses-imageryTest01/func/*_events.tsv"))
    assert rescan(subject, own, tmp_path / "again_bold.nii.gz") == 213
    again = volumes(tmp_path / "again_bold.nii.gz")
    before = volumes(str(own).replace("_events.tsv", "_bold.nii.gz"))
    assert again.shape == before.shape
    assert np.corrcoef(again.mean(axis=-1).ravel(), before.mean(axis=-1).ravel())[0, 1] > 0.98
    noise = [(run - run.mean(axis=-1, keepdims=True))[..., 1:] for run in (again, before)]
    assert np.corrcoef(noise[0][14:18, 14:18, 12].ravel(), noise[1][14:18, 14:18, 12].ravel())[0, 1] < 0.3


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_noise(subject, tmp_path):
    events = mixed(tmp_path / "any.tsv")
    for name, seed in (("one", 7), ("two", 7), ("other", 8)):
        rescan(subject, events, tmp_path / f"{name}_bold.nii.gz", n_volumes=5, seed=seed)
    one, two, other = ((tmp_path / f"{name}_bold.nii.gz").read_bytes() for name in ("one", "two", "other"))
    assert one == two
    assert one != other


# ---------------------------------------------------------------- what is written


def test_a_source_opens_what_was_written_with_its_blocks(subject, tmp_path, out):
    events = mixed(tmp_path / "plan.tsv")
    told = []
    assert rescan(subject, events, out, tr_s=2.0, report=lambda *step: told.append(step)) == 58  # 117 s
    assert told[-1] == ("scanning", 58, 58)
    assert ("network responses", 5, 5) in told
    source = open_source(out)
    run = source.run
    assert (run.n_volumes, run.tr_s, run.subject, run.run_id, run.shape) == (58, 2.0, "01", CLOSED_LOOP, (32, 32, 25))
    assert [(b.onset_s, b.duration_s) for b in run.blocks] == [(6, 9), (27, 12), (60.5, 9), (81, 15)]
    assert len(list(source)) == 58
    said = json.loads(out.with_name(f"{CLOSED_LOOP}_bold.json").read_text())
    assert (said["TaskName"], said["RepetitionTime"]) == ("imagery", 2.0)
    np.testing.assert_allclose(said["SliceTiming"], slice_times_s(25, 2.0), atol=1e-6)
    assert out.with_name(f"{CLOSED_LOOP}_events.tsv").read_bytes() == events.read_bytes()
    assert len(list(out.parent.iterdir())) == 3


def test_its_own_repetition_time_counts_within_the_subject_s_data_set_too(subject, tmp_path):
    root = linked(subject, tmp_path / "bids")
    for name in ("dataset_description.json", "task-imagery_bold.json"):
        shutil.copy(subject / name, root / name)
    run = root / "sub-01" / "func" / "sub-01_task-imagery_run-09_bold.nii.gz"
    rescan(root, mixed(tmp_path / "plan.tsv"), run, n_volumes=5, tr_s=1.5)
    assert open_source(run).run.tr_s == 1.5


def test_events_that_lie_beside_the_run_already_stay(subject, tmp_path):
    events = mixed(tmp_path / "sub-01_events.tsv")
    before = events.stat()
    rescan(subject, events, tmp_path / "sub-01_bold.nii.gz", n_volumes=3)
    assert (events.stat().st_ino, events.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(open_source(tmp_path / "sub-01_bold.nii.gz").run.blocks) == 4


@pytest.mark.parametrize("error", [RuntimeError, OSError(28, "No space left on device")])
def test_what_fails_leaves_no_run_behind(subject, tmp_path, out, monkeypatch, error):
    def half(path, *_):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(module, "save_nifti", half)
    with pytest.raises(InputError if isinstance(error, OSError) else error):
        rescan(subject, mixed(tmp_path / "any.tsv"), out, n_volumes=1)
    assert not list(out.parent.iterdir())


# ---------------------------------------------------------------- what is refused


def refused(subject, events, out, *words, **options):
    with pytest.raises(InputError) as error:
        rescan(subject, events, out, **options)
    for word in words:
        assert str(word) in str(error.value)
    assert not out.parent.exists()


@pytest.mark.parametrize(("row", "words"), [
    ((3, 9, "imagery", "n/a", "unicorn"), ["'unicorn' at 3 s", "stimuli/categories.tsv"]),
    ((3, 9, "imagery", "n/a", "s00000081"), ["'s00000081'", "stimuli/categories.tsv"]),
    ((3, 9, "stimulus", "n/a", "unicorn"), ["'unicorn'", "stimuli/categories.tsv"]),
    ((3, 9, "stimulus", f"{TRAINED}_2", "n/a"), [f"image '{TRAINED}_2' at 3 s", "stimuli/training", "category"]),
    ((3, 9, "stimulus", "../test/s00000055_0", "n/a"), ["image '../test", "stimuli/training"]),
    ((3, 9, "rest", "n/a", "n/a"), ["no trial"]),
    ((300000, 9, "imagery", "n/a", TESTED), ["100003 volumes", "in seconds"]),
])  # fmt: skip
def test_what_the_subject_does_not_know_is_named(subject, tmp_path, out, row, words):
    refused(subject, schedule(tmp_path / "any.tsv", row), out, tmp_path / "any.tsv", *words)


def test_what_is_no_simulated_subject_is_named(subject, tmp_path, out):
    events = mixed(tmp_path / "any.tsv")
    refused(tmp_path / "nobody", events, out, "nobody", "rtgod simulate")
    broken = linked(subject, tmp_path / "broken")
    tuning = broken / truth.FOLDER / "tuning.safetensors"
    tuning.unlink()
    refused(broken, events, out, "tuning.safetensors", "simulate the subject again")
    tuning.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    refused(broken, events, out, "tuning.safetensors", "cnn1/weights")
    given = json.loads((broken / truth.SETTINGS).read_text())
    for version in ({}, {"version": 1}, {"version": 3}):
        (broken / truth.SETTINGS).write_text(json.dumps({k: v for k, v in given.items() if k != "version"} | version))
        refused(broken, events, out, "simulation.json", "another version of rtgod", "simulate the subject again")
    (broken / truth.SETTINGS).write_text("no JSON")
    refused(broken, events, out, "simulation.json", "not valid JSON", "simulate the subject again")
    (broken / truth.SETTINGS).write_text('{"colour": 1}')
    refused(broken, events, out, "simulation.json", "colour")


def test_a_run_keeps_its_name_to_itself(subject, tmp_path):
    events = mixed(tmp_path / "any.tsv")
    with pytest.raises(InputError, match="call it RUN_bold"):
        rescan(subject, events, tmp_path / "run.nii")
    run = tmp_path / "run_bold.nii.gz"
    (tmp_path / "run_events.tsv").write_text("another")
    with pytest.raises(InputError, match="another schedule"):
        rescan(subject, events, run)
    assert (tmp_path / "run_events.tsv").read_text() == "another"
    run.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        rescan(subject, events, run)
    assert run.read_text() == "mine"
