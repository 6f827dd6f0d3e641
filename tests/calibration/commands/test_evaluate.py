"""`rtgod evaluate` on what is no simulated BIDS data set: real runs without one, and the study's published files."""

import csv
import shutil

import bdpy
import numpy as np
import pytest
from typer.testing import CliRunner

from calibration.reports.evaluation_tables import TABLES
from rtgod.commands.main import make_app
from rtgod.errors import InputError

REGIONS = {"V1": range(20), "HVC": range(20, 50), "VC": range(50)}
N_UNITS = {"cnn1": 30, "cnn8": 20}


def run(*arguments):
    result = CliRunner().invoke(make_app(), ["evaluate", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def read(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize("settings", ["", "[events]\nmerge_gap_s = 3.0\n"], ids=["none", "a gap"])
def test_a_real_localizer_is_evaluated_on_its_second_blocks(shared_data, tmp_path, settings):
    (tmp_path / "s.toml").write_text(settings)
    folder = shared_data / "studyforrest-localizer"
    options = ("--split", "halves", "--settings", tmp_path / "s.toml", "--out", tmp_path / "out", "--workers", 1)
    printed = run(folder, "--subject", "02", *options)
    assert "among 6" in printed
    assert "192 rows of 0.883 s were taken as 12 blocks of 15.9 s" in " ".join(printed.split())
    blocks = read(tmp_path / "out" / "blocks.tsv")
    categories = ["scramble", "body", "object", "face", "house", "scene"]
    assert [row["category"] for row in blocks] == categories
    assert {row["category"] for row in blocks if row["first"] == row["category"]} >= {"scramble"}
    assert np.mean([float(row["identification_accuracy"]) for row in blocks]) > 0.6  # chance 0.5
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "events.merge_gap_s" in page
    assert "192 rows of 0.883 s were taken as 12 blocks of 15.9 s" in page
    assert "the categories themselves are decoded" in page
    assert "is unknown: it is learned from runs that are left out in turn, which needs 2, and there is 1" in page


def test_real_runs_are_evaluated_one_left_out_at_a_time(shared_data, tmp_path):
    settings = "[motion]\nestimate = false\n[nuisance]\ndiscard_s = 0\n[window]\nhrf_shift_s = 5\n"
    (tmp_path / "s.toml").write_text(settings)
    for run_folder in sorted((shared_data / "haxby2001" / "sub001" / "BOLD").iterdir())[:6]:
        shutil.copytree(run_folder, tmp_path / "runs" / run_folder.name)
    options = ("--training", "1slice", "--split", "leave-one-run-out", "--settings", tmp_path / "s.toml")
    run(tmp_path / "runs", "--subject", "001", *options, "--out", tmp_path / "out", "--workers", 1)
    _, block = read(tmp_path / "out" / "identification.tsv")
    assert block["n_samples"] == "48"
    assert float(block["top1"]) > 0.6  # chance 0.125; all twelve runs with hindsight 0.64
    assert float(block["accuracy"]) > 0.85
    assert float(block["p_value"]) < 0.01


def test_two_real_classes_are_told_apart_and_a_foreign_run_is_left_out(shared_data, tmp_path):
    settings = "[motion]\nestimate = false\n[nuisance]\ndiscard_s = 0\n[window]\nhrf_shift_s = 5\n"
    (tmp_path / "s.toml").write_text(settings)
    for i, run_folder in enumerate(sorted((shared_data / "haxby2001" / "sub001" / "BOLD").iterdir())[:4]):
        name = f"sub-{'002' if i == 1 else '001'}_run-{i}"
        shutil.copy(run_folder / "bold_1slice.nii.gz", tmp_path / f"{name}_bold.nii.gz")
        header, *rows = (run_folder / "bold_events.tsv").read_text().splitlines()
        kept = [row for row in rows if {"face", "house"} & set(row.split("\t"))]
        (tmp_path / f"{name}_events.tsv").write_text("\n".join([header, *kept]) + "\n")
    options = ("--training", "run", "--split", "leave-one-run-out", "--settings", tmp_path / "s.toml", "--workers", 1)
    printed = " ".join(run(tmp_path, "--subject", "001", *options, "--out", tmp_path / "out").split())
    assert "left out sub-002_run-1: subject 002, where the others are of 001" in printed
    assert "Fewer than 10 samples" in printed
    for row in read(tmp_path / "out" / "identification.tsv"):
        assert 0 <= float(row["low"]) <= float(row["accuracy"]) <= float(row["high"]) <= 1
        assert (row["units"], row["n_samples"], row["top5"], row["top10"]) == ("blocks", "6", "n/a", "n/a")
        assert float(row["p_value"]) >= float(row["p_least"]) == 1 / 8
    matrix = read(tmp_path / "out" / "confusion.tsv")
    assert [int(row["face"]) + int(row["house"]) for row in matrix] == [3, 3]
    trials = read(tmp_path / "out" / "left_out.tsv")[0]
    assert (trials["what"], trials["n"], trials["used"]) == ("trials seen", "6", "6")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "sub-002_run-1: subject 002" in page
    assert "What is taken for what" in page
    assert "first 5" not in page
    assert "top 5" not in page


@pytest.fixture
def published(tmp_path):
    """Files like the study's: voxels that respond to features, low areas to low layers and high ones to high."""
    rng = np.random.default_rng(5)
    training = [1518878 + 1000 * i + 1e-6 * (i + 1) for i in range(30)]
    test = [1443537 + 1000 * i + 1e-6 * (i + 1) for i in range(12)]
    others = [12000000 + i for i in range(20)]
    ids = [*training, *test]
    features = {layer: rng.normal(size=(len(ids), n)) for layer, n in N_UNITS.items()}
    weights = {layer: rng.normal(size=(n, 50)) / np.sqrt(n) for layer, n in N_UNITS.items()}
    weights["cnn1"][:, 20:] *= 0.2
    weights["cnn8"][:, :20] *= 0.2

    def respond(rows, gain):
        voxels = sum(features[layer][rows] @ weights[layer] for layer in N_UNITS)
        return gain * voxels + rng.normal(0, 0.5, (len(rows), 50))

    n = len(training)
    shown = [*range(n), *range(n, n + 12), *range(n, n + 12), *range(n, n + 12)]
    kinds = [1] * n + [2] * 24 + [3] * 12
    brain = bdpy.BData()
    brain.add(
        np.concatenate([respond(np.array(shown[: n + 24]), 1.0), respond(np.array(shown[n + 24 :]), 0.6)]), "VoxelData"
    )
    brain.add(np.array(kinds, float), "DataType")
    brain.add(np.array([1 + i % 3 for i in range(len(shown))], float), "Run")
    brain.add(np.array([ids[row] for row in shown]), "stimulus_id")
    for name, columns in REGIONS.items():
        brain.add_metadata(f"ROI_{name}", np.isin(np.arange(50), columns) * 1.0, name, where="VoxelData")
    brain.save(str(tmp_path / "Subject1.h5"))
    images = bdpy.BData()
    n_means = len(test) + len(others)
    images.add(np.array([1.0] * n + [2] * 12 + [3] * 12 + [4] * 20), "FeatureType")
    images.add(np.array([int(one) for one in ids] + [int(one) for one in test] + others, float), "CatID")
    for layer, values in features.items():
        images.add(np.concatenate([values, values[n:], rng.normal(size=(20, values.shape[1]))]), layer)
    images.add(np.array([*ids, *[np.nan] * n_means]), "ImageID")
    images.save(str(tmp_path / "ImageFeatures.h5"))
    return tmp_path


def test_the_published_files_are_evaluated(published, tmp_path):
    options = ("--images", published / "ImageFeatures.h5", "--workers", 1)
    run(published / "Subject1.h5", "--subject", "S1", *options, "--out", tmp_path / "out")
    found = {(row["kind"], row["aggregation"]): row for row in read(tmp_path / "out" / "identification.tsv")}
    assert set(found) == {("seen", "single block"), ("seen", "average of repeats"), ("imagined", "single block")}
    assert float(found["seen", "single block"]["accuracy"]) > 0.8
    assert float(found["imagined", "single block"]["accuracy"]) > 0.6
    assert found["seen", "average of repeats"]["n_candidates"] == "32"
    regions = [row for row in read(tmp_path / "out" / "regions.tsv") if row["kind"] == "seen"]
    accuracy = {(row["region"], row["layer"]): float(row["feature_accuracy"]) for row in regions}
    assert accuracy["V1", "cnn1"] > accuracy["HVC", "cnn1"]
    assert accuracy["HVC", "cnn8"] > accuracy["V1", "cnn8"]


def in_files_of_tasks(path, shuffled=False):
    """The subject's file as one of each task, as bdpy makes them from BIDS: several labels, each with a key."""
    whole, rng = bdpy.BData(str(path / "Subject1.h5")), np.random.default_rng(2)
    types, files = whole.select("DataType").ravel(), []
    for number, task in enumerate(("Training", "Test", "Imagery"), 1):
        rows = types == number
        order = rng.permutation(50) if number > 1 else np.arange(50)
        shown = whole.select("stimulus_id")[rows].ravel()
        if shuffled and number > 1:
            names = np.unique(shown)
            shown = np.roll(names, 5)[np.searchsorted(names, shown)]
        is_imagery = task == "Imagery"
        columns = {
            "trial_no": np.arange(len(shown)),
            "category_id" if is_imagery else "stimulus_id": np.floor(shown) if is_imagery else shown,
            "response_time": rng.uniform(1, 99, len(shown)),
        }
        data = bdpy.BData()
        data.add(whole.select("VoxelData")[rows][:, order], "VoxelData")
        data.add(whole.select("Run")[rows], "Run")
        data.add(np.stack([*columns.values()], axis=1), "Label")
        for name in columns:
            data.add_metadata(name, np.where(np.array([*columns]) == name, 1, np.nan), name, where="Label")
        for axis in "xyz":
            data.add_metadata(f"voxel_{axis}", order * 3.0, axis, where="VoxelData")
        for name, members in {**REGIONS, **({"hV4": range(9)} if number == 1 else {})}.items():
            data.add_metadata(f"ROI_{name}", np.isin(order, members) * 1.0, name, where="VoxelData")
        files.append(path / f"Subject1_{task}.h5")
        data.save(str(files[-1]))
    return files


@pytest.mark.parametrize("shuffled", [False, True])
def test_files_of_tasks_are_matched_raw_as_in_the_study(published, tmp_path, shuffled):
    files = in_files_of_tasks(published, shuffled)
    (tmp_path / "s.toml").write_text('[ranking]\nmatch = "raw"\n')
    options = ("--images", published / "ImageFeatures.h5", "--workers", 1, "--settings", tmp_path / "s.toml")
    printed = " ".join(run(*files, "--subject", "S1", *options, "--out", tmp_path / "out").split())
    for note in (
        "Subject1_Test.h5: of the columns of Label, stimulus_id says what was shown",
        "Subject1_Imagery.h5: voxels are put in the order of Subject1_Training.h5 by coordinates",
        "region hV4 is left out: none of this name in Subject1_Test.h5, Subject1_Imagery.h5",
    ):
        assert note in printed
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "ranking.match" in page
    assert "region hV4 is left out" in page
    found = {(row["kind"], row["aggregation"]): row for row in read(tmp_path / "out" / "identification.tsv")}
    for row in found.values():
        low, high = float(row["low"]), float(row["high"])
        assert 0 <= low <= float(row["accuracy"]) <= high <= 1
        assert f"{100 * low:.1f}–{100 * high:.1f}" in printed  # also in a terminal of 80 columns
    block, imagined = found["seen", "single block"], found["imagined", "single block"]
    if shuffled:
        assert float(block["p_value"]) > 0.05
        assert float(block["low"]) < 0.5
    else:
        assert float(block["accuracy"]) > 0.8
        assert float(imagined["accuracy"]) > 0.6


def test_overwriting_leaves_what_no_evaluation_wrote(published, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("report.html", "runs.tsv", "sub-01_task-test_run-1_events.tsv"):
        (out / name).write_text("earlier")
    options = ("--images", published / "ImageFeatures.h5", "--workers", 1, "--overwrite")
    run(published / "Subject1.h5", "--subject", "S1", *options, "--out", out)
    assert (out / "sub-01_task-test_run-1_events.tsv").read_text() == "earlier"
    assert "earlier" not in {path.read_text() for path in out.glob("*.html")}
    written = {path.name for path in out.glob("*.tsv")} - {"sub-01_task-test_run-1_events.tsv"}
    assert written <= set(TABLES)
    assert not (out / "runs.tsv").exists() or (out / "runs.tsv").read_text() != "earlier"


def test_a_region_expression_of_the_published_files(published, tmp_path):
    options = (
        "--region",
        "ROI_VC - ROI_V1",
        "--area",
        "V1",
        "--images",
        published / "ImageFeatures.h5",
        "--workers",
        1,
    )
    run(published / "Subject1.h5", "--subject", "S1", *options, "--out", tmp_path / "out")
    assert {row["region"] for row in read(tmp_path / "out" / "regions.tsv")} == {"ROI_VC - ROI_V1", "V1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Subject1.h5",), "ImageFeatures.h5 with --images"),
        (("Subject1.h5", "--ablate", "everything"), "what can be taken apart is preprocessing"),
        (("Subject1.h5", "--hypernyms", "nothing.txt"), "nothing.txt"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(published, tmp_path, arguments, message):
    file, *options = arguments
    with pytest.raises(InputError, match=message):
        run(published / file, *options, "--subject", "S1", "--out", tmp_path / "out")


def test_a_dry_run_needs_no_folder_and_a_real_one_asks_for_it(shared_data):
    folder = shared_data / "studyforrest-localizer"
    assert "192 rows" in " ".join(run(folder, "--subject", "02", "--dry-run").split())
    assert '"events"' in run(folder, "--subject", "02", "--show-settings")
    with pytest.raises(InputError, match="give one with --out"):
        run(folder, "--subject", "02")
