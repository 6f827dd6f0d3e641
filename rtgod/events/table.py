"""Trials of a run from a BIDS `events.tsv`: when something was shown or imagined, and which category it was.

Two layouts are read: that of the Generic Object Decoding data set (`event_type` with `stimulus_name` or
`category_name`), and plain BIDS (`trial_type`, with an optional `stim_file`). Calibration, evaluation, replay and
report all read tables here: with the same settings they find the same trials.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from rtgod.errors import InputError
from rtgod.events.counting import in_words, is_usual, onset_0_s
from rtgod.events.merging import always_alone, choose_gap, merge
from rtgod.events.overlaps import check_told_apart, joined, names_that_say_nothing, overlaps_in
from rtgod.events.trial_types import doubtful_types, is_no_stimulus, is_rest
from rtgod.events.trials import LeftOut, TrialsRead, Why, remarks_on
from rtgod.events.trials import Trial as Trial
from rtgod.messages import Block, Run
from rtgod.settings import EventsSettings
from rtgod.text import plain
from rtgod.tsv import NOTHING, Row, Table, read_tsv

#: Length, in seconds, of the block of an impulse (a trial of duration 0), if no repetition time is known.
IMPULSE_S = 1.0
#: Cells for an unknown time: the word of BIDS, and words that other programs write.
_UNKNOWN = NOTHING | {"na", "nan", "none", "null"}
#: Known values of `event_type` that are not decoded.
_OTHER_EVENTS = frozenset({"rest", "inter_rest", "cue", "evaluation", "naming", "feedback"})


def read_trials(path: Path, merge_gap_s: float = 0.0) -> tuple[Trial, ...]:
    """Read the trials of an events table, in order of onset; `read_events` also gives the other rows.

    Parameters
    ----------
    path : Path
    merge_gap_s : float
        Longest gap, in seconds, between rows of one category that are merged into one trial; 0 merges none, not even
        rows without a gap between them.

    Returns
    -------
    tuple of Trial
        At least one.

    Raises
    ------
    InputError
        See `read_events`.
    """
    return read_events(path, EventsSettings(merge_gap_s=merge_gap_s)).trials


def read_events(path: Path, settings: EventsSettings | None = None, tr_s: float | None = None) -> TrialsRead:
    """Read the trials of an events table, and count the rows that are not trials.

    Parameters
    ----------
    path : Path
        A tab-separated file with the columns `onset` and `duration` in seconds, and either `event_type` with
        `stimulus_name` or `category_name`, or `trial_type`.
    settings : EventsSettings, optional
        Choice of the rows that are trials, and of those that are merged; and where onset 0 is.
    tr_s : float, optional
        Repetition time of the run, seconds, with which onsets are made to count from volume 0, the first that is used.
        Without it they stay as the table counts them.

    Returns
    -------
    TrialsRead
        Holds at least one trial. Rest, cues and answers are not trials; neither are rows without onset or duration, nor
        rows without a `stim_file` in a table that names one elsewhere. Trials begin at volume 0 at the earliest.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, has a value that is no time, or holds no trial.
    """
    return trials_in(events_table(path), settings, tr_s)


def events_table(path: Path) -> Table:
    """Read the rows of an events table.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    return read_tsv(path, what="an events table")


