"""The journal: every message of a session on disk before it is acknowledged, readable to the last whole record.

A file starts with `MAGIC`; then come records: `_MARK`, length of the body and its CRC-32 (two little-endian uint32),
then the body: number of frames, their lengths (uint32 each), the frames as `rtgod.protocol.frames` makes them. A
record that a crash cut short, or left as zeros, fails its mark, length or checksum and ends the reading, unless whole
records follow: then the file was damaged.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from rtgod.errors import JournalError, WireError
from rtgod.files import Closing
from rtgod.messages import Hello, Message, SessionEnd
from rtgod.protocol.frames import from_journal, to_frames

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

MAGIC = b"rtgod journal 1\n"
SUFFIX = ".rtgod"
_MARK = b"\nrec"
_HEAD = struct.Struct("<4sII")
#: A body's beginning: number of frames and length of the first, the header.
_FIRST_FRAME = struct.Struct("<II")
#: A message has its header and an array or two.
_MOST_FRAMES = 16
#: So begins the header of a `Hello`, which every start writes, and that of no other message.
_HELLO = b'{"rtgod":1,"type":"hello"'
#: What is damaged is searched in pieces of so many bytes, for it may be most of a session.
_PIECE = 1 << 20
#: A person's data: for the eyes of who runs the server.
_FILE_MODE, _FOLDER_MODE = 0o600, 0o700
#: A session's end is a record of fewer bytes than this.
_LONGEST_END = 512
#: What a file system says that knows no locks, or no flushing of folders.
_NOT_KNOWN = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a journal, and how one knows that it is still the same journal up to there.

    Attributes
    ----------
    n_bytes : int
        Up to the end of a record.
    first, last : str
        Heads of the journal's first record and of the one that ends there, in hexadecimal; with their checksums.
    last_bytes : int
        Length of the record that ends there.
    """

    n_bytes: int
    first: str
    last: str
    last_bytes: int


