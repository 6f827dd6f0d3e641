"""The journal: nothing overwritten, every whole record read back, and damage told from a torn tail."""

from itertools import pairwise

import numpy as np
import pytest

from rtgod import journal as journal_module
from rtgod.errors import JournalError
from rtgod.journal import MAGIC, JournalWriter, read_journal
from rtgod.messages import RunEnd, Volume
from tests import small
from tests.small import RANKING
from tests.strategies import equal

MESSAGES = [small.run(), Volume("run-1", 0, 0.0, np.arange(8, dtype="int16").reshape(2, 2, 2)), RANKING, RunEnd("r", 1)]


def write(path, messages=MESSAGES):
    """Write a journal; the positions at which its records start, and its size."""
    with JournalWriter(path) as writer:
        ends = [path.stat().st_size]
        for message in messages:
            writer.append(message)
            ends.append(path.stat().st_size)
    return ends


def same(found, expected):
    return len(found) == len(expected) and all(map(equal, found, expected))


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "whole.rtgod"
    ends = write(path)
    return path.read_bytes(), ends


def read_until_damage(path):
    """What is read, and the error that ends it, if one does."""
    found = []
    try:
        found.extend(read_journal(path))
    except JournalError as error:
        return found, error
    return found, None


def test_messages_come_back_in_their_order(tmp_path):
    path = tmp_path / "new" / "folder" / "journal.rtgod"
    write(path)
    assert same(list(read_journal(path)), MESSAGES)


def test_a_record_can_be_read_by_another_process_as_soon_as_it_is_appended(tmp_path):
    path = tmp_path / "journal.rtgod"
    with JournalWriter(path) as writer:
        for n, message in enumerate(MESSAGES, 1):
            writer.append(message)
            assert same(list(read_journal(path)), MESSAGES[:n])


def test_flush_reaches_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(journal_module.os, "fsync", lambda number: synced.append(number))
    with JournalWriter(tmp_path / "journal.rtgod") as writer:
        n_before = len(synced)
        writer.flush()
        assert len(synced) == n_before + 1


@pytest.mark.parametrize("content", [b"", b"precious", MAGIC])
def test_a_journal_is_never_overwritten(tmp_path, content):
    path = tmp_path / "journal.rtgod"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="never overwritten"):
        JournalWriter(path)
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "journal.rtgod", tmp_path / "file" / "deeper" / "journal.rtgod"):
        with pytest.raises(JournalError, match=r"cannot be written .*choose another --journal"):
            JournalWriter(path)
    with pytest.raises(JournalError, match="cannot be written"):
        JournalWriter(tmp_path)


def test_a_full_disk_is_a_journal_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    writer = JournalWriter(tmp_path / "journal.rtgod")
    monkeypatch.setattr(journal_module.os, "fsync", full)
    with pytest.raises(JournalError, match="No space left"):
        writer.flush()
    monkeypatch.undo()
    writer.close()
    writer.close()


@pytest.mark.parametrize("content", [b"", MAGIC[:-1], b"rtgod journal 2\n", b"\x00" * 64, b"\x80\x04N."])
def test_what_is_no_journal_is_refused(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="not a journal"):
        list(read_journal(path))


def test_a_missing_journal_is_a_journal_error(tmp_path):
    with pytest.raises(JournalError, match="cannot be read"):
        list(read_journal(tmp_path / "absent"))


def test_a_journal_that_was_cut_anywhere_gives_exactly_its_whole_records(tmp_path, written):
    content, ends = written
    path = tmp_path / "cut.rtgod"
    for size in range(len(MAGIC), len(content) + 1):
        path.write_bytes(content[:size])
        n_whole = sum(end <= size for end in ends[1:])
        assert same(list(read_journal(path)), MESSAGES[:n_whole]), size


@pytest.mark.parametrize("n_zeros", [1, 12, 5000])
def test_zeros_that_a_power_cut_leaves_at_the_end_are_a_torn_tail(tmp_path, written, n_zeros):
    content, ends = written
    path = tmp_path / "zeros.rtgod"
    path.write_bytes(content[: ends[-2]] + bytes(n_zeros))
    assert same(list(read_journal(path)), MESSAGES[:-1])


def test_a_byte_that_flipped_is_an_error_unless_it_is_in_the_last_record(tmp_path, written):
    content, ends = written
    path = tmp_path / "flipped.rtgod"
    for n_before, (start, end) in enumerate(pairwise(ends)):
        for position in range(start, end):
            damaged = bytearray(content)
            damaged[position] ^= 0x40
            path.write_bytes(damaged)
            found, error = read_until_damage(path)
            assert same(found, MESSAGES[:n_before]), position
            if end == ends[-1]:
                assert error is None
            else:
                assert f"damaged {start} bytes from its start" in str(error)


def test_a_volume_that_looks_like_a_record_does_not_make_a_torn_tail_an_error(tmp_path, written):
    content, ends = written
    voxels = np.frombuffer(content[ends[0] : ends[0] + 48].ljust(48, b"\0"), "int16").reshape(2, 3, 4)
    path = tmp_path / "journal.rtgod"
    _, after = write(path, [Volume("run-1", 0, 0.0, voxels)])
    assert same(list(read_journal(path)), [Volume("run-1", 0, 0.0, voxels)])
    path.write_bytes(path.read_bytes()[: after - 1])
    assert list(read_journal(path)) == []


def test_a_whole_record_that_is_no_message_is_a_journal_error(tmp_path, monkeypatch):
    path = tmp_path / "journal.rtgod"
    with monkeypatch.context() as patch:
        patch.setattr(journal_module.wire, "to_frames", lambda _: [b'{"rtgod":99,"type":"volume"}'])
        write(path)
    with pytest.raises(JournalError, match="another version"):
        list(read_journal(path))
