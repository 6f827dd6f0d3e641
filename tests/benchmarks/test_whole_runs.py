import json

from benchmarks import whole_runs


def test_a_run_is_compared_with_its_replay(shared_data, tmp_path, monkeypatch):
    monkeypatch.setattr(whole_runs, "RUNS", {"siemens_run": whole_runs.RUNS["siemens_run"]})
    command = ["--data", str(shared_data), "--volumes", "20", "--speed", "20", "--json", str(tmp_path / "figures.json")]
    assert whole_runs.main(command) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["siemens_run_volumes"] == figures["siemens_run_volumes_live"] == 20
    assert figures["siemens_run_rankings"] > 0
    assert figures["siemens_run_voxels_equal"] == figures["siemens_run_rankings_equal"] == 1
    assert figures["siemens_run_lost_lines"] == 0


def test_what_differs_is_found(monkeypatch, capsys):
    compared = {"volumes": 3.0, "voxels_equal": 1.0, "rankings_equal": 0.0}
    monkeypatch.setattr(whole_runs, "series_in", lambda *_: None)
    monkeypatch.setattr(whole_runs, "live_against_replay", lambda *_: compared)
    assert whole_runs.main([]) == 1
    assert "siemens_run_rankings_equal" in capsys.readouterr().out
