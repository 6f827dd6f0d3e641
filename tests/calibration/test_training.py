import numpy as np
import pytest

from calibration.decoders.registry import make_decoder
from calibration.decoders.settings import DecoderSettings
from calibration.training import train
from calibration.workers import workers

RUNS = ["a"] * 8 + ["b"] * 7 + ["c"] * 9 + ["d"] * 6


@pytest.fixture(scope="module")
def samples():
    """Patterns, and two layers that they tell of."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(len(RUNS), 40)).astype(np.float32)
    noise = {"low": rng.normal(size=(len(RUNS), 5)), "high": rng.normal(size=(len(RUNS), 3))}
    return X, {name: (X[:, : values.shape[1]] + values).astype(np.float32) for name, values in noise.items()}


@pytest.mark.parametrize("name", ["ridge-select", "slr"])
def test_sparse_decoders_are_the_same_bytes_whoever_fits_them(samples, pool, name):
    X, Y = samples
    decoder = DecoderSettings(name=name, n_voxels=10, n_folds=3)
    told = []
    there = train(X, RUNS, Y, decoder, lambda *step: told.append(step), pool)
    with workers(1) as this_process:
        here = train(X, RUNS, Y, decoder, lambda *_: None, this_process)
    assert told == [("fitting", done, 8) for done in range(9)]
    assert there.layers.keys() == here.layers.keys() == Y.keys()
    for layer in Y:
        assert there.held_out[layer].tobytes() == here.held_out[layer].tobytes()
        for part in ("starts", "voxels", "weights", "unit_mean", "unit_sd"):
            assert getattr(there.layers[layer], part).tobytes() == getattr(here.layers[layer], part).tobytes()


@pytest.mark.parametrize("name", ["ridge-select", "slr"])
def test_a_run_is_predicted_from_others_alone(samples, name):
    """As the estimator does that is fitted without the group of runs; and with all runs in the end."""
    X, Y = samples
    decoder = DecoderSettings(name=name, n_voxels=10, n_folds=4)  # as many as there are runs
    trained = train(X, RUNS, Y, decoder, lambda *_: None)
    for layer, values in Y.items():
        for run in "abcd":
            out = np.array(RUNS) == run
            model = make_decoder(decoder).fit(X[~out].astype(np.float64), values[~out])
            np.testing.assert_allclose(trained.held_out[layer][out], model.predict(X[out].astype(np.float64)))
        model = make_decoder(decoder).fit(X.astype(np.float64), values)
        np.testing.assert_allclose(trained.layers[layer].weights, model.coef_.data, rtol=1e-6)


@pytest.mark.parametrize("name", ["ridge-select", "slr"])
def test_no_run_need_be_left_out(samples, name):
    X, Y = samples
    trained = train(X, RUNS, Y, DecoderSettings(name=name, n_voxels=10, n_folds=0), lambda *_: None)
    assert trained.held_out == {}
    assert trained.layers.keys() == Y.keys()
