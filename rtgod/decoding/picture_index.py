"""The pictures nearest to decoded features: exact, in one pass over 8-bit copies of all.

A picture is matched as a category is, by the correlation of its units with the decoded ones, layer by layer; its score
is the layers' weighted mean. A picture is stored as a code, a vector whose dot product with a query's is this score, or
comes close to it where the units were reduced to fewer dimensions.

The search reads each code as 8-bit integers with a scale, a quarter of the bytes. Integers add up to the same sum in
any order, and the distance of a row from its 8-bit copy bounds by how much its score can differ, so that only the few
rows that may belong to the nearest are scored again in single precision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numba import njit, prange

from rtgod.decoding.chances import NEW, Chances
from rtgod.decoding.correlation import correlate, correlate_at, standardise_rows
from rtgod.kernels import launch
from rtgod.messages import Array, Features, Float32Array, Float64Array, Int32Array, NearPicture

#: Number of pictures that are found.
N_NEAREST = 4
#: Most dimensions of a code; units beyond this number are reduced.
MOST_DIMENSIONS = 512
#: Rows whose 8-bit copies are made at a time, to bound memory.
_PIECE = 4096
_LARGEST_CODE, _LARGEST_QUERY = 127, 32_767
#: Relative error of a single-precision dot product, generously.
_ROUNDING = 2e-5


class UnitMoments(Protocol):
    """Mean and standard deviation of each unit over the training images, as every layer's decoder has them."""

    @property
    def unit_mean(self) -> Float32Array:
        """Means, shape (n_units,)."""

    @property
    def unit_sd(self) -> Float32Array:
        """Standard deviations, shape (n_units,)."""