def trials_in(table: Table, settings: EventsSettings | None = None, tr_s: float | None = None) -> TrialsRead:
    """Find the trials in an events table; see `read_events`.

    Parameters
    ----------
    table : Table
    settings : EventsSettings, optional
    tr_s : float, optional

    Raises
    ------
    InputError
        As `read_events`, but for a file that cannot be read.
    """
    settings, path = settings or EventsSettings(), table.path
    layout = layout_of(table)
    shift_s = 0.0 if tr_s is None else onset_0_s(settings, tr_s)
    rows: dict[Trial, Row] = {}
    left_out: dict[tuple[Why, str], LeftOut] = {}
    begun: set[Trial] = set()
    for row, why in zip(table.rows, reasons(table, settings), strict=True):
        if why is None:
            trial = _object_trial(row) if layout.is_object else _plain_trial(row)
            if shift_s:
                trial = replace(trial, onset_s=trial.onset_s + shift_s)
            end_s = trial.onset_s + trial.duration_s
            if trial.onset_s < 0 < end_s:
                trial = replace(trial, onset_s=0.0, duration_s=end_s)
                begun.add(trial)
            why = Why.BEFORE_RUN if trial.onset_s < 0 else Why.DOUBLED if trial in rows else None
            if why is None:
                rows[trial] = row
        if why is not None:
            _count(left_out, why, row, layout)
    row_trials = sorted(rows, key=lambda trial: (trial.onset_s, trial.duration_s, trial.category, trial.stimulus or ""))
    overlaps = overlaps_in(row_trials)
    if ambiguous := names_that_say_nothing(overlaps, row_trials, settings.keep):
        for trial in [trial for trial in row_trials if trial.category in ambiguous]:
            _count(left_out, Why.AT_ONCE, rows[trial], layout)
        row_trials = [trial for trial in row_trials if trial.category not in ambiguous]
        overlaps = overlaps_in(row_trials)
    n_impulses, n_begun = sum(trial.duration_s == 0 for trial in row_trials), len(begun.intersection(row_trials))
    read = TrialsRead(path, (), len(table.rows), tuple(left_out.values()), None, n_impulses, n_begun)
    if not row_trials:
        remarks = "; ".join(remarks_on([read])) or "nothing but column names"
        raise InputError(
            f"{path}{_first_unknown(table, read)}: no trial in it ({remarks}); give the events of a run with trials."
        )
    check_told_apart(path, overlaps, row_trials, settings.keep)
    gap_s = settings.merge_gap_s
    if gap_s is None:
        gap_s = 0.0 if layout.is_object else choose_gap(row_trials)
    trials, merging = merge(row_trials, gap_s, is_chosen=settings.merge_gap_s is None) if gap_s else (row_trials, None)
    trials, n_joined = joined(trials)
    doubtful = {} if layout.is_object else doubtful_types(trials, settings.keep)
    if merging and merging.is_chosen:  # categories that never form blocks, in a table of blocks
        alone = always_alone(row_trials, gap_s)
        doubtful |= {name: n for name, n in alone.items() if not _is_among(name, settings.keep)}
    same_image = [False, *(a.stimulus is not None and a.stimulus == b.stimulus for a, b in pairwise(trials))]
    is_one_back = layout.is_object if settings.one_back is None else settings.one_back
    if is_one_back:
        trials = [replace(trial, repeat=again) for trial, again in zip(trials, same_image, strict=True)]
    return replace(
        read,
        trials=tuple(trials),
        merging=merging,
        n_joined=n_joined,
        overlaps=tuple(str(overlap) for overlap in overlaps_in(trials)),
        n_same=0 if is_one_back else sum(same_image),
        doubtful=doubtful,
        unused=tuple(name for name in (*settings.ignore, *settings.keep) if not _is_among(name, _names_in(table))),
        odd=tuple(table.remarks()),
        counted="" if tr_s is None or is_usual(settings) else in_words(settings, trials, tr_s),
    )


def _count(left_out: dict[tuple[Why, str], LeftOut], why: Why, row: Row, layout: Layout) -> None:
    """Count a row that is not a trial."""
    name = row.cells.get(layout.column, "")
    before = left_out.get((why, name)) or LeftOut(why, name, 0, row.line)
    left_out[why, name] = replace(before, n_rows=before.n_rows + 1)


def _names_in(table: Table) -> list[str]:
    """List every name that settings may use for a row of the table."""
    columns = ("trial_type", "event_type", "category_name", "stimulus_name")
    names = {row.cells.get(column, "") for row in table.rows for column in columns}
    return [*names, *map(category_of, names)]


