"""A file that holds a state: what makes a restart quick, and is done without where it cannot be read.

The first line is JSON with the format's number and the version of rtgod; the second the state's tree, also JSON; then
come the tree's arrays as safetensors, and in the end a CRC-32 of all before (little-endian uint32). The file appears
whole or not at all, but nobody waits for the disk: after a power cut it may be torn, which the checksum tells. Whatever
the bytes, `read_checkpoint` either returns a state or raises `CheckpointError`; nothing in a file can run code.
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
#: A larger file is none of ours; it is not read.
LARGEST_BYTES = 1 << 30
_CHECKSUM = struct.Struct("<I")
#: JSON has no numbers for these.
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def write_checkpoint(path: Path, state: State) -> None:
    """Write a state to a file that only its owner can read, in place of the one before.

    Only one process may write to `path` at a time; the server's lock on its journal sees to that.

    Parameters
    ----------
    path : Path
    state : State
        Whole trees come back: tuples as lists, the rest as it is, numbers to the last bit.

    Raises
    ------
    CheckpointError
        If the file cannot be written; the one before stays.
    """
    pieces = _pieces_of(state)
    unfinished = path.with_name(f".{path.name}.new")
    try:
        # One may be left by a process that was killed meanwhile.
        unfinished.unlink(missing_ok=True)
        try:
            with FileIO(unfinished, "x", opener=_open_privately) as file:
                for piece in pieces:
                    left = memoryview(piece)
                    while left:
                        left = left[file.write(left) :]
            unfinished.replace(path)
        except OSError:
            # Part of it on a full disk would take the room of what matters more.
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from error


def read_checkpoint(path: Path) -> State:
    """Read a state; its arrays may be changed.

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
    """What the file consists of; not in one, as some megabytes are copied in about a millisecond."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tree = msgspec.json.encode(_with_references(state, arrays))
    header = msgspec.json.encode({"rtgod_checkpoint": FORMAT, "rtgod": __version__})
    lines, tensors = header + b"\n" + tree + b"\n", save(arrays)
    return [lines, tensors, _CHECKSUM.pack(zlib.crc32(tensors, zlib.crc32(lines)))]


def _state_in(content: bytes) -> State:
    header, _, rest = content.partition(b"\n")
    try:
        found = msgspec.json.decode(header, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = {}
    if "rtgod_checkpoint" not in found:
        raise CheckpointError("this is no checkpoint, or its beginning is lost")
    if (version := (found["rtgod_checkpoint"], found.get("rtgod"))) != (FORMAT, __version__):
        raise CheckpointError(f"of format and version {version}; this is {(FORMAT, __version__)}")
    body, checksum = content[: -_CHECKSUM.size], content[-_CHECKSUM.size :]
    if _CHECKSUM.pack(zlib.crc32(body)) != checksum:
        raise CheckpointError("torn, or altered since it was written: its checksum is another")
    tree, _, tensors = rest[: -_CHECKSUM.size].partition(b"\n")
    try:
        return _with_arrays(msgspec.json.decode(tree), load(tensors))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"its tree and its arrays do not fit together ({error})") from error


def _with_references(state: State, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """The tree as JSON has it: an object with one key stands for what JSON does not know, and for a dictionary."""
    match state:
        case None | bool() | int() | str():
            return state
        case float():
            # Else by the name that Python gives it, which `_NOT_FINITE` knows.
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
