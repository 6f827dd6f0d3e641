"""Volumes of a run that was played: which are there, which are missing or doubled, and how late each came."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from rtgod.errors import InputError
from rtgod.inspection.arrival_times import nearest_to_0
from rtgod.inspection.playback import SeenPiece
from rtgod.inspection.slice_timing import times_over_volumes
from rtgod.sources.dicom.pieces import Piece
from rtgod.sources.dicom.times import VolumeClock, clock_s
from rtgod.sources.dicom.volumes import in_volumes, stack_of


@dataclass(frozen=True, slots=True)
class RunVolumes:
    """Volumes as a replay of the finished folder would count them.

    Attributes
    ----------
    n_whole : int
        Volumes with all slices.
    missing : tuple of int
        Indices of volumes up to the last that are missing, or lack a slice.
    n_doubled : int
        Files that repeat another.
    n_files : int
        Files that hold the volumes.
    delays_s : tuple of (int, float)
        Time from the end of each volume's acquisition, one TR after its start, to the arrival of its last file, by its
        index; empty without the time of an acquisition.
    clock_tr_s : float or None
        Time from volume to volume by the scanner's clock; None if the files do not say it.
    slice_times_s : tuple of float
        Times of the slices, where each file holds one and says it; in the order of the volume's third axis.
    """

    n_whole: int
    missing: tuple[int, ...]
    n_doubled: int
    n_files: int
    delays_s: tuple[tuple[int, float], ...]
    clock_tr_s: float | None
    slice_times_s: tuple[float, ...]


def volumes_of(seen: Sequence[SeenPiece], tr_s: float) -> RunVolumes | None:
    """Count the volumes of a run; None if they cannot be counted.

    Parameters
    ----------
    seen : sequence of SeenPiece
        One at least.
    tr_s : float
        Repetition time, seconds.
    """
    unique = _unique(seen)
    came_s = {id(one.piece): one.came_s for one in unique}
    pieces = [one.piece for one in unique]
    try:
        stack = stack_of(pieces)
        volumes = in_volumes(Path("the run"), pieces, stack, tr_s)
    except InputError:
        return None
    n_slices = stack.shape[2]
    whole = {index: found for index, found in volumes.items() if len(found) == n_slices}
    if not whole:
        return None
    slice_s = {id(one.piece): one.slice_s for one in unique}
    by_slot = {
        index: {
            stack.slots(piece)[0]: time_s for piece in found if (time_s := slice_s[id(piece)]) is not None
        }
        for index, found in whole.items()
    }  # fmt: skip
    return RunVolumes(
        n_whole=len(whole),
        missing=tuple(index for index in range(max(volumes) + 1) if index not in whole),
        n_doubled=len(seen) - len(unique),
        n_files=len({piece.path for piece in pieces}),
        delays_s=_delays_s(whole, came_s, tr_s),
        clock_tr_s=_clock_tr_s(whole),
        slice_times_s=() if pieces[0].is_whole else times_over_volumes(by_slot, n_slices, tr_s),
    )


def _unique(seen: Sequence[SeenPiece]) -> list[SeenPiece]:
    unique: dict[Hashable, SeenPiece] = {}
    for one in seen:
        piece = one.piece
        unique.setdefault((piece.numbers, piece.clock_s, piece.place), one)
    return list(unique.values())


def _delays_s(volumes: dict[int, list[Piece]], came_s: dict[int, float], tr_s: float) -> tuple[tuple[int, float], ...]:
    first = min(volumes)
    start_s = clock_s(volumes[first])
    if start_s is None:
        return ()
    end_s = {index: start_s + since_s + tr_s for index, since_s in _since_first_s(volumes, tr_s).items()}
    return tuple(
        (index, nearest_to_0(max(came_s[id(piece)] for piece in pieces) - end_s[index]))
        for index, pieces in volumes.items()
    )


def _since_first_s(volumes: dict[int, list[Piece]], tr_s: float) -> dict[int, float]:
    clock = VolumeClock(tr_s)
    acquired = {index: clock.acquired_s(index, clock_s(pieces)) for index, pieces in sorted(volumes.items())}
    return {index: time_s - acquired[min(volumes)] for index, time_s in acquired.items()}


def _clock_tr_s(volumes: dict[int, list[Piece]]) -> float | None:
    """Return the time from volume to volume by the clock, where it goes on with all of them."""
    clocks = [(index, clock) for index, pieces in volumes.items() if (clock := clock_s(pieces)) is not None]
    steps_s = [(after - before) / (later - earlier) for (earlier, before), (later, after) in pairwise(clocks)]
    return median(steps_s) if len(clocks) == len(volumes) > 1 and min(steps_s) > 0 else None
