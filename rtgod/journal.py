"""The journal: every message of a session on disk before it is acknowledged, readable to the last whole record.

A file starts with `MAGIC`; then come records: `_MARK`, length of the body and its CRC-32 (two little-endian uint32),
then the body: number of frames, their lengths (uint32 each), the frames as `rtgod.wire` makes them. A record that a
crash cut short, or left as zeros, fails its mark, length or checksum and ends the reading, unless whole records follow:
then the file was damaged.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Self

from rtgod import wire
from rtgod.errors import JournalError, WireError
from rtgod.files import Closing
from rtgod.messages import Hello, Message, SessionEnd

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
#: So begins the header of a `Hello`, which every start writes, and that of no other message.
_HELLO = b'{"rtgod":1,"type":"hello"'
#: What is damaged is searched in pieces of so many bytes, for it may be most of a session.
_PIECE = 1 << 20
#: What a file system says that knows no locks, or no flushing of folders.
_NOT_KNOWN = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


class JournalWriter(Closing):
    """Appends messages to a journal file, which no other process can write to meanwhile.

    When the disk is full, or refuses otherwise, what was asked for raises; the next call first brings the file back to
    what was appended before, so that no part of a record ever stays between whole ones.

    Parameters
    ----------
    path : Path
        A new file, as a journal is never overwritten; or the one to append to.
    new : bool

    Raises
    ------
    JournalError
        If the file exists or cannot be made; see also `resume`.
    """

    def __init__(self, path: Path, *, new: bool = True) -> None:
        self.path = path
        self._file = _create(path) if new else _open_again(path)
        try:
            _lock(path, self._file)
            # Nothing behind these bytes is trusted: the records after them are kept here, too, and written again.
            self._flushed = 0 if new else end_of_records(path)
            self._unflushed = [MAGIC] if new else []
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
    def resume(cls, path: Path) -> Self:
        """Open a journal to append to it; a torn tail is cut off.

        Raises
        ------
        JournalError
            If it cannot be written, another process writes to it, it is no journal, or has a damaged record before its
            end.
        """
        return cls(path, new=False)

    def append(self, message: Message) -> None:
        """Write one message; it is safe from a crash of this process, and from a power cut after `flush`.

        Raises
        ------
        JournalError
            If it cannot be written; then no trace of it stays after the next call.
        """
        record = _record_of(message)
        self._mend()
        with self._changing():
            _write_all(self._file, record)
            self._unflushed.append(record)

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

    def free_bytes(self) -> int:
        """Room that is left on the disk; none where it is gone."""
        try:
            return shutil.disk_usage(self.path.parent).free
        except OSError:
            return 0

    def close(self) -> None:
        """Flush and close."""
        if not self._file.closed:
            try:
                self.flush()
            finally:
                self._file.close()

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


def unfinished(folder: Path, bundle_id: str | None) -> Path | None:
    """The newest journal of a folder, if its server did not come to an end; None otherwise, or if there is none.

    Parameters
    ----------
    folder : Path
    bundle_id : str or None
        A journal that was made with another bundle is passed over, as is one without a whole record at its beginning:
        nothing in it was acknowledged, or nobody can tell whose it is.

    Raises
    ------
    JournalError
        If the folder cannot be read.
    """
    for path in reversed(journals(folder)):
        try:
            first, last = _ends(path)
        except JournalError as error:
            # A session must begin even where a stranger's file lies.
            log.warning("passed over: %s", error)
            continue
        if isinstance(first, Hello) and first.bundle_id == bundle_id:
            return None if isinstance(last, SessionEnd) else path
    return None


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


def read_journal(path: Path) -> Iterator[Message]:
    """Messages of a journal in the order in which they were written.

    Parameters
    ----------
    path : Path

    Yields
    ------
    Message
        Up to the last whole record; a torn tail, which a crash may leave, is not an error.

    Raises
    ------
    JournalError
        If the file cannot be read, is no journal, or has a damaged record before its end.
    """
    for message, _ in _read_records(path):
        yield message


def end_of_records(path: Path) -> int:
    """Bytes up to the end of the last whole record, all of which is compared with its checksums.

    Raises
    ------
    JournalError
        As `read_journal` does.
    """
    return max((end for _, end in _read_records(path)), default=len(MAGIC))


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
            file.seek(4 * (n_frames - 1), os.SEEK_CUR)
            yield file.read(min(length, wire.MAX_HEADER_BYTES))


def n_starts(path: Path) -> int:
    """How often a server has begun on a journal.

    Raises
    ------
    JournalError
        As `read_headers` does.
    """
    return sum(header.startswith(_HELLO) for header in read_headers(path))


def _read_records(path: Path) -> Iterator[tuple[Message, int]]:
    """Each message with the number of bytes up to the end of its record."""
    with _reading(path) as (file, size):
        end = len(MAGIC)
        while (body := _read_record(file, size)) is not None:
            end = file.tell()
            yield _message_of(body), end
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
        made = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in made:
            _flush_folder(folder.parent)
        return path.open("xb", buffering=0)
    except OSError as error:
        if path.is_file():
            raise JournalError(f"journal {path}: exists already; a journal is never overwritten") from error
        raise JournalError(f"journal {path}: cannot be written ({error.strerror}); choose another --journal") from error


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
    frames = wire.to_frames(message)
    parts = [struct.pack(f"<{1 + len(frames)}I", len(frames), *map(len, frames)), *frames]
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return b"".join([_HEAD.pack(_MARK, sum(map(len, parts)), checksum), *parts])


def _write_all(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _ends(path: Path) -> tuple[Message | None, Message | None]:
    """The first record of a journal and the last that has a head, without reading those between; None if not whole."""
    with _reading(path) as (file, size):
        bodies = []
        for start in (len(MAGIC), max(_starts(file, size), default=len(MAGIC))):
            file.seek(start)
            bodies.append(_read_record(file, size))
        first, last = (None if body is None else _message_of(body) for body in bodies)
        return first, last


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
    return wire.from_frames(frames)
