"""The journal: a file that holds every message of a session before it is acknowledged, readable to the last record.

A file starts with `MAGIC`; then come records: `_MARK`, length of the body and its CRC-32 (two little-endian uint32),
then the body: number of frames, their lengths (uint32 each), the frames as `rtgod.protocol.frames` makes them. A
record that a crash cut short, or left as zeros, has a wrong mark, length or checksum. Reading ends there, unless whole
records follow: then the file was damaged, and reading raises.
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
from rtgod.files import Closing, flush_folder
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
#: Beginning of a body: number of frames, and length of the first one, the header.
_FIRST_FRAME = struct.Struct("<II")
#: Most frames of a message; real ones have a header and an array or two.
_MOST_FRAMES = 16
#: First bytes of the header of a `Hello`, and of no other message; every start of a server writes one.
_HELLO = b'{"rtgod":1,"type":"hello"'
#: Bytes that are read at a time where a file may be long.
_PIECE = 1 << 20
#: A journal is personal data: only the user who runs the server may read it.
_FILE_MODE, _FOLDER_MODE = 0o600, 0o700
#: Upper limit, in bytes, of the record of a session's end.
_LONGEST_END = 512
#: Errors of file systems that cannot lock files or flush folders.
_NOT_KNOWN = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


@dataclass(frozen=True, slots=True)
class Mark:
    """A position in a journal, with data to recognise the journal up to it.

    Attributes
    ----------
    n_bytes : int
        Position, in bytes from the start of the file; a record ends there.
    first, last : str
        Heads of the journal's first record and of the record that ends at the position, in hexadecimal. A head contains
        the record's checksum.
    last_bytes : int
        Length of the record that ends at the position.
    """

    n_bytes: int
    first: str
    last: str
    last_bytes: int


class JournalWriter(Closing):
    """Writer that appends messages to a journal file, which it locks against other processes.

    A method raises if the disk is full or fails otherwise; the next call first restores the file to the records
    appended before, so that no part of a record ever stays between whole ones.

    Parameters
    ----------
    path : Path
        A file to make, as a journal is never overwritten, or an existing journal to append to. Only the owner may read
        a new file, and a folder that is made for it.
    new : bool
        Whether to make the file.
    trusted_bytes : int
        Length of the part of an existing journal that is known to consist of whole records, and is not read again.

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
            # Bytes up to here are on the disk; the records after them are kept in memory, too, to be written again.
            self._flushed = 0 if new else end_of_records(path, trusted_bytes)
            self._unflushed = [MAGIC] if new else []
            self._first = b"" if new else _first_head(path)
            self._newest: tuple[bytes, int] | None = None
            self._torn = True
            self.flush()
            if new:
                with self._changing():
                    flush_folder(path.parent)
        except JournalError:
            self._file.close()
            if new:
                path.unlink()
            raise

    @classmethod
    def resume(cls, path: Path, trusted_bytes: int = len(MAGIC)) -> Self:
        """Open a journal to append to it, and cut off a torn tail.

        Parameters
        ----------
        path : Path
        trusted_bytes : int
            Length of the part that is known to consist of whole records, and is not read again.

        Raises
        ------
        JournalError
            If the file cannot be written, another process writes to it, it is no journal, or it has a damaged record
            before its end.
        """
        return cls(path, new=False, trusted_bytes=trusted_bytes)

    def append(self, message: Message) -> None:
        """Write a message; it survives a crash of this process at once, and a power cut after `flush`.

        Parameters
        ----------
        message : Message

        Raises
        ------
        JournalError
            If the message cannot be written; then no trace of it stays after the next call.
        """
        record = _record_of(message)
        self.check_place()
        self._mend()
        with self._changing():
            _write_all(self._file, record)
            self._unflushed.append(record)
        self._newest = record[: _HEAD.size], len(record)
        self._first = self._first or self._newest[0]

    def append_durable(self, message: Message) -> None:
        """Write a message, and wait until it and all earlier ones are on the disk.

        Parameters
        ----------
        message : Message

        Raises
        ------
        JournalError
            If the message cannot be written; then no trace of it stays after the next call.
        """
        self.append(message)
        try:
            self.flush()
        except JournalError:
            self._unflushed.pop()
            raise

    def flush(self) -> None:
        """Wait until all appended records are on the disk.

        Raises
        ------
        JournalError
            If the disk fails; the next call writes the records again.
        """
        self._mend()
        with self._changing():
            os.fsync(self._file.fileno())
        self._flushed += sum(map(len, self._unflushed))
        self._unflushed.clear()

    @property
    def n_bytes(self) -> int:
        """Length of the journal, in bytes: `MAGIC` and all records so far."""
        return self._flushed + sum(map(len, self._unflushed))

    def mark(self) -> Mark | None:
        """Return a mark at the journal's end; None before a record was written by this writer."""
        if self._newest is None:
            return None
        head, length = self._newest
        return Mark(self.n_bytes, self._first.hex(), head.hex(), length)

    def check_place(self) -> None:
        """Check that the open file is still the one at the journal's path.

        If a copy with the same content was put in its place, write to the copy from now on.

        Raises
        ------
        JournalError
            If the file was removed, moved or replaced: its records could be lost when this process ends.
        """
        try:
            stat_at_path = self.path.stat()
        except OSError:
            stat_at_path = None
        stat = os.fstat(self._file.fileno())
        if stat_at_path is not None and os.path.samestat(stat_at_path, stat):
            self._check_length(stat.st_size)
            return
        if stat_at_path is not None and self._take_back():
            log.warning("journal %s: goes on in the copy that was put back", self.path)
            return
        change = "removed or moved" if stat_at_path is None else "replaced by another file"
        raise JournalError(
            f"journal {self.path}: was {change} while the server writes to it. What was acknowledged is still there: "
            f"put the file back (`cp /proc/{os.getpid()}/fd/{self._file.fileno()} {self.path}` on Linux), and the "
            "server goes on; when it is stopped it writes the file again"
        )

    def _check_length(self, n_bytes: int) -> None:
        """Check by its length that no other program changed the file."""
        if n_bytes < self._flushed:
            raise JournalError(
                f"journal {self.path}: was overwritten or cut by another program: it has {n_bytes} bytes, and should "
                f"have {self.n_bytes}. Put a whole copy in its place, or stop the server and begin a session with --new"
            )
        if n_bytes != self.n_bytes:
            self._torn = True  # unflushed records are written again, and bytes after them are cut off

    def _take_back(self) -> bool:
        """Continue in the file at the journal's path, if it holds all flushed records; return whether it does."""
        try:
            copy = self.path.open("r+b", buffering=0)
        except OSError:
            return False
        try:
            if _begins_alike(copy, self._file, self._flushed):
                _lock(self.path, copy)
                self._file.close()
                self._file, self._torn = copy, True  # unflushed records are written again
                return True
        except (OSError, JournalError) as error:
            log.warning("journal %s: the file in its place cannot be taken (%s)", self.path, error)
        copy.close()
        return False

    def free_bytes(self) -> int:
        """Return the room that is left on the file's disk, even if its folder is gone; 0 if the disk is."""
        try:
            return shutil.disk_usage(self.path.parent if self.path.parent.exists() else self._file.fileno()).free
        except (OSError, ValueError):
            return 0

    def close(self) -> None:
        """Flush and close; if the file was removed meanwhile, first write it again so that nothing is lost."""
        if not self._file.closed:
            try:
                self.flush()
                self._bring_back()
            finally:
                self._file.close()

    def discard(self) -> None:
        """Close and remove the file of a session that received nothing, as an empty journal would be puzzling."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _bring_back(self) -> None:
        """Copy the journal to a file of its name, or a similar one, if its own file was removed."""
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
        """Repair the file after a failure: write the unflushed records again, and cut off bytes after them.

        A failed flush may have discarded data that it could not write (fsync(2)), so all records since the last
        successful flush are written again, in place, so that a crash meanwhile loses nothing either.
        """
        if self._torn:
            with self._changing():
                self._file.seek(self._flushed)
                _write_all(self._file, b"".join(self._unflushed))
                self._file.truncate()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Run a block that changes the file; if it fails, note that the file needs mending."""
        self._torn = True
        try:
            yield
        except OSError as error:
            raise JournalError(
                f"journal {self.path}: cannot be written ({error.strerror}); make room on its disk, or allow writing"
            ) from error
        self._torn = False


