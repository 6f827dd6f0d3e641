"""The journal: every message of a session on disk before it is acknowledged, readable to the last whole record.

A file starts with `MAGIC`; then come records: `_MARK`, length of the body and its CRC-32 (two little-endian uint32),
then the body: number of frames, their lengths (uint32 each), the frames as `rtgod.wire` makes them. A record that a
crash cut short, or left as zeros, fails its mark, length or checksum and ends the reading, unless whole records follow:
then the file was damaged.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rtgod import wire
from rtgod.errors import JournalError, WireError
from rtgod.files import Closing
from rtgod.messages import Message

MAGIC = b"rtgod journal 1\n"
_MARK = b"\nrec"
_HEAD = struct.Struct("<4sII")


class JournalWriter(Closing):
    """Appends messages to a new journal file.

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
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("xb", buffering=0)
        except OSError as error:
            if path.is_file():
                raise JournalError(f"journal {path}: exists already; a journal is never overwritten") from error
            raise JournalError(
                f"journal {path}: cannot be written ({error.strerror}); choose another --journal"
            ) from error
        self._write(MAGIC)
        self.flush()

    def append(self, message: Message) -> None:
        """Write one message; it is safe from a crash of this process, and from a power cut after `flush`."""
        frames = [bytes(frame) for frame in wire.to_frames(message)]
        body = b"".join([struct.pack(f"<{1 + len(frames)}I", len(frames), *map(len, frames)), *frames])
        self._write(_HEAD.pack(_MARK, len(body), zlib.crc32(body)) + body)

    def flush(self) -> None:
        """Wait until all that was appended is on the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise JournalError(f"journal {self.path}: cannot be flushed ({error.strerror})") from error

    def close(self) -> None:
        """Flush and close."""
        if not self._file.closed:
            self.flush()
            self._file.close()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise JournalError(
                f"journal {self.path}: cannot be written ({error.strerror}); is the disk full?"
            ) from error


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
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise JournalError(f"{path}: not a journal of this version of rtgod")
            size = os.fstat(file.fileno()).st_size
            start = file.tell()
            while (body := _read_record(file, size)) is not None:
                start = file.tell()
                yield wire.from_frames(_split(body))
            file.seek(start)
            # No further than `size`: a server may be writing on.
            if _has_record(file.read(size - start)):
                raise JournalError(f"{path}: damaged {start} bytes from its start; restore a copy")
    except WireError as error:
        raise JournalError(f"journal {path}: written by another version of rtgod ({error})") from error
    except OSError as error:
        raise JournalError(f"journal {path}: cannot be read ({error.strerror})") from error


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
