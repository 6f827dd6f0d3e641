"""The gap between causal and hindsight decoding is measured fairly: by data with known truth, and on the real ones."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import causal_gap
from benchmarks.gap import classifiers, recordings, samples
from benchmarks.gap.intervals import Bootstrap, middle_95
from calibration.metrics.statistics import wilson
from calibration.samples.runs import AlignedRun
from rtgod.events.table import label_of
from rtgod.events.trials import Trial
from rtgod.messages import Block, Motion, Run
from rtgod.preprocessing.alignment import Aligned
from rtgod.preprocessing.hrf import block_response
from rtgod.settings import NoiseSettings, ResponseSettings

TR_S, N_VOLUMES, N_VOXELS, DURATION_S = 2.0, 80, 24, 12.0
CATEGORIES = ("face", "house", "face", "house")


def run(number, rng, delay_s=0.0, effect=12.0):
    """A run whose responses come `delay_s` later than its table says, each category's in voxels of its own."""
    order = rng.permutation(CATEGORIES)
    trials = tuple(Trial(20.0 + 32 * k, DURATION_S, "stimulus", str(name)) for k, name in enumerate(order))
    middles_s = (np.arange(N_VOLUMES) + 0.5) * TR_S
    patterns = {"face": np.arange(N_VOXELS) < 8, "house": np.arange(N_VOXELS) >= 16}
    signal = sum(
        np.outer(
            block_response(middles_s - trial.onset_s - delay_s, DURATION_S, 5, 15, 1 / 6), patterns[trial.category]
        )
        for trial in trials
    )
    drift = 3 * np.outer(np.linspace(-1, 1, N_VOLUMES), rng.normal(size=N_VOXELS))
    values = (1000 + drift + effect * signal + 3 * rng.normal(size=(N_VOLUMES, N_VOXELS))).astype(np.float32)
    still = Motion((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, None, 0, converged=True)
    none = np.empty(0, np.float32)
    volumes = tuple(Aligned(f"run {number}", i, v, none, still, 1.0) for i, v in enumerate(values))
    blocks = tuple(Block(trial.onset_s, DURATION_S, label_of(trial.category)) for trial in trials)
    made = Run(
        run_id=f"run {number}", subject="01", tr_s=TR_S, shape=(4, 3, 2), affine=np.eye(4), blocks=blocks,
        n_volumes=N_VOLUMES,
    )  # fmt: skip
    return AlignedRun(Path("bold"), Path("events"), made, trials, volumes, {})


def recording(delay_s=0.0, effect=12.0, n_runs=4, seed=0):
    rng = np.random.default_rng(seed)
    return recordings.by_runs("planted", [run(k, rng, delay_s, effect) for k in range(n_runs)])


def one_run(effect=12.0, seed=0):
    return recordings.of_one_run("one run", run(0, np.random.default_rng(seed), effect=effect))


def delays_of(planted, blocks_s=0.0, windows_s=5.0):
    response = recordings.SETTINGS.response.model_copy(update={"delay_s": blocks_s})
    return {
        fold: {"blocks": blocks_s, "windows": windows_s, "response": response}
        for fold in np.unique(planted.fold).tolist()
    }


@pytest.mark.parametrize("delay_s", [-6.0, 0.0, 4.0])
def test_a_planted_delay_is_found_without_labels(delay_s):
    planted = recording(delay_s)
    assert samples.estimate_delay(planted, 0, "blocks") == pytest.approx(delay_s, abs=1)
    windows_s = samples.estimate_delay(planted, 0, "windows")
    assert windows_s == pytest.approx(delay_s + 4, abs=2)
    assert min(samples.WINDOW_DELAYS_S) < windows_s < max(samples.WINDOW_DELAYS_S)


def test_the_delay_of_the_left_out_run_is_not_looked_at():
    rng = np.random.default_rng(0)
    runs = [run(k, rng, delay_s) for k, delay_s in enumerate([5.0, -5.0, -5.0, -5.0])]
    mixed = recordings.by_runs("mixed", runs)
    assert samples.estimate_delay(mixed, 0, "blocks") == pytest.approx(-5, abs=1)


def test_a_causal_sample_does_not_know_what_comes_after_it_and_hindsight_does():
    planted = recording()
    later = planted.runs[0].volumes[60:]
    changed = tuple(replace(volume, decoder_values=volume.decoder_values + 50) for volume in later)
    other = replace(
        planted, runs=(replace(planted.runs[0], volumes=planted.runs[0].volumes[:60] + changed), *planted.runs[1:])
    )
    for make, when in ((samples.causal, ResponseSettings()), (samples.simple_causal, 5.0)):
        one, two = make(planted, when).X[:3], make(other, when).X[:3]
        np.testing.assert_array_equal(one, two)
    for make, delay_s in ((samples.hindsight_mean, 5.0), (samples.hindsight_response, 0.0)):
        assert not np.allclose(make(planted, delay_s).X[:3], make(other, delay_s).X[:3])


def test_the_left_out_fold_s_noise_whitens_nothing():
    planted = recording()
    made = samples.hindsight_response(planted, 0.0)
    loud = replace(made, noise=np.where((made.noise_fold == 1)[:, np.newaxis], 100 * made.noise, made.noise))
    settings = NoiseSettings(n_components=3)
    np.testing.assert_array_equal(made.whitened(1, settings), loud.whitened(1, settings))
    assert not np.allclose(made.whitened(0, settings), loud.whitened(0, settings))


@pytest.mark.parametrize("make", [recording, one_run])
def test_what_is_planted_is_decoded_on_both_sides(make):
    planted = make()
    for way in ("hindsight_response_whitened", "causal_response", "simple_causal"):
        X = causal_gap.samples_of(planted, delays_of(planted), way)
        for name in classifiers.CLASSIFIERS:
            assert classifiers.tested(name, X, planted, planted.categories).right.mean() > 0.7, (way, name)


def test_shuffled_labels_give_chance():
    """Null: also after tuning, on both sides."""
    rng = np.random.default_rng(0)
    planted = recording()
    for way in ("hindsight_response_whitened", "causal_response_whitened"):
        X = causal_gap.samples_of(planted, delays_of(planted), way)
        shares = [classifiers.tested("ridge", X, planted, planted.shuffled(rng)).right.mean() for _ in range(10)]
        assert np.mean(shares) == pytest.approx(0.5, abs=4 * np.std(shares, ddof=1) / np.sqrt(10))


def test_shuffling_keeps_folds_balanced_and_blocks_whole():
    one = one_run()
    shuffled = one.shuffled(np.random.default_rng(1))
    for block in range(4):
        assert len(set(shuffled[one.block == block])) == 1
    for fold in (0, 1):
        assert sorted(shuffled[one.fold == fold]) == sorted(one.categories[one.fold == fold])
    for category in ("face", "house"):
        assert one.of_blocks(one.fold)[one.of_blocks(one.categories) == category].tolist() == [0, 1]


def test_the_left_out_labels_tune_nothing():
    planted = recording(effect=2.0)
    X = causal_gap.samples_of(planted, delays_of(planted), "hindsight_response")
    exchanged = planted.categories.copy()
    exchanged[planted.fold == 2] = np.where(exchanged[planted.fold == 2] == "face", "house", "face")
    for name in classifiers.CLASSIFIERS:
        one, two = (classifiers.tested(name, {2: X[2]}, planted, labels) for labels in (planted.categories, exchanged))
        assert (one.chosen, one.inner) == (two.chosen, two.inner)
        np.testing.assert_array_equal(one.right[planted.fold == 2], ~two.right[planted.fold == 2])


def test_of_equally_good_values_those_in_the_middle_are_taken_and_edges_are_counted():
    params = [{"c": c, "k": k} for c in (1, 2, 3) for k in (10, 20, 30)]
    assert classifiers.middle_of_best({"params": params, "mean_test_score": np.full(9, 0.5)}) == 4
    scores = np.full(9, 0.5)
    scores[0] = 0.6
    assert classifiers.middle_of_best({"params": params, "mean_test_score": scores}) == 0
    assert classifiers._at_edge("svm__C", [1, 2, 3], {"svm__C": 3}, 100)
    assert not classifiers._at_edge("svm__C", [1, 2, 3], {"svm__C": 2}, 100)
    assert classifiers._at_edge("select__k", [10, 50], {"select__k": 10}, 50)
    assert not classifiers._at_edge("select__k", [10, 50], {"select__k": 50}, 50)


def test_differences_are_paired_and_their_interval_covers():
    units = [np.repeat(np.arange(12), 8)]
    bootstrap = Bootstrap(units)
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        of_run = rng.normal(0, 0.1, 12).repeat(8)
        a, b = ((rng.random(96) < np.clip(p + of_run, 0, 1)).astype(float) for p in (0.8, 0.7))
        low, high = middle_95(bootstrap.means([a]) - bootstrap.means([b]))
        covered += low <= 0.1 <= high
    assert 0.87 <= covered / 200 <= 0.99
    same = [rng.random(96)]
    np.testing.assert_array_equal(bootstrap.means(same), bootstrap.means(same))


def test_wilson_s_interval_of_a_known_case():
    np.testing.assert_allclose(wilson(61, 96), (0.5357, 0.7248), atol=1e-4)
    np.testing.assert_allclose(wilson(0, 10), (0, 0.2775), atol=1e-4)
    bounds = np.array([wilson(right, n) for n in range(1, 100) for right in (0, n)])
    assert (bounds.min(), bounds.max()) == (0, 1)


def test_figures_are_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(causal_gap, "read_haxby", lambda _: recording())
    monkeypatch.setattr(causal_gap, "read_studyforrest", lambda _: one_run())
    monkeypatch.setattr(causal_gap, "N_SHUFFLES", 3)
    assert causal_gap.main(["--workers", "1", "--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert all(isinstance(value, int | float) for value in figures.values())
    assert (figures["n_blocks"], figures["planted_n_blocks"], figures["one run_n_blocks"]) == (20, 16, 4)
    for name in ("hindsight_best", "causal_best", "simple_causal_best", "ratio", "null_causal", "null_hindsight"):
        for prefix in ("", "planted_", "one run_"):
            low, value, high = (figures[f"{prefix}{name}{bound}"] for bound in ("_low", "", "_high"))
            assert 0 <= low <= value <= high
            assert name == "ratio" or high <= 1
    ways = [f"{way}_{name}" for way in samples.WAYS for name in classifiers.CLASSIFIERS]
    assert figures["hindsight_best"] == max(figures[way] for way in ways if way.startswith("hindsight"))
    assert figures["ratio"] == figures["causal_best"] / figures["hindsight_best"]
    assert figures["gap"] == pytest.approx(figures["hindsight_best"] - figures["causal_best"])
    said = capsys.readouterr().out
    assert "tuned values are at the edge" in said
    assert "later than the table by" in said


@pytest.mark.parametrize("shares", [[0.0, 0.0, 0.02, 0.1], [1.0, 0.96, 1.0, 1.0], [0.0] * 4])
def test_a_null_s_interval_is_of_shares(shares):
    """A mean ± 2 standard errors would leave 0 to 1."""
    planted = one_run()
    cells = {
        (way, "ridge"): classifiers.Tested(np.ones(4, bool), {0: 1.0, 1: 1.0}, ({}, {}), 0, 2) for way in samples.WAYS
    }
    nulls = dict.fromkeys(causal_gap.NULLS, np.array(shares))
    figures = causal_gap.figures_of("", [causal_gap.Measured(planted, {}, cells, nulls)])
    for side in causal_gap.NULLS:
        low, value, high = (figures[f"null_{side}{bound}"] for bound in ("_low", "", "_high"))
        assert value == pytest.approx(np.mean(shares))
        assert 0 <= low <= value <= high <= 1
        assert low < high


def test_says_what_is_missing(tmp_path, capsys):
    assert causal_gap.main(["--data", str(tmp_path)]) == 2
    assert "no sub001/BOLD" in capsys.readouterr().err


@pytest.fixture(scope="module")
def haxby():
    from benchmarks.figures import shared_data

    folder = shared_data() / "haxby2001"
    if not folder.is_dir():
        pytest.skip(f"needs the real data in {folder} (or RTGOD_SHARED_DATA)")
    return recordings.read_haxby(folder)


def test_the_data_are_read_whole(haxby):
    assert len(haxby.runs) == 12
    assert all(len(run.volumes) == 121 and len(run.trials) == 8 for run in haxby.runs)
    assert (haxby.n_categories, len(haxby.categories)) == (8, 96)


def test_the_table_of_the_real_runs_is_late_and_this_is_found(haxby):
    assert samples.estimate_delay(haxby, 0, "blocks") == pytest.approx(-5, abs=1)
