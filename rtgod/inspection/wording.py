"""What is said of a run, in rows of a label and a text, the same in the terminal and on the page."""

from __future__ import annotations

import numpy as np

from rtgod.inspection.arrival_times import spread_of
from rtgod.inspection.report import Report, RunReport
from rtgod.preprocessing.geometry import voxel_sizes
from rtgod.text import number_of, times

#: Ends of the axes of RAS+ coordinates.
_ENDS = (("leftmost", "rightmost"), ("hindmost", "foremost"), ("lowest", "highest"))
_NOT_SAID = "not said by its files"
#: Most volumes that are named.
_MOST_NAMED = 8


def rows_of(report: RunReport) -> list[tuple[str, str]]:
    """Write the facts on a run.

    Parameters
    ----------
    report : RunReport

    Returns
    -------
    list of (str, str)
        Label and text.
    """
    run, facts, volumes = report.run, report.facts, report.volumes
    scanner = " ".join(filter(None, (facts.vendor, facts.model)))
    field = f", {facts.field_t:g} T" if facts.field_t else ""
    sizes = voxel_sizes(run.affine)
    rows = [
        ("scanner", f"{scanner}{field}"),
        ("software", facts.software or _NOT_SAID),
        ("sequence", facts.sequence or _NOT_SAID),
        ("TR", f"{run.tr_s:.6g} s"),
        ("TE", ", ".join(f"{echo_ms:g}" for echo_ms in report.echoes_ms) + " ms" if report.echoes_ms else _NOT_SAID),
        ("matrix", times(run.shape)),
        ("voxel size", f"{times((round(float(size), 3) for size in sizes), 'g')} mm"),
        ("volumes", _volumes(report)),
        ("slices", _slices(report)),
        ("slices at once", str(report.n_bands) if report.n_bands else _NOT_SAID),
        ("coil", _coil(report)),
        ("table", f"{facts.table_mm:.1f} mm along the bore" if facts.table_mm is not None else _NOT_SAID),
    ]
    if run.blocks:
        rows.append(("trials", str(len(run.blocks))))
    if volumes is not None and volumes.missing:
        rows.append(("missing", _named(volumes.missing)))
    if volumes is not None and volumes.n_doubled:
        rows.append(("doubled", number_of(volumes.n_doubled, "file")))
    return rows


def delays_in_words(report: RunReport, whole: Report) -> str:
    """Write the delays of a run's volumes.

    Parameters
    ----------
    report : RunReport
    whole : Report
        To which it belongs.
    """
    if report.volumes is None or not report.volumes.delays_s:
        return "unknown"
    middle, most, worst = spread_of([delay_s for _, delay_s in report.volumes.delays_s])
    index = max(report.volumes.delays_s, key=lambda delay: delay[1])[0]
    of_what = "later than the one that came fastest" if whole.times.is_relative else "after the end of its acquisition"
    return f"median {middle:.2f} s, 95 % within {most:.2f} s, at worst {worst:.2f} s (volume {index + 1}), {of_what}"


def _volumes(report: RunReport) -> str:
    planned = f"{report.run.n_volumes} planned" if report.run.n_volumes else "planned number not said"
    beside = f", {report.n_discarded} before them discarded" if report.n_discarded else ""
    return f"{report.n_sent} ({planned}{beside})"


def _slices(report: RunReport) -> str:
    timing = report.timing
    along = report.run.affine[:3, 2]
    axis = int(np.abs(along).argmax())
    first = f"slice 1 is the {_ENDS[axis][int(along[axis] < 0)]}"
    if timing is None:
        return f"order not said by its files; {first}"
    return f"{timing.in_words()}; over {max(timing.times_s):.3g} s; {first}"


def _coil(report: RunReport) -> str:
    name, elements = report.facts.coil, report.facts.elements
    if name and elements:
        return f"{name}, elements {elements}"
    return name or (f"elements {elements}" if elements else _NOT_SAID)


def _named(indices: tuple[int, ...]) -> str:
    named = ", ".join(str(index + 1) for index in indices[:_MOST_NAMED])
    more = f" and {len(indices) - _MOST_NAMED} more" if len(indices) > _MOST_NAMED else ""
    return f"volumes {named}{more}" if len(indices) > 1 else f"volume {named}"
