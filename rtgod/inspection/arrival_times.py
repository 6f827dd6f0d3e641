"""When files arrived: by the times of their last changes, if these are the scanner's and not those of a copy.

A copy changes the times of files, unless it is told to keep them, and the clocks of two machines differ. What the times
are worth is judged here, out of the times alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import median

from rtgod.text import number_of

_DAY_S = 86400.0
#: Fewest volumes, and shortest time over which they were acquired, that tell whether files came at the scanner's pace.
_FEWEST, _SHORTEST_S = 3, 3.0
#: Files that were written within this share of the time over which they were acquired did not come one by one.
_BURST = 0.2
#: Files whose delays spread over more than this share of that time, and over more than that time, kept no pace.
_MOST_SPREAD, _SPREAD_S = 0.5, 20.0
#: A series that was written at once, up to this time after its end, may be exported so; seconds.
_EXPORTED_S = 600.0
#: Longest delay that is believed, and how far clocks may be from a time zone's, seconds.
_LONGEST_S, _ZONE_S, _NEAR_ZONE_S = 600.0, 900.0, 60.0
#: Most quarters of an hour by which a time zone differs from another.
_MOST_ZONES = 4 * 14
#: Files of one moment, seconds.
_MOMENT_S = 2.0


@dataclass(frozen=True, slots=True)
class Stamp:
    """Times of a file.

    Attributes
    ----------
    series : hashable
        What the files of its series share.
    day : int or None
        Day of its acquisition, counted from any; None if it is not said.
    clock_s : float or None
        Seconds from midnight to its acquisition, by the scanner's clock; None if it is not said.
    changed_s : float
        Seconds from the start of that count of days to the file's last change, by this machine's clock.
    """

    series: Hashable
    day: int | None
    clock_s: float | None
    changed_s: float

    def delay_s(self) -> float | None:
        """Return the time from the acquisition to the last change; None if the acquisition's is not said."""
        if self.clock_s is None:
            return None
        if self.day is not None:
            return self.changed_s - self.day * _DAY_S - self.clock_s
        return nearest_to_0(self.changed_s - self.clock_s)


@dataclass(frozen=True, slots=True)
class ArrivalTimes:
    """What the times of files are worth.

    Attributes
    ----------
    are_known : bool
        Whether files were last changed when they arrived.
    is_relative : bool
        Whether delays count from that of the file that came fastest, as the clocks cannot be compared.
    offset_s : float
        To be subtracted from the time of a change, so that both clocks are the scanner's.
    remark : str
        What was judged, for people; empty where there is nothing to say.
    is_burst : bool
        Whether a series was written at once, soon after its end.
    """

    are_known: bool
    is_relative: bool = False
    offset_s: float = 0.0
    remark: str = ""
    is_burst: bool = False


def nearest_to_0(seconds: float) -> float:
    """Take whole days from a time, so that what is left is as near to 0 as can be.

    Parameters
    ----------
    seconds : float
    """
    return (seconds + _DAY_S / 2) % _DAY_S - _DAY_S / 2


def judged(stamps: Sequence[Stamp]) -> ArrivalTimes:
    """Judge the times of the files of a folder.

    Parameters
    ----------
    stamps : sequence of Stamp
        Of all files, or of a sample.

    Returns
    -------
    ArrivalTimes
    """
    by_series: dict[Hashable, list[Stamp]] = {}
    for stamp in stamps:
        by_series.setdefault(stamp.series, []).append(stamp)
    telling = [group for group in by_series.values() if _acquired_over_s(group) >= _SHORTEST_S]
    for group in telling:
        if (verdict := _without_pace(group)) is not None:
            return verdict
    changes = [stamp.changed_s for stamp in stamps]
    if not telling and len(changes) > 1 and max(changes) - min(changes) < _MOMENT_S:
        return _copied("all files were written within seconds")
    delays_s = [delay_s for group in telling or by_series.values() for one in group if (delay_s := one.delay_s())]
    if not delays_s:
        return ArrivalTimes(False, remark="the files do not say when they were acquired, so that delays are unknown")
    return _with_clocks(min(delays_s), has_pace=bool(telling))


