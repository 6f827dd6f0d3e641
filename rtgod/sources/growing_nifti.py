"""A 4-D NIfTI file that grows while it is read."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rtgod.errors import InputError
from rtgod.messages import Array
from rtgod.sources.nifti_file import NiftiLayout, read_layout

#: Time for which a file must not change until a volume whose end cannot be told is taken for whole, seconds.
STABLE_S = 0.5
#: A header that promises so many volumes more than are there is believed; one that grows promises fewer.
_FEWEST_PROMISED = 5


class GrowingNifti:
    """Reader of the volumes that a file has by now.

    A volume is there once the file has its last byte. If the file has its full length before its voxels, a volume is
    there once the next one is not blank, or the file has not changed for a while.

    Parameters
    ----------
    path : Path
        A .nii file, which is only read.
    layout : NiftiLayout
        What its header says; the number of volumes may be that of the whole run, or grow, or never change.
    clock : callable, optional
        Clock of monotonic seconds.

    Attributes
    ----------
    n_promised : int or None
        Number of volumes by its header, if that is believed to be the run's.
    """

    def __init__(self, path: Path, layout: NiftiLayout, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._layout, self._clock = path, layout, clock
        self._n_read, self._state, self._since_s, self._is_done = 0, (-1, -1), 0.0, False
        self._fills_up = False
        status = path.stat()
        self._inode = status.st_ino
        n_there = (status.st_size - layout.offset) // layout.n_bytes
        is_believed = layout.n_volumes >= max(n_there, 0) + _FEWEST_PROMISED
        self.n_promised = layout.n_volumes if is_believed else None

    def is_still_there(self) -> bool:
        """Return whether the file is the one that was read, and has what was read of it."""
        try:
            status = self._path.stat()
        except OSError:
            return False
        return status.st_ino == self._inode and status.st_size >= self._read_to()

    def _read_to(self) -> int:
        return self._layout.offset + self._n_read * self._layout.n_bytes

    def look(self) -> list[tuple[int, Array]]:
        """Return the volumes that came since the last look, with their indices; none if nothing has changed.

        Raises
        ------
        InputError
            If the file has become shorter, or its header says other things of volumes that were given.
        OSError
            If it cannot be read, or another file has its name.
        """
        status = self._path.stat()
        if status.st_ino != self._inode:
            raise FileNotFoundError("another file has its name")
        state, now_s = (status.st_size, status.st_mtime_ns), self._clock()
        if state != self._state:
            self._state, self._since_s, self._is_done = state, now_s, False
        is_stable = now_s - self._since_s >= STABLE_S
        if self._is_done:
            return []
        self._is_done = is_stable
        if not self._is_as_before(status.st_size, is_stable=is_stable):
            return []
        n_there = (status.st_size - self._layout.offset) // self._layout.n_bytes
        given: list[tuple[int, Array]] = []
        with self._path.open("rb") as file:
            file.seek(self._read_to())
            raw = file.read(self._layout.n_bytes)
            while self._n_read < n_there and len(raw) == self._layout.n_bytes:
                following = file.read(self._layout.n_bytes) if self._n_read + 1 < n_there else b""
                if not self._is_whole(raw, following, is_stable=is_stable):
                    break
                given.append((self._n_read, self._layout.volume(raw)))
                self._n_read += 1
                raw = following
        return given

    def _is_whole(self, raw: bytes, following: bytes, *, is_stable: bool) -> bool:
        """Return whether a volume is written to its end, by it and the next one, if that has room in the file."""
        is_blank, next_is_blank = raw.count(0) == len(raw), following.count(0) == len(following)
        self._fills_up |= is_blank or (bool(following) and next_is_blank)
        if not self._fills_up:
            return True
        return not next_is_blank or (is_stable and not is_blank)

    def _is_as_before(self, size: int, *, is_stable: bool) -> bool:
        """Return whether the header can be read, and says the same as when the first volume was given."""
        if size < self._read_to():
            raise InputError("a NIfTI file that grew has become shorter")
        if not self._n_read:
            return True
        try:
            layout, known = read_layout(self._path), self._layout
        except InputError:
            if is_stable:
                raise InputError("the header of a NIfTI file that grows cannot be read any more") from None
            return False  # it is being written anew
        says = (layout.offset, layout.dtype, layout.slope, layout.inter)
        if says != (known.offset, known.dtype, known.slope, known.inter) or not layout.is_alike(known):
            raise InputError("the header of a NIfTI file that grows has changed: later volumes would differ")
        return True
