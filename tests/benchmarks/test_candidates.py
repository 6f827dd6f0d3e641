import json

import numpy as np
import pytest

from benchmarks import candidates

pytest.importorskip("faiss")


@pytest.fixture
def small(monkeypatch):
    """A fiftieth of the images."""
    for name, value in {"N_UNITS": 48, "N_QUERIES": 20}.items():
        monkeypatch.setattr(candidates, name, value)


@pytest.mark.usefixtures("small")
def test_figures_are_measured_and_written(tmp_path, capsys):
    assert candidates.main(["--candidates", "20000", "--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["n_candidates"] == 20_000
    assert figures["faiss_recall_at_10"] >= 0.99
    assert figures["faiss_speedup_vs_exact"] == pytest.approx(figures["exact_ms"] / figures["faiss_ms"])
    assert figures["index_mb"] == pytest.approx(20_000 * 96 / 8 / 2**20)  # a bit for each unit
    assert figures["build_s"] > 0
    assert "faiss_recall_at_10" in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_too_few_to_compare_are_refused():
    with pytest.raises(SystemExit, match="searched exactly"):
        candidates.main(["--candidates", "500"])


def test_queries_are_like_their_categories_as_decoded_features_are(monkeypatch):
    monkeypatch.setattr(candidates, "N_QUERIES", 400)
    images, queries = candidates.drawn(candidates.N_PER_CATEGORY)  # one category
    for name, rows in images.items():
        mean = rows.mean(axis=0)
        r = [np.corrcoef(mean, query.layers[name])[0, 1] for query in queries]
        assert 0.25 < np.mean(r) < 0.35
        share = 1 - rows.var(axis=0).mean() / np.square(rows).mean()
        assert share == pytest.approx(candidates.CATEGORY_SHARE, abs=0.1)
