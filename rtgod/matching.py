"""Features to a ranking of candidates: one pass over the candidates' features, at the memory's pace."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numba import njit, prange

from rtgod.decoding import LayerDecoder
from rtgod.messages import Array, Features, Float32Array, Int32Array


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