@dataclass(frozen=True, slots=True)
class Layout:
    """Layout of an events table.

    Attributes
    ----------
    is_object : bool
        Whether the column `event_type` tells what happened, as in the public data set; otherwise `trial_type` does.
    """

    is_object: bool

    @property
    def column(self) -> str:
        """Name of the column that tells what happened."""
        return "event_type" if self.is_object else "trial_type"


def layout_of(table: Table) -> Layout:
    """Return the layout of an events table.

    Parameters
    ----------
    table : Table

    Raises
    ------
    InputError
        If the table lacks a column.
    """
    columns = set(table.columns)
    for column in ("onset", "duration"):
        if column not in columns:
            match = re.search("[,;]", table.columns[0]) if len(columns) == 1 else None
            separators = {",": "commas", ";": "semicolons"}[match[0]] if match else ""
            hint = f"; its columns are parted by {separators}: save it with tabs" if match else ""
            if alike := [name for name in table.columns if name.casefold() == column]:
                hint = f"; write {column!r} for {alike[0]!r}"
            elif len(columns) == 1 and " " in table.columns[0].strip():
                hint = "; its columns are parted by blanks: save it with tabs"
            raise InputError(
                f"{table.path}, line 1: no column {column!r}; an events table is tab-separated and has one{hint}."
            )
    if "event_type" in columns and not columns.isdisjoint({"stimulus_name", "category_name"}):
        return Layout(is_object=True)
    if "trial_type" in columns:
        return Layout(is_object=False)
    raise InputError(
        f"{table.path}, line 1: no column says what happens; add 'trial_type', or 'event_type' with "
        "'stimulus_name' or 'category_name'."
    )


def reasons(table: Table, settings: EventsSettings | None = None) -> list[Why | None]:
    """Return for each row of an events table why it is not a trial; None for trials, also those outside the run.

    Parameters
    ----------
    table : Table
    settings : EventsSettings, optional
    """
    settings = settings or EventsSettings()
    if layout_of(table).is_object:
        return [_object_reason(row, settings) for row in table.rows]
    names_images = any(row.has("stim_file") for row in table.rows)
    return [_plain_reason(row, settings, names_images) for row in table.rows]


def _object_reason(row: Row, settings: EventsSettings) -> Why | None:
    event = row.cells.get("event_type", "").casefold()
    if event not in ("stimulus", "imagery"):
        return Why.REST if event in NOTHING or event in _OTHER_EVENTS else Why.UNKNOWN_EVENT
    name = row.cells.get("category_name", "") if row.has("category_name") else row.cells.get("stimulus_name", "")
    if _is_among(name, settings.ignore) or _is_among(category_of(name), settings.ignore):
        return Why.IGNORED
    return _without_time(row)


def _plain_reason(row: Row, settings: EventsSettings, names_images: bool) -> Why | None:
    name = row.cells.get("trial_type", "")
    if name in NOTHING:
        return Why.REST
    if _is_among(name, settings.ignore):
        return Why.IGNORED
    if not _is_among(name, settings.keep):
        if is_rest(name):
            return Why.REST
        if is_no_stimulus(name):
            return Why.RECOGNISED
        if names_images and not row.has("stim_file"):
            return Why.NO_IMAGE
    return _without_time(row)


def _without_time(row: Row) -> Why | None:
    if row.cells.get("onset", "").casefold() in _UNKNOWN:
        return Why.NO_ONSET
    return Why.NO_DURATION if row.cells.get("duration", "").casefold() in _UNKNOWN else None


def _is_among(name: str, names: Sequence[str]) -> bool:
    return name.casefold() in {listed.casefold() for listed in names}


def _first_unknown(table: Table, read: TrialsRead) -> str:
    """Describe the place of the first missing time, for the error on a table without trials; may be empty."""
    for group in read.left_out:
        if group.why in (Why.NO_ONSET, Why.NO_DURATION):
            column = "onset" if group.why is Why.NO_ONSET else "duration"
            cell = next(row.cells.get(column, "") for row in table.rows if row.line == group.line)
            return f", line {group.line}, column {column}: is {cell!r}"
    return ""


