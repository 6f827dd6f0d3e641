import json

import numpy as np
import pytest

from benchmarks import causal_gap


@pytest.fixture(scope="module")
def runs(shared_data):
    return causal_gap.read_runs(shared_data / "haxby2001")


@pytest.fixture(scope="module")
def shared_data():
    from benchmarks.figures import shared_data

    folder = shared_data()
    if not folder.is_dir():
        pytest.skip(f"needs the real data in {folder} (or RTGOD_SHARED_DATA)")
    return folder


def test_the_data_are_read_whole(runs):
    assert len(runs) == 12
    assert all(len(run.volumes) == 121 and len(run.trials) == 8 for run in runs)
    assert len({trial.category for run in runs for trial in run.trials}) == 8
    assert {trial.duration_s for run in runs for trial in run.trials} == {22.5}


def test_offline_is_the_published_way(runs):
    """Whole runs centred and scaled, block means: 61 of 96 blocks."""
    offline = [causal_gap.offline_samples(run) for run in runs]
    assert sum(causal_gap.n_right(offline, k) for k in range(12)) == 61


def test_the_defaults_reach_offline_accuracy_causally(runs):
    settings = causal_gap.settings_for()
    samples = [causal_gap.causal_samples(run, settings) for run in runs]
    noise = causal_gap.PipelineSettings().noise
    right = sum(causal_gap.n_right(causal_gap.whitened(samples, k, noise), k) for k in range(12))
    assert right >= 58
    unwhitened = sum(causal_gap.n_right(samples, k) for k in range(12))
    assert unwhitened < right


def test_a_sample_does_not_know_what_comes_after_it(runs):
    run = runs[0]
    last = max(
        i for i in range(121) if causal_gap.Window(run.run, causal_gap.settings_for().window).position(i)[0] == 3
    )
    cut = causal_gap.replace(run, volumes=run.volumes[: last + 1])
    whole, part = (causal_gap.causal_samples(r, causal_gap.settings_for()) for r in (run, cut))
    assert part.samples.tobytes() == whole.samples[:4].tobytes()


def test_the_held_out_run_chooses_nothing(runs):
    """Shuffling its labels changes neither its whitening nor what is chosen within the others."""
    samples = [causal_gap.causal_samples(run, causal_gap.settings_for()) for run in runs[:5]]
    shuffled = [*samples[:2], causal_gap.replace(samples[2], categories=samples[2].categories[::-1]), *samples[3:]]
    assert causal_gap.inner_accuracy(shuffled, 2) == causal_gap.inner_accuracy(samples, 2)


def test_wilson_s_interval_of_a_known_case():
    np.testing.assert_allclose(causal_gap.wilson(61, 96), (0.5357, 0.7248), atol=1e-4)
    np.testing.assert_allclose(causal_gap.wilson(0, 10), (0, 0.2775), atol=1e-4)


def test_figures_are_written(runs, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(causal_gap, "read_runs", lambda _: runs[:4])
    monkeypatch.setattr(causal_gap, "GRID", {"drift_sd": (0.2,), "response_sd": (1.0,), "n_components": (20, 100)})
    monkeypatch.setattr(
        causal_gap, "simulated_gap",
        lambda _: {"simulated_n_blocks": 2, "simulated_offline": 0.7, "simulated_causal": 0.8},
    )  # fmt: skip
    assert causal_gap.main(["--subject", str(tmp_path), "--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["n_blocks"] == 32
    assert figures["causal_low"] < figures["causal_accuracy"] < figures["causal_high"]
    assert "95 % interval" in capsys.readouterr().out


def test_says_what_is_missing(tmp_path, capsys):
    assert causal_gap.main(["--data", str(tmp_path)]) == 2
    assert "no sub001/BOLD" in capsys.readouterr().err
