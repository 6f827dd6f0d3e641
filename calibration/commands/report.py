"""`rtgod report`: what a session's journal shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calibration.commands.options import console, needs_calibration
from rtgod.console import styled


def report(
    journal: Annotated[Path, typer.Argument(help="A journal that `rtgod serve` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for tables and figures; files of the same names are replaced.")],
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
) -> None:
    """Draw and tabulate a session: ranks of the true categories, latency by stage, head motion.

    Ranks need --bundle, and --dataset or --events: the server itself never knows what was shown. Runs of another
    subject, grid or repetition time are left out, and said.
    """
    with needs_calibration():
        from calibration.report import write_report
    write_report(journal, out, bundle, dataset, motion_reference, console, events or ())
    console.print(styled("written to ", (out, "bold"), ": summary.json, tables and figures"), soft_wrap=True)
