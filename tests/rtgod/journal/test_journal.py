"""The journal: nothing overwritten, every whole record read back, and damage told from a torn tail."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from collections import deque
from io import FileIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.errors import JournalError
from rtgod.journal import journal as journal_module
from rtgod.journal.journal import MAGIC, JournalWriter, Sessions, journals, read_headers, read_journal, unfinished
from rtgod.messages import Hello, RunEnd, SessionEnd, Volume
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


@pytest.mark.parametrize("n_zeros", [1, 8, 12, 5000])
def test_zeros_that_a_power_cut_leaves_at_the_end_are_a_torn_tail(tmp_path, written, n_zeros):
    content, ends = written
    path = tmp_path / "zeros.rtgod"
    # A page may end anywhere: what was before it is on the disk.
    for size in range(ends[-2], ends[-1] - 1):
        path.write_bytes(content[:size] + bytes(n_zeros))
        assert same(list(read_journal(path)), MESSAGES[:-1]), size
        assert len(list(read_headers(path))) >= len(MESSAGES) - 1


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
        patch.setattr(journal_module, "to_frames", lambda _: [b'{"rtgod":99,"type":"volume"}'])
        write(path)
    with pytest.raises(JournalError, match="another version"):
        list(read_journal(path))


@pytest.mark.parametrize("n_bytes", [5, 64, 1 << 20])
def test_damage_is_told_from_a_torn_tail_however_the_file_is_read(tmp_path, written, monkeypatch, n_bytes):
    content, ends = written
    monkeypatch.setattr(journal_module, "_PIECE", n_bytes)
    path = tmp_path / "flipped.rtgod"
    for start in ends[:-1]:
        path.write_bytes(content[:start] + b"x" + content[start + 1 :])
        _, error = read_until_damage(path)
        assert (error is None) == (start == ends[-2])


def test_headers_are_those_of_the_messages(tmp_path, written):
    content, _ = written
    path = tmp_path / "journal.rtgod"
    path.write_bytes(content[:-1])
    headers = [json.loads(header) for header in read_headers(path)]
    assert [header["type"] for header in headers] == ["run", "volume", "ranking"]
    assert headers[1]["index"] == 0


# ---------------------------------------------------------------- going on


def test_a_journal_that_was_cut_anywhere_is_gone_on_with_from_its_last_whole_record(tmp_path, written):
    content, ends = written
    path = tmp_path / "cut.rtgod"
    for size in range(ends[-2], len(content) + 1):
        path.write_bytes(content[:size])
        with JournalWriter.resume(path) as writer:
            assert path.stat().st_size == (ends[-1] if size == ends[-1] else ends[-2])
            writer.append(RunEnd("next", 2))
        whole = MESSAGES if size == ends[-1] else MESSAGES[:-1]
        assert same(list(read_journal(path)), [*whole, RunEnd("next", 2)]), size


def test_zeros_at_the_end_are_cut_off(tmp_path, written):
    content, _ = written
    path = tmp_path / "zeros.rtgod"
    path.write_bytes(content + bytes(5000))
    JournalWriter.resume(path).close()
    assert path.read_bytes() == content


def test_what_is_damaged_is_not_gone_on_with_and_stays_as_it_was(tmp_path, written):
    content, ends = written
    damaged = content[: ends[0] + 20] + b"x" + content[ends[0] + 21 :]
    for name, text in (("damaged.rtgod", damaged), ("other.rtgod", b"precious"), ("empty.rtgod", b"")):
        path = tmp_path / name
        path.write_bytes(text)
        with pytest.raises(JournalError, match=r"damaged|not a journal"):
            JournalWriter.resume(path)
        assert path.read_bytes() == text
    with pytest.raises(JournalError, match="cannot be written"):
        JournalWriter.resume(tmp_path / "absent.rtgod")


def test_two_servers_never_write_to_one_journal(tmp_path):
    path = tmp_path / "journal.rtgod"
    script = "import sys; from pathlib import Path; from rtgod.journal.journal import JournalWriter\n"
    script += "writer = JournalWriter(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout.readline()
            with pytest.raises(JournalError, match="is another server running"):
                JournalWriter.resume(path)
        finally:
            other.kill()
    with JournalWriter.resume(path) as writer, pytest.raises(JournalError, match="another process"):
        JournalWriter.resume(writer.path)


def test_without_locks_a_journal_is_written_all_the_same(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(journal_module.fcntl, "flock", no_locks)
    write(tmp_path / "nfs.rtgod")
    monkeypatch.setattr(journal_module, "fcntl", None)
    write(tmp_path / "windows.rtgod")
    assert same(list(read_journal(tmp_path / "windows.rtgod")), MESSAGES)


# ---------------------------------------------------------------- unfinished


def hello(bundle_id):
    return Hello("0.1.0", bundle_id, 7, 40)


@pytest.fixture
def folder(tmp_path):
    """A function that writes a journal into a folder, each newer than the one before, and gives its path."""

    def add(name, *messages, cut=0):
        path = tmp_path / f"{name}.rtgod"
        write(path, messages)
        os.truncate(path, path.stat().st_size - cut)
        n_before = len(journals(tmp_path))
        os.utime(path, (n_before, n_before))
        return path

    add.path = tmp_path
    return add


def test_nothing_is_unfinished_where_there_is_nothing(tmp_path):
    assert unfinished(tmp_path / "absent", "a") is None
    assert unfinished(tmp_path, "a") is None


def test_the_newest_journal_of_the_bundle_is_gone_on_with_unless_it_ended(folder):
    first = folder("z", hello("a"), *MESSAGES)
    assert unfinished(folder.path, "a") == first
    assert unfinished(folder.path, "b") is None
    folder("y", hello("b"), *MESSAGES)
    assert unfinished(folder.path, "a") == first
    folder("x", hello("a"), *MESSAGES, SessionEnd(1.0))
    assert unfinished(folder.path, "a") is None
    last = folder("w", hello(None))
    assert unfinished(folder.path, None) == last


def test_a_session_whose_end_was_torn_did_not_end(folder):
    path = folder("torn", hello("a"), *MESSAGES, SessionEnd(1.0), cut=1)
    assert unfinished(folder.path, "a") == path


@pytest.mark.parametrize("content", [b"", MAGIC[:5], MAGIC, MAGIC + b"\nrec", MAGIC + bytes(500), b"something else"])
def test_a_server_that_died_at_its_start_stops_no_session(folder, content):
    path = folder("before", hello("a"), *MESSAGES)
    (folder.path / "died.rtgod").write_bytes(content)
    assert unfinished(folder.path, "a") == path
    assert unfinished(folder.path, "b") is None


def test_a_stranger_s_journal_stops_no_session(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "to_frames", lambda _: [b'{"rtgod":99,"type":"hello"}'])
        folder("newer-version", *MESSAGES)
    (folder.path / "folder.rtgod").mkdir()
    (folder.path / "dangling.rtgod").symlink_to("nowhere")
    assert unfinished(folder.path, "a") is None


def test_most_of_a_journal_is_not_read_to_know_its_ends(folder, monkeypatch):
    path = folder("long", hello("a"), *MESSAGES * 50)
    read = []
    original = journal_module._read_record
    monkeypatch.setattr(journal_module, "_read_record", lambda *where: read.append(where) or original(*where))
    assert unfinished(folder.path, "a") == path
    assert len(read) == 2


# ---------------------------------------------------------------- a disk that refuses


class Disk(FileIO):
    """A file on a disk that refuses as planned: after so many bytes of the next write, truncation or flush."""

    def __init__(self, path, plan=()):
        super().__init__(path, "xb")
        self.plan = deque(plan)
        self.safe = 0

    def refusal(self):
        return self.plan.popleft() if self.plan else None

    def write(self, data):
        if (n_bytes := self.refusal()) is None:
            return super().write(data)
        # Some of it is written, then the disk is full.
        if n_bytes:
            return super().write(data[: min(n_bytes, len(data))])
        raise OSError(errno.ENOSPC, "No space left on device")

    def truncate(self, size=None):
        if self.refusal() is not None:
            raise OSError(errno.EROFS, "Read-only file system")
        return super().truncate(size)

    def fsync(self):
        """Flush, or fail and throw away all since the last flush, as Linux may."""
        if self.refusal() is None:
            self.safe = self.tell()
            return
        n_lost = os.fstat(self.fileno()).st_size - self.safe
        os.pwrite(self.fileno(), bytes(n_lost), self.safe)
        raise OSError(errno.EIO, "Input/output error")


#: What is asked for, and how the disk takes what that does to it: None is well.
ACTIONS = st.tuples(
    st.sampled_from(["append", "append", "flush", "append_durable"]),
    st.lists(st.none() | st.integers(0, 60), max_size=3),
)


@given(actions=st.lists(ACTIONS, max_size=25))
def test_whatever_a_disk_refuses_what_was_written_is_read_back_in_order(tmp_path_factory, actions):
    path = tmp_path_factory.mktemp("disk") / "journal.rtgod"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "_create", Disk)
        with JournalWriter(path) as writer:
            disk = writer._file
            fsync = os.fsync
            patch.setattr(journal_module.os, "fsync", lambda _: disk.fsync())
            written, safe = [], 0
            disk.fsync()
            for number, (action, plan) in enumerate(actions):
                message = RunEnd("run-1", number)
                disk.plan = deque(plan)
                try:
                    writer.flush() if action == "flush" else getattr(writer, action)(message)
                except JournalError:
                    pass  # and then it is not expected
                else:
                    written += [message] * (action != "flush")
                    safe = len(written) if action != "append" else safe
                # Whatever dies now: what is safe can be read.
                assert list(read_journal(path))[:safe] == written[:safe]
            disk.plan = deque()
            patch.setattr(journal_module.os, "fsync", fsync)
    assert list(read_journal(path)) == written


def test_what_was_appended_outlives_the_mending(tmp_path, monkeypatch):
    """Killed at any moment after a failure, a server leaves what it had appended before."""
    seen = []

    def watched(file, data):
        seen.append(list(read_journal(path)))
        write_all(file, data)
        seen.append(list(read_journal(path)))

    path, messages = tmp_path / "journal.rtgod", [RunEnd("r", n) for n in range(4)]
    with JournalWriter(path) as writer, monkeypatch.context() as patch:
        for message in messages:
            writer.append(message)
        with monkeypatch.context() as full:
            full.setattr(journal_module.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "EIO")))
            with pytest.raises(JournalError):
                writer.flush()
        write_all = journal_module._write_all
        patch.setattr(journal_module, "_write_all", watched)
        writer.flush()
    assert seen == [messages] * 2


def test_what_is_kept_in_memory_is_what_is_not_flushed(tmp_path):
    with JournalWriter(tmp_path / "journal.rtgod") as writer:
        for _ in range(3):
            for message in MESSAGES:
                writer.append(message)
            writer.flush()
            assert writer._unflushed == []


#: Appends volumes until the disk is full, makes room, and goes on; `fill` and `make_room` come before it.
FULL_DISK = """
import sys
from pathlib import Path
import numpy as np
from rtgod.errors import JournalError
from rtgod.journal.journal import JournalWriter
from rtgod.messages import Volume

