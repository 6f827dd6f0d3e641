import json

import numpy as np
import pytest

from benchmarks import decoders


@pytest.fixture
def small(monkeypatch):
    """A tenth of everything, and less."""
    sizes = {
        "N_SAMPLES": 120,
        "N_VOXELS": 300,
        "N_SELECTED": 40,
        "N_LAYERS": 2,
        "N_SPARSE": 6,
        "N_FEW": 10,
        "N_TURNS": 1,
    }
    for name, value in sizes.items():
        monkeypatch.setattr(decoders, name, value)


@pytest.mark.filterwarnings("ignore:the matrix subclass", "ignore:Conversion of an array")  # in fastl2lir
@pytest.mark.usefixtures("small")
def test_figures_are_measured_and_written(tmp_path, capsys):
    assert decoders.main(["--units", "20", "--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["n_units"] == 20
    assert figures["ridge_select_max_abs_diff"] < 1e-6
    assert figures["slr_max_abs_diff"] < 1e-6
    assert 1 < figures["slr_voxels_per_unit"] <= 40
    for how, suffix in (("one_thread", "_one_thread"), ("at_best", "")):
        ratio = figures[f"fastl2lir{suffix}_s"] / figures[f"ridge_select{suffix}_s"]
        assert figures[f"ridge_select_speedup_vs_fastl2lir_{how}"] == pytest.approx(ratio)
    assert figures["version_fastl2lir"].startswith("0.")
    ratio = figures["slr_numpy_unit_s"] / figures["slr_unit_s"]
    assert figures["slr_speedup_vs_numpy"] == pytest.approx(ratio)
    assert min(figures["ridge_8000_units_s"], figures["fastl2lir_100_units_s"]) > 0
    assert "slr_speedup_vs_numpy" in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_samples_are_z_scored_and_tell_of_units():
    X, Y = decoders.samples(30)
    for values in (X, Y):
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(values.std(axis=0, ddof=1), 1)
    assert np.abs(X.T @ Y / len(X)).max() > 0.4
