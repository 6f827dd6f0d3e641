"""The figures of a report: each function makes one, from numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from rtgod.messages import Array, Float64Array, Motion

#: Okabe & Ito's colours, told apart by colour-blind readers.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
N_EXAMPLES = 6
_AXES = ("x", "y", "z")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, dpi=150)


def latency(stages: Mapping[str, Float64Array], total: Float64Array) -> Figure:
    """Median and 99th percentile of each stage, milliseconds."""
    figure = Figure(figsize=(7, 0.42 * (len(stages) + 1) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    rows = [*stages.items(), ("total", total)]
    for y, (name, values) in enumerate(rows):
        p50, p99 = np.percentile(values, (50, 99))
        colour = ORANGE if name == "total" else BLUE
        axes.barh(y, p50, color=colour, height=0.6)
        axes.plot([p50, p99], [y, y], color=colour, linewidth=1.5)
        axes.plot(p99, y, "|", color=colour, markersize=9)
        label = f"{_rounded(p50)} | {_rounded(p99)}"
        axes.annotate(label, (p99, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds a volume: median (bar, first number) | 99th percentile (line, second number)")
    _plain(axes)
    return figure


def ablation(names: Sequence[str], kinds: Mapping[str, Sequence[tuple[float, float, float]]]) -> Figure:
    """Accuracy with each step changed, beside the settings as they are; bars are 95 % intervals of the difference.

    Parameters
    ----------
    names : sequence of str
        Of the steps; the first is the settings as they are.
    kinds : mapping of str to sequence of (accuracy, difference, standard error)
        A panel for each.
    """
    figure = Figure(figsize=(3.2 + 3.2 * len(kinds), 0.3 * len(names) + 1.4), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, (kind, values) in zip(panels, kinds.items(), strict=True):
        usual = values[0][0]
        axes.axvline(100 * usual, color=GREY, linewidth=1)
        for y, (accuracy, _, error) in enumerate(values):
            colour = GREY if y == 0 else ORANGE if accuracy < usual else BLUE
            axes.errorbar(
                100 * accuracy, y, xerr=None if y == 0 else 196 * error, fmt="o", color=colour, capsize=2, markersize=5
            )
        axes.set_title(kind, fontsize=11)
        axes.set_xlabel("identification accuracy, %")
        _plain(axes)
    note = "bars: 95 % interval of the difference from the settings as they are, paired over trials"
    figure.supxlabel(note, fontsize=9)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    return figure


def ranks(by_kind: Mapping[str, Array], n_candidates: int) -> Figure:
    """Share of blocks whose true category is among the first k, against k."""
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    k = np.arange(1, n_candidates + 1)
    for (kind, values), colour in zip(by_kind.items(), (BLUE, ORANGE, GREEN), strict=False):
        share = np.searchsorted(np.sort(values), k, side="right") / len(values)
        axes.step(
            k, share, where="post", color=colour, linewidth=2, label=f"{kind.replace('_', ' ')}, {len(values)} blocks"
        )
    axes.plot(k, k / n_candidates, color=GREY, linestyle="--", label="chance")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_xlim(1, n_candidates)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(f"rank among {n_candidates} categories")
    axes.set_ylabel("share of blocks ranked this well or better")
    axes.legend(frameon=False)
    _plain(axes)
    return figure


def motion(
    courses: Sequence[tuple[str, float, Sequence[tuple[int, Motion]]]], reference: Float64Array | None
) -> Figure:
    """Head translation and rotation of each run over time, with a reference for the first run where there is one.

    Parameters
    ----------
    courses : sequence of (run_id, tr_s, sequence of (index, Motion))
    reference : ndarray of shape (n_volumes, 6), float64, or None
        Millimetres and degrees.
    """
    figure = Figure(figsize=(max(7.0, 3.6 * len(courses)), 5), layout="constrained")
    grid = figure.subplots(2, len(courses), sharex="col", sharey="row", squeeze=False)
    for column, (run_id, tr_s, course) in enumerate(courses):
        time_s = np.array([index for index, _ in course]) * tr_s
        for row, values in enumerate(
            (np.array([m.translation_mm for _, m in course]), np.array([m.rotation_deg for _, m in course]))
        ):
            axes = grid[row, column]
            for axis, colour in enumerate((BLUE, ORANGE, GREEN)):
                axes.plot(time_s, values[:, axis], color=colour, linewidth=1.4, label=_AXES[axis])
                if reference is not None and column == 0:
                    theirs = reference[:, 3 * row + axis]
                    label = "SPM" if axis == 2 else None
                    axes.plot(
                        np.arange(len(theirs)) * tr_s, theirs, color="black", linewidth=0.9, linestyle=":", label=label
                    )
            _plain(axes)
        grid[0, column].set_title(run_id.replace("_task", "\ntask"), fontsize=8)
        grid[1, column].set_xlabel("time (s)")
    grid[0, 0].set_ylabel("translation (mm)")
    grid[1, 0].set_ylabel("rotation (°)")
    grid[0, 0].legend(frameon=False, ncols=4, fontsize=9)
    return figure


def examples(rows: Sequence[tuple[str, Path, int, Sequence[tuple[str, Path, bool]]]]) -> Figure:
    """What was seen, and the categories that were ranked first, best first; the true one is framed.

    Parameters
    ----------
    rows : sequence of (name, image, rank, sequence of (name, image, is_true))
    """
    n_columns = 1 + max(len(pictures) for *_, pictures in rows)
    height = 2.05 * len(rows) + 0.3
    figure = Figure(figsize=(1.5 * n_columns, height))
    # Fixed margins: fitting so many captions takes seconds.
    margins = {"left": 0.01, "right": 0.99, "top": 1 - 0.27 / height, "bottom": 0.6 / height}
    grid = figure.subplots(len(rows), n_columns, squeeze=False, gridspec_kw=margins | {"hspace": 0.45, "wspace": 0.06})
    for axes_row, (name, image, rank, pictures) in zip(grid, rows, strict=True):
        _picture(axes_row[0], image, f"{name}\n(rank {rank})", None)
        for axes, (candidate, portrait, is_true) in zip(axes_row[1:], pictures, strict=False):
            _picture(axes, portrait, candidate, GREEN if is_true else None)
    grid[0, 0].set_title("seen", fontsize=11, fontweight="bold")
    for position, axes in enumerate(grid[0, 1:], start=1):
        axes.set_title(f"{position}.", fontsize=11)
    return figure


def _picture(axes: Axes, path: Path, caption: str, frame: str | None) -> None:
    with Image.open(path) as image:
        axes.imshow(np.asarray(image.convert("RGB")))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("\n".join(textwrap.fill(line, 22) for line in caption.split("\n")), fontsize=6.5, linespacing=0.95)
    for spine in axes.spines.values():
        spine.set(color=frame, linewidth=4, visible=frame is not None)


def _rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
