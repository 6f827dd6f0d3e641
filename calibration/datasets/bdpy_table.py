"""Tables of BrainDecoderToolbox2 and bdpy in HDF5, whose columns are described by metadata.

Each key has a row that is 1 at the columns which the key names. Files that MATLAB wrote use other names, and their axes
are swapped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from calibration.datasets.regions import IndexArray
from calibration.features.images import first_few
from rtgod.errors import InputError, what_went_wrong
from rtgod.messages import Array, BoolArray, Float32Array, Float64Array

_BLOCK_BYTES = 1 << 25


class Table:
    """Table of a file: its rows, and its columns by their keys.

    Parameters
    ----------
    path : Path
        For messages.
    file : h5py.File

    Attributes
    ----------
    keys : list of str
    n_rows : int

    Raises
    ------
    InputError
        If the file holds no such table.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path, self._file = path, file
        self._data, metadata = (
            file[self._either(*names)] for names in (("dataset", "dataSet"), ("metadata", "metaData"))
        )
        self.keys: list[str] = [_text(key) for key in np.ravel(metadata["key"][()])]
        values = np.asarray(metadata["value"][()], np.float64)
        self._swapped = values.shape[0] != len(self.keys)
        self._values = values.T if self._swapped else values
        shape = self._data.shape[::-1] if self._swapped else self._data.shape
        if len(shape) != 2 or self._values.shape != (len(self.keys), shape[1]):
            raise InputError(
                f"{path}: a table of shape {self._data.shape} with metadata of shape {values.shape} for "
                f"{len(self.keys)} keys; they do not belong together, so download the file again"
            )
        self.n_rows, self._n_columns = shape

    def _either(self, *names: str) -> str:
        for name in names:
            if name in self._file:
                return name
        raise InputError(f"{self.path}: no {names[0]!r} in it; give a file of BrainDecoderToolbox2 or bdpy")

    def marked(self, key: str) -> IndexArray:
        """Return the columns that a key names.

        Parameters
        ----------
        key : str
        """
        return np.flatnonzero(self._values[self.keys.index(key)] == 1)

    def described(self, key: str, columns: IndexArray) -> Float64Array:
        """Return the numbers by which a key describes some columns, such as voxels' coordinates, shape (n_columns,).

        Parameters
        ----------
        key : str
        columns : ndarray of shape (n_columns,), int64
        """
        return self._values[self.keys.index(key), columns]

    def column(self, key: str) -> Float64Array:
        """Return the one column that a key names, shape (n_rows,), float64.

        Parameters
        ----------
        key : str

        Raises
        ------
        InputError
            If it names none or several.
        """
        columns = self.marked(key) if key in self.keys else np.empty(0, np.int64)
        if len(columns) != 1:
            raise InputError(
                f"{self.path}: {len(columns)} columns for {key}, and one is needed; there: {self.some_keys()}"
            )
        return self.numbers(columns)[:, 0]

    def numbers(self, columns: IndexArray) -> Float64Array:
        """Read some columns, of all rows: shape (n_rows, n_columns), float64.

        Parameters
        ----------
        columns : ndarray of shape (n_columns,), int64
        """
        return self._blocks(columns, np.ones(self.n_rows, bool), np.float64)

    def names(self, key: str) -> dict[float, str]:
        """Return the names behind the numbers of a column; empty if the file has none.

        Parameters
        ----------
        key : str
        """
        group = self._file.get(f"vmap/{key}", {})
        return {float(number): _text(name[()]) for number, name in group.items()}

    def read(self, columns: IndexArray, rows: BoolArray | None = None) -> Float32Array:
        """Read some columns, of all rows or of some: shape (n_rows, n_columns), float32.

        Parameters
        ----------
        columns : ndarray of shape (n_columns,), int64
        rows : ndarray of shape (n_rows,), bool, or None
        """
        return self._blocks(columns, np.ones(self.n_rows, bool) if rows is None else rows, np.float32)

    def _blocks(self, columns: IndexArray, rows: BoolArray, dtype: Any) -> Array:
        # Columns of one key lie together, so the span read holds few others; rows are read a block at a time to limit
        # memory.
        left, right = int(columns[0]), int(columns[-1]) + 1
        step = max(1, _BLOCK_BYTES // (8 * (right - left)))
        out = np.empty((int(rows.sum()), len(columns)), dtype)
        done = 0
        for start in range(0, self.n_rows, step):
            stop = start + step
            block = self._data[left:right, start:stop].T if self._swapped else self._data[start:stop, left:right]
            chosen = block[np.ix_(rows[start:stop], columns - left)]
            out[done : done + len(chosen)] = chosen
            done += len(chosen)
        return out

    def some_keys(self) -> str:
        """First few of the keys, for messages."""
        return first_few(self.keys, 20) or "none"


@contextmanager
def opened(path: Path) -> Iterator[Table]:
    """Open the table of a file, and close it after the block.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
        If the file cannot be read, or is damaged in what is read of it.
    """
    try:
        with h5py.File(path, "r") as file:
            yield Table(path, file)
    # h5py raises these for files that are not HDF5, are cut short or damaged, or lack a group or a data set.
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({what_went_wrong(error)}); give Subject*.h5 or ImageFeatures.h5, and "
            "download a damaged file again"
        ) from error


def _text(raw: object) -> str:
    return raw.decode().strip("\0 ") if isinstance(raw, bytes) else str(raw)
