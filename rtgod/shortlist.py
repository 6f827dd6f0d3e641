"""Finding the rows that are most like a query among a million, approximately, by FAISS.

Rows are kept as product-quantised codes of a bit for each column: 32 times smaller than the rows themselves, and the
scan is as much shorter. What it finds is to be scored exactly by whoever asked.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

from rtgod.errors import MissingDependencyError
from rtgod.messages import Array, Float32Array, Int32Array

#: Four bits for so many columns (André et al. 2021, quick ADC).
_COLUMNS_PER_CODE = 4
_N_BITS = 4
#: Parts that are scanned at the same time. Their number is fixed, so that cores change only the time.
_N_PARTS = 8
#: Of k-means; more find no better codes.
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
        How many rows a search gives.

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
        self._index = faiss.IndexShards(width, True, True)  # threaded; rows are numbered through
        for positions in np.array_split(np.arange(n_rows, dtype=np.int32), _N_PARTS):
            part = faiss.clone_index(codes)
            for start in range(0, len(positions), _PIECE):
                part.add(self._padded(rows_at(positions[start : start + _PIECE])))
            self._index.add_shard(part)
        self._size = min(size, n_rows)
        self.n_bytes = n_rows * width // _COLUMNS_PER_CODE * _N_BITS // 8

    def search(self, query: Float32Array) -> Int32Array:
        """Positions of the rows whose dot product with `query`, shape (n_columns,), is about the largest; ascending."""
        _, found = self._index.search(self._padded(query[np.newaxis]), self._size)
        return np.sort(found[0][found[0] >= 0]).astype(np.int32)

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
