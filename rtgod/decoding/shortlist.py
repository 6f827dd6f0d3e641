"""Approximate search by FAISS for the rows, among a million, that are most like a query.

Rows are kept as product-quantised codes of one bit per column: 32 times smaller than the rows themselves, and the scan
is as much shorter. The caller scores the rows found exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import ModuleType

import numpy as np

from rtgod.errors import MissingDependencyError
from rtgod.messages import Array, Float32Array, Float64Array, Int32Array

#: Columns that share one code of `_N_BITS` bits ("Quicker ADC", André et al. 2021).
COLUMNS_PER_CODE = 4
_N_BITS = 4
#: Parts that are scanned in parallel. Their number is fixed, so that the number of cores changes only the time.
_N_PARTS = 8
#: Iterations of the k-means that learns the codes.
_N_ITERATIONS = 10
#: Most rows from which the codes are learned, and rows that are coded at a time.
_PIECE = 20_000


class Shortlist:
    """Search index of rows by their approximate dot product with a query.

    Parameters
    ----------
    n_rows : int
    rows_at : callable
        Function that returns the rows at given positions, shape (n_positions, n_columns), float32; it is called for
        pieces, which are not kept.
    size : int
        Number of rows that a search gives, up to rounding: the same number from each of the `_N_PARTS` parts.

    Raises
    ------
    MissingDependencyError
        If FAISS is not installed.
    """

    def __init__(self, n_rows: int, rows_at: Callable[[Int32Array], Float32Array], size: int) -> None:
        faiss = _faiss()
        sample = rows_at(np.linspace(0, n_rows - 1, min(_PIECE, n_rows)).astype(np.int32))
        self._n_padding = -sample.shape[1] % COLUMNS_PER_CODE
        width = sample.shape[1] + self._n_padding
        codes = faiss.IndexPQFastScan(width, width // COLUMNS_PER_CODE, _N_BITS, faiss.METRIC_INNER_PRODUCT)
        codes.pq.cp.niter = _N_ITERATIONS
        codes.train(self._padded(sample))
        self._parts = [faiss.clone_index(codes) for _ in range(_N_PARTS)]
        for number, part in enumerate(self._parts):
            # Rows are dealt out in turn, so that similar rows, which are often neighbours, are spread over the parts.
            positions = np.arange(number, n_rows, _N_PARTS, dtype=np.int32)
            for start in range(0, len(positions), _PIECE):
                part.add(self._padded(rows_at(positions[start : start + _PIECE])))
        self._threads = ThreadPoolExecutor(_N_PARTS)
        self._per_part = -(-size // _N_PARTS)
        self.n_bytes = n_rows * width // COLUMNS_PER_CODE * _N_BITS // 8

    def search(self, query: Float32Array) -> Int32Array:
        """Find the rows whose dot products with `query` are about the largest; positions ascend.

        Parameters
        ----------
        query : ndarray of shape (n_columns,), float32
        """
        padded = self._padded(query[np.newaxis])
        # FAISS releases the interpreter lock while it searches.
        positions_in_parts = self._threads.map(lambda part: part.search(padded, self._per_part)[1][0], self._parts)
        # FAISS fills the result with -1 if a part has fewer rows than asked for.
        rows = [in_part[in_part >= 0] * _N_PARTS + number for number, in_part in enumerate(positions_in_parts)]
        return np.sort(np.concatenate(rows)).astype(np.int32)

    def _padded(self, rows: Array) -> Float32Array:
        return np.pad(np.ascontiguousarray(rows, np.float32), ((0, 0), (0, self._n_padding)))


class CommonPart:
    """Part that all rows have in common, taken out of the vectors that a shortlist codes.

    Where rows are nearly the same, as raw activations are, the codes' errors along the direction that they share would
    be larger than the differences between rows. In each segment of the columns this direction is therefore taken out of
    rows and query, and each row's length along it, less the mean of all, becomes a column of its own. Dot products
    change by the same number for all rows.

    Parameters
    ----------
    n_rows : int
    rows_at : callable
        As for `Shortlist`.
    ends : ndarray of shape (n_segments,), int
        Column at which each segment ends; columns after the last end are one segment more.
    piece : int
        Rows that are read at a time.
    """

    def __init__(self, n_rows: int, rows_at: Callable[[Int32Array], Float32Array], ends: Array, piece: int) -> None:
        pieces = [np.arange(start, min(start + piece, n_rows), dtype=np.int32) for start in range(0, n_rows, piece)]
        mean = np.sum([rows_at(rows).sum(axis=0, dtype=np.float64) for rows in pieces], axis=0) / n_rows
        bounds = [0, *ends.tolist(), *([len(mean)] if len(mean) > ends[-1] else [])]
        self._segments = [slice(*bound) for bound in pairwise(bounds)]
        self._lengths = np.array([np.linalg.norm(mean[segment]) for segment in self._segments])
        self._directions = [
            mean[segment] / length if length > 0 else mean[segment]
            for segment, length in zip(self._segments, self._lengths, strict=True)
        ]

    def products(self, query: Float32Array) -> Float64Array:
        """Return the mean dot product of all rows with a query in each segment: shape (n_segments,).

        Parameters
        ----------
        query : ndarray of shape (n_columns,), float32
        """
        return self._along(query[np.newaxis])[0] * self._lengths

    def taken_out(self, rows: Float32Array) -> Float32Array:
        """Return rows without their common part, after their lengths along it, which share no code with other columns.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_columns), float32
        """
        along = self._along(rows)
        return self._joined(along - self._lengths, along, rows)

    def of_query(self, query: Float32Array) -> Float32Array:
        """Return the query for such rows: shape (n_columns + n_segments, rounded up to whole codes), float32.

        Parameters
        ----------
        query : ndarray of shape (n_columns,), float32
        """
        along = self._along(query[np.newaxis])
        return self._joined(along, along, query[np.newaxis])[0]

    def _along(self, rows: Float32Array) -> Float64Array:
        """Return each row's length along the common direction of each segment: shape (n_rows, n_segments)."""
        # Not a dot product by BLAS, whose last digits depend on the number of threads.
        parts = zip(self._segments, self._directions, strict=True)
        return np.stack([(rows[:, segment] * direction).sum(axis=1) for segment, direction in parts], axis=1)

    def _joined(self, first: Float64Array, along: Float64Array, rows: Float32Array) -> Float32Array:
        """Return `first`, filled up to whole codes, before the rows without their part `along` the directions."""
        n_first = first.shape[1] + -first.shape[1] % COLUMNS_PER_CODE
        joined = np.zeros((len(rows), n_first + rows.shape[1]), np.float32)
        joined[:, : first.shape[1]] = first
        rest = joined[:, n_first:]
        for segment, direction, lengths in zip(self._segments, self._directions, along.T, strict=True):
            rest[:, segment] = rows[:, segment] - lengths[:, np.newaxis] * direction
        return joined


def _faiss() -> ModuleType:
    try:
        import faiss
    except ImportError as error:
        raise MissingDependencyError(
            "so many candidates are searched with FAISS, which is not installed; run: python -m pip install "
            "'rtgod[large]' (or rank fewer: settings [ranking] candidates; or score every one, which takes longer: "
            'search = "exact")'
        ) from error
    return faiss
