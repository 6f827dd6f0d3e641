"""Report of an ablation of preprocessing steps: a table, a figure, and lines in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from calibration.evaluation.ablation import AblationStep, paired_difference
from calibration.reports import figures
from calibration.reports.tables import write_tsv
from rtgod.console import styled

#: Names of the files that `write_ablation` writes.
FILES = ("ablation.tsv", "ablation.png")


def write_ablation(steps: Sequence[AblationStep], out: Path, console: Console) -> None:
    """Write the steps as a table and a figure, see `FILES`, and print them.

    Parameters
    ----------
    steps : sequence of AblationStep
        The first is the settings as they are, with which the others are compared.
    out : Path
        Folder, which is made if it does not exist.
    console : Console
    """
    out.mkdir(parents=True, exist_ok=True)
    # A step that censors all trials of a kind has no accuracy of that kind.
    kinds = list(dict.fromkeys(kind for step in steps for kind in step.accuracies))
    header = ["step"]
    for kind in kinds:
        header += [f"{kind}_accuracy", f"{kind}_difference", f"{kind}_low", f"{kind}_high", f"{kind}_blocks"]
    table = Table(title="Pairwise identification accuracy of new runs", title_justify="left")
    table.add_column("step")
    for kind in kinds:
        table.add_column(styled(f"{kind}, %"), justify="right")
        table.add_column("difference, 95 % interval", justify="right")
    rows: list[list[object]] = []
    drawn: dict[str, list[tuple[float, float, float, float]]] = {}
    for step in steps:
        cells: list[object] = [step.name]
        texts = [step.name]
        for kind in kinds:
            trials = step.accuracies.get(kind, {})
            accuracy = sum(trials.values()) / len(trials) if trials else math.nan
            difference, low, high = paired_difference(
                trials, steps[0].accuracies.get(kind, {}), new=kind in steps[0].new | step.new
            )
            cells += [accuracy, difference, low, high, len(trials)]
            bounds = _or_none(low, f" ({100 * low:+.1f} to {100 * high:+.1f})")
            change = "" if step is steps[0] else _or_none(difference, f"{100 * difference:+.1f}{bounds}")
            texts += [_or_none(accuracy, f"{100 * accuracy:.1f}"), change]
            drawn.setdefault(kind, []).append((accuracy, difference, low, high))
        rows.append(cells)
        table.add_row(*map(styled, texts), style="bold" if step is steps[0] else "")
    write_tsv(out / FILES[0], header, rows)
    figures.save(figures.ablation([step.name for step in steps], drawn), out / FILES[1])
    console.print(table)
    console.print(
        "Differences are paired over trials, and their intervals are over categories (over trials, of fewer than six "
        "that the decoder was trained on); chance is 50 %."
    )


def _or_none(number: float, text: str) -> str:
    return "–" if math.isnan(number) else text
