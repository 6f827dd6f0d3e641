import numpy as np
import pytest
from pydantic import ValidationError

from calibration.metrics.effective_rank import effective_rank
from calibration.simulation.head import REGIONS
from calibration.simulation.response import HIERARCHY
from calibration.simulation.settings import TuningSettings
from calibration.simulation.tuning import make_tuning
from rtgod.errors import InputError

LAYERS = [f"cnn{i}" for i in range(1, 9)]
PER_REGION = 60
VOXEL_REGIONS = np.repeat(np.arange(1, len(REGIONS) + 1), PER_REGION)


def places(n, seed=0):
    """Voxels at random in cubes of 20 mm."""
    return np.random.default_rng(seed).uniform(0, 20, (n, 3))


def drawn_features(n_images, n_units, seed=0):
    """Units of a layer are correlated, as a network's are, and layers share what they follow."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n_images, 3))
    made = {}
    for extra, layer in enumerate(LAYERS):
        values = shared @ rng.standard_normal((3, n_units + extra)) + rng.standard_normal((n_images, n_units + extra))
        made[layer] = (rng.uniform(0.1, 50) * values + rng.uniform(-5, 5)).astype(np.float32)
    return made


@pytest.fixture(scope="module")
def features():
    return drawn_features(200, 20)


def tuning_of(features, seed=1, regions=VOXEL_REGIONS, positions_mm=None, **settings):
    positions_mm = places(len(regions)) if positions_mm is None else positions_mm
    return make_tuning(features, regions, positions_mm, TuningSettings(**settings), np.random.default_rng(seed))


@pytest.mark.parametrize(
    "setting", [{"hrf_peak_s": 0}, {"hrf_ratio": 1.0}, {"effective_rank": 0.5}, {"lapse_share": 2}]
)
def test_what_no_cortex_does_is_refused(setting):
    with pytest.raises(ValidationError):
        TuningSettings(**setting)


@pytest.mark.parametrize("effect_percent", [0.6, 2.0])
def test_responses_to_the_training_images_vary_as_much_as_set(features, effect_percent):
    tuning = tuning_of(features, effect_percent=effect_percent)
    for imagined in (False, True):
        amplitudes = tuning.amplitudes(features, imagined=imagined)
        np.testing.assert_allclose(amplitudes.mean(axis=1), 0, atol=1e-4)
        # Each layer contributes what `mix` says, and they add up to the voxel's strength, the setting on average.
        np.testing.assert_allclose(amplitudes.std(axis=1), tuning.mix, rtol=1e-3, atol=1e-6)
    strength = np.sqrt(np.square(tuning.mix).sum(axis=0))
    assert strength.mean() == pytest.approx(effect_percent, rel=0.1)
    assert strength.std() > 0.2 * effect_percent


@pytest.mark.parametrize("rank", [5, 15, 100])
def test_the_effective_rank_that_is_set_is_the_one_of_every_region(rank):
    many, regions = drawn_features(500, 200), np.repeat([1, 4, 6], 500)
    positions_mm = 2 * places(len(regions))
    settings = {"effective_rank": rank, "imagery_rank": 4, "tuning_fwhm_mm": 2}
    tuning = tuning_of(many, regions=regions, positions_mm=positions_mm, **settings)
    for imagined, expected in ((False, rank), (True, 4)):
        responses = tuning.amplitudes(many, imagined=imagined).sum(axis=0)
        for region in (1, 4, 6):
            assert effective_rank(responses[:, regions == region]) == pytest.approx(expected, rel=0.03)
    # White weights on all units, as many a simulation has them, have another.
    units = np.column_stack([(v - v.mean(axis=0)) / v.std(axis=0) for v in many.values()])
    white = units @ np.random.default_rng(0).standard_normal((units.shape[1], 500))
    assert abs(effective_rank(white) / rank - 1) > 0.1


def test_a_rank_that_a_region_cannot_have_is_refused_with_what_it_can(features):
    with pytest.raises(
        InputError, match=r"V1 \(60 voxels\) can have an effective rank of .* not 100; set .*tuning_fwhm"
    ):
        tuning_of(features, effective_rank=100)
    with pytest.raises(InputError, match=r"response\.imagery_rank"):
        tuning_of(features, imagery_rank=100)


@pytest.mark.parametrize("fwhm_mm", [0.0, 6.0, 10.0])
def test_tuning_is_as_smooth_over_cortex_as_set(features, fwhm_mm):
    """Neighbours 3 mm apart are the more alike the smoother tuning is, and 20 mm apart not alike at all."""
    line_mm = np.column_stack(
        [np.tile(np.arange(0, 60, 3.0), 60), np.repeat(np.arange(60) * 200.0, 20), np.zeros(1200)]
    )
    tuning = tuning_of(features, regions=np.full(1200, 3), positions_mm=line_mm, tuning_fwhm_mm=fwhm_mm)
    layer, weights = "cnn3", tuning.weights["cnn3"]
    z = (features[layer] - tuning.unit_mean[layer]) / tuning.unit_sd[layer]
    responses = (z @ weights).reshape(len(z), 60, 20)
    expected = np.exp(-2 * np.log(2) * 3.0**2 / fwhm_mm**2) if fwhm_mm else 0.0
    assert (responses[..., 1:] * responses[..., :-1]).mean() == pytest.approx(expected, abs=0.06)
    assert (responses[..., 10:] * responses[..., :-10]).mean() == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_imagery_has_as_many_weights_of_its_own_as_set(features, share):
    tuning = tuning_of(features, imagery_other_share=share, imagery_rank=8, effective_rank=8)
    seen, imagined = (tuning.amplitudes(features, imagined=imagined)[4] for imagined in (False, True))
    alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(seen.T, imagined.T, strict=True)]
    # The spectra differ a little, because each is searched for; the share of variance is that of the loadings.
    assert np.mean(alike) == pytest.approx(np.sqrt(1 - share), abs=0.08)


def test_without_an_effect_nothing_tells_images_apart(features):
    tuning = tuning_of(features, effect_percent=0.0)
    assert not tuning.amplitudes(features).any()
    assert not tuning.ongoing.any()
    assert (tuning.evoked > 0).all()


def test_ongoing_activity_varies_as_responses_do(features):
    tuning = tuning_of(features, ongoing=0.5)
    responses = tuning.amplitudes(features).sum(axis=0)
    expected = 0.25 * np.cov(responses.T, ddof=0)
    assert np.linalg.norm(tuning.ongoing.T @ tuning.ongoing - expected) < 0.02 * np.linalg.norm(expected)
    assert not tuning_of(features, ongoing=0.0).ongoing.any()


def test_every_region_has_a_course_of_its_own(features):
    def peaks(**settings):
        hrf = tuning_of(features, **settings).hrf
        of_regions = [np.unique(hrf[region == VOXEL_REGIONS], axis=0) for region in range(1, 8)]
        assert all(len(shapes) == 1 for shapes in of_regions)
        return np.concatenate(of_regions)

    assert len(np.unique(peaks(), axis=0)) == 7
    np.testing.assert_allclose(peaks(hrf_region_sd_s=0, hrf_ratio_sd=0), [[6.0, 15.0, 0.2]] * 7, rtol=1e-6)
    many = np.concatenate([peaks(seed=seed, hrf_region_sd_s=0.5)[:, 0] for seed in range(20)])
    assert many.std() == pytest.approx(0.5, rel=0.2)


def test_low_regions_follow_low_layers(features):
    mix = tuning_of(features).mix
    place = np.arange(len(LAYERS)) @ np.square(mix) / np.square(mix).sum(axis=0)
    mean_place = {name: place[region == VOXEL_REGIONS].mean() for region, name in enumerate(REGIONS, 1)}
    order = sorted(REGIONS, key=mean_place.get)
    assert order[:5] == ["V1", "V2", "V3", "V4", "LOC"]
    assert set(order[5:]) == {"FFA", "PPA"}  # nearly as high as each other: HIERARCHY
    assert HIERARCHY["FFA"] - HIERARCHY["PPA"] < 0.1
    assert mean_place["V1"] < 1.5
    assert mean_place["FFA"] > 5.5


def test_voxels_shuffled_over_areas_keep_what_they_follow_and_lose_their_place(features):
    tuning = tuning_of(features)
    shuffled = tuning.shuffled(np.random.default_rng(0))
    before, after = tuning.amplitudes(features), shuffled.amplitudes(features)
    where = np.lexsort(before[:, :3].reshape(-1, before.shape[2]))
    found = np.lexsort(after[:, :3].reshape(-1, after.shape[2]))
    np.testing.assert_array_equal(before[..., where], after[..., found])
    np.testing.assert_array_equal(tuning.evoked[where], shuffled.evoked[found])
    np.testing.assert_array_equal(tuning.hrf[where], shuffled.hrf[found])
    np.testing.assert_array_equal(tuning.ongoing[:, where], shuffled.ongoing[:, found])
    place = np.arange(len(LAYERS)) @ np.square(shuffled.mix) / np.square(shuffled.mix).sum(axis=0)
    means = [place[region == VOXEL_REGIONS].mean() for region in range(1, 8)]
    assert np.ptp(means) < 2 * 3 * place.std() / np.sqrt(PER_REGION)


def test_units_that_never_vary_and_new_images_are_no_trouble(features):
    with_constant = {**features, "cnn1": np.column_stack([features["cnn1"], np.full(200, 7.0, np.float32)])}
    tuning = tuning_of(with_constant)
    assert np.isfinite(tuning.amplitudes({k: v[:1] * 2 for k, v in with_constant.items()})).all()


def test_tuning_is_the_seed_s(features):
    first, again, other = (tuning_of(features, seed=seed) for seed in (1, 1, 2))
    for layer in LAYERS:
        assert first.weights[layer].tobytes() == again.weights[layer].tobytes() != other.weights[layer].tobytes()
    assert first.mix.tobytes() == again.mix.tobytes() != other.mix.tobytes()
