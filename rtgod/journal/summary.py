"""Counts of a journal: each run's volumes and answers, and whether every volume has exactly one answer.

Only the headers of messages are read, so that a folder of long sessions is counted quickly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

import msgspec

from rtgod.messages import MOST_VOLUMES


@dataclass(slots=True)
class RunSummary:
    """Counts of one acquisition of a run.

    Attributes
    ----------
    run_id, subject, acquisition : str
    n_planned : int or None
        Number of volumes announced at the run's beginning.
    n_ended : int or None
        Number of volumes announced at the run's end; None while it has not ended.
    taken : set of int
        Indices of the volumes in the journal.
    answered : set of int
        Indices of the volumes with an answer, including lost ones.
    owed : set of int
        Indices of the volumes whose answers must come next.
    n_rankings : int
    problems : list of str
        Errors that no server makes, such as a volume that is taken twice, answered twice or not answered.
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
        """Indices of volumes that were answered although they never came, ascending."""
        return sorted(self.answered - self.taken)

    def add_volume(self, index: int) -> None:
        """Count a volume that came.

        Parameters
        ----------
        index : int
            Position of the volume in the run, from 0.
        """
        self.settle()
        if index in self.taken:
            self.problems.append(f"volume {index + 1} was taken twice")
        self.taken.add(index)
        if index - self._expected > MOST_VOLUMES:
            self.problems.append(f"volume {index + 1} comes after {self._expected}: no server takes that")
            return
        # Volumes skipped before it are answered with it. A late volume was skipped before, and is answered again.
        self.owed.update(range(self._expected, index + 1) or [index])
        self._expected = max(self._expected, index + 1)

    def end(self, n_volumes: int) -> None:
        """Count the end of the run.

        Parameters
        ----------
        n_volumes : int
            Number of volumes of the run, including lost ones.
        """
        self.settle()
        self.n_ended = n_volumes
        if n_volumes - self._expected > MOST_VOLUMES:
            self.problems.append(f"ends at {n_volumes} volumes, right after {self._expected}: no server takes that")
            return
        self.owed.update(range(self._expected, n_volumes))
        self._expected = max(self._expected, n_volumes)

    def answer(self, index: int, *, ranked: bool) -> None:
        """Count the answer of a volume.

        Parameters
        ----------
        index : int
            Position of the volume in the run, from 0.
        ranked : bool
            Whether the answer is a ranking.
        """
        if index not in self.owed:
            self.problems.append(f"volume {index + 1} was answered, and it was not its turn")
        self.owed.discard(index)
        self.answered.add(index)
        self.n_rankings += ranked

    def settle(self) -> None:
        """Check, before the next message, that every volume taken so far has been answered."""
        if self.owed:
            self.problems.append(f"volumes {spans(self.owed)} were not answered")
        self.owed.clear()


@dataclass(slots=True)
class JournalSummary:
    """Counts of one session.

    Attributes
    ----------
    runs : dict of str to RunSummary
        Runs by `run_id`, in order.
    n_starts : int
        Number of times that a server began to write to the journal.
    n_events : int
    ended : bool
        Whether the journal's last message is the session's end.
    current : str
        `run_id` of the run received last; empty if there was no run.
    """

    runs: dict[str, RunSummary] = field(default_factory=dict)
    n_starts: int = 0
    n_events: int = 0
    ended: bool = False
    current: str = ""

    @property
    def problems(self) -> list[str]:
        """Problems of all runs of the session."""
        return [f"run {run.run_id}: {problem}" for run in self.runs.values() for problem in run.problems]


class _Line(msgspec.Struct):
    """Fields of a message's header that are counted."""

    type: str
    run_id: str = ""
    subject: str = ""
    acquisition: str = ""
    index: int = -1
    n_volumes: int | None = None


def account(headers: Iterable[bytes]) -> JournalSummary:
    """Count the messages of a journal.

    Parameters
    ----------
    headers : iterable of bytes
        Headers from `rtgod.journal.journal.read_headers`.
    """
    summary = JournalSummary()
    run = RunSummary("")
    for line in _lines(headers):
        summary.ended = line.type == "session-end"
        if line.type in ("volume", "run-end", "ranking", "not-ready") and line.run_id != run.run_id:
            run.settle()
            run = summary.runs.setdefault(line.run_id, RunSummary(line.run_id))
            # A run with an acquisition identity may be continued after another run came between.
            if not run.acquisition or run.n_ended is not None:
                run.problems.append("goes on where it should not")
        match line.type:
            case "hello":
                summary.n_starts += 1
            case "run":
                run.settle()
                run = RunSummary(line.run_id, line.subject, line.acquisition, line.n_volumes)
                if line.run_id in summary.runs:
                    run.problems.append("begins twice")
                summary.runs[line.run_id] = run
            case "volume":
                run.add_volume(line.index)
            case "run-end":
                run.end(line.n_volumes or 0)
            case "ranking" | "not-ready":
                run.answer(line.index, ranked=line.type == "ranking")
            case "event" | "block" | "session-end":
                run.settle()
                summary.n_events += line.type == "event"
    summary.current = run.run_id
    return summary


def spans(indices: Iterable[int]) -> str:
    """Write the numbers of volumes, which people count from 1, with spans of neighbours: "3, 17-19".

    Parameters
    ----------
    indices : iterable of int
        Different indices, from 0, in any order.
    """
    # In a span, a number minus its position is constant.
    numbers = enumerate(sorted(index + 1 for index in indices))
    rows = [[i for _, i in row] for _, row in groupby(numbers, lambda pair: pair[1] - pair[0])]
    return ", ".join(str(row[0]) if len(row) == 1 else f"{row[0]}-{row[-1]}" for row in rows)


def _lines(headers: Iterable[bytes]) -> Iterator[_Line]:
    for header in headers:
        try:
            yield msgspec.json.decode(header, type=_Line)
        except msgspec.DecodeError:
            # A crash may leave the last record with its length but without its content.
            return
