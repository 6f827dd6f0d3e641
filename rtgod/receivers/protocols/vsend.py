"""MURFI's vSend, as Siemens scanners with its sender speak it: the bytes of a connection are one volume.

After MURFI 2's RtExternalSenderImageInfo. The structure at the start has the sender's own layout: 616 bytes, or 612
where its compiler aligns numbers of 8 bytes to 4; all that is read here comes before the difference.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Array, Float64Array
from rtgod.sources.dicom.siemens_mosaic import untiled

#: Lengths of the header, the longest first.
_HEADERS: tuple[int, ...] = (616, 612)
_MAGIC = (b"ERTI", b"SIMU")
#: Magic word, version, series, scan type, image type, note, data type, two flags, sizes, counts, affine, times, flag.
_LAYOUT = struct.Struct("<5s3xi64s64s16s256s16s??2x4d3i16f4i?")
_DTYPES = {
    "": "i2", "int16_t": "i2", "short": "i2", "uint16_t": "u2", "int32_t": "i4", "float": "f4", "double": "f8",
}  # fmt: skip
_MOST_BYTES = 16 * 2**20
_MOST_VOLUMES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VsendVolume:
    """A volume with what was said of it.

    Attributes
    ----------
    series : str
        Digest of the series' identity.
    index : int
        From 0.
    n_volumes : int or None
        Planned number.
    tr_s : float
        Repetition time, seconds; 0 if it is not said.
    affine : ndarray of shape (4, 4), float64
        Voxel indices to RAS+ millimetres, which MURFI takes it for.
    is_corrected : bool
        Whether the scanner corrected it for motion.
    data : ndarray of shape (x, y, z)
    """

    series: str
    index: int
    n_volumes: int | None
    tr_s: float
    affine: Float64Array
    is_corrected: bool
    data: Array


@dataclass(frozen=True, slots=True)
class _Header:
    fields: tuple[Any, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    is_mosaic: bool

    @property
    def n_bytes(self) -> int:
        n_tiles = math.ceil(math.sqrt(self.shape[2])) ** 2 if self.is_mosaic else self.shape[2]
        return self.shape[0] * self.shape[1] * n_tiles * self.dtype.itemsize


class VsendImage:
    """Reader of one connection, whose bytes come in pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._header: _Header | None = None
        #: Where the header starts, and how long it may be.
        self._start, self._headers = 0, _HEADERS

    def feed(self, data: bytes) -> bool:
        """Take bytes; return whether the image is whole.

        Parameters
        ----------
        data : bytes

        Raises
        ------
        InputError
            If they are none of an image, or of more than one.
        """
        self._buffer += data
        if self._header is None:
            self._header = self._begun()
        if self._header is None:
            return False
        n_whole = self._start + self._headers[0] + self._header.n_bytes
        if len(self._buffer) > n_whole:
            raise InputError("more bytes came than its image has")
        return len(self._buffer) == n_whole

    def volume(self) -> VsendVolume:
        """Return the volume, once the image is whole or the connection is closed.

        Raises
        ------
        InputError
            If bytes are missing.
        """
        if self._header is None:
            raise InputError("it ends before its header does")
        n_header = len(self._buffer) - self._start - self._header.n_bytes
        if n_header not in self._headers:
            raise InputError(f"{self._headers[0] - n_header} bytes of its image are missing")
        return _volume(self._header, bytes(memoryview(self._buffer)[self._start + n_header :]))

    def _begun(self) -> _Header | None:
        """Read the header, and what says how long it is; None if that has not come yet."""
        if len(self._buffer) < 8:
            return None
        n_header = int.from_bytes(self._buffer[:4], "little")
        if n_header in _HEADERS:
            self._start, self._headers = 8, (n_header,)
        elif bytes(self._buffer[:4]) not in _MAGIC:
            raise InputError("it does not begin as an image of vSend does")
        end = self._start + _LAYOUT.size
        return _header(bytes(self._buffer[self._start : end])) if len(self._buffer) >= end else None


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("latin-1")


def _header(raw: bytes) -> _Header:
    fields = _LAYOUT.unpack(raw)
    magic, data_type, is_little, is_mosaic = fields[0], _text(fields[6]), fields[7], fields[8]
    if magic[:4] not in _MAGIC:
        raise InputError("its header does not begin as one of vSend does")
    if data_type not in _DTYPES:
        raise InputError(f"its type of data is none of {', '.join(filter(None, _DTYPES))}")
    shape = fields[13], fields[14], fields[15]
    dtype = np.dtype(_DTYPES[data_type]).newbyteorder("<" if is_little else ">")
    header = _Header(fields, shape, dtype, is_mosaic)
    if min(shape) < 1 or max(shape) > 4096 or header.n_bytes > _MOST_BYTES:
        raise InputError("its matrix is none of a volume; up to 16 MB are read")
    return header


def _volume(header: _Header, raw: bytes) -> VsendVolume:
    fields, numbers = header.fields, np.frombuffer(raw, header.dtype)
    if header.is_mosaic:
        n_tiles = math.ceil(math.sqrt(header.shape[2]))
        data = untiled(numbers.reshape(n_tiles * header.shape[1], -1), header.shape)
    else:
        data = numbers.reshape(header.shape, order="F")
    affine = np.array(fields[16:32], dtype=np.float64).reshape(4, 4)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise InputError("its transformation to the scanner's coordinates spans no volume")
    tr_ms, _, current, n_volumes, is_corrected = fields[32:37]
    if not 1 <= current <= _MOST_VOLUMES:
        raise InputError(f"its number {current} is none of a volume")
    return VsendVolume(
        series=hashlib.sha256(_text(fields[2]).encode()).hexdigest()[:10],
        index=current - 1,
        n_volumes=n_volumes if n_volumes > 0 else None,
        tr_s=max(tr_ms, 0) / 1000,
        affine=affine,
        is_corrected=is_corrected,
        data=data.astype(header.dtype.newbyteorder("="), copy=False),
    )
