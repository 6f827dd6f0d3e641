import numba
import numpy as np
import pytest

from rtgod.preprocessing.recursive_least_squares import RecursiveLeastSquares
from tests import naive

N_SERIES, N_VOLUMES = 6, 90


def drawn(n_regressors, seed=0):
    """Regressors (n_volumes, n), of which the first is constant, and series around 800 that follow them."""
    rng = np.random.default_rng(seed)
    Z = np.column_stack([np.ones(N_VOLUMES), rng.normal(0, 1, (N_VOLUMES, n_regressors - 1))])
    Y = 800 + Z @ rng.normal(0, 10, (n_regressors, N_SERIES)) + rng.normal(0, 8, (N_VOLUMES, N_SERIES))
    return Z, Y


def fed(Z, Y, prior_sd):
    fit = RecursiveLeastSquares(Y.shape[1], prior_sd)
    for row, values in zip(Z, Y, strict=True):
        fit.update(row, values - fit.predict(row))
    return fit


@pytest.mark.parametrize("prior_sd", [0.2, 3.0, 1e4])
@pytest.mark.parametrize("n_regressors", [1, 4, 30])
def test_every_volume_gives_batch_least_squares_on_all_so_far(n_regressors, prior_sd):
    Z, Y = drawn(n_regressors)
    sds = np.full(n_regressors, prior_sd)
    sds[0] = 1e4
    fit = RecursiveLeastSquares(N_SERIES, sds)
    for t, (row, values) in enumerate(zip(Z, Y, strict=True), 1):
        fit.update(row, values - fit.predict(row))
        expected = naive.least_squares(Z[:t], Y[:t], sds)
        np.testing.assert_allclose(fit.predict(row), row @ expected, rtol=1e-5)
        np.testing.assert_allclose(Z[:t] @ fit.coefficients.T, Z[:t] @ expected, rtol=1e-5)


def test_with_weak_priors_it_is_plain_least_squares():
    Z, Y = drawn(12)
    fit = fed(Z, Y, np.full(12, 1e4))
    np.testing.assert_allclose(fit.coefficients.T, np.linalg.lstsq(Z, Y, rcond=None)[0], rtol=1e-5, atol=1e-5)


def test_the_variance_is_that_of_the_prediction_s_error():
    Z, Y = drawn(5)
    sds = np.array([1e4, 1, 1, 1, 1])
    fit = fed(Z[:-1], Y[:-1], sds)
    covariance = np.linalg.inv(Z[:-1].T @ Z[:-1] + np.diag(1 / sds**2))
    assert fit.variance(Z[-1]) == pytest.approx(1 + Z[-1] @ covariance @ Z[-1], rel=1e-6)
    np.testing.assert_allclose(fit.covariance, covariance, atol=1e-8)


def test_a_regressor_that_restarts_stands_for_something_new():
    """Its column then equals a new one, with the old one's rows left out as if they had been known."""
    Z, Y = drawn(3)
    old, new = Z.copy(), Z.copy()
    old[40:, 2] = 0.0
    new[:40, 2] = 0.0
    sds = np.array([1e4, 1.0, 0.5])
    fit = fed(Z[:40], Y[:40], sds)
    fit.restart(2, 0.5)
    for row, values in zip(Z[40:], Y[40:], strict=True):
        fit.update(row, values - fit.predict(row))
    expected = naive.least_squares(np.column_stack([old, new[:, 2]]), Y, [*sds, 0.5])
    np.testing.assert_allclose(fit.coefficients.T, expected[[0, 1, 3]], rtol=1e-5, atol=1e-5)


def test_a_series_without_innovation_stays_as_it_is():
    Z, Y = drawn(4)
    fit = fed(Z[:50], Y[:50], np.full(4, 10.0))
    before = fit.coefficients.copy()
    innovation = Y[50] - fit.predict(Z[50])
    innovation[2] = 0
    fit.update(Z[50], innovation)
    np.testing.assert_array_equal(fit.coefficients[2], before[2])
    assert (fit.coefficients[[0, 1, 3]] != before[[0, 1, 3]]).all()


def test_threads_change_no_byte():
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs two threads")
    Z, Y = drawn(8)
    previous, found = numba.get_num_threads(), []
    try:
        for n_threads in (1, 2):
            numba.set_num_threads(n_threads)
            found.append(fed(Z, Y, np.full(8, 5.0)).coefficients.tobytes())
    finally:
        numba.set_num_threads(previous)
    assert found[0] == found[1]