class _Session(NamedTuple):
    """Properties of a session, read from its journal's first and last records.

    Attributes
    ----------
    path : Path
    bundle_id : str or None
    first : bytes
        Head of the journal's first record, which is equal in copies.
    n_bytes : int
        Size of the file.
    folder : str
        Mark of the folder in which the session began; see `Hello`.
    start : int
        Number of the last start recorded, which each start in that folder counts up; 0 if starts were not counted.
    utc_s : float
        Time of that start, or of the session's end if it ended, in seconds since 1970.
    has_ended : bool
    changed_ns : int
        Time of the last change of the file, from the file system.
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
        """Return whether the other session came after this one.

        Sessions of one folder are compared by their counts, as a clock may be set back; sessions of different folders,
        by their times. Journals of older versions have no count and are compared by the file's time of change.
        """
        if not self.start or not other.start:
            return self.changed_ns < other.changed_ns
        if self.folder == other.folder:
            return self.start < other.start
        return self.utc_s < other.utc_s

    def is_copy_of(self, other: _Session) -> bool:
        """Return whether the other journal is a later state of the same session."""
        same = self.path != other.path and self.start > 0 and self.first == other.first
        return same and (self.start, self.n_bytes) < (other.start, other.n_bytes)


class Sessions:
    """Sessions of a folder, from the first and last records of their journals.

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
        self._sessions = [session for session in sessions if not any(map(session.is_copy_of, sessions))]

    @property
    def next_start(self) -> int:
        """Number of the next start of a server in the folder: one more than the last in its journals."""
        return 1 + max((session.start for session in self._sessions), default=0)

    @property
    def folder(self) -> str:
        """Mark of the folder, from its newest journal, or a new random one."""
        counted = [session for session in self._sessions if session.folder]
        return max(counted, key=lambda session: session.utc_s).folder if counted else secrets.token_hex(8)

    def unfinished(self, bundle_id: str | None) -> Path | None:
        """Find the journal that a server is to continue; see the function `unfinished`.

        Parameters
        ----------
        bundle_id : str or None
            Bundle of the server; None for a server that only aligns.
        """
        sessions = [session for session in self._sessions if session.bundle_id == bundle_id]
        ended = [session for session in sessions if session.has_ended]
        going_on = [
            session for session in sessions if not session.has_ended and not any(map(session.is_older_than, ended))
        ]
        newest = [session for session in going_on if not any(map(session.is_older_than, going_on))] or going_on
        return max(newest, key=lambda session: (session.utc_s, session.changed_ns)).path if newest else None