def _acquired_over_s(group: Sequence[Stamp]) -> float:
    """Return the time over which files were acquired; 0 if they do not say it, or are too few to tell."""
    clocks = {stamp.clock_s for stamp in group if stamp.clock_s is not None}
    if len(clocks) < _FEWEST:
        return 0.0
    any_s = next(iter(clocks))
    since_s = [nearest_to_0(clock_s - any_s) for clock_s in clocks]  # over midnight, too
    return max(since_s) - min(since_s)


def _without_pace(group: Sequence[Stamp]) -> ArrivalTimes | None:
    """Judge a series whose files did not come at the pace of their acquisition; None if they did."""
    delays_s = sorted(delay_s for stamp in group if (delay_s := stamp.delay_s()) is not None)
    written_s = max(stamp.changed_s for stamp in group) - min(stamp.changed_s for stamp in group)
    acquired_s = _acquired_over_s(group)
    last_s = delays_s[0]
    if written_s <= _BURST * acquired_s:
        if not 0 <= last_s <= _EXPORTED_S:
            return _copied("all files were written within seconds" if written_s < 60 else "files were written at once")
        seconds = f"{written_s:.1f} s" if written_s < 10 else f"{written_s:.0f} s"
        return ArrivalTimes(
            False,
            remark=f"{number_of(len(group), 'file')} of one series that were acquired over {acquired_s:.0f} s were "
            f"written within {seconds}, {last_s:.0f} s after the last: the scanner exports a series when it is over, "
            "which is no live export, or this is a copy; check the folder into which the scanner itself writes",
            is_burst=True,
        )
    middle = delays_s[len(delays_s) // 10 : len(delays_s) - len(delays_s) // 10]
    if middle[-1] - middle[0] > max(_MOST_SPREAD * acquired_s, _SPREAD_S):
        return _copied("files were not written in the order and at the pace of their acquisition")
    return None


def _with_clocks(shortest_s: float, *, has_pace: bool) -> ArrivalTimes:
    """Compare the clocks, by the shortest delay."""
    if 0 <= shortest_s <= _LONGEST_S:
        return ArrivalTimes(True)
    zones = round(shortest_s / _ZONE_S)
    if 0 < abs(zones) <= _MOST_ZONES and -1 <= shortest_s - zones * _ZONE_S <= _NEAR_ZONE_S:
        hours = abs(zones) * _ZONE_S / 3600
        return ArrivalTimes(
            True,
            offset_s=zones * _ZONE_S,
            remark=f"the clocks of scanner and files are {hours:g} h apart, as time zones are: taken off",
        )
    if not has_pace:
        return _copied("files were last changed long after, or before, their acquisition")
    ahead = "ahead of" if shortest_s < 0 else "behind"
    return ArrivalTimes(
        True,
        is_relative=True,
        offset_s=shortest_s,
        remark=f"the scanner's clock is {_roughly(abs(shortest_s))} {ahead} that of the files, so that delays count "
        "from the volume that came fastest",
    )


def _copied(why: str) -> ArrivalTimes:
    return ArrivalTimes(
        False,
        remark=f"{why}, so that this is a copy and delays are unknown; files are played in the order of their "
        "acquisition (copies made with cp -p or rsync -t keep the times)",
    )


def _roughly(seconds: float) -> str:
    """Write a time without telling how many days it has, from which a date could be reckoned."""
    if seconds >= _DAY_S:
        return "more than a day"
    for unit_s, unit in ((3600.0, "hour"), (60.0, "minute")):
        if seconds >= 2 * unit_s:
            return f"about {seconds / unit_s:.0f} {unit}s"
    return f"{seconds:.1f} s"


def spread_of(delays_s: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the 95th percentile and the longest of delays.

    Parameters
    ----------
    delays_s : sequence of float
        One at least.
    """
    ordered = sorted(delays_s)
    return median(ordered), ordered[min(round(0.95 * len(ordered)), len(ordered) - 1)], ordered[-1]
