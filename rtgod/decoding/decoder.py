"""Decoding of a pattern into features: one or two products per layer, limited by memory, equal for any thread count.

The decoder of a layer is linear, in one of three forms. In dual form it is a pattern's similarity to every training
pattern, times dual coefficients; in dense form each unit has a weight for every voxel, fewer numbers where training
patterns are many; in sparse form each unit has weights for a few voxels of its own. Each output is one dot product that
one thread computes from end to end, so the number of threads changes only the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit, prange

from rtgod.kernels import launch
from rtgod.messages import Array, Features, Float32Array, Int32Array


@dataclass(frozen=True, slots=True, eq=False)
class LayerDecoder:
    """Dual ridge regression onto one layer's units.

    Attributes
    ----------
    dual : ndarray of shape (n_units, n_samples), float32
        Dual coefficients, for z-scored patterns and features.
    unit_mean, unit_sd : ndarray of shape (n_units,), float32
        Mean and standard deviation of the training samples' features, in units of the network's activations.
    """

    dual: Float32Array
    unit_mean: Float32Array
    unit_sd: Float32Array

    @property
    def n_units(self) -> int:
        """Number of units that are decoded."""
        return self.dual.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class DenseLayerDecoder:
    """Linear regression onto one layer's units, each predicted from every voxel.

    Attributes
    ----------
    weights : ndarray of shape (n_units, n_voxels), float32
        Weights, for z-scored patterns and features.
    unit_mean, unit_sd : ndarray of shape (n_units,), float32
        Mean and standard deviation of the training samples' features, in units of the network's activations.
    """

    weights: Float32Array
    unit_mean: Float32Array
    unit_sd: Float32Array

    @property
    def n_units(self) -> int:
        """Number of units that are decoded."""
        return self.weights.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class SparseLayerDecoder:
    """Linear regression onto one layer's units, each predicted from some of the voxels.

    Attributes
    ----------
    starts : ndarray of shape (n_units + 1,), int32
        Position of each unit's first weight; the last entry is the number of weights.
    voxels : ndarray of shape (n_weights,), int32
        Position of the voxel to which each weight belongs.
    weights : ndarray of shape (n_weights,), float32
        Weights, for z-scored patterns and features.
    unit_mean, unit_sd : ndarray of shape (n_units,), float32
        Mean and standard deviation of the training samples' features, in units of the network's activations.
    intercept : ndarray of shape (n_units,), float32, or None
        Added to each unit's weighted sum, in units of `unit_sd`: the value that the mean pattern has beyond
        `unit_mean`. None adds nothing, as in bundles of older versions.
    """

    starts: Int32Array
    voxels: Int32Array
    weights: Float32Array
    unit_mean: Float32Array
    unit_sd: Float32Array
    intercept: Float32Array | None = None

    @property
    def n_units(self) -> int:
        """Number of units that are decoded."""
        return self.unit_mean.shape[0]


AnyLayerDecoder = LayerDecoder | DenseLayerDecoder | SparseLayerDecoder


def is_dense_better(n_samples: int, n_voxels: int, n_units: int) -> bool:
    """Return whether the dense form of all layers has fewer numbers than the dual one by a third, or is at hand.

    With more samples than voxels a fit gives weights, and no dual coefficients.

    Parameters
    ----------
    n_samples, n_voxels : int
        Shape of the training patterns, which all layers in dual form share.
    n_units : int
        Number of units of all layers.
    """
    return n_samples > n_voxels or 1.5 * n_voxels * n_units < n_samples * (n_voxels + n_units)


class Decoder:
    """Decoder of a sample's pattern into features.

    Parameters
    ----------
    patterns : ndarray of shape (n_samples, n_voxels), float32
        The training patterns, z-scored; n_samples may be 0 if no layer is in dual form.
    voxel_mean, voxel_sd : ndarray of shape (n_voxels,), float32
        Mean and standard deviation with which the patterns were z-scored.
    layers : mapping of str to LayerDecoder, DenseLayerDecoder or SparseLayerDecoder
    """

    def __init__(
        self,
        patterns: Float32Array,
        voxel_mean: Float32Array,
        voxel_sd: Float32Array,
        layers: Mapping[str, AnyLayerDecoder],
    ) -> None:
        self._patterns = patterns
        self._voxel_mean = voxel_mean
        self._voxel_sd = voxel_sd
        self._layers = dict(layers)

    def decode(self, index: int, values: Float32Array) -> Features:
        """Predict every layer's units from one pattern.

        Parameters
        ----------
        index : int
            Index of the newest volume of the pattern's window; the features carry it.
        values : ndarray of shape (n_voxels,), float32
            The sample's pattern, not z-scored.
        """
        z = ((values - self._voxel_mean) / self._voxel_sd).astype(np.float32)
        similarity = np.empty(self._patterns.shape[0], np.float32)
        rows_dot(self._patterns, z, similarity)
        decoded = {}
        for name, layer in self._layers.items():
            units = np.empty(layer.n_units, np.float32)
            if isinstance(layer, SparseLayerDecoder):
                sparse_rows_dot(layer.starts, layer.voxels, layer.weights, z, units)
                if layer.intercept is not None:
                    units += layer.intercept
            elif isinstance(layer, DenseLayerDecoder):
                rows_dot(layer.weights, z, units)
            else:
                rows_dot(layer.dual, similarity, units)
            decoded[name] = units * layer.unit_sd + layer.unit_mean
        return Features(index, decoded)

    @property
    def layers(self) -> Mapping[str, AnyLayerDecoder]:
        """Decoders of the layers, by name."""
        return self._layers

    @property
    def n_voxels(self) -> int:
        """Number of voxels in a pattern."""
        return self._patterns.shape[1]


def response_of(weights: Float32Array, pattern: Float32Array) -> float:
    """Return the dot product of weights and a pattern, equal for any number of threads.

    Parameters
    ----------
    weights, pattern : ndarray of shape (n_voxels,), float32
    """
    # einsum sums in a fixed order; starting threads for one row would take longer than the sum itself.
    return float(np.einsum("i,i->", weights, pattern))


def rows_dot(matrix: Array, vector: Array, out: Array) -> None:
    """Compute `out = matrix @ vector`, with one thread per row: equal for any thread count.

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_columns), float32, C-contiguous
    vector : ndarray of shape (n_columns,), float32, C-contiguous
    out : ndarray of shape (n_rows,), float32, C-contiguous
    """
    launch(_rows_dot, matrix.size, matrix, vector, out)


@njit(cache=True, parallel=True, fastmath=True)
def _rows_dot(matrix: Array, vector: Array, out: Array) -> None:
    """See `rows_dot`; `fastmath` lets the compiler sum in vector lanes, in an order that is fixed when it compiles."""
    for row in prange(matrix.shape[0]):
        total = np.float32(0.0)
        for column in range(vector.shape[0]):
            total += matrix[row, column] * vector[column]
        out[row] = total


def sparse_rows_dot(starts: Array, columns: Array, values: Array, vector: Array, out: Array) -> None:
    """Compute `out = matrix @ vector` for a matrix whose rows hold only some columns; one thread per row.

    Parameters
    ----------
    starts : ndarray of shape (n_rows + 1,), int32
        Position of each row's first value; the last entry is the number of values.
    columns : ndarray of shape (n_values,), int32
        Column of each value.
    values : ndarray of shape (n_values,), float32
    vector : ndarray of shape (n_columns,), float32
    out : ndarray of shape (n_rows,), float32
    """
    launch(_sparse_rows_dot, values.size, starts, columns, values, vector, out)


@njit(cache=True, parallel=True, fastmath=True)
def _sparse_rows_dot(starts: Array, columns: Array, values: Array, vector: Array, out: Array) -> None:
    for row in prange(out.size):
        row_columns, weights = columns[starts[row] : starts[row + 1]], values[starts[row] : starts[row + 1]]
        total = np.float32(0.0)
        for position in range(row_columns.size):
            total += weights[position] * vector[row_columns[position]]
        out[row] = total
