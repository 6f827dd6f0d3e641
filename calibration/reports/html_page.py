"""Report as a single HTML file that needs no other file: text, tables, and figures drawn into the page."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from calibration.reports.lettering import lettered
from rtgod.files import write_whole
from rtgod.text import plain_lines

#: Cell that reads as a number: digits with what people write around them, such as "0.58 to 0.64" or "< 0.001".
_NUMBER = re.compile(r"(?=.*\d)(?:[\d\s.,:;%±×()<>=≤≥+−–/e†-]|\bto\b)+|n/a|–")

#: Minus sign as it is typed.
_MINUS = re.compile(r"(?<![\w.])-(?=[\d.])")


@dataclass(frozen=True, slots=True)
class PageTable:
    """Table of a report; columns of numbers are aligned right.

    Attributes
    ----------
    header : sequence of str
    rows : sequence of sequence
        Text or numbers; floats are shown with three significant digits, nan and None as a dash.
    caption : str
    """

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str


@dataclass(frozen=True, slots=True)
class Section:
    """Part of a report under its own heading.

    Attributes
    ----------
    title : str
    text : str
        Text of the part; blank lines separate paragraphs.
    figures : sequence of (Figure, caption)
        The caption also replaces a figure that cannot be seen.
    tables : sequence of PageTable
    """

    title: str
    text: str
    figures: Sequence[tuple[Figure, str]] = ()
    tables: Sequence[PageTable] = ()


def write_page(path: Path, title: str, intro: str, sections: Sequence[Section]) -> None:
    """Write a report; all text is escaped, and control characters are written out.

    Parameters
    ----------
    path : Path
    title : str
    intro : str
        Text above the sections; blank lines separate paragraphs.
    sections : sequence of Section

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("calibration.reports", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: plain_lines(value) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"paragraphs": _paragraphs, "picture": _picture, "cell": _cell, "numeric": _numeric_columns}
    page = environment.get_template("page.html.jinja").render(title=title, intro=intro, sections=sections)
    write_whole(path, page)


def _paragraphs(text: str) -> list[str]:
    return [paragraph for paragraph in re.split(r"\n\s*\n", text.strip()) if paragraph]


def _picture(figure: Figure) -> str:
    """Encode a figure as a `data:` address: an image of its own, so that names inside figures cannot clash.

    Drawings are SVG and scale; figures with photographs are JPEG, because these would take hundreds of kilobytes each.
    """
    with lettered(figure):
        return _drawn(figure)


def _drawn(figure: Figure) -> str:
    buffer = io.BytesIO()
    arrays = [image.get_array() for axes in figure.axes for image in axes.images]
    if any(array is not None and array.ndim == 3 for array in arrays):
        kind = "jpeg"
        figure.savefig(buffer, format=kind, dpi=130, pil_kwargs={"quality": 88})
    else:
        kind = "svg+xml"
        # No date and a fixed salt: the same numbers give the same bytes.
        with matplotlib.rc_context({"svg.hashsalt": "rtgod"}):
            figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return _MINUS.sub("−", text) if _NUMBER.fullmatch(text) else text


def _numeric_columns(table: PageTable) -> list[bool]:
    return [all(_NUMBER.fullmatch(_cell(row[i])) for row in table.rows) for i in range(len(table.header))]
