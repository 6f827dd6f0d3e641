"""Sealed files: what goes in comes out, and nothing else does."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.errors import InputError
from stimulus.conditions import Condition, ConditionKind
from stimulus.seal import (
    HEADER,
    commitment,
    condition_of,
    open_sealed,
    seal,
    unseal,
)
from tests import small

conditions = st.builds(
    Condition,
    st.sampled_from(ConditionKind),
    seed=st.integers(0, 2**63 - 1),
    journal=st.text(min_size=1),
    run_id=st.text(),
)
PLAN = (
    Condition(ConditionKind.REAL),
    Condition(ConditionKind.SHUFFLED, seed=2**63 - 1),
    Condition(ConditionKind.YOKED, journal="/data/another session.rtgod", run_id="run-1~2"),
    Condition(ConditionKind.NONE),
)


def sealed_file(tmp_path, plan=PLAN):
    path = tmp_path / "plan.sealed"
    path.write_text(seal(plan), encoding="ascii")
    return path


@given(st.lists(conditions, max_size=40))
def test_what_is_sealed_is_unsealed(plan):
    assert unseal(seal(plan)) == tuple(plan)


@given(st.data())
def test_damaged_text_is_refused_by_name(data):
    text = seal(PLAN)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 4)))
    damaged = text[:start] + data.draw(st.text(max_size=4)) + text[end:]
    if damaged != text:
        with pytest.raises(InputError, match=r"^my plan: .*damaged"):
            unseal(damaged, "my plan")


def one_damaged(whole):
    """The bytes with one of them damaged, each in its turn, in one of four ways."""
    for position, byte in enumerate(whole):
        damage = (byte ^ 1, byte ^ 0x80, byte ^ 0x20, ord("\r"))[position % 4]
        yield whole[:position] + bytes([damage]) + whole[position + 1 :]


def test_every_damaged_byte_of_a_file_is_found(tmp_path):
    path = sealed_file(tmp_path)
    whole = path.read_bytes()
    for damaged in [*one_damaged(whole), *(whole[:end] for end in range(0, len(whole), 5)), whole[:-1], whole + b"\n"]:
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"plan\.sealed: .*damaged"):
            condition_of(path, 1)


def test_a_sealed_file_says_what_it_is_and_nothing_more():
    text = seal(PLAN)
    first, digest, hidden, rest = text.split("\n")
    assert (first, rest) == (HEADER, "")
    assert digest == hashlib.sha256(hidden.encode()).hexdigest()
    for word in ("real", "shuffled", "yoked", "none", "session", "run-1", "seed"):
        assert word not in hidden
    assert len({seal(PLAN) for _ in range(20)}) == 20
    # Nor does the order of the runs show in the length.
    assert len(seal(PLAN)) == len(seal(PLAN[::-1]))


def test_the_commitment_is_the_files_checksum_and_tells_equal_plans_apart(tmp_path):
    path = sealed_file(tmp_path)
    text = path.read_text()
    assert commitment(text) == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert commitment(text) != commitment(seal(PLAN))


def test_runs_count_from_one(tmp_path):
    path = sealed_file(tmp_path)
    assert tuple(condition_of(path, number) for number in (1, 2, 3, 4)) == PLAN
    for number in (0, -1, 5):
        with pytest.raises(
            InputError, match=re.escape(f"plan.sealed: sealed for 4 runs, from 1; there is no run {number}")
        ):
            condition_of(path, number)


def test_a_copy_with_windows_line_ends_is_the_same(tmp_path):
    path = sealed_file(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert condition_of(path, 2) == PLAN[1]


def test_no_such_file_and_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        condition_of(tmp_path / "absent", 1)
    (tmp_path / "notes.txt").write_text("run 1: real\n")
    with pytest.raises(InputError, match="no sealed conditions"):
        condition_of(tmp_path / "notes.txt", 1)


def test_an_error_while_a_sealed_run_is_prepared_does_not_tell_its_condition(tmp_path):
    path = sealed_file(tmp_path)
    names = ["goldfish", "duck"]
    answer = small.RANKING
    assert open_sealed(path, 1, names, names).shown(answer, 1) == (answer, 1)
    with pytest.raises(InputError) as raised:
        open_sealed(path, 3, names, names)
    said = str(raised.value)
    assert "run 3 cannot be prepared: open it with `rtgod unblind --early`" in said
    for word in ("yoke", "session", "journal", "run-1"):
        assert word not in said.replace(str(path), "")
    assert "another session.rtgod" in str(raised.value.__cause__)
    with pytest.raises(InputError, match="run 2 cannot be prepared"):
        open_sealed(path, 2, names[:1], names[:1])
