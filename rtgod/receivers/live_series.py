"""A series while it is acquired: its files' pieces become volumes, which are given in order.

A volume is given once it is complete and all before it were given, or were waited for long enough. Its index is that of
the scanner's own count, so it does not depend on what came before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Array, Float64Array
from rtgod.sources.dicom_pieces import Piece
from rtgod.sources.dicom_volumes import Stack, clock_s, stack_of

_DAY_S = 86400.0


@dataclass(frozen=True, slots=True, eq=False)
class LiveVolume:
    """A complete volume.

    Attributes
    ----------
    index : int
        Place in the run, from 0.
    acquired_s : float
        Seconds from the nominal start of volume 0.
    data : ndarray of shape (x, y, z)
    """

    index: int
    acquired_s: float
    data: Array


@dataclass(slots=True, eq=False)
class _Gathering:
    """A volume that is being gathered: its pieces' slices by their places."""

    pieces: list[Piece] = field(default_factory=list)
    slices: dict[tuple[float, ...], Array] = field(default_factory=dict)
    complete_s: float = float("inf")


class LiveSeries:
    """Volumes of one series, out of pieces in any order.

    Parameters
    ----------
    first : Piece
        Any piece of the series.
    patience_tr : float
        Time that a missing volume is waited for once a later one is complete, in repetition times.

    Attributes
    ----------
    tr_s : float
        Repetition time by the files, seconds; 0 without one.
    notes : list of str
        Lines for the operator, to be taken out: what is lost, late or damaged.
    """

    def __init__(self, first: Piece, patience_tr: float) -> None:
        self.tr_s, self._patience_tr, self._first = first.grid.tr_s, patience_tr, first
        self.notes: list[str] = []
        self._stack: Stack | None = None
        self._n_slices = len(first.planes) if first.is_whole else first.n_promised
        self._unplaced: list[tuple[Piece, Array]] = []
        self._gathering: dict[int, _Gathering] = {}
        self._next: int | None = None
        self._rescaled = False
        self._numbering, self._base = 0, 1
        #: The piece at each number and place, by the count that is used; and what was seen of each piece.
        self._numbers: dict[tuple[int, tuple[float, ...]], Piece] = {}
        self._seen: set[tuple[object, ...]] = set()
        self._start: tuple[float, int] | None = None
        self._late: set[int] = set()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a volume; known once one is complete."""
        return self.stack.shape

    @property
    def affine(self) -> Float64Array:
        """Voxel indices to RAS+ millimetres; known once a volume is complete."""
        return self.stack.affine

    @property
    def stack(self) -> Stack:
        """Slices of a volume; known once one is complete."""
        if self._stack is None:
            raise ValueError("no volume is complete yet")
        return self._stack

    @property
    def n_volumes(self) -> int:
        """Index after that of the last volume that was given."""
        return self._next or 0

    def add(self, piece: Piece, slices: Array, now_s: float) -> None:
        """Take in a piece.

        Parameters
        ----------
        piece : Piece
        slices : ndarray of shape (n_columns, n_rows, n_planes)
            Its stored numbers.
        now_s : float
            Time by any monotonic clock, seconds.

        Raises
        ------
        InputError
            If it does not fit the series.
        """
        if differences := self._first.grid.differences(piece.grid):
            raise InputError(f"its {' and '.join(differences)} differs from that of the series' first file")
        self._rescaled |= any(plane.rescale != (1.0, 0.0) for plane in piece.planes)
        if not self._n_slices:
            self._unplaced.append((piece, slices))
            self._learn_n_slices()
            if not self._n_slices:
                return
            waiting, self._unplaced = self._unplaced, []
            for earlier, of_earlier in waiting:
                self._place(earlier, of_earlier, now_s)
            return
        self._place(piece, slices, now_s)

    def ready(self, now_s: float) -> list[LiveVolume]:
        """Return the volumes that may be given now, in order.

        Parameters
        ----------
        now_s : float
            Time by the clock of `add`, seconds.
        """
        given: list[LiveVolume] = []
        while (index := self._due(now_s)) is not None:
            given.append(self._volume(index))
            self._next = index + 1
        return given

    def finish(self) -> list[LiveVolume]:
        """Return the complete volumes that are left, when no more files are expected; name those that are not."""
        given = self.ready(float("inf"))
        for index, gathering in sorted(self._gathering.items()):
            lacks = self._n_slices - len(gathering.slices)
            self.notes.append(f"volume {index + 1} lacks {lacks} of {self._n_slices} slices: lost")
        self._gathering.clear()
        if self._unplaced:
            self.notes.append(f"{len(self._unplaced)} slices that make no volume: lost")
        return given

    def _due(self, now_s: float) -> int | None:
        """Return the index of the next volume to give; None if it must be waited for."""
        complete = sorted(i for i, gathering in self._gathering.items() if gathering.complete_s < float("inf"))
        if not complete:
            return None
        first, awaited = complete[0], self._next or 0
        if first == awaited:
            return first
        # Those before it are waited for since the earliest time at which a later one was complete.
        since_s = min(self._gathering[i].complete_s for i in complete)
        if now_s - since_s < self._patience_tr * self.tr_s:
            return None
        lost = list(range(awaited, first))
        what = f"volume {lost[0] + 1}" if len(lost) == 1 else f"volumes {lost[0] + 1} to {lost[-1] + 1}"
        missing = "; slices are missing" if any(i in self._gathering for i in lost) else ""
        self.notes.append(f"{what} did not come in time: lost{missing}")
        for i in lost:
            self._gathering.pop(i, None)
        return first

    def _learn_n_slices(self) -> None:
        """Count the slices of a volume, where files do not say: a place that comes again begins another volume."""
        places = [_place_of(plane.position_mm) for piece, _ in self._unplaced for plane in piece.planes]
        if len(set(places)) < len(places):
            self._n_slices = len(set(places))

    def _place(self, piece: Piece, slices: Array, now_s: float) -> None:
        key = _key(piece)
        is_copy = key in self._seen
        self._seen.add(key)
        number = self._number_of(piece)
        if self._next is None:
            self._base = min(self._base, number)
        index = number - self._base
        if index < (self._next or 0):
            if not is_copy and index not in self._late:
                self._late.add(index)
                self.notes.append(f"volume {index + 1} came after later ones were given: not sent")
            return
        gathering = self._gathering.setdefault(index, _Gathering())
        places = [_place_of(plane.position_mm) for plane in piece.planes]
        if places[0] in gathering.slices:
            if not np.array_equal(gathering.slices[places[0]], slices[:, :, 0]):
                self.notes.append(f"volume {index + 1} came twice, with different voxels: the first is kept")
            return
        gathering.pieces.append(piece)
        for column, place in enumerate(places):
            gathering.slices[place] = slices[:, :, column]
        if len(gathering.slices) >= self._n_slices and gathering.complete_s == float("inf"):
            gathering.complete_s = now_s
            if self._stack is None:
                self._stack = stack_of(gathering.pieces)

    def _number_of(self, piece: Piece) -> int:
        """Number the volume of a piece, from 1, by the first count of the scanner that tells pieces apart."""
        while True:
            counts = self._counts(piece)
            if self._numbering >= len(counts):
                raise InputError("nothing in it says which volume of the series it is")
            number = counts[self._numbering]
            if number is None:
                self._numbering += 1
                continue
            earlier = self._numbers.setdefault((number, _place_of(piece.planes[0].position_mm)), piece)
            if _key(earlier) == _key(piece):
                return number
            self._renumber()

    def _renumber(self) -> None:
        """Count by the scanner's next number, as the present one is the same for different volumes."""
        pieces = list(self._numbers.values())
        self._numbering += 1
        self._numbers = {}
        for piece in pieces:
            self._number_of(piece)

    def _counts(self, piece: Piece) -> Sequence[int | None]:
        temporal = piece.temporal[0] if len(piece.temporal) == 1 else None
        if piece.is_whole:
            return piece.instance, piece.acquisition, temporal, self._by_clock(piece)
        by_instance = None if piece.instance is None else (piece.instance - 1) // self._n_slices + 1
        return temporal, by_instance, piece.acquisition

    def _by_clock(self, piece: Piece) -> int | None:
        """Number a volume by the time since the first piece that came, if all have the same numbers."""
        known = {(other.instance, other.acquisition, other.temporal) for other in (piece, *self._numbers.values())}
        if piece.clock_s is None or self._first.clock_s is None or not self.tr_s or len(known) > 1:
            return None
        elapsed_s = (piece.clock_s - self._first.clock_s + _DAY_S / 2) % _DAY_S - _DAY_S / 2
        return round(elapsed_s / self.tr_s) + 1

    def _volume(self, index: int) -> LiveVolume:
        gathering = self._gathering.pop(index)
        stack = self.stack
        data = None
        for piece in gathering.pieces:
            places = [_place_of(plane.position_mm) for plane in piece.planes]
            voxels = np.stack([gathering.slices[place] for place in places], axis=2)
            if self._rescaled:
                slopes, intercepts = np.array([plane.rescale for plane in piece.planes]).T
                voxels = (voxels * slopes + intercepts).astype(np.float32)
            if data is None:
                data = np.zeros(stack.shape, voxels.dtype)
            data[:, :, stack.slots(piece)] = voxels
        if data is None:
            raise ValueError("a volume has at least one piece")
        return LiveVolume(index, self._acquired_s(index, gathering.pieces), data)

    def _acquired_s(self, index: int, pieces: Sequence[Piece]) -> float:
        clock = clock_s(pieces)
        if clock is None:
            return index * self.tr_s
        if self._start is None:
            self._start = clock, index
        began_s, first = self._start
        elapsed_s = round((clock - began_s) % _DAY_S, 6)
        if elapsed_s > _DAY_S / 2 or (index > first and elapsed_s == 0):  # a clock that went back, or stands still
            return index * self.tr_s
        return first * self.tr_s + elapsed_s


def _key(piece: Piece) -> tuple[object, ...]:
    """Return what copies of a piece share."""
    place = _place_of(piece.planes[0].position_mm)
    return piece.instance, piece.acquisition, piece.temporal, piece.clock_s, place


def _place_of(position_mm: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(mm, 2) for mm in position_mm)
