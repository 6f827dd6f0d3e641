import numpy as np
import pytest

from calibration.decoders.cholesky import BLOCK, factorise, invert, solve


def n_padded(n):
    """`n` rounded up to whole blocks."""
    return -(-n // BLOCK) * BLOCK


def by_columns(S, below=0.0):
    """Block columns of a matrix padded with ones, with `below` under the diagonal."""
    size = n_padded(len(S))
    padded = np.eye(size, dtype=S.dtype)
    padded[: len(S), : len(S)] = np.triu(S)
    padded[np.tril_indices(size, -1)] = below
    return np.ascontiguousarray(padded.reshape(size, -1, BLOCK).transpose(1, 0, 2))


def positive_definite(n, dtype):
    X = np.random.default_rng(n).normal(size=(n + 20, n))
    return (X.T @ X + np.eye(n)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_factor_solution_and_inverse_are_numpy_s(n, dtype):
    S = positive_definite(n, dtype)
    b = np.random.default_rng(0).normal(size=n).astype(dtype)
    # Nothing may depend on what the arrays to work in hold, nor on what lies below the diagonal.
    columns, junk = by_columns(S, below=np.nan), dtype(np.nan)
    inverses, spare = np.full((len(columns), BLOCK, BLOCK), junk), np.full((BLOCK, BLOCK), junk)
    factorise(columns, inverses, spare)
    U = columns.transpose(1, 0, 2).reshape(n_padded(n), -1)[:n, :n]
    tolerance = 1e-10 if dtype == np.float64 else 2e-3
    np.testing.assert_allclose(np.triu(U), np.linalg.cholesky(S.astype(float)).T, rtol=tolerance, atol=tolerance)
    x = np.zeros(n_padded(n), dtype)
    x[:n] = b
    solve(columns, inverses, x, np.full_like(x, junk))
    np.testing.assert_allclose(x[:n], np.linalg.solve(S.astype(float), b), rtol=tolerance, atol=tolerance)
    out = np.full((n_padded(n) + 3,) * 2, junk)
    invert(columns, inverses, np.full_like(columns, junk), spare, out)
    np.testing.assert_allclose(out[:n, :n], np.linalg.inv(S.astype(float)), rtol=tolerance, atol=tolerance)
