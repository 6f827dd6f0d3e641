import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from calibration.decoders.columns import column_moments, profile_correlation
from calibration.decoders.ridge import PENALTIES_PER_VOXEL, DualRidge, LeaveOneRunOut, fit_layers, predict_layers
from rtgod.errors import InputError
from tests import naive

RUNS = ["a"] * 8 + ["b"] * 6 + ["c"] * 9
N_SAMPLES = len(RUNS)


def data(n_voxels=50, n_units=4, noise=0.5, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    X = rng.normal(2, 3, (N_SAMPLES, n_voxels)) * rng.uniform(0.1, 10, n_voxels)
    weights = rng.normal(size=(n_voxels, n_units)) / X.std(axis=0)[:, np.newaxis]
    Y = 100 + X @ weights + noise * n_voxels**0.5 * rng.normal(size=(N_SAMPLES, n_units))
    return X.astype(dtype), Y.astype(dtype)


@parametrize_with_checks([DualRidge()])
def test_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("n_voxels", [5, 50])
@pytest.mark.parametrize("alpha", [0.01, 1.0, 300.0])
def test_equals_scikit_learn_s_ridge_on_z_scores(n_voxels, alpha):
    X, Y = data(n_voxels)
    new, _ = data(n_voxels, seed=1)
    scale, y_scale = X.std(axis=0, ddof=1), Y.std(axis=0, ddof=1)
    theirs = Ridge(alpha, solver="cholesky").fit((X - X.mean(0)) / scale, Y / y_scale)
    expected = theirs.predict((new - X.mean(0)) / scale) * y_scale
    np.testing.assert_allclose(DualRidge(alpha).fit(X, Y).predict(new), expected, rtol=1e-8)


@pytest.mark.parametrize("alpha", [0.5, 20.0])
def test_weights_factorise_into_patterns_and_dual_coefficients(alpha):
    X, Y = data()
    model = DualRidge(alpha).fit(X, Y)
    np.testing.assert_allclose(model.X_fit_.T @ model.dual_coef_, naive.ridge(X, Y, alpha), atol=1e-10)


@pytest.mark.parametrize("n_voxels", [5, N_SAMPLES, 50])
def test_weights_are_the_same_from_samples_and_from_voxels(n_voxels):
    X, Y = data(n_voxels)
    model = DualRidge(3.0).fit(X, Y)
    assert (model.dual_coef_ is None) == (n_voxels < N_SAMPLES)
    np.testing.assert_allclose(model.coef_, naive.ridge(X, Y, 3.0), atol=1e-10)


def test_one_target_as_a_vector_predicts_a_vector():
    X, Y = data(n_units=1)
    flat, column = DualRidge().fit(X, Y[:, 0]).predict(X), DualRidge().fit(X, Y).predict(X)
    assert (flat.shape, column.shape) == ((N_SAMPLES,), (N_SAMPLES, 1))
    np.testing.assert_array_equal(flat, column[:, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1234.5678])
def test_constant_voxels_and_units_change_nothing(constant, dtype):
    X, Y = data(dtype=dtype)
    with_X, with_Y = (np.column_stack([a[:, :2], np.full(N_SAMPLES, constant, dtype), a[:, 2:]]) for a in (X, Y))
    model, plain = DualRidge(2.0).fit(with_X, with_Y), DualRidge(2.0).fit(X, Y)
    np.testing.assert_allclose(model.X_fit_[:, 2], 0, atol=1e-10)
    new = with_X[::-1] * dtype(1.01)
    tolerance = 1e-4 if dtype == np.float32 else 1e-9
    new[:, 2] = constant
    predicted = model.predict(new)
    np.testing.assert_allclose(predicted[:, 2], constant, rtol=1e-6)
    np.testing.assert_allclose(np.delete(predicted, 2, 1), plain.predict(np.delete(new, 2, 1)), rtol=tolerance)
    folds = LeaveOneRunOut(with_X, RUNS)
    held_out = folds.predict(with_Y, 3.0)
    np.testing.assert_allclose(held_out[:, 2], constant, rtol=1e-6)
    np.testing.assert_allclose(np.delete(held_out, 2, 1), LeaveOneRunOut(X, RUNS).predict(Y, 3.0), rtol=tolerance)
    assert profile_correlation(held_out, with_Y)[2] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("penalty", [0.02, 5.0, 1000.0])
@pytest.mark.parametrize("n_voxels", [5, 50])
def test_leaving_runs_out_equals_refitting_without_them(n_voxels, penalty):
    """With scikit-learn's ridge regression, whose intercept is not penalised either."""
    X, Y = data(n_voxels)
    scaled, expected = X / X.std(axis=0, ddof=1), np.empty_like(Y)
    for run in set(RUNS):
        test = np.array([r == run for r in RUNS])
        expected[test] = Ridge(penalty, solver="cholesky").fit(scaled[~test], Y[~test]).predict(scaled[test])
    np.testing.assert_allclose(LeaveOneRunOut(X, RUNS).predict(Y, penalty), expected, rtol=1e-8)


def test_a_held_out_run_does_not_reach_its_own_prediction():
    X, Y = data()
    test = np.array([r == "b" for r in RUNS])
    changed = Y.copy()
    changed[test] *= 3
    before, after = (LeaveOneRunOut(X, RUNS).predict(targets, 5.0) for targets in (Y, changed))
    np.testing.assert_allclose(before[test], after[test], rtol=1e-10)
    assert (before[~test] != after[~test]).all()


@pytest.mark.parametrize(("noise", "seed"), [(0.05, 0), (1.0, 1), (3.0, 2)])
def test_the_penalty_with_the_highest_accuracy_is_chosen(noise, seed):
    X, Y = data(noise=noise, seed=seed)
    penalties = [p * X.shape[1] for p in PENALTIES_PER_VOXEL]
    folds = LeaveOneRunOut(X, RUNS)
    penalty, accuracy = folds.choose(Y, penalties)
    expected = []
    for one in penalties:
        predicted = folds.predict(Y, one)
        expected.append(np.mean([np.corrcoef(p, t)[0, 1] for p, t in zip(predicted.T, Y.T, strict=True)]))
    np.testing.assert_allclose(accuracy, expected, atol=1e-10)
    assert penalty == penalties[int(np.argmax(expected))]
    assert len(set(np.round(expected, 6))) > 3


def test_one_run_cannot_be_left_out():
    with pytest.raises(InputError, match="at least two runs"):
        LeaveOneRunOut(data()[0], ["a"] * N_SAMPLES)


def test_profile_correlation_is_pearson_s_of_each_unit_and_0_for_a_constant_one():
    rng = np.random.default_rng(0)
    predicted, true = rng.normal(5, 1, (24, 6)), rng.normal(-3, 2, (24, 6))
    predicted[:, 3] = true[:, 4] = true[:, 5] = predicted[:, 5] = 0.1
    expected = [np.corrcoef(p, t)[0, 1] for p, t in zip(predicted.T[:3], true.T[:3], strict=True)]
    np.testing.assert_allclose(profile_correlation(predicted, true), [*expected, 0, 0, 0], atol=1e-12)


def test_moments_are_of_the_sample_and_a_constant_column_has_scale_1():
    X = np.column_stack([np.arange(10.0), np.full(10, 0.1), 1e6 + np.arange(10.0), np.zeros(10)])
    for dtype in (np.float32, np.float64):
        mean, scale = column_moments(X.astype(dtype))
        np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-7)
        np.testing.assert_allclose(scale, [X[:, 0].std(ddof=1), 1, X[:, 0].std(ddof=1), 1], rtol=1e-6)


def test_every_layer_is_fitted_with_its_own_penalty():
    X, Y = data()
    models = fit_layers(X, {"low": Y[:, :2], "high": Y}, {"low": 1.0, "high": 50.0})
    assert {name: model.alpha for name, model in models.items()} == {"low": 1.0, "high": 50.0}
    np.testing.assert_array_equal(models["high"].dual_coef_, DualRidge(50.0).fit(X, Y).dual_coef_)


def test_layers_are_predicted_as_each_alone():
    X, Y = data()
    models = fit_layers(X, {"low": Y[:, :2], "high": Y}, {"low": 1.0, "high": 50.0})
    new, _ = data(seed=1)
    for name, predicted in predict_layers(models, new).items():
        np.testing.assert_allclose(predicted, models[name].predict(new), rtol=1e-12)
