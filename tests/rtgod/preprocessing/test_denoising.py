import numpy as np
import pytest

from rtgod.messages import Block, Motion, Run
from rtgod.preprocessing.censoring import Censor
from rtgod.preprocessing.denoising import Denoiser
from rtgod.settings import CensoringSettings, PipelineSettings
from tests import naive

N_VOXELS, TR_S = 7, 2.0
STILL = Motion((0, 0, 0), (0, 0, 0), 0, 0, 1, True)
BLOCKS = (Block(20, 12), Block(50, 12), Block(80, 12))


def run(blocks=(), n_volumes=60):
    return Run("run-1", "01", TR_S, (4, 4, 4), np.eye(4), n_volumes, tuple(blocks))


def settings(**parts):
    """Without clipping, unless asked for: then everything is linear."""
    parts.setdefault("censoring", {"clip_sd": 0.0})
    parts.setdefault("nuisance", {})
    parts["nuisance"] = {"discard_s": 0.0, **parts["nuisance"]}
    return PipelineSettings.model_validate(parts)


def intensities(n_volumes=60, drift=0.0, noise=8.0, seed=0):
    """(n_volumes, n_voxels): levels of 400 to 1000, a linear drift in percent over the run, and noise."""
    rng = np.random.default_rng(seed)
    level = np.linspace(400, 1000, N_VOXELS)
    line = 1 + drift / 100 * np.linspace(0, 1, n_volumes)[:, np.newaxis]
    return (level * line + rng.normal(0, noise, (n_volumes, N_VOXELS))).astype(np.float32)


def fed(values, indices=None, blocks=(), censored=(), motions=None, denoiser=None, **parts):
    """The denoiser, and what it gave for each volume."""
    denoiser = denoiser or Denoiser(values.shape[1], run(blocks), settings(**parts), 0)
    indices = range(len(values)) if indices is None else indices
    found = {}
    for index, one in zip(indices, values, strict=True):
        motion = motions[index] if motions else STILL
        found[index] = denoiser.step(index, one, motion, 1.0, np.empty(0), index in censored)
    return denoiser, found


def columns(n_volumes=60, blocks=(), drift=True):
    """All regressors written out, one for each trial, and how many of them are nuisance."""
    Z = naive.drift_columns(n_volumes, 128.0, TR_S) if drift else np.ones((n_volumes, 1))
    middles_s = (np.arange(n_volumes) + 0.5) * TR_S
    trials = [[naive.response(t - b.onset_s, b.duration_s) for t in middles_s] for b in blocks]
    return np.column_stack([Z, *trials]), Z.shape[1]


def prior(n_nuisance, n_trials, drift_sd=0.2, response_sd=10.0):
    orders = np.maximum(np.arange(n_nuisance - 1) - 0, 1) if n_nuisance > 1 else np.empty(0)
    return np.concatenate([[1e4], drift_sd / orders, np.full(n_trials, response_sd)])


@pytest.mark.parametrize("blocks", [(), BLOCKS], ids=["no trials", "trials"])
@pytest.mark.parametrize(
    "indices",
    [list(range(60)), [5, 6, 7, 9, 10, 11, 12, 25, 26, 40, 41, 42]],
    ids=["every volume", "gaps and a late start"],
)
def test_each_volume_is_the_change_against_batch_least_squares_on_those_before(indices, blocks):
    values = intensities(drift=3.0)[indices]
    _, found = fed(values, indices, blocks)
    Z, n_nuisance = columns(blocks=blocks)
    sds = prior(n_nuisance, len(blocks))
    for n, index in enumerate(indices):
        if n < 6:
            assert found[index] is None
            continue
        fit = naive.least_squares(Z[indices[:n]], values[:n], sds)
        baseline = Z[index, :n_nuisance] @ fit[:n_nuisance]
        np.testing.assert_allclose(found[index].values, 100 * (values[n] - baseline) / fit[0], atol=2e-4)
        covariance = np.linalg.inv(Z[indices[:n]].T @ Z[indices[:n]] + np.diag(1 / sds**2))
        error = values[n] - Z[index] @ fit
        error /= np.sqrt(1 + Z[index] @ covariance @ Z[index])
        np.testing.assert_allclose(found[index].residual, 100 * error / fit[0], atol=2e-4)