class JournalWriter(Closing):
    """Appends messages to a journal file, which no other process can write to meanwhile.

    When the disk is full, or refuses otherwise, what was asked for raises; the next call first brings the file back to
    what was appended before, so that no part of a record ever stays between whole ones.

    Parameters
    ----------
    path : Path
        A new file, as a journal is never overwritten; or the one to append to. Only its owner may read a new one, and a
        folder that is made for it.
    new : bool
    trusted_bytes : int
        Of one to append to: what is known to be whole records, and not read again.

    Raises
    ------
    JournalError
        If the file exists or cannot be made; see also `resume`.
    """

    def __init__(self, path: Path, *, new: bool = True, trusted_bytes: int = len(MAGIC)) -> None:
        self.path = path
        self._file = _create(path) if new else _open_again(path)
        try:
            _lock(path, self._file)
            # Nothing behind these bytes is trusted: the records after them are kept here, too, and written again.
            self._flushed = 0 if new else end_of_records(path, trusted_bytes)
            self._unflushed = [MAGIC] if new else []
            self._first = b"" if new else _first_head(path)
            self._newest: tuple[bytes, int] | None = None
            self._torn = True
            self.flush()
            if new:
                with self._changing():
                    _flush_folder(path.parent)
        except JournalError:
            self._file.close()
            if new:
                path.unlink()
            raise

    @classmethod
    def resume(cls, path: Path, trusted_bytes: int = len(MAGIC)) -> Self:
        """Open a journal to append to it; a torn tail is cut off.

        Parameters
        ----------
        path : Path
        trusted_bytes : int
            What is known to be whole records, and not read again.

        Raises
        ------
        JournalError
            If it cannot be written, another process writes to it, it is no journal, or has a damaged record before its
            end.
        """
        return cls(path, new=False, trusted_bytes=trusted_bytes)

    def append(self, message: Message) -> None:
        """Write one message; it is safe from a crash of this process, and from a power cut after `flush`.

        Raises
        ------
        JournalError
            If it cannot be written; then no trace of it stays after the next call.
        """
        record = _record_of(message)
        self.check_place()
        self._mend()
        with self._changing():
            _write_all(self._file, record)
            self._unflushed.append(record)
        self._newest = record[: _HEAD.size], len(record)
        self._first = self._first or self._newest[0]

    def keep(self, message: Message) -> None:
        """Write one message, and wait until it, and all before it, is on the disk.

        Raises
        ------
        JournalError
            If it cannot be; then no trace of it stays after the next call.
        """
        self.append(message)
        try:
            self.flush()
        except JournalError:
            self._unflushed.pop()
            raise

    def flush(self) -> None:
        """Wait until all that was appended is on the disk.

        Raises
        ------
        JournalError
            If it cannot be; it is written again by the next call.
        """
        self._mend()
        with self._changing():
            os.fsync(self._file.fileno())
        self._flushed += sum(map(len, self._unflushed))
        self._unflushed.clear()

    @property
    def n_bytes(self) -> int:
        """Length of all records so far, and of what stands before them."""
        return self._flushed + sum(map(len, self._unflushed))

    def mark(self) -> Mark | None:
        """Where the journal ends now; None before a record was written here."""
        if self._newest is None:
            return None
        head, length = self._newest
        return Mark(self.n_bytes, self._first.hex(), head.hex(), length)

    def check_place(self) -> None:
        """See to it that what is written here is found under the journal's name.

        A copy that was put back in its place is taken for the journal, if it holds the same.

        Raises
        ------
        JournalError
            If the file was removed, moved or replaced: what is written would be gone with this process.
        """
        try:
            there = self.path.stat()
        except OSError:
            there = None
        own = os.fstat(self._file.fileno())
        if there is not None and os.path.samestat(there, own):
            self._check_length(own.st_size)
            return
        if there is not None and self._take_back():
            log.warning("journal %s: goes on in the copy that was put back", self.path)
            return
        what = "removed or moved" if there is None else "replaced by another file"
        raise JournalError(
            f"journal {self.path}: was {what} while the server writes to it. What was acknowledged is still there: put "
            f"the file back (`cp /proc/{os.getpid()}/fd/{self._file.fileno()} {self.path}` on Linux), and the server "
            "goes on; when it is stopped it writes the file again"
        )

    def _check_length(self, n_bytes: int) -> None:
        """See to it that nobody else wrote to the file, as far as its length tells."""
        if n_bytes < self._flushed:
            raise JournalError(
                f"journal {self.path}: was overwritten or cut by another program: it has {n_bytes} bytes, and should "
                f"have {self.n_bytes}. Put a whole copy in its place, or stop the server and begin a session with --new"
            )
        if n_bytes != self.n_bytes:
            self._torn = True  # what is not flushed is written again, and what is behind it is cut off

    def _take_back(self) -> bool:
        """Write to the file that is in the journal's place from now on, if it holds what was written here."""
        try:
            copy = self.path.open("r+b", buffering=0)
        except OSError:
            return False
        try:
            if _begins_alike(copy, self._file, self._flushed):
                _lock(self.path, copy)
                self._file.close()
                self._file, self._torn = copy, True  # what is not flushed is written again
                return True
        except (OSError, JournalError) as error:
            log.warning("journal %s: the file in its place cannot be taken (%s)", self.path, error)
        copy.close()
        return False

    def free_bytes(self) -> int:
        """Room that is left on the disk of the file, be its folder gone; none where the disk is."""
        try:
            return shutil.disk_usage(self.path.parent if self.path.parent.exists() else self._file.fileno()).free
        except (OSError, ValueError):
            return 0

    def close(self) -> None:
        """Flush and close; a journal that was removed is written again, since nothing else would be left of it."""
        if not self._file.closed:
            try:
                self.flush()
                self._bring_back()
            finally:
                self._file.close()

    def discard(self) -> None:
        """Close, and remove the file: nothing was received, and an empty journal would only puzzle."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _bring_back(self) -> None:
        """Write what was acknowledged to a file of the journal's name, or near it, if it would be gone otherwise."""
        if os.fstat(self._file.fileno()).st_nlink:
            return
        path, number = self.path, 1
        while path.exists():
            number += 1
            path = self.path.with_name(f"{self.path.stem}-{number}{SUFFIX}")
        with self._changing(), _create(path) as copy:
            self._file.seek(0)
            shutil.copyfileobj(self._file, copy, _PIECE)
            os.fsync(copy.fileno())
        log.warning("journal %s: was removed; what was acknowledged is in %s", self.path, path)

    def _mend(self) -> None:
        """After a failure, write again what may be lost by now, and cut off what is behind it.

        A flush that failed may have thrown away what it could not write (fsync(2)), so all since the last that did not
        fail is written; over itself, so that a crash now loses nothing either.
        """
        if self._torn:
            with self._changing():
                self._file.seek(self._flushed)
                _write_all(self._file, b"".join(self._unflushed))
                self._file.truncate()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Unless the block ends well, the file needs mending."""
        self._torn = True
        try:
            yield
        except OSError as error:
            raise JournalError(
                f"journal {self.path}: cannot be written ({error.strerror}); make room on its disk, or allow writing"
            ) from error
        self._torn = False


class _Session(NamedTuple):
    """What a journal's first and last records tell.

    Attributes
    ----------
    path : Path
    bundle_id : str or None
    first : bytes
        Head of its first record: copies have the same.
    n_bytes : int
    folder : str
        Where it was begun; see `Hello`.
    start : int
        Of its last start or end: counted up by each start in that folder.
    utc_s : float
        When that was.
    has_ended : bool
    changed_ns : int
        When the file was written to last, by its disk.
    """

    path: Path
    bundle_id: str | None
    first: bytes
    n_bytes: int
    folder: str
    start: int
    utc_s: float
    has_ended: bool
    changed_ns: int

    def is_older_than(self, other: _Session) -> bool:
        """Whether the other session came after this one.

        By the count, as a clock may be set back; by the clock where one was copied from another folder. Journals of
        older versions have neither; of them the file's time is believed.
        """
        if not self.start or not other.start:
            return self.changed_ns < other.changed_ns
        if self.folder == other.folder:
            return self.start < other.start
        return self.utc_s < other.utc_s

    def is_copy_of(self, other: _Session) -> bool:
        """Whether the other is the same session, as it was later."""
        same = self.path != other.path and self.start > 0 and self.first == other.first
        return same and (self.start, self.n_bytes) < (other.start, other.n_bytes)


class Sessions:
    """The sessions of a folder, as their journals tell of them, without reading most of each.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    JournalError
        If the folder cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        sessions = _sessions(folder)
        self._sessions = [one for one in sessions if not any(map(one.is_copy_of, sessions))]

    @property
    def next_start(self) -> int:
        """The number of the next start of a server there: one more than the last that the journals know."""
        return 1 + max((session.start for session in self._sessions), default=0)

    @property
    def folder(self) -> str:
        """The folder's mark: that of its newest journal, or a new one."""
        counted = [session for session in self._sessions if session.folder]
        return max(counted, key=lambda one: one.utc_s).folder if counted else secrets.token_hex(8)

    def unfinished(self, bundle_id: str | None) -> Path | None:
        """The journal that a server is to go on with; see `unfinished`."""
        sessions = [session for session in self._sessions if session.bundle_id == bundle_id]
        ended = [session for session in sessions if session.has_ended]
        left = [one for one in sessions if not one.has_ended and not any(map(one.is_older_than, ended))]
        newest = [one for one in left if not any(map(one.is_older_than, left))] or left
        return max(newest, key=lambda one: (one.utc_s, one.changed_ns)).path if newest else None


