"""Series of one volume each, as Siemens XA's "interoperability" export writes them: which of them are one run.

Nothing in these files names the run: SeriesNumber and the time of acquisition tell whether a volume goes on with those
before it. The rule is the same for a running scan and for a folder.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from rtgod.sources.dicom.times import step_s

#: Fewest series of one volume each that are taken for one run.
FEWEST_JOINED = 3
#: Longest pause within a run that no lost volumes account for, in repetition times; the next run comes after a longer.
_LONGEST_PAUSE_TR = 5
#: Most series that a scanner makes in the time of one volume, of other images too.
_MOST_SERIES = 8
#: A volume without a time goes on with one whose SeriesNumber is no more than this before its own.
_MOST_SKIPPED = 3
#: SeriesNumber and seconds from midnight, None without a time, of a volume.
Turn = tuple[int, float | None]


class LoneSeries:
    """Series of one volume each that are one run.

    Parameters
    ----------
    tr_s : float
        Repetition time, seconds; 0 where it is not known, and all series are taken for one run.
    """

    def __init__(self, tr_s: float) -> None:
        self._tr_s = tr_s
        self._turns: list[Turn] = []

    def add(self, turn: Turn) -> None:
        """Add a volume.

        Parameters
        ----------
        turn : tuple of int and float or None
            Its SeriesNumber, and when it was acquired.
        """
        self._turns.insert(bisect_right(self._turns, turn[0], key=_number_of), turn)

    def takes(self, turn: Turn, *, in_time: bool = False) -> bool:
        """Return whether a volume goes on with its neighbours by SeriesNumber, or fills a gap between them.

        Parameters
        ----------
        turn : tuple of int and float or None
            Its SeriesNumber, and when it was acquired.
        in_time : bool
            Whether no pause is allowed.
        """
        at = bisect_right(self._turns, turn[0], key=_number_of)
        before, after = self._turns[at - 1 : at] if at else [], self._turns[at : at + 1]
        return any(_goes_on(one, turn, self._tr_s, in_time=in_time, is_last=not after) for one in before) or any(
            _goes_on(turn, one, self._tr_s, in_time=in_time, is_last=False) for one in after
        )


def _number_of(turn: Turn) -> int:
    return turn[0]


def _goes_on(turn: Turn, later: Turn, tr_s: float, *, in_time: bool, is_last: bool) -> bool:
    """Return whether a volume goes on with another, whose SeriesNumber is no larger; and is the last so far."""
    n_series = later[0] - turn[0]
    if not tr_s:
        return True
    if turn[1] is None or later[1] is None:
        return not in_time and n_series <= _MOST_SKIPPED
    n_passed = step_s(turn[1], later[1]) / tr_s
    if n_series and abs(n_passed - n_series) < 0.5:
        return True  # however many are lost between them
    if in_time:
        return False
    if n_passed > 0:
        return n_passed <= 1 + _LONGEST_PAUSE_TR and n_series <= _MOST_SERIES * max(1, round(n_passed))
    if not n_series:
        return n_passed >= -1 - _LONGEST_PAUSE_TR
    # A next run is later: where numbers go on and the clock goes back, it was set anew.
    return is_last and n_series <= _MOST_SERIES


def runs_of(turns: Sequence[Turn], tr_s: float) -> list[list[int]]:
    """Part the volumes of series of one volume each into runs.

    Parameters
    ----------
    turns : sequence of tuple of int and float or None
        SeriesNumber of each volume, and when it was acquired.
    tr_s : float
        Repetition time, seconds; 0 where it is not known.

    Returns
    -------
    list of list of int
        Places in `turns` of the volumes of each run.
    """
    runs: list[tuple[LoneSeries, list[int]]] = []
    for at in sorted(range(len(turns)), key=lambda at: (turns[at][0], turns[at][1] or 0.0)):
        found = next((run for run in runs if run[0].takes(turns[at])), None)
        if found is None:
            found = LoneSeries(tr_s), []
            runs.append(found)
        found[0].add(turns[at])
        found[1].append(at)
    return [members for _, members in runs]
