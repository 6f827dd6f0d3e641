"""Pattern to features to scores: two products per layer and one match, memory-bound and exact for any thread count.

The decoder is ridge regression in dual form: a pattern's similarity to every training pattern, times the dual
coefficients. Each output is one dot product that one thread computes from end to end, so threads change only the time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit, prange

from rtgod.messages import Array, Features, Float32Array, Int32Array


@dataclass(frozen=True, slots=True, eq=False)
class LayerDecoder:
    """Dual ridge regression onto one layer's units.

    Attributes
    ----------
    dual : ndarray of shape (n_units, n_samples), float32
        Coefficients in z-scored units.
    unit_mean, unit_sd : ndarray of shape (n_units,), float32
        Of the training samples' features, in the network's activations.
    """

    dual: Float32Array
    unit_mean: Float32Array
    unit_sd: Float32Array


class Decoder:
    """Turns a sample's pattern into features.

    Parameters
    ----------
    patterns : ndarray of shape (n_samples, n_voxels), float32
        The training patterns, z-scored.
    voxel_mean, voxel_sd : ndarray of shape (n_voxels,), float32
        What they were z-scored with.
    layers : mapping of str to LayerDecoder
    """

    def __init__(
        self,
        patterns: Float32Array,
        voxel_mean: Float32Array,
        voxel_sd: Float32Array,
        layers: Mapping[str, LayerDecoder],
    ) -> None:
        self._patterns = patterns
        self._voxel_mean = voxel_mean
        self._voxel_sd = voxel_sd
        self._layers = dict(layers)

    def decode(self, index: int, values: Float32Array) -> Features:
        """Predict every layer's units from one pattern `values` of shape (n_voxels,), float32."""
        z = ((values - self._voxel_mean) / self._voxel_sd).astype(np.float32)
        similarity = np.empty(self._patterns.shape[0], np.float32)
        rows_dot(self._patterns, z, similarity)
        decoded = {}
        for name, layer in self._layers.items():
            units = np.empty(layer.dual.shape[0], np.float32)
            rows_dot(layer.dual, similarity, units)
            decoded[name] = units * layer.unit_sd + layer.unit_mean
        return Features(index, decoded)

    @property
    def n_voxels(self) -> int:
        """Length of the patterns that are decoded."""
        return self._patterns.shape[1]

    @property
    def n_units(self) -> int:
        """Units of all layers."""
        return sum(layer.dual.shape[0] for layer in self._layers.values())

    def by_layer(self, index: int, units: Float32Array) -> Features:
        """All layers' units, shape (n_units,), one layer after the other, as `Features`."""
        ends = np.cumsum([layer.dual.shape[0] for layer in self._layers.values()])[:-1]
        return Features(index, dict(zip(self._layers, np.split(units, ends), strict=True)))


class Matcher:
    """Scores candidates by the correlation of their category features with decoded ones.

    Both sides are z-scored with the training features' mean and SD first: otherwise the activations' common profile
    over units would dominate every correlation.

    Parameters
    ----------
    candidates : mapping of str to ndarray of shape (n_candidates, n_units), float32
        Category features per layer.
    layers : mapping of str to LayerDecoder
        For their unit means and SDs.
    """

    def __init__(self, candidates: Mapping[str, Float32Array], layers: Mapping[str, LayerDecoder]) -> None:
        self._layers = [(name, layers[name]) for name in candidates]
        # One array, a row for each candidate: it is read from end to end for every ranking, at the memory's pace.
        self._standardised = np.concatenate(
            [standardise_rows((candidates[name] - of.unit_mean) / of.unit_sd) for name, of in self._layers], axis=1
        )
        self._ends = np.cumsum([candidates[name].shape[1] for name in candidates])
        self.n_candidates = self._standardised.shape[0]

    def correlations(self, features: Features) -> Float32Array:
        """Pearson's r of each layer with each candidate, shape (n_layers, n_candidates), float32."""
        return np.ascontiguousarray(self._correlate(features).T)

    def scores(self, features: Features) -> Float32Array:
        """Mean over layers of the Fisher z of the correlations with each candidate, shape (n_candidates,), float32."""
        scores = np.empty(self.n_candidates, np.float32)
        _mean_fisher(self._correlate(features), scores)
        return scores

    def rank(self, features: Features) -> tuple[Int32Array, Float32Array]:
        """Candidates best first, and their scores.

        Equal scores keep the candidates' order, so that the ranking is the same everywhere.
        """
        scores = self.scores(features)
        order = np.argsort(-scores, kind="stable").astype(np.int32)
        return order, scores[order]

    def _correlate(self, features: Features) -> Float32Array:
        query = np.concatenate(
            [
                standardise_rows(((features.layers[name] - of.unit_mean) / of.unit_sd)[np.newaxis])[0]
                for name, of in self._layers
            ]
        )
        correlations = np.empty((self.n_candidates, len(self._layers)), np.float32)
        _segment_dots(self._standardised, query, self._ends, correlations)
        return correlations


def standardise_rows(rows: Array) -> Float32Array:
    """Rows of mean 0 and length 1, so that their dot products are correlations; a constant row becomes 0."""
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    length = np.sqrt(np.square(centred).sum(axis=1, keepdims=True))
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-12).astype(np.float32)


@njit(cache=True, parallel=True, fastmath=True)
def rows_dot(matrix: Array, vector: Array, out: Array) -> None:
    """`out = matrix @ vector` for C-contiguous float32; one thread per row, so the bytes do not depend on threads.

    `fastmath` lets the compiler sum a row in vector lanes; the order is fixed when it compiles.
    """
    for row in prange(matrix.shape[0]):
        total = np.float32(0.0)
        for column in range(vector.shape[0]):
            total += matrix[row, column] * vector[column]
        out[row] = total


@njit(cache=True, parallel=True, fastmath=True)
def _segment_dots(matrix: Array, vector: Array, ends: Array, out: Array) -> None:
    """Dot products of each row and `vector` from one of `ends` to the next; into `out` (n_rows, n_segments)."""
    for row in prange(matrix.shape[0]):
        start = 0
        for segment in range(ends.size):
            # Slices start at 0, so that the loop need not look out for negative positions.
            part, weights = matrix[row, start : ends[segment]], vector[start : ends[segment]]
            total = np.float32(0.0)
            for column in range(part.size):
                total += part[column] * weights[column]
            out[row, segment] = total
            start = ends[segment]


@njit(cache=True, parallel=True)
def _mean_fisher(correlations: Array, out: Array) -> None:
    """Mean of each row's Fisher z."""
    n_layers = correlations.shape[1]
    for row in prange(out.size):
        total = 0.0
        for layer in range(n_layers):
            # r of exactly ±1 would give an infinite z.
            r = min(max(correlations[row, layer], -0.999999), 0.999999)
            total += 0.5 * math.log((1.0 + r) / (1.0 - r))
        out[row] = total / n_layers
