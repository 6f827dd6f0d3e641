import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from calibration.commands.options import decoder_from
from calibration.decoders.registry import DECODERS, make_decoder
from calibration.decoders.ridge import PENALTIES_PER_VOXEL, LeaveOneRunOut
from calibration.decoders.settings import DecoderSettings
from calibration.parallel.workers import workers
from calibration.training.fit import train
from rtgod.errors import InputError

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
    there = train(X, RUNS, Y, decoder, lambda *step: told.append(step), pool, without=lambda _: X)
    with workers(1) as this_process:
        here = train(X, RUNS, Y, decoder, lambda *_: None, this_process, without=lambda _: X)
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
    trained = train(X, RUNS, Y, decoder, lambda *_: None, without=lambda _: X)
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
    trained = train(
        X, RUNS, Y, DecoderSettings(name=name, n_voxels=10, n_folds=0), lambda *_: None, without=lambda _: X
    )
    assert trained.held_out == {}
    assert trained.layers.keys() == Y.keys()


@pytest.mark.parametrize("name", DECODERS)
def test_one_run_is_refused(samples, name):
    X, Y = samples
    with pytest.raises(InputError, match=r"all 30 samples are of one run: .* calibrate on at least two"):
        train(X, ["a"] * len(X), Y, DecoderSettings(name=name), lambda *_: None)


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_not_finite_is_named(samples, name):
    X, Y = samples
    bad_X, bad_Y = X.copy(), Y["low"].copy()
    bad_X[3, 7], bad_Y[2:4, 0] = np.nan, np.inf
    decoder = DecoderSettings(name=name)
    with pytest.raises(InputError, match=r"^voxels: 1 of 1200 values are not finite"):
        train(bad_X, RUNS, Y, decoder, lambda *_: None)
    with pytest.raises(InputError, match=r"^features of layer low: 2 of 150 values are not finite"):
        train(X, RUNS, Y | {"low": bad_Y}, decoder, lambda *_: None)


def test_ridge_chooses_each_layer_s_penalty_and_reports_every_step(samples):
    X, Y = samples
    told = []
    trained = train(X, RUNS, Y, DecoderSettings(name="ridge"), lambda *step: told.append(step), without=lambda _: X)
    assert told == [("fitting", done, 6) for done in range(7)]
    folds = LeaveOneRunOut(X.astype(np.float64), RUNS)
    for layer, values in Y.items():
        penalty, _ = folds.choose(values, [p * X.shape[1] for p in PENALTIES_PER_VOXEL])
        assert trained.penalties[layer] == penalty


def test_ridge_predicts_a_run_by_samples_that_know_nothing_of_it(samples):
    """As scikit-learn's ridge on the other runs alone, with their means and scales; samples are made anew each time."""
    X, Y = samples
    asked = []

    def without(runs):
        asked.append(runs)
        return X * np.float32(1 + len(asked))

    trained = train(X, RUNS, Y, DecoderSettings(name="ridge"), lambda *_: None, without=without)
    assert sorted(asked, key=min) == [{"a"}, {"b"}, {"c"}, {"d"}]
    for layer, values in Y.items():
        for run in "abcd":
            out = np.array(RUNS) == run
            scaler = StandardScaler().fit(X[~out])
            factor = np.sqrt((~out).sum() / ((~out).sum() - 1))  # ours divide by n - 1
            z, new = scaler.transform(X[~out]) / factor, scaler.transform(X[out]) / factor
            y_sd = values[~out].std(axis=0, ddof=1)
            expected = Ridge(trained.penalties[layer]).fit(z, values[~out] / y_sd).predict(new) * y_sd
            np.testing.assert_allclose(trained.held_out[layer][out], expected, rtol=1e-4, atol=1e-5)


def test_without_samples_to_predict_no_run_is_left_out(samples):
    X, Y = samples
    assert train(X, RUNS, Y, DecoderSettings(name="ridge"), lambda *_: None).held_out == {}


def test_many_runs_are_left_out_in_groups(samples):
    X, Y = samples
    asked = []
    train(
        X,
        range(len(X)),
        Y,
        DecoderSettings(name="ridge"),
        lambda *_: None,
        without=lambda runs: asked.append(runs) or X,
    )
    assert len(asked) == 12
    assert sorted(run for runs in asked for run in runs) == list(range(30))


def test_one_fold_is_no_setting():
    with pytest.raises(ValidationError, match="one fold would leave no run to train on"):
        DecoderSettings(n_folds=1)


def test_the_command_line_names_the_decoder_and_a_file_sets_it(tmp_path):
    (tmp_path / "decoder.toml").write_text('name = "slr"\nn_voxels = 1000\n')
    assert decoder_from(None, None) == DecoderSettings()
    assert decoder_from("slr", None) == DecoderSettings(name="slr")
    assert decoder_from(None, tmp_path / "decoder.toml") == DecoderSettings(name="slr", n_voxels=1000)
    assert decoder_from("ridge-select", tmp_path / "decoder.toml").name == "ridge-select"
    with pytest.raises(InputError, match="--decoder lasso: choose auto, ridge, ridge-select, slr, lda, svm"):
        decoder_from("lasso", None)