def unfinished(folder: Path, bundle_id: str | None) -> Path | None:
    """Find the journal in a folder that a server is to continue: the newest that did not end; None if all ended.

    Parameters
    ----------
    folder : Path
    bundle_id : str or None
        Bundle of the server. A journal that was made with another bundle is passed over, as is one that does not begin
        with a whole record: nothing in it was acknowledged, or its bundle is unknown. A journal is also passed over if
        a later session with this bundle has ended.

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
            # A file that is no readable journal must not keep a session from beginning.
            log.warning("passed over: %s", error)
            continue
        if session is not None:
            sessions.append(session)
    return sessions


def _session(path: Path) -> _Session | None:
    """Read the properties of a session; None if its journal does not begin with the whole record of a `Hello`."""
    changed_ns = path.stat().st_mtime_ns
    with _reading(path) as (file, size):
        end = _end_at(file, size)
        newest_start = last_start = len(MAGIC)
        if end is None:
            for start in _starts(file, size):
                last_start = start
                # A hello is one frame: its header directly follows the frame's length.
                if file.read(_FIRST_FRAME.size + len(_HELLO)).endswith(_HELLO):
                    newest_start = start
        first_message, last_message = (_message_at(file, size, start) for start in (len(MAGIC), last_start))
        hello = first_message if newest_start == len(MAGIC) else _message_at(file, size, newest_start)
    if not isinstance(first_message, Hello):
        return None
    end = end or (last_message if isinstance(last_message, SessionEnd) else None)
    hello = hello if isinstance(hello, Hello) else first_message
    folder, start, utc_s = hello.folder, hello.start, hello.began_utc_s or 0.0
    if end is not None:
        folder, start, utc_s = end.folder, end.start, end.utc_s
    head = _first_head(path)
    return _Session(path, first_message.bundle_id, head, size, folder, start, utc_s, end is not None, changed_ns)


def check_bundle(path: Path, bundle_id: str | None) -> None:
    """Check that a session is continued with the bundle with which it began.

    Parameters
    ----------
    path : Path
    bundle_id : str or None
        Bundle of the server that continues the session; None for one that only aligns.

    Raises
    ------
    JournalError
        If the journal was made with another bundle, or cannot be read. Without a whole record it fits any bundle.
    """
    message = next(read_journal(path), Hello("", bundle_id, 0, 0))
    if not isinstance(message, Hello) or message.bundle_id != bundle_id:
        bundle = (
            f"bundle {message.bundle_id}, not {bundle_id}" if isinstance(message, Hello) else "one it does not tell"
        )
        raise JournalError(f"journal {path}: begun with {bundle}; put back the bundle that the session began with")


def journals(folder: Path) -> list[Path]:
    """List the journals of a folder, in order of their last change; empty if the folder does not exist.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    JournalError
        If the folder cannot be read.
    """
    try:
        paths = [path for path in folder.glob(f"*{SUFFIX}") if path.is_file()]
        return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path))
    except OSError as error:
        raise JournalError(f"journals in {folder}: cannot be read ({error.strerror})") from error


def read_journal(
    path: Path, start: int = len(MAGIC), passed_over: Callable[[str], object] | None = None
) -> Iterator[Message]:
    """Read the messages of a journal in the order in which they were written.

    Parameters
    ----------
    path : Path
    start : int
        Byte at which the first record to be read begins.
    passed_over : callable, optional
        Function that is called with a description of each whole record that is not a message of this version; such
        records are then left out. Without it they are an error.

    Yields
    ------
    Message
        Messages up to the last whole record; a torn tail, which a crash may leave, is not an error.

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

    Parameters
    ----------
    path : Path

    Returns
    -------
    end : int
        Bytes up to the end of the last whole record.
    problems : list of str
        Description of each whole record that is not a message of this version.

    Raises
    ------
    JournalError
        See `read_journal`.
    """
    last_end, problems = len(MAGIC), []
    for body, end in _read_records(path, last_end):
        last_end = end
        try:
            _message_of(body)
        except WireError as error:
            problems.append(f"the record before byte {end} is no message of this version ({error})")
    return last_end, problems


def holds(path: Path, mark: Mark) -> bool:
    """Return whether a journal is the one in which a mark was made, judged by its first record and that at the mark.

    Parameters
    ----------
    path : Path
    mark : Mark

    Raises
    ------
    JournalError
        See `read_headers`.
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
    """Return the byte at which the last whole record ends, after comparing all checksums from the record at `start`.

    Parameters
    ----------
    path : Path
    start : int
        Byte at which a record begins, or the journal ends; returned if no whole record follows.

    Raises
    ------
    JournalError
        See `read_journal`.
    """
    return max((end for _, end in _read_records(path, start)), default=start)


