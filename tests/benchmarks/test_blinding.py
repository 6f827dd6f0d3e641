"""Nobody learns a run's condition from what is open: neither a comparison, nor a classifier that would find a leak."""

from __future__ import annotations

import numpy as np

from benchmarks import blinding
from stimulus.blinding.conditions import ConditionKind


def test_the_same_run_looks_the_same_in_each_condition(tmp_path):
    for seed in range(2):
        runs = [
            blinding.rehearsed(tmp_path / f"{seed} {condition}", condition, np.random.default_rng(seed))
            for condition in blinding.CONDITIONS
        ]
        # What is sealed looks random, and random bytes compress a little better at times.
        compressed = [run.visible.pop("_shown.sealed compressed") for run in runs]
        assert max(compressed) < 1.001 * min(compressed)
        for run in runs:
            assert len(run.visible) > 100
            assert run.visible == runs[0].visible
        assert runs[blinding.CONDITIONS.index(ConditionKind.NONE)].telling["flips scene rows"] < 20
        assert runs[0].telling["flips scene rows"] > 50


def test_a_classifier_is_right_by_chance_and_would_find_a_leak(tmp_path):
    figures = blinding.blinding(tmp_path / "runs", 40)
    assert figures["blinding_auc"] <= figures["blinding_auc_null_p99"]
    assert figures["blinding_auc_highest"] <= figures["blinding_auc_highest_null_p99"]
    assert figures["blinding_auc_of_a_leak"] > 0.9
