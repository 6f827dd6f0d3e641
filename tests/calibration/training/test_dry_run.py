"""What a calibration will be made from, said before it is made: on the published tables, with images made here."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from calibration.commands import calibrate as command
from calibration.commands import options
from calibration.datasets.dataset_files import DatasetOptions, find_training
from calibration.training.dry_run import plan_calibration
from calibration.training.plan_tables import print_plan
from rtgod.console import PlainConsole
from rtgod.errors import InputError
from rtgod.settings import MotionSettings, PipelineSettings
from rtgod.text import plain

AFFINE = np.diag([3.0, 3, 3, 1])
SHAPE = (6, 6, 6)
#: The longest of the runs' that the tables are of.
N_VOLUMES = 213
SETTINGS = PipelineSettings()


def image(path, data, affine=AFFINE):
    nib.Nifti1Image(data, affine).to_filename(path)


@pytest.fixture(scope="module")
def published(tmp_path_factory, shared_data):
    """The real tables of ds001246's first subject, tiny images in place of what was recorded, empty ones as stimuli."""
    root = tmp_path_factory.mktemp("planned") / "ds001246"
    shutil.copytree(shared_data / "ds001246", root)
    image(root / "bold.nii.gz", np.zeros((*SHAPE, N_VOLUMES), np.int16))
    for table in root.rglob("*_events.tsv"):
        os.link(root / "bold.nii.gz", str(table).replace("_events.tsv", "_bold.nii.gz"))
    masks = root / "sourcedata" / "sub-01" / "anat"
    masks.mkdir(parents=True)
    for n, area in enumerate(("V1d", "V1v", "V2d", "V2v", "FFA")):
        for side, x in (("L", 0), ("R", 3)):
            data = np.zeros(SHAPE, np.uint8)
            data[x : x + 3, n] = 1
            image(masks / f"sub-01_mask_{side}H_{area}.nii.gz", data)
    (root / "stimuli" / "training").mkdir(parents=True)
    for line in (shared_data / "god-lists" / "stimulus_ImageNetTraining.tsv").read_text().splitlines():
        (root / "stimuli" / "training" / f"{line.split()[0]}.JPEG").touch()
    for category in ("n01518878", "n01443537", "n01621127"):
        (root / "stimuli" / "candidates" / category).mkdir(parents=True)
        for number in (1, 2):
            (root / "stimuli" / "candidates" / category / f"{category}_{number}.JPEG").touch()
    return root


@pytest.fixture(autouse=True)
def any_template(monkeypatch, request):
    """Take any volume for a template: the images here are of nothing."""
    if "looked_at" not in request.node.name:
        monkeypatch.setattr("calibration.training.planned_runs.check_first", lambda *_: None)
        monkeypatch.setattr("calibration.training.planned_runs.check_not_flat", lambda *_: None)


@pytest.fixture
def planned(published):
    """Inputs of the published training runs."""
    return find_training(DatasetOptions(paths=[published], subject="01", region="V1 + FFA"))


@pytest.mark.parametrize("name", ["out [v2]", "a[/x]b", ":warning:", "\x1b[31mred"])
def test_what_is_left_out_and_each_stage_are_named_as_they_are(capsys, monkeypatch, name):
    monkeypatch.setattr(options, "console", PlainConsole(width=200))
    options.say_missing([f"{name}: no mask"])
    with options.progress() as report:
        report(name, 1, 2)
    assert capsys.readouterr().out.count(plain(name)) == 2


def test_everything_of_the_published_training_is_there(planned):
    plan = plan_calibration(planned, SETTINGS)
    plan.check()
    assert [(len(run.trials), len(run.trained_on), run.run.tr_s) for run in plan.runs] == [(55, 50, 3.0)] * 24
    assert (len(plan.shown.names), plan.shown.missing, plan.shown.n_others) == (1200, (), 6)
    assert plan.n_voxels == {"V1 + FFA": 108, "V1": 72, "FFA": 36}
    assert plan.candidates == {"n01443537": 2, "n01518878": 2, "n01621127": 2}
    assert len(plan.not_ranked) == 149  # of 150: two of the candidates were shown in the test only
    assert planned.missing == ()