def cue_lead_s(path: Path) -> float | None:
    """Return the longest time, in seconds, from a cue to the imagery directly after it; None if no cue precedes one.

    Parameters
    ----------
    path : Path
        An events table with the column `event_type`; without it no row counts as a cue.

    Raises
    ------
    InputError
        If the file cannot be read, or an onset is no time.
    """
    rows = [row for row in read_tsv(path, what="an events table").rows if row.has("onset")]
    leads_s = [
        imagery.seconds("onset") - cue.seconds("onset")
        for cue, imagery in pairwise(sorted(rows, key=lambda row: row.seconds("onset")))
        if (cue.cells.get("event_type"), imagery.cells.get("event_type")) == ("cue", "imagery")
    ]
    return max(leads_s, default=None)


def blocks_of(trials: Iterable[Trial], impulse_s: float = IMPULSE_S) -> tuple[Block, ...]:
    """Make the blocks of a run, with onset, duration and label of each trial, in the trials' order.

    Trials of one category share a label; trials without a category have an empty one. Labels are digests, so that
    nobody who sees them learns by accident which categories will be shown.

    Parameters
    ----------
    trials : iterable of Trial
    impulse_s : float
        Length of an impulse's block, in seconds: the repetition time, so that the block holds the middle of one volume.
    """
    return tuple(
        Block(trial.onset_s, trial.duration_s or impulse_s, label_of(trial.category), trial.kind == "imagery")
        for trial in trials
    )


def beyond(trials: Sequence[Trial], n_volumes: int | None, tr_s: float) -> tuple[int, int]:
    """Count the trials that begin after the end of a run, and the others that end after it by more than a volume.

    Parameters
    ----------
    trials : sequence of Trial
    n_volumes : int or None
        Length of the run; if it is None, both counts are 0.
    tr_s : float
        Repetition time, in seconds.

    Returns
    -------
    n_beyond, n_cut : int
        Trials that begin after the end, and trials that reach beyond it.

    Raises
    ------
    InputError
        If all trials begin after the end, or if there are several and all of them reach beyond it.
    """
    if n_volumes is None or not trials:
        return 0, 0
    run_s = n_volumes * tr_s
    n_beyond = sum(trial.onset_s >= run_s for trial in trials)
    if n_beyond == len(trials):
        raise InputError(all_beyond(n_beyond, run_s, min(trial.onset_s for trial in trials)))
    n_cut = sum(trial.onset_s < run_s and trial.onset_s + trial.duration_s > run_s + tr_s for trial in trials)
    if n_cut == len(trials) > 1:
        longest_s = max(trial.duration_s for trial in trials)
        raise InputError(
            f"all {n_cut} trials end after its {run_s:g} s, the longest lasts {longest_s:g} s; are the durations in "
            "milliseconds?"
        )
    return n_beyond, n_cut


def all_beyond(n_trials: int, run_s: float, first_s: float) -> str:
    """Return the error text for a run whose trials all begin after its end.

    Parameters
    ----------
    n_trials : int
    run_s : float
        Length of the run, in seconds.
    first_s : float
        Earliest onset, in seconds from the start of volume 0.
    """
    trials_begin = "its only trial begins" if n_trials == 1 else f"all {n_trials} trials begin"
    return (
        f"{trials_begin} after its {run_s:g} s, {'' if n_trials == 1 else 'the first '}at {first_s:g} s; are these "
        "milliseconds, or another run's events?"
    )


