import json

import pytest

from benchmarks import pictures


def test_figures_are_measured_and_written(tmp_path, capsys):
    assert pictures.main(["--pictures", "3000", "--queries", "12", "--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["picture_over_blas"] == pytest.approx(figures["picture_ms"] / figures["blas_ms"])
    assert 0 < figures["picture_ms_least"] <= figures["picture_ms"] <= figures["picture_ms_p99"]
    assert figures["copies_mb"] == pytest.approx(figures["codes_mb"] / 4)
    assert (figures["n_pictures"], figures["n_dimensions"]) == (3000, 512)
    assert "picture_ms_p99" in capsys.readouterr().out


def test_a_search_that_misses_a_picture_is_noticed(monkeypatch):
    monkeypatch.setattr(pictures.Pictures, "nearest", lambda self, *_: self.missed)
    monkeypatch.setattr(pictures.Pictures, "missed", (), raising=False)
    with pytest.raises((SystemExit, ValueError)):
        pictures.measure(3000, 2)