def test_a_plan_is_printed(planned, console):
    print_plan(plan_calibration(planned, SETTINGS), console)
    printed = " ".join(console.file.getvalue().split())
    for text in (
        "ses-perceptionTraining03_task-perception_run-04 213 50 5 2",
        "runs 24 6 × 6 × 6 voxels, TR 3 s",
        "trials 1200 of 150 categories",
        "images shown 1200 1200 with a file, 0 without",
        "voxels 108 V1 + FFA voxels of part 72 V1 voxels of part 36 FFA",
        "candidates 3 6 images",
        "(149 in all)",
        "events rows between trials: 48 rest",
    ):
        assert text in printed


def test_imagery_cannot_be_trained_on(published):
    inputs = find_training(DatasetOptions(paths=[published], subject="01", training="imageryTest", region="V1"))
    with pytest.raises(InputError, match=r"trials of .*_run-01, .*\(20 in all\) name no image; calibrate on runs"):
        plan_calibration(inputs, SETTINGS).check()


def test_labels_without_an_image_are_named_and_counted(planned, published, tmp_path):
    shutil.copytree(published / "stimuli", tmp_path / "stimuli")
    for path in (tmp_path / "stimuli" / "training").glob("n02*"):
        path.unlink()
    plan = plan_calibration(replace(planned, images=tmp_path / "stimuli"), SETTINGS)
    assert len(plan.shown.missing) == len(list(published.glob("stimuli/training/n02*"))) > 100
    with pytest.raises(InputError, match=rf"of {len(plan.shown.missing)} of the 1200 images .*n02.*in all.*--images"):
        plan.check()


def with_run(planned, tmp_path, data, affine=AFFINE, tr_s=3.0):
    """The inputs with one more run, of other images."""
    made = nib.Nifti1Image(data, affine)
    made.header.set_xyzt_units("mm", "sec")
    made.header["pixdim"][4] = tr_s
    made.to_filename(tmp_path / "other_bold.nii.gz")
    other = replace(planned.training[0], bold=tmp_path / "other_bold.nii.gz")
    return replace(planned, training=(*planned.training[:2], other))


def test_a_run_of_somebody_else_is_refused(tmp_path):
    files = []
    for name in ("sub-01_run-1", "sub-1_run-2", "sub-02_run-3"):
        made = nib.Nifti1Image(np.zeros((*SHAPE, 20), np.int16), AFFINE)
        made.header.set_xyzt_units("mm", "sec")
        made.header["pixdim"][4] = 2
        made.to_filename(tmp_path / f"{name}_bold.nii.gz")
        (tmp_path / f"{name}_events.tsv").write_text("onset\tduration\ttrial_type\n24\t8\tface\n32\t8\thouse\n")
        files.append(tmp_path / f"{name}_bold.nii.gz")
    found = [
        plan_calibration(find_training(DatasetOptions(paths=of, subject="01")), SETTINGS) for of in (files, files[:2])
    ]
    assert [len(plan.problems) for plan in found] == [1, 0]
    assert "runs of different subjects (01 in sub-01_run-1, sub-1_run-2; 02 in sub-02_run-3)" in found[0].problems[0]


def test_pictures_without_features_to_compare_them_by_are_a_problem_beforehand(planned, tmp_path):
    plain = replace(planned, images=None, candidates=None)
    assert plan_calibration(plain, SETTINGS).problems == ()
    (problem,) = plan_calibration(replace(plain, pictures=tmp_path), SETTINGS).problems
    assert problem.startswith("--pictures: categories themselves are decoded here")


def test_every_problem_is_told_at_once(planned, tmp_path):
    inputs = with_run(planned, tmp_path, np.zeros((*SHAPE, N_VOLUMES), np.int16), tr_s=2.0)
    (tmp_path / "broken_bold.nii.gz").write_bytes(b"no image")
    broken = replace(planned.training[0], bold=tmp_path / "broken_bold.nii.gz")
    inputs = replace(inputs, training=(*inputs.training, broken), images=tmp_path, candidates=tmp_path)
    problems = plan_calibration(inputs, SETTINGS).problems
    expected = ["broken_bold", "different repetition times (3 s in ", "no images", "no images"]
    assert all(text in problem for text, problem in zip(expected, problems, strict=True))
    assert "2 s in other" in problems[1]


