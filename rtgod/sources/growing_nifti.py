"""A 4-D NIfTI file that grows while it is read, in place or by longer files that take its place."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

from rtgod.errors import InputError
from rtgod.messages import Array
from rtgod.sources.filling import FILLED_S, STABLE_S, Filling, n_blank_in
from rtgod.sources.nifti_file import NiftiLayout, read_layout

#: Longest time for which a file that becomes shorter may be one that is written anew with all its volumes, seconds.
_REWRITTEN_S = 3.0
#: A header that promises so many volumes more than are there is believed; one that grows promises fewer.
_FEWEST_PROMISED = 5
#: Bytes of volumes from which on a look leaves the others to the next.
_MOST_BYTES = 2**24


class GrowingNifti:
    """Reader of the volumes that a file has by now.

    A volume is there once the file has its last byte. If the file has its full length before its voxels, a volume is
    there once the next one is not blank, or the file has not changed for a while.

    Another file that takes its name, or a file that is written anew, goes on with the same run if it begins with the
    volumes that were read: many tools write the whole file for each volume. A file that is not there is waited for.

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
        self._since_s, self._is_done, self._fills_up, self._ends_blank = 0.0, False, False, False
        self._filling = Filling()
        self._n_read = 0
        #: Checksums of the first and the last volume that were read, by their indices.
        self._read: dict[int, int] = {}
        self._short_since_s: float | None = None
        status = path.stat()
        self._state = status.st_ino, -1, -1
        self._may_differ = False
        n_there = (status.st_size - layout.offset) // layout.n_bytes
        is_believed = layout.n_volumes >= max(n_there, 0) + _FEWEST_PROMISED
        self.n_promised = layout.n_volumes if is_believed else None

    def rename(self, path: Path) -> None:
        """Look for the file under another name.

        Parameters
        ----------
        path : Path
        """
        self._path = path

    def n_new(self) -> int:
        """Count the volumes that the file has room for beyond those that were read; 0 if it has not changed.

        Raises
        ------
        InputError
            If it is no longer the file whose volumes were read: shorter for a while, with another header, or with other
            volumes.
        OSError
            If it cannot be read.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return 0  # its share is away, or another file takes its place soon
        state, now_s = (status.st_ino, status.st_size, status.st_mtime_ns), self._clock()
        if state != self._state:
            self._may_differ |= state[0] != self._state[0]
            self._state, self._since_s, self._is_done = state, now_s, False
        if self._is_done:
            return 0
        self._is_done = now_s - self._since_s >= (FILLED_S if self._ends_blank else STABLE_S)
        if not self._is_as_before(status.st_size, now_s):
            return 0
        return max(0, (status.st_size - self._layout.offset) // self._layout.n_bytes - self._n_read)

    def look(self) -> list[tuple[int, Array]]:
        """Return volumes that came since the last look, with their indices; none if nothing has changed.

        Of a file that has much, a part is returned, and more at the next look.

        Raises
        ------
        InputError
            If it is no longer the file whose volumes were read; see `n_new`.
        OSError
            If it cannot be read.
        """
        n_there = self.n_new() + self._n_read
        if n_there == self._n_read:
            return []
        unchanged_s = self._clock() - self._since_s
        given: list[tuple[int, Array]] = []
        with self._path.open("rb") as file:
            file.seek(self._place_of(self._n_read))
            raw = file.read(self._layout.n_bytes)
            while self._n_read < n_there and len(raw) == self._layout.n_bytes:
                following = file.read(self._layout.n_bytes) if self._n_read + 1 < n_there else b""
                if not self._is_whole(raw, following, unchanged_s):
                    break
                given.append((self._n_read, self._layout.volume(raw)))
                self._read = {index: known for index, known in self._read.items() if index == 0}
                self._read[self._n_read] = crc32(raw)
                self._n_read += 1
                raw = following
                if len(given) * self._layout.n_bytes >= _MOST_BYTES:
                    self._is_done = False
                    break
        return given

    def _place_of(self, index: int) -> int:
        return self._layout.offset + index * self._layout.n_bytes

    def _is_stable(self, now_s: float) -> bool:
        return now_s - self._since_s >= STABLE_S

    def _is_whole(self, raw: bytes, following: bytes, unchanged_s: float) -> bool:
        """Return whether a volume is written to its end, by it and the next one, if that has room in the file."""
        n_blank, next_is_blank = n_blank_in(raw), following.count(0) == len(following)
        is_blank = n_blank == len(raw)
        self._fills_up |= is_blank or (bool(following) and next_is_blank)
        if next_is_blank:
            wait_s = self._filling.wait_s("", n_blank, len(raw))
            self._ends_blank = wait_s >= FILLED_S
            if self._fills_up and (is_blank or unchanged_s < STABLE_S):
                return False
            if unchanged_s < wait_s:
                return False
        self._filling.note("", n_blank, len(raw))
        return True

    def _is_as_before(self, size: int, now_s: float) -> bool:
        """Return whether the file has what was read, and its header says the same; False while it is written anew."""
        if size < self._place_of(self._n_read):
            self._may_differ = True
            self._short_since_s = now_s if self._short_since_s is None else self._short_since_s
            if self._is_stable(now_s) or now_s - self._short_since_s >= _REWRITTEN_S:
                raise InputError("a NIfTI file that grew has become shorter")
            return False
        self._short_since_s = None
        if not self._n_read and not self._may_differ:
            return True
        try:
            layout, known = read_layout(self._path), self._layout
        except InputError:
            if self._is_stable(now_s):
                raise InputError("the header of a NIfTI file that grows cannot be read any more") from None
            return False  # it is being written anew
        says = (layout.offset, layout.dtype, layout.slope, layout.inter)
        if says != (known.offset, known.dtype, known.slope, known.inter) or not layout.is_alike(known):
            raise InputError("the header of a NIfTI file that grows has changed: later volumes would differ")
        if self._may_differ and not self._has_what_was_read():
            raise InputError("a NIfTI file that grew has other volumes now")
        self._may_differ = False
        return True

    def _has_what_was_read(self) -> bool:
        with self._path.open("rb") as file:
            for index, checksum in self._read.items():
                file.seek(self._place_of(index))
                if crc32(file.read(self._layout.n_bytes)) != checksum:
                    return False
        return True
