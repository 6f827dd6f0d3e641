"""A series while it is acquired: its files' pieces become volumes, which are given in order.

Volumes are counted as in a finished folder (`rtgod.sources.dicom.volumes`), anew whenever pieces have come, so that the
index of a volume does not depend on what came before it. Nothing is given before a second volume is there, however long
that takes: one volume alone does not tell which of the scanner's numbers counts volumes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from zlib import crc32

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Array, Float64Array
from rtgod.sources.dicom.pieces import Piece
from rtgod.sources.dicom.times import VolumeClock, clock_s
from rtgod.sources.dicom.volumes import (
    Stack,
    assembled,
    by_number,
    differ_by_clock,
    keeps_time,
    n_partial,
    numberings,
    stack_of,
)

_DAY_S = 86400.0
#: Volumes whose pieces are kept after they were given, to count by.
_MOST_KEPT = 4
#: Number of volumes with fewer slices than promised from which on the promise is not believed.
_FEWEST_ALIKE = 3
#: Number of volumes that do not fit the clock from which on the clock is not believed.
_MOST_ODD = 3
#: Volumes that may have begun before they can be counted; more of them have something odd among them.
_MOST_EARLY = 6
#: A volume is no more than this number of volumes ahead of the last one, where no clock says so.
_FURTHEST = 500


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
    clock_s : float or None
        Time of day at which it began, seconds.
    """

    index: int
    acquired_s: float
    data: Array
    clock_s: float | None = None


@dataclass(slots=True, eq=False)
class _Held:
    """A piece with its slices, when it came, and the index of its volume once that was given."""

    piece: Piece
    slices: Array
    came_s: float
    given_as: int | None = None


