"""A plan as tables and notes in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from calibration.datasets.bids import HEAD
from calibration.features.images import first_few
from calibration.samples.study import KINDS
from calibration.training.dry_run import Plan
from calibration.training.planned_runs import PlannedRun
from rtgod.console import styled
from rtgod.events.table import Trial
from rtgod.events.trials import TrialsRead, remarks_on
from rtgod.text import times

#: Categories that a table lists.
_MOST_CATEGORIES = 12


def print_plan(plan: Plan, console: Console) -> None:
    """Print tables of the inputs, and notes on the events' other rows; `Plan.check` raises the problems.

    Parameters
    ----------
    plan : Plan
    console : Console
    """
    if plan.split is None:
        console.print(_table_of_runs(plan.runs), _of_a_calibration(plan))
    else:
        console.print("Trained on:" if plan.test else f"Trained and tested on, split by {plan.split}:")
        console.print(_table_of_runs(plan.runs))
        if plan.test:
            console.print("Tested on:", _table_of_runs(plan.test))
        console.print(_of_an_evaluation(plan))
    print_events(plan.reads, console)
    print_notes(plan.notes, console)


def print_notes(notes: Sequence[str], console: Console) -> None:
    """Print notes on the runs, a line each.

    Parameters
    ----------
    notes : sequence of str
    console : Console
    """
    for note in notes:
        console.print(styled(("note", "yellow"), f" {note}"), soft_wrap=True)


def print_events(reads: Sequence[TrialsRead], console: Console) -> None:
    """Print notes on the events' rows that are no ordinary trials, a line each.

    Parameters
    ----------
    reads : sequence of TrialsRead
    console : Console
    """
    for line in remarks_on(reads):
        console.print(styled(("events", "yellow"), f" {line}"), soft_wrap=True)


def in_categories(trials: Sequence[Trial]) -> str:
    """Write how many trials each category has: "of 2 categories: 8 face, 8 house"; of many, the first few.

    Parameters
    ----------
    trials : sequence of Trial
    """
    counts = Counter(trial.category for trial in trials)
    listed = [f"{n} {category or 'unnamed'}" for category, n in counts.items()]
    more = ", …" if len(listed) > _MOST_CATEGORIES else ""
    what = "category" if len(counts) == 1 else "categories"
    return f"of {len(counts)} {what}: {', '.join(listed[:_MOST_CATEGORIES])}{more}"


def _table_of_runs(runs: Sequence[PlannedRun]) -> Table:
    """Make a table of runs with their trials, and the numbers of events' rows that are not trials."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("run", overflow="fold")
    some_beyond = any(planned.read and planned.read.n_beyond for planned in runs)
    for column in ("volumes", "trials", "repeats", *(["after its end"] if some_beyond else []), "no trials"):
        table.add_column(column, justify="right")
    for planned in runs:
        run, read = planned.run, planned.read
        table.add_row(
            styled(run.run_id.removeprefix(f"sub-{run.subject}_")),
            "?" if run.n_volumes is None else str(run.n_volumes),
            str(len(planned.trained_on)),
            str(sum(trial.repeat for trial in planned.trials)),
            *([str(read.n_beyond if read else 0)] if some_beyond else []),
            str(read.n_left_out if read else 0),
        )
    return table


def _of_a_calibration(plan: Plan) -> Table:
    table = _empty_table()
    grids = Counter((planned.run.shape, planned.run.tr_s) for planned in plan.runs)
    for (shape, tr_s), n_runs in grids.items():
        table.add_row("runs", str(n_runs), f"{times(shape)} voxels, TR {tr_s:g} s")
    trials = [trial for planned in plan.runs for trial in planned.trained_on]
    table.add_row("trials", str(len(trials)), styled(in_categories(trials)))
    if not plan.plain:
        n_found = len(plan.shown.names) - len(plan.shown.missing)
        table.add_row(
            "images shown", str(len(plan.shown.names)), f"{n_found} with a file, {len(plan.shown.missing)} without"
        )
    if plan.shown.n_others:
        table.add_row("other images", str(plan.shown.n_others), "not shown in these runs")
    for name, n_voxels in plan.n_voxels.items():
        table.add_row("voxels" if name == plan.region else "voxels of part", str(n_voxels), styled(name))
    if not plan.n_voxels:
        table.add_row("voxels", "?", "the head's" if plan.region == HEAD else "")
    n_images = sum(plan.candidates.values())
    remark = "the categories themselves" if plan.plain else f"{n_images} images" if n_images else ""
    table.add_row("candidates", str(len(plan.candidates)), remark)
    if plan.candidates and plan.not_ranked:
        only = styled(f"trained on only: {first_few(plan.not_ranked, 3)}")
        table.add_row("not candidates", str(len(plan.not_ranked)), only)
    return table


def _of_an_evaluation(plan: Plan) -> Table:
    table = _empty_table()
    for what, runs in (("training runs", plan.runs), ("test runs", plan.test)):
        grids = dict.fromkeys((planned.run.shape, planned.run.tr_s) for planned in runs)
        remarks = "; ".join(f"{times(shape)} voxels, TR {tr_s:g} s" for shape, tr_s in grids)
        if runs:
            table.add_row(what, str(len(runs)), remarks)
        for name, kind in KINDS.items():
            trials = [trial for planned in runs for trial in planned.trained_on if trial.kind == kind]
            if trials:
                table.add_row(f"{what[: -len(' runs')]} trials {name}", str(len(trials)), styled(in_categories(trials)))
    for name, n_voxels in plan.n_voxels.items():
        table.add_row("voxels", str(n_voxels), styled(name))
    if not plan.n_voxels:
        table.add_row("voxels", "?", "the head's")
    if plan.plain:
        table.add_row("categories", str(len(plan.candidates)), styled(first_few(list(plan.candidates))))
    else:
        n_images = sum(plan.candidates.values())
        table.add_row("candidates", str(len(plan.candidates)), f"{n_images} images" if n_images else "")
    return table


def _empty_table() -> Table:
    table = Table(box=SIMPLE_HEAD, show_header=False)
    table.add_column("what")
    table.add_column("how much", justify="right")
    table.add_column("remarks")
    return table
