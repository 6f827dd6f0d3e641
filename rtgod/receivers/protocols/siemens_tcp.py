"""Siemens's direct export over TCP: bytes to mosaics with a few fields of their headers.

After fladd's RealTimeExportServer and Tibor Auer's ImageTCPClass. Each message is the lengths of a header and of its
image, both as little-endian uint32, the header, which is text, and the image. A header without an image begins a
measurement; lengths of 0 and 0 ask for the end, and are answered by the same.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Array, Float64Array
from rtgod.sources.dicom.siemens_mosaic import untiled

_LENGTHS = struct.Struct("<II")
#: What ends a measurement, and answers that.
CLOSE = _LENGTHS.pack(0, 0)
_MOST_HEADER_BYTES, _MOST_IMAGE_BYTES = 8 * 2**20, 16 * 2**20
_LINE = re.compile(r"^[ \t]*([A-Za-z][\w.\[\]]{0,99})[ \t]*=[ \t]*([^\r\n]{0,200})", re.MULTILINE)
#: Fields that are kept; what else headers say is never stored, as it names the subject.
_FIELDS = re.compile(
    r"DICOM\.(?:NoOfRows|NoOfCols|ImagesInMosaic|TR|RepetitionTime|ImageType\w*(?:\.\d+)?|SlcNormVector\.[0-2]"
    r"|PosVec\.[0-2])|alTR\[0\]|(?:\w+\.)*(?:RowVec|ColVec|ColumnVec)\.(?:[0-2]|dSag|dCor|dTra)"
)
#: Real headers have some 30 of them.
_MOST_FIELDS = 200
#: Fields of the repetition time, with the factors to seconds: DICOM's is in milliseconds, a protocol's in microseconds.
_TR_S = {"DICOM.RepetitionTime": 1e-3, "DICOM.TR": 1e-3, "alTR[0]": 1e-6}
_COORDINATES = {"0": 0, "1": 1, "2": 2, "dSag": 0, "dCor": 1, "dTra": 2}


@dataclass(frozen=True, slots=True)
class SiemensMessage:
    """A message of a connection.

    Attributes
    ----------
    fields : mapping of str to str
        Of the measurement's header, and of the image's own before them.
    image : bytes or None
        None for the header that begins a measurement.
    is_close : bool
        Whether it asks for the end, and is neither.
    """

    fields: Mapping[str, str]
    image: bytes | None = None
    is_close: bool = False


class SiemensStream:
    """Reader of one connection, whose bytes come in pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fields: dict[str, str] = {}

    @property
    def is_within_message(self) -> bool:
        """Whether a message has begun to come, and is not whole."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[SiemensMessage]:
        """Take bytes, and give the messages that they complete.

        Parameters
        ----------
        data : bytes

        Raises
        ------
        InputError
            If they are none of this protocol.
        """
        self._buffer += data
        while (message := self._message()) is not None:
            yield message

    def _message(self) -> SiemensMessage | None:
        if len(self._buffer) < _LENGTHS.size:
            return None
        n_header, n_image = _LENGTHS.unpack_from(self._buffer)
        if n_header > _MOST_HEADER_BYTES or n_image > _MOST_IMAGE_BYTES or (n_image and not n_header):
            self._buffer.clear()
            raise InputError(f"it does not speak this protocol: a header of {n_header} bytes, an image of {n_image}")
        start, end = _LENGTHS.size + n_header, _LENGTHS.size + n_header + n_image
        if len(self._buffer) < end:
            return None
        with memoryview(self._buffer) as view:
            fields = fields_of(bytes(view[_LENGTHS.size : start]))
            image = bytes(view[start:end])
        del self._buffer[:end]
        if not n_header:
            return SiemensMessage({}, is_close=True)
        if not n_image:
            self._fields = fields
            return SiemensMessage(fields)
        return SiemensMessage({**self._fields, **fields}, image)


def fields_of(header: bytes) -> dict[str, str]:
    """Read the fields of a header that place and time its image; XProtocol and other lines are passed over.

    Parameters
    ----------
    header : bytes
    """
    lines = (line for line in _LINE.finditer(header.decode("latin-1")) if _FIELDS.fullmatch(line[1]))
    return {line[1]: line[2].strip() for line in islice(lines, _MOST_FIELDS)}


@dataclass(frozen=True, slots=True, eq=False)
class SiemensVolume:
    """A volume with what was said of it.

    Attributes
    ----------
    tr_s : float
        Repetition time, seconds; 0 if it is not said.
    directions : tuple of 3 ndarray of shape (3,), float64, or None
        In which each axis runs, in RAS+; None if it is not said.
    position : tuple of str
        Of the slices, as the header writes it; empty if it does not.
    is_corrected : bool
        Whether the scanner corrected it for motion, as far as the header says it.
    data : ndarray of shape (x, y, z), uint16
    """

    tr_s: float
    directions: tuple[Float64Array | None, Float64Array | None, Float64Array | None]
    position: tuple[str, ...]
    is_corrected: bool
    data: Array


def siemens_volume(message: SiemensMessage) -> SiemensVolume:
    """Read an image.

    Parameters
    ----------
    message : SiemensMessage
        One with an image.

    Raises
    ------
    InputError
        If its header does not say how it is tiled, or not its size.
    """
    fields, image = message.fields, message.image or b""
    n_rows, n_columns = _count(fields, "DICOM.NoOfRows"), _count(fields, "DICOM.NoOfCols")
    n_slices = _count(fields, "DICOM.ImagesInMosaic")
    n_tiles = math.ceil(math.sqrt(n_slices))
    if n_rows % n_tiles or n_columns % n_tiles:
        raise InputError(f"{n_slices} slices cannot tile {n_columns} × {n_rows} pixels")
    if len(image) != 2 * n_rows * n_columns:
        raise InputError(f"{n_columns} × {n_rows} pixels have {2 * n_rows * n_columns} bytes, but {len(image)} came")
    mosaic = np.frombuffer(image, "<u2").reshape(n_rows, n_columns)
    return SiemensVolume(
        tr_s=_tr_s(fields),
        directions=(
            _direction(fields, "RowVec"),
            _direction(fields, "ColumnVec", "ColVec"),
            _direction(fields, "SlcNormVector"),
        ),
        position=tuple(value for name, value in sorted(fields.items()) if ".PosVec." in name),
        is_corrected=any("MOCO" in value.upper() for name, value in fields.items() if "ImageType" in name),
        data=untiled(mosaic, (n_columns // n_tiles, n_rows // n_tiles, n_slices)).astype(np.uint16, copy=False),
    )


def _count(fields: Mapping[str, str], name: str) -> int:
    text = fields.get(name, "")
    if not re.fullmatch(r"\d{1,5}(\.0*)?", text, re.ASCII) or not float(text):
        raise InputError(f"its header does not say {name}, or it is no number; only mosaics are read")
    return int(float(text))


def _tr_s(fields: Mapping[str, str]) -> float:
    for name, factor in _TR_S.items():
        number = _number(fields.get(name, ""))
        if number is not None:
            return round(number * factor, 6)
    return 0.0


def _number(text: str) -> float | None:
    """Return a number; None if the text is none, or not finite."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _direction(fields: Mapping[str, str], *names: str) -> Float64Array | None:
    """Return a direction in RAS+; headers have it in DICOM's coordinates."""
    found: dict[int, float] = {}
    for field, text in fields.items():
        name, _, coordinate = field.rpartition(".")
        number = _number(text)
        if name.rpartition(".")[2] in names and number is not None:
            found[_COORDINATES[coordinate]] = number
    if len(found) < 3 or not any(found.values()):
        return None
    direction = np.array([-found[0], -found[1], found[2]])
    longest: Float64Array = np.abs(direction).max()
    return direction / longest  # whatever its length, its square is finite