class LiveSeries:
    """Volumes of one series, out of pieces in any order.

    Parameters
    ----------
    first : Piece
        Any piece of the series.
    tr_s : float
        Repetition time, seconds.
    patience_tr : float
        Time that a missing volume is waited for once a later one is complete, in repetition times.

    Attributes
    ----------
    notes : list of str
        Lines for the operator, to be taken out: what is lost, late or odd.
    """

    def __init__(self, first: Piece, tr_s: float, patience_tr: float) -> None:
        self.tr_s, self._patience_s, self._first = tr_s, patience_tr * tr_s, first
        self.notes: list[str] = []
        self._stack: Stack | None = None
        self._n_slices = len(first.planes) if first.is_whole else 0
        self._held: list[_Held] = []
        self._new: list[_Held] = []
        self._volumes: dict[int, list[_Held]] = {}
        #: Checksum of each image's voxels, by what copies of it share.
        self._seen: dict[int, int] = {}
        self._next: int | None = None
        self._keeps_time = False
        self._clock = VolumeClock(tr_s)
        self._late: set[int] = set()
        self._first_s: float | None = None
        #: Lowest InstanceNumber of all pieces, or 1.
        self._least = 1
        self._odd: list[_Held] = []
        self._has_told_odd = False
        self._n_guessed = 1 if first.is_whole else max(first.n_promised, 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a volume; known once one was given."""
        return self._known().shape

    @property
    def affine(self) -> Float64Array:
        """Voxel indices to RAS+ millimetres; known once a volume was given."""
        return self._known().affine

    @property
    def n_volumes(self) -> int:
        """Index after that of the last volume that was given."""
        return self._next or 0

    def _known(self) -> Stack:
        if self._stack is None:
            raise ValueError("no volume was given yet")
        return self._stack

    def add(self, piece: Piece, slices: Array, now_s: float) -> None:
        """Take in a piece; it counts from the next call of `ready`.

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
        if piece.is_whole and len(piece.planes) != len(self._first.planes):
            raise InputError(f"it has {len(piece.planes)} slices, and the series' first file {len(self._first.planes)}")
        n_before = len(self._seen)
        if piece.is_whole and not _same_places(piece, self._first):
            raise InputError("its position differs from that of the series' first file: did it follow the head?")
        if not piece.is_whole and self._stack is not None and not self._stack.has(piece):
            raise InputError(
                f"it lies where none of the first volumes' {self._n_slices} slices does: they lacked it, and the run "
                "is sent without it; a replay reads it, too"
            )
        checksum = crc32(slices.tobytes("F"))  # the order in which they lie in the file
        if self._seen.setdefault(_key(piece), checksum) != checksum:
            self.notes.append("an image came twice, with different voxels: the first is kept")
        if len(self._seen) == n_before:
            return
        self._least = min(self._least, 1 if piece.instance is None else piece.instance)
        self._new.append(_Held(piece, slices, now_s))

    def count_from(self, first_s: float | None) -> None:
        """Have the clock, where nothing else counts volumes, count from a time of day; before one was given.

        Parameters
        ----------
        first_s : float or None
            Seconds from midnight; None for the earliest that comes.
        """
        self._first_s = first_s
        self._count()

    def n_after(self, since_s: float) -> int:
        """Count the volumes, of those that are complete, that did not come before a time.

        Parameters
        ----------
        since_s : float
            Time by the clock of `add`, seconds.
        """
        return sum(came_s >= since_s for came_s in self._complete().values())

    def look(self) -> int:
        """Count the volumes that are complete, without giving any."""
        if self._new:
            self._count()
        return len(self._complete())

    def ready(self, now_s: float) -> list[LiveVolume]:
        """Return the volumes that may be given now, in order.

        Parameters
        ----------
        now_s : float
            Time by the clock of `add`, seconds; infinity if no more images are expected.

        Raises
        ------
        InputError
            If the slices of a volume do not lie as those of a volume do.
        """
        if self._new:
            self._count()
        given: list[LiveVolume] = []
        while (index := self._due(now_s)) is not None:
            given.append(self._volume(index))
        if given:
            self._forget()
        return given

    def finish(self) -> list[LiveVolume]:
        """Return the complete volumes that are left, when no more images are expected; name those that are not."""
        given = self.ready(math.inf)
        for index, held in sorted(self._volumes.items()):
            if not self._is_given(held):
                n_there = sum(len(one.piece.planes) for one in held)
                self.notes.append(f"volume {index + 1} has {n_there} of {self._n_slices or 'its'} slices: lost")
        self._volumes.clear()
        return given

    # ---------------------------------------------------------------- which volume a piece belongs to

    def _count(self) -> None:
        """Count the volumes of all pieces; new ones that cannot be counted are left out, and named."""
        new, self._new = self._new, []
        volumes = self._counted([*self._held, *new])
        if self._next is None and not self._first.is_whole:
            self._n_guessed = max(self._n_guessed, len({one.piece.place for one in [*self._held, *new]}))
        is_early = self._next is None and len(self._held) < _MOST_EARLY * max(self._n_guessed, 1)
        if volumes is None and self._held and not is_early:
            volumes = self._counted_without_odd(new)
        else:
            self._held += new
        if volumes is None:
            self._volumes = {}
            return
        self._volumes = volumes
        for index in sorted(volumes):
            if index < (self._next or 0) and not self._is_given(volumes[index]) and index not in self._late:
                self._late.add(index)
                which = f"volume {index + 1}" if index >= 0 else "a volume from before the first"
                self.notes.append(f"{which} came after later ones were given: not sent")

    def _counted_without_odd(self, new: Sequence[_Held]) -> dict[int, list[_Held]] | None:
        """Count new pieces one by one; those that do not fit are left out, unless the clock has jumped."""
        for held in new:
            if self._counted([*self._held, held]) is not None:
                self._held.append(held)
                continue
            self._odd.append(held)
            if not self._has_told_odd:
                self.notes.append(
                    "an image's number and time do not fit the others of its series: it waits for more of its kind"
                )
            self._has_told_odd = True
        # Slices of one volume come within a repetition time.
        clocks = [held.piece.clock_s for held in self._odd]
        turns = {turn if clock is None else int(clock // self.tr_s) for turn, clock in enumerate(clocks)}
        n_odd = len(clocks) if self._first.is_whole else len(turns)
        if n_odd >= _MOST_ODD:
            self._keeps_time = False
            odd, self._odd = self._odd, []
            if (volumes := self._counted([*self._held, *odd])) is not None:
                self.notes.append(
                    "the scanner's clock has jumped: volumes count by their numbers, and none is left out"
                )
                self._held += odd
                return volumes
        return self._counted(self._held)

    def _counted(self, held: Sequence[_Held]) -> dict[int, list[_Held]] | None:
        """Return the volumes of pieces by their index; None if nothing counts them as those that were given."""
        pieces = [one.piece for one in held]
        slots = self._slots(pieces)
        by_piece = {id(one.piece): one for one in held}
        usable = [
            (volumes, n_slices)
            for n_slices in self._possible_n_slices(pieces, slots)
            for numbering in numberings(pieces, slots, n_slices, self.tr_s, self._first_s, self._least)
            if (volumes := by_number(numbering, pieces, slots, self.tr_s))
        ]
        # Where nothing in a series counts, there is no other numbering for the clock to choose.
        is_only = bool(pieces) and differ_by_clock(pieces)
        in_time = [
            (volumes, n) for volumes, n in usable if is_only or keeps_time(_without_partial(volumes, n), self.tr_s)
        ]
        if self._keeps_time and not in_time:
            return None
        possible = [n_slices for _, n_slices in usable]
        for volumes, n_slices in sorted(
            in_time or usable, key=lambda one: (possible.index(one[1]), n_partial(one[0], one[1]))
        ):
            indexed = {number: [by_piece[id(piece)] for piece in found] for number, found in volumes.items()}
            # The count goes on from what was given, by whichever number counts it.
            given = [(number, one.given_as) for number, found in indexed.items() for one in found]
            bases = {number - given_as for number, given_as in given if given_as is not None}
            base = bases.pop() if bases else min(1, *indexed)
            if not bases and (in_time or max(indexed) - base <= (self._next or 0) + _FURTHEST):
                self._keeps_time |= bool(in_time) and len(_without_partial(volumes, n_slices)) > 2
                self._n_guessed = n_slices
                return {number - base: found for number, found in indexed.items()}
        return None

    def _possible_n_slices(self, pieces: Sequence[Piece], slots: Sequence[Sequence[int]]) -> list[int]:
        """List how many slices a volume may have: as many as are known, or promised, or as there are places."""
        if self._n_slices:
            return [self._n_slices]
        n_places = len({slot for of_piece in slots for slot in of_piece})
        n_promised = max(piece.n_promised for piece in pieces)
        return list(dict.fromkeys([max(n_promised, n_places), n_places]))

    def _slots(self, pieces: Sequence[Piece]) -> list[list[int]]:
        """Return the places of each piece's slices in a volume, as far as they are known."""
        if self._first.is_whole:
            return [[0]] * len(pieces)
        normal = self._first.grid.normal()
        places = sorted({piece.place for piece in pieces}, key=lambda place: float(np.dot(place, normal)))
        order = {place: slot for slot, place in enumerate(places)}
        return [[order[piece.place]] for piece in pieces]

    # ---------------------------------------------------------------- which volume is given

    def _due(self, now_s: float) -> int | None:
        """Return the index of the next volume to give; None if it must be waited for."""
        complete = self._complete(is_last=now_s == math.inf)
        if not complete:
            return None
        first, awaited = min(complete), self._next or 0
        if self._next is None and len(complete) < 2 and now_s < math.inf:
            return None  # given by a wrong number, it would shift the whole run
        if first == awaited:
            return first
        # Those before it are waited for since the earliest time at which a later one was complete.
        if now_s - min(complete.values()) < self._patience_s:
            return None
        if first > awaited:
            self._name_lost(awaited, first)
        return first

    def _complete(self, *, is_last: bool = False) -> dict[int, float]:
        """Return the complete volumes that were not given, with the time at which each became so."""
        return {
            index: max(one.came_s for one in held)
            for index, held in self._volumes.items()
            if index >= (self._next or 0) and self._is_complete(held, is_last=is_last)
        }

    def _name_lost(self, awaited: int, first: int) -> None:
        what = f"volume {awaited + 1}" if first - awaited == 1 else f"volumes {awaited + 1} to {first}"
        begun = {index for index in self._volumes if awaited <= index < first}
        self._late |= begun  # which are named now
        missing = "; slices are missing" if begun else ""
        self.notes.append(f"{what} did not come in time: lost{missing}")

    def _is_given(self, held: Sequence[_Held]) -> bool:
        return any(one.given_as is not None for one in held)

    def _is_complete(self, held: Sequence[_Held], *, is_last: bool) -> bool:
        """Return whether all slices of a volume are there, as many as files promise or as other volumes have.

        The last volume that has begun may grow, so that its slices say only at the end how many there are.
        """
        n_there = sum(len(one.piece.planes) for one in held)
        if self._n_slices:
            return n_there >= self._n_slices
        n_places = len({one.piece.place for one in self._held})
        n_promised = max(one.piece.n_promised for one in held)
        if n_promised == n_places:
            return n_there == n_places
        # Where nothing is promised, or something else, volumes with all places say how many there are.
        growing = None if is_last else max(self._volumes)
        full = [one for one, of_volume in self._volumes.items() if len(of_volume) == n_places and one != growing]
        return n_there == n_places and len(full) >= (_FEWEST_ALIKE if n_promised > n_places else 2)

    def _volume(self, index: int) -> LiveVolume:
        held = self._volumes[index]
        pieces = [one.piece for one in held]
        if self._stack is None:
            self._stack = stack_of(pieces)
            self._n_slices = len(self._stack.positions_mm)
        slices = {id(one.piece): one.slices for one in held}
        data = assembled(pieces, self._stack, lambda piece: slices[id(piece)])
        for one in held:
            one.given_as, one.slices = index, one.slices[..., :0].copy()
        self._next = index + 1
        began_s = clock_s(pieces)
        acquired_s = self._clock.acquired_s(index, began_s)
        self.notes += self._clock.notes
        self._clock.notes.clear()
        return LiveVolume(index, acquired_s, data, began_s)

    def _forget(self) -> None:
        """Keep the pieces of the last volumes that were given, without their voxels, to count by."""
        given = sorted({one.given_as for one in self._held if one.given_as is not None})
        if len(given) <= _MOST_KEPT:
            return
        self._volumes = {index: held for index, held in self._volumes.items() if index >= given[-_MOST_KEPT]}
        kept = {id(one) for held in self._volumes.values() for one in held}
        self._held = [one for one in self._held if id(one) in kept]


def _without_partial(volumes: Mapping[int, Sequence[Piece]], n_slices: int) -> dict[int, Sequence[Piece]]:
    """Leave out volumes that lack slices, whose times are not those of their first slices yet."""
    if any(piece.is_whole for pieces in volumes.values() for piece in pieces):
        return dict(volumes)
    return {number: pieces for number, pieces in volumes.items() if len(pieces) >= n_slices}


def digest_of(*parts: object) -> int:
    """Return a number of 64 bits that stands for parts which take ten times as many; a run has them of each slice.

    Parameters
    ----------
    *parts : object
        Equal ones are written alike.
    """
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest())


def _key(piece: Piece) -> int:
    """Return what copies of a piece share."""
    return digest_of(piece.numbers, piece.series, piece.clock_s, piece.place)


def _same_places(piece: Piece, other: Piece) -> bool:
    theirs = [plane.position_mm for plane in other.planes]
    return np.allclose([plane.position_mm for plane in piece.planes], theirs, rtol=0, atol=1e-3)
