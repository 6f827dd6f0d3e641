"""`rtgod simulate`: a simulated subject to rehearse with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from calibration.commands.options import Scheduler, Workers, console, needs_calibration, progress
from rtgod.commands import options
from rtgod.commands.options import DryRun, ShowSettings
from rtgod.console import styled
from rtgod.errors import InputError


def simulate(
    out: Annotated[
        Path | None, typer.Argument(help="Folder to make; must not exist. Not for --show-settings or --dry-run.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same bytes; default 0.")] = None,
    settings: Annotated[Path | None, typer.Option(help="TOML file with the subject's settings.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="What the brain responds to: random:SEED, default (pretrained), or a file.")
    ] = None,
    test_runs: Annotated[int | None, typer.Option(min=0, help="How many; default 2.")] = None,
    imagery_runs: Annotated[int | None, typer.Option(min=0, help="How many; default 2.")] = None,
    other_categories: Annotated[
        int | None, typer.Option(min=0, help="Candidates that are never shown; default 900.")
    ] = None,
    show_settings: ShowSettings = False,
    dry_run: DryRun = False,
    n_workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Make a simulated subject: a BIDS data set to rehearse and plan with.

    Training, test and imagery runs in the layout of Horikawa & Kamitani (2017), with drawn objects as images, regions
    of visual cortex, head motion, drift, physiology and noise typical of 3 T, and the truth behind it all.
    """
    with needs_calibration():
        from calibration.simulation.dataset import planned
        from calibration.simulation.dataset import simulate as run_simulation
        from calibration.simulation.settings import SubjectSettings
    subject = SubjectSettings.from_toml(settings) if settings else SubjectSettings()
    given: dict[str, Any] = {"seed": seed, "weights": weights, "n_test_runs": test_runs, "n_imagery_runs": imagery_runs}
    if other_categories is not None:
        given["stimuli"] = subject.stimuli.model_copy(update={"n_other_categories": other_categories})
    subject = subject.model_copy(update={name: value for name, value in given.items() if value is not None})
    if show_settings:
        options.show_settings(subject)
        return
    if dry_run:
        for line in planned(subject):
            console.print(styled(line), soft_wrap=True)
        options.say_output(out, "the data set, a folder", (), overwrite=None, console=console)
        return
    if out is None:
        raise InputError("no folder to make; name one: rtgod simulate SUBJECT")
    with progress() as report:
        run_simulation(out, subject, n_workers, report, scheduler)
    content = f": subject {subject.subject}, seed {subject.seed}, network weights {subject.weights}"
    console.print(styled((out, "bold"), content), soft_wrap=True)
