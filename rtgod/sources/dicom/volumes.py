"""Volumes out of pieces: their slices, their order, their place in the world and their times.

Nothing here depends on a format, on file names, or on the order in which files came.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Array, Float64Array
from rtgod.sources.dicom.file import to_ras
from rtgod.sources.dicom.pieces import Grid, Piece
from rtgod.sources.dicom.times import elapsed_s_of, step_s

_DAY_S = 86400.0
#: Largest change of position and angle between files that counts as the scanner following the head.
_MOST_FOLLOWED_MM, _MOST_FOLLOWED_DEG = 30.0, 20.0
#: Largest departure from 1 of the area that directions of columns and rows span.
_MOST_SKEWED = 0.01
#: Positions that differ by less are those of one slice, mm; and largest unevenness, as a share of slices' distance.
_ONE_PLACE_MM, _MOST_UNEVEN = 0.01, 0.02
#: Slices of one volume are never acquired as far apart as this share of the repetition time.
_LONGEST_SPREAD = 0.995
#: Most echoes whose images are counted together.
_MOST_ECHOES = 32
#: A volume is in time by this share of the repetition time.
_IN_TIME_TR = 0.25
#: Decodes the slices of a piece: (n_columns, n_rows, n_planes).
Decode = Callable[[Piece], Array]


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Slices of a volume, in the order of its third axis.

    Attributes
    ----------
    grid : Grid
    positions_mm : ndarray of shape (n_slices, 3), float64
        Centre of each slice's first pixel in DICOM's coordinates.
    affine : ndarray of shape (4, 4), float64
        From voxel indices to RAS+ millimetres.
    """

    grid: Grid
    positions_mm: Float64Array
    affine: Float64Array

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a volume."""
        return self.grid.n_columns, self.grid.n_rows, len(self.positions_mm)

    def has(self, piece: Piece) -> bool:
        """Return whether a piece's slices lie where the stack's do.

        Parameters
        ----------
        piece : Piece
        """
        return bool((self._distances_mm(piece).min(axis=1) <= 10 * _ONE_PLACE_MM).all())

    def slots(self, piece: Piece) -> list[int]:
        """Find the place of each of a piece's slices.

        Parameters
        ----------
        piece : Piece

        Raises
        ------
        InputError
            If a slice lies where the stack has none.
        """
        if not self.has(piece):
            raise InputError(f"{piece.path}: a slice lies where other volumes have none; export the series again.")
        return [int(slot) for slot in self._distances_mm(piece).argmin(axis=1)]

    def _distances_mm(self, piece: Piece) -> Float64Array:
        """Return the distance of each of a piece's slices from each of the stack's, shape (n_planes, n_slices)."""
        planes = np.array([plane.position_mm for plane in piece.planes])
        distances: Float64Array = np.linalg.norm(self.positions_mm[np.newaxis] - planes[:, np.newaxis], axis=2)
        return distances


def stack_of(pieces: Sequence[Piece]) -> Stack:
    """Lay out the slices of a series' volumes, which must be the same for all.

    Parameters
    ----------
    pieces : sequence of Piece
        All pieces of the series, of which there is one at least.

    Raises
    ------
    InputError
        If they differ in geometry or timing, or their slices span no volume.
    """
    reference = pieces[0]
    for piece in pieces:
        if abs(float(np.linalg.norm(np.cross(piece.grid.along_x, piece.grid.along_y))) - 1) > _MOST_SKEWED:
            raise _no_volume(piece)
    for piece in pieces[1:]:
        if differences := reference.grid.differences(piece.grid):
            raise _differing(reference, piece, differences)
    if reference.is_whole:
        positions = np.array([plane.position_mm for plane in reference.planes])
        for piece in pieces[1:]:
            theirs = np.array([plane.position_mm for plane in piece.planes])
            if theirs.shape != positions.shape:
                raise _differing(reference, piece, ["matrix"])
            if not np.allclose(theirs, positions, rtol=0, atol=1e-3):
                raise _differing(reference, piece, ["position"])
    else:
        positions = _places(pieces)
    return Stack(reference.grid, positions, _affine(reference, positions))


def _places(pieces: Sequence[Piece]) -> Float64Array:
    """List the places at which any piece has a slice, along the slices' normal."""
    positions = np.unique([plane.position_mm for piece in pieces for plane in piece.planes], axis=0)
    along = positions @ pieces[0].grid.normal()
    order = np.argsort(along, kind="stable")
    positions, along = positions[order], along[order]
    is_new = np.concatenate([[True], np.diff(along) > _ONE_PLACE_MM])
    places = positions[is_new]
    nearest = places[np.cumsum(is_new) - 1]
    if np.linalg.norm(positions - nearest, axis=1).max() > 10 * _ONE_PLACE_MM:
        raise InputError(
            f"{pieces[0].path.parent}: slices of one depth lie at different places: the scanner followed the head "
            "(prospective correction), which is not supported; switch it off, or, where the files are of two series, "
            "take out one's."
        )
    if len(places) > 2:
        steps = np.diff(places @ pieces[0].grid.normal())
        usual = float(np.median(steps))
        if np.abs(steps - usual).max() > _MOST_UNEVEN * usual:
            raise InputError(
                f"{pieces[0].path.parent}: its slices lie unevenly, {steps.min():.2f} to {steps.max():.2f} mm apart: a "
                "slice is missing in every volume, or the files are of several series; export the series again."
            )
    return places


