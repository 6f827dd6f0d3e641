import json
from pathlib import Path

import pytest

from benchmarks import evidence


def stub(figures, code=0):
    def main(arguments):
        if not code:
            Path(arguments[1]).write_text(json.dumps(figures))
        return code

    return main


def test_the_figures_of_each_benchmark_are_joined(monkeypatch, tmp_path, capsys):
    parts = {
        name: (stub({**dict.fromkeys(wanted, 0.25), "other": 1.0}), wanted)
        for name, (_, wanted) in evidence.PARTS.items()
    }
    monkeypatch.setattr(evidence, "PARTS", parts)
    assert evidence.main(["--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert {figure for _, wanted in parts.values() for figure in wanted} < set(figures)
    assert "other" not in figures
    assert "null_peak_coverage" in capsys.readouterr().out


def test_one_benchmark_alone_and_one_that_cannot_run(monkeypatch, tmp_path):
    monkeypatch.setattr(evidence, "PARTS", {"a": (stub({"x": 1.0}), ("x",)), "b": (stub({}, code=2), ("y",))})
    assert evidence.main(["--only", "a", "--json", str(tmp_path / "f.json")]) == 0
    assert json.loads((tmp_path / "f.json").read_text())["x"] == 1.0
    assert evidence.main([]) == 2
    with pytest.raises(SystemExit):
        evidence.main(["--only", "c"])