path = Path(sys.argv[1])
with JournalWriter(path) as writer:
    limit()
    n_refused = 0
    for index in range(40):
        volume = Volume("run-1", index, 0.0, np.full((10, 10, 10), index, "int16"))
        try:
            writer.append_durable(volume)
        except JournalError as error:
            assert "No space left" in str(error) or "File too large" in str(error), error
            n_refused += 1
            if n_refused == 3:
                make_room()
    print(n_refused)
"""
SOFT_LIMIT = """
import resource
def limit(): resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
def make_room(): resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""
FULL_FOLDER = """
import sys
from pathlib import Path
other = Path(sys.argv[1]).with_name("other")
def limit(): other.write_bytes(bytes(120 * 1024))
def make_room(): other.unlink()
"""


def check_all_but_three(path):
    found = list(read_journal(path))
    assert len(found) == 37
    assert all((volume.data == volume.index).all() for volume in found)
    assert len({volume.index for volume in found}) == 37


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX's")
def test_a_file_that_may_not_grow_any_more_is_gone_on_with_once_it_may(tmp_path):
    path = tmp_path / "journal.rtgod"
    done = subprocess.run(
        [sys.executable, "-c", SOFT_LIMIT + FULL_DISK, str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("3\n", "")
    check_all_but_three(path)


@pytest.fixture
def on_a_disk(tmp_path):
    """A function that runs a script on a journal on a small disk of its own, and a line of the shell after it."""
    if shutil.which("unshare") is None:
        pytest.skip("a small disk is made in a namespace of its own")

    def run(options, python, after):
        disk = tmp_path / "disk"
        disk.mkdir()
        shell = f'mount -t tmpfs -o {options} none "$1" || exit 99; "$2" -c "$3" "$1/journal.rtgod"; cd "$1"; {after}'
        namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
        done = subprocess.run(
            [*namespace, shell, "sh", str(disk), sys.executable, python], capture_output=True, text=True, timeout=60
        )
        if done.returncode == 99 or "unshare" in done.stderr:
            pytest.skip(f"no namespaces here: {done.stderr}")
        return done.stdout, done.stderr

    return run


def test_a_disk_that_is_full_is_gone_on_with_once_there_is_room(on_a_disk, tmp_path):
    assert on_a_disk("size=160k", FULL_FOLDER + FULL_DISK, "cp journal.rtgod ..") == ("3\n", "")
    check_all_but_three(tmp_path / "journal.rtgod")


def test_a_disk_that_cannot_be_written_is_named(on_a_disk):
    script = "import sys; from pathlib import Path; from rtgod.journal.journal import JournalWriter; "
    script += "JournalWriter(Path(sys.argv[1]))"
    _, error = on_a_disk("ro", script, "true")
    assert "journal.rtgod: cannot be written (Read-only file system); choose another --journal" in error


def test_a_disk_that_is_full_from_the_start_leaves_no_empty_journal(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "_create", lambda path: Disk(path, plan=[0]))
    with pytest.raises(JournalError, match=r"No space left.*make room"):
        JournalWriter(tmp_path / "journal.rtgod")
    assert list(tmp_path.iterdir()) == []


def test_the_names_of_new_folders_and_files_are_flushed(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(journal_module, "flush_folder", flushed.append)
    JournalWriter(tmp_path / "a" / "b" / "journal.rtgod").close()
    assert set(flushed) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b"}
    monkeypatch.undo()
    monkeypatch.setattr(journal_module, "_NOT_KNOWN", (errno.EINVAL,))
    real = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(journal_module.os, "fsync", files_only)
    JournalWriter(tmp_path / "c" / "journal.rtgod").close()


def test_free_bytes_are_the_disk_s(tmp_path):
    with JournalWriter(tmp_path / "disk" / "journal.rtgod") as writer:
        assert writer.free_bytes() == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
        shutil.rmtree(tmp_path / "disk")  # what the file lies on is still there
        assert writer.free_bytes() == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)


# ---------------------------------------------------------------- which session a folder goes on with


def begun(start, utc_s, folder="here"):
    return Hello("0.1.0", "a", 7, 40, start=start, began_utc_s=utc_s, folder=folder)


def ended(start, utc_s, folder="here"):
    return SessionEnd(utc_s, start, folder)


def test_a_clock_that_was_set_back_does_not_hide_a_session(folder):
    folder("ended", begun(1, 5000.0), ended(1, 6000.0))
    died = folder("died", begun(2, 100.0), *MESSAGES)
    os.utime(folder.path / "ended.rtgod", (10**9, 10**9))
    assert unfinished(folder.path, "a") == died


def test_a_session_that_was_given_up_for_a_later_one_is_not_gone_on_with_whatever_the_clock_says(folder):
    folder("given-up", begun(1, 5000.0), *MESSAGES)
    folder("later", begun(2, 100.0), ended(2, 200.0))
    os.utime(folder.path / "given-up.rtgod", (10**9, 10**9))
    assert unfinished(folder.path, "a") is None
    newest = folder("newest", begun(3, 50.0), *MESSAGES)
    assert unfinished(folder.path, "a") == newest


def test_a_journal_from_another_folder_counts_by_its_clock(folder):
    died = folder("died", begun(2, 5000.0), *MESSAGES)
    folder("foreign", begun(90, 100.0, "elsewhere"), *MESSAGES)
    folder("foreign-that-ended", begun(91, 200.0, "elsewhere"), ended(91, 300.0, "elsewhere"))
    assert unfinished(folder.path, "a") == died
    assert Sessions(folder.path).next_start == 92
    assert Sessions(folder.path).folder == "here"


def test_a_copy_that_was_made_earlier_is_the_same_session(folder):
    path = folder("session", begun(1, 100.0), *MESSAGES)
    folder("backup", begun(1, 100.0), *MESSAGES[:1])  # newer by its time, and shorter
    assert unfinished(folder.path, "a") == path
    whole = folder("session-again", begun(1, 100.0), *MESSAGES, begun(2, 300.0), *MESSAGES)
    assert unfinished(folder.path, "a") == whole
    folder("session-ended", begun(1, 100.0), *MESSAGES, begun(2, 300.0), *MESSAGES, ended(2, 900.0))
    assert unfinished(folder.path, "a") is None


def test_a_folder_without_a_mark_gets_one(folder):
    assert len(Sessions(folder.path).folder) == 16
    assert Sessions(folder.path).folder != Sessions(folder.path).folder  # by chance
    assert Sessions(folder.path).next_start == 1


# ---------------------------------------------------------------- a journal that others touch


def test_only_its_owner_may_read_a_journal(tmp_path):
    path = tmp_path / "new" / "journals" / "a.rtgod"
    JournalWriter(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def moved(path):
    path.rename(path.with_name("away"))


def removed_with_its_folder(path):
    shutil.rmtree(path.parent)


def replaced(path):
    path.unlink()
    path.write_bytes(MAGIC)


def overwritten(path):
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize("touch", [moved, removed_with_its_folder, replaced, overwritten, Path.unlink])
def test_what_others_do_to_a_journal_is_noticed_at_the_next_record(tmp_path, touch):
    path = tmp_path / "journals" / "a.rtgod"
    with JournalWriter(path) as writer:
        writer.append_durable(MESSAGES[0])
        writer.check_place()
        touch(path)
        for _ in range(2):
            with pytest.raises(JournalError, match=r"while the server writes to it|by another program"):
                writer.append_durable(MESSAGES[1])


def test_a_journal_that_is_put_back_is_gone_on_with(tmp_path):
    path = tmp_path / "a.rtgod"
    with JournalWriter(path) as writer:
        writer.append_durable(MESSAGES[0])
        writer.append(MESSAGES[1])
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[:60] + b"other" + content[65:])  # not what was written
        with pytest.raises(JournalError, match="replaced by another file"):
            writer.append_durable(MESSAGES[2])
        path.write_bytes(content)
        writer.append_durable(MESSAGES[2])
        moved(path)
        with pytest.raises(JournalError, match="removed or moved"):
            writer.append(MESSAGES[0])
        path.with_name("away").rename(path)
        writer.append_durable(MESSAGES[0])
    assert same(list(read_journal(path)), [*MESSAGES[:3], MESSAGES[0]])


def test_what_was_acknowledged_is_written_again_at_the_end_if_it_would_be_gone(tmp_path):
    path = tmp_path / "journals" / "a.rtgod"
    with JournalWriter(path) as writer:
        writer.append_durable(MESSAGES[0])
        shutil.rmtree(path.parent)
    assert same(list(read_journal(path)), MESSAGES[:1])
    with JournalWriter(tmp_path / "b.rtgod") as writer:
        writer.append_durable(MESSAGES[0])
        replaced(tmp_path / "b.rtgod")
    assert same(list(read_journal(tmp_path / "b-2.rtgod")), MESSAGES[:1])


def test_what_others_added_to_a_journal_is_cut_off(tmp_path):
    path = tmp_path / "a.rtgod"
    with JournalWriter(path) as writer:
        writer.append_durable(MESSAGES[0])
        with path.open("ab") as other:
            other.write(b"something else")
        writer.append_durable(MESSAGES[1])
    assert same(list(read_journal(path)), MESSAGES[:2])


def test_headers_of_records_with_absurd_numbers_of_frames_are_passed_over(tmp_path, written):
    content, ends = written
    path = tmp_path / "a.rtgod"
    for n_frames in (0, 2**32 - 1):
        start = ends[0] + 12
        path.write_bytes(content[:start] + n_frames.to_bytes(4, "little") + content[start + 4 :])
        assert len(list(read_headers(path))) == len(ends) - 2  # there are as many ends as records, and one
