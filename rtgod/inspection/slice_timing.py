"""When the slices of a volume are acquired: their times, their order, and how many are acquired at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from pydicom.dataset import FileDataset

from rtgod.inspection.scan_facts import GE_SLICE_S
from rtgod.sources.dicom.fields import seconds_of_day
from rtgod.sources.dicom.pieces import Piece
from rtgod.sources.dicom.siemens_mosaic import read_csa

_DAY_S = 86400.0
#: Times that differ by less are those of slices that are acquired at once, seconds.
_AT_ONCE_S = 0.003
#: Most slices that are listed.
_MOST_LISTED = 4


@dataclass(frozen=True, slots=True)
class SliceTiming:
    """Times of the slices of a volume.

    Attributes
    ----------
    times_s : tuple of float
        Seconds from the first slice that is acquired to each, in the order of the volume's third axis.
    n_bands : int
        Slices that are acquired at once; 0 if the times do not tell.
    """

    times_s: tuple[float, ...]
    n_bands: int

    def in_words(self) -> str:
        """Say in which order slices are acquired, numbered from 1 along the volume's third axis."""
        n = len(self.times_s) // max(self.n_bands, 1)
        order = sorted(range(n), key=self.times_s[:n].__getitem__)
        steps = [after - before for before, after in pairwise(order)]
        if len(set(steps)) <= 1:
            return "descending" if steps and steps[0] < 0 else "ascending"
        # Slices lie in passes if the first has all of its kind, each second or third for example.
        step, start = abs(steps[0]), order[0]
        turn = next(place for place, after in enumerate(steps, 1) if after != steps[0])
        if step < 2 or turn != len(range(start % step, n, step)):
            return f"{_listed(order[:_MOST_LISTED])}, …"
        more = ", …" if turn > _MOST_LISTED else ","
        return f"interleaved: {_listed(order[: min(turn, _MOST_LISTED)])}{more} then {order[turn] + 1}, …"


def _listed(slots: Sequence[int]) -> str:
    return ", ".join(str(slot + 1) for slot in slots)


def timing_of(times_s: Sequence[float]) -> SliceTiming | None:
    """Make the timing out of the times of slices; None if they do not differ.

    Parameters
    ----------
    times_s : sequence of float
        Seconds from any moment, in the order of the volume's third axis.
    """
    if len(times_s) < 2 or max(times_s) - min(times_s) < _AT_ONCE_S:
        return None
    first_s = min(times_s)
    ordered = sorted(times_s)
    groups = [1]
    for before, after in pairwise(ordered):
        if after - before < _AT_ONCE_S:
            groups[-1] += 1
        else:
            groups.append(1)
    n_bands = groups[0] if len(set(groups)) == 1 else 0
    return SliceTiming(tuple(round(time_s - first_s, 6) for time_s in times_s), n_bands)


def times_in_file(header: FileDataset, piece: Piece) -> tuple[float, ...]:
    """Read the times of a volume's slices out of its file; empty if it does not say them.

    Parameters
    ----------
    header : FileDataset
    piece : Piece
        The volume.
    """
    if not piece.is_whole:
        return ()
    try:
        csa = read_csa(header, ("MosaicRefAcqTimes",)).get("MosaicRefAcqTimes", [])
        times_s = [float(text) / 1000 for text in csa]
    except ValueError:
        times_s = []
    if len(times_s) == len(piece.planes):
        return tuple(times_s)
    frames = header.get("PerFrameFunctionalGroupsSequence") or ()
    clocks: list[float] = []
    for plane in piece.planes:
        content = frames[plane.frame].get("FrameContentSequence") if plane.frame < len(frames) else None
        clock_s = seconds_of_day(str(content[0].get("FrameAcquisitionDateTime") or "")) if content else None
        if clock_s is None:
            return ()
        clocks.append(clock_s)
    latest_s = max(clocks, default=0.0)
    return tuple(clock_s + (_DAY_S if latest_s - clock_s > _DAY_S / 2 else 0.0) for clock_s in clocks)  # past midnight


def slice_clock_s(header: FileDataset, piece: Piece) -> float | None:
    """Return when a slice was acquired, where a file holds one; None if it does not say it.

    Parameters
    ----------
    header : FileDataset
    piece : Piece
        The slice.

    Returns
    -------
    float or None
        Seconds from the run's start, as GE's files state them, or of the day.
    """
    stated = GE_SLICE_S.of(header)
    try:
        seconds = float(str(stated)) if stated is not None else 0.0
    except ValueError:
        seconds = 0.0
    if stated is not None:
        return seconds or None  # 0 stands for a slice that was not timed
    return piece.clock_s


def times_over_volumes(volumes: Mapping[int, Mapping[int, float]], n_slices: int, tr_s: float) -> tuple[float, ...]:
    """Put the times of slices of several volumes together; empty if a slice has none.

    Parameters
    ----------
    volumes : mapping of int to mapping of int to float
        For each volume, by its index, the time of each slice, by its place, seconds.
    n_slices : int
        Slices of a volume.
    tr_s : float
        Repetition time, seconds.
    """
    of_slice: dict[int, list[float]] = {}
    for index, slots in volumes.items():
        for slot, time_s in slots.items():
            of_slice.setdefault(slot, []).append(time_s - index * tr_s)
    if any(slot not in of_slice for slot in range(n_slices)):
        return ()
    times_s = tuple(median(of_slice[slot]) for slot in range(n_slices))
    return times_s if max(times_s) - min(times_s) < tr_s else ()
