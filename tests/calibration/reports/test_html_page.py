import base64
import io
import os
import shutil
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from calibration.reports.html_page import PageTable, Section, write_page
from rtgod.errors import InputError


class Page(HTMLParser):
    """What a browser finds: every element with its attributes, and the text of each by its tag."""

    VOID = frozenset({"meta", "img"})

    def __init__(self, path):
        super().__init__()
        self.elements, self.texts, self._open = [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, text):
        if text.strip():
            self.texts.append((self._open[-1], text))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag):
        return [text for name, text in self.texts if name == tag]


def line():
    figure = Figure(figsize=(3, 2))
    figure.add_subplot().plot([0, 1], [0, 1])
    return figure


HOSTILE = "<script>alert('1')</script> & \"it\" ünïcode ≥"
TABLE = PageTable(
    ["region", "accuracy", "interval", "p", "first choices", "n"],
    [
        ["V1", 0.61234, "0.58 to 0.64", "< 0.001", "goose, duck", 50],
        ["V2", float("nan"), "–", "0.02", "12 monkeys", "15,372"],
        ["V3", np.float64(12.0), "−0.1 (−0.2–0.0)", None, "3", 7],
    ],
    "Accuracies.",
)
SECTIONS = [
    Section("First", "One paragraph.\n\nAnother.", [(line(), "A line."), (line(), "Another line.")]),
    Section("Second", "", tables=[TABLE]),
]


@pytest.fixture
def page(tmp_path):
    write_page(tmp_path / "report.html", "Title", "What this is.", SECTIONS)
    return Page(tmp_path / "report.html")


def test_nothing_is_loaded_from_elsewhere(page):
    addresses = [
        value for _, attributes in page.elements for key, value in attributes.items() if key in ("src", "href")
    ]
    assert len(addresses) == 4
    assert all(address.startswith(("data:image/", "#")) for address in addresses)
    assert "http" not in page.source
    assert "url(" not in page.source
    assert "@import" not in page.source
    assert not page.all("script")
    assert not page.all("link")


def test_contents_lead_to_the_sections(page):
    targets = [attributes["href"].removeprefix("#") for attributes in page.all("a")]
    assert targets == [attributes["id"] for attributes in page.all("section")]
    assert page.text("a") == page.text("h2") == ["First", "Second"]
    assert page.text("p") == ["What this is.", "One paragraph.", "Another."]
    assert page.text("title") == page.text("h1") == ["Title"]


def test_figures_are_drawings_with_words_for_who_cannot_see_them(page):
    pictures = page.all("img")
    assert [picture["alt"] for picture in pictures] == ["A line.", "Another line."]
    assert page.text("b") == ["Figure 1.", "Figure 2.", "Table 1."]
    for picture in pictures:
        kind, content = picture["src"].split(",")
        assert kind == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(content)).tag.endswith("svg")  # noqa: S314 - our own drawing


def test_columns_of_numbers_are_aligned_right(page):
    heads = [attributes.get("class") for attributes in page.all("th")]
    assert heads == [None, "number", "number", "number", None, "number"]
    assert [attributes.get("class") for attributes in page.all("td")] == heads * 3
    assert page.text("td") == [
        "V1", "0.612", "0.58 to 0.64", "< 0.001", "goose, duck", "50",
        "V2", "–", "–", "0.02", "12 monkeys", "15,372",
        "V3", "12", "−0.1 (−0.2–0.0)", "–", "3", "7",
    ]  # fmt: skip


def test_all_text_is_escaped(tmp_path):
    table = PageTable([HOSTILE], [[HOSTILE]], HOSTILE)
    write_page(tmp_path / "p.html", HOSTILE, HOSTILE, [Section(HOSTILE, HOSTILE, [(line(), HOSTILE)], [table])])
    page = Page(tmp_path / "p.html")
    assert not page.all("script")
    assert page.all("img")[0]["alt"] == HOSTILE
    for tag in ("title", "h1", "h2", "a", "p", "th", "td"):
        assert set(page.text(tag)) == {HOSTILE}


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_page(tmp_path / name, "Title", "", [Section("First", "", [(line(), "A line.")])])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_photographs_are_compressed(tmp_path):
    """Thirty-six photographs of 500 × 500, noise as bad as it gets."""
    rng = np.random.default_rng(0)
    figure = Figure(figsize=(9, 12.6))
    for axes in figure.subplots(6, 6).flat:
        axes.imshow(rng.integers(0, 256, (500, 500, 3), dtype=np.uint8))
    write_page(tmp_path / "p.html", "Title", "", [Section("Seen", "", [(figure, "Photographs.")])])
    kind, content = Page(tmp_path / "p.html").all("img")[0]["src"].split(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert image.size == (1170, 1638)
    assert (tmp_path / "p.html").stat().st_size < 5e6


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"p\.html: cannot be written"):
        write_page(tmp_path / "file" / "p.html", "Title", "", [])


def test_an_installed_wheel_has_the_template(tmp_path):
    root = Path(__file__).parents[3]
    source = tmp_path / "source"
    for name in ("rtgod", "calibration", "stimulus"):
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(source / done.stdout.split()[-1]) as wheel:
        wheel.extractall(tmp_path / "installed")
    write = (
        "import pathlib, calibration.reports.html_page as p; p.write_page(pathlib.Path('p.html'), p.__file__, '', [])"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-c", write], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert Page(tmp_path / "p.html").text("h1") == [str(tmp_path / "installed/calibration/reports/html_page.py")]


def test_marks_and_limits_are_numbers(tmp_path):
    rows = [("seen", "100.0 †", "0.50 (≥ 0.5)"), ("chance", "50.0", "")]
    write_page(
        tmp_path / "p.html", "Title", "", [Section("S", "", tables=[PageTable(("", "accuracy", "p"), rows, "T")])]
    )
    assert [attributes.get("class") for attributes in Page(tmp_path / "p.html").all("th")] == [None, "number", None]


def test_printed_pages_have_no_scroll_bars(page):
    printed = page.source[page.source.index("@media print") :]
    assert ".wide { overflow: visible; }" in printed
