"""Contents of a journal in memory: its runs, answers and events, and a table of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rtgod.errors import MissingDependencyError
from rtgod.journal.journal import read_journal
from rtgod.messages import Answer, Event, Message, NewBlock, NotReady, Ranking, Run

if TYPE_CHECKING:
    import pandas

Cell = str | float | None

#: Columns of a table of answers, with their types in pandas.
_DTYPES = {
    "index": "int64",
    "kind": "object",
    "reason": "object",
    "detail": "object",
    "top1": "object",
    "n_volumes": "Int64",
    "n_blocks": "Int64",
    "block": "Int64",
    "final": "boolean",
    "probability_top1": "float64",
    "probability_top5": "float64",
    "probability_top10": "float64",
    "age_s": "float64",
    "latency_ms": "float64",
}
ANSWER_COLUMNS = tuple(_DTYPES)


@dataclass(frozen=True, slots=True, eq=False)
class Journal:
    """A recorded session; iteration reads every message from the file again, including volumes and patterns.

    Attributes
    ----------
    path : Path
    runs : tuple of Run
        In the order in which they began, each with all of its blocks.
    answers : tuple of Ranking or NotReady
        An answer for each volume, in the order in which they were given.
    events : tuple of Event
        Events that clients reported: pictures shown, buttons pressed, ratings given.

    Examples
    --------
    >>> import rtgod
    >>> journal = rtgod.read_journal("session.rtgod")
    >>> sum(isinstance(answer, rtgod.Ranking) for answer in journal.answers)
    18
    >>> sum(isinstance(message, rtgod.Volume) for message in journal)
    64
    """

    path: Path
    runs: tuple[Run, ...]
    answers: tuple[Answer, ...]
    events: tuple[Event, ...]

    @classmethod
    def read(cls, path: Path) -> Journal:
        """Read a journal up to its last whole record.

        Parameters
        ----------
        path : Path
            The journal's file.

        Raises
        ------
        JournalError
            If the file cannot be read, is no journal, or is damaged before its end.
        """
        runs: dict[str, Run] = {}
        answers: list[Answer] = []
        events: list[Event] = []
        for message in read_journal(path):
            match message:
                case Run():
                    runs[message.run_id] = message
                case NewBlock():
                    runs[message.run_id] = message.in_run(runs[message.run_id])
                case Ranking() | NotReady():
                    answers.append(message)
                case Event():
                    events.append(message)
        return cls(path, tuple(runs.values()), tuple(answers), tuple(events))

    def __iter__(self) -> Iterator[Message]:
        """Read the messages in the order in which they were written; raise the errors of `read`."""
        return read_journal(self.path)

    def to_frame(self) -> pandas.DataFrame:
        """Make a pandas table of the answers, a row for each.

        Returns
        -------
        DataFrame
            Columns are `run_id`, the columns of NAME_answers.tsv of `rtgod journal export`, and `label`, the label of
            the answer's block, which is `rtgod.label_of` of its category. Values that an answer lacks are missing.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.

        Examples
        --------
        >>> import rtgod
        >>> frame = rtgod.read_journal("session.rtgod").to_frame()
        >>> frame["kind"].value_counts().to_dict()
        {'not ready': 46, 'ranking': 18}
        >>> frame.groupby("block")["n_volumes"].max().tolist()
        [3, 3, 3, 3, 3, 3]
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                "a table of a journal needs pandas: python -m pip install pandas; without it, `answers` holds the same"
            ) from error

        blocks = {run.run_id: run.blocks for run in self.runs}
        rows = [
            (answer.run_id, *answer_row(answer), None if block is None else blocks[answer.run_id][block].label)
            for answer in self.answers
            for block in [answer.block if isinstance(answer, Ranking) else None]
        ]
        frame = pandas.DataFrame(rows, columns=["run_id", *ANSWER_COLUMNS, "label"])
        return frame.astype({"run_id": "object", **_DTYPES, "label": "object"})


def answer_row(answer: Answer) -> tuple[Cell, ...]:
    """Lay out an answer in the columns of `ANSWER_COLUMNS`.

    Parameters
    ----------
    answer : Ranking or NotReady
    """
    latency_ms = sum(answer.stage_ms.values()) if answer.stage_ms else None
    if isinstance(answer, NotReady):
        return answer.index, "not ready", answer.reason.value, answer.detail, *[None] * 9, latency_ms
    return (
        *(answer.index, "ranking", None, None, answer.top[0] if answer.top else None),
        *(answer.n_volumes, answer.n_blocks, answer.block, answer.final),
        *(answer.probability or [None] * 3),
        *(answer.age_s, latency_ms),
    )
