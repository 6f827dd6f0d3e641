"""`rtgod scan`: scan a simulated subject again, with a schedule of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calibration.commands.options import console, needs_calibration, progress
from rtgod.commands import options
from rtgod.commands.options import DryRun
from rtgod.console import styled
from rtgod.errors import InputError

_STRONGEST = 100.0


def scan(
    subject: Annotated[Path, typer.Argument(help="Folder that `rtgod simulate` made.")],
    events: Annotated[
        Path,
        typer.Argument(
            help="BIDS events.tsv with what is seen (the subject's images, or a category alone) and imagined "
            "(any of its categories, by id or name)."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="RUN_bold.nii.gz",
            help="The run to write, such as sub-01_task-imagery_bold.nii.gz; RUN_events.tsv comes to lie beside it.",
        ),
    ],
    strength: Annotated[
        str,
        typer.Option(
            metavar="STRENGTH",
            help="Of imagery, where 1 is vivid: a number, or FIRST:LAST for one that rises or falls from the first "
            "imagery trial to the last. Ratings in EVENTS have no influence.",
        ),
    ] = "1",
    n_volumes: Annotated[
        int | None, typer.Option(min=1, help="Default until the end of the last row in EVENTS.")
    ] = None,
    tr: Annotated[float | None, typer.Option(help="Repetition time, seconds; default 3.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of this run's noise and head motion.")] = 0,
    dry_run: DryRun = False,
) -> None:
    """Scan a simulated subject again, with any schedule.

    To rehearse a session before there is a participant: write the schedule, scan it, then `rtgod replay` the run.
    """
    with needs_calibration():
        from calibration.simulation.rescan import plan_scan, rescan
        from calibration.simulation.schedule import TR_S
    from rtgod.sources import checked_tr_s

    tr_s = TR_S if tr is None else checked_tr_s(tr, "--tr")
    strengths = parse_strength(strength)
    planned = plan_scan(subject, events, out, n_volumes, tr_s)
    for line in planned.remarks:
        console.print(styled(("events", "yellow"), f" {line}"), soft_wrap=True)
    if dry_run:
        seen, imagined = (sum(trial.kind == kind for trial in planned.trials) for kind in ("stimulus", "imagery"))
        console.print(styled((events, "bold"), f": {seen} trials seen, {imagined} imagined"), soft_wrap=True)
        content = f"{planned.n_volumes} volumes, TR {tr_s:g} s, with sidecar and events table beside them"
        options.say_output(out, content, (), overwrite=None, console=console)
        return
    with progress() as report:
        n_written = rescan(subject, events, out, strengths, n_volumes, tr_s, seed, report, planned)
    console.print(styled((out, "bold"), f": {n_written} volumes, TR {tr_s:g} s"), soft_wrap=True)


def parse_strength(text: str) -> tuple[float, float]:
    """Parse the strengths of the first and the last imagery trial.

    Raises
    ------
    InputError
        If `text` is neither a number nor two, or a number is out of range.
    """
    first, _, last = text.partition(":")
    try:
        strengths = float(first), float(last if ":" in text else first)
    except ValueError:
        strengths = (-1.0, -1.0)
    if not all(0 <= value <= _STRONGEST for value in strengths):
        raise InputError(
            f"--strength {text}: write a number from 0 to {_STRONGEST:g}, or two as FIRST:LAST, for example 0.25:1.5"
        )
    return strengths
