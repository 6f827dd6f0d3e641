"""The share of another response in a trial's estimate is what a series with nothing but that response gives."""

import numpy as np
import pytest

from rtgod.messages import Block, Motion, Run
from rtgod.preprocessing.denoising import Denoiser
from rtgod.preprocessing.hrf import block_response
from rtgod.settings import PipelineSettings

STILL = Motion((0, 0, 0), (0, 0, 0), 0, 0, 1, True)
TR_S, N_VOLUMES = 2.0, 50
CLOSE = tuple(Block(20.0 + 6 * n, 6.0) for n in range(8))
FAR = tuple(Block(20.0 + 40 * n, 6.0) for n in range(2))


def denoised(values, blocks, censored=(), **response):
    """The denoiser after each volume of series (n_volumes, n_series), without clipping."""
    settings = PipelineSettings.model_validate(
        {"response": response, "censoring": {"clip_sd": 0.0}, "nuisance": {"discard_s": 0.0}}
    )
    run = Run("run-1", "01", TR_S, (4, 4, 4), np.eye(4), N_VOLUMES, blocks)
    denoiser = Denoiser(values.shape[1], run, settings, 0)
    for index, one in enumerate(values):
        denoiser.step(index, one.astype(np.float32), STILL, 1.0, np.empty(0), index in censored)
        yield index, denoiser


def responses(blocks, peak_s):
    """What is expected of each trial, (n_volumes, n_trials)."""
    middle_s = (np.arange(N_VOLUMES) + 0.5) * TR_S
    return np.column_stack([block_response(middle_s - b.onset_s, b.duration_s, peak_s, 15, 1 / 6) for b in blocks])


@pytest.mark.parametrize("sd_s", [0.0, 1.0])
@pytest.mark.parametrize("censored", [(), (14, 15)])
def test_it_is_what_series_that_hold_one_response_each_give(sd_s, censored):
    """One series for each trial and possible peak, each of nothing but that trial's response."""
    peaks_s = [5.0, 4.0, 6.0] if sd_s else [5.0]
    level = 1e4  # a constant that is known at once: what is tested are the trials
    series = [100 * responses(CLOSE, peak_s) for peak_s in peaks_s]
    n = len(CLOSE)
    compared = 0
    for index, denoiser in denoised(level + np.hstack(series), CLOSE, censored, peak_sd_s=sd_s):
        active = denoiser.answered(index)
        for trial in active:
            found = denoiser.response(trial)
            if found is None or denoiser.crosstalk(trial) > 2:
                continue
            # A trial that is over counts until its column serves another.
            others = [o for o in range(n) if o != trial and denoiser._design.column_of(o) is not None]
            by_peak = found.reshape(len(peaks_s), n)
            expected = [max([0.0, *(shares[o] / shares[trial] for o in others)]) for shares in by_peak]
            assert denoiser.crosstalk(trial) == pytest.approx(max(expected), abs=0.02)
            compared += 1
    assert compared > 40


def test_a_trial_alone_has_none_and_one_not_seen_is_not_told_apart():
    values = np.full((N_VOLUMES, 3), 800.0)
    found = {index: (d.crosstalk(0), d.crosstalk(1)) for index, d in denoised(values, FAR)}
    assert found[9][0] == np.inf
    assert found[14][0] < 0.01
    assert found[14][1] == np.inf


def test_it_falls_while_a_trial_goes_on_and_a_weaker_prior_lowers_it():
    values = np.full((N_VOLUMES, 3), 800.0)
    firmly, freely = (
        [d.crosstalk(4) for i, d in denoised(values, CLOSE, sd=sd) if 23 <= i <= 26] for sd in (1.0, 10.0)
    )
    assert firmly == sorted(firmly, reverse=True)
    assert all(free < firm for firm, free in zip(firmly, freely, strict=True))
    assert freely[-1] < 0.05 < firmly[0]


def test_an_uncertain_peak_raises_it():
    values = np.full((N_VOLUMES, 3), 800.0)
    sure, unsure = ([d.crosstalk(4) for i, d in denoised(values, CLOSE, peak_sd_s=sd) if i == 25] for sd in (0.0, 1.0))
    assert unsure[0] > sure[0] + 0.1


def test_data_do_not_matter():
    noise = np.random.default_rng(0).normal(800, 50, (N_VOLUMES, 3))
    for (i, a), (_, b) in zip(denoised(noise, CLOSE), denoised(0 * noise + 500, CLOSE), strict=True):
        assert a.crosstalk(3) == b.crosstalk(3), i
