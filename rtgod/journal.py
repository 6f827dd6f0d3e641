"""The journal: every message of a session on disk before it is acknowledged, readable to the last whole record.

A file starts with `MAGIC`; then come records: `_MARK`, length of the body and its CRC-32 (two little-endian uint32),
then the body: number of frames, their lengths (uint32 each), the frames as `rtgod.wire` makes them. A record that a
crash cut short, or left as zeros, fails its mark, length or checksum and ends the reading, unless whole records follow:
then the file was damaged.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import zlib
from collections import deque
from collections.abc import Iterator
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

MAGIC = b"rtgod journal 1\n"
_MARK = b"\nrec"
_HEAD = struct.Struct("<4sII")


class JournalWriter(Closing):
    """Appends messages to a new journal file, which no other process can write to meanwhile.

    When the disk is full, or refuses otherwise, what was asked for raises; the next call first brings the file back to
    what it was, so that no part of a record ever stays between whole ones.

    Parameters
    ----------
    path : Path
        Must not exist: a journal is never overwritten.

    Raises
    ------
    JournalError
        If the file exists or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("xb", buffering=0)
        except OSError as error:
            if path.is_file():
                raise JournalError(f"journal {path}: exists already; a journal is never overwritten") from error
            raise JournalError(
                f"journal {path}: cannot be written ({error.strerror}); choose another --journal"
            ) from error
        self._open(path, file, 0)
        try:
            self._append(MAGIC)
            self.flush()
            _flush_folder(path.parent)
        except JournalError:
            file.close()
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
        try:
            file = path.open("r+b", buffering=0)
        except OSError as error:
            raise JournalError(f"journal {path}: cannot be written ({error.strerror})") from error
        writer = cls.__new__(cls)
        try:
            writer._open(path, file, _end_of_records(path))
            writer._mend()
        except JournalError:
            file.close()
            raise
        return writer

    def append(self, message: Message) -> None:
        """Write one message; it is safe from a crash of this process, and from a power cut after `flush`.

        Raises
        ------
        JournalError
            If it cannot be written; then no trace of it stays.
        """
        self._append(_record_of(message))

    def keep(self, message: Message) -> None:
        """Write one message, and wait until it, and all before it, is on the disk.

        Raises
        ------
        JournalError
            If it cannot be; then no trace of it stays.
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
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failed(error) from error
        self._flushed += sum(map(len, self._unflushed))
        self._unflushed.clear()

    def free_bytes(self) -> int:
        """Room that is left on the disk."""
        return shutil.disk_usage(self.path.parent).free

    def close(self) -> None:
        """Flush and close."""
        if not self._file.closed:
            try:
                self.flush()
            finally:
                self._file.close()

    def _open(self, path: Path, file: FileIO, flushed: int) -> None:
        self.path, self._file = path, file
        #: Bytes that are known to be on the disk, and the records after them.
        self._flushed = flushed
        self._unflushed: list[bytes] = []
        self._damaged = True  # so far nobody has said where the file ends
        _lock(path, file)

    def _append(self, record: bytes) -> None:
        self._mend()
        try:
            _write_all(self._file, record)
        except OSError as error:
            raise self._failed(error) from error
        self._unflushed.append(record)

    def _mend(self) -> None:
        """After a failure, go back to what is known to be on the disk: what was written since may be lost by now."""
        if not self._damaged:
            return
        try:
            self._file.truncate(self._flushed)
            self._file.seek(self._flushed)
            _write_all(self._file, b"".join(self._unflushed))
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failed(error) from error
        self._damaged = False

    def _failed(self, error: OSError) -> JournalError:
        self._damaged = True
        return JournalError(f"journal {self.path}: cannot be written ({error.strerror}); is the disk full?")


def unfinished(folder: Path, bundle_id: str | None) -> Path | None:
    """The newest journal of a folder, if its server did not come to an end; None otherwise, or if there is none.

    Parameters
    ----------
    folder : Path
    bundle_id : str or None
        A journal that was made with another bundle is passed over, as is one without a whole record.

    Raises
    ------
    JournalError
        If a journal cannot be read.
    """
    try:
        newest_first = sorted(folder.glob("*.rtgod"), key=lambda path: (path.stat().st_mtime_ns, path), reverse=True)
        for path in newest_first:
            first, last = _ends(path)
            if isinstance(first, Hello) and first.bundle_id == bundle_id:
                return None if isinstance(last, SessionEnd) else path
    except OSError as error:
        raise JournalError(f"journals in {folder}: cannot be read ({error.strerror})") from error
    return None


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
    try:
        for body in _bodies(path):
            yield wire.from_frames(_split(body))
    except WireError as error:
        raise JournalError(f"journal {path}: written by another version of rtgod ({error})") from error


def _bodies(path: Path) -> Iterator[bytes]:
    """Bodies of all records up to the last whole one."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise JournalError(f"{path}: not a journal of this version of rtgod")
            size = os.fstat(file.fileno()).st_size
            start = file.tell()
            while (body := _read_record(file, size)) is not None:
                start = file.tell()
                yield body
            file.seek(start)
            # No further than `size`: a server may be writing on.
            if _has_record(file.read(size - start)):
                raise JournalError(f"{path}: damaged {start} bytes from its start; restore a copy")
    except OSError as error:
        raise JournalError(f"journal {path}: cannot be read ({error.strerror})") from error


