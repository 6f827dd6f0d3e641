"""Messages that wait for the server: in memory, and beyond a share of it in a temporary file."""

from __future__ import annotations

import tempfile
from collections import deque
from dataclasses import dataclass, replace
from typing import IO

import numpy as np

from rtgod.messages import Run, RunEnd, Volume

#: Bytes of voxels that wait in memory.
MOST_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class _Stored:
    """A volume whose voxels are in the file, from a byte on."""

    volume: Volume
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    place: int


class Backlog:
    """Queue of messages, without an end as long as there is room on a disk.

    The file has no name, so that no other program finds it, and nothing of it stays when this process ends, however it
    ends. It lies where the system keeps temporary files, which the variable TMPDIR says.

    Parameters
    ----------
    most_bytes : int
        Bytes of voxels that wait in memory.

    Attributes
    ----------
    problem : str
        Why volumes wait in memory for which the file was meant; empty if none do.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes, self._n_bytes, self._n_stored = most_bytes, 0, 0
        self._queue: deque[Run | Volume | RunEnd | _Stored] = deque()
        self._file: IO[bytes] | None = None
        self.problem = ""

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def n_stored(self) -> int:
        """Number of volumes whose voxels are in the file."""
        return self._n_stored

    @property
    def n_volumes(self) -> int:
        """Number of volumes that wait."""
        return sum(isinstance(message, Volume | _Stored) for message in self._queue)

    def append(self, message: Run | Volume | RunEnd) -> None:
        """Put a message at the end.

        Parameters
        ----------
        message : Run, Volume or RunEnd
        """
        if isinstance(message, Volume):
            if self._n_bytes + message.data.nbytes > self._most_bytes and (stored := self._stored(message)):
                self._n_stored += 1
                self._queue.append(stored)
                return
            self._n_bytes += message.data.nbytes
        self._queue.append(message)

    def appendleft(self, message: Run) -> None:
        """Put a message at the beginning.

        Parameters
        ----------
        message : Run
        """
        self._queue.appendleft(message)

    def first(self) -> Run | Volume | RunEnd:
        """Return the first message, which stays.

        Raises
        ------
        OSError
            If the file cannot be read.
        """
        message = self._queue[0]
        if isinstance(message, _Stored):
            message = self._read(message)
            self._n_bytes += message.data.nbytes
            self._queue[0] = message
            self._forget_stored()
        return message

    def popleft(self) -> None:
        """Take the first message out."""
        message = self._queue.popleft()
        if isinstance(message, Volume):
            self._n_bytes -= message.data.nbytes
        elif isinstance(message, _Stored):
            self._forget_stored()

    def _stored(self, volume: Volume) -> _Stored | None:
        """Write the voxels of a volume to the file; None if they cannot be written."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 # open as long as this is
            place = self._file.seek(0, 2)
            view = memoryview(volume.data.tobytes())
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            self.problem = error.strerror or str(error)
            return None
        self.problem = ""
        data = volume.data
        return _Stored(replace(volume, data=np.zeros((1, 1, 1), np.int16)), data.dtype, data.shape, place)

    def _read(self, stored: _Stored) -> Volume:
        if self._file is None:
            raise ValueError("nothing is stored")
        self._file.seek(stored.place)
        n_bytes = int(np.prod(stored.shape)) * stored.dtype.itemsize
        content = bytearray()
        while len(content) < n_bytes:
            piece = self._file.read(n_bytes - len(content))
            if not piece:
                raise OSError("the temporary file ends too early")
            content += piece
        return replace(stored.volume, data=np.frombuffer(content, stored.dtype).reshape(stored.shape))

    def _forget_stored(self) -> None:
        self._n_stored -= 1
        if not self._n_stored:
            self.close()

    def close(self) -> None:
        """Remove the file, with what is left in it."""
        if self._file is not None:
            self._file.close()
            self._file = None
