"""`rtgod report`: report on a session's journal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calibration.commands.options import console, needs_calibration
from rtgod.bundle import settings_of
from rtgod.commands import options
from rtgod.commands.options import DryRun, Overwrite, ShowSettings
from rtgod.console import styled
from rtgod.errors import InputError


def report(
    journal: Annotated[Path, typer.Argument(help="A journal that `rtgod serve` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for tables and figures; must hold no other report, or see --overwrite. Not for --dry-run."
        ),
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="The session's bundle: names and images of candidates.")] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="BIDS data set with the runs' events, for what was true.")
    ] = None,
    events: Annotated[
        list[Path] | None,
        typer.Option(
            help="Events table of a run in no data set, repeatable: named RUN_events.tsv, or one for each run, in "
            "the journal's order."
        ),
    ] = None,
    motion_reference: Annotated[
        Path | None, typer.Option(help="Motion estimates of the first run by SPM, to draw beside ours.")
    ] = None,
    show_settings: ShowSettings = False,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> None:
    """Draw and tabulate a session: ranks of the true categories, latency by stage, head motion.

    Ranks need --bundle, and --dataset or --events: the server itself never knows what was shown. Runs of another
    subject, grid or repetition time are left out, and said. The settings are the bundle's.
    """
    if show_settings:
        if bundle is None:
            raise InputError("the settings of a report are its bundle's; give it with --bundle")
        options.show_settings(settings_of(bundle))
        return
    with needs_calibration():
        from calibration.reports.session_report import FILES, plan_report, write_report
    if dry_run:
        plan_report(journal, bundle, dataset, console, events or ())
        content = "summary.json, tables and figures"
        options.say_output(out, content, FILES, overwrite=overwrite, console=console)
        return
    out = options.needed_out(out)
    options.check_new(out, FILES, overwrite=overwrite)
    write_report(journal, out, bundle, dataset, motion_reference, console, events or ())
    console.print(styled("written to ", (out, "bold"), ": summary.json, tables and figures"), soft_wrap=True)
