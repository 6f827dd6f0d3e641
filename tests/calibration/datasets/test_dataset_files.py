"""What calibrate and evaluate take where something is left out, from a data set and from plain runs."""

import json

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from calibration.datasets.dataset_files import DatasetOptions, find_study, find_training
from rtgod.commands.main import make_app
from rtgod.errors import InputError
from rtgod.settings import EventsSettings

SHAPE = (12, 12, 10)
AFFINE = np.diag([3.0, 3, 3, 1])


def make_run(path, category="n01_1", suffix=".nii"):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(path.name.encode()))
    head = 900 * (((np.indices(SHAPE) - np.reshape([5.5, 5.5, 4.5], (3, 1, 1, 1))) ** 2).sum(axis=0) < 20)
    image = nib.Nifti1Image((head[..., None] + rng.integers(0, 40, (*SHAPE, 20))).astype(np.int16), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((3, 3, 3, 2))
    nib.save(image, path.with_name(path.name + suffix))
    rows = f"22\t4\tstimulus\t{category}\n28\t4\tstimulus\tn02_1\n"
    table = path.name.removesuffix("_bold") + "_events.tsv"
    path.with_name(table).write_text(f"onset\tduration\tevent_type\tstimulus_name\n{rows}")
    return path.with_name(path.name + suffix)


def with_two_blocks(run):
    """The run, with a second block of each category."""
    table = run.with_name(f"{run.name.split('.')[0].removesuffix('_bold')}_events.tsv")
    table.write_text(table.read_text() + "32\t4\tstimulus\tn01_2\n36\t4\tstimulus\tn02_2\n")
    return run


@pytest.fixture
def dataset(tmp_path):
    (tmp_path / "dataset_description.json").write_text("{}")
    for session, numbers in (("Training", (1, 2)), ("Test", (1,))):
        for number in numbers:
            name = f"sub-01_ses-{session}_task-x_run-{number}_bold"
            make_run(tmp_path / "sub-01" / f"ses-{session}" / "func" / name)
    return tmp_path


@pytest.fixture
def plain(tmp_path):
    return [make_run(tmp_path / f"{k}_localizer_run-{k}") for k in range(1, 8)]


def names(runs):
    return [run.bold.name.rpartition("run-")[2][0] for run in runs]


def study(paths, training=None, test=None, split="runs", **options):
    options = DatasetOptions(paths=paths, subject="sub-01", training=training, test=test, **options)
    return find_study(options, split)


def trained_on(paths, subject="01", **options):
    return find_training(DatasetOptions(paths=paths, subject=subject, **options))


@pytest.mark.parametrize("subject", ["01", "sub-01"])
def test_the_whole_head_is_decoded_where_a_data_set_has_no_mask(dataset, subject):
    inputs = trained_on([dataset], subject)
    assert (inputs.subject, inputs.region, names(inputs.training)) == ("01", None, ["1", "2"])
    assert study([dataset]).regions == {}


def test_a_mask_that_is_there_is_chosen_and_the_head_only_if_asked_for(dataset):
    folder = dataset / "derivatives" / "sub-01"
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE), folder / "sub-01_label-FFA_mask.nii.gz")
    where = (
        r"no region 'VC'; there: FFA; .*; masks lie anywhere in derivatives or sourcedata, called as sub-01_label-V1_"
    )
    with pytest.raises(InputError, match=where):
        trained_on([dataset])
    assert trained_on([dataset], region="head").region is None
    assert study([dataset], region="head").regions == {}
    with pytest.raises(InputError, match="--area compares regions"):
        study([dataset], region="head", areas=["FFA"])


@pytest.mark.parametrize(
    ("training", "test", "expected"),
    [
        (["run-1..6"], ["run-7"], ("123456", "7")),
        (["run-[1-6]"], ["run-7"], ("123456", "7")),
        (["run-1", "run-3"], ["run-2"], ("13", "2")),
        (None, ["run-7"], ("123456", "7")),
        (["run-1,run-2"], None, ("12", "34567")),
        (["not:run-7"], None, ("123456", "7")),
    ],
)
def test_plain_runs_are_split_by_patterns(plain, training, test, expected):
    for paths in (plain, [plain[0].parent]):
        found = study(paths, training, test)
        assert ("".join(names(found.training)), "".join(names(found.test))) == expected