def test_responses_are_those_of_batch_least_squares_on_all_volumes_so_far():
    """Early in a trial nothing is known of it, whose prior shrinks it to 0: that is undone."""
    values = intensities()
    denoiser = Denoiser(N_VOXELS, run(BLOCKS), settings(), 0)
    Z, n_nuisance = columns(blocks=BLOCKS)
    sds = prior(n_nuisance, len(BLOCKS))
    answered = 0
    for index, one in enumerate(values):
        denoiser.step(index, one, STILL, 1.0, np.empty(0), False)
        fit = naive.least_squares(Z[: index + 1], values[: index + 1], sds)
        covariance = np.linalg.inv(Z[: index + 1].T @ Z[: index + 1] + np.diag(1 / sds**2))
        for trial in range(3):
            response = denoiser.response(trial)
            reliability = 1 - covariance[n_nuisance + trial, n_nuisance + trial] / sds[-1] ** 2
            if response is None:
                assert reliability < 2e-3 or index * TR_S > BLOCKS[trial].onset_s + BLOCKS[trial].duration_s + 30
                continue
            expected = 100 * fit[n_nuisance + trial] / fit[0] / reliability
            np.testing.assert_allclose(response, expected, rtol=4e-3, atol=4e-3)
            answered += 1
    assert answered > 40


def test_a_response_of_two_percent_is_two_percent():
    Z, n_nuisance = columns(blocks=BLOCKS)
    clean = np.linspace(400, 1000, N_VOXELS) * (1 + 0.02 * Z[:, n_nuisance + 1 : n_nuisance + 2])
    denoiser, _ = fed(clean[:36].astype(np.float32), blocks=BLOCKS)
    np.testing.assert_allclose(denoiser.response(1), 2.0, atol=0.06)


def test_a_response_is_not_taken_for_drift_nor_the_drift_for_a_response():
    Z, n_nuisance = columns(blocks=BLOCKS)
    level = np.linspace(400, 1000, N_VOXELS)
    drift = 0.01 * Z[:, 2:3]
    values = (level * (1 + drift + 0.02 * Z[:, n_nuisance:].sum(axis=1, keepdims=True))).astype(np.float32)
    denoiser, found = fed(values[:46], blocks=BLOCKS, nuisance={"drift_sd": 20.0}, response={"sd": 20.0})
    np.testing.assert_allclose(denoiser.response(2), 2.0, atol=0.1)
    assert np.abs(found[39].residual).max() < 0.02  # of a drift of 1 % and responses of 2 %


@pytest.mark.parametrize("unit", ["percent", "zscore"])
def test_units(unit):
    values = intensities(400, noise=8.0)
    one = Run("run-1", "01", TR_S, (4, 4, 4), np.eye(4), 400)
    denoiser = Denoiser(N_VOXELS, one, settings(scaling={"unit": unit}), 0)
    _, found = fed(values, denoiser=denoiser)
    spread = np.std([found[i].residual for i in range(100, 400)], axis=0)
    np.testing.assert_allclose(spread, 1 if unit == "zscore" else 800 / np.linspace(400, 1000, N_VOXELS), rtol=0.18)


def test_a_frozen_baseline_is_that_of_the_first_rest():
    values = intensities()
    values[14:] *= 1.05  # after the first trial has begun to be answered
    running, _ = fed(values, blocks=BLOCKS, nuisance={"drift_sd": 0.0}, scaling={"baseline": "running"})
    frozen, found = fed(values, blocks=BLOCKS, nuisance={"drift_sd": 0.0}, scaling={"baseline": "frozen"})
    rest = values[:11].mean(axis=0)
    np.testing.assert_allclose(found[59].values, 100 * (values[59] - rest) / rest, atol=0.7)
    ratio = frozen.response(2) / running.response(2)
    np.testing.assert_allclose(ratio, running._fit.coefficients[:, 0] / rest, rtol=0.01)