def _record_of(message: Message) -> bytes:
    frames = [bytes(frame) for frame in wire.to_frames(message)]
    body = b"".join([struct.pack(f"<{1 + len(frames)}I", len(frames), *map(len, frames)), *frames])
    return _HEAD.pack(_MARK, len(body), zlib.crc32(body)) + body


def _write_all(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _lock(path: Path, file: FileIO) -> None:
    """Keep other processes from writing to the file, for as long as it is open here."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise JournalError(f"journal {path}: another process writes to it; is another server running?") from error


def _flush_folder(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk, too."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _end_of_records(path: Path) -> int:
    """Bytes up to the end of the last whole record."""
    end = len(MAGIC)
    for body in _bodies(path):
        end += _HEAD.size + len(body)
    return end


def _ends(path: Path) -> tuple[Message | None, Message | None]:
    """The first and the last whole record of a journal, without reading those between."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return None, None
        size, first = os.fstat(file.fileno()).st_size, file.tell()
        starts: deque[int] = deque(maxlen=2)
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            mark, length, _ = _HEAD.unpack(head)
            if mark != _MARK or file.tell() + length > size:
                break
            starts.append(file.tell() - _HEAD.size)
            file.seek(length, os.SEEK_CUR)
        found: list[Message | None] = []
        for start in (first, *reversed(starts)):
            file.seek(start)
            body = _read_record(file, size)
            found.append(wire.from_frames(_split(body)) if body is not None else None)
    # The last may have its length but not its content.
    return found[0], next((message for message in found[1:] if message is not None), None)


def _read_record(file: BinaryIO, size: int) -> bytes | None:
    """Body of the record at the position of a file of `size` bytes; None if it is not whole, or the file ends."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    mark, length, checksum = _HEAD.unpack(head)
    # A damaged length may ask for gigabytes: no more is read than is there.
    if mark != _MARK or length > size - file.tell():
        return None
    body = file.read(length)
    return body if zlib.crc32(body) == checksum else None


def _has_record(data: bytes) -> bool:
    """Whether a whole record lies anywhere in `data`."""
    file, position = io.BytesIO(data), data.find(_MARK)
    while position >= 0:
        file.seek(position)
        if _read_record(file, len(data)) is not None:
            return True
        position = data.find(_MARK, position + 1)
    return False


def _split(body: bytes) -> list[memoryview]:
    view = memoryview(body)
    (n_frames,) = struct.unpack_from("<I", view)
    lengths = struct.unpack_from(f"<{n_frames}I", view, 4)
    frames, start = [], 4 + 4 * n_frames
    for length in lengths:
        frames.append(view[start : start + length])
        start += length
    return frames
