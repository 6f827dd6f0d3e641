"""Delays of the events are learned where runs tell them, are said in plain words, and are not made up."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from calibration.samples.response_lags import N_PARTS, Lags, LearnedTimes, believed, parts_of
from calibration.samples.response_peak import learn_peak, learn_settings, notes_on, notes_on_test_runs
from calibration.samples.response_recording import record
from calibration.samples.runs import AlignedRun, clean_run
from rtgod.events.trials import Trial
from rtgod.messages import Block, Motion, Run
from rtgod.preprocessing.alignment import Aligned, Reference
from rtgod.preprocessing.hrf import block_response
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import PipelineSettings, ResponseSettings

TR_S, N_VOLUMES, N_VOXELS, DURATION_S, N_TRIALS = 2.0, 140, 60, 12.0, 8
SETTINGS = PipelineSettings()
STILL = Motion((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 0.01, 3, converged=True)
REFERENCE = Reference(
    np.ones((1, 1, N_VOXELS), np.float32), np.eye(4), np.column_stack([np.zeros((N_VOXELS, 2)), np.arange(N_VOXELS)])
)


def with_onsets(run, onsets_s):
    """The same volumes, with a table of other onsets."""
    trials = tuple(replace(trial, onset_s=onset_s) for trial, onset_s in zip(run.trials, onsets_s, strict=True))
    blocks = tuple(replace(block, onset_s=onset_s) for block, onset_s in zip(run.run.blocks, onsets_s, strict=True))
    return replace(run, trials=trials, run=replace(run.run, blocks=blocks))


def aligned(number, delay_s, effect, n_categories, peak_s=5.0):
    """A run whose responses come `delay_s` later than its table says."""
    rng = np.random.default_rng(100 + number)
    patterns = np.random.default_rng(0).standard_normal((n_categories, N_VOXELS)) + 0.7
    shown = rng.permutation(np.arange(N_TRIALS) % n_categories)
    onsets_s = 24.0 + 30.0 * np.arange(N_TRIALS) + rng.integers(0, 5, N_TRIALS)
    since_s = (np.arange(N_VOLUMES)[:, np.newaxis] + 0.5) * TR_S - onsets_s - delay_s
    noise = rng.standard_normal((N_VOLUMES, N_VOXELS))
    noise[1:] = 0.5 * noise[:-1] + 0.9 * noise[1:]
    signal = effect * block_response(since_s, DURATION_S, peak_s, 15, 1 / 6) @ patterns[shown]
    values = (1000 * (1 + (signal + noise) / 100)).astype(np.float32)
    trials = tuple(
        Trial(float(onset_s), DURATION_S, "stimulus", f"c{c}") for onset_s, c in zip(onsets_s, shown, strict=True)
    )
    blocks = tuple(Block(trial.onset_s, DURATION_S) for trial in trials)
    run = Run(f"run-{number}", "01", TR_S, (1, 1, N_VOXELS), np.eye(4), N_VOLUMES, blocks)
    nothing = np.empty(0, np.float32)
    volumes = tuple(Aligned(run.run_id, n, v, nothing, STILL, 1.0) for n, v in enumerate(values))
    return AlignedRun(Path("run"), Path("events"), run, trials, volumes, {})


@cache
def runs(delay_s, n=4, effect=0.6, n_categories=4, peak_s=5.0):
    return tuple(aligned(number, delay_s, effect, n_categories, peak_s) for number in range(n))


def recorded(scans, settings=SETTINGS):
    return [record(run, REFERENCE, settings, Noise()) for run in scans]


def learned(scans, settings=SETTINGS):
    return learn_settings(lambda assumed: recorded(scans, assumed), settings)


@pytest.mark.parametrize("delay_s", [-5.0, 0.0, 3.0])
def test_a_planted_delay_is_found_from_categories(delay_s):
    settings, notes = learned(runs(delay_s))
    response = settings.response
    assert response.peak_s + response.delay_s == pytest.approx(5.0 + delay_s, abs=max(0.6, 3 * response.peak_sd_s))
    assert not any("categories do not tell" in note for note in notes)
    if delay_s:
        assert response.peak_s == SETTINGS.response.peak_s
        assert notes[1].startswith(f"your events are {'late' if delay_s < 0 else 'early'} by about")
        assert "events.count_from" in notes[1]
    else:
        assert response.delay_s == 0
        assert len(notes) == 1


@pytest.mark.parametrize("delay_s", [-5.0, 4.0])
def test_where_each_category_is_shown_once_all_trials_tell(delay_s):
    scans = runs(delay_s, n=2, n_categories=N_TRIALS)[:1]
    assert learn_peak(recorded(scans), SETTINGS) is None
    settings, notes = learned(scans)
    assert settings.response.delay_s == pytest.approx(delay_s, abs=1.0)
    assert "by one regressor for all trials, as categories do not tell" in notes[0]


@pytest.mark.parametrize("n_categories", [4, N_TRIALS])
def test_random_onsets_tell_nothing(n_categories):
    rng = np.random.default_rng(3)
    unlearned = 0
    for _ in range(5):
        scans = [
            with_onsets(run, np.sort(rng.choice(np.arange(8.0, 250.0, 14.0), N_TRIALS, replace=False)))
            for run in runs(0.0, n_categories=n_categories)
        ]
        settings, notes = learned(scans)
        unlearned += settings == SETTINGS and "could not be learned" in notes[0]
    assert unlearned >= 4


def test_volumes_that_are_shifted_in_a_circle_by_another_number_in_each_run_tell_nothing():
    rolled = [in_circle(run, 25 * (n + 1)) for n, run in enumerate(runs(0.0))]
    settings, notes = learned(rolled)
    assert settings == SETTINGS
    assert "could not be learned" in notes[0]


def in_circle(run, n):
    values = np.roll([volume.decoder_values for volume in run.volumes], n, axis=0)
    return replace(run, volumes=tuple(replace(v, decoder_values=x) for v, x in zip(run.volumes, values, strict=True)))


def test_noise_tells_nothing():
    settings, notes = learned(runs(0.0, effect=0.0))
    assert settings == SETTINGS
    assert "could not be learned" in notes[0]


def test_a_delay_that_is_set_is_kept_where_it_is_right_and_not_warned_of():
    set_before = PipelineSettings(response=ResponseSettings(delay_s=-5.0))
    settings, notes = learned(runs(-5.0), set_before)
    assert settings.response.delay_s == -5.0
    assert settings.response.peak_s == pytest.approx(5.0, abs=0.6)
    assert len(notes) == 1


def test_test_runs_of_another_time_are_told():
    learned_before = PipelineSettings(response=ResponseSettings(delay_s=-5.0))
    (note,) = notes_on_test_runs(recorded(runs(0.0), learned_before), learned_before)
    assert note.startswith("the events of the test runs are early by about")
    assert notes_on_test_runs(recorded(runs(-5.0), learned_before), learned_before) == ()
    assert notes_on_test_runs(recorded(runs(0.0, effect=0.0)), SETTINGS) == ()


def test_samples_with_a_delay_are_those_of_events_that_come_as_much_later():
    (run,) = runs(-5.0, n=1)
    delayed = PipelineSettings(response=ResponseSettings(delay_s=-5.0))
    later = with_onsets(run, [trial.onset_s - 5.0 for trial in run.trials])
    one, other = clean_run(run, REFERENCE, delayed, Noise()), clean_run(later, REFERENCE, SETTINGS, Noise())
    assert one.windows.keys() == other.windows.keys()
    for block, samples in one.windows.items():
        assert [s.values.tobytes() for s in samples] == [s.values.tobytes() for s in other.windows[block]]
    np.testing.assert_array_equal(one.noise, other.noise)


def test_usual_peaks_are_peaks_and_all_else_is_delay():
    lags = Lags(ResponseSettings(delay_s=1.0))
    assert lags.values_s[0] == -7.0
    assert lags.values_s[-1] == 17.0
    assert (np.diff(lags.values_s) == 0.5).all()
    assert lags.values_s[lags.usual].tolist() == np.arange(3.5, 7.6, 0.5).tolist()
    assert lags.timing(4.0) == (4.0, 1.0)
    assert lags.timing(7.6) == (7.6, 1.0)
    assert lags.timing(8.0) == (5.0, 4.0)
    assert lags.timing(0.0) == (5.0, -4.0)


def test_a_delay_that_explains_hardly_more_than_a_usual_peak_beyond_a_valley_is_not_believed():
    lags, rng = Lags(ResponseSettings()), np.random.default_rng(0)
    explained = np.exp(-(((lags.values_s - 5.0) / 3) ** 2)) + 1.05 * np.exp(-(((lags.values_s + 4.0) / 3) ** 2))
    unsure = explained + 0.1 * rng.standard_normal((N_PARTS, len(explained)))
    assert believed(lags, explained, explained + np.zeros((N_PARTS, 1)), 1.0, by_category=True).delay_s < -8
    assert believed(lags, explained, unsure, 1.0, by_category=True) is None


def test_a_lag_is_that_of_a_usual_peak_within_its_uncertainty():
    lags = Lags(ResponseSettings())
    tops_s = 8.2 + 0.1 * (np.arange(N_PARTS) - 4.5)
    left_out = [np.exp(-(((lags.values_s - top_s) / 3) ** 2)) for top_s in tops_s]
    explained = np.exp(-(((lags.values_s - 8.2) / 3) ** 2))
    unsure = believed(lags, explained, np.array(left_out), 1.0, by_category=True)
    assert unsure[:2] == (7.5, 0.0)
    assert unsure.sd_s > 0.5
    sure = believed(lags, explained, np.array([explained] * N_PARTS), 1.0, by_category=True)
    assert sure.delay_s == pytest.approx(3.2, abs=0.1)


def test_events_are_called_late_or_early_with_the_bounds_of_the_delay():
    late = LearnedTimes(5.0, -5.0, 0.25, by_category=True)
    _, said = notes_on(late, ResponseSettings())
    assert said.startswith("your events are late by about 5.0 s (4.5 to 5.5): responses come that much before the time")
    early = late._replace(delay_s=1.5)
    _, said = notes_on(early, ResponseSettings(delay_s=-0.5))
    assert said.startswith("your events are early by about 2.0 s (1.5 to 2.5): responses come that much after the time")
    assert "with the delay that is set (response.delay_s = -0.5)" in said
    assert len(notes_on(late, ResponseSettings(delay_s=-5.0))) == 1


def test_parts_are_of_all_runs_together():
    first, second = parts_of([30, 70])
    assert first.tolist() == np.repeat([0, 1, 2], 10).tolist()
    assert second.tolist() == np.repeat(np.arange(3, 10), 10).tolist()