def read_headers(path: Path) -> Iterator[bytes]:
    """Read the JSON headers of a journal's messages, without their arrays.

    This is quick, as most of the file is skipped. No checksum is compared, so the last header may be torn.

    Parameters
    ----------
    path : Path

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
                continue  # not a real record; its checksum would be wrong
            file.seek(4 * (n_frames - 1), os.SEEK_CUR)
            yield file.read(min(length, size - file.tell()))


def _read_records(path: Path, start: int) -> Iterator[tuple[bytes, int]]:
    """Read the body of each record from `start` on; give it with the byte at which the record ends."""
    with _reading(path) as (file, size):
        end = file.seek(start)
        while (body := _read_record(file, size)) is not None:
            end = file.tell()
            yield body, end
        if _has_record(file, end, size):
            raise JournalError(f"{path}: damaged {end} bytes from its start; restore a copy")


@contextmanager
def _reading(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a journal at its first record; give the file and its present size, as a server may be appending to it."""
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
            flush_folder(folder.parent)
        return open(path, "x+b", buffering=0, opener=_open_private)
    except OSError as error:
        if path.is_file():
            raise JournalError(f"journal {path}: exists already; a journal is never overwritten") from error
        raise JournalError(f"journal {path}: cannot be written ({error.strerror}); choose another --journal") from error


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, _FILE_MODE)


