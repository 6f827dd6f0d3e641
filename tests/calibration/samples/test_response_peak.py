"""The peak of the response is learned from runs whose truth is known, and not from runs without responses."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import crosstalk
from benchmarks.crosstalk import Design, Subject, recordings
from calibration.samples.response_peak import learn_peak, learns_peak, settings_with_learned_peak, with_times
from rtgod.settings import PipelineSettings

DESIGN = Design(9.0, 3.0)
SETTINGS = PipelineSettings()


def runs(peak_s, n=6, seed=1):
    return recordings(Subject(peak_s, seed).scans(DESIGN, n), DESIGN, SETTINGS)


@pytest.mark.parametrize("peak_s", [4.0, 5.5, 7.0])
def test_the_peak_is_found_within_its_uncertainty(peak_s):
    peak = learn_peak(runs(peak_s), SETTINGS)
    assert peak.delay_s == 0.0
    assert 0.1 <= peak.sd_s < 0.5
    assert peak.peak_s == pytest.approx(peak_s, abs=3 * peak.sd_s)


def test_what_the_settings_assume_does_not_decide():
    scans = Subject(6.0, 3).scans(DESIGN, 6)
    found = []
    for assumed_s in (4.0, 7.0):
        settings = PipelineSettings.model_validate({"response": {"peak_s": assumed_s}})
        found.append(learn_peak(recordings(scans, DESIGN, settings), settings))
    assert found[0].peak_s == pytest.approx(found[1].peak_s, abs=0.5)


def test_without_responses_to_categories_what_all_trials_have_in_common_may_tell(monkeypatch):
    """All categories are alike: if anything tells when responses come, it is the start and the end of all blocks."""
    monkeypatch.setattr(crosstalk, "EFFECT", 0.0)
    recorded = runs(5.0, 4)
    assert learn_peak(recorded, SETTINGS) is None
    settings, (note, *_) = settings_with_learned_peak(recorded, SETTINGS)
    assert "by one regressor for all trials, as categories do not tell" in note
    assert settings.response.peak_s == pytest.approx(5.0, abs=3 * settings.response.peak_sd_s)


def test_without_responses_nothing_is_learned_and_that_is_said(monkeypatch):
    monkeypatch.setattr(crosstalk, "EFFECT", 0.0)
    monkeypatch.setattr(crosstalk, "EVOKED", 0.0)
    unlearned = 0
    for seed in range(2):
        settings, notes = settings_with_learned_peak(runs(5.0, 4, seed), SETTINGS)
        if settings == SETTINGS:
            unlearned += 1
            assert "could not be learned" in notes[0]
            assert "5 s (response.peak_s)" in notes[0]
        else:
            assert settings.response.peak_sd_s > 0.3
    assert unlearned >= 1


def test_shuffled_labels_teach_nothing():
    rng = np.random.default_rng(0)
    shuffled = [replace(run, categories=rng.permutation(run.categories).tolist()) for run in runs(5.0)]
    assert learn_peak(shuffled, SETTINGS) is None


def test_a_category_shown_once_teaches_nothing():
    (run,) = runs(5.0, 1)
    once = replace(run, categories=[str(n) for n in range(len(run.categories))])
    assert learn_peak([once], SETTINGS) is None
    assert learn_peak([], SETTINGS) is None


def test_settings_take_it_over_and_nothing_else():
    settings, (note,) = settings_with_learned_peak([*runs(7.0), None], SETTINGS)
    response = settings.response
    assert f"{response.peak_s:.1f} ± {response.peak_sd_s:.1f} s" in note
    assert settings == with_times(SETTINGS, learn_peak(runs(7.0), SETTINGS))
    changed = SETTINGS.response.model_copy(update={"peak_s": response.peak_s, "peak_sd_s": response.peak_sd_s})
    assert settings == SETTINGS.model_copy(update={"response": changed})


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, True),
        ({"response": {"learn_peak": False}}, False),
        ({"window": {"estimate": "mean"}}, False),
        ({"window": {"mode": "sliding"}}, False),
        ({"window": {"mode": "repeats"}}, True),
    ],
)
def test_it_is_learned_where_it_is_used(given, asked):
    assert learns_peak(PipelineSettings.model_validate(given)) is asked