def check_within(run: Run) -> None:
    """Raise `InputError` if a block ends more than a volume after the run: onsets may be rounded, and pulses late.

    Parameters
    ----------
    run : Run
        Without `n_volumes`, its length is not known and it passes.
    """
    if run.n_volumes is None or not run.blocks:
        return
    run_s, last_block = run.n_volumes * run.tr_s, max(run.blocks, key=_end_s)
    if _end_s(last_block) > run_s + run.tr_s:
        raise InputError(
            f"run {run.run_id}: a block at {last_block.onset_s:g} s for {last_block.duration_s:g} s ends after the "
            f"run's {run_s:g} s ({run.n_volumes} volumes of {run.tr_s:g} s); are these milliseconds, or another run's "
            "events?"
        )


def cut_to_length(run: Run) -> tuple[Run, int]:
    """Cut the blocks of a recorded run at its end, and leave out those that begin after it.

    A recording may be shorter than planned. The cut does not change which volumes belong to which block, as no volume
    comes after the end.

    Parameters
    ----------
    run : Run
        Without `n_volumes`, its length is not known and nothing is cut.

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


def cut_and_told(run: Run) -> tuple[Run, str]:
    """Cut the blocks of a run at its end, and say how many begin after it.

    Parameters
    ----------
    run : Run

    Returns
    -------
    run : Run
    note : str
        Empty if none is left out.

    Raises
    ------
    InputError
        If all trials of the run begin after its end, so that none could be decoded.
    """
    cut, n_outside = cut_to_length(run)
    if not n_outside:
        return cut, ""
    name, run_s = plain(run.run_id), (run.n_volumes or 0) * run.tr_s
    if not cut.blocks:
        first_s = min(block.onset_s for block in run.blocks)
        raise InputError(f"run {name}: {all_beyond(n_outside, run_s, first_s)}")
    return cut, f"run {name}: {n_outside} of {len(run.blocks)} trials begin after its {run_s:g} s: left out"


def _end_s(block: Block) -> float:
    return block.onset_s + block.duration_s


def label_of(category: str) -> str:
    """Make the label of a category in a run's blocks.

    Parameters
    ----------
    category : str
        Its identifier; may be empty.

    Returns
    -------
    str
        Eight hexadecimal digits of a digest, so that nobody who sees labels learns by accident which categories will
        be shown; empty for an empty category.

    Examples
    --------
    >>> import rtgod
    >>> rtgod.label_of("n00000000") == rtgod.open_run("sub-01_task-objects_run-01_bold.nii.gz").run.blocks[0].label
    True
    """
    return hashlib.sha256(category.encode()).hexdigest()[:8] if category else ""


def category_of(stimulus: str) -> str:
    """Return the category of an image by its name: n03626115 for "n03626115_19498"; without "_", its folder or name.

    Parameters
    ----------
    stimulus : str
        Name of the image; any folders before it end with "/".
    """
    *folders, name = stimulus.split("/")
    return name.rpartition("_")[0] or (folders[-1] if folders else name)


def image_path(stim_file: str) -> str:
    """Return the path of an image below the folder `stimuli`, from any spelling of it in a cell of `stim_file`.

    Parameters
    ----------
    stim_file : str
        Path with either kind of slash, with or without `./`, `/` or `stimuli/` before it.
    """
    path = stim_file.replace("\\", "/").removeprefix("./").lstrip("/")
    return path.removeprefix("stimuli/")


def _object_trial(row: Row) -> Trial:
    if row.cells["event_type"].casefold() == "imagery":
        # If the participant chooses the category, it is not known beforehand.
        category = row.cells["category_name"] if row.has("category_name") else ""
        return Trial(row.seconds("onset"), row.duration(), "imagery", category)
    if row.has("category_name") and not row.has("stimulus_name"):
        return Trial(row.seconds("onset"), row.duration(), "stimulus", row.label("category_name"))
    name = row.label("stimulus_name")
    return Trial(row.seconds("onset"), row.duration(), "stimulus", category_of(name), name)


def _plain_trial(row: Row) -> Trial:
    stimulus = image_path(row.label("stim_file")) if row.has("stim_file") else None
    return Trial(row.seconds("onset"), row.duration(), "stimulus", row.label("trial_type"), stimulus)
