"""Types for the trials of a run and for the other rows of an events table, and remarks on these rows in words."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Literal

from rtgod.text import number_of

Kind = Literal["stimulus", "imagery"]

#: A trial is suspiciously long from this many times the usual duration on.
_LONG = 100
#: Letters of other scripts that look like Latin ones.
_LOOK_ALIKE = str.maketrans("аеорсухіјѕԁԛԝοαν", "aeopcyxijsdqwoav")
#: Names that a line lists before it only counts.
_MOST_NAMES = 12


@dataclass(frozen=True, slots=True)
class Trial:
    """A stimulus or imagery period.

    Attributes
    ----------
    onset_s, duration_s : float
        Seconds; the onset counts from the start of volume 0. A duration of 0 is an impulse.
    kind : {"stimulus", "imagery"}
    category : str
        WordNet id such as "n03626115", or the file's `trial_type`; empty for imagery whose category the table does not
        name.
    stimulus : str or None
        Name of the image, or its path below the folder `stimuli`; None if the table names no image, or several.
    repeat : bool
        Whether the trial directly before showed the same image (the target of a one-back task).
    stimuli : tuple of str
        Names of the images of a block that showed several, in order.
    """

    onset_s: float
    duration_s: float
    kind: Kind
    category: str
    stimulus: str | None = None
    repeat: bool = False
    stimuli: tuple[str, ...] = field(default=(), compare=False)

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images shown, as far as the table has them."""
        return self.stimuli if self.stimulus is None else (self.stimulus,)


