"""Finding the rows that are most like a query among a million, approximately, by FAISS.

Rows are kept as product-quantised codes of a bit for each column: 32 times smaller than the rows themselves, and the
scan is as much shorter. What it finds is to be scored exactly by whoever asked.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np

from rtgod.errors import MissingDependencyError
from rtgod.messages import Array, Float32Array, Int32Array

#: Four bits for so many columns ("Quicker ADC", André et al. 2021).
_COLUMNS_PER_CODE = 4
_N_BITS = 4
#: Parts that are scanned at the same time. Their number is fixed, so that cores change only the time.
_N_PARTS = 8
#: Of the k-means that learns the codes.
_N_ITERATIONS = 10
#: Rows that the codes are learned from, and rows that are coded at a time.
_PIECE = 20_000


class Shortlist:
    """Rows by their approximate dot product with a query.

    Parameters
    ----------
    n_rows : int
    rows_at : callable
        Rows at positions, shape (n_positions, n_columns), float32; read in pieces here, and not kept.
    size : int
        About how many rows a search gives: as many of each of eight parts.

    Raises
    ------
    MissingDependencyError
        If FAISS is not installed.
    """

    def __init__(self, n_rows: int, rows_at: Callable[[Int32Array], Float32Array], size: int) -> None:
        faiss = _faiss()
        sample = rows_at(np.linspace(0, n_rows - 1, min(_PIECE, n_rows)).astype(np.int32))
        self._n_padding = -sample.shape[1] % _COLUMNS_PER_CODE
        width = sample.shape[1] + self._n_padding
        codes = faiss.IndexPQFastScan(width, width // _COLUMNS_PER_CODE, _N_BITS, faiss.METRIC_INNER_PRODUCT)
        codes.pq.cp.niter = _N_ITERATIONS
        codes.train(self._padded(sample))
        self._parts = [faiss.clone_index(codes) for _ in range(_N_PARTS)]
        for number, part in enumerate(self._parts):
            # Rows are dealt out in turn, so that like ones, which are often neighbours, are spread over the parts.
            positions = np.arange(number, n_rows, _N_PARTS, dtype=np.int32)
            for start in range(0, len(positions), _PIECE):
                part.add(self._padded(rows_at(positions[start : start + _PIECE])))
        self._threads = ThreadPoolExecutor(_N_PARTS)
        self._per_part = -(-size // _N_PARTS)
        self.n_bytes = n_rows * width // _COLUMNS_PER_CODE * _N_BITS // 8

    def search(self, query: Float32Array) -> Int32Array:
        """Positions of the rows whose dot product with `query`, shape (n_columns,), is about the largest; ascending."""
        padded = self._padded(query[np.newaxis])
        # FAISS lets go of the interpreter while it searches.
        found = self._threads.map(lambda part: part.search(padded, self._per_part)[1][0], self._parts)
        # A part of fewer rows than asked for is filled up with -1.
        rows = [of_part[of_part >= 0] * _N_PARTS + number for number, of_part in enumerate(found)]
        return np.sort(np.concatenate(rows)).astype(np.int32)

    def _padded(self, rows: Array) -> Float32Array:
        return np.pad(np.ascontiguousarray(rows, np.float32), ((0, 0), (0, self._n_padding)))


def _faiss() -> ModuleType:
    try:
        import faiss
    except ImportError as error:
        raise MissingDependencyError(
            "so many candidates are searched with FAISS, which is not installed; run: python -m pip install "
            "'rtgod[large]' (or rank fewer: settings [ranking] candidates)"
        ) from error
    return faiss
