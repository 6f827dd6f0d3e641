"""Checkpoint files, which hold a state to make a restart quick; a restart also works without one.

The first line is JSON with the format's number and the version of rtgod; the second is the state's tree, also JSON;
then come the tree's arrays as safetensors, and at the end a CRC-32 of all before (little-endian uint32). The file
appears whole or not at all, but it is not flushed to the disk: after a power cut it may be torn, which the checksum
tells. Whatever the bytes, `read_checkpoint` either returns a state or raises `CheckpointError`; nothing in a file can
run code.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from rtgod import __version__
from rtgod.errors import CheckpointError
from rtgod.state import State

FORMAT = 1
#: Largest file that is read; a checkpoint is never larger.
LARGEST_BYTES = 1 << 30
_CHECKSUM = struct.Struct("<I")
#: Numbers that JSON does not have, by name.
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def write_checkpoint(path: Path, state: State) -> None:
    """Write a state to a file that only its owner can read, in place of the previous file.

    Only one process may write to `path` at a time; the server's lock on its journal ensures this.

    Parameters
    ----------
    path : Path
    state : State
        Tree of values. Reading returns an equal tree, with numbers equal to the last bit, but with lists for tuples.

    Raises
    ------
    CheckpointError
        If the file cannot be written; the previous file stays.
    """
    pieces = _pieces_of(state)
    unfinished = path.with_name(f".{path.name}.new")
    try:
        # A process that was killed while writing may have left such a file.
        unfinished.unlink(missing_ok=True)
        try:
            with FileIO(unfinished, "x", opener=_open_privately) as file:
                for piece in pieces:
                    unwritten = memoryview(piece)
                    while unwritten:
                        unwritten = unwritten[file.write(unwritten) :]
            unfinished.replace(path)
        except OSError:
            # An unfinished file on a full disk would take space that the journal needs.
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from error


def read_checkpoint(path: Path) -> State:
    """Read a state, with writable arrays.

    Parameters
    ----------
    path : Path

    Raises
    ------
    CheckpointError
        If the file is missing, torn, altered since it was written, or written by another version.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > LARGEST_BYTES:
        raise CheckpointError(f"{path}: larger than {LARGEST_BYTES} bytes; this is no checkpoint")
    try:
        return _state_in(content)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _pieces_of(state: State) -> list[bytes]:
    """Make the pieces of the file; they are not joined, as copying some megabytes takes about a millisecond."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tree = msgspec.json.encode(_with_references(state, arrays))
    header = msgspec.json.encode({"rtgod_checkpoint": FORMAT, "rtgod": __version__})
    lines, tensors = header + b"\n" + tree + b"\n", save(arrays)
    return [lines, tensors, _CHECKSUM.pack(zlib.crc32(tensors, zlib.crc32(lines)))]


def _state_in(content: bytes) -> State:
    header, _, after_header = content.partition(b"\n")
    try:
        fields = msgspec.json.decode(header, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fields = {}
    if "rtgod_checkpoint" not in fields:
        raise CheckpointError("this is no checkpoint, or its beginning is lost")
    if (version := (fields["rtgod_checkpoint"], fields.get("rtgod"))) != (FORMAT, __version__):
        raise CheckpointError(f"of format and version {version}; this is {(FORMAT, __version__)}")
    body, checksum = content[: -_CHECKSUM.size], content[-_CHECKSUM.size :]
    if _CHECKSUM.pack(zlib.crc32(body)) != checksum:
        raise CheckpointError("torn, or altered since it was written: its checksum is another")
    tree, _, tensors = after_header[: -_CHECKSUM.size].partition(b"\n")
    try:
        return _with_arrays(msgspec.json.decode(tree), load(tensors))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"its tree and its arrays do not fit together ({error})") from error


def _with_references(state: State, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """Convert a tree for JSON: objects with one key stand for dictionaries, arrays, and numbers that JSON lacks."""
    match state:
        case None | bool() | int() | str():
            return state
        case float():
            # A number that is not finite is stored by its name in Python, a key of `_NOT_FINITE`.
            return float(state) if math.isfinite(state) else {"number": str(float(state))}
        case list() | tuple():
            return [_with_references(value, arrays) for value in state]
        case dict():
            return {"dict": {key: _with_references(value, arrays) for key, value in state.items()}}
        case np.ndarray():
            name = str(len(arrays))
            arrays[name] = np.ascontiguousarray(state).reshape(state.shape)
            return {"array": name}
    raise TypeError(f"{type(state).__name__} has no place in a state")


def _with_arrays(tree: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> State:
    match tree:
        case None | bool() | int() | float() | str():
            return tree
        case list():
            return [_with_arrays(value, arrays) for value in tree]
        case {"dict": dict(values), **others} if not others:
            return {key: _with_arrays(value, arrays) for key, value in values.items()}
        case {"number": str(name), **others} if not others:
            return _NOT_FINITE[name]
        case {"array": str(name), **others} if not others:
            return arrays[name]
    raise ValueError(f"{str(tree)[:100]} stands for nothing")