def _affine(piece: Piece, positions: Float64Array) -> Float64Array:
    grid, n_slices = piece.grid, len(positions)
    affine = np.eye(4)
    affine[:3, 0] = np.array(grid.along_x) * grid.mm_x
    affine[:3, 1] = np.array(grid.along_y) * grid.mm_y
    affine[:3, 2] = (positions[-1] - positions[0]) / (n_slices - 1) if n_slices > 1 else grid.normal() * grid.mm_z
    affine[:3, 3] = positions[0]
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        raise _no_volume(piece)
    return to_ras(affine)


def _no_volume(piece: Piece) -> InputError:
    return InputError(f"{piece.path}: its orientation, position and spacing span no volume; export the series again.")


def _differing(reference: Piece, piece: Piece, differences: Sequence[str]) -> InputError:
    if list(differences) == ["position"] and _follows(reference, piece):
        return InputError(
            f"{piece.path}: its position is a little other than that of {reference.path.name}: the scanner followed "
            "the head (prospective correction), which is not supported; switch it off, or, where the files are of two "
            "series, take out one's."
        )
    return InputError(
        f"{piece.path}: its {' and '.join(differences)} differs from {reference.path.name}; a run has one geometry and "
        "one timing, so take out the files that are of another."
    )


def _follows(piece: Piece, other: Piece) -> bool:
    """Return whether two positions are as near as those of a moving head, with the same voxel sizes."""
    a, b = piece.grid, other.grid
    cosines = [float(np.dot(a.along_x, b.along_x)), float(np.dot(a.along_y, b.along_y))]
    apart = np.linalg.norm(np.subtract(piece.planes[0].position_mm, other.planes[0].position_mm))
    return bool(
        np.allclose([a.mm_x, a.mm_y, a.mm_z], [b.mm_x, b.mm_y, b.mm_z], rtol=0, atol=1e-3)
        and apart < _MOST_FOLLOWED_MM
        and min(cosines) > math.cos(math.radians(_MOST_FOLLOWED_DEG))
    )


# ---------------------------------------------------------------- order


def without_duplicates(pieces: Sequence[Piece], decode: Decode) -> list[Piece]:
    """Drop every piece that repeats another.

    A file that was sent twice has the same InstanceNumber and AcquisitionNumber, whatever its name. SOPInstanceUID is
    not more reliable: some anonymisers give each copy a new one, others give all files the same. So the voxels of files
    with equal numbers decide whether they are copies or contradict each other.

    Parameters
    ----------
    pieces : sequence of Piece
    decode : callable
        See `Decode`.

    Raises
    ------
    InputError
        If pieces with equal numbers have different voxels.
    """
    unique: dict[object, Piece] = {}
    by_clock = differ_by_clock(pieces)
    for piece in pieces:
        position_mm = None if piece.is_whole else piece.planes[0].position_mm
        key = piece.clock_s if by_clock else None, piece.series, piece.numbers, position_mm
        earlier = unique.setdefault(key, piece)
        if earlier is piece or np.array_equal(decode(earlier), decode(piece)):
            continue
        if piece.instance is None and piece.acquisition is None and not piece.temporal:
            raise InputError(
                f"{earlier.path} and {piece.path.name} have neither InstanceNumber (0020,0013) nor AcquisitionNumber "
                "(0020,0012), so nothing says which came first; export with these numbers kept."
            )
        if piece.clock_s is not None and earlier.clock_s is not None and piece.clock_s != earlier.clock_s:
            raise InputError(
                f"{earlier.path} and {piece.path.name} have the same InstanceNumber and AcquisitionNumber, and were "
                f"acquired {abs(piece.clock_s - earlier.clock_s):g} s apart: the series was restarted; give the files "
                "of each of its runs a folder of their own."
            )
        raise InputError(
            f"{earlier.path} and {piece.path.name} have the same InstanceNumber and AcquisitionNumber but different "
            "voxels; keep the one that belongs to the run, or export with these numbers kept."
        )
    return list(unique.values())


