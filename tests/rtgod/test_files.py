"""A folder takes another's place whole, or not at all."""

import pytest

from rtgod.files import replacing


def test_a_folder_is_replaced_once_the_new_one_is_whole(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with replacing(tmp_path / "out") as new:
        new.mkdir()
        (new / "new").touch()
        assert (tmp_path / "out" / "old").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_fails_leaves_the_old_folder_as_it_was(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(OSError), replacing(tmp_path / "out"):
        pass  # nothing was made
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]
