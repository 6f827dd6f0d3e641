"""How hard a subject is, measured on a small and easy one; subjects without a signal are in test_null_subjects.py."""

import json

import pytest

from benchmarks import simulated_subject
from tests.subjects import EASY, EASY_NOISE

SMALL = simulated_subject.SUBJECT.model_copy(
    update={
        "shape": (32, 32, 25),
        "voxel_mm": (6.0, 6.0, 6.0),
        "n_test_runs": 1,
        "n_imagery_runs": 1,
        "stimuli": simulated_subject.SUBJECT.stimuli.model_copy(
            update={"n_training_categories": 50, "n_images_per_category": 2, "n_images_per_candidate": 1, "size_px": 64}
        ),
        "response": EASY,
        "noise": EASY_NOISE,
    }
)


def test_an_easy_subject_is_decoded(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(simulated_subject, "SUBJECT", SMALL)
    assert simulated_subject.main(["--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["sim_top5_of_50"] > 0.3  # chance is 0.1
    assert figures["sim_effective_rank_least"] <= figures["sim_effective_rank"] <= figures["sim_effective_rank_most"]
    assert figures["sim_effective_rank"] == pytest.approx(10, rel=0.3)
    assert "sim_top5_of_50" in capsys.readouterr().out