class Why(StrEnum):
    """Reason why a row of an events table is not a trial."""

    REST = "rest and the like"
    RECOGNISED = "recognised by name"
    UNKNOWN_EVENT = "unknown event_type"
    IGNORED = "ignored by the settings"
    NO_IMAGE = "names no image"
    NO_ONSET = "no onset"
    NO_DURATION = "no duration"
    BEFORE_RUN = "ends before volume 0"
    DOUBLED = "stands twice"
    AT_ONCE = "at the same time as several others"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Rows of one name that are not trials, for one reason.

    Attributes
    ----------
    why : Why
    name : str
        Event or trial type of the rows.
    n_rows : int
    line : int
        Line number of the first of these rows.
    """

    why: Why
    name: str
    n_rows: int
    line: int


@dataclass(frozen=True, slots=True)
class Merging:
    """Merging of rows of an events table into fewer, longer trials.

    Attributes
    ----------
    n_rows, n_trials : int
        Rows that were merged, and the trials that they became.
    row_s, trial_s : float
        Median durations of these rows and trials, in seconds.
    gap_s : float
        The longest gap that was closed, in seconds.
    is_chosen : bool
        Whether the limit was chosen by the gaps in the table, and not given by the settings.
    """

    n_rows: int
    n_trials: int
    row_s: float
    trial_s: float
    gap_s: float
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class TrialsRead:
    """Trials of an events table, with counts of its other rows.

    Attributes
    ----------
    path : Path
    trials : tuple of Trial
        In order of onset.
    n_rows : int
        All rows of the table.
    left_out : tuple of LeftOut
        Rows that are not trials.
    merging : Merging or None
        None if no rows were merged.
    n_impulses : int
        Trials that last 0 s.
    n_begun : int
        Trials that began before volume 0, and were cut there.
    n_joined : int
        Trials that were joined to another trial of their category, at the same time.
    overlaps : tuple of str
        Pairs of trials that share less than half of the shorter one, or that the settings keep.
    n_same : int
        Trials that show the image of the trial before and do not count as one-back repeats.
    n_beyond : int
        Trials that begin after the end of their run; 0 if its length is not known.
    n_cut : int
        Trials that begin before the end of their run and end more than a volume after it.
    doubtful : mapping of str to int
        Trial types that may not be stimuli, with their numbers of trials.
    unused : tuple of str
        Names in the settings' `ignore` or `keep` that no row of the table has.
    odd : tuple of str
        Oddities of the table itself, in words.
    counted : str
        How volumes and onsets are counted, in words; empty if all volumes are used and onsets count from the first.
    """

    path: Path
    trials: tuple[Trial, ...]
    n_rows: int
    left_out: tuple[LeftOut, ...] = ()
    merging: Merging | None = None
    n_impulses: int = 0
    n_begun: int = 0
    n_joined: int = 0
    overlaps: tuple[str, ...] = ()
    n_same: int = 0
    n_beyond: int = 0
    n_cut: int = 0
    doubtful: Mapping[str, int] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()
    counted: str = ""

    @property
    def n_repeats(self) -> int:
        """Number of one-back repeats among the trials."""
        return sum(trial.repeat for trial in self.trials)

    @property
    def n_left_out(self) -> int:
        """Number of rows that are not trials."""
        return sum(group.n_rows for group in self.left_out)

    @property
    def types(self) -> dict[str, int]:
        """Number of trials of each category, in order of appearance."""
        return dict(Counter(trial.category for trial in self.trials))


def remarks_on(reads: Sequence[TrialsRead], *, beyond: bool = True) -> list[str]:
    """Describe the rows of one or several events tables that are not ordinary trials, one line per remark.

    Parameters
    ----------
    reads : sequence of TrialsRead
    beyond : bool
        Whether to mention trials after the end of their run.
    """
    remarks = list(dict.fromkeys(read.counted for read in reads if read.counted))[:_MOST_NAMES]
    remarks += _on_left_out([group for read in reads for group in read.left_out], reads)
    remarks += _on_merging([read.merging for read in reads if read.merging])
    remarks += _on_unlike(reads)
    if n := sum(read.n_impulses for read in reads):
        remarks.append(f"{number_of(n, 'trial')} of 0 s: impulses, each taken as one volume long")
    if n := sum(read.n_begun for read in reads):
        remarks.append(f"{number_of(n, 'trial')} began before volume 0: cut to begin there")
    if n := sum(read.n_joined for read in reads):
        remarks.append(f"{number_of(n, 'row')} at the same time as another of the same category: one trial with it")
    remarks += _on_overlaps(reads)
    if n := sum(read.n_same for read in reads):
        remarks.append(
            f"{number_of(n, 'trial')} with the image of the trial before: ordinary trials; in a one-back task write "
            "events.one_back = true, and they are not trained on"
        )
    if beyond and (overrunning := [read for read in reads if read.n_beyond]):
        listed = ", ".join(
            f"{read.n_beyond} of {len(read.trials)} in {read.path.name}, the last at "
            f"{max(trial.onset_s for trial in read.trials):g} s"
            for read in overrunning[:3]
        )
        more = f", … ({len(overrunning)} runs in all)" if len(overrunning) > 3 else ""
        remarks.append(f"trials that begin after the end of their run: {listed}{more}; left out")
    if n := sum(read.n_cut for read in reads):
        remarks.append(f"{number_of(n, 'trial')} cut at the end of their run")
    if reads and (unused := set.intersection(*(set(read.unused) for read in reads))):
        remarks.append(f"no row is called {', '.join(sorted(unused))}, which events.ignore or events.keep names")
    doubtful: Counter[str] = Counter()
    for read in reads:
        doubtful.update(read.doubtful)
    if doubtful:
        remarks.append(
            "perhaps no stimuli (by their names, as they are brief, or come after nearly every other trial), but "
            f"taken as trials: {_listed(doubtful)}; if so, write events.ignore = "
            f"{toml_list(doubtful)}"
        )
    remarks += _on_long(reads)
    remarks += _on_spelling(reads)
    remarks += _on_differing(reads)
    odd = [f"{read.path.name}: {line}" for read in reads for line in read.odd]
    return [*remarks, *odd[:3], *([f"… ({len(odd)} such remarks in all)"] if len(odd) > 3 else [])]


def _on_left_out(left_out: Sequence[LeftOut], reads: Sequence[TrialsRead]) -> list[str]:
    counts: dict[Why, Counter[str]] = {}
    for group in left_out:
        counts.setdefault(group.why, Counter())[group.name] += group.n_rows
    remarks = []
    if names := counts.get(Why.REST):
        remarks.append(f"rows between trials: {_listed(names)}")
    if names := counts.get(Why.RECOGNISED):
        remarks.append(
            f"rows taken for no stimuli, by their names: {_listed(names)}; if they are categories, write events.keep = "
            f"{toml_list(names)}"
        )
    if names := counts.get(Why.UNKNOWN_EVENT):
        remarks.append(f"rows whose event_type is neither stimulus nor imagery: {_listed(names)}")
    if names := counts.get(Why.IGNORED):
        remarks.append(f"rows that events.ignore leaves out: {_listed(names)}")
    if names := counts.get(Why.NO_IMAGE):
        remarks.append(
            f"rows without a stim_file, which others have, taken for no stimuli: {_listed(names)}; if they are "
            f"categories, write events.keep = {toml_list(names)}"
        )
    if names := counts.get(Why.AT_ONCE):
        remarks.append(
            f"rows at the same time as those of several other categories, taken for no stimuli: {_listed(names)}; to "
            f"decode these, leave the others out with events.ignore"
        )
    places = {group.why: (read.path.name, group.line) for read in reversed(reads) for group in reversed(read.left_out)}
    for why, words in (
        (Why.NO_ONSET, "rows without an onset"),
        (Why.NO_DURATION, "rows without a duration"),
        (Why.BEFORE_RUN, "rows that end before volume 0"),
        (Why.DOUBLED, "rows that say what another row says already"),
    ):
        if names := counts.get(why):
            table, line = places[why]
            remarks.append(f"{words}, left out: {_listed(names)} (the first: {table}, line {line})")
    return remarks


def _on_overlaps(reads: Sequence[TrialsRead]) -> list[str]:
    if not (n := sum(len(read.overlaps) for read in reads)):
        return []
    first_read = next(read for read in reads if read.overlaps)
    more = ", …" if n > len(first_read.overlaps[:2]) else ""
    return [
        f"{number_of(n, 'pair')} of trials at the same time, in part or in whole: {', '.join(first_read.overlaps[:2])} "
        f"in {first_read.path.name}{more}; kept"
    ]


def _on_merging(merged: Sequence[Merging]) -> list[str]:
    if not merged:
        return []
    n_rows, n_trials = sum(merging.n_rows for merging in merged), sum(merging.n_trials for merging in merged)
    row_s, trial_s = sorted((merging.row_s, merging.trial_s) for merging in merged)[len(merged) // 2]
    gap_s = max(merging.gap_s for merging in merged)
    keep = "; events.merge_gap_s = 0 keeps each row a trial" if any(merging.is_chosen for merging in merged) else ""
    return [
        f"{number_of(n_rows, 'row')} of {row_s:.3g} s were taken as {number_of(n_trials, 'block')} of {trial_s:.3g} s: "
        f"rows of one category that follow each other within {max(math.ceil(100 * gap_s - 1e-4) / 100, 0):g} s{keep}"
    ]


def _on_long(reads: Sequence[TrialsRead]) -> list[str]:
    """Remark on trials a hundred times as long as others of their table: milliseconds among seconds."""
    remarks = []
    for read in reads:
        usual_s = median(trial.duration_s for trial in read.trials) if read.trials else 0.0
        if usual_s and (long := [trial for trial in read.trials if trial.duration_s >= _LONG * usual_s]):
            remarks.append(
                f"{number_of(len(long), 'trial')} in {read.path.name} of up to {max(t.duration_s for t in long):g} s, "
                f"where others last {usual_s:g} s; is that in milliseconds?"
            )
    return remarks


def _look(name: str) -> str:
    """Return a name without capitals, invisible characters, and letters of another script that look like Latin ones."""
    try:
        return f"{float(name):g}"
    except ValueError:
        plain = unicodedata.normalize("NFKC", name).casefold().translate(_LOOK_ALIKE)
        return "".join(letter for letter in plain if unicodedata.category(letter) != "Cf").strip()


def _on_spelling(reads: Sequence[TrialsRead]) -> list[str]:
    """Remark on categories whose names look alike: capitals, invisible characters, or a number's form differ."""
    spelled: dict[str, dict[str, None]] = {}
    for category in [category for read in reads for category in read.types]:
        spelled.setdefault(_look(category), {})[category] = None
    remarks = []
    for names in [list(names) for names in spelled.values() if len(names) > 1]:
        shown = names if len({name.casefold() for name in names}) == 1 else list(map(_seen, names))
        remarks.append(f"{' and '.join(shown)} are different categories; if they are one, spell them alike")
    return remarks