def test_values_are_clipped_and_a_spike_teaches_little():
    values = intensities(60)
    spiked = values.copy()
    spiked[40, 3] *= 1.5
    clipped, found = fed(spiked, censoring={"clip_sd": 3.0})
    free, unclipped = fed(spiked)
    limit = 100 * 3 * 8 * 1.3 / values[:, 3].mean()
    assert found[40].values[3] < limit < unclipped[40].values[3]
    clean, _ = fed(values)
    apart = [abs(d._fit.coefficients[3, 0] - clean._fit.coefficients[3, 0]) for d in (clipped, free)]
    assert apart[0] < 0.2 * apart[1]


def test_a_censored_volume_has_values_and_teaches_nothing():
    values = intensities()
    values[30] *= 1.2
    with_it, found = fed(values, censored={30})
    without, _ = fed(np.delete(values, 30, axis=0), [i for i in range(60) if i != 30])
    np.testing.assert_allclose(found[30].values, 20, atol=7)
    np.testing.assert_array_equal(with_it._fit.coefficients, without._fit.coefficients)
    assert with_it.n_volumes == 59


def test_motion_is_regressed_out():
    rng = np.random.default_rng(4)
    shifts = np.cumsum(rng.normal(0, 0.1, (60, 3)), axis=0)
    motions = [Motion(tuple(s), (0, 0, 0), 0, 0, 1, True) for s in shifts]
    values = (intensities() * (1 + 0.2 * shifts[:, :1])).astype(np.float32)
    strong = {"motion_parameters": 6, "motion_sd": 10.0}
    (_, with_it), (_, without) = fed(values, motions=motions, nuisance=strong), fed(values, motions=motions)
    noise = [np.mean([np.square(f[i].values) for i in range(30, 60)]) for f in (with_it, without)]
    assert noise[0] < 0.2 * noise[1]


def test_noise_components_are_regressed_out():
    rng = np.random.default_rng(4)
    courses = rng.normal(0, 1, (60, 2))
    values = (intensities() * (1 + 0.03 * courses @ [[1.0], [-0.5]])).astype(np.float32)
    found = []
    for n_components in (0, 2):
        nuisance = {"n_components": n_components, "component_sd": 5.0}
        denoiser = Denoiser(N_VOXELS, run(), settings(nuisance=nuisance), n_components)
        steps = [denoiser.step(i, one, STILL, 1.0, courses[i, :n_components], False) for i, one in enumerate(values)]
        found.append(np.mean([np.square(step.values) for step in steps[30:]]))
    assert found[1] < 0.4 * found[0]


def test_missing_values_give_no_change_and_teach_nothing():
    values = intensities()
    holed = values.copy()
    holed[10, 2] = holed[20:23, 4] = np.nan
    (with_holes, found), (whole, complete) = fed(holed), fed(values)
    assert (found[10].values[2], found[21].values[4]) == (0, 0)
    others = [0, 1, 3, 5, 6]
    np.testing.assert_array_equal(found[40].values[others], complete[40].values[others])
    np.testing.assert_allclose(with_holes._fit.coefficients[:, 0], whole._fit.coefficients[:, 0], rtol=0.01)


@pytest.mark.parametrize("first", [7, 30])
def test_a_voxel_that_enters_the_field_of_view_late_is_not_a_response(first):
    values = intensities()
    values[:first, 3] = np.nan
    _, found = fed(values)
    assert found[first].values[3] == 0
    assert max(abs(found[i].values[3]) for i in range(first + 1, 60)) < 8  # the noise is 1.1 %