def matched_rows(
    features: Mapping[str, Array], layers: Mapping[str, UnitMoments], weights: Mapping[str, float]
) -> Float32Array:
    """Scale features so that the dot product of two rows is the weighted mean of their layers' correlations.

    Parameters
    ----------
    features : mapping of str to ndarray of shape (n_rows, n_units)
        Features of every layer in `weights`, in the units of the network's activations.
    layers : mapping of str to UnitMoments
    weights : mapping of str to float
        Weight of each layer that counts.

    Returns
    -------
    ndarray of shape (n_rows, n_units_of_all), float32
    """
    whole = sum(weights.values())
    parts = []
    for name, weight in weights.items():
        units = (features[name] - layers[name].unit_mean) / layers[name].unit_sd
        parts.append(standardise_rows(units) * np.float32(math.sqrt(weight / whole)))
    return np.concatenate(parts, axis=1)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of a bundle, among which the nearest are found.

    Attributes
    ----------
    names : tuple of str
        Path of each picture below its folder.
    codes : ndarray of shape (n_pictures, n_dimensions), float32
        Units as `matched_rows` scales them, times `basis`.
    weights : mapping of str to float
        Weight of each layer that counts; see `matched_rows`.
    basis : ndarray of shape (n_dimensions, n_units_of_all), float32, or None
        Orthonormal rows to which the units are reduced; None if they are not.
    chances : Chances or None
        Model of the chance that a picture is the one that is seen, if that one is among them; None if it is unknown.

    Raises
    ------
    ValueError
        If the parts do not fit each other.
    """

    names: tuple[str, ...]
    codes: Float32Array
    weights: Mapping[str, float]
    basis: Float32Array | None = None
    chances: Chances | None = None

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or len(self.codes) != len(self.names) or not len(self.names):
            raise ValueError(f"{len(self.names)} pictures, and codes of shape {self.codes.shape}")
        if len(set(self.names)) < len(self.names):
            raise ValueError("pictures share a name")
        if self.basis is not None and (self.basis.ndim != 2 or len(self.basis) != self.codes.shape[1]):
            raise ValueError(f"codes of {self.codes.shape[1]} dimensions, and a basis of shape {self.basis.shape}")
        if not self.weights or min(self.weights.values()) < 0 or not sum(self.weights.values()) > 0:
            raise ValueError("pictures need layers whose weights are not negative, and one above 0")

    def check_units(self, n_units: Mapping[str, int]) -> None:
        """Raise ValueError if the pictures do not fit a decoder's layers.

        Parameters
        ----------
        n_units : mapping of str to int
            Number of units of each of the decoder's layers.
        """
        if unknown := sorted(set(self.weights) - set(n_units)):
            raise ValueError(f"pictures are matched by the layers {unknown}, which the decoder lacks")
        matched = sum(n_units[name] for name in self.weights)
        stored = self.codes.shape[1] if self.basis is None else self.basis.shape[1]
        if matched != stored:
            raise ValueError(f"pictures have {stored} units, and the decoder's layers {matched}")

    @cached_property
    def search(self) -> NearestSearch:
        """Search among the codes, made once."""
        return NearestSearch(self.codes)

    def nearest(
        self,
        features: Features,
        layers: Mapping[str, UnitMoments],
        n_volumes: int,
        response: float | None = None,
        *,
        imagined: bool = False,
    ) -> tuple[NearPicture, ...]:
        """Find the nearest pictures, best first, each with its chance where that is known.

        Parameters
        ----------
        features : Features
            Decoded features.
        layers : mapping of str to UnitMoments
            The decoder's layers.
        n_volumes : int
            Volumes that the features rest on.
        response : float or None
            Share of a response in the pattern, from `rtgod.decoding.decoder.response_of`; None if unknown.
        imagined : bool
            Whether the trial asked to imagine something: chances are learned from what is seen, and then unknown.

        Returns
        -------
        tuple of NearPicture
            Empty if the features are not finite.
        """
        query = self.query(features, layers)
        if not np.isfinite(query).all():
            return ()
        rows, scores, all_scores = self.search.nearest(query, N_NEAREST)
        chances: Sequence[float | None] = [None] * len(rows)
        if self.chances is not None and not imagined:
            chances = picture_chances(self.chances, scores, all_scores, n_volumes, response).tolist()
        return tuple(
            NearPicture(self.names[row], float(score), chance)
            for row, score, chance in zip(rows.tolist(), scores.tolist(), chances, strict=True)
        )

    def query(self, features: Features, layers: Mapping[str, UnitMoments]) -> Float32Array:
        """Turn decoded features into a vector that codes are multiplied with: shape (n_dimensions,), float32.

        Parameters
        ----------
        features : Features
        layers : mapping of str to UnitMoments
        """
        row = matched_rows({name: features.layers[name][np.newaxis] for name in self.weights}, layers, self.weights)[0]
        if self.basis is None:
            return row
        # Not a product by BLAS, whose last digits depend on the number of threads.
        return correlate(self.basis, row, np.array([row.size]))[:, 0]


def picture_chances(
    chances: Chances, nearest: Array, all_scores: Array, n_volumes: int, response: float | None = None
) -> Float64Array:
    """Compute the chance of each of the nearest pictures, shape (n_nearest,); together they are at most 1.

    Parameters
    ----------
    chances : Chances
        With a weight for new candidates, which every picture is.
    nearest : ndarray of shape (n_nearest,)
        Scores of the nearest pictures.
    all_scores : ndarray of shape (n_pictures,), float32
        Scores of all pictures, exact to about a thousandth of their range.
    n_volumes : int
        Volumes that the scores rest on.
    response : float or None
        Share of a response in the pattern; with None the pattern counts as a response.
    """
    n_pictures = len(all_scores)
    weight = chances.weight(NEW, n_pictures, n_volumes)
    if weight is None:
        raise ValueError("chances of pictures need the weight of new candidates")
    odds = np.exp(weight * (np.asarray(nearest, np.float64) - float(nearest[0])))
    others = np.exp(np.float32(weight) * np.minimum(all_scores - np.float32(nearest[0]), np.float32(0)))
    among = odds / max(float(others.sum(dtype=np.float64)), float(odds.sum()))
    present = chances.presence_of(response, n_volumes)
    return np.asarray(present * among + (1 - present) / n_pictures)


class NearestSearch:
    """Exact search for the rows with the largest dot products with a query.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_dimensions), float32
        May be mapped from a file: a search reads few of them.
    """

    def __init__(self, rows: Float32Array) -> None:
        n_rows, n_dimensions = rows.shape
        self._rows = rows
        self._ends = np.array([n_dimensions])
        self._codes = np.empty((n_rows, n_dimensions), np.int8)
        self._scales = np.empty(n_rows, np.float32)
        # Distance of each row from its copy, the copy's length, and the largest of each.
        farthest, longest = 0.0, 0.0
        for start in range(0, n_rows, _PIECE):
            piece = np.asarray(rows[start : start + _PIECE], np.float64)
            scales = np.abs(piece).max(axis=1) / _LARGEST_CODE
            scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
            codes = np.rint(piece / scales[:, np.newaxis].astype(np.float64))
            copies = codes * scales[:, np.newaxis]
            self._codes[start : start + _PIECE], self._scales[start : start + _PIECE] = codes, scales
            farthest = max(farthest, float(np.linalg.norm(piece - copies, axis=1).max()))
            longest = max(longest, float(np.linalg.norm(copies, axis=1).max()))
        self._farthest, self._longest = farthest, longest

    def nearest(self, query: Float32Array, n: int) -> tuple[Int32Array, Float32Array, Float32Array]:
        """Find the rows nearest to a query.

        Parameters
        ----------
        query : ndarray of shape (n_dimensions,), float32
        n : int
            Number of rows that are found, or all if there are fewer.

        Returns
        -------
        rows : ndarray of shape (n,), int32
            Best first; rows with equal scores keep their order.
        scores : ndarray of shape (n,), float32
            Their dot products with the query.
        all_scores : ndarray of shape (n_rows,), float32
            Dot products of the 8-bit copies of all rows, in their order.
        """
        n = min(n, len(self._scales))
        approximate, error = self._approximate(query)
        # One of the nearest scores at least as high as the n-th of the copies less the error of both.
        at_least = float(np.partition(approximate, len(approximate) - n)[len(approximate) - n]) - 2 * error
        some = np.flatnonzero(approximate >= np.float32(at_least)).astype(np.int32)
        scores = correlate_at(self._rows, some, query, self._ends)[:, 0]
        best = np.argsort(-scores, kind="stable")[:n]
        return some[best], scores[best], approximate

    def _approximate(self, query: Float32Array) -> tuple[Float32Array, float]:
        """Compute the dot products of all copies, and a bound on their distance from those of the rows."""
        exact = query.astype(np.float64)
        largest, total = float(np.abs(exact).max()), float(np.abs(exact).sum())
        # The sum of products must not exceed 32 bits.
        steps = _LARGEST_QUERY / largest if largest > 0 else 1.0
        steps = min(steps, (2**31 - 1) / _LARGEST_CODE / (1.01 * total) if total > 0 else steps)
        coarse = np.trunc(exact * steps)
        approximate = np.empty(len(self._scales), np.float32)
        launch(
            _scaled_dots, self._codes.size, self._codes, self._scales, coarse.astype(np.int16), 1 / steps, approximate
        )
        length = float(np.linalg.norm(exact))
        error = length * self._farthest + float(np.linalg.norm(exact - coarse / steps)) * self._longest
        return approximate, error + _ROUNDING * length * (self._longest + self._farthest)


@njit(cache=True, parallel=True)
def _scaled_dots(codes: Any, scales: Any, query: Any, step: float, out: Any) -> None:
    """Write into `out` the dot product of each row of codes and the query in whole numbers, times the row's scale."""
    for row in prange(codes.shape[0]):
        code = codes[row]
        total = np.int32(0)
        for column in range(code.size):
            # Cast back at once: numba adds in 64 bits, of which half as many fit a vector.
            total = np.int32(total + np.int32(code[column]) * np.int32(query[column]))
        out[row] = np.float32(total * step * scales[row])
