"""What holds for every decoder."""

from contextlib import contextmanager
from dataclasses import replace

import numba
import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from calibration.decoders.registry import DECODERS, make_decoder
from calibration.decoders.settings import DecoderSettings
from calibration.training.fit import train
from rtgod.bundle import DecoderBundle
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.preprocessor import Noise
from tests import small

N_SAMPLES, N_VOXELS, N_UNITS = 60, 90, 5
RUNS = [sample // 15 for sample in range(N_SAMPLES)]
each_decoder = pytest.mark.parametrize("name", DECODERS)


def data(seed=0, dtype=np.float64):
    """Units that a few voxels each tell of; neither have mean 0 or SD 1."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N_SAMPLES, N_VOXELS)) @ (np.eye(N_VOXELS) + 0.05 * rng.normal(size=(N_VOXELS, N_VOXELS)))
    weights = rng.normal(size=(N_VOXELS, N_UNITS)) * (rng.uniform(size=(N_VOXELS, N_UNITS)) < 0.1)
    Y = X @ weights + rng.normal(size=(N_SAMPLES, N_UNITS))
    return (3 + 5 * X).astype(dtype), (100 + 0.2 * Y).astype(dtype)


def decoder(name, **changes):
    return make_decoder(DecoderSettings(name=name, **({"n_voxels": 30, "alpha": 5.0} | changes)))


@parametrize_with_checks([kind() for kind in DECODERS.values()])
def test_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


@each_decoder
def test_settings_reach_the_estimator(name):
    settings = DecoderSettings(name=name, n_voxels=7, alpha=3.0, max_iterations=11)
    model = make_decoder(settings)
    assert type(model) is DECODERS[name]
    assert model.get_params().items() <= settings.model_dump().items()


@each_decoder
def test_units_and_offsets_of_either_side_do_not_matter(name):
    """Both are z-scored, and the intercept is not penalised."""
    (X, Y), (new, _) = data(), data(1)
    scale, shift = np.linspace(0.1, 40, N_VOXELS), np.linspace(-500, 500, N_VOXELS)
    plain = decoder(name).fit(X, Y)
    scaled = decoder(name).fit(X * scale + shift, 1e3 * Y - 7e4)
    np.testing.assert_allclose(scaled.predict(new * scale + shift), 1e3 * plain.predict(new) - 7e4, rtol=1e-5)
    np.testing.assert_allclose(plain.predict(X).mean(axis=0), Y.mean(axis=0))
    np.testing.assert_allclose(plain.predict(X.mean(axis=0, keepdims=True))[0], Y.mean(axis=0))


@each_decoder
def test_each_unit_is_fitted_by_itself(name):
    (X, Y), (new, _) = data(), data(1)
    together = decoder(name).fit(X, Y).predict(new)
    for unit in range(N_UNITS):
        alone = decoder(name).fit(X, Y[:, unit]).predict(new)
        assert alone.shape == (N_SAMPLES,)
        np.testing.assert_allclose(alone, together[:, unit], rtol=1e-7)


@each_decoder
def test_single_precision_is_double_s_but_for_rounding(name):
    (X, Y), (new, _) = data(), data(1)
    in_double = decoder(name).fit(X, Y).predict(new)
    in_single = decoder(name).fit(X.astype(np.float32), Y.astype(np.float32)).predict(new.astype(np.float32))
    assert in_single.dtype == np.float32
    np.testing.assert_allclose(in_single, in_double, atol=0.01 * Y.std())


@each_decoder
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1234.5678])
def test_constant_voxels_tell_nothing_and_constant_units_are_predicted(name, constant, dtype):
    (X, Y), (new, _) = data(dtype=dtype), data(1, dtype)
    X[:, 3], new[:, 3], Y[:, 2] = constant, constant + 50, constant
    # With room for every voxel, so that the constant one is among them.
    predicted = decoder(name, n_voxels=N_VOXELS).fit(X, Y).predict(new)
    np.testing.assert_allclose(predicted[:, 2], constant, rtol=1e-6)
    without = decoder(name, n_voxels=N_VOXELS - 1).fit(np.delete(X, 3, 1), Y).predict(np.delete(new, 3, 1))
    if name == "ridge":  # whose online form has no weights: what a constant voxel does later counts as so many units
        without = decoder(name).fit(X, Y).predict(np.where(np.arange(N_VOXELS) == 3, dtype(constant), new))
    np.testing.assert_allclose(predicted, without, rtol=1e-4)


@each_decoder
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(name, bad):
    for side in (0, 1):
        samples = data()
        samples[side][4, 1] = bad
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            decoder(name).fit(*samples)


@contextmanager
def threads(n):
    previous = numba.get_num_threads()
    numba.set_num_threads(n)
    try:
        with threadpool_limits(n):
            yield
    finally:
        numba.set_num_threads(previous)


@pytest.mark.parametrize("name", ["ridge-select", "slr"])
def test_threads_change_no_byte(name):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs two threads")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 700))  # more than a thread multiplies at a time
    Y = X[:, :20] + rng.normal(size=(150, 20))
    weights = []
    for n in (1, 2):
        with threads(n):
            weights.append(decoder(name, n_voxels=170, max_iterations=60).fit(X, Y).coef_)
    for part in ("data", "indices", "indptr"):
        assert getattr(weights[0], part).tobytes() == getattr(weights[1], part).tobytes()


@each_decoder
def test_the_server_s_decoder_predicts_what_the_estimator_does(name, tmp_path):
    (X, Y), (new, _) = data(dtype=np.float32), data(1, np.float32)
    settings = DecoderSettings(name=name, n_voxels=30, n_folds=2)
    trained = train(X, RUNS, {"low": Y[:, :3], "high": Y}, settings, lambda *_: None)
    made = small.bundle()
    replace(
        made,
        reference=Reference(made.reference.template, made.reference.affine, np.ones((N_VOXELS, 3), np.int32)),
        noise=Noise(),
        **{part: getattr(trained, part) for part in ("patterns", "voxel_mean", "voxel_sd", "layers")},
        candidate_features={k: small.normal(small.N_CANDIDATES, one.n_units) for k, one in trained.layers.items()},
    ).save(tmp_path / "bundle")
    online = DecoderBundle.load(tmp_path / "bundle").decoder()
    for layer, targets in {"low": Y[:, :3], "high": Y}.items():
        model = make_decoder(settings.model_copy(update={"alpha": trained.penalties[layer] or 1.0}))
        expected = model.fit(X.astype(np.float64), targets).predict(new.astype(np.float64))
        decoded = np.array([online.decode(0, pattern).layers[layer] for pattern in new])
        np.testing.assert_allclose(decoded, expected, atol=1e-4 * targets.std(), rtol=1e-6)
