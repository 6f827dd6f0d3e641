import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from calibration.datasets.bids import find_runs
from calibration.evaluation.ablation import STEPS, AblationStep, ablate_preprocessing, paired_difference, variant_of
from calibration.metrics.statistics import difference_interval
from calibration.reports.ablation_report import write_ablation
from rtgod.settings import PipelineSettings
from tests.calibration.conftest import RememberingExtractor

FEW = ("as set", "motion not corrected", "no drift regressors", "5 noise components", "mean of volumes", "not whitened")


@pytest.mark.parametrize("name", STEPS)
def test_each_step_changes_the_defaults_and_nothing_but_itself(name):
    usual, changed = PipelineSettings(), variant_of(PipelineSettings(), STEPS[name])
    assert (changed == usual) == (name == "as set")
    parts = {part for part in type(usual).model_fields if getattr(usual, part) != getattr(changed, part)}
    assert parts == set(STEPS[name])


def test_a_change_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="clip_sd"):
        variant_of(PipelineSettings(), {"censoring": {"clip_sd": -1}})


@pytest.fixture(scope="module")
def steps(inputs, subject, network, pool, calibrated):  # noqa: ARG001 # features are computed by then
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calibration.samples.targets.FeatureExtractor", RememberingExtractor)
        patch.setattr("calibration.evaluation.ablation.STEPS", {name: STEPS[name] for name in FEW})
        files = replace(inputs, test=tuple(find_runs(subject, "01", "perceptionTest")))
        return ablate_preprocessing(files, PipelineSettings(), network, pool, lambda *_: None)


def test_every_step_is_tested_on_the_same_trials(steps):
    assert [step.name for step in steps] == list(FEW)
    assert {tuple(step.accuracies) for step in steps} == {("seen",)}
    assert {step.new for step in steps} == {frozenset({"seen"})}
    trials = [set(step.accuracies["seen"]) for step in steps]
    assert all(of_step == trials[0] for of_step in trials)
    assert len(trials[0]) > 40
    accuracies = [list(step.accuracies["seen"].values()) for step in steps]
    assert all(a != accuracies[0] for a in accuracies[1:])
    assert min(sum(a) / len(a) for a in accuracies) > 0.55


def test_the_table_and_the_figure_are_written(steps, tmp_path, console):
    write_ablation(steps, tmp_path / "out", console)
    with (tmp_path / "out" / "ablation.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["step"] for row in rows] == list(FEW)
    n = len(steps[0].accuracies["seen"])
    usual = sum(steps[0].accuracies["seen"].values()) / n
    for row, step in zip(rows, steps, strict=True):
        accuracy = sum(step.accuracies["seen"].values()) / n
        assert float(row["seen_accuracy"]) == pytest.approx(accuracy, abs=1e-6)
        assert float(row["seen_difference"]) == pytest.approx(accuracy - usual, abs=2e-6)
        low, high = float(row["seen_low"]), float(row["seen_high"])
        assert -1 <= low <= float(row["seen_difference"]) <= high <= 1
        assert int(row["seen_blocks"]) == n
    assert "imagined_accuracy" not in rows[0]
    printed = console.file.getvalue()
    assert all(name in printed for name in FEW)
    with Image.open(tmp_path / "out" / "ablation.png") as image:
        assert min(image.size) > 300


def test_differences_are_paired_over_the_trials_that_both_have():
    def accuracies(**by_block):
        return {("run", int(block[1:]), "cat"): accuracy for block, accuracy in by_block.items()}

    a = accuracies(b0=0.9, b1=0.5, b2=0.7, b9=0.0)
    mean, low, high = paired_difference(a, accuracies(b1=0.4, b2=0.7, b0=0.6, b5=1.0))
    differences = np.array([0.3, 0.1, 0.0])
    assert mean == pytest.approx(differences.mean())
    assert (low, high) == pytest.approx(difference_interval(differences, range(3))[1:])
    assert np.isnan(paired_difference(a, {})).all()


def test_differences_of_many_categories_have_intervals_over_these():
    """Trials of one category that err alike are no more than one."""
    rng = np.random.default_rng(0)
    of_category = rng.uniform(-0.1, 0.1, 8)
    a = {("run", i, f"c{i % 8}"): 0.5 + of_category[i % 8] for i in range(80)}
    b = dict.fromkeys(a, 0.5)
    mean, low, high = paired_difference(a, b)
    assert mean == pytest.approx(of_category.mean())
    once = {key: value for key, value in a.items() if key[1] < 8}
    assert (low, high) == pytest.approx(paired_difference(once, b)[1:], abs=1e-6)


def test_differences_of_few_new_categories_have_intervals_over_these_too():
    """A decoder may take a new category for another each time: two of them are two samples."""
    a = {("run", i, "ab"[i % 2]): 0.5 + 0.1 * (i % 2) + 0.01 * i for i in range(20)}
    b = dict.fromkeys(a, 0.5)
    of_trials, of_categories = (paired_difference(a, b, new=new) for new in (False, True))
    assert of_trials[0] == of_categories[0]
    assert of_categories[2] - of_categories[1] > 4 * (of_trials[2] - of_trials[1])
    assert of_categories[1] >= -1
    assert of_categories[2] <= 1


def test_the_report_takes_new_categories_for_units(tmp_path, console):
    def step(name, new):
        accuracies = {("run", i, "ab"[i % 2]): 0.5 + 0.01 * i * (name == "changed") for i in range(20)}
        return AblationStep(name, {"seen": accuracies}, new)

    widths = []
    for new in (frozenset(), frozenset({"seen"})):
        write_ablation([step("as set", new), step("changed", new)], tmp_path / str(len(new)), console)
        with (tmp_path / str(len(new)) / "ablation.tsv").open() as file:
            row = list(csv.DictReader(file, delimiter="\t"))[1]
        widths.append(float(row["seen_high"]) - float(row["seen_low"]))
    assert widths[1] > 1.5 * widths[0]


def test_seen_and_imagined_have_columns_of_their_own(tmp_path, console):
    def step(name, accuracy):
        return AblationStep(
            name, {kind: {("run", i, "cat"): accuracy for i in range(3)} for kind in ("seen", "imagined")}
        )

    write_ablation([step("as set", 0.8), step("worse", 0.7)], tmp_path, console)
    header, *_ = (tmp_path / "ablation.tsv").read_text().splitlines()
    assert header.split("\t")[1::5] == ["seen_accuracy", "imagined_accuracy"]


@pytest.mark.parametrize("lacking", ["as set", "worse"])
def test_a_step_whose_trials_of_a_kind_were_all_censored_keeps_its_columns(lacking, tmp_path, console):
    def step(name, accuracy):
        kinds = ["imagined"] if name == lacking else ["seen", "imagined"]
        return AblationStep(name, {kind: {("run", i, "cat"): accuracy for i in range(3)} for kind in kinds})

    steps = [step("as set", 0.8), step("worse", 0.7)]
    write_ablation(steps, tmp_path, console)
    with (tmp_path / "ablation.tsv").open() as file:
        rows = {row["step"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert rows[lacking]["seen_accuracy"] == "n/a"
    assert {row["seen_blocks"] for row in rows.values()} == {"0", "3"}
    assert {name: float(row["imagined_accuracy"]) for name, row in rows.items()} == {"as set": 0.8, "worse": 0.7}
    assert float(rows["worse"]["imagined_difference"]) == pytest.approx(-0.1)
    assert rows["worse"]["seen_difference"] == "n/a"
    assert console.file.getvalue().count("–") >= 1
