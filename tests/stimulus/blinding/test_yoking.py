"""Journals that yoked runs show: found by name and content, wherever they lie by now."""

from __future__ import annotations

import shutil

import pytest

from rtgod.errors import InputError
from stimulus.blinding.conditions import Condition, ConditionKind
from stimulus.blinding.yoking import located, pinned


def yoked(path):
    return Condition(ConditionKind.YOKED, journal=str(path), run_id="run-1")


@pytest.fixture
def folders(tmp_path):
    """Where the journal is, and where the conditions are sealed."""
    for name in ("old", "new", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "old" / "a.rtgod").write_bytes(b"journal " * 1000)
    return tmp_path / "old", tmp_path / "new"


def test_no_absolute_path_is_kept(folders, monkeypatch):
    old, new = folders
    monkeypatch.chdir(old)
    condition = pinned(yoked("a.rtgod"), new)
    assert condition.journal == "../old/a.rtgod"
    assert str(old.parent) not in repr(condition)
    real = Condition(ConditionKind.REAL)
    assert pinned(real, new) is real
    assert located(real, new) is real


def test_it_is_found_where_it_was_beside_in_journals_or_in_a_named_folder(folders):
    old, new = folders
    condition = pinned(yoked(old / "a.rtgod"), new)
    assert located(condition, new).journal == str(new / "../old/a.rtgod")
    content = (old / "a.rtgod").read_bytes()
    shutil.rmtree(old)
    with pytest.raises(InputError, match=r"journal a\.rtgod: not in "):
        located(condition, new)
    for place in (new, new / "journals", new.parent / "elsewhere"):
        place.mkdir(exist_ok=True)
        (place / "a.rtgod").write_bytes(content)
        assert located(condition, new, [new.parent / "elsewhere"]).journal == str(place / "a.rtgod")
        (place / "a.rtgod").unlink()


def test_another_journal_of_that_name_is_passed_over_and_refused_if_there_is_none_else(folders):
    old, new = folders
    condition = pinned(yoked(old / "a.rtgod"), new)
    content = (old / "a.rtgod").read_bytes()
    for other in (b"another", content[:-1], content[:-1] + b"!"):
        (old / "a.rtgod").write_bytes(other)
        with pytest.raises(InputError, match=r"a\.rtgod: not the journal that was sealed"):
            located(condition, new)
    (new / "a.rtgod").write_bytes(content)
    assert located(condition, new).journal == str(new / "a.rtgod")


def test_one_that_grew_since_is_the_same(folders):
    old, new = folders
    condition = pinned(yoked(old / "a.rtgod"), new)
    with (old / "a.rtgod").open("ab") as file:
        file.write(b"more")
    assert located(condition, new).journal == str(new / "../old/a.rtgod")


def test_one_that_is_not_there_cannot_be_sealed(folders):
    with pytest.raises(InputError, match=r"absent\.rtgod: cannot be read"):
        pinned(yoked("absent.rtgod"), folders[1])
