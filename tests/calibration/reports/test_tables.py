import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.reports.tables import write_tsv
from rtgod.errors import InputError
from rtgod.tsv import read_tsv

cells = st.text(st.characters(exclude_categories=["C"], include_characters="\t\n\"'"), max_size=5)


def test_what_there_is_none_of_is_not_available(tmp_path):
    rows = [("V1", 0.123456789, 12, None), ("V2", float("nan"), np.int64(3), np.float64(1e-9))]
    write_tsv(tmp_path / "new" / "table.tsv", ["region", "r", "n", "p"], rows)
    text = (tmp_path / "new" / "table.tsv").read_text(encoding="utf-8")
    assert text == "region\tr\tn\tp\nV1\t0.123457\t12\tn/a\nV2\tn/a\t3\t1e-09\n"


@given(st.lists(st.tuples(cells, cells), max_size=4))
def test_text_comes_back_as_it_was(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "table.tsv"
    write_tsv(path, ["a", "ä"], rows)
    found = read_tsv(path, escaped=True)
    assert found.columns == ("a", "ä")
    assert [tuple(row.cells.values()) for row in found.rows] == [(a or "n/a", b or "n/a") for a, b in rows]


def test_others_may_read_it(tmp_path):
    write_tsv(tmp_path / "table.tsv", ["a"], [])
    assert (tmp_path / "table.tsv").stat().st_mode & stat.S_IROTH


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"table\.tsv: cannot be written"):
        write_tsv(tmp_path / "file" / "table.tsv", ["a"], [])
