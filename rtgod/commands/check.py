"""The check of `rtgod watch --check`: a finished export is played as if it came now, and what was seen is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rtgod.commands.options import progress_bars
from rtgod.console import PlainConsole, styled

if TYPE_CHECKING:
    from rtgod.bundle import DecoderBundle
    from rtgod.receivers.run_options import RunOptions


def check_export(folder: Path, options: RunOptions, page: Path | None, bundle: DecoderBundle | None) -> None:
    """Print, and write as HTML, what is to be known of a folder before a scan.

    Parameters
    ----------
    folder : Path
        A finished export.
    options : RunOptions
        As for watching.
    page : Path or None
        HTML file to write, if any.
    bundle : DecoderBundle or None
        Bundle to compare runs with, if any.

    Raises
    ------
    InputError
        If the folder holds no DICOM file.
    typer.Exit
        With code 1, if something is to be settled before a scan.
    """
    from rtgod.files import write_whole
    from rtgod.inspection.listing import listed
    from rtgod.inspection.page import page_of
    from rtgod.inspection.playback import played
    from rtgod.inspection.report import report_of, with_fits
    from rtgod.inspection.terminal import rendered

    listing = listed(folder)
    with progress_bars(transient=True) as bars:
        task = bars.add_task("reading files", total=len(listing.files))
        playback = played(listing, options, lambda n_read: bars.update(task, completed=n_read))
    report = report_of(playback, listing.times)
    if bundle is not None:
        from rtgod.inspection.comparison import compared

        report = with_fits(report, [compared(run, bundle) for run in report.runs])
    console = PlainConsole()
    console.print(rendered(report))
    if page is not None:
        write_whole(page, page_of(report))
        console.print()
        console.print(styled(f"as a page: {page}"), soft_wrap=True)
    if not report.is_fit:
        raise typer.Exit(1)
