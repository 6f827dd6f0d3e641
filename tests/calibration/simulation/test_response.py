import numpy as np
import pytest
from pydantic import ValidationError

from calibration.simulation.head import REGIONS
from calibration.simulation.response import HIERARCHY, layer_delays_s, make_tuning
from calibration.simulation.settings import TuningSettings
from rtgod.preprocessing.hrf import block_response

LAYERS = [f"cnn{i}" for i in range(1, 9)]
PER_REGION = 60
VOXEL_REGIONS = np.repeat(np.arange(1, len(REGIONS) + 1), PER_REGION)


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((200, 3))  # units of a layer are correlated, as a network's are
    made = {}
    for n_units, layer in enumerate(LAYERS, 20):
        values = shared @ rng.standard_normal((3, n_units)) + rng.standard_normal((200, n_units))
        made[layer] = (rng.uniform(0.1, 50) * values + rng.uniform(-5, 5)).astype(np.float32)
    return made


def tuning_of(features, settings=None, seed=1):
    return make_tuning(features, VOXEL_REGIONS, settings or TuningSettings(), np.random.default_rng(seed))


@pytest.mark.parametrize("setting", [{"hrf_peak_s": 5.5}, {"hrf_ratio": 1.0}, {"hrf_undershoot_s": 0}])
def test_shapes_that_the_closed_form_does_not_have_are_refused(setting):
    with pytest.raises(ValidationError):
        TuningSettings(**setting)


@pytest.mark.parametrize("effect_percent", [0.6, 2.0])
def test_responses_to_the_training_images_vary_as_much_as_set(features, effect_percent):
    tuning = tuning_of(features, TuningSettings(effect_percent=effect_percent))
    amplitudes = tuning.amplitudes(features)
    np.testing.assert_allclose(amplitudes.mean(axis=1), 0, atol=1e-4)
    # Each layer contributes what `mix` says, and they add up to the voxel's strength, 1.0 of the setting on average.
    np.testing.assert_allclose(amplitudes.std(axis=1), tuning.mix, rtol=1e-3, atol=1e-6)
    strength = np.sqrt(np.square(tuning.mix).sum(axis=0))
    assert strength.mean() == pytest.approx(effect_percent, rel=0.1)
    assert strength.std() > 0.2 * effect_percent


def test_without_an_effect_nothing_tells_images_apart(features):
    tuning = tuning_of(features, TuningSettings(effect_percent=0.0))
    assert not tuning.amplitudes(features).any()
    assert (tuning.evoked > 0).all()


def test_low_regions_follow_low_layers(features):
    mix = tuning_of(features).mix
    place = np.arange(len(LAYERS)) @ np.square(mix) / np.square(mix).sum(axis=0)
    mean_place = {name: place[region == VOXEL_REGIONS].mean() for region, name in enumerate(REGIONS, 1)}
    assert sorted(REGIONS, key=mean_place.get) == sorted(REGIONS, key=HIERARCHY.get)
    assert mean_place["V1"] < 1.5
    assert mean_place["FFA"] > 5.5


def test_units_that_never_vary_and_new_images_are_no_trouble(features):
    with_constant = {**features, "cnn1": np.column_stack([features["cnn1"], np.full(200, 7.0, np.float32)])}
    tuning = tuning_of(with_constant)
    assert np.isfinite(tuning.amplitudes({k: v[:1] * 2 for k, v in with_constant.items()})).all()


def test_tuning_is_the_seed_s(features):
    first, again, other = (tuning_of(features, seed=seed) for seed in (1, 1, 2))
    for layer in LAYERS:
        assert first.weights[layer].tobytes() == again.weights[layer].tobytes() != other.weights[layer].tobytes()
    assert first.mix.tobytes() == again.mix.tobytes() != other.mix.tobytes()


def test_in_imagery_high_layers_peak_before_low_ones():
    time_s = np.arange(0, 50, 0.1)
    delays_s = layer_delays_s(8, 4.0)
    peaks_s = [time_s[block_response(time_s - delay_s, 15.0, 5, 15, 1 / 6).argmax()] for delay_s in delays_s]
    assert (np.diff(peaks_s) < -0.4).all()
    assert peaks_s[0] - peaks_s[-1] == pytest.approx(4.0, abs=0.15)
    assert not layer_delays_s(8, 0.0).any()
