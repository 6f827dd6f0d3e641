"""Sealed tables: what goes in comes out, and the file grows the same whatever goes in."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.tsv import one_line
from stimulus.blinding.sealed_tables import SLOT_S, SealedTables, read_sealed_tables

COLUMNS = {"shown": ["run_s", "top1"], "flips": ["clock_s", "late_ms", "changed"]}
rows = st.lists(
    st.tuples(
        st.sampled_from(sorted(COLUMNS)), st.lists(st.text(max_size=300), min_size=1, max_size=6), st.floats(0, 2)
    ),
    max_size=20,
)


@given(rows)
def test_rows_come_back_by_table_with_ends_of_lines_as_blanks(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("run") / "run_shown.sealed"
    expected = {table: [columns] for table, columns in COLUMNS.items()}
    now_s = 0.0
    with SealedTables(path, COLUMNS) as tables:
        for table, cells, pause_s in written:
            tables.write(table, cells)
            expected[table].append([one_line(cell) for cell in cells])
            now_s += pause_s
            tables.poll(now_s)
    assert read_sealed_tables(path) == expected


def test_the_file_tells_nothing_of_what_is_in_it(tmp_path):
    def grown(name, n_a_slot, cell):
        with SealedTables(tmp_path / name, COLUMNS) as tables:
            for slot in range(40):
                for _ in range(n_a_slot if slot < 30 else 0):
                    tables.write("flips", [f"{slot}", cell])
                tables.poll(slot * SLOT_S + 0.01)
        content = (tmp_path / name).read_bytes()
        return (
            len(content),
            content.count(b"\n"),
            {len(line) for line in content.split(b"\n")},
            len(gzip.compress(content)),
        )

    empty, full = grown("a", 0, ""), grown("b", 15, "scene scene scene")
    bursts = grown("c", 1, "n" * 1500)
    assert empty[:3] == full[:3] == bursts[:3]
    assert full[3] == pytest.approx(empty[3], rel=2e-3)


def test_a_row_is_in_the_file_a_slot_later(tmp_path):
    path = tmp_path / "run_shown.sealed"
    with SealedTables(path, COLUMNS) as tables:
        tables.poll(7.0)
        tables.write("shown", ["1", "goldfish"])
        tables.poll(7.0 + SLOT_S)
        assert read_sealed_tables(path)["shown"] == [COLUMNS["shown"], ["1", "goldfish"]]
        assert "goldfish" not in path.read_text()


def test_slots_that_the_loop_slept_through_are_made_up_for(tmp_path):
    lengths = []
    for pauses in ([0.25] * 40, [5.0, 5.0], [0.1] * 100):
        path = tmp_path / str(len(pauses))
        with SealedTables(path, COLUMNS) as tables:
            now_s = 0.01
            tables.poll(now_s)
            for pause_s in pauses:
                now_s += pause_s
                tables.poll(now_s)
        lengths.append(path.stat().st_size)
    assert len(set(lengths)) == 1


def test_a_row_that_a_killed_display_had_begun_is_left_out(tmp_path):
    path = tmp_path / "run_shown.sealed"
    for name in ("first", "second"):
        tables = SealedTables(path, COLUMNS)
        tables.poll(0.0)
        tables.write("shown", ["1", name])
        tables.write("shown", ["2", "n" * 3000])  # does not fit into one record
        if name == "first":
            tables.poll(SLOT_S)
            tables._lines.close()  # as a process that is killed
        else:
            tables.close()
    assert read_sealed_tables(path)["shown"] == [COLUMNS["shown"], ["1", "first"], ["1", "second"], ["2", "n" * 3000]]


def test_a_torn_last_record_is_passed_over_and_cut_off_when_writing_goes_on(tmp_path):
    path = tmp_path / "run_shown.sealed"
    with SealedTables(path, COLUMNS) as tables:
        tables.write("shown", ["1", "a"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert read_sealed_tables(path)["shown"] == [COLUMNS["shown"]]
    with SealedTables(path, COLUMNS) as tables:
        tables.write("shown", ["2", "b"])
    assert read_sealed_tables(path)["shown"] == [COLUMNS["shown"], ["2", "b"]]


def test_damage_is_found_and_named(tmp_path):
    path = tmp_path / "run_shown.sealed"
    SealedTables(path, COLUMNS).close()
    whole = path.read_bytes()
    for place in range(0, whole.index(b"\n") + 1, 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"run_shown\.sealed(, line 1)?: damaged"):
            read_sealed_tables(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_sealed_tables(tmp_path / "absent")
