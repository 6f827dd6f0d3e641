"""Tables whose disk is full, gone or changed: nothing raises, nothing is lost that there is a place for."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtgod.errors import InputError
from stimulus.tables import AGAIN_S, Lines

COLUMNS = ("a", "b")


@contextmanager
def no_file_longer_than(n_bytes):
    """As on a full disk: the kernel takes a part of a line, then refuses."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


class Disk:
    """A file whose writes take so many bytes, and then raise."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        n_taken = self.file.write(data[: self.room])
        self.room -= n_taken
        return n_taken

    def __getattr__(self, name):
        return getattr(self.file, name)


def rows(path):
    return path.read_text().split("\n")


def expected(n):
    return ["a\tb", *(f"{i}\tx" for i in range(n)), ""]


def test_a_full_disk_is_told_once_and_everything_is_written_when_there_is_room(tmp_path):
    path = tmp_path / "run_flips.tsv"
    with Lines(path, COLUMNS) as lines:
        lines.write(["0", "x"])
        with no_file_longer_than(10):
            for i in range(1, 50):
                lines.write([str(i), "x"])
                told = lines.poll(i * 0.1)
                assert len(told) == (i == 1)
                if told:
                    assert "run_flips.tsv: cannot be written (File too large)" in told[0]
                    assert "make room" in told[0]
            assert lines.n_waiting == 49
            assert rows(path) in (["a\tb", "0\tx", ""], ["a\tb", "0\tx", "1\t"])
        assert lines.poll(5.0) == []
        (told,) = lines.poll(5.0 + AGAIN_S)
        assert "run_flips.tsv: is written again, with the 49 lines that had waited" in told
        assert rows(path) == expected(50)
        lines.write(["50", "x"])
        assert lines.poll(9.0) == []
    assert rows(path) == expected(51)


@settings(max_examples=60)
@given(room=st.integers(0, 60), more=st.lists(st.integers(0, 40), max_size=6))
def test_however_little_room_there_is_no_half_line_stays_between_whole_ones(tmp_path_factory, room, more):
    path = tmp_path_factory.mktemp("disk") / "log.tsv"
    with Lines(path, COLUMNS) as lines:
        with pytest.MonkeyPatch.context() as patch:
            left = [room]

            def opened(real=lines._open):
                real()
                lines._file = Disk(lines._file, left[0])

            patch.setattr(lines, "_open", opened)
            lines._file = Disk(lines._file, room)
            for i in range(8):
                lines.write([str(i), "x"])
            for n, left[0] in enumerate(more):
                lines.poll(10.0 * n)
                lines.poll(10.0 * n + 5.0)
                *whole, _ = rows(path)
                assert whole == expected(8)[: len(whole)]
        lines.write(["8", "x"])
    assert rows(path) == expected(9)


@pytest.mark.parametrize("harm", ["folder", "file", "replaced", "cut"])
def test_a_file_that_is_gone_or_changed_is_made_whole_again(tmp_path, harm):
    path = tmp_path / "out" / "log.tsv"
    with Lines(path, COLUMNS) as lines:
        for i in range(3):
            lines.write([str(i), "x"])
        if harm == "folder":
            shutil.rmtree(path.parent)
        elif harm == "file":
            path.unlink()
        elif harm == "replaced":
            path.rename(path.with_name("moved"))
            path.write_text("")
        else:
            os.truncate(path, 9)
        lines.write(["3", "x"])
        (told,) = lines.poll(0.0)
        assert "removed, replaced or changed" in told
    assert rows(path) == expected(4)


def test_what_somebody_else_wrote_stays(tmp_path):
    path = tmp_path / "log.tsv"
    with Lines(path, COLUMNS) as lines:
        lines.write(["0", "x"])
        path.unlink()
        path.write_text("another table\n")
        lines.write(["1", "x"])
    assert rows(path) == ["another table", "1\tx", ""]


def test_a_folder_that_cannot_be_made_again_is_a_full_disk(tmp_path):
    path = tmp_path / "out" / "log.tsv"
    with Lines(path, COLUMNS) as lines:
        shutil.rmtree(path.parent)
        path.parent.write_text("in its place")
        lines.write(["0", "x"])
        (told,) = lines.poll(0.0)
        assert "cannot be written" in told
        path.parent.unlink()
        assert lines.poll(0.5) == []
        assert "is written again" in "".join(lines.poll(1.0) + lines.poll(2.0))
    assert rows(path) == expected(1)


def test_what_is_never_written_is_put_elsewhere_and_counted(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(elsewhere))
    path = tmp_path / "out" / "log.tsv"
    lines = Lines(path, COLUMNS)
    lines.write(["0", "x"])
    shutil.rmtree(path.parent)
    path.parent.write_text("in its place")
    for i in (1, 2):
        lines.write([str(i), "x"])
    lines.poll(0.0)
    lines.close()
    lines.close()
    (told,) = lines.poll(1.0)
    (copy,) = elsewhere.glob("*/log.tsv")
    assert f"{path}: its last 2 lines could not be written" in told
    assert str(copy) in told
    assert rows(copy) == expected(3)


def test_what_finds_no_place_at_all_is_said_to_be_lost(tmp_path, monkeypatch):
    for where in ("home", "cwd"):
        monkeypatch.setattr(Path, where, lambda: Path("/nowhere"))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/nowhere")
    lines = Lines(tmp_path / "out" / "log.tsv", COLUMNS)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").write_text("in its place")
    lines.write(["0", "x"])
    lines.close()
    assert "they are lost" in lines.poll(0.0)[-1]


def test_a_disk_that_says_only_at_the_end_that_it_is_full_loses_nothing_either(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(elsewhere))

    def full(_):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", full)
    with Lines(tmp_path / "log.tsv", COLUMNS) as lines:
        lines.write(["0", "x"])
    assert "Disk quota exceeded" in lines.poll(0.0)[0]
    assert rows(next(elsewhere.glob("*/log.tsv"))) == expected(1)


def test_one_that_cannot_be_opened_says_so_at_once(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        Lines(tmp_path)
