"""Recorded runs and the tables of their events, inside or outside a BIDS data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from calibration.datasets.acquisitions import choose_forms
from calibration.datasets.recordings import list_recordings
from calibration.datasets.run_patterns import RunPatterns, as_options
from calibration.features.images import first_few
from rtgod.errors import InputError
from rtgod.events.table import Trial, read_events
from rtgod.events.trials import TrialsRead
from rtgod.settings import EventsSettings
from rtgod.sources import Source, open_source
from rtgod.sources.beside import find_events
from rtgod.sources.dicom_series import name_and_start
from rtgod.sources.echoes import Echo
from rtgod.text import number_of

_WHAT_TO_GIVE = "give the root of a BIDS data set, or NIfTI files with their events, or folders of DICOM files"


@dataclass(frozen=True, slots=True)
class RunFiles:
    """A recorded run and the table of its events.

    Attributes
    ----------
    bold : Path
        NIfTI file or folder of DICOM files.
    events : Path
    run_id : str or None
        Name of the run, given if the file's name does not tell runs apart.
    tr_s : float or None
        Repetition time, seconds, used where the files do not give one.
    echo : int or Combine
        Echo that is read, from 1, of a DICOM series that has several; or all, combined.
    """

    bold: Path
    events: Path
    run_id: str | None = None
    tr_s: float | None = None
    echo: Echo = 0

    @property
    def name(self) -> str:
        """Name that tells the run from others."""
        return self.run_id or self.bold.name

    def open(self, settings: EventsSettings | None = None) -> Source:
        """Open the run: its volumes, and its trials as blocks.

        Parameters
        ----------
        settings : EventsSettings, optional
            Rules by which rows become trials; None takes the defaults.
        """
        return open_source(
            self.bold, events=self.events, reading=settings, run_id=self.run_id, tr_s=self.tr_s, echo=self.echo
        )

    def read(self, settings: EventsSettings) -> TrialsRead:
        """Read the table of events; trials after the run's end are counted.

        Parameters
        ----------
        settings : EventsSettings
            Rules by which rows become trials.
        """
        read = self.open(settings).read
        return read_events(self.events, settings) if read is None else read

    def trials(self, settings: EventsSettings) -> tuple[Trial, ...]:
        """Read the trials: each names the category shown or imagined.

        Parameters
        ----------
        settings : EventsSettings
            Rules by which rows become trials.

        Raises
        ------
        InputError
            If the table cannot be read, or a trial in it has no category.
        """
        trials = read_events(self.events, settings).trials
        if unnamed := [trial for trial in trials if not trial.category]:
            raise InputError(
                f"{self.events}: what was imagined at {unnamed[0].onset_s:g} s was never named; fill in its "
                "category_name, or leave the run out"
            )
        return trials


@dataclass(frozen=True, slots=True)
class FoundRuns:
    """Runs that a search found, and those it left out.

    Attributes
    ----------
    runs : tuple of RunFiles
        At least one.
    missing : tuple of str
        Runs that are left out, each with its reason.
    not_meant : tuple of str
        Names of runs that were given, and that no pattern means.
    """

    runs: tuple[RunFiles, ...]
    missing: tuple[str, ...] = ()
    not_meant: tuple[str, ...] = ()


def find_plain_runs(
    paths: Sequence[Path],
    events: Sequence[Path] = (),
    pattern: RunPatterns | str = "",
    tr_s: float | None = None,
    option: str = "--training",
) -> FoundRuns:
    """Find runs outside of a BIDS data set: NIfTI files or folders of DICOM files, each with a table of events.

    Parameters
    ----------
    paths : sequence of Path
        4-D NIfTI files; folders of one series of DICOM files; or folders that hold such runs. In the last, NIfTI files
        with "bold" in their names are taken, else all NIfTI files of several volumes, else the folders of DICOM files.
    events : sequence of Path
        The table of each run, in order. If empty, tables beside the runs are taken: `X_events.tsv` for `X_bold.nii.gz`,
        or one `events.tsv`; for a folder of DICOM files the table may also lie inside.
    pattern : RunPatterns or str
        Chooses runs by name. A run's name is its path within the given folder; for a file given itself, the file's name
        after as many folders as tell the files apart, or the path as given.
    tr_s : float or None
        Repetition time, seconds, for files that give none.
    option : str
        The option that the pattern comes from, for messages.

    Returns
    -------
    FoundRuns
        Runs in the order given, named after their files with as many folders before as tell them apart; a series of
        DICOM files has the name under which it is replayed.

    Raises
    ------
    InputError
        If no run is found, a given run is missing or has no events, or a run is given twice, even in another form.
    """
    patterns = RunPatterns.parse(pattern) if isinstance(pattern, str) else pattern
    names: dict[Path, str] = {}
    missing: list[str] = []
    repeated: list[Path] = []
    for path in paths:
        recordings = list_recordings(path)
        for run in recordings.runs:
            if any(run.resolve() == other.resolve() for other in names):
                repeated.append(run)
            names[run] = "" if run == path else run.relative_to(path).as_posix()
        missing += [name for name in recordings.passed_over if patterns.match(name)]
    if repeated:
        raise InputError(f"{repeated[0]}: given twice; give each run once")
    given = [run for run, name in names.items() if not name]
    names |= dict(zip(given, _distinct(given), strict=True))
    patterns = patterns.renamed({run.as_posix(): names[run] for run in given})
    if events and len(events) != len(names):
        raise InputError(
            f"{number_of(len(events), 'table')} of events for {number_of(len(names), 'run')}; give --events once "
            "for each, in order"
        )
    event_files: Sequence[Path | None] = events or [find_events(run) for run in names]
    tables = dict(zip(names, event_files, strict=True))
    if names and len(patterns.given) > 1 and (unknown := patterns.unmatched(list(names.values()))):
        raise InputError(f"no run with {unknown[0]!r} in its name; {names_there(names.values())}")
    files = []
    for run in [run for run, name in names.items() if patterns.match(name)]:
        if tables[run]:
            files.append(run)
        elif run in paths:
            raise InputError(f"{run}: no events beside it; put a table there, or give one for each run with --events")
        else:
            missing.append(f"{names[run]}: images, but no events")
    chosen = choose_forms(files, patterns, option, names.values(), names.__getitem__, lambda run: _content(tables[run]))
    missing += chosen.left_out
    if not chosen.paths and not missing and names and patterns.given:
        asked = as_options(option, patterns.given)
        condition = f"with {patterns} in its name" if patterns.wanted else "left"
        raise InputError(
            f"{first_few(list(map(str, paths)), 2)}: no run {condition}: {asked}; {names_there(names.values())}"
        )
    if not chosen.paths:
        searched = first_few(list(map(str, paths)), 2) or "no path"
        why = f" ({first_few(missing)})" if missing else f" with {patterns} in its name" if patterns.given else ""
        listed = f"; {names_there(names.values())}" if names else ""
        raise InputError(f"{searched}: no run{why}; {_WHAT_TO_GIVE}{listed}")
    # Whichever are chosen, a run is called the same.
    with_events = [run for run in names if tables[run]]
    run_ids = dict(zip(with_events, _distinct_names(with_events), strict=True))
    recorded = [RunFiles(run, table, run_ids[run], tr_s) for run in chosen.paths if (table := tables[run])]
    not_meant = tuple(run_ids[run] for run in with_events if not patterns.match(names[run]))
    return FoundRuns(_opened(recorded), tuple(missing), not_meant)


def _content(table: Path | None) -> bytes | None:
    """What a table holds; None where there is none, or it cannot be read, which is found out later."""
    try:
        return table.read_bytes() if table else None
    except OSError:
        return None


def names_there(names: Iterable[str]) -> str:
    """List a few names of runs, for a message about a name that matches none.

    Parameters
    ----------
    names : iterable of str
        Names of all runs, in any order.
    """
    return f"there: {first_few(sorted(names), 8) or 'none'}"


def _opened(files: Sequence[RunFiles]) -> tuple[RunFiles, ...]:
    """Give series of DICOM files the names under which they are replayed; refuse an acquisition that is given twice."""
    given_as: dict[object, Path] = {}
    named = []
    for run in files:
        if run.bold.is_dir():
            run_id, started_s = name_and_start(run.bold)
            run = replace(run, run_id=run_id)
            for key in (run_id, ("time", started_s)):
                if key != ("time", None) and (other := given_as.setdefault(key, run.bold)) != run.bold:
                    raise InputError(
                        f"{run.bold} and {other} are of one acquisition, as echoes, reconstructions or copies are; "
                        "give one of them"
                    )
        named.append(run)
    return tuple(named)


def _distinct_names(files: Sequence[Path]) -> list[str]:
    """Return each file's name without suffix, after as many of the folders above it as make all of them different."""
    parts = [[*path.resolve().parts[1:-1], path.name.split(".nii")[0].removesuffix("_bold")] for path in files]
    names = ["_".join(name) for name in _told_apart(parts)]
    # Without the suffix x.nii and x_bold.nii of one folder would have one name.
    return names if len(set(names)) == len(names) else ["_".join(name.split("/")) for name in _distinct(files)]


def _distinct(files: Sequence[Path]) -> list[str]:
    """Return each file's name, after as many of the folders above it as make all of them different."""
    return ["/".join(name) for name in _told_apart([list(path.resolve().parts[1:]) for path in files])]


def _told_apart(parts: Sequence[list[str]]) -> list[list[str]]:
    n = 1
    longest = max(map(len, parts), default=1)
    while n < longest and len({tuple(path_parts[-n:]) for path_parts in parts}) < len(parts):
        n += 1
    return [path_parts[-n:] for path_parts in parts]