def test_a_voxel_does_not_start_from_a_censored_volume():
    values = intensities()
    values[:20, 3] = np.nan
    values[20, 3] *= 1.5
    _, found = fed(values, censored={20})
    assert found[20].values[3] == 0
    assert max(abs(found[i].values[3]) for i in range(21, 60)) < 8


def test_voxels_without_signal_have_no_change():
    values = np.column_stack([intensities(), np.full(60, 0.5), np.zeros(60), np.full(60, -3.0)]).astype(np.float32)
    values[59] += 10
    _, found = fed(values)
    assert (found[59].values[-3:] == 0).all()
    assert (found[59].values[:-3] != 0).all()


def test_all_missing_is_all_zero():
    empty = np.full((9, N_VOXELS), np.nan, np.float32)
    np.testing.assert_array_equal(fed(empty)[1][8].values, 0)


@pytest.mark.parametrize("warm_up_volumes", [2, 6])
def test_ready_after_that_many_clean_volumes(warm_up_volumes):
    values = intensities(warm_up_volumes + 2)
    _, found = fed(values, censored={1}, nuisance={"warm_up_volumes": warm_up_volumes})
    assert [f is None for f in found.values()] == [True] * (warm_up_volumes + 1) + [False]


def test_the_past_alone_decides():
    values = intensities()
    changed = values.copy()
    changed[25:] *= 2
    (_, a), (_, b) = fed(values, blocks=BLOCKS), fed(changed, blocks=BLOCKS)
    assert all(a[i].values.tobytes() == b[i].values.tobytes() for i in range(6, 25))


def test_a_trial_of_which_nothing_was_seen_has_no_response():
    denoiser, _ = fed(intensities()[:9], blocks=BLOCKS)
    assert denoiser.response(0) is None  # 18 s into the run, 2 s before its onset
    assert denoiser.answered(8) == {}
    denoiser, _ = fed(intensities()[:14], blocks=BLOCKS)
    assert denoiser.response(0) is not None
    assert list(denoiser.answered(13)) == [0]


# ------------------------------------------------------------------------------------------------------ censoring


def moved(mm):
    return Motion((mm, 0, 0), (0, 0, 0), mm, 0, 1, True)


def problems(values, motions=None, **given):
    censor = Censor(CensoringSettings(**given))
    return [censor.problem_with(one, motions[i] if motions else STILL) for i, one in enumerate(values)]


def test_moved_volumes_are_censored():
    motions = [moved(mm) for mm in (0, 0.4, 1.6, 0.2)]
    found = problems(intensities(4), motions)
    assert [bool(f) for f in found] == [False, False, True, False]
    assert found[2] == "moved 1.60 mm in one volume"


def test_a_volume_that_differs_more_than_is_usual_is_censored_and_so_is_the_way_back():
    values = intensities(40)
    values[20] += 60
    found = problems(values)
    assert [i for i, f in enumerate(found) if f] == [20, 21]
    assert "DVARS" in found[20]
    values[30:] += 60  # a step that stays is one jump
    assert [i for i, f in enumerate(problems(values)) if f] == [20, 21, 30]


def test_dvars_needs_some_volumes_to_know_what_is_usual():
    values = intensities(4)
    values[2] += 60
    assert not any(problems(values))


def test_what_is_usual_is_learned_from_the_latest_volumes_throughout_a_run():
    """As when a head begins to move for good: the new amount is found unlike the old, and then usual."""
    quiet, restless = intensities(60), intensities(80, noise=32.0, seed=6)
    found = [bool(problem) for problem in problems(np.concatenate([quiet, restless]), dvars_ratio=2.0)]
    assert not any(found[:60])
    assert all(found[61:80])
    assert not any(found[-40:])


def test_ordinary_noise_is_not_censored():
    assert sum(map(bool, problems(intensities(300, seed=5)))) == 0


def test_missing_voxels_do_not_matter():
    values = intensities(20)
    values[:, 2] = np.nan
    values[10, 4] = np.nan
    assert not any(problems(values))
    assert not any(problems(np.full((8, 3), np.nan, np.float32)))
