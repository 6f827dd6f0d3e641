"""Trials of a run from a BIDS `events.tsv`: when something was shown or imagined, and which category it was.

Two layouts are read: that of the Generic Object Decoding data set (`event_type` with `stimulus_name` or
`category_name`), and plain BIDS (`trial_type`, and `stim_file` where there is one).
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Literal

from rtgod.errors import InputError
from rtgod.messages import Block, Run
from rtgod.text import composed

Kind = Literal["stimulus", "imagery"]

_NOTHING = frozenset({"n/a", ""})
#: What plain BIDS files call the time between trials.
REST = _NOTHING | {"rest", "fixation"}


@dataclass(frozen=True, slots=True)
class Trial:
    """One stimulus or imagery period.

    Attributes
    ----------
    onset_s, duration_s : float
        Seconds; the onset counts from the start of volume 0.
    kind : {"stimulus", "imagery"}
    category : str
        WordNet id such as "n03626115", or whatever the file's `trial_type` says; empty for imagery that the
        participant chose and nobody named.
    stimulus : str or None
        Name of the image, where the file names one.
    repeat : bool
        True when the trial directly before showed the same image (the one-back task's target).
    """

    onset_s: float
    duration_s: float
    kind: Kind
    category: str
    stimulus: str | None = None
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an events table; what is wrong with a cell is said by file, line and column.

    Attributes
    ----------
    path : Path
    line : int
    cells : mapping of str to str
        By column.
    """

    path: Path
    line: int
    cells: Mapping[str, str]

    def has(self, column: str) -> bool:
        """Whether there is something in the cell."""
        return self.cells.get(column, "") not in _NOTHING

    def label(self, column: str) -> str:
        """What is in the cell; `InputError` if there is nothing."""
        if not self.has(column):
            raise self._refusal(column, "is empty, and a trial needs it; fill it in")
        return self.cells[column]

    def seconds(self, column: str) -> float:
        """The cell as seconds; `InputError` if it is no time."""
        text = self.cells.get(column, "")
        try:
            value = float(text)
        except ValueError:
            raise self._refusal(column, f"is {text[:40]!r}; write a number of seconds") from None
        if not math.isfinite(value):
            raise self._refusal(column, f"is {text[:40]!r}; write a finite number of seconds")
        return value

    def duration(self) -> float:
        """The row's duration, seconds; `InputError` if it is none."""
        value = self.seconds("duration")
        if value < 0:
            raise self._refusal("duration", f"is {value:g} s; a trial cannot end before it starts, so correct it")
        return value

    def _refusal(self, column: str, what: str) -> InputError:
        return InputError(f"{self.path}, line {self.line}, column {column}: {what}.")


def read_trials(path: Path, merge_gap_s: float = 0.0) -> tuple[Trial, ...]:
    """Trials of an events table, in order of onset.

    Parameters
    ----------
    path : Path
        A tab-separated file with the columns `onset` and `duration` in seconds, and either `event_type` with
        `stimulus_name` or `category_name`, or `trial_type`. Rest, cue and evaluation rows are no trials.
    merge_gap_s : float
        Rows of one category are one trial if at most so many seconds lie between each and the next; 0 merges none, not
        even those that follow each other at once.

    Returns
    -------
    tuple of Trial
        At least one.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, has a value that is no time, or holds no trial.
    """
    columns, rows = read_table(path)
    for column in ("onset", "duration"):
        if column not in columns:
            raise InputError(f"{path}, line 1: no column {column!r}; an events table is tab-separated and has one.")
    if "event_type" in columns and not columns.isdisjoint({"stimulus_name", "category_name"}):
        found = [trial for row in rows if (trial := _object_trial(row))]
    elif "trial_type" in columns:
        found = [_plain_trial(row) for row in rows if row.cells.get("trial_type", "").casefold() not in REST]
    else:
        raise InputError(
            f"{path}, line 1: no column says what was shown; add 'trial_type', or 'event_type' with 'stimulus_name' or "
            "'category_name'."
        )
    if not found:
        raise InputError(f"{path}: no trial in it, only rest or other rows; give the events of a run with trials.")
    found.sort(key=lambda trial: trial.onset_s)
    return _with_repeats(_merged(found, merge_gap_s) if merge_gap_s else found)


def cue_lead_s(path: Path) -> float | None:
    """How long before imagery its cue comes in an events table, seconds; None where no cue precedes imagery.

    Raises
    ------
    InputError
        If the file cannot be read, or an onset is no time.
    """
    _, rows = read_table(path)
    leads_s = [
        imagery.seconds("onset") - cue.seconds("onset")
        for cue, imagery in pairwise(rows)
        if (cue.cells.get("event_type"), imagery.cells.get("event_type")) == ("cue", "imagery")
    ]
    return max(leads_s, default=None)


def blocks(trials: Iterable[Trial]) -> tuple[Block, ...]:
    """When each trial starts and how long it lasts, in the trials' order.

    Trials of one category have one label, those without a category none. It is a digest, so that nobody reads in
    passing what is to come.
    """
    return tuple(Block(trial.onset_s, trial.duration_s, _digest(trial.category)) for trial in trials)


def check_within(run: Run) -> None:
    """Raise `InputError` if a block ends after the run does, by a volume or more: onsets are rounded, pulses late."""
    if run.n_volumes is None or not run.blocks:
        return
    run_s, last = run.n_volumes * run.tr_s, max(run.blocks, key=_end_s)
    if _end_s(last) > run_s + run.tr_s:
        raise InputError(
            f"run {run.run_id}: a block at {last.onset_s:g} s for {last.duration_s:g} s ends after the run's {run_s:g} "
            f"s ({run.n_volumes} volumes of {run.tr_s:g} s); are these milliseconds, or another run's events?"
        )


def cut_to_length(run: Run) -> tuple[Run, int]:
    """Cut the blocks of a recorded run at its end, and leave out those that begin after it.

    A recording may be shorter than what was planned. What it holds is the same with and without the cut: no volume
    comes after it.

    Returns
    -------
    run : Run
    n_outside : int
        Blocks that were left out.
    """
    if run.n_volumes is None:
        return run, 0
    run_s = run.n_volumes * run.tr_s
    inside = [block for block in run.blocks if block.onset_s < run_s]
    cut = [replace(block, duration_s=min(block.duration_s, run_s - block.onset_s)) for block in inside]
    return replace(run, blocks=tuple(cut)), len(run.blocks) - len(inside)


def _end_s(block: Block) -> float:
    return block.onset_s + block.duration_s


def _digest(category: str) -> str:
    return hashlib.sha256(category.encode()).hexdigest()[:8] if category else ""


def category_of(stimulus: str) -> str:
    """Category of an image by its name: n03626115 of "n03626115_19498"; without "_" it is a category of its own."""
    return stimulus.rpartition("_")[0] or stimulus


def _object_trial(row: Row) -> Trial | None:
    match row.cells.get("event_type", ""):
        case "stimulus" if row.has("category_name") and not row.has("stimulus_name"):
            return Trial(row.seconds("onset"), row.duration(), "stimulus", row.label("category_name"))
        case "stimulus":
            name = row.label("stimulus_name")
            return Trial(row.seconds("onset"), row.duration(), "stimulus", category_of(name), name)
        case "imagery":
            # What the participant chooses is not known beforehand.
            category = row.cells["category_name"] if row.has("category_name") else ""
            return Trial(row.seconds("onset"), row.duration(), "imagery", category)
    return None


def _plain_trial(row: Row) -> Trial:
    stimulus = PurePosixPath(row.label("stim_file")).stem if row.has("stim_file") else None
    return Trial(row.seconds("onset"), row.duration(), "stimulus", row.label("trial_type"), stimulus)


def _merged(trials: Iterable[Trial], gap_s: float) -> list[Trial]:
    """Trials without the gaps of at most `gap_s` within one category; one that showed several images names none."""
    merged: list[Trial] = []
    for trial in trials:
        last = merged[-1] if merged else None
        if last is None or (last.kind, last.category) != (trial.kind, trial.category) or _gap_s(last, trial) > gap_s:
            merged.append(trial)
            continue
        duration_s = max(last.duration_s, trial.onset_s + trial.duration_s - last.onset_s)
        stimulus = last.stimulus if last.stimulus == trial.stimulus else None
        merged[-1] = replace(last, duration_s=duration_s, stimulus=stimulus)
    return merged


def _gap_s(before: Trial, after: Trial) -> float:
    return after.onset_s - (before.onset_s + before.duration_s)


def _with_repeats(trials: list[Trial]) -> tuple[Trial, ...]:
    marked = (
        replace(trial, repeat=trial.stimulus is not None and trial.stimulus == before.stimulus)
        for before, trial in pairwise(trials)
    )
    return (*trials[:1], *marked)


def read_table(path: Path) -> tuple[frozenset[str], list[Row]]:
    """Columns and rows of an events table, whatever they are; names are composed as `rtgod.text.composed` does.

    Raises
    ------
    InputError
        If the file cannot be read, or is empty.
    """
    # BIDS tables know no quoting: with it, one stray quotation mark would swallow the rows up to the next one.
    reader = csv.reader(io.StringIO(_text(path), newline=None), delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        lines = [
            (reader.line_num, [composed(cell.strip()) for cell in cells])
            for cells in reader
            if any(map(str.strip, cells))
        ]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}; save it as tab-separated text.") from error
    if not lines:
        raise InputError(f"{path}: empty; an events table has a line of column names and a row for each trial.")
    (_, columns), *rows = lines
    # Rows may be ragged (some tools end every line with a tab): a cell that is not there is an empty one.
    return frozenset(columns), [Row(path, line, dict(zip(columns, cells, strict=False))) for line, cells in rows]


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text; save the table as UTF-8.") from error
