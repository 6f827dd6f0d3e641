"""The commands `rtgod journal ls`, `verify`, `export` and `shift-dates`: what journals hold, and copies to share.

Modules that take long to import are imported when a command runs, so that the other commands start quickly.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from rtgod.commands.options import DryRun, needed_out, say_output
from rtgod.console import PlainConsole, styled
from rtgod.errors import JournalError
from rtgod.text import number_of, plain

if TYPE_CHECKING:
    from rtgod.journal.summary import JournalSummary, RunSummary

journal = typer.Typer(help="Journals of sessions: all that came in, and what was answered.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="A journal (.rtgod).")]

_SESSION_COLUMNS = ("journal", "written", "MB", "session", "events", "subject")
_RUN_COLUMNS = ("run", "taken", "answered", "lost", "rankings", "end")


@journal.command("ls")
def ls(
    folder: Annotated[
        Path, typer.Argument(metavar="PATH", help="A folder, as for `rtgod serve --journal`, or one journal.")
    ] = Path("journals"),
) -> None:
    """List the journals of a folder, the newest last, with a line for each run. No checksum is compared."""
    from rtgod.journal.journal import SUFFIX, journals, read_headers
    from rtgod.journal.summary import account

    if not folder.exists():
        raise JournalError(
            f"{folder}: no such folder or journal; give the folder that `rtgod serve --journal` was given"
        )
    paths = journals(folder) if folder.is_dir() else [folder]
    if not paths:
        print(f"{plain(folder)}: holds no journal (*{SUFFIX})", file=sys.stderr)
        return
    table = Table(*_SESSION_COLUMNS, *_RUN_COLUMNS, box=None, padding=(0, 2, 0, 0))
    for path in paths:
        try:
            summary = account(read_headers(path))
        except JournalError as error:
            if path is folder:
                raise
            print(plain(error), file=sys.stderr)
            continue
        session = _session_cells(path, summary)
        for run in [_run_cells(run) for run in summary.runs.values()] or [["none"]]:
            table.add_row(*map(styled, [*session, *run]))
            session = [""] * len(session)
    PlainConsole(is_table=True).print(table)


@journal.command("verify")
def verify(path: File) -> None:
    """Compare every checksum, and look for volumes that were not answered exactly once.

    The exit code is 2 if something is wrong. A torn tail is not: the server cuts it off when it goes on.
    """
    from rtgod.journal.journal import check_records, read_headers
    from rtgod.journal.summary import account, spans

    # Take the size before reading: a server may append to the journal meanwhile.
    size = path.stat().st_size if path.is_file() else 0
    end, problems = check_records(path)
    summary = account(read_headers(path))
    print(f"{plain(path)}: {end / 1e6:.1f} MB, every checksum is right; {_state(summary)}")
    if size > end:
        print(f"torn tail of {size - end} bytes: a record that was being written and was not acknowledged")
    for run in summary.runs.values():
        print(
            f"run {plain(run.run_id)}: {number_of(len(run.taken), 'volume')} taken, lost: {spans(run.lost) or 'none'}"
        )
        if run.owed and not summary.ended:
            print(f"run {plain(run.run_id)}: volumes {spans(run.owed)} will be answered when the server goes on")
    problems += summary.problems
    for problem in problems:
        print(f"wrong: {plain(problem)}")
    if problems:
        raise typer.Exit(2)


@journal.command("export")
def export(
    path: File,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to make; it must not exist. Not for --dry-run.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Write each run as NIfTI, with tables of its trials, answers and head motion, and the clients' events."""
    from rtgod.journal.export import export_journal
    from rtgod.journal.journal import read_headers
    from rtgod.journal.summary import account

    if dry_run:
        console = PlainConsole()
        summary = account(read_headers(path))
        for run in summary.runs.values():
            counts = f"{number_of(len(run.taken), 'volume')}, {len(run.lost)} lost, as zeros"
            console.print(styled((run.run_id, "bold"), f": {counts}; {len(run.answered)} answered"), soft_wrap=True)
        events = number_of(summary.n_events, "client's event")
        say_output(out, f"NIfTI files and tables of these runs, and {events}", (), overwrite=None, console=console)
        return
    out = needed_out(out)
    names = export_journal(path, out)
    print(f"{plain(out)}: {', '.join(names) or 'no run, the journal holds none'}")


@journal.command("shift-dates")
def shift_dates(
    path: File,
    out: Annotated[Path, typer.Option("--out", help="Journal to make (.rtgod), in another folder.")],
    by: Annotated[
        str,
        typer.Option(
            "--by", help="Days to add (-400), the day that the first becomes (1925-01-01), or the word random."
        ),
    ] = "1925-01-01",
) -> None:
    """Copy a journal with all of its dates moved by the same number of days, to share it.

    Times of day and all intervals stay. The copy replays to the same rankings, and can be exported and reported as the
    journal can; it holds no true date. What people wrote into events, and labels, are as before: look through them. The
    name of the journal, which is the time when it began, is not in the copy: choose one without a date.
    """
    from rtgod.journal.dates import copy_with_other_dates

    days = copy_with_other_dates(path, out, by)
    number = "a random number of days" if by == "random" else number_of(abs(days), "day")
    print(f"{plain(out)}: all dates are {number} {'earlier' if days < 0 else 'later'}; no interval is another")


def _session_cells(path: Path, summary: JournalSummary) -> list[str]:
    stat = path.stat()
    written = f"{datetime.fromtimestamp(stat.st_mtime).astimezone():%Y-%m-%d %H:%M}"
    subjects = ", ".join(dict.fromkeys(run.subject for run in summary.runs.values()))
    return [path.name, written, f"{stat.st_size / 1e6:.1f}", _state(summary), str(summary.n_events), subjects]


def _state(summary: JournalSummary) -> str:
    again = f", started {summary.n_starts} times" if summary.n_starts > 1 else ""
    return ("ended" if summary.ended else "not ended") + again


def _run_cells(run: RunSummary) -> list[str]:
    taken = str(len(run.taken)) + (f" of {run.n_planned}" if run.n_planned else "")
    end = "not ended" if run.n_ended is None else f"after {run.n_ended}"
    return [run.run_id, taken, str(len(run.answered)), str(len(run.lost)), str(run.n_rankings), end]
