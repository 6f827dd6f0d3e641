"""Unsealing of a run's sealed file into the tables that an open run has."""

from __future__ import annotations

from pathlib import Path

from rtgod.errors import InputError
from rtgod.files import write_whole
from rtgod.tsv import read_tsv
from stimulus.blinding.sealed_tables import read_sealed_tables
from stimulus.paradigm.bids_events import EVENTS_SUFFIX, seconds
from stimulus.recording.run_files import FLIPS, ONSETS, SHOWN
from stimulus.tables import line_of

_ENDING = "_shown.sealed"
#: An event ends where the next begins if these times differ by no more than this, seconds.
_SAME_S = 1e-5


def open_tables(sealed: Path) -> list[Path]:
    """Write the tables of a sealed file beside it, and correct the onsets of the run's events.

    Parameters
    ----------
    sealed : Path
        The run's file …_shown.sealed; the tables' names begin as its own does.

    Returns
    -------
    list of Path
        Files that were written.

    Raises
    ------
    InputError
        If the sealed file or the events cannot be read or are damaged, or a table cannot be written.
    """
    tables = read_sealed_tables(sealed)
    stem = sealed.name.removesuffix(_ENDING).removesuffix(".sealed")
    written = []
    # The sealed table of flips replaces the open one, which has only the steps' rounded onsets.
    for table in (SHOWN, FLIPS):
        if table in tables:
            written.append(sealed.with_name(f"{stem}_{table}.tsv"))
            write_whole(written[-1], "".join(line_of(row) + "\n" for row in tables[table]))
    events = sealed.with_name(f"{stem}{EVENTS_SUFFIX}")
    if events.exists():
        exact: dict[str, float] = {}
        for planned, onset in tables.get(ONSETS, [])[1:]:
            exact.setdefault(planned, float(onset))
        write_whole(events, _corrected(events, exact))
        written.append(events)
    return written


def _corrected(path: Path, exact: dict[str, float]) -> str:
    """Return the events table with exact onsets, found by the planned ones; a second correction changes nothing."""
    try:
        table = read_tsv(path, what="an events table")
        rows = [[row.cells[column] for column in table.columns] for row in table.rows]
        onset, duration, planned = (table.columns.index(name) for name in ("onset", "duration", "planned_onset"))
        onsets_s = [float(row[onset]) for row in rows]
        ends_s = [begin_s + float(row[duration]) for begin_s, row in zip(onsets_s, rows, strict=True)]
        exact_s = [exact.get(row[planned], begin_s) for begin_s, row in zip(onsets_s, rows, strict=True)]
    except (InputError, KeyError, ValueError) as error:
        raise InputError(f"{path}: no events of a run that rtgod wrote ({error}); restore a copy") from error
    for place, row in enumerate(rows):
        end_s = ends_s[place]
        if place + 1 < len(rows) and abs(end_s - onsets_s[place + 1]) <= _SAME_S:
            end_s = exact_s[place + 1]
        row[onset], row[duration] = seconds(exact_s[place]), seconds(end_s - exact_s[place])
    return "".join(line_of(row) + "\n" for row in [table.columns, *rows])