def unfinished(folder: Path, bundle_id: str | None) -> Path | None:
    """The journal of a folder that a server is to go on with: the newest that did not end; None if there is none.

    Parameters
    ----------
    folder : Path
    bundle_id : str or None
        A journal that was made with another bundle is passed over, as is one without a whole record at its beginning:
        nothing in it was acknowledged, or nobody can tell whose it is. One that another session of this bundle
        followed, which did end, was given up.

    Raises
    ------
    JournalError
        If the folder cannot be read.
    """
    return Sessions(folder).unfinished(bundle_id)


def _sessions(folder: Path) -> list[_Session]:
    sessions = []
    for path in journals(folder):
        try:
            session = _session(path)
        except (JournalError, OSError) as error:
            # A session must begin even where a stranger's file lies.
            log.warning("passed over: %s", error)
            continue
        if session is not None:
            sessions.append(session)
    return sessions


def _session(path: Path) -> _Session | None:
    """What a journal tells; None if it does not begin with a whole record of a server."""
    changed_ns = path.stat().st_mtime_ns
    with _reading(path) as (file, size):
        end = _end_at(file, size)
        newest_start = last = len(MAGIC)
        if end is None:
            for start in _starts(file, size):
                last = start
                # A hello is one frame: its header follows the length of it.
                if file.read(_FIRST_FRAME.size + len(_HELLO)).endswith(_HELLO):
                    newest_start = start
        first, ended = (_message_at(file, size, start) for start in (len(MAGIC), last))
        began = first if newest_start == len(MAGIC) else _message_at(file, size, newest_start)
    if not isinstance(first, Hello):
        return None
    end = end or (ended if isinstance(ended, SessionEnd) else None)
    began = began if isinstance(began, Hello) else first
    folder, start, utc_s = began.folder, began.start, began.began_utc_s or 0.0
    if end is not None:
        folder, start, utc_s = end.folder, end.start, end.utc_s
    head = _first_head(path)
    return _Session(path, first.bundle_id, head, size, folder, start, utc_s, end is not None, changed_ns)


