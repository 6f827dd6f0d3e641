"""The check's report as one HTML file that needs no other file and no network."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from importlib.resources import files
from string import Template

from rtgod.inspection.delay_plot import drawn
from rtgod.inspection.report import Report, RunReport
from rtgod.inspection.wording import delays_in_words, rows_of
from rtgod.text import number_of, plain

_NUMBERS = ("series", "files")


def page_of(report: Report) -> str:
    """Write a report as HTML; all text is escaped.

    Parameters
    ----------
    report : Report
    """
    template = Template(files("rtgod.inspection").joinpath("page.html").read_text(encoding="utf-8"))
    subtitle = f"{number_of(len(report.runs), 'functional run')} among {number_of(report.n_files, 'file')} of an export"
    return template.substitute(
        verdict=_text(report.verdict()),
        tone="good" if report.is_fit else "bad",
        subtitle=_text(subtitle),
        sections="\n".join(_sections(report)),
    )


def _sections(report: Report) -> Iterator[str]:
    for is_first, title in ((True, "First"), (False, "To know")):
        if found := [finding.text for finding in report.findings if finding.is_first == is_first]:
            kind = "first" if is_first else "known"
            items = "\n".join(f'<li class="{kind}">{_text(text)}</li>' for text in found)
            yield f"<section>\n<h2>{title}</h2>\n<ul>\n{items}\n</ul>\n</section>"
    for run in report.runs:
        yield f"<section>\n<h2>Series {run.number} <small>{_text(run.run.run_id)}</small></h2>"
        facts = "\n".join(f"<dt>{_text(label)}</dt><dd>{_text(text)}</dd>" for label, text in rows_of(run))
        yield f"<dl>\n{facts}\n</dl>\n{_figure(run, report)}</section>"
    for fit in report.fits:
        table = _table(("", "here", "bundle"), fit.rows)
        yield f"<section>\n<h2>Series {fit.number} and the bundle</h2>\n{table}\n</section>"
    rows = [(str(series.number), str(series.n_files), series.fate) for series in report.series]
    yield f"<section>\n<h2>What is in the folder</h2>\n{_table(('series', 'files', 'live'), rows)}\n</section>"


def _figure(run: RunReport, report: Report) -> str:
    said = f"Delay from acquisition to arrival: {delays_in_words(run, report)}"
    plot = ""
    if run.volumes is not None and len(run.volumes.delays_s) > 1:
        plot = drawn(run.volumes.delays_s, run.run.tr_s, said)
    return f"<figure>\n<figcaption>{_text(said)}.</figcaption>\n{plot}\n</figure>\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        kinds = [' class="number"' if name in _NUMBERS else "" for name in header]
        return "".join(f"<{tag}{kind}>{_text(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    body = "\n".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    head = f"<thead><tr>{row(header, 'th')}</tr></thead>"
    return f'<div class="wide"><table>\n{head}\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _text(text: str) -> str:
    return html.escape(plain(text))
