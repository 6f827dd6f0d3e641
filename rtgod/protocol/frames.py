"""Conversion of messages to multipart frames and back; this module uses no socket, clock or file.

A message is one header frame followed by one frame per array. The header is a JSON object:

    {"rtgod": 1, "type": "volume", "arrays": [{"field": "data", "dtype": "int16", "shape": [64, 64, 50]}],
     "run_id": "sub-01_run-01", "index": 0, "acquired_s": 0.0}

followed by 409,600 raw little-endian bytes. `docs/wire.md` describes every type. Whatever the bytes, `from_frames`
either returns a message or raises `WireError` that names what is wrong; nothing in a frame can run code.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from rtgod.errors import WireError
from rtgod.messages import (
    LONGEST_NAME,
    VOLUME_DTYPES,
    Acknowledged,
    Array,
    Deferred,
    Event,
    Hello,
    Message,
    NewBlock,
    NotReady,
    Pattern,
    Ping,
    Pong,
    Ranking,
    Refused,
    Run,
    RunEnd,
    SessionEnd,
    Status,
    Volume,
)

VERSION = 1
MAX_HEADER_BYTES = 1 << 20
MAX_ARRAY_BYTES = 1 << 28

Frame = bytes | memoryview

_MOST_NAMED = 5

_TYPES: dict[str, type[Message]] = {
    "run": Run,
    "volume": Volume,
    "run-end": RunEnd,
    "event": Event,
    "block": NewBlock,
    "ping": Ping,
    "pattern": Pattern,
    "ranking": Ranking,
    "not-ready": NotReady,
    "hello": Hello,
    "status": Status,
    "session-end": SessionEnd,
    "acknowledged": Acknowledged,
    "refused": Refused,
    "deferred": Deferred,
    "pong": Pong,
}
_NAMES = {cls: name for name, cls in _TYPES.items()}

#: Fields that travel as frames of their own, with the data types and the number of dimensions that each may have.
_ARRAYS: dict[type[Message], dict[str, tuple[tuple[str, ...], int]]] = {
    Volume: {"data": (VOLUME_DTYPES, 3)},
    Pattern: {"values": (("float32",), 1)},
    Ranking: {"order": (("int32",), 1), "scores": (("float32",), 1)},
}

#: Fields that a header leaves out while they have their default: messages without them are those of older versions.
_LEFT_OUT: dict[type[Message], tuple[str, ...]] = {Ranking: ("pictures",)}


def _fields(cls: type[Message]) -> dict[str, dataclasses.Field[Any]]:
    return {f.name: f for f in dataclasses.fields(cls)}


_FIELDS = {cls: _fields(cls) for cls in _NAMES}
_REQUIRED = {
    cls: {n for n, f in fields.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    for cls, fields in _FIELDS.items()
}


class _ArraySpec(msgspec.Struct, forbid_unknown_fields=True):
    field: str
    dtype: str
    shape: tuple[int, ...]
    order: str = "C"


def to_frames(message: Message) -> list[Frame]:
    """Turn a message into frames.

    Parameters
    ----------
    message : Message

    Returns
    -------
    list of bytes-like
        The JSON header, then the raw little-endian C-order bytes of each array; the arrays are not copied.
    """
    cls = type(message)
    arrays = {name: getattr(message, name) for name in _ARRAYS.get(cls, ())}
    specs = [{"field": n, "dtype": a.dtype.name, "shape": a.shape} for n, a in arrays.items()]
    header: dict[str, Any] = {"rtgod": VERSION, "type": _NAMES[cls]}
    if specs:
        header["arrays"] = specs
    header |= {name: getattr(message, name) for name in _FIELDS[cls] if name not in arrays}
    for name in _LEFT_OUT.get(cls, ()):
        if header[name] == _FIELDS[cls][name].default:
            del header[name]
    frames: list[Frame] = [msgspec.json.encode(header, enc_hook=_encode_small_array)]
    frames += [_little_endian(a).data.cast("B") if a.size else b"" for a in arrays.values()]
    return frames


def from_frames(frames: Sequence[Frame]) -> Message:
    """Turn frames back into the message that they carry.

    Parameters
    ----------
    frames : sequence of bytes-like
        Frames as received; arrays of the message are read-only, and views of the frames if possible.

    Raises
    ------
    WireError
        If the frames are not exactly one well-formed message of this version.
    """
    return _message(_read_header(frames), frames)


def from_journal(frames: Sequence[Frame]) -> Message:
    """Turn frames from a journal back into the message, like `from_frames`, but with headers of any length.

    A header that a server writes may be longer than one that it accepts: it adds fields and writes numbers in full.

    Parameters
    ----------
    frames : sequence of bytes-like
        As for `from_frames`.

    Raises
    ------
    WireError
        If the frames are not exactly one well-formed message of this version.
    """
    return _message(_read_header(frames, most_bytes=None), frames)


def _message(header: dict[str, Any], frames: Sequence[Frame]) -> Message:
    cls = _TYPES[header.pop("type")]
    specs = _read_specs(cls, header.pop("arrays", []))
    array_fields = {s.field for s in specs}
    unknown = header.keys() - (_FIELDS[cls].keys() - array_fields)
    missing = sorted(_REQUIRED[cls] - header.keys() - array_fields)
    if unknown or missing:
        # Only some are named, as there may be very many.
        named = [f"unknown field {name!r}" for name in heapq.nsmallest(_MOST_NAMED, unknown)]
        if n_more := len(unknown) - len(named):
            named.append(f"{n_more} more unknown fields")
        raise WireError(
            f"{_NAMES[cls]} header: " + "; ".join([*named, *(f"field {name!r} is missing" for name in missing)])
        )
    if len(frames) != 1 + len(specs):
        raise WireError(f"{_NAMES[cls]}: the header announces {len(specs)} array frames, {len(frames) - 1} came")
    for spec, frame in zip(specs, frames[1:], strict=True):
        header[spec.field] = _read_array(spec, frame)
    try:
        return msgspec.convert(header, cls, dec_hook=_decode_small_array)
    # JSON's numbers and Python's whole numbers are unbounded: some overflow only when they are used.
    except (msgspec.ValidationError, OverflowError, ValueError) as error:
        raise WireError(f"{_NAMES[cls]} header: {error}", *_address_in(header)) from error


def _address_in(header: Mapping[str, Any]) -> tuple[str, int | None]:
    """Read run or client, and index, from the header of an invalid message; see `rtgod.messages.address_of`."""
    name, index = (header.get(field) for field in (("client", "number") if "client" in header else ("run_id", "index")))
    usable = type(index) is int and 0 <= index < 2**63  # true and false are not numbers
    return name[:LONGEST_NAME] if isinstance(name, str) else "", index if usable else None


def _read_header(frames: Sequence[Frame], most_bytes: int | None = MAX_HEADER_BYTES) -> dict[str, Any]:
    if not frames:
        raise WireError("a message without frames")
    if most_bytes is not None and len(frames[0]) > most_bytes:
        raise WireError(f"header of {len(frames[0])} bytes; at most {most_bytes} are allowed")
    try:
        header = msgspec.json.decode(frames[0])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise WireError("header is not a JSON object")
    version = header.pop("rtgod", None)
    if version != VERSION or isinstance(version, bool):
        raise WireError(f'header says "rtgod": {version!r}; this side speaks version {VERSION}')
    kind = header.get("type")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise WireError(f"unknown message type {kind!r}; known: {', '.join(_TYPES)}")
    return header


def _read_specs(cls: type[Message], raw: object) -> list[_ArraySpec]:
    try:
        specs = msgspec.convert(raw, list[_ArraySpec])
    except msgspec.ValidationError as error:
        raise WireError(f"{_NAMES[cls]} header: arrays: {error}") from error
    allowed = _ARRAYS.get(cls, {})
    if sorted(s.field for s in specs) != sorted(allowed):
        raise WireError(
            f"{_NAMES[cls]} header: arrays must be exactly {sorted(allowed)}, not {[s.field for s in specs]}"
        )
    for spec in specs:
        dtypes, n_dimensions = allowed[spec.field]
        if spec.dtype not in dtypes:
            raise WireError(f"{_NAMES[cls]} {spec.field}: dtype {spec.dtype!r} is not one of {', '.join(dtypes)}")
        if spec.order not in ("C", "F"):
            raise WireError(f"{_NAMES[cls]} {spec.field}: order {spec.order!r} is neither C nor F")
        # A list may be empty, an image may not.
        if len(spec.shape) != n_dimensions or min(spec.shape) < (n_dimensions == 3):
            raise WireError(
                f"{_NAMES[cls]} {spec.field}: shape {list(spec.shape)} is not {n_dimensions} positive numbers"
            )
        # Checked before the product, which may be too long to be written into an error text.
        if max(spec.shape) > MAX_ARRAY_BYTES:
            raise WireError(f"{_NAMES[cls]} {spec.field}: at most {MAX_ARRAY_BYTES} bytes are allowed")
    return specs


def _read_array(spec: _ArraySpec, frame: Frame) -> Array:
    dtype = np.dtype(spec.dtype).newbyteorder("<")
    n_bytes = math.prod(spec.shape) * dtype.itemsize
    if n_bytes > MAX_ARRAY_BYTES:
        raise WireError(f"{spec.field}: {n_bytes} bytes; at most {MAX_ARRAY_BYTES} are allowed")
    if len(frame) != n_bytes:
        raise WireError(f"{spec.field}: shape {list(spec.shape)} of {spec.dtype} is {n_bytes} bytes, {len(frame)} came")
    array = np.frombuffer(frame, dtype=dtype).astype(spec.dtype, copy=False)
    return array.reshape(spec.shape, order="F" if spec.order == "F" else "C")


def _little_endian(array: Array) -> Array:
    return array.byteswap() if sys.byteorder == "big" else array


def _encode_small_array(value: object) -> object:
    """Convert types that JSON does not know: an affine becomes a list of rows, a mapping an object."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no place in a header")


def _decode_small_array(kind: type, value: object) -> object:
    """Read an affine from its rows; arrays that came as frames pass through."""
    if isinstance(value, list):
        # msgspec checks the types first: numpy would also read "1" and true as numbers.
        try:
            return np.array(msgspec.convert(value, list[list[float]]), dtype=np.float64)
        except ValueError as error:
            raise ValueError(f"expected rows of numbers ({error})") from error
    if isinstance(value, np.ndarray):
        return value
    raise ValueError(f"expected {kind}, got {type(value).__name__}")
