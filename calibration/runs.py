"""Recorded runs and the tables of their events, wherever they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.images import first_few
from rtgod.errors import InputError
from rtgod.events import Trial, read_events
from rtgod.settings import EventsSettings
from rtgod.sources import Source, open_source
from rtgod.sources.nifti import find_events
from rtgod.trials import TrialsRead

_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True, slots=True)
class RunFiles:
    """A recorded run and the table of its events.

    Attributes
    ----------
    bold : Path
        NIfTI file or folder of mosaics.
    events : Path
    run_id : str or None
        Where the file's name does not tell runs apart.
    tr_s : float or None
        Repetition time, seconds, used where the files do not give one.
    """

    bold: Path
    events: Path
    run_id: str | None = None
    tr_s: float | None = None

    @property
    def name(self) -> str:
        """What tells it from other runs."""
        return self.run_id or self.bold.name

    def open(self, settings: EventsSettings | None = None) -> Source:
        """The run and its volumes; its blocks are its trials."""
        return open_source(self.bold, events=self.events, reading=settings, run_id=self.run_id, tr_s=self.tr_s)

    def read(self, settings: EventsSettings) -> TrialsRead:
        """What is in the table, with the trials after the run's end counted."""
        read = self.open(settings).read
        return read_events(self.events, settings) if read is None else read

    def trials(self, settings: EventsSettings) -> tuple[Trial, ...]:
        """What was shown or imagined.

        Raises
        ------
        InputError
            If the table cannot be read, or says of a trial neither.
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
    """Runs that were looked for.

    Attributes
    ----------
    runs : tuple of RunFiles
        At least one.
    missing : tuple of str
        Runs that are left out, each with its reason.
    """

    runs: tuple[RunFiles, ...]
    missing: tuple[str, ...] = ()


def find_plain_runs(
    paths: Sequence[Path], events: Sequence[Path] = (), pattern: str = "", tr_s: float | None = None
) -> FoundRuns:
    """Runs that lie in no BIDS data set: NIfTI files, each with a table of events.

    Parameters
    ----------
    paths : sequence of Path
        4-D NIfTI files; or folders, of which every NIfTI file is taken that has "bold" in its name and events beside.
    events : sequence of Path
        The table of each of the files; without any, those that lie beside: `X_events.tsv` for `X_bold.nii.gz`, or one
        `events.tsv`.
    pattern : str
        Of the files in folders, only those whose name contains it.
    tr_s : float or None
        Repetition time, seconds, for files that give none.

    Returns
    -------
    FoundRuns
        In the order given. Runs are called as their files, with as many folders before as tell them apart.

    Raises
    ------
    InputError
        If there are none, a file that is given is missing or has no events, or one is given twice.
    """
    files: list[Path] = []
    missing: list[str] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = [p for p in sorted(path.rglob("*bold*")) if p.name.endswith(_SUFFIXES) and pattern in p.name]
        for image in inside:
            if find_events(image):
                files.append(image)
            else:
                missing.append(f"{image.relative_to(path)}: images, but no events")
    if not files:
        where = ", ".join(map(str, paths)) or "no path"
        why = f" ({first_few(missing)})" if missing else f" with {pattern!r} in its name" if pattern else ""
        raise InputError(f"{where}: no run{why}; give the root of a BIDS data set, or NIfTI files with their events")
    if absent := [path for path in files if not path.is_file()]:
        raise InputError(
            f"{absent[0]}: no such file or folder; give the root of a BIDS data set, or NIfTI files with their events"
        )
    if repeated := [path for path, n in Counter(path.resolve() for path in files).items() if n > 1]:
        raise InputError(f"{repeated[0]}: given twice; give each run once")
    if events and len(events) != len(files):
        raise InputError(f"{len(events)} tables of events for {len(files)} runs; give --events once for each, in order")
    tables: Sequence[Path | None] = events or [find_events(path) for path in files]
    if without := [path for path, table in zip(files, tables, strict=True) if table is None]:
        raise InputError(
            f"{without[0]}: no events beside it; put a table there, or give one for each run with --events"
        )
    named = zip(files, tables, _distinct_names(files), strict=True)
    runs = tuple(RunFiles(path, table, name, tr_s) for path, table, name in named if table is not None)
    return FoundRuns(runs, tuple(missing))


def _distinct_names(files: Sequence[Path]) -> list[str]:
    """Each file's name without suffix, after as many of the folders above it as make all of them different."""
    parts = [[*path.resolve().parts[1:-1], path.name.split(".nii")[0].removesuffix("_bold")] for path in files]
    n = 1
    while len({tuple(one[-n:]) for one in parts}) < len(parts):
        n += 1
    return ["_".join(one[-n:]) for one in parts]
