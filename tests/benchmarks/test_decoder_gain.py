"""The gain of learned times and of the decoder that is chosen is that of what is planted."""

import json

import pytest

from benchmarks import accuracy, decoder_gain
from tests.benchmarks.test_causal_gap import recording


def test_what_is_planted_is_decoded_and_exchanged_categories_are_not(monkeypatch):
    planted = recording(n_runs=6, delay_s=-5.0)
    monkeypatch.setattr(decoder_gain, "DECODERS", ("auto", "lda"))
    figures = decoder_gain.figures_of(planted, n_folds=2)
    assert figures["n_blocks"] == sum(len(run.trials) for run in planted.runs)
    assert figures["right_auto"] > 0.9
    assert figures["right_null"] < 0.75
    assert figures["delay_gain"] == pytest.approx(figures["right_auto"] - figures["right_auto_without_learned_times"])
    assert figures["auto_over_best_single"] == pytest.approx(figures["right_auto"] - figures["right_lda"])
    assert figures["delay_gain_low"] <= figures["delay_gain"] <= figures["delay_gain_high"]


def test_figures_are_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(decoder_gain, "read_haxby", lambda _: None)
    monkeypatch.setattr(decoder_gain, "figures_of", lambda _: {"delay_gain": 0.1})
    assert decoder_gain.main(["--json", str(tmp_path / "f.json")]) == 0
    assert json.loads((tmp_path / "f.json").read_text()) == {"delay_gain": 0.1}
    assert "delay_gain" in capsys.readouterr().out


def test_without_the_recording_it_is_said(tmp_path, capsys):
    assert decoder_gain.main(["--data", str(tmp_path)]) == 2
    assert "give the folder of haxby2001" in capsys.readouterr().err


def test_accuracy_takes_the_figures_of_each():
    wanted = [figure for _, figures in accuracy.PARTS.values() for figure in figures]
    assert len(wanted) == len(set(wanted))
    assert {"weighted_gain", "delay_gain_low", "auto_over_best_single_high", "picture_ms_p99"} <= set(wanted)
