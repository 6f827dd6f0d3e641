"""Times of volumes, by the clock that DICOM files carry."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from rtgod.sources.dicom.pieces import Piece

_DAY_S = 86400.0
#: Longest pause within a run, s: a clock that goes on by more was set anew.
_MOST_PAUSED_S = 1500.0


class VolumeClock:
    """Time of each volume from the nominal start of volume 0, by the files' clock: the same live and replayed.

    A clock that goes back, or on by far too much, was set anew: time goes on by the repetition time, and by the clock
    from there. Where volumes have no time, or all the same, the repetition time alone counts.

    Parameters
    ----------
    tr_s : float
        Repetition time, seconds.

    Attributes
    ----------
    notes : list of str
        Lines on the clock, to be taken out.
    """

    def __init__(self, tr_s: float) -> None:
        self._tr_s = tr_s
        self.notes: list[str] = []
        #: Clock and time that elapsed time counts from; clock and index of the last volume.
        self._anchor: tuple[float, float] | None = None
        self._last: tuple[float, int] | None = None

    def acquired_s(self, index: int, clock_s: float | None) -> float:
        """Return the time of a volume, in seconds.

        Parameters
        ----------
        index : int
            Larger than that of the call before.
        clock_s : float or None
            Time of day at which it began, seconds.
        """
        if clock_s is None:
            self._anchor = None
            return index * self._tr_s
        if self._anchor is None or self._last is None:
            self._anchor, self._last = (clock_s, index * self._tr_s), (clock_s, index)
            return index * self._tr_s
        (anchor_clock_s, anchor_s), (last_clock_s, last) = self._anchor, self._last
        self._last = clock_s, index
        passed_s = step_s(last_clock_s, clock_s)
        if 0 < passed_s < (index - last) * self._tr_s + _MOST_PAUSED_S:
            # DICOM's times have microseconds; further digits are rounding errors of the difference.
            return anchor_s + round((clock_s - anchor_clock_s) % _DAY_S, 6)
        last_s = anchor_s + round((last_clock_s - anchor_clock_s) % _DAY_S, 6)
        self._anchor = clock_s, last_s + (index - last) * self._tr_s
        if passed_s:
            way = f"{'back' if passed_s < 0 else 'on'} by {abs(passed_s):g} s"
            self.notes.append(f"the scanner's clock goes {way} to volume {index + 1}: its time counts by the TR")
        return self._anchor[1]


def step_s(clock_s: float, later_s: float) -> float:
    """Return the seconds from one time of day to another, past midnight too; negative where it is earlier.

    Parameters
    ----------
    clock_s, later_s : float
        Seconds from midnight.
    """
    return (later_s - clock_s + _DAY_S / 2) % _DAY_S - _DAY_S / 2


def clock_s(pieces: Sequence[Piece]) -> float | None:
    """Return the time of day at which a volume began, in seconds; None if a piece gives no time.

    Parameters
    ----------
    pieces : sequence of Piece
        Those of the volume.
    """
    clocks = [piece.clock_s for piece in pieces if piece.clock_s is not None]
    if len(clocks) < len(pieces):
        return None
    earliest, latest = min(clocks), max(clocks)
    if latest - earliest < _DAY_S / 2:
        return earliest
    return min(clock for clock in clocks if clock > _DAY_S / 2)  # it was acquired around midnight


def index_beside(clock_s: float | None, others: Sequence[tuple[int, float | None]], tr_s: float) -> int | None:
    """Return the index of a volume by the time since the nearest of others; None if a time is missing.

    Parameters
    ----------
    clock_s : float or None
        Time of day at which it began, seconds.
    others : sequence of (int, float or None)
        Index of each other volume, and the time of day at which it began.
    tr_s : float
        Repetition time, seconds.
    """
    if clock_s is None:
        return None
    apart = [
        ((clock_s - other_s + _DAY_S / 2) % _DAY_S - _DAY_S / 2, index)
        for index, other_s in others
        if other_s is not None
    ]
    if not apart:
        return None
    nearest_s, index = min(apart, key=lambda one: abs(one[0]))
    return index + round(nearest_s / tr_s)


def elapsed_s_of(volumes: Sequence[Sequence[Piece]]) -> list[float] | None:
    """Return the seconds from the first volume to each; None unless all have times that ascend (past midnight, too).

    Parameters
    ----------
    volumes : sequence of sequence of Piece
        Pieces of each volume.
    """
    clocks = [clock for pieces in volumes if (clock := clock_s(pieces)) is not None]
    steps = [(after - before) % _DAY_S for before, after in pairwise(clocks)]
    if len(clocks) < len(volumes) or not all(0 < step < _DAY_S / 2 for step in steps):
        return None
    # DICOM's times have microseconds; further digits are rounding errors of the sum.
    return [round(elapsed, 6) for elapsed in accumulate(steps, initial=0.0)]