def _open_again(path: Path) -> FileIO:
    try:
        return path.open("r+b", buffering=0)
    except OSError as error:
        raise JournalError(f"journal {path}: cannot be written ({error.strerror})") from error


def _lock(path: Path, file: FileIO) -> None:
    """Lock the file against other writers until it is closed, on systems with file locks."""
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
    """Return the `SessionEnd` with which a file of `size` bytes ends; None if its last bytes hold no such record."""
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
    """Read the message whose record begins at `start`; None if the record is not whole."""
    file.seek(start)
    body = _read_record(file, size)
    return None if body is None else _message_of(body)


def _begins_alike(copy: FileIO, original: FileIO, n_bytes: int) -> bool:
    """Return whether the first `n_bytes` of two files are equal."""
    copy.seek(0)
    original.seek(0)
    try:
        for start in range(0, n_bytes, _PIECE):
            length = min(_PIECE, n_bytes - start)
            piece = copy.read(length)
            if len(piece) < length or piece != original.read(length):
                return False
        return True
    finally:
        original.seek(0, os.SEEK_END)


def _starts(file: BinaryIO, size: int) -> Iterator[int]:
    """Give the positions of records, up to the first whose head is damaged or announces more bytes than follow."""
    start = file.seek(len(MAGIC))
    while (head := _read_head(file, size)) is not None:
        yield start
        start = file.seek(start + _HEAD.size + head[0])


def _read_record(file: BinaryIO, size: int) -> bytes | None:
    """Read the body of the record at the current position; None if it is not whole, or the file ends there."""
    head = _read_head(file, size)
    if head is None:
        return None
    length, checksum = head
    body = file.read(length)
    return body if zlib.crc32(body) == checksum else None


def _read_head(file: BinaryIO, size: int) -> tuple[int, int] | None:
    """Read the head of a record: length and checksum of its body; None if it is no head, or the body is cut short."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    mark, length, checksum = _HEAD.unpack(head)
    # A damaged length may ask for gigabytes; an empty body of zeros, left by a power cut, would pass the checksum.
    possible = mark == _MARK and _FIRST_FRAME.size <= length <= size - file.tell()
    return (length, checksum) if possible else None


def _has_record(file: BinaryIO, start: int, size: int) -> bool:
    """Return whether a whole record begins anywhere from `start` on in a file of `size` bytes."""
    for offset in range(start, size, _PIECE):
        file.seek(offset)
        # Pieces overlap, as a mark may lie across two of them.
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
