"""Correlation of one vector with many rows, layer by layer: limited by memory bandwidth, equal for any thread count."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit, prange

from rtgod.kernels import launch
from rtgod.messages import Array, Float32Array, Float64Array

#: r of exactly ±1 would give an infinite z.
_LARGEST_R = 0.999999


def standardise_rows(rows: Array) -> Float32Array:
    """Scale rows to mean 0 and length 1, so that their dot products are correlations; a constant row becomes 0.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
    """
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    length = np.sqrt(np.square(centred).sum(axis=1, keepdims=True))
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-12).astype(np.float32)


def profiles(layers: Sequence[Array]) -> Float64Array:
    """Compute the terms that turn layer-wise correlations into one correlation over the units of all layers.

    With r of each layer, and `length` and `level` of both sides, the correlation over all units is
    Σ (length · length' · r + level · level').

    Parameters
    ----------
    layers : sequence of ndarray of shape (n_rows, n_units)

    Returns
    -------
    ndarray of shape (n_rows, 2, n_layers), float64
        `length`, the length of each layer's units about their mean, and `level`, √n_units times the distance of this
        mean from the mean of all units; both divided by the length of all units about their mean.
    """
    n_units = np.array([units.shape[1] for units in layers])
    means = np.stack([units.mean(axis=1, dtype=np.float64) for units in layers], axis=1)
    squares = [np.square(units - mean[:, np.newaxis]).sum(axis=1) for units, mean in zip(layers, means.T, strict=True)]
    level = np.sqrt(n_units) * (means - (means * n_units).sum(axis=1, keepdims=True) / n_units.sum())
    terms = np.stack([np.sqrt(np.stack(squares, axis=1)), level], axis=1)
    length = np.sqrt(np.square(terms).sum(axis=(1, 2), keepdims=True))
    return np.divide(terms, length, out=np.zeros_like(terms), where=length > 1e-12)


def correlate(rows: Float32Array, query: Float32Array, ends: Array) -> Float32Array:
    """Compute the correlations of standardised rows and a standardised query in each layer: (n_rows, n_layers).

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_units), float32
    query : ndarray of shape (n_units,), float32
    ends : ndarray of shape (n_layers,), int
        Column at which each layer ends.
    """
    correlations = np.empty((len(rows), len(ends)), np.float32)
    launch(_segment_dots, rows.size, rows, query, ends, correlations)
    return correlations


def correlate_at(rows: Float32Array, positions: Array, query: Float32Array, ends: Array) -> Float32Array:
    """Compute the results of `correlate`, to the last bit, for some rows: (n_positions, n_layers).

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_units), float32
    positions : ndarray of shape (n_positions,), int32
    query, ends
        As in `correlate`.
    """
    correlations = np.empty((positions.size, len(ends)), np.float32)
    launch(_segment_dots_at, positions.size * query.size, rows, positions, query, ends, correlations)
    return correlations


def mean_fisher(correlations: Float32Array, weights: Float64Array) -> Float32Array:
    """Compute the weighted mean of each row's Fisher z: (n_rows,), float32.

    Parameters
    ----------
    correlations : ndarray of shape (n_rows, n_layers), float32
    weights : ndarray of shape (n_layers,), float64
    """
    out = np.empty(len(correlations), np.float32)
    # A logarithm takes as long as some 16 multiplications.
    launch(_mean_fisher, 16 * correlations.size, correlations, weights, out)
    return out


def fisher(r: Float64Array) -> Float64Array:
    """Compute Fisher's z of some r.

    Parameters
    ----------
    r : ndarray of shape (n,), float64
    """
    return np.asarray(np.arctanh(np.clip(r, -_LARGEST_R, _LARGEST_R)))


def fisher_slope(r: Float64Array) -> Float64Array:
    """Compute by how much Fisher's z grows with r, at some r.

    Parameters
    ----------
    r : ndarray of shape (n,), float64
    """
    return 1 / (1 - np.clip(r, -_LARGEST_R, _LARGEST_R) ** 2)


@njit(cache=True, parallel=True, fastmath=True)
def _segment_dots(matrix: Array, vector: Array, ends: Array, out: Array) -> None:
    """Write into `out` (n_rows, n_segments) the dot product of each row and `vector` between consecutive `ends`."""
    for row in prange(matrix.shape[0]):
        _segment_dots_of_row(matrix, row, vector, ends, out[row])


@njit(cache=True, parallel=True, fastmath=True)
def _segment_dots_at(matrix: Array, rows: Array, vector: Array, ends: Array, out: Array) -> None:
    """Write into `out` (rows.size, n_segments) the results of `_segment_dots`, to the last bit, for some `rows`."""
    for position in prange(rows.size):
        _segment_dots_of_row(matrix, rows[position], vector, ends, out[position])


@njit(cache=True, fastmath=True)
def _segment_dots_of_row(matrix: Array, row: int, vector: Array, ends: Array, out: Array) -> None:
    start = 0
    for segment in range(ends.size):
        # Slices start at 0, so that the compiled loop needs no check for negative positions.
        part, weights = matrix[row, start : ends[segment]], vector[start : ends[segment]]
        total = np.float32(0.0)
        for column in range(part.size):
            total += part[column] * weights[column]
        out[segment] = total
        start = ends[segment]


@njit(cache=True, parallel=True)
def _mean_fisher(correlations: Array, weights: Array, out: Array) -> None:
    """Write into `out` the weighted mean of each row's Fisher z."""
    n_layers, whole = correlations.shape[1], weights.sum()
    for row in prange(out.size):
        total = 0.0
        for layer in range(n_layers):
            r = min(max(correlations[row, layer], -_LARGEST_R), _LARGEST_R)
            total += weights[layer] * (0.5 * math.log((1.0 + r) / (1.0 - r)))
        out[row] = total / whole