def check_bundle(path: Path, bundle_id: str | None) -> None:
    """See to it that a session goes on only with the bundle that it was begun with.

    Raises
    ------
    JournalError
        If the journal was made with another bundle, or cannot be read. One without a whole record is nobody's yet.
    """
    first = next(read_journal(path), Hello("", bundle_id, 0, 0))
    if not isinstance(first, Hello) or first.bundle_id != bundle_id:
        other = f"bundle {first.bundle_id}, not {bundle_id}" if isinstance(first, Hello) else "one it does not tell"
        raise JournalError(f"journal {path}: begun with {other}; put back the bundle that the session began with")


def journals(folder: Path) -> list[Path]:
    """The journals of a folder, the one that was written to last at the end; none if there is no folder.

    Raises
    ------
    JournalError
        If the folder cannot be read.
    """
    try:
        found = [path for path in folder.glob(f"*{SUFFIX}") if path.is_file()]
        return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path))
    except OSError as error:
        raise JournalError(f"journals in {folder}: cannot be read ({error.strerror})") from error


def read_journal(
    path: Path, start: int = len(MAGIC), passed_over: Callable[[str], object] | None = None
) -> Iterator[Message]:
    """Messages of a journal in the order in which they were written.

    Parameters
    ----------
    path : Path
    start : int
        Where a record begins: the first that is read.
    passed_over : callable, optional
        Told of each whole record that is no message of this version, which is then left out. By default such a record
        is an error.

    Yields
    ------
    Message
        Up to the last whole record; a torn tail, which a crash may leave, is not an error.

    Raises
    ------
    JournalError
        If the file cannot be read, is no journal, or has a damaged record before its end.
    """
    for body, end in _read_records(path, start):
        try:
            message = _message_of(body)
        except WireError as error:
            if passed_over is None:
                raise JournalError(f"journal {path}: written by another version of rtgod ({error})") from error
            passed_over(f"journal {path}: the record before byte {end} is no message ({error})")
            continue
        yield message


