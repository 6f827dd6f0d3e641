"""Pyneal-Scanner's messages: a volume is a header in JSON and its voxels, in two parts.

After Pyneal's scanReceiver and pyneal_scanner. Voxels are in C order, and the axes run to right, anterior and superior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from rtgod.errors import InputError
from rtgod.messages import LONGEST_AXIS, MOST_VOLUMES, VOLUME_DTYPES, Array, Float64Array

#: Most bytes of a message, of which the header has few.
MOST_BYTES = 16 * 2**20
_LONGEST_HEADER = 2**16
#: Types of voxels by their names, as numpy writes them; booleans, complex numbers and objects are none.
_CODES = {
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "int64": "i8",
    "uint64": "u8", "float16": "f2", "float32": "f4", "float64": "f8",
}  # fmt: skip
#: What types that a run cannot have are widened to; the 64-bit ones as far as they are exact.
_WIDER = {"int8": "int16", "uint8": "int16", "uint32": "float64", "int64": "float64", "uint64": "float64",
          "float16": "float32"}  # fmt: skip
_LARGEST_EXACT = 2**53
_Row = tuple[float, float, float, float]


class _Header(msgspec.Struct):
    index: int = msgspec.field(name="volIdx")
    dtype: str
    shape: tuple[int, int, int]
    affine: str
    tr: str | float | None = msgspec.field(name="TR", default=None)


@dataclass(frozen=True, slots=True, eq=False)
class PynealVolume:
    """A volume with what was said of it.

    Attributes
    ----------
    index : int
        From 0.
    tr_s : float
        Repetition time, seconds, if the sender is right; 0 if it is not said.
    affine : ndarray of shape (4, 4), float64
        Voxel indices to RAS+ millimetres.
    data : ndarray of shape (x, y, z), one of `VOLUME_DTYPES`
    """

    index: int
    tr_s: float
    affine: Float64Array
    data: Array


def pyneal_volume(header: bytes, voxels: bytes) -> PynealVolume:
    """Read the two parts of a message.

    Parameters
    ----------
    header, voxels : bytes

    Raises
    ------
    InputError
        If they are none of a volume, or its voxels cannot be kept exactly.
    """
    said = _header(header)
    if not 0 <= said.index < MOST_VOLUMES:
        raise InputError("its volIdx is none of a volume, from 0")
    dtype = _dtype(said.dtype)
    if not 1 <= min(said.shape) <= max(said.shape) <= LONGEST_AXIS:
        raise InputError("its shape is none of a volume")
    n_bytes = math.prod(said.shape) * dtype.itemsize
    if n_bytes != len(voxels):
        raise InputError(f"its shape and its dtype make {n_bytes} bytes, but {len(voxels)} came")
    data = np.frombuffer(voxels, dtype).reshape(said.shape)
    return PynealVolume(said.index, _tr_s(said.tr), _affine(said.affine), _kept(data))


def _header(raw: bytes) -> _Header:
    if len(raw) > _LONGEST_HEADER:
        raise InputError("its header is too long")
    try:
        return msgspec.json.decode(raw, type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InputError("its header is not JSON with volIdx, dtype, shape and affine as Pyneal's") from None


def _dtype(text: str) -> np.dtype[np.generic]:
    order, code = (text[0], text[1:]) if text[:1] in ("<", ">", "|", "=") else ("<", _CODES.get(text, ""))
    if code not in _CODES.values():
        raise InputError(f"its dtype is none of {', '.join(_CODES)}")
    return np.dtype((">" if order == ">" else "<") + code)


def _tr_s(said: str | float | None) -> float:
    try:
        return float(said or 0.0)
    except ValueError:
        raise InputError("its TR is no number") from None


def _affine(text: str) -> Float64Array:
    try:
        rows = msgspec.json.decode(text, type=tuple[_Row, _Row, _Row, _Row])
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        raise InputError("its affine is not the JSON text of 4 × 4 finite numbers") from None
    return np.array(rows, dtype=np.float64)


def _kept(data: Array) -> Array:
    """Return voxels of a type that runs can have, with the same values."""
    name = data.dtype.name
    if name in VOLUME_DTYPES:
        return data
    if data.dtype.itemsize == 8 and max(int(data.max()), -int(data.min())) > _LARGEST_EXACT:
        raise InputError(f"its voxels of {name} are too large to be kept exactly")
    return data.astype(_WIDER[name])