def test_a_run_is_not_trained_and_tested_on(plain):
    with pytest.raises(InputError, match=r"share 1 run \(1_localizer_run-1\)"):
        study(plain, ["run-1"], ["run-1", "run-2"])
    with pytest.raises(InputError, match="no run is left for the other of the two"):
        study(plain, None, ["localizer"])


def test_a_repetition_time_helps_a_data_set_whose_files_are_wrong(dataset):
    with pytest.raises(InputError, match="leave out --events and --tr"):
        trained_on([dataset], tr_s=2.0)
    (dataset / "task-x_bold.json").write_text('{"RepetitionTime": 3}')
    run = trained_on([dataset], tr_s=2.0).training[0]
    assert run.open().run.tr_s == 2.0


def test_session_level_events_that_are_used_are_not_without_images(dataset):
    folder = dataset / "sub-01" / "ses-Training" / "func"
    tables = sorted(folder.glob("*_events.tsv"))
    tables[0].rename(dataset / "sub-01" / "ses-Training" / "sub-01_ses-Training_task-x_events.tsv")
    tables[1].unlink()
    found = trained_on([dataset])
    assert (len(found.training), found.missing) == (2, ())
    with pytest.raises(
        InputError, match=r"'perceptionTraining'.*there: sub-01_ses-Test_task-x_run-1_bold.nii, sub-01_ses-Tr"
    ):
        trained_on([dataset], training=["perceptionTraining"])


# ---------------------------------------------------------------- the commands


