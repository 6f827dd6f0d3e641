"""Decoding: dense algebra in the network's units, whatever the number of threads."""

from itertools import pairwise

import numba
import numpy as np
import pytest
from scipy.sparse import csr_array

from rtgod.decoding.decoder import Decoder, DenseLayerDecoder, is_dense_better, rows_dot, sparse_rows_dot
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


def test_sparse_layers_beside_dual_ones_read_their_own_voxels(layers):
    sparse = small.sparse_layer_decoder(30, N_VOXELS)
    patterns, mean, sd = normal(small.N_DECODER_SAMPLES, N_VOXELS), normal(N_VOXELS, seed=1), np.full(N_VOXELS, 2.0)
    values = 3 * normal(N_VOXELS, seed=3)
    decoder = Decoder(patterns, mean, sd.astype(np.float32), {**layers, "sparse": sparse})
    decoded = decoder.decode(4, values).layers
    z, expected = (values.astype(float) - mean) / sd, []
    for unit, (start, end) in enumerate(pairwise(sparse.starts)):
        total = sum(sparse.weights[k] * z[sparse.voxels[k]] for k in range(start, end))
        expected.append(total * sparse.unit_sd[unit] + sparse.unit_mean[unit])
    np.testing.assert_allclose(decoded["sparse"], expected, rtol=1e-4, atol=1e-4)
    assert decoded["sparse"][0] == sparse.unit_mean[0]


def test_a_dense_layer_decodes_as_the_dual_one_that_it_was_made_from(layers):
    patterns, mean, sd = normal(small.N_DECODER_SAMPLES, N_VOXELS), normal(N_VOXELS, seed=1), np.full(N_VOXELS, 2.0)
    dense = {
        name: DenseLayerDecoder((layer.dual @ patterns).astype(np.float32), layer.unit_mean, layer.unit_sd)
        for name, layer in layers.items()
    }
    values, moments = 3 * normal(N_VOXELS, seed=3), (mean, sd.astype(np.float32))
    ours = Decoder(patterns[:0], *moments, dense).decode(3, values).layers
    for name, theirs in Decoder(patterns, *moments, layers).decode(3, values).layers.items():
        np.testing.assert_allclose(ours[name], theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


def test_the_dense_form_is_chosen_where_it_is_fewer_numbers_by_a_third():
    n_voxels, n_units = 4500, 8000
    for n_samples in (1, 1200, 2881, 4319, 4321, 24_000):
        dual = n_samples * n_voxels + n_units * n_samples
        assert is_dense_better(n_samples, n_voxels, n_units) == (n_voxels * n_units < dual / 1.5)
    assert not is_dense_better(1200, n_voxels, n_units)  # the paper's size
    assert is_dense_better(600, 1000, 8)  # a localizer's categories
    assert is_dense_better(4501, n_voxels, 10**6)


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (1000, 60), (63, 1000), (16_001, 33)])
def test_products_are_right_and_threads_change_no_byte(shape):
    matrix, vector = normal(*shape), normal(shape[1], seed=1)
    one, two = with_threads(lambda out: rows_dot(matrix, vector, out), shape[0])
    assert one.tobytes() == two.tobytes()
    np.testing.assert_allclose(one, matrix.astype(float) @ vector, atol=1e-5 * shape[1])


@pytest.mark.parametrize("shape", [(1, 1), (300, 60), (5000, 500)])
def test_sparse_products_are_right_and_threads_change_no_byte(shape):
    dense, vector = normal(*shape), normal(shape[1], seed=1)
    dense[np.abs(dense) < 1.6] = 0
    matrix = csr_array(dense)
    one, two = with_threads(
        lambda out: sparse_rows_dot(matrix.indptr, matrix.indices, matrix.data, vector, out), shape[0]
    )
    assert one.tobytes() == two.tobytes()
    np.testing.assert_allclose(one, dense.astype(float) @ vector, atol=1e-5 * shape[1])


def with_threads(product, n_rows):
    """What a kernel writes with one thread and with two."""
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs two threads")
    previous, results = numba.get_num_threads(), []
    try:
        for n_threads in (1, 2):
            numba.set_num_threads(n_threads)
            results.append(np.empty(n_rows, np.float32))
            product(results[-1])
    finally:
        numba.set_num_threads(previous)
    return results
