import numba
import numpy as np
import pytest

from rtgod.preprocessing.noise_model import NoiseComponents, NoiseCovariance
from tests import naive

N = 300


def shape(n_components=7, seed=0):
    rng = np.random.default_rng(seed)
    components = np.linalg.qr(rng.standard_normal((N, n_components)))[0].T
    return NoiseCovariance(
        rng.uniform(0.5, 3, N).astype(np.float32),
        np.ascontiguousarray(components, np.float32),
        rng.uniform(0, 1, n_components).astype(np.float32),
    )


def pattern(seed=1):
    return np.random.default_rng(seed).standard_normal(N).astype(np.float32)


@pytest.mark.parametrize("n_components", [1, 7, 60])
def test_whitening_shrinks_along_each_component(n_components):
    noise, values = shape(n_components), pattern()
    expected = naive.whiten(values, noise.sd, noise.components, noise.shrinkage)
    np.testing.assert_allclose(noise.whiten(values), expected, atol=1e-5)
    assert noise.whiten(values).dtype == np.float32


def test_what_is_orthogonal_to_the_noise_stays_and_noise_goes():
    noise = shape()
    across = pattern() / noise.sd
    across -= noise.components.T @ (noise.components @ across)
    np.testing.assert_allclose(noise.whiten(across * noise.sd), across * noise.sd, atol=1e-5)
    gone = NoiseCovariance(noise.sd, noise.components, np.zeros(7, np.float32))
    np.testing.assert_allclose(gone.whiten(noise.components[3] * noise.sd), 0, atol=1e-6)


def test_courses_are_products_with_the_loadings():
    rng = np.random.default_rng(0)
    loadings, residual = rng.standard_normal((3, 40), np.float32), rng.standard_normal(40, np.float32)
    courses = NoiseComponents(np.zeros((40, 3), np.int32), loadings).values_of(residual)
    np.testing.assert_allclose(courses, loadings.astype(float) @ residual, rtol=1e-5)
    assert courses.dtype == np.float64


def test_threads_change_no_byte():
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs two threads")
    previous, found = numba.get_num_threads(), []
    try:
        for n_threads in (1, 2):
            numba.set_num_threads(n_threads)
            found.append(shape().whiten(pattern()).tobytes())
    finally:
        numba.set_num_threads(previous)
    assert found[0] == found[1]


def test_how_components_lie_in_memory_changes_no_byte():
    noise, rng = shape(60), np.random.default_rng(2)
    transposed = NoiseCovariance(noise.sd, np.asfortranarray(noise.components), noise.shrinkage)
    assert transposed.whiten(pattern()).tobytes() == noise.whiten(pattern()).tobytes()
    voxels, loadings = np.zeros((N, 3), np.int32), rng.standard_normal((7, N), np.float32)
    courses = [NoiseComponents(voxels, array).values_of(pattern()) for array in (loadings, np.asfortranarray(loadings))]
    assert courses[0].tobytes() == courses[1].tobytes()
