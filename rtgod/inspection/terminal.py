"""The check's report in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table

from rtgod.console import styled
from rtgod.inspection.report import Finding, Report, RunReport
from rtgod.inspection.wording import delays_in_words, rows_of
from rtgod.text import number_of

_BARS = "▁▂▃▄▅▆▇█"
_MOST_BARS = 60
_STYLES = {True: "bold red", False: "yellow"}


def rendered(report: Report) -> RenderableType:
    """Lay a report out, the verdict first.

    Parameters
    ----------
    report : Report
    """
    return Group(*_parts(report))


def _parts(report: Report) -> Iterator[RenderableType]:
    yield styled((report.verdict(), "bold green" if report.is_fit else "bold red"))
    for is_first, title in ((True, "First"), (False, "To know")):
        if found := [finding for finding in report.findings if finding.is_first == is_first]:
            yield ""
            yield styled((title, "bold"))
            yield _listed(found)
    for run in report.runs:
        yield ""
        yield styled((f"Series {run.number}", "bold"), f"  {run.run.run_id}")
        yield _facts(run, report)
    for fit in report.fits:
        yield ""
        yield styled((f"Series {fit.number} and the bundle", "bold"))
        yield _table(("", "here", "bundle"), fit.rows)
    yield ""
    yield styled(("What is in the folder", "bold"), f"  {number_of(report.n_files, 'file')}")
    rows = [(str(series.number), str(series.n_files), series.fate) for series in report.series]
    yield _table(("series", "files", "live"), rows)


def _listed(findings: Sequence[Finding]) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(styled(("!" if finding.is_first else "·", _STYLES[finding.is_first])), styled(finding.text))
    return Padding(table, (0, 0, 0, 1))


def _facts(run: RunReport, report: Report) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows_of(run):
        table.add_row(label, styled(text))
    table.add_row("delay", styled(delays_in_words(run, report)))
    if run.volumes is not None and len(run.volumes.delays_s) > 1:
        table.add_row("", styled((_bars([delay_s for _, delay_s in run.volumes.delays_s]), "cyan")))
    return Padding(table, (0, 0, 0, 1))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in header:
        table.add_column(name, justify="right" if name in ("series", "files") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(styled(cell) for cell in row))
    return Padding(table, (0, 0, 0, 1))


def _bars(delays_s: Sequence[float]) -> str:
    """Draw delays from the first volume to the last, several in a bar where they are many: the longest of them."""
    n_bars = min(len(delays_s), _MOST_BARS)
    edges = [round(place * len(delays_s) / n_bars) for place in range(n_bars + 1)]
    longest = [max(delays_s[start:stop]) for start, stop in pairwise(edges)]
    top = max(max(longest), 1e-3)
    return "".join(_BARS[min(int(max(delay_s, 0) / top * len(_BARS)), len(_BARS) - 1)] for delay_s in longest)
