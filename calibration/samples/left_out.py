"""Count used and left-out trials and volumes with the reasons, so that reports lose nothing silently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from calibration.features.images import first_few
from rtgod.messages import Array

#: Reasons why a trial is left out.
ONE_BACK = "one-back repeat"
AFTER_END = "begins after the run's end"
NO_CANDIDATE = "no candidate"
UNNAMED = "nobody named what was imagined"
NOT_SENT = "was no block of the run: sent by other settings for events?"
#: Reason why a block of a run is left out.
NO_TRIAL = "no trial by the bundle's settings for events"
#: Headers of a table for people, and of a table for programs.
HEADER = ("of", "what", "in all", "used", "left out", "why")
COLUMNS = ("of", "what", "n", "used", "left_out", "why")


@dataclass(frozen=True, slots=True)
class LeftOutCounts:
    """Counts of used and left-out trials or volumes of one set.

    Attributes
    ----------
    of : str
        The set: a run, or the use that runs are put to.
    what : str
        Kind of the things counted: "trials seen", "volumes" and so on.
    used : int
    left_out : mapping of str to int
        Number left out for each reason.
    """

    of: str
    what: str
    used: int
    left_out: Mapping[str, int]

    @property
    def n_left_out(self) -> int:
        """Number left out for any reason."""
        return sum(self.left_out.values())

    def row(self) -> tuple[str, str, int, int, int, str]:
        """Return a row of a table with the columns of `HEADER`."""
        why = ", ".join(f"{n} {reason}" for reason, n in self.left_out.items())
        return self.of, self.what, self.used + self.n_left_out, self.used, self.n_left_out, why


def tally(of: str, what: str, reasons: Iterable[str]) -> LeftOutCounts:
    """Count used and left-out trials or volumes, by reason.

    Parameters
    ----------
    of : str
        The set that the trials or volumes belong to.
    what : str
        Kind of the things counted: "trials seen", "volumes" and so on.
    reasons : iterable of str
        Reason why each trial or volume is left out; empty if it is used.
    """
    counts = Counter(reasons)
    used = counts.pop("", 0)
    return LeftOutCounts(of, what, used, dict(counts.most_common()))


def added(tallies: Sequence[LeftOutCounts]) -> list[LeftOutCounts]:
    """Merge tallies of the same set and kind, in order of appearance.

    Parameters
    ----------
    tallies : sequence of LeftOutCounts
    """
    merged: dict[tuple[str, str], LeftOutCounts] = {}
    for counts in tallies:
        before = merged.get((counts.of, counts.what))
        if before is not None:
            left_out = Counter(before.left_out)
            left_out.update(counts.left_out)
            counts = LeftOutCounts(counts.of, counts.what, before.used + counts.used, dict(left_out.most_common()))
        merged[counts.of, counts.what] = counts
    return list(merged.values())


def by_reason(tallies: Sequence[LeftOutCounts]) -> list[str]:
    """Describe what several sets leave out: a line for each reason, with the number from each set.

    Parameters
    ----------
    tallies : sequence of LeftOutCounts
        Tallies that all have the same `what`.
    """
    sets: dict[str, list[tuple[str, int]]] = {}
    for counts in tallies:
        for reason, n in counts.left_out.items():
            sets.setdefault(reason, []).append((counts.of, n))
    total = sum(counts.used + counts.n_left_out for counts in tallies)
    lines = []
    for reason, numbers in sets.items():
        where = first_few([f"{n} in {name}" for name, n in numbers])
        lines.append(f"{sum(n for _, n in numbers)} of {total} {tallies[0].what}: {reason} ({where})")
    return lines


def without_candidates(of: str, what: str, positions: Array) -> LeftOutCounts | None:
    """Count samples whose category is no candidate; None if all are candidates.

    Parameters
    ----------
    of : str
        The set that the samples belong to.
    what : str
        Kind of the things counted.
    positions : ndarray of shape (n_samples,), int32
        Position of each sample's category among the candidates; −1 if it is not one of them.
    """
    n = int((positions < 0).sum())
    return LeftOutCounts(of, what, 0, {NO_CANDIDATE: n}) if n else None
