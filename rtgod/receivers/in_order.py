"""Volumes that come with numbers, in any order, and are given in the order of the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from zlib import crc32

from rtgod.messages import Array

#: A number that lies so far from those before is none of the run.
_FURTHEST = 500

#: Why a volume is not kept: it is there already, with the same or other voxels; it comes before the first that was
#: given, or after a later one; its number lies far from the others. "anew" is kept in place of what its
#: file had before.
Why = Literal["", "same", "copy", "other voxels", "anew", "early", "late", "far"]


class InOrder:
    """Volumes of a run.

    The first two are waited for, as numbers may start anywhere; the lower of them is the first volume.
    """

    def __init__(self) -> None:
        self._start: int | None = None
        self._next = 0
        self._waiting: dict[int, tuple[Array, float]] = {}
        self._seen: dict[int, tuple[int, Path]] = {}

    @property
    def n_waiting(self) -> int:
        """Number of volumes that were not given."""
        return len(self._waiting)

    @property
    def numbers(self) -> list[int]:
        """Numbers of the volumes that were not given, in order."""
        return sorted(self._waiting)

    @property
    def start(self) -> int | None:
        """Number of the first volume, once it is known."""
        return self._start

    @property
    def first(self) -> Array:
        """The volume with the lowest number of those that were not given."""
        return self._waiting[min(self._waiting)][0]

    def index_of(self, number: int) -> int:
        """Return the index of a volume in the run, from 0; below that, it comes before the first.

        Parameters
        ----------
        number : int
        """
        return number - (min(self._waiting) if self._start is None else self._start)

    def n_after(self, since_s: float) -> int:
        """Count the volumes that were not given, and came after a time.

        Parameters
        ----------
        since_s : float
            Seconds, by the clock of `add`.
        """
        return sum(came_s > since_s for _, came_s in self._waiting.values())

    def is_other(self, number: int, volume: Array) -> bool:
        """Return whether a volume of this number came before with other voxels.

        Parameters
        ----------
        number : int
        volume : ndarray of shape (x, y, z)
        """
        return number in self._seen and self._seen[number][0] != crc32(volume.tobytes())

    def takes_place(self, number: int, volume: Array, origin: Path) -> bool:
        """Return whether a volume of another scan takes the place of one that was given, or of those before the first.

        Parameters
        ----------
        number : int
        volume : ndarray of shape (x, y, z)
        origin : Path
            Its file.
        """
        if self._start is None or number in self._waiting:
            return False
        if number not in self._seen:
            return number < self._start
        return self._seen[number][1].name == origin.name and self.is_other(number, volume)

    def fits(self, number: int, volume: Array) -> bool:
        """Return whether a volume may be of the run under way: its number did not come, or with the same voxels.

        Parameters
        ----------
        number : int
        volume : ndarray of shape (x, y, z)
        """
        return not self.is_other(number, volume) if number in self._seen else self.index_of(number) >= 0

    def is_ahead(self, number: int) -> bool:
        """Return whether a number is above those of all volumes that were given.

        Parameters
        ----------
        number : int
        """
        return self.index_of(number) >= self._next

    def add(self, number: int, volume: Array, origin: Path, now_s: float) -> Why:
        """Keep a volume; return why not, if it is not kept.

        Parameters
        ----------
        number : int
        volume : ndarray of shape (x, y, z)
        origin : Path
            Its file.
        now_s : float
            Time by any monotonic clock, seconds.
        """
        checksum = crc32(volume.tobytes())
        if number in self._seen:
            known, known_origin = self._seen[number]
            is_same_file = known_origin.name == origin.name
            if known == checksum or not is_same_file or number not in self._waiting:
                return "other voxels" if known != checksum else "same" if is_same_file else "copy"
            self._seen[number], self._waiting[number] = (checksum, origin), (volume, self._waiting[number][1])
            return "anew"
        if self._seen:
            index = self.index_of(number)
            if not -_FURTHEST <= index - self._next <= _FURTHEST:
                return "far"
            if self._start is not None and index < self._next:
                return "early" if index < 0 else "late"
        self._seen[number] = checksum, origin
        self._waiting[number] = volume, now_s
        return ""

    def begin(self, at_most: int | None = None) -> None:
        """Take the lowest number for the first volume's.

        Parameters
        ----------
        at_most : int, optional
            A number that the first volume has if there is none below.
        """
        self._start = min(self._waiting)
        if at_most is not None:
            self._start = min(self._start, at_most)

    def due(self, now_s: float, patience_s: float) -> tuple[int, Array] | None:
        """Return the index and the voxels of the next volume to give; None if it must be waited for.

        Parameters
        ----------
        now_s : float
            Time by the clock of `add`, seconds.
        patience_s : float
            Time that a missing volume is waited for once a later one is there, seconds.
        """
        if not self._waiting:
            return None
        number = min(self._waiting)
        index = self.index_of(number)
        waited_s = now_s - min(came_s for _, came_s in self._waiting.values())
        if index != self._next and waited_s < patience_s:
            return None
        volume, _ = self._waiting.pop(number)
        self._next = index + 1
        return index, volume