def check_records(path: Path) -> tuple[int, list[str]]:
    """Compare all checksums of a journal and read every message.

    Returns
    -------
    end : int
        Bytes up to the end of the last whole record.
    problems : list of str
        Of each whole record that is no message of this version.

    Raises
    ------
    JournalError
        As `read_journal` does.
    """
    last, problems = len(MAGIC), []
    for body, end in _read_records(path, last):
        last = end
        try:
            _message_of(body)
        except WireError as error:
            problems.append(f"the record before byte {end} is no message of this version ({error})")
    return last, problems


def holds(path: Path, mark: Mark) -> bool:
    """Whether a journal is the one that a mark was made in, up to the mark, as far as can be told quickly.

    Raises
    ------
    JournalError
        As `read_headers` does.
    """
    with _reading(path) as (file, size):
        start = mark.n_bytes - mark.last_bytes
        if not len(MAGIC) <= start or mark.n_bytes > size or _first_head(path).hex() != mark.first:
            return False
        file.seek(start)
        if file.read(_HEAD.size).hex() != mark.last:
            return False
        file.seek(start)
        return _read_record(file, size) is not None and file.tell() == mark.n_bytes


def end_of_records(path: Path, start: int = len(MAGIC)) -> int:
    """Bytes up to the end of the last whole record; from `start`, where a record begins, all checksums are compared.

    Raises
    ------
    JournalError
        As `read_journal` does.
    """
    return max((end for _, end in _read_records(path, start)), default=start)


def read_headers(path: Path) -> Iterator[bytes]:
    """JSON headers of a journal's messages, without their arrays.

    Quick, because most of the file is passed over; so no checksum is compared, and the last may be no header.

    Raises
    ------
    JournalError
        If the file cannot be read or is no journal.
    """
    with _reading(path) as (file, size):
        for start in _starts(file, size):
            file.seek(start + _HEAD.size)
            n_frames, length = _FIRST_FRAME.unpack(file.read(_FIRST_FRAME.size).ljust(_FIRST_FRAME.size, b"\0"))
            if not 1 <= n_frames <= _MOST_FRAMES:
                continue  # no record of ours, as its checksum would tell
            file.seek(4 * (n_frames - 1), os.SEEK_CUR)
            yield file.read(min(length, size - file.tell()))


def _read_records(path: Path, start: int) -> Iterator[tuple[bytes, int]]:
    """The body of each record from `start` on, and where it ends."""
    with _reading(path) as (file, size):
        end = file.seek(start)
        while (body := _read_record(file, size)) is not None:
            end = file.tell()
            yield body, end
        if _has_record(file, end, size):
            raise JournalError(f"{path}: damaged {end} bytes from its start; restore a copy")


@contextmanager
def _reading(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A journal at its first record, and its size for now: a server may be writing on."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise JournalError(f"{path}: not a journal of this version of rtgod")
            yield file, os.fstat(file.fileno()).st_size
    except WireError as error:
        raise JournalError(f"journal {path}: written by another version of rtgod ({error})") from error
    except OSError as error:
        raise JournalError(f"journal {path}: cannot be read ({error.strerror})") from error


def _create(path: Path) -> FileIO:
    try:
        for folder in reversed([folder for folder in path.parents if not folder.exists()]):
            folder.mkdir(mode=_FOLDER_MODE if folder == path.parent else 0o777, exist_ok=True)
            _flush_folder(folder.parent)
        return open(path, "x+b", buffering=0, opener=_open_private)
    except OSError as error:
        if path.is_file():
            raise JournalError(f"journal {path}: exists already; a journal is never overwritten") from error
        raise JournalError(f"journal {path}: cannot be written ({error.strerror}); choose another --journal") from error


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, _FILE_MODE)


