"""What a journal holds, counted: each run's volumes and answers, and whether every volume has exactly one answer.

Only the headers of its messages are read, so that a folder of long sessions is counted in a moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

import msgspec

from rtgod.messages import MOST_VOLUMES


@dataclass(slots=True)
class RunSummary:
    """One acquisition of a run.

    Attributes
    ----------
    run_id, subject, acquisition : str
    n_planned : int or None
        Volumes that it was announced to have.
    n_ended : int or None
        Volumes that its end announced; None while it has not ended.
    taken : set of int
        Volumes that are in the journal.
    answered : set of int
        Volumes with an answer, lost ones among them.
    owed : set of int
        Volumes whose answer comes next.
    n_rankings : int
    problems : list of str
        What no server does: to take a volume twice, to answer it twice or not.
    """

    run_id: str
    subject: str = ""
    acquisition: str = ""
    n_planned: int | None = None
    n_ended: int | None = None
    taken: set[int] = field(default_factory=set)
    answered: set[int] = field(default_factory=set)
    owed: set[int] = field(default_factory=set)
    n_rankings: int = 0
    problems: list[str] = field(default_factory=list)
    _expected: int = 0

    @property
    def lost(self) -> list[int]:
        """Volumes that were answered though they never came, ascending."""
        return sorted(self.answered - self.taken)

    def take(self, index: int) -> None:
        """A volume came."""
        self.settle()
        if index in self.taken:
            self.problems.append(f"volume {index} was taken twice")
        self.taken.add(index)
        if index - self._expected > MOST_VOLUMES:
            self.problems.append(f"volume {index} comes after {self._expected}: no server takes that")
            return
        # Those left out before it are answered with it; one that comes late was left out, and is answered again.
        self.owed.update(range(self._expected, index + 1) or [index])
        self._expected = max(self._expected, index + 1)

    def end(self, n_volumes: int) -> None:
        """The run ended."""
        self.settle()
        self.n_ended = n_volumes
        if n_volumes - self._expected > MOST_VOLUMES:
            self.problems.append(f"ends at {n_volumes} volumes, right after {self._expected}: no server takes that")
            return
        self.owed.update(range(self._expected, n_volumes))
        self._expected = max(self._expected, n_volumes)

    def answer(self, index: int, *, ranked: bool) -> None:
        """A volume was answered."""
        if index not in self.owed:
            self.problems.append(f"volume {index} was answered, and it was not its turn")
        self.owed.discard(index)
        self.answered.add(index)
        self.n_rankings += ranked

    def settle(self) -> None:
        """Something else is taken: by now all before it is answered."""
        if self.owed:
            self.problems.append(f"volumes {spans(self.owed)} were not answered")
        self.owed.clear()


@dataclass(slots=True)
class JournalSummary:
    """One session.

    Attributes
    ----------
    runs : dict of str to RunSummary
        By their names, in their order.
    n_starts : int
        How often a server began to write to the journal.
    n_events : int
    ended : bool
        Whether the session's end is the last that it holds.
    current : str
        The run that was received last; empty if none was.
    """

    runs: dict[str, RunSummary] = field(default_factory=dict)
    n_starts: int = 0
    n_events: int = 0
    ended: bool = False
    current: str = ""

    @property
    def problems(self) -> list[str]:
        """Those of its runs."""
        return [f"run {run.run_id}: {problem}" for run in self.runs.values() for problem in run.problems]


class _Line(msgspec.Struct):
    """What is counted of a message."""

    type: str
    run_id: str = ""
    subject: str = ""
    acquisition: str = ""
    index: int = -1
    n_volumes: int | None = None


def account(headers: Iterable[bytes]) -> JournalSummary:
    """Count what a journal holds.

    Parameters
    ----------
    headers : iterable of bytes
        As `rtgod.journal.journal.read_headers` gives them.
    """
    found = JournalSummary()
    run = RunSummary("")
    for line in _lines(headers):
        found.ended = line.type == "session-end"
        if line.type in ("volume", "run-end", "ranking", "not-ready") and line.run_id != run.run_id:
            run.settle()
            run = found.runs.setdefault(line.run_id, RunSummary(line.run_id))
            # One with an identity may be gone on with after another came between.
            if not run.acquisition or run.n_ended is not None:
                run.problems.append("goes on where it should not")
        match line.type:
            case "hello":
                found.n_starts += 1
            case "run":
                run.settle()
                run = RunSummary(line.run_id, line.subject, line.acquisition, line.n_volumes)
                if line.run_id in found.runs:
                    run.problems.append("begins twice")
                found.runs[line.run_id] = run
            case "volume":
                run.take(line.index)
            case "run-end":
                run.end(line.n_volumes or 0)
            case "ranking" | "not-ready":
                run.answer(line.index, ranked=line.type == "ranking")
            case "event" | "session-end":
                run.settle()
                found.n_events += line.type == "event"
    found.current = run.run_id
    return found


def spans(indices: Iterable[int]) -> str:
    """Numbers as people write them: "3, 17-19"."""
    # In a row of neighbours, a number less its place is the same for all.
    rows = [[i for _, i in row] for _, row in groupby(enumerate(sorted(indices)), lambda pair: pair[1] - pair[0])]
    return ", ".join(str(row[0]) if len(row) == 1 else f"{row[0]}-{row[-1]}" for row in rows)


def _lines(headers: Iterable[bytes]) -> Iterator[_Line]:
    for header in headers:
        try:
            yield msgspec.json.decode(header, type=_Line)
        except msgspec.DecodeError:
            # A crash may leave the last record its length but not its content.
            return
