"""Decoding: dense algebra in the network's units, whatever the number of threads."""

import numba
import numpy as np
import pytest

from rtgod.decoding import Decoder, rows_dot
from tests import small
from tests.small import normal

N_VOXELS = 83


@pytest.fixture
def layers():
    return small.layer_decoders()


def test_decoded_features_are_dense_algebra_in_natural_units(layers):
    patterns, mean, sd = (
        normal(small.N_DECODER_SAMPLES, N_VOXELS),
        normal(N_VOXELS, seed=1),
        1 + normal(N_VOXELS, seed=2) ** 2,
    )
    values = 3 * normal(N_VOXELS, seed=3)
    decoded = Decoder(patterns, mean, sd, layers).decode(12, values)
    assert decoded.index == 12
    assert list(decoded.layers) == list(layers)
    for name, layer in layers.items():
        weights = patterns.T.astype(float) @ layer.dual.T  # (n_voxels, n_units)
        z = (values.astype(float) - mean) / sd @ weights
        expected = z * layer.unit_sd + layer.unit_mean
        np.testing.assert_allclose(decoded.layers[name], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        assert decoded.layers[name].dtype == np.float32


def test_the_mean_pattern_decodes_to_the_mean_features(layers):
    mean = normal(N_VOXELS, seed=1)
    decoded = Decoder(normal(small.N_DECODER_SAMPLES, N_VOXELS), mean, np.ones(N_VOXELS, np.float32), layers).decode(
        0, mean
    )
    for name, layer in layers.items():
        np.testing.assert_array_equal(decoded.layers[name], layer.unit_mean)


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (1000, 60), (63, 1000), (16_001, 33)])
def test_products_are_right_and_threads_change_no_byte(shape):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs two threads")
    matrix, vector = normal(*shape), normal(shape[1], seed=1)
    previous, results = numba.get_num_threads(), []
    try:
        for n_threads in (1, 2):
            numba.set_num_threads(n_threads)
            out = np.empty(shape[0], np.float32)
            rows_dot(matrix, vector, out)
            results.append(out)
    finally:
        numba.set_num_threads(previous)
    assert results[0].tobytes() == results[1].tobytes()
    np.testing.assert_allclose(results[0], matrix.astype(float) @ vector, atol=1e-5 * shape[1])