def command(*arguments):
    result = CliRunner().invoke(make_app(), [*map(str, arguments), "--subject", "sub-01", "--out", "nowhere"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return " ".join(result.output.split())


def test_an_evaluation_says_before_what_it_would_do(plain):
    said = command("evaluate", *plain, "--training", "run-1..6", "--test", "run-7", "--dry-run")
    assert "no mask so the voxels are the head's" in said
    assert "training runs 6 12 × 12 × 10 voxels, TR 2 s" in said
    assert "training trials seen 12 of 2 categories" in said
    assert "test runs 1" in said
    assert "categories 2 n01, n02" in said
    assert "split by leave-one-run-out: 7 runs, and none is chosen" in command("evaluate", *plain, "--dry-run")
    with pytest.raises(InputError, match="no category has two blocks in a run; give another run"):
        command("evaluate", plain[0], "--dry-run")
    assert "split by halves: one run" in command("evaluate", with_two_blocks(plain[0]), "--dry-run")


@pytest.mark.parametrize("name", ["calibrate", "evaluate"])
def test_settings_are_shown(name, plain, tmp_path):
    shown = json.loads(command(name, plain[0], "--decoder", "slr", "--show-settings"))
    assert list(shown) == ["settings", "decoder_settings"]
    assert shown["settings"]["window"]["hrf_shift_s"] == 3.0
    assert shown["decoder_settings"]["name"] == "slr"
    with_images = ("--images", tmp_path, "--candidates", tmp_path, "--network", "resnet18")
    network = json.loads(command(name, plain[0], *with_images, "--show-settings"))["network"]
    assert (network["name"], network["preprocessing"]["crop_px"]) == ("resnet18", 224)


def test_a_dry_run_says_where_it_would_write_and_what_is_in_the_way(plain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "would be written to nowhere: report.html and its tables" in command("evaluate", *plain, "--dry-run")
    assert "would be written to nowhere: the decoder bundle" in command("calibrate", *plain, "--dry-run")
    (tmp_path / "nowhere").mkdir()
    (tmp_path / "nowhere" / "blocks.tsv").touch()
    assert "blocks.tsv is already there, and --overwrite not given" in command("evaluate", *plain, "--dry-run")
    with pytest.raises(InputError, match=r"blocks\.tsv is already there"):
        command("evaluate", *plain)


@pytest.mark.parametrize(("label", "is_told"), [("sub-02", True), ("sub-1", False), ("run", False)])
def test_a_subject_that_its_files_call_otherwise_is_told(tmp_path, label, is_told):
    files = [make_run(tmp_path / f"{label}_run-{k}") for k in (1, 2)]
    note = "the files of 2 of 2 runs call their subject 02, and --subject says 01"
    for name in ("calibrate", "evaluate"):
        assert (note in command(name, *files, "--dry-run")) == is_told


def test_whether_runs_say_their_tr_is_asked_with_the_settings_for_events(dataset):
    for table in dataset.rglob("*_events.tsv"):
        table.write_text("onset\tduration\ttrial_type\n10\t4\tcue\n20\t4\tcue\n")
    reading = EventsSettings(keep=("cue",))
    with pytest.raises(InputError, match="leave out --events and --tr"):
        trained_on([dataset], tr_s=2.0, reading=reading)
    with pytest.raises(InputError, match="leave out --events and --tr"):
        study([dataset], tr_s=2.0, reading=reading)


def test_a_table_that_several_runs_share_is_told(tmp_path):
    files = [make_run(tmp_path / f"r{k}") for k in (1, 2)]
    (tmp_path / "r1_events.tsv").rename(tmp_path / "events.tsv")
    (tmp_path / "r2_events.tsv").unlink()
    assert "note 2 runs share one table of events" in command("evaluate", *files, "--dry-run")


def test_only_a_bundle_is_replaced(plain, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("all of it")
    call = ["calibrate", *plain, "--overwrite", "--out", tmp_path / "notes", "--subject", "01"]
    result = CliRunner().invoke(make_app(), [*map(str, call)])
    assert "is there, and is no decoder bundle; choose another --out" in str(result.exception)
    assert (tmp_path / "notes" / "thesis.txt").read_text() == "all of it"


def test_a_table_of_names_is_read_before_anything_is_computed(plain, tmp_path):
    table = tmp_path / "names.tsv"
    table.write_text("category_id\tname\nn01\towl\nn02\towl\n")
    note = "categories that are shown by the same name: n01 and n02 as 'owl'"
    for name in ("calibrate", "evaluate"):
        assert note in command(name, *plain, "--names", table, "--dry-run")
    table.write_bytes("category_id\tname\nn01\towl\n".encode("utf-16"))
    for name in ("calibrate", "evaluate"):
        with pytest.raises(InputError, match=r"names .*names\.tsv: "):
            command(name, *plain, "--names", table, "--dry-run")


def test_what_is_refused_is_not_said_to_be_written(tmp_path):
    runs = [make_run(tmp_path / f"run-{k}", "n02_2") for k in (1, 2)]
    for name in ("calibrate", "evaluate"):
        invoked = CliRunner().invoke(make_app(), [name, *map(str, runs), "--subject", "01", "--dry-run"])
        assert "one category, n02, and fewer than two cannot be told apart" in str(invoked.exception)
        assert "would be written" not in invoked.output


def test_runs_that_nothing_chooses_and_plain_categories_are_said(plain):
    chosen = ("--training", "run-1..3", "--test", "run-7")
    said = command("evaluate", *plain, *chosen, "--dry-run")
    assert "left out 3 runs that --training and --test do not choose: 4_localizer_run-4, 5_localizer_run-5" in said
    assert "plain categories no images are given, so the categories themselves are decoded" in said
    said = command("calibrate", *plain, *chosen[:2], "--dry-run")
    assert "left out 4 runs that --training does not choose: 4_localizer_run-4" in said
    with pytest.raises(InputError, match="give --images and --candidates"):
        command("evaluate", *plain, *chosen, "--ablate", "preprocessing")


def test_images_in_folders_of_one_trial_type_are_a_hint(tmp_path):
    runs = [make_run(tmp_path / f"run-{k}") for k in (1, 2)]
    for run in runs:
        table = run.with_name(f"{run.stem}_events.tsv")
        rows = "".join(f"{20 + 6 * k}\t4\timage\t{'cat' if k % 2 else 'dog'}/{k}.png\n" for k in range(3))
        table.write_text(f"onset\tduration\ttrial_type\tstim_file\n{rows}")
    with pytest.raises(InputError, match=r"lie in folders \(dog, cat\).* in the column trial_type"):
        command("evaluate", *runs, "--dry-run")


def test_of_runs_of_which_one_is_left_the_halves_are_tested_on(tmp_path):
    runs = [with_two_blocks(make_run(tmp_path / f"sub-{k}_run-1")) for k in ("01", "02")]
    said = command("evaluate", *runs, "--dry-run")
    assert "left out sub-02_run-1: subject 02" in said
    assert "split by halves: one run" in said
