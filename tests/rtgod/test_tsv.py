"""Tables: what is written comes back, and what others wrote is read as it stands."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.tsv import cell_of, line_of, one_line, read_tsv, write_tsv

#: Any text, and what ends a cell or a line somewhere, looks like an escape, is quoted, or is blank at an end.
texts = st.text(max_size=6) | st.sampled_from(
    [
        "\t",
        "\n",
        "\r\n",
        "\\",
        "\\n",
        "\\u2028",
        "\ufeff",
        " a",
        "a\u3000",
        "\u2028",
        "\x85",
        "\x1c",
        '"a"',
        "\ud800",
        "犬\u200f",
    ]
)
names = texts.filter(lambda text: text not in ("", "n/a"))


@given(columns=st.lists(names, min_size=2, max_size=2, unique=True), rows=st.lists(st.tuples(texts, texts), max_size=5))
def test_every_table_that_is_written_is_read_back(tmp_path_factory, columns, rows):
    path = tmp_path_factory.getbasetemp() / "any.tsv"
    write_tsv(path, columns, rows)
    table = read_tsv(path, escaped=True)
    assert table.columns == tuple(columns)
    assert [tuple(row.cells[name] for name in columns) for row in table.rows] == [
        tuple(cell or "n/a" for cell in row) for row in rows
    ]
    assert [row.line for row in table.rows] == list(range(2, len(rows) + 2))


@given(rows=st.lists(st.tuples(texts, texts), max_size=5))
def test_other_programs_find_as_many_cells(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "others.tsv"
    write_tsv(path, ["a", "b"], rows)
    text = path.read_text(encoding="utf-8")
    assert [line.count("\t") for line in text.splitlines()] == [1] * (len(rows) + 1)  # also at U+2028
    found = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [len(row) for row in found] == [2] * (len(rows) + 1)


@pytest.mark.parametrize(
    ("value", "digits", "cell"),
    [
        (None, None, "n/a"), ("", None, "n/a"), (float("nan"), 6, "n/a"), (1 / 3, 6, "0.333333"),
        (1 / 3, None, str(1 / 3)),
        (7, 6, "7"), (True, 6, "True"), ("green owl", None, "green owl"), ("café, フクロウ", None, "café, フクロウ"),
        ("a\tb\nc", None, r"a\tb\nc"), ("C:\\new", None, r"C:\\new"), (" x", None, r"\x20x"),
        ("\u2028", None, r"\u2028"),
    ],
)  # fmt: skip
def test_cells_as_they_stand_in_a_file(value, digits, cell):
    assert cell_of(value, digits) == cell
    assert line_of([value, 1], digits) == f"{cell}\t1"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("great\tgrey\r\nowl", "great grey owl"), ("a\u2028\x85b", "a b"), (" x\n", "x"),
        ("two  blanks", "two  blanks"),
        ("赤\u3000犬", "赤\u3000犬"), ("C:\\new", "C:\\new"), ("\ud800", "\\ud800"),
    ],
)  # fmt: skip
def test_a_cell_without_escapes_keeps_all_but_ends_of_lines(text, written):
    assert one_line(text) == written


@pytest.fixture
def read(tmp_path):
    def read_text(content, **how):
        path = tmp_path / "table.tsv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_tsv(path, **how)

    return read_text


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_tables_of_every_editor_are_the_same(read, mark, end):
    table = read(mark + end.join([b"category_id\tname", b"", b"n1\t dog ", b"n2"]) + end)
    assert table.columns == ("category_id", "name")
    assert [(row.line, dict(row.cells)) for row in table.rows] == [
        (3, {"category_id": "n1", "name": "dog"}), (4, {"category_id": "n2"}),
    ]  # fmt: skip
    assert table.remarks() == []


def test_nothing_but_a_line_end_ends_a_line_and_nothing_is_unescaped_unasked(read):
    table = read("name\tfile\nred\u2028owl\x85\x0bx\tfaces\\new\\tool.png\n")
    assert [dict(row.cells) for row in table.rows] == [
        {"name": "red\u2028owl\x85\x0bx", "file": "faces\\new\\tool.png"}
    ]


def test_quotation_marks_stay_and_are_remarked_on(read):
    table = read('category_id\tname\nn1\t"dog, pet"\nn2\t"owl"\nn3\t5" disk\n')
    assert [row.cells["name"] for row in table.rows] == ['"dog, pet"', '"owl"', '5" disk']
    (line,) = table.remarks()
    assert "cells in quotation marks (2 of name)" in line


def test_rows_of_other_lengths_are_read_as_far_as_there_are_columns(read):
    table = read("a\tb\n1\n1\t2\t\t\n1\t2\t3\n")
    assert [dict(row.cells) for row in table.rows] == [{"a": "1"}, {"a": "1", "b": "2"}, {"a": "1", "b": "2"}]
    (line,) = table.remarks()
    assert "line 4 with more cells than there are columns" in line


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "table.tsv: empty; a table has a line of column names"),
        (b" \t\n\r\n", "empty"),
        (b"a\tb\ta\n", "line 1: column 'a' is there twice"),
        (b"a\tb\n1\t\xff\n", "line 2: not UTF-8 text; save the table as UTF-8"),
        ("a\tb\n".encode("utf-16"), "line 1: not UTF-8 but UTF-16 text"),
        ("a\tb\n".encode("utf-16-le"), "line 1: not UTF-8 but UTF-16 text"),
        (b"a\n" + b"x" * 200_000, "line 2: a cell of more than 131072 characters"),
    ],
)
def test_what_is_no_table_is_named(read, content, says):
    with pytest.raises(InputError, match=re.escape(says)):
        read(content)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"absent\.tsv: cannot be read"):
        read_tsv(tmp_path / "absent.tsv")


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("1,5", "line 2, column onset: is '1,5'; write 1.5, not 1,5."),
        ("-0,25", "is '-0,25'; write -0.25, not -0,25."),
        ("1,000,000", "is '1,000,000'; write a number of seconds."),
        ("soon", "is 'soon'; write a number of seconds."),
    ],
)
def test_a_number_that_is_none_says_how_to_write_it(read, cell, says):
    (row,) = read(f"onset\n{cell}\n").rows
    with pytest.raises(InputError, match=re.escape(says)):
        row.seconds("onset")
