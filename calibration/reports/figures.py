"""Figures of a report; each function makes one from numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unicodedata import east_asian_width

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from calibration.metrics.statistics import wilson
from calibration.reports.lettering import lettered
from rtgod.messages import Array, Float64Array, Motion
from rtgod.pictures.pixels import read_picture
from rtgod.text import figure_text, number_of, plain

_T = TypeVar("_T")

#: Okabe & Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
_KIND_COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7")
_KIND_MARKERS = ("o", "s", "^", "D")
#: Colours of layers from low to high: even steps of lightness, without the yellow that is lost on white paper.
_LAYER_COLOURS = colormaps["viridis"]
#: Figures are as wide as one column of a journal, or two, in inches; text in points is then as large as it is printed.
_COLUMN, _PAGE = 3.5, 7.1
_SMALL, _TEXT = 7, 8
#: Font size, in points, of the page's body, where an inch has 120 pixels and letters 16; maximum lines of a picture's
#: name.
_BODY, _CAPTION_LINES = 9.6, 5
_MIDDLE: dict[str, Any] = {"marker": "v", "markersize": 6, "markeredgecolor": "black", "markeredgewidth": 0.5}
N_EXAMPLES = 6
#: Maximum number of candidates for axes that are not logarithmic.
_FEW_CANDIDATES = 12
_AXES = ("x", "y", "z")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG.

    Parameters
    ----------
    figure : Figure
    path : Path
    """
    with lettered(figure):
        figure.savefig(path, dpi=150)


def latency(stages: Mapping[str, Float64Array], total: Float64Array) -> Figure:
    """Draw median and 99th percentile of each stage.

    Parameters
    ----------
    stages : mapping of str to ndarray of shape (n_volumes_of_stage,), float64
        Milliseconds that each stage took, for the volumes that it handled.
    total : ndarray of shape (n_volumes,), float64
        Milliseconds that all stages of each volume took together.
    """
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