def in_volumes(
    folder: Path, pieces: Sequence[Piece], stack: Stack, tr_s: float, first_s: float | None = None
) -> dict[int, list[Piece]]:
    """Put pieces together to volumes by their index in the run, ascending; some may lack slices.

    Scanners number volumes from 1, in InstanceNumber (or, of single slices, all slices through), AcquisitionNumber or
    the temporal position; file names follow the order of arrival at best. Counting from 1, and not from the first file
    in the folder, keeps every volume at its time in the run even if the first ones are lost. Of the numberings that
    step with the clock, the one that leaves the fewest volumes without all slices counts, and of several the first.

    Parameters
    ----------
    folder : Path
        For messages.
    pieces : sequence of Piece
        Without duplicates.
    stack : Stack
    tr_s : float
        Repetition time, seconds.
    first_s : float, optional
        Time of day from which the clock counts, where nothing else does; the earliest of the pieces by default.

    Raises
    ------
    InputError
        If no numbering tells the pieces apart.
    """
    slots = [stack.slots(piece) for piece in pieces]
    usable = []
    for numbering in numberings(pieces, slots, len(stack.positions_mm), tr_s, first_s):
        volumes = by_number(numbering, pieces, slots, tr_s)
        if volumes:
            usable.append(volumes)
    if not usable:
        raise InputError(f"{folder}: neither InstanceNumber nor AcquisitionNumber tells its files apart; export again.")
    n_slices = len(stack.positions_mm)
    in_time = [volumes for volumes in usable if keeps_time(volumes, tr_s)]
    chosen = min(in_time or usable[:1], key=lambda volumes: n_partial(volumes, n_slices))
    first_number = min(1, *chosen)
    return {number - first_number: of_volume for number, of_volume in chosen.items()}