def test_what_cannot_be_a_template_or_lies_outside_the_head_is_looked_at_beforehand(tmp_path):
    head = 900 * (((np.indices((12, 12, 10)) - np.reshape([5.5, 5.5, 4.5], (3, 1, 1, 1))) ** 2).sum(axis=0) < 20)
    noise = np.random.default_rng(0).integers(0, 40, (12, 12, 10, 20))
    masks = {"inside": head > 0, "outside": head == 0}
    for name, mask in masks.items():
        image(tmp_path / f"{name}.nii", mask.astype(np.uint8))
    for name, data in (("head", head[..., None] + noise), ("nothing", np.full(noise.shape, 7))):
        for number in (1, 2):
            made = nib.Nifti1Image(
                (data if name == "nothing" else np.roll(data, number, axis=3)).astype(np.int16), AFFINE
            )
            made.header.set_xyzt_units("mm", "sec")
            made.header["pixdim"][4] = 2
            made.to_filename(tmp_path / f"{name}-{number}_bold.nii.gz")
            rows = "".join(f"{onset + number}\t4\t{name}\n" for onset, name in ((20, "face"), (28, "house")))
            (tmp_path / f"{name}-{number}_events.tsv").write_text(f"onset\tduration\ttrial_type\n{rows}")

    def problems(name, mask):
        paths = [tmp_path / f"{name}-{number}_bold.nii.gz" for number in (1, 2)]
        options = DatasetOptions(paths=paths, subject="01", mask=mask and tmp_path / f"{mask}.nii")
        return plan_calibration(find_training(options), SETTINGS).problems

    assert problems("head", None) == problems("head", "inside") == ()
    assert "template has no contrast to align to" in problems("nothing", None)[0]
    assert "% of the decoder's voxels lie in the head" in problems("head", "outside")[0]


def test_two_grids_with_one_table_are_one_acquisition_in_two_forms(planned, tmp_path):
    (problem,) = plan_calibration(
        with_run(planned, tmp_path, np.zeros((6, 6, 8, N_VOLUMES), np.int16)), SETTINGS
    ).problems
    assert "run-01, other have one table of events and different grids: one acquisition in several forms" in problem


def test_many_runs_that_cannot_be_aligned_are_not_all_told_of(planned, tmp_path):
    flat = with_run(planned, tmp_path, np.zeros((6, 6, 1, N_VOLUMES), np.int16)).training[-1]
    problems = plan_calibration(replace(planned, training=(*planned.training[:2], *[flat] * 4)), SETTINGS).problems
    assert [problem for problem in problems if "cannot be" in problem] == [
        *[
            "run other: volumes of 6 × 6 × 1 voxels cannot be aligned; at least 4 slices, rows and columns are needed, "
            "or motion.estimate = false in the settings"
        ]
        * 2,
        "2 other runs cannot be used either",
    ]


def test_one_run_is_too_few(planned):
    with pytest.raises(InputError, match="fewer than two runs"):
        plan_calibration(replace(planned, training=planned.training[:1]), SETTINGS).check()


def test_another_grid_is_noted_where_runs_are_aligned_and_refused_where_they_are_not(planned, tmp_path, console):
    inputs = with_run(planned, tmp_path, np.zeros((6, 6, 8, N_VOLUMES), np.int16))
    table = tmp_path / "other_events.tsv"
    shutil.copy(planned.training[0].events, table)
    inputs = replace(inputs, training=(*inputs.training[:-1], replace(inputs.training[-1], events=table)))
    plan = plan_calibration(inputs, SETTINGS)
    plan.check()
    print_plan(plan, console)
    assert "runs 1 6 × 6 × 8 voxels" in " ".join(console.file.getvalue().split())
    unmoved = PipelineSettings(motion=MotionSettings(estimate=False))
    with pytest.raises(InputError, match=r"other: its 6 × 6 × 8 voxels or its affine are not the template's"):
        plan_calibration(inputs, unmoved).check()
    elsewhere = with_run(planned, tmp_path, np.zeros((*SHAPE, N_VOLUMES), np.int16), AFFINE + np.eye(4, k=3) * 900)
    with pytest.raises(InputError, match="run other: by its affine, the 6 × 6 × 6 voxels hold 0 %"):
        plan_calibration(elsewhere, SETTINGS).check()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: image(path, np.zeros(SHAPE, np.uint8)), "none of its voxels is above 0"),
        (lambda path: image(path, np.ones(SHAPE, np.uint8), np.eye(4)), "differ from those of run"),
    ],
    ids=["empty", "another space"],
)
def test_a_mask_that_does_not_fit_is_a_problem(published, tmp_path, make, says):
    make(tmp_path / "mask.nii.gz")
    inputs = find_training(DatasetOptions(paths=[published], subject="01", mask=tmp_path / "mask.nii.gz"))
    with pytest.raises(InputError, match=says):
        plan_calibration(inputs, SETTINGS).check()


