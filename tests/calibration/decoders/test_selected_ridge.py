import numpy as np
import pytest
from fastl2lir import FastL2LiR

from calibration.decoders.columns import standardised
from calibration.decoders.selected_ridge import SelectedRidge
from calibration.decoders.sparse import largest, products
from tests import naive


def data(n_samples=60, n_voxels=90, n_units=5, seed=0):
    """Voxels that share components with units; some tell much of a unit, most little."""
    rng = np.random.default_rng(seed)
    components = rng.normal(size=(n_samples, 6))
    X = components @ rng.normal(size=(6, n_voxels)) + 3 * rng.normal(size=(n_samples, n_voxels))
    return 2 + X, 100 + components @ rng.normal(size=(6, n_units)) + rng.normal(size=(n_samples, n_units))


@pytest.mark.parametrize("shape", [(60, 90), (150, 20), (10, 300)], ids=str)
@pytest.mark.parametrize("n_voxels", [1, 13, 70])
@pytest.mark.parametrize("alpha", [1e-3, 5.0, 1e3])
def test_equals_ridge_on_the_voxels_of_largest_r(shape, n_voxels, alpha):
    X, Y = data(*shape)
    model = SelectedRidge(n_voxels, alpha).fit(X, Y)
    expected = [naive.selected_ridge(X, y, n_voxels, alpha) for y in Y.T]
    np.testing.assert_allclose(model.coef_.toarray(), expected, rtol=1e-6, atol=1e-9)


def test_more_units_than_a_thread_solves_at_once_each_get_their_own_weights():
    X, Y = data(n_units=301)
    model = SelectedRidge(70, 5.0).fit(X, Y)
    for unit in (0, 7, 8, 300):
        expected = naive.selected_ridge(X, Y[:, unit], 70, 5.0)
        np.testing.assert_allclose(model.coef_[[unit]].toarray()[0], expected, rtol=1e-6, atol=1e-9)


#: fastl2lir warns that it takes all voxels, and NumPy of how it uses NumPy.
theirs_warn = pytest.mark.filterwarnings(
    "ignore:X has less features", "ignore:the matrix subclass", "ignore:Conversion of an array"
)


@theirs_warn
@pytest.mark.parametrize(("n_voxels", "n_selected"), [(700, 90), (120, 30), (90, 200)])
def test_equals_fastl2lir_on_centred_data(n_voxels, n_selected):
    X, Y = (standardised(values)[0] for values in data(80, n_voxels, 12))
    theirs = FastL2LiR()
    theirs.fit(X, Y, alpha=20.0, n_feat=n_selected)
    new, _ = data(30, n_voxels, seed=1)
    ours = SelectedRidge(n_selected, 20.0).fit(X, Y)
    np.testing.assert_allclose(ours.predict(new), theirs.predict(new), atol=1e-6)


@theirs_warn
def test_the_intercept_is_not_penalised_as_fastl2lir_s_is():
    X, Y = (standardised(values)[0] for values in data())
    theirs = FastL2LiR()
    theirs.fit(X, 50 + Y, alpha=20.0, n_feat=30)
    assert abs(theirs.predict(X).mean() - 50) > 5
    assert SelectedRidge(30, 20.0).fit(X, 50 + Y).predict(X).mean() == pytest.approx(50)


def test_the_largest_of_each_row_are_found_and_of_equal_ones_the_first():
    rng = np.random.default_rng(0)
    values = rng.integers(-6, 6, (300, 17)).astype(float)
    for n in (1, 8, 17):
        expected = [np.sort(np.argsort(-np.abs(row), kind="stable")[:n]) for row in values]
        np.testing.assert_array_equal(largest(values, n), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_are_numpy_s(dtype):
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(50, 30)).astype(dtype), rng.normal(size=(50, 600)).astype(dtype)
    np.testing.assert_allclose(products(A, B), A.T @ B, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.triu(products(B, B, upper=True)), np.triu(B.T @ B), rtol=1e-4, atol=1e-4)
    assert products(A, B).dtype == dtype
