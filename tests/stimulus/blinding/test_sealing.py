"""Sealed files: what goes in comes out, and nothing else does."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.errors import InputError
from stimulus.blinding.conditions import Condition, ConditionKind
from stimulus.blinding.sealing import (
    HEADER,
    commitment,
    condition_of,
    hidden,
    open_sealed,
    revealed,
    seal,
    unseal,
)

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


def test_an_error_while_a_sealed_run_is_prepared_is_the_same_for_each_and_tells_no_condition(tmp_path):
    path = sealed_file(tmp_path)
    names = ["goldfish", "duck"]
    said = set()
    for number in (1, 2, 3, 4):
        with pytest.raises(InputError) as raised:
            open_sealed(path, number, names, names)
        said.add(str(raised.value))
        # A cause would be printed where somebody asks for more.
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__
    (line,) = said
    assert "cannot be prepared" in line
    assert "--recordings" in line
    for word in ("yoke", "another", "journal", "run-1", "shuffled"):
        assert word not in line.replace(str(path), "")


def test_every_run_prepares_all(tmp_path, monkeypatch):
    prepared = []
    monkeypatch.setattr(
        "stimulus.blinding.sealing.open_feedback", lambda condition, *_: prepared.append(condition) or condition.kind
    )
    path = sealed_file(tmp_path)
    for number, condition in enumerate(PLAN, 1):
        assert open_sealed(path, number, [], []) is condition.kind
        assert prepared == list(PLAN)
        prepared.clear()


def test_conditions_of_the_format_before_are_refused_clearly():
    old = seal(PLAN).replace("format 2", "format 1")
    with pytest.raises(InputError, match="my plan: sealed by an earlier version of rtgod"):
        unseal(old, "my plan")


@given(st.binary(max_size=200), st.integers(0, 100))
def test_what_is_hidden_comes_back_and_is_always_as_long(content, n_more):
    texts = {hidden(content, len(content) + n_more) for _ in range(3)}
    assert len(texts) == 3
    assert {revealed(text) for text in texts} == {content}
    assert {len(text) for text in texts} == {len(hidden(b"", len(content) + n_more))}


def test_what_there_is_no_room_for_is_not_hidden():
    with pytest.raises(ValueError, match="room for 2"):
        hidden(b"abc", 2)
