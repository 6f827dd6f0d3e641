import json

import numpy as np
import pytest

from benchmarks import latency


@pytest.fixture
def small(monkeypatch):
    """A tenth of everything."""
    for name, value in {"N_VOXELS": 300, "N_UNITS": 50, "N_CANDIDATES": 500, "N_SAMPLES": 60}.items():
        monkeypatch.setattr(latency, name, value)
    monkeypatch.setattr(latency, "SIZES", {"64x64x50": ((32, 32, 25), 6.0), "other": ((34, 34, 26), 6.0)})
    monkeypatch.setattr(latency, "VOLUMES_PER_RUN", 40)


@pytest.mark.usefixtures("small")
def test_figures_are_measured_and_written(tmp_path, capsys):
    assert latency.main(["--volumes", "160", "--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["n_volumes"] == 160
    assert figures["step_p99_ms"] >= figures["step_median_ms"] > figures["stage_align_ms"] > 0
    assert figures["step_median_over_floor"] == pytest.approx(figures["step_median_ms"] / figures["floor_ms"])
    assert abs(figures["rss_growth_mb"]) < 5
    assert "step_median_over_floor_other" in figures
    assert "step_p99_over_floor" in capsys.readouterr().out


def test_the_head_moves_and_is_noisy():
    template = np.zeros((20, 20, 16), np.float32)
    template[5:15, 5:15, 4:12] = 800
    volumes = latency.moving_head(template, np.diag([6.0, 6, 6, 1]), n=5)
    assert len({v.tobytes() for v in volumes}) == 5
    assert all(v.dtype == np.int16 and v.flags.c_contiguous for v in volumes)