def _seen(name: str) -> str:
    """Return a name with its letters beyond ASCII as codes, as some of them look alike."""
    return name if name.isascii() else name.encode("unicode_escape").decode("ascii")


def _on_differing(reads: Sequence[TrialsRead]) -> list[str]:
    """Remark on names that count as a category in one table and not in another."""
    taken = {category: read.path.name for read in reversed(reads) for category in read.types if category}
    by_table = {
        group.name: read.path.name
        for read in reversed(reads)
        for group in read.left_out
        if group.why in (Why.NO_IMAGE, Why.AT_ONCE) and group.name in taken
    }
    return [
        f"{name} is a category in {taken[name]}, and was taken for no stimulus in {table}; write events.keep = "
        f"{toml_list([name])} or events.ignore = {toml_list([name])}"
        for name, table in by_table.items()
    ]


def _on_unlike(reads: Sequence[TrialsRead]) -> list[str]:
    """Remark on tables whose rows were not merged, although rows of similar tables were merged into blocks."""
    merged = [read for read in reads if read.merging and read.merging.is_chosen]
    blocks = {category for read in merged for category in read.types}
    longest_s = 2 * max((read.merging.row_s for read in merged if read.merging), default=0.0)
    unlike = [
        read
        for read in reads
        if read.merging is None
        and len(read.trials) > 1
        and blocks.intersection(read.types)
        and median(trial.duration_s for trial in read.trials) <= longest_s
    ]
    if not unlike:
        return []
    # Round up, so that no gap to be closed exceeds the limit by a rounding error.
    gap_s = math.ceil(10 * max(read.merging.gap_s for read in merged if read.merging) + 1e-6) / 10
    listed = ", ".join(f"{len(read.trials)} in {read.path.name}" for read in unlike[:3])
    more = f", … ({len(unlike)} tables in all)" if len(unlike) > 3 else ""
    return [
        f"rows that are no blocks, unlike those of the other tables, each taken as a trial: {listed}{more}; if they "
        f"are blocks, write events.merge_gap_s = {max(gap_s, 0.1):g}"
    ]


def _listed(counts: Mapping[str, int]) -> str:
    named = [f"{n} {name or 'n/a'}" for name, n in counts.items()]
    return ", ".join(named[:_MOST_NAMES]) + (f", … ({len(named)} names in all)" if len(named) > _MOST_NAMES else "")


def _in_quotes(name: str) -> str:
    """Quote a name for TOML: literally if it has a character that a basic string would need to escape."""
    if '"' not in name and "\\" not in name:
        return f'"{name}"'
    if "'" not in name:
        return f"'{name}'"
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def toml_list(names: Iterable[str]) -> str:
    """Write names as a list in TOML, shortened to the first `_MOST_NAMES`.

    Parameters
    ----------
    names : iterable of str
    """
    quoted = [_in_quotes(name) for name in names]
    return f"[{', '.join(quoted[:_MOST_NAMES])}{', …' if len(quoted) > _MOST_NAMES else ''}]"