def ablation(names: Sequence[str], kinds: Mapping[str, Sequence[tuple[float, float, float, float]]]) -> Figure:
    """Draw the difference that each step makes to accuracy, with its 95 % interval, and print the accuracy beside.

    Parameters
    ----------
    names : sequence of str
        Names of the steps; the first is the unchanged settings.
    kinds : mapping of str to sequence of (accuracy, difference, low, high)
        Values of each kind, which is drawn in a panel of its own.
    """
    figure = Figure(figsize=(3.2 + 3.2 * len(kinds), 0.3 * len(names) + 1.4), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, (kind, values) in zip(panels, kinds.items(), strict=True):
        axes.axvline(0, color=GREY, linewidth=1)
        for y, (accuracy, *difference) in enumerate(values):
            middle, low, high = 100 * np.array(difference if y else (0.0, 0.0, 0.0))
            colour = ORANGE if middle < 0 else BLUE if middle > 0 else GREY
            axes.plot([low, high], [y, y], color=colour, linewidth=1.4)
            axes.plot(middle, y, "o", color=colour, markersize=5)
            if not np.isnan(accuracy):
                beside = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": _SMALL, "color": colour}
                axes.annotate(f"{100 * accuracy:.1f} %", (1.02, y), annotation_clip=False, **beside)
        axes.set_title(kind, fontsize=11)
        axes.set_xlabel("difference of identification accuracy,\npercentage points")
        _plain(axes)
    note = "bars: 95 % interval of the difference from the settings as they are, paired over trials"
    figure.supxlabel(note, fontsize=9)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    return figure


def ranks(by_kind: Mapping[str, Array], n_candidates: int) -> Figure:
    """Draw the share of blocks whose true category is among the first k, against k.

    Parameters
    ----------
    by_kind : mapping of str to ndarray of shape (n_blocks,), int
        Rank of each block's true category, from 1; only the first three kinds are drawn.
    n_candidates : int
    """
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    k, few = np.arange(1, n_candidates + 1), n_candidates <= _FEW_CANDIDATES
    for (kind, values), colour in zip(by_kind.items(), (BLUE, ORANGE, GREEN), strict=False):
        share = np.searchsorted(np.sort(values), k, side="right") / len(values)
        label = f"{kind.replace('_', ' ')}, {number_of(len(values), 'block')}"
        if few:
            axes.plot(k, share, color=colour, linewidth=2, marker="o", label=label)
        else:
            axes.step(k, share, where="post", color=colour, linewidth=2, label=label)
    axes.plot(k, k / n_candidates, color=GREY, linestyle="--", marker="o" if few else "", label="chance")
    if few:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.set_xscale("log")
    if not few and n_candidates < 100:  # between the powers of ten, too
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(*((0.9, n_candidates + 0.1) if few else (1, n_candidates)))
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(f"rank among {n_candidates} categories")
    axes.set_ylabel("share of blocks ranked this well or better")
    axes.legend(frameon=False)
    _plain(axes)
    return figure


@dataclass(frozen=True, slots=True)
class RunMarks:
    """Marks along the course of a run.

    Attributes
    ----------
    trials_s : sequence of (start, end)
        Start and end of each trial, in seconds.
    censored, lost : sequence of int
        Indices of volumes.
    """

    trials_s: Sequence[tuple[float, float]] = ()
    censored: Sequence[int] = ()
    lost: Sequence[int] = ()


def motion(
    courses: Sequence[tuple[str, float, Sequence[tuple[int, Motion]]]],
    reference: Float64Array | None,
    marks: Mapping[str, RunMarks] | None = None,
    limit_mm: float | None = None,
) -> Figure:
    """Draw head translation, rotation and framewise displacement of each run over time.

    Parameters
    ----------
    courses : sequence of (run_id, tr_s, sequence of (index, Motion))
    reference : ndarray of shape (n_volumes, 6), float64, or None
        Millimetres and degrees, drawn over the first run's.
    marks : mapping of run_id to RunMarks, optional
        Trials are shaded; censored and lost volumes are marked.
    limit_mm : float, optional
        Framewise displacement above which volumes are censored, in mm.
    """
    figure = Figure(figsize=(max(7.0, 3.6 * len(courses)), 6.6), layout=ConstrainedLayoutEngine(h_pad=0.12))
    grid = figure.subplots(3, len(courses), sharex="col", sharey="row", squeeze=False, height_ratios=[1, 1, 0.8])
    for column, (run_id, tr_s, course) in enumerate(courses):
        time_s = np.array([index for index, _ in course]) * tr_s
        run_marks = (marks or {}).get(run_id, RunMarks())
        for row, values in enumerate(
            (np.array([m.translation_mm for _, m in course]), np.array([m.rotation_deg for _, m in course]))
        ):
            axes = grid[row, column]
            for axis, colour in enumerate((BLUE, ORANGE, GREEN)):
                axes.plot(time_s, values[:, axis], color=colour, linewidth=1.4, label=_AXES[axis])
                if reference is not None and column == 0:
                    spm = reference[:, 3 * row + axis]
                    label = "SPM" if axis == 2 else None
                    axes.plot(np.arange(len(spm)) * tr_s, spm, color="black", linewidth=0.9, linestyle=":", label=label)
        moved = grid[2, column]
        displacement = np.array([m.framewise_displacement_mm for _, m in course])
        moved.plot(time_s, displacement, color="black", linewidth=1.0, label="framewise displacement")
        if limit_mm is not None:
            moved.axhline(limit_mm, color=GREY, linestyle="--", linewidth=1, label=f"limit, {limit_mm:g} mm")
        displacement_at = dict(zip(time_s.tolist(), displacement.tolist(), strict=True))
        for name, indices, marker in (("censored", run_marks.censored, "x"), ("lost", run_marks.lost, "o")):
            at_s = [index * tr_s for index in indices]
            heights = [displacement_at.get(time, 0.0) for time in at_s]
            moved.plot(at_s, heights, marker, color=ORANGE, markersize=6, fillstyle="none", label=name)
        for axes in grid[:, column]:
            for start_s, end_s in run_marks.trials_s:
                axes.axvspan(start_s, end_s, facecolor="#DDE6EE", edgecolor="white", linewidth=0.5, zorder=0)
            for index in run_marks.censored:
                axes.axvline(index * tr_s, color=ORANGE, linewidth=0.6, alpha=0.6, zorder=0)
            _plain(axes)
        counted = (
            f"{number_of(len(run_marks.trials_s), 'trial')} (shaded), {len(run_marks.censored)} censored, "
            f"{len(run_marks.lost)} lost"
        )
        counts = f"\n{counted}" if marks else ""
        grid[0, column].set_title(figure_text(plain(run_id).replace("_task", "\ntask")) + counts, fontsize=8)
        grid[2, column].set_xlabel("time (s)")
    grid[0, 0].set_ylabel("translation (mm)")
    grid[1, 0].set_ylabel("rotation (°)")
    grid[2, 0].set_ylabel("displacement (mm)")
    grid[2, 0].set_ylim(bottom=0)
    for axes in (grid[1, 0], grid[2, 0]):
        above = axes.legend(
            frameon=False, ncols=4, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0
        )
        above.set_in_layout(False)  # wider than its column, which has room beside it
    return figure


def confusion(counts: Array, names: Sequence[str]) -> Figure:
    """Draw the number of blocks for each true category and category ranked first; the diagonal is right.

    Parameters
    ----------
    counts : ndarray of shape (n_categories, n_categories), int
        A row for each true category.
    names : sequence of str
    """
    n = len(names)
    # Long names often differ only at their ends.
    short = [
        figure_text(name if len(name) <= 28 else f"{name[:12].rstrip()} … {name[-13:].lstrip()}")
        for name in map(plain, names)
    ]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(1.7, 0.24 * n)
    margin = 0.065 * max(map(len, short)) + 0.4
    figure = Figure(figsize=(side + margin + 0.9, side + margin + 0.2), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=_SMALL, color=colour)
    axes.set_xticks(range(n), short, rotation=90)
    axes.set_yticks(range(n), [f"{name} ({total})" for name, total in zip(short, counts.sum(axis=1), strict=True)])
    axes.set_xlabel("ranked first")
    axes.set_ylabel("true category (blocks)")
    bar = figure.colorbar(image, ax=axes, pad=0.02, shrink=0.8)
    bar.outline.set_visible(False)
    bar.set_label("share of the true category's blocks", fontsize=_SMALL)
    bar.ax.tick_params(labelsize=_SMALL, length=2)
    _panel(axes)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def examples(
    rows: Sequence[tuple[str, Path, int, Sequence[tuple[str, Path, bool]]]],
    kind: str = "seen",
    labels: Sequence[str] = (),
) -> Figure:
    """Draw images seen or imagined, beside those of the categories ranked first, best first; the true one is framed.

    Parameters
    ----------
    rows : sequence of (name, image, rank, sequence of (name, image, is_true))
    kind : str
        Heading of the first column.
    labels : sequence of str, optional
        Labels of the rows, written before them.
    """
    n_columns = 1 + max(len(pictures) for *_, pictures in rows)
    side = (_PAGE - 0.35) / max(n_columns, 4)
    letters = int(0.97 * side / (0.56 * _BODY / 72))
    captions = [
        [f"{_wrapped(name, letters)}\n(rank {rank})", *(_wrapped(candidate, letters) for candidate, *_ in pictures)]
        for name, _, rank, pictures in rows
    ]
    beneath = [0.12 + 1.25 * _BODY / 72 * (1 + max(text.count("\n") for text in texts)) for texts in captions]
    height = 0.3 + side * len(rows) + sum(beneath)
    figure = Figure(figsize=(0.35 + side * n_columns, height))
    # Positions are computed here: matplotlib's layout of as many captions takes seconds.
    width, top = figure.get_figwidth(), height - 0.3
    for row, (_, image, _, pictures) in enumerate(rows):
        shown = [(image, None), *((portrait, GREEN if is_true else None) for _, portrait, is_true in pictures)]
        for column, ((path, frame), caption) in enumerate(zip(shown, captions[row], strict=True)):
            left = 0.32 + column * side
            place = (left / width, (top - 0.95 * side) / height, 0.95 * side / width, 0.95 * side / height)
            axes = figure.add_axes(place)
            _picture(axes, path, caption, frame)
            if column == 0 and labels:
                axes.set_ylabel(labels[row], fontsize=11, fontweight="bold")
            if row == 0:
                axes.set_title(
                    kind if column == 0 else f"{column}.", fontsize=11, fontweight=None if column else "bold"
                )
        top -= side + beneath[row]
    return figure


def homology(
    accuracy: Float64Array,
    regions: Sequence[str],
    layers: Sequence[str],
    low: Float64Array | None = None,
    high: Float64Array | None = None,
    framed: Sequence[int | None] = (),
) -> Figure:
    """Draw the feature accuracy of each region and layer, with a frame around cells that beat all others of a layer.

    Parameters
    ----------
    accuracy : ndarray of shape (n_regions, n_layers)
        Profile correlation; nan if unknown.
    regions, layers : sequence of str
        Names from low to high.
    low, high : ndarray of the same shape, optional
        Bounds of an interval, printed below the value.
    framed : sequence of int or None
        For each layer, the region that is framed; None, or no such sequence, frames nothing.
    """
    width = 0.62 * len(layers) + 1.5
    figure = Figure(figsize=(max(width, _COLUMN), 0.42 * len(regions) + 1.0), layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["cividis"].with_extremes(bad="#DDDDDD")
    image = axes.imshow(accuracy, cmap=colours, aspect="auto")
    shade = np.asarray(image.norm(accuracy))
    for (row, column), value in np.ndenumerate(accuracy):
        if np.isnan(value):
            continue
        bounds = "" if low is None or high is None else f"{low[row, column]:.2f} – {high[row, column]:.2f}"
        # Cividis is a scale of lightness: white text is legible on its lower half, black text on its upper half.
        colour = "white" if shade[row, column] < 0.5 else "black"
        style: dict[str, Any] = {"ha": "center", "va": "center", "color": colour}
        axes.text(column, row - 0.14 * bool(bounds), f"{value:.2f}", fontsize=_TEXT, **style)
        axes.text(column, row + 0.24, bounds, fontsize=5, **style)
    for column, row in enumerate(framed):
        if row is not None:
            axes.add_patch(Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, fill=False, color=ORANGE, linewidth=2))
    axes.set_yticks(range(len(regions)), [figure_text(region) for region in regions])
    _layer_ticks(axes, layers, 0.62)
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label("feature accuracy (r)", fontsize=_TEXT)
    bar.ax.tick_params(labelsize=_SMALL, length=2)
    _panel(axes)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def time_course(
    times_s: Float64Array,
    accuracy: Float64Array,
    half_width: Float64Array,
    layers: Sequence[str],
    middles_s: Float64Array,
    bounds_s: Float64Array,
    cue_s: float | None,
) -> Figure:
    """Draw accuracy of decoded features over time: all layers together, their middles, and each with its interval.

    Parameters
    ----------
    times_s : ndarray of shape (n_times,)
        Seconds after the onset of imagery.
    accuracy, half_width : ndarray of shape (n_layers, n_times)
        Feature accuracy and half the width of its 90 % interval.
    layers : sequence of str
        Names from low to high.
    middles_s : ndarray of shape (n_layers,)
        Middle of each layer's response; nan for a layer whose response has none that is determined.
    bounds_s : ndarray of shape (n_layers, 2)
        Bounds of the middles' 90 % intervals.
    cue_s : float or None
        Onset of the cue, in seconds before that of imagery, so negative; None without a cue.
    """
    n_columns = min(4, len(layers))
    n_rows = -(-len(layers) // n_columns)
    figure = Figure(figsize=(_PAGE, 2.8 + 1.3 * n_rows), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[2.2, 0.6 + 1.3 * n_rows])[:, 0]
    together, order = above.subplots(1, 2, width_ratios=[2, 1])
    grid = below.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    colours = _LAYER_COLOURS(np.linspace(0, 0.88, len(layers)))
    _onsets(together, cue_s)
    for name, values, middle_s, colour in zip(layers, accuracy, middles_s, colours, strict=True):
        together.plot(times_s, values, color=colour, linewidth=1.4, label=name)
        together.plot(middle_s, np.interp(middle_s, times_s, values), **_MIDDLE, color=colour)
    together.set_xlabel("time after imagery onset (s)")
    together.set_ylabel("feature accuracy (r)")
    together.legend(frameon=False, fontsize=_SMALL, ncols=2, handlelength=1.2, columnspacing=0.9)
    _panel(together)
    _middles(order, layers, middles_s, bounds_s, colours)
    for axes in grid.flat[len(layers) :]:
        axes.remove()
    panels = grid.flat[: len(layers)]
    for axes, name, values, half, middle_s, colour in zip(
        panels, layers, accuracy, half_width, middles_s, colours, strict=True
    ):
        _onsets(axes, cue_s)
        axes.fill_between(times_s, values - half, values + half, color=colour, alpha=0.3, linewidth=0)
        axes.plot(times_s, values, color=colour, linewidth=1.2)
        axes.axvline(middle_s, color=colour, linestyle=":", linewidth=1)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_title(name, fontsize=_TEXT, pad=2)
        _panel(axes)
    for axes in panels[-n_columns:]:
        axes.tick_params(labelbottom=True)
    cue = "" if cue_s is None else "; grey: from cue to onset"
    below.suptitle(f"each layer: mean and 90 % interval; dotted: middle of its response{cue}", fontsize=_SMALL)
    below.supxlabel("time after imagery onset (s)", fontsize=_TEXT)
    below.supylabel("feature accuracy (r)", fontsize=_TEXT)
    return figure


def _middles(
    axes: Axes, layers: Sequence[str], middles_s: Float64Array, bounds_s: Float64Array, colours: Array
) -> None:
    """Draw the middle of each layer's response with its interval, or say in words that it is not determined."""
    for y, (middle_s, bounds, colour) in enumerate(zip(middles_s, bounds_s, colours, strict=True)):
        if np.isnan(middle_s):
            place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": "center", "va": "center"}
            axes.text(0.5, y, "not determined", fontsize=_SMALL, color=GREY, **place)
        axes.plot(bounds if np.isfinite(middle_s) else [np.nan] * 2, [y, y], color=colour, linewidth=1.6)
        axes.plot(middle_s, y, **_MIDDLE, color=colour)
    if np.isnan(middles_s).all():
        axes.set_xticks([])
    axes.set_yticks(range(len(layers)), layers)
    axes.set_xlabel("middle of the response (s),\nwith 90 % interval")
    axes.set_ylim(-0.6, len(layers) - 0.4)
    axes.margins(x=0.08)
    _panel(axes)


def aggregation(groups: Mapping[str, Mapping[str, tuple[float, float, float, int]]]) -> Figure:
    """Draw identification accuracy by the evidence that is averaged.

    Parameters
    ----------
    groups : mapping of kind to mapping of what is averaged to (mean, low, high, n)
        Accuracies are shares; n is the number of samples behind the mean.
    """
    names = list(dict.fromkeys(name for by_name in groups.values() for name in by_name))
    figure = Figure(figsize=(max(_COLUMN, 1.15 * len(names) + 0.6), 2.9), layout="constrained")
    axes = figure.add_subplot()
    _chance(axes, 50)
    counts: dict[str, list[str]] = {name: [] for name in names}
    for kind, by_name, colour, marker, shift in _styled(groups):
        for name, (*values, n) in by_name.items():
            mean, _, high = percent = 100 * np.array(values)
            x = names.index(name) + shift
            _interval(axes, x, percent, colour, marker, kind if name == next(iter(by_name)) else None)
            above: dict[str, Any] = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center", "va": "bottom"}
            top = mean if np.isnan(high) else high
            axes.annotate(f"{mean:.1f}", (x, top), fontsize=_SMALL, color=colour, **above)
            counts[name].append(f"{n:,} {kind}")
    ticks = ["\n".join([textwrap.fill(name, 14), *counts[name]]) for name in names]
    axes.set_xticks(range(len(names)), ticks)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.margins(y=0.12)
    axes.set_ylabel("identification accuracy (%)")
    _legend_above(axes, 1.03)
    _panel(axes)
    return figure


def against_candidates(n_candidates: Sequence[int], curves: Mapping[str, Mapping[int, npt.ArrayLike]]) -> Figure:
    """Draw the share of samples whose true category is among the first k, against the number of candidates.

    Parameters
    ----------
    n_candidates : sequence of int
    curves : mapping of kind to mapping of k to shares, one for each number of candidates
    """
    n = np.asarray(n_candidates)
    ks = sorted({k for by_k in curves.values() for k in by_k})
    figure = Figure(figsize=(max(_COLUMN, 2.6 * len(ks) + 0.5), 2.7), layout="constrained")
    panels = figure.subplots(1, len(ks), sharey=True, squeeze=False)[0]
    for axes, k in zip(panels, ks, strict=True):
        chance = 100 * np.minimum(k / n, 1)
        axes.plot(n, chance, color=GREY, linestyle="--", linewidth=1, label="chance")
        for kind, by_k, colour, marker, _ in _styled(curves):
            share = 100 * np.asarray(by_k[k], np.float64)
            if n.max() > _FEW_CANDIDATES:
                share[share == 0] = np.nan  # 0 has no place on a logarithmic axis
            axes.plot(n, share, color=colour, marker=marker, markersize=3.5, linewidth=1.4, label=kind)
        if n.max() <= _FEW_CANDIDATES:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylim(0, 104)
        else:
            axes.set_xscale("log")
            axes.set_yscale("log")
        if _FEW_CANDIDATES < n.max() < 100:  # between the powers of ten, too
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_minor_formatter(NullFormatter())
        axes.set_title(f"top {k}", fontsize=_TEXT)
        axes.set_xlabel("number of candidates")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter("{x:g}")
        _panel(axes)
    panels[0].set_ylabel("true category among the first (%)")
    _legend_above(panels[0], 1.2)
    return figure


def against_runs(n_runs: Sequence[int], curves: Mapping[str, Sequence[tuple[float, float, float]]]) -> Figure:
    """Draw identification accuracy against the number of training runs.

    Parameters
    ----------
    n_runs : sequence of int
    curves : mapping of kind to (mean, low, high), one for each number of runs
    """
    figure = Figure(figsize=(_COLUMN, 2.6), layout="constrained")
    axes = figure.add_subplot()
    _chance(axes, 50)
    for kind, values, colour, marker, _ in _styled(curves):
        mean, low, high = 100 * np.asarray(values).T
        axes.fill_between(n_runs, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(n_runs, mean, color=colour, marker=marker, markersize=4, linewidth=1.4, label=kind)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("training runs")
    axes.set_ylabel("identification accuracy (%)")
    _legend_above(axes, 1.03)
    _panel(axes)
    return figure


def reliability(panels: Mapping[str, Sequence[tuple[float, float, int]]]) -> Figure:
    """Draw the observed share of true categories among the first, against its predicted probability.

    Vertical lines are the shares' 90 % intervals (Wilson 1927), as of independent samples.

    Parameters
    ----------
    panels : mapping of title to sequence of (mean predicted probability, observed share, number of samples)
        Bins of each panel.
    """
    figure = Figure(figsize=(2.3 * len(panels) + 0.3, 3.1), layout="constrained")
    grid = figure.subplots(2, len(panels), squeeze=False, sharex="col", gridspec_kw={"height_ratios": [1, 0.3]})
    for (axes, bars), (title, bins) in zip(grid.T, panels.items(), strict=True):
        predicted, observed, count = np.array(bins, float).reshape(-1, 3).T
        intervals = np.reshape([wilson(share * n, n, 0.9) for share, n in zip(observed, count, strict=True)], (-1, 2))
        limit = min(1.0, 1.1 * max([*predicted, *intervals[:, 1], 0.09]))
        axes.plot([0, limit], [0, limit], color=GREY, linestyle="--", linewidth=1)
        axes.plot(predicted, observed, color=BLUE, marker="o", markersize=4.5, linewidth=1.2)
        axes.vlines(predicted, *intervals.T, color=BLUE, linewidth=0.9)
        bars.bar(predicted, count, width=0.035 * limit, color=BLUE)
        axes.set_title(f"{title} (n = {count.sum():,.0f})", fontsize=_TEXT)
        axes.set_xlim(-0.03 * limit, 1.03 * limit)
        axes.set_ylim(-0.03 * limit, 1.03 * limit)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.set_box_aspect(1)
        bars.set_box_aspect(0.3)
        bars.set_xlabel("predicted probability")
        bars.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        _panel(axes)
        _panel(bars)
    grid[0, 0].set_ylabel("observed share")
    grid[1, 0].set_ylabel("samples")
    return figure


def semantic(observed: float, null: Float64Array) -> Figure:
    """Draw the mean distance of errors to the truth, beside its distribution over shuffled labels.

    Parameters
    ----------
    observed : float
        Mean distance in is-a links.
    null : ndarray of shape (n_shuffles,), float64
        Mean distance in is-a links for each shuffle.
    """
    figure = Figure(figsize=(_COLUMN, 2.3), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(null, bins=30, color=GREY, alpha=0.6)
    axes.axvline(observed, color=ORANGE, linewidth=2)
    axes.margins(x=0.12)
    axes.annotate(
        "observed",
        (observed, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -2),
        textcoords="offset points",
        va="top",
        fontsize=_SMALL,
        color=ORANGE,
    )
    axes.set_xlabel("mean distance of errors to the truth (is-a links)")
    axes.set_ylabel(f"shuffles, of {len(null):,}")
    _panel(axes)
    return figure


def feature_accuracy(
    layers: Sequence[str], kinds: Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]]
) -> Figure:
    """Draw profile and pattern correlation of each layer.

    Parameters
    ----------
    layers : sequence of str
        Names from low to high.
    kinds : mapping of kind to mapping of "profile" and "pattern" to (mean, low, high), one for each layer
    """
    measures = list(dict.fromkeys(name for by_measure in kinds.values() for name in by_measure))
    figure = Figure(figsize=(max(_COLUMN, 0.28 * len(layers) * len(measures) + 2), 2.8), layout="constrained")
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for axes, measure in zip(panels, measures, strict=True):
        _chance(axes, 0)
        for kind, by_measure, colour, marker, shift in _styled(kinds):
            for x, values in enumerate(by_measure[measure]):
                _interval(axes, x + shift, np.array(values), colour, marker, kind if x == 0 else None)
        axes.set_title(f"{measure} correlation", fontsize=_TEXT)
        _layer_ticks(axes, layers, 0.28)
        _panel(axes)
    panels[0].set_ylabel("correlation (r)")
    _legend_above(panels[0], 1.2)
    return figure


def _picture(axes: Axes, path: Path, caption: str, frame: str | None) -> None:
    axes.imshow(read_picture(path).pixels)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(caption, fontsize=_BODY, linespacing=1.2, labelpad=5 if frame is None else 6)
    for spine in axes.spines.values():
        spine.set(color=frame, linewidth=4, visible=frame is not None)


def _wrapped(name: str, n_letters: int) -> str:
    """Break a name into up to `_CAPTION_LINES` lines; letters as wide as Chinese and Japanese ones count twice."""
    n_wide = sum(east_asian_width(letter) in "WF" for letter in name)
    n_letters = max(int(n_letters * len(name) / max(len(name) + n_wide, 1)), 4)
    lines = textwrap.wrap(plain(name), n_letters, max_lines=_CAPTION_LINES, placeholder=" …")
    return figure_text("\n".join(lines))


def _legend_above(axes: Axes, y: float = 1.0) -> None:
    """Draw a legend in a row above the axes, where no data can be; a title above needs a larger `y`."""
    narrow = {"handlelength": 1.2, "columnspacing": 0.9, "borderpad": 0, "borderaxespad": 0}
    axes.legend(frameon=False, fontsize=_SMALL, loc="lower left", bbox_to_anchor=(0, y), ncols=3, **narrow)


def _rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _interval(axes: Axes, x: float, values: Float64Array, colour: str, marker: str, label: str | None) -> None:
    """Draw a mean with its bounds; only the mean if the bounds are nan."""
    mean, low, high = values
    axes.plot([x, x], [low, high], color=colour, linewidth=1.4, solid_capstyle="butt")
    axes.plot(x, mean, marker, color=colour, markersize=4.5, label=label)


def _styled(kinds: Mapping[str, _T]) -> Iterator[tuple[str, _T, str, str, float]]:
    """Yield each kind with a colour, a marker, and a shift along x that sets the kinds' intervals side by side."""
    for i, (kind, values) in enumerate(kinds.items()):
        style = i % len(_KIND_COLOURS)
        yield kind, values, _KIND_COLOURS[style], _KIND_MARKERS[style], 0.24 * (i - (len(kinds) - 1) / 2)


def _layer_ticks(axes: Axes, layers: Sequence[str], space_in: float) -> None:
    """Write names of layers along x, at a slant if they are longer than `space_in` inches."""
    axes.set_xticks(range(len(layers)), layers)
    if len(layers) == 1:
        axes.set_xlim(-1, 1)
        return
    axes.set_xlabel("layer, low to high")
    if 0.6 * _SMALL / 72 * max(map(len, layers)) > space_in:
        for label in axes.get_xticklabels():
            label.set(rotation=40, horizontalalignment="right", rotation_mode="anchor")


def _chance(axes: Axes, level: float) -> None:
    axes.axhline(level, color=GREY, linestyle="--", linewidth=1, label="chance", zorder=0)


def _onsets(axes: Axes, cue_s: float | None) -> None:
    """Shade the time from the cue to the onset of imagery in grey, and draw a line at accuracy 0."""
    if cue_s is not None:
        axes.axvspan(cue_s, 0, color="#DDDDDD", linewidth=0, zorder=0)
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=0)


def _panel(axes: Axes) -> None:
    """Style axes for figures that are printed at their own width."""
    axes.tick_params(labelsize=_SMALL, length=2.5)
    axes.xaxis.label.set_fontsize(_TEXT)
    axes.yaxis.label.set_fontsize(_TEXT)
    _plain(axes)
