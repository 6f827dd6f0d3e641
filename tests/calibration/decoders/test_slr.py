import numpy as np
import pytest

from calibration.decoders.columns import standardised
from calibration.decoders.slr import SparseRegression
from tests import naive


def data(n_samples, n_voxels, n_relevant=5, noise=1.0, shared=1.0, seed=0):
    """A unit that a few voxels tell of, among voxels that have much in common; both z-scored."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, n_voxels)) + shared * rng.normal(size=(n_samples, 4)) @ rng.normal(
        size=(4, n_voxels)
    )
    y = X[:, :n_relevant] @ rng.normal(size=n_relevant) + noise * rng.normal(size=n_samples)
    return standardised(X)[0], standardised(y[:, np.newaxis])[0][:, 0]


def weights(model):
    return model.coef_.toarray()[0]


@pytest.mark.parametrize("n_steps", [1, 2, 10, 300, 2000])
@pytest.mark.parametrize(
    "shape",
    [(60, 40), (150, 20), (300, 120), (50, 50), (51, 50), (49, 50), (40, 90), (12, 60)],
    ids=lambda shape: f"{shape[0]} samples, {shape[1]} voxels",
)
def test_equals_the_equations_step_by_step(shape, n_steps):
    X, y = data(*shape)
    expected = naive.sparse_regression(X, y, n_steps)
    found = weights(SparseRegression(shape[1], n_steps).fit(X, y))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(found != 0, expected != 0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("noise", "shared"), [(0.3, 0.0), (3.0, 0.0), (1.0, 4.0)])
def test_equals_them_whatever_there_is_to_find(noise, shared, seed):
    X, y = data(200, 80, noise=noise, shared=shared, seed=seed)
    new, _ = data(200, 80, noise=noise, shared=shared, seed=seed + 100)
    expected = naive.sparse_regression(X, y)
    model = SparseRegression(80).fit(X, y)
    np.testing.assert_allclose(new @ weights(model), new @ expected, atol=1e-6)


def test_begins_with_the_voxels_of_largest_r():
    X, y = data(100, 300)
    selected = np.sort(np.argsort(-np.abs(y @ X))[:60])
    expected = np.zeros(300)
    expected[selected] = naive.sparse_regression(X[:, selected], y)
    np.testing.assert_allclose(weights(SparseRegression(60).fit(X, y)), expected, atol=1e-6)


def test_finds_the_voxels_that_matter():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 100))
    y = X[:, [3, 40, 77]] @ [1.0, -2.0, 0.5] + 0.5 * rng.normal(size=400)
    found = weights(SparseRegression().fit(X, y))
    assert np.count_nonzero(found) < 50
    np.testing.assert_allclose(found[[3, 40, 77]], np.array([1, -2, 0.5]) * X.std(0)[[3, 40, 77]] / y.std(), atol=0.03)
    assert np.abs(np.delete(found, [3, 40, 77])).max() < 0.05


def test_units_of_noise_end_at_their_mean():
    """Prior variances that all shrink run out of digits in the plain equations."""
    rng = np.random.default_rng(3)
    X, Y = rng.normal(size=(60, 10)), rng.normal(size=(60, 40))
    spread = SparseRegression().fit(X, Y).predict(X).std(axis=0)
    assert np.isfinite(spread).all()
    assert (spread < 1e-9).any()


@pytest.mark.parametrize("n_voxels", [3, 90])
def test_an_exact_relation_is_fitted(n_voxels):
    """Noise that vanishes would have prior variances grow without end."""
    X = np.random.default_rng(0).normal(size=(60, n_voxels))
    y = X[:, 0] - 2 * X[:, 2]
    np.testing.assert_allclose(SparseRegression().fit(X, y).predict(X), y, atol=1e-3)


def test_a_voxel_that_is_there_twice_shares_its_weight():
    X, y = data(80, 10)
    twice = np.column_stack([X, X[:, 0]])
    model, plain = SparseRegression().fit(twice, y), SparseRegression().fit(X, y)
    np.testing.assert_allclose(model.predict(twice), plain.predict(X), atol=0.1)
    assert weights(model)[0] == pytest.approx(weights(model)[-1], abs=1e-6)