def numberings(
    pieces: Sequence[Piece],
    slots: Sequence[Sequence[int]],
    n_slices: int,
    tr_s: float,
    first_s: float | None = None,
    least: int = 1,
) -> list[Sequence[int | None]]:
    """List possible numbers of the volume of each piece, from 1, the most reliable first.

    Parameters
    ----------
    pieces : sequence of Piece
    slots : sequence of sequence of int
        Places of each piece's slices.
    n_slices : int
        Number of slices of a volume.
    tr_s : float
        Repetition time, seconds.
    first_s : float, optional
        Time of day from which the clock counts; the earliest of the pieces by default.
    least : int
        Lowest InstanceNumber of earlier pieces.
    """
    instances = [piece.instance for piece in pieces]
    acquisitions = [piece.acquisition for piece in pieces]
    ranks = {
        place: rank for rank, place in enumerate(sorted({piece.temporal for piece in pieces if piece.temporal}), 1)
    }
    # Of one dimension, positions are numbers of volumes; of several, only their order is known.
    temporal = [
        None if not piece.temporal else piece.temporal[0] if len(piece.temporal) == 1 else ranks[piece.temporal]
        for piece in pieces
    ]
    known = [instance for instance in instances if instance is not None]
    # Images of other echoes or kinds may be counted between those of one.
    shared = math.gcd(*np.diff(sorted(known)).tolist()) if len(known) == len(pieces) else 0
    steps = [step for step in range(2, min(shared, _MOST_ECHOES) + 1) if shared % step == 0]
    if pieces[0].is_whole:
        by_clock = [_in_turn(pieces, tr_s, first_s)] if differ_by_clock(pieces) else []
        by_step = [[(instance - 1) // step + 1 for instance in known] for step in steps]
        # With few volumes several steps divide the numbers: the one that fits the clock best comes first.
        if len(by_step) > 1:
            elapsed = _by_clock(pieces, tr_s)
            by_step.sort(key=lambda numbers: _n_apart(numbers, elapsed))
        return [instances, acquisitions, temporal, *by_step, *by_clock]
    if len(known) < len(pieces):
        return [temporal, acquisitions]
    from_0, first_slots = [instance - min(least, 1, *known) for instance in known], [of_piece[0] for of_piece in slots]
    by_instance, *with_others = [
        _through_slices([n // step for n in from_0], first_slots, n_slices) for step in (1, *steps)
    ]
    return [temporal, *by_instance, acquisitions, *(numbered for of_step in with_others for numbered in of_step)]


def _through_slices(from_0: Sequence[int], slots: Sequence[int], n_slices: int) -> list[Sequence[int | None]]:
    """List possible numbers of volumes, from 1, of slices that are numbered through.

    Parameters
    ----------
    from_0 : sequence of int
        Number of each slice, from 0.
    slots : sequence of int
        Place of each slice in its volume.
    n_slices : int
        Number of slices of a volume.
    """
    numbered: list[Sequence[int | None]] = []
    n_volumes = -(-(max(from_0) + 1) // n_slices)
    # Volume after volume, or slice after slice with all of its times.
    for is_by_volume, volumes, turns in (
        (True, [n // n_slices for n in from_0], [n % n_slices for n in from_0]),
        (False, [n % n_volumes for n in from_0], [n // n_volumes for n in from_0]),
    ):
        places = dict(zip(turns, slots, strict=True))
        if not len(set(zip(turns, slots, strict=True))) == len(set(slots)) == len(places):
            continue
        # An export that began within a volume may be numbered from there.
        ahead = _n_ahead([places.get(turn, -1) for turn in range(n_slices)]) if is_by_volume else 0
        numbered.append([(n - ahead) // n_slices + 1 for n in from_0] if ahead else [n + 1 for n in volumes])
    return numbered


def _n_ahead(places: list[int]) -> int:
    """Return how many slices are numbered before the first of a volume, by the order in which scanners number slices.

    Parameters
    ----------
    places : list of int
        Place of each slice of a volume, in the order of their numbers.
    """
    up = range(len(places))
    rising = [[*up], [*up[::2], *up[1::2]]]
    if len(places) % 2 == 0:  # Siemens scanners begin with the second slice of an even number
        rising.append([*up[1::2], *up[::2]])
    usual = [*rising, *([len(places) - 1 - place for place in order] for order in rising)]
    if places in usual:
        return 0
    turned = [[*places[ahead:], *places[:ahead]] for ahead in up]
    return next((turned.index(order) for order in usual if order in turned), 0)


def differ_by_clock(pieces: Sequence[Piece]) -> bool:
    """Return whether all volumes have the same numbers in their series, as where each has a series of its own.

    Parameters
    ----------
    pieces : sequence of Piece
    """
    return len({piece.numbers for piece in pieces}) == 1 and pieces[0].is_whole


def _in_turn(pieces: Sequence[Piece], tr_s: float, first_s: float | None) -> list[int | None]:
    """Number volumes by the series that each has of its own, and by time; by time alone where series do not count.

    Each counts from the one before it, so that a clock that is set anew moves no volume; the first counts from the
    time of the run's, if that is of another echo.
    """
    clocks = [piece.clock_s for piece in pieces]
    series = [piece.series for piece in pieces if piece.series is not None]
    is_numbered = len(set(series)) == len(pieces)
    if is_numbered:
        order = sorted(range(len(pieces)), key=lambda at: series[at])
    else:
        known = [clock for clock in clocks if clock is not None]
        if len(known) < len(pieces):
            return [None] * len(pieces)
        latest = max(known)  # those of more than half a day before it are past midnight
        order = sorted(range(len(pieces)), key=lambda at: (latest - known[at] > _DAY_S / 2, known[at]))
    first_clock_s = clocks[order[0]]
    number = 1 if first_s is None or first_clock_s is None else 1 + round(step_s(first_s, first_clock_s) / tr_s)
    numbers: list[int | None] = [number] * len(pieces)
    for before, after in pairwise(order):
        earlier_s, later_s = clocks[before], clocks[after]
        n_passed = None if earlier_s is None or later_s is None else step_s(earlier_s, later_s) / tr_s
        number += _n_between(n_passed, series[after] - series[before] if is_numbered else None)
        numbers[after] = number
    return numbers


def _n_between(n_passed: float | None, n_series: int | None) -> int:
    """Return how many volumes a volume is after another, by repetition times that passed and series that were made."""
    n_in_time = 0 if n_passed is None else round(n_passed)
    if n_series is None:
        return n_in_time
    # Other images may have got numbers between: then fewer volumes fit the time. Otherwise numbers count, and what the
    # clock says is a pause, or a clock that was set anew.
    fits = n_passed is not None and abs(n_passed - n_in_time) < _IN_TIME_TR and 1 <= n_in_time <= n_series
    return n_in_time if fits else n_series


def _by_clock(pieces: Sequence[Piece], tr_s: float) -> list[int | None]:
    """Number volumes by the time since the earliest of them."""
    clocks = [piece.clock_s for piece in pieces if piece.clock_s is not None]
    if len(clocks) < len(pieces):
        return [None] * len(pieces)
    latest = max(clocks)
    since_s = [clock + (_DAY_S if latest - clock > _DAY_S / 2 else 0) for clock in clocks]  # past midnight
    return [round((clock - min(since_s)) / tr_s) + 1 for clock in since_s]


def _n_apart(numbers: Sequence[int], elapsed: Sequence[int | None]) -> int:
    """Return by how many volumes numbers differ from the clock's, all together, counted from the first of each."""
    return sum(abs(number - min(numbers) - count + 1) for number, count in zip(numbers, elapsed, strict=True) if count)


def by_number(
    numbering: Sequence[int | None], pieces: Sequence[Piece], slots: Sequence[Sequence[int]], tr_s: float
) -> dict[int, list[Piece]]:
    """Group pieces by their numbers, ascending.

    Parameters
    ----------
    numbering : sequence of int or None
        Number of the volume of each piece.
    pieces : sequence of Piece
    slots : sequence of sequence of int
        Places of each piece's slices.
    tr_s : float
        Repetition time, seconds.

    Returns
    -------
    dict of int to list of Piece
        Empty if a number is missing, a slice comes twice in a volume, or slices of one volume were acquired as far
        apart as volumes are.
    """
    volumes: dict[int, list[Piece]] = {}
    taken: set[tuple[int, int]] = set()
    for number, piece, of_piece in zip(numbering, pieces, slots, strict=True):
        places = {(number, slot) for slot in of_piece if number is not None}
        if number is None or len(places) < len(of_piece) or taken & places:
            return {}
        taken |= places
        volumes.setdefault(number, []).append(piece)
    if any(_spread_s(of_volume) > _LONGEST_SPREAD * tr_s for of_volume in volumes.values()):
        return {}
    return dict(sorted(volumes.items()))


def _spread_s(pieces: Sequence[Piece]) -> float:
    """Return the seconds between the first and the last slice of a volume; 0 where times are missing."""
    clocks = [piece.clock_s for piece in pieces if piece.clock_s is not None]
    if len(clocks) < 2:
        return 0.0
    apart_s = max(clocks) - min(clocks)
    return min(apart_s, abs(_DAY_S - apart_s))


def n_partial(volumes: Mapping[int, Sequence[Piece]], n_slices: int) -> int:
    """Count volumes that lack slices.

    Parameters
    ----------
    volumes : mapping of int to sequence of Piece
    n_slices : int
    """
    return sum(sum(len(piece.planes) for piece in pieces) < n_slices for pieces in volumes.values())


def keeps_time(volumes: Mapping[int, Sequence[Piece]], tr_s: float) -> bool:
    """Return whether numbers of volumes step with the files' clock.

    Parameters
    ----------
    volumes : mapping of int to sequence of Piece
    tr_s : float
        Repetition time, seconds.
    """
    if not volumes:
        return True
    elapsed_s = elapsed_s_of(list(volumes.values()))
    return elapsed_s is not None and all(
        abs(t_after - t_before - (after - before) * tr_s) < (after - before) * tr_s / 2
        for (before, t_before), (after, t_after) in pairwise(zip(volumes, elapsed_s, strict=True))
    )


# ---------------------------------------------------------------- voxels


def assembled(pieces: Sequence[Piece], stack: Stack, decode: Decode) -> Array:
    """Put the voxels of a volume together, shape (x, y, z), as stored, or as float32 if any of them are rescaled.

    Other volumes of the run do not count: a running one does not know of those to come.

    Parameters
    ----------
    pieces : sequence of Piece
        All pieces of the volume.
    stack : Stack
    decode : callable
        See `Decode`.
    """
    volume: Array | None = None
    rescaled = any(plane.rescale != (1.0, 0.0) for piece in pieces for plane in piece.planes)
    for piece in pieces:
        voxels = decode(piece)
        if rescaled:
            slopes, intercepts = np.array([plane.rescale for plane in piece.planes]).T
            voxels = (voxels * slopes + intercepts).astype(np.float32)
        if piece.is_whole:
            return voxels
        if volume is None:
            volume = np.zeros(stack.shape, voxels.dtype)
        volume[:, :, stack.slots(piece)] = voxels
    if volume is None:
        raise ValueError("a volume has at least one piece")
    return volume