def _flush_folder(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_KNOWN:
            raise
    finally:
        os.close(descriptor)


def _open_again(path: Path) -> FileIO:
    try:
        return path.open("r+b", buffering=0)
    except OSError as error:
        raise JournalError(f"journal {path}: cannot be written ({error.strerror})") from error


def _lock(path: Path, file: FileIO) -> None:
    """Keep other processes from writing to the file, for as long as it is open here."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise JournalError(
            f"journal {path}: another process writes to it; is another server running? Stop it, or begin a session of "
            "its own with --new"
        ) from error
    except OSError as error:
        if error.errno not in _NOT_KNOWN:
            raise JournalError(f"journal {path}: cannot be locked ({error.strerror})") from error


def _record_of(message: Message) -> bytes:
    frames = to_frames(message)
    parts = [struct.pack(f"<{1 + len(frames)}I", len(frames), *map(len, frames)), *frames]
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return b"".join([_HEAD.pack(_MARK, sum(map(len, parts)), checksum), *parts])


def _write_all(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _end_at(file: BinaryIO, size: int) -> SessionEnd | None:
    """The session's end, if a file of `size` bytes ends with one; None if that is not so, or cannot be told quickly."""
    start = max(len(MAGIC), size - _LONGEST_END)
    file.seek(start)
    tail = file.read(size - start)
    position = tail.rfind(_MARK)
    if position < 0 or len(tail) - position < _HEAD.size:
        return None
    _, length, checksum = _HEAD.unpack_from(tail, position)
    body = tail[position + _HEAD.size :]
    if len(body) != length or zlib.crc32(body) != checksum:
        return None
    message = _message_of(body)
    return message if isinstance(message, SessionEnd) else None


def _first_head(path: Path) -> bytes:
    with _reading(path) as (file, _):
        return file.read(_HEAD.size)


def _message_at(file: BinaryIO, size: int, start: int) -> Message | None:
    """The message whose record starts there; None if it is not whole."""
    file.seek(start)
    body = _read_record(file, size)
    return None if body is None else _message_of(body)


def _begins_alike(copy: FileIO, own: FileIO, n_bytes: int) -> bool:
    """Whether the first `n_bytes` of two files are the same."""
    copy.seek(0)
    own.seek(0)
    try:
        for start in range(0, n_bytes, _PIECE):
            length = min(_PIECE, n_bytes - start)
            piece = copy.read(length)
            if len(piece) < length or piece != own.read(length):
                return False
        return True
    finally:
        own.seek(0, os.SEEK_END)


def _starts(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the records start whose heads are whole and announce no more than is there."""
    start = file.seek(len(MAGIC))
    while (head := _read_head(file, size)) is not None:
        yield start
        start = file.seek(start + _HEAD.size + head[0])


def _read_record(file: BinaryIO, size: int) -> bytes | None:
    """Body of the record at the position of a file of `size` bytes; None if it is not whole, or the file ends."""
    head = _read_head(file, size)
    if head is None:
        return None
    length, checksum = head
    body = file.read(length)
    return body if zlib.crc32(body) == checksum else None


def _read_head(file: BinaryIO, size: int) -> tuple[int, int] | None:
    """Length and checksum of the body that follows; None where that is no record's, or more than is there."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    mark, length, checksum = _HEAD.unpack(head)
    # A damaged length may ask for gigabytes, and one of zeros, which a power cut leaves, would have the right checksum.
    possible = mark == _MARK and _FIRST_FRAME.size <= length <= size - file.tell()
    return (length, checksum) if possible else None


def _has_record(file: BinaryIO, start: int, size: int) -> bool:
    """Whether a whole record lies anywhere from `start` on in a file of `size` bytes."""
    for offset in range(start, size, _PIECE):
        file.seek(offset)
        # A mark may lie across two pieces.
        piece = file.read(min(_PIECE + len(_MARK) - 1, size - offset))
        position = piece.find(_MARK)
        while position >= 0:
            file.seek(offset + position)
            if _read_record(file, size) is not None:
                return True
            position = piece.find(_MARK, position + 1)
    return False


def _message_of(body: bytes) -> Message:
    try:
        (n_frames,) = struct.unpack_from("<I", body)
        lengths = struct.unpack_from(f"<{n_frames}I", body, 4)
    except struct.error as error:
        raise WireError(f"a record without its frames: {error}") from error
    view, frames, start = memoryview(body), [], 4 + 4 * n_frames
    for length in lengths:
        frames.append(view[start : start + length])
        start += length
    return from_journal(frames)
