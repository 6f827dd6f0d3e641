import json

from benchmarks import ingest


def test_every_figure_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ingest, "N_OLD", 100)
    assert ingest.main(["--n", "8", "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures) == [
        "complete_to_wire_ms_p50", "complete_to_wire_ms_p99", "large_complete_to_wire_ms_p99", "share_ms_p99",
        "over_pydicom_ratio", "cstore_over_pynetdicom_ratio", "old_files_start_s", "rss_mb",
    ]  # fmt: skip
    assert 0 < figures["complete_to_wire_ms_p50"] <= figures["complete_to_wire_ms_p99"] < 5000
    assert 0.5 < figures["over_pydicom_ratio"] < 10
    assert 0.1 < figures["cstore_over_pynetdicom_ratio"] < 10
    printed = capsys.readouterr().out
    assert all(name in printed for name in figures)