def test_what_became_of_the_events_rows_is_said(planned, tmp_path, console):
    rows = [(30, 6, "stimulus", "n02766534_15976"), (39, 6, "picture", "n/a"), (48, 0, "stimulus", "n02766534_15976")]
    rows += [(639, 6, "stimulus", "n02766534_15976"), (700, 6, "stimulus", "n01970164_28566")]  # of a run of 639 s
    lines = ["onset\tduration\tevent_type\tstimulus_name", *("\t".join(map(str, row)) for row in rows)]
    (tmp_path / "events.tsv").write_text("\n".join(lines))
    plan = plan_calibration(
        replace(planned, training=(replace(planned.training[0], events=tmp_path / "events.tsv"),)), SETTINGS
    )
    print_plan(plan, console)
    printed = " ".join(console.file.getvalue().split())
    assert "run volumes trials repeats after its end no trials" in printed
    assert "run-01 213 1 2 2 1" in printed
    assert "trials 1 of 1 category: 1 n02766534" in printed
    assert (
        "events trials that begin after the end of their run: 2 of 4 in events.tsv, the last at 700 s; left out"
        in printed
    )
    assert "events rows whose event_type is neither stimulus nor imagery: 1 picture" in printed
    assert "events 1 trial of 0 s: impulses" in printed


# ---------------------------------------------------------------- the command


def dry_run(*paths, **options):
    command.calibrate(list(paths), subject="01", out=paths[0] / "bundle", dry_run=True, **options)


def test_a_dry_run_makes_nothing(published, capsys):
    dry_run(published, region="V1 + V2")
    assert "V1 + V2" in capsys.readouterr().out
    assert not (published / "bundle").exists()


def test_a_dry_run_names_what_is_left_out_and_ends_in_the_error(published, capsys, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(published, root)
    next(root.rglob("*Training02*run-05_bold.nii.gz")).unlink()
    next(root.rglob("stimuli/training/n01518878_10042.JPEG")).unlink()
    with pytest.raises(InputError, match=r"no file of 1 of the 1150 images that are shown: n01518878_10042; add"):
        dry_run(root, region="V1")
    printed = capsys.readouterr().out
    assert "left out sub-01_ses-perceptionTraining02_task-perception_run-05: events, but no images" in printed
    assert "1149 with a file, 1 without" in printed


def test_a_dry_run_of_runs_without_bids(shared_data, published, capsys):
    """A real run whose events name their images; of these there are none here."""
    stimuli = {"images": published / "stimuli" / "training", "candidates": published / "stimuli" / "candidates"}
    with pytest.raises(InputError, match=r"fewer than two runs.*; and .*no file of 141 of the 141 images"):
        dry_run(shared_data / "studyforrest-localizer", **stimuli)
    printed = " ".join(capsys.readouterr().out.split())
    assert "task-oneback_run-1 156 12 0 0" in printed
    assert "no mask so the voxels are the head's" in printed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"images": Path()}, "runs outside of a BIDS data set: give --images and --candidates, or neither"),
        ({"images": Path(), "plain_categories": True}, "leave out --images and --candidates"),
        ({"weights": "random:0"}, "--weights: a network sees images, and none are given"),
        ({"region": "V1"}, "--region V1: regions are those of a BIDS data set; give a mask image with --mask"),
    ],
)
def test_runs_without_bids_need_what_a_data_set_has(shared_data, options, says):
    with pytest.raises(InputError, match=says):
        dry_run(shared_data / "studyforrest-localizer", **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tr": 2.0}, "a BIDS data set says which events and TR are whose; leave out"),
        ({"mask": "mask.nii", "region": "V1"}, "--mask says which voxels are decoded from; leave out --region V1"),
    ],
)
def test_nothing_is_said_twice(published, options, says):
    with pytest.raises(InputError, match=says):
        dry_run(published, **options)
