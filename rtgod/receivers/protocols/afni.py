"""AFNI's real-time protocol, from a source of images such as Dimon: bytes become runs and volumes, without sockets.

After README.realtime of AFNI. What a source asks to be executed is never executed, and what it calls its data is not
told. Volumes have no number and no time of their own, so that a lost one cannot be seen here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Array, Float64Array
from rtgod.sources.dicom.file import to_ras
from rtgod.sources.echoes import Combine, Echo, combined, weights_of

#: A block that begins with it ends a run.
END_OF_RUN = b"Et Earello Endorenna utulien!!"
#: Longest text of a run, and largest volume, bytes.
_LONGEST_TEXT, _MOST_BYTES = 32 * 1024, 32 * 2**20
_MOST_CHANNELS = 32
_DTYPES = {"byte": "u1", "short": "i2", "float": "f4", "double": "f8"}
_TYPES = ("2D+z", "2D+zt", "3D", "3D+t", "3D+timing")
#: Axis of LPS+ coordinates and the sign of what lies on that side.
_SIDES = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "I": (2, -1), "S": (2, 1)}
#: Lines that have no use here, or ask for what is never done.
_UNUSED = (
    "NAME", "PREFIX", "NOTE", "DRIVE_AFNI", "DRIVE_WAIT", "GRAPH_XRANGE", "GRAPH_YRANGE", "GRAPH_EXPR", "LOCK_ZORDER",
    "TPATTERN",
)  # fmt: skip
_USED = (
    "ACQUISITION_TYPE", "TR", "XYMATRIX", "ZNUM", "XYFOV", "ZDELTA", "ZGAP", "DATUM", "BYTEORDER", "XYZAXES",
    "XYZFIRST", "ZFIRST", "XYZOFF", "OBLIQUE_XFORM", "ZORDER", "NUM_CHAN", "ECHO_TIMES", "NUMVOL",
)  # fmt: skip
#: Where the text of a run begins, after a block of an unknown length.
_BEGINS = re.compile(rb"TR[ \t]+[\d.]|" + b"|".join(word.encode() for word in (*_USED, *_UNUSED) if len(word) > 3))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AfniRun:
    """What a source says of the images that follow.

    Attributes
    ----------
    tr_s : float
        Repetition time, seconds; 0 if it is not said.
    shape : tuple of int
        x, y, z.
    affine : ndarray of shape (4, 4), float64
        Voxel indices to RAS+ millimetres.
    dtype : dtype
        With the byte order of the images.
    order : tuple of int
        Place of each slice, in the order in which they come; empty where whole volumes come.
    n_channels : int
        Images that take turns, echoes for example.
    echoes_ms : tuple of float
        Echo time of each channel; empty if they are not said.
    n_volumes : int or None
        Planned number of volumes.
    notes : tuple of str
        Lines for the operator: what was not understood.
    """

    tr_s: float
    shape: tuple[int, int, int]
    affine: Float64Array
    dtype: np.dtype[np.generic]
    order: tuple[int, ...]
    n_channels: int
    echoes_ms: tuple[float, ...]
    n_volumes: int | None
    notes: tuple[str, ...]

    @property
    def n_image_bytes(self) -> int:
        """Length of one image: a slice, or a volume."""
        return math.prod(self.shape[: 2 if self.order else 3]) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class AfniEnd:
    """A run is over.

    Attributes
    ----------
    n_lost_bytes : int
        Bytes that came of a volume that is not whole, of all channels.
    is_said : bool
        Whether the source said so; else its connection was closed.
    """

    n_lost_bytes: int
    is_said: bool = False


def data_port_of(text: bytes) -> int:
    """Read what a source sends to the control port: where it will send its images.

    Parameters
    ----------
    text : bytes
        Up to the NUL.

    Returns
    -------
    int
        Port; its host is what the source calls this machine, and does not count.

    Raises
    ------
    InputError
        If it names no port, or wants a program to be run.
    """
    lines = [line.strip() for line in text.decode("ascii", "replace").split("\n") if line.strip()]
    if not lines:
        raise InputError("it does not say where its images will come; give tcp:HOST:PORT")
    if len(lines) > 1:
        raise InputError("it asks for a program to be run for its settings, which is never done; let it send them")
    kind, *rest = lines[0].split(":")
    if kind.lower() == "shm":
        raise InputError("it wants to share memory; let it send its images by TCP (Dimon: -host)")
    if kind.lower() != "tcp":
        raise InputError("it does not say where its images will come as AFNI's sources do, by tcp:HOST:PORT")
    port = rest[1] if len(rest) > 1 and rest[1] else "7960"
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1024 <= int(port) <= 65535:
        raise InputError("the port that it names for its images is none from 1024 to 65535")
    return int(port)


class AfniStream:
    """Reader of the data channel, whose bytes come in pieces of any size.

    Parameters
    ----------
    echo : int or Combine
        Channel that is taken, from 1, of several, where 0 takes the only one; or all, combined as echoes are.
    """

    def __init__(self, echo: Echo = 0) -> None:
        self._echo, self._buffer = echo, bytearray()
        self._run: AfniRun | None = None
        self._is_after_end = False
        self._n_images = 0
        #: Weights of the channels that are taken, and their volumes under way and complete.
        self._weights: dict[int, float] = {}
        self._partial: dict[int, Array] = {}
        self._whole: dict[int, Array] = {}

    def feed(self, data: bytes) -> Iterator[AfniRun | Array | AfniEnd]:
        """Take bytes, and yield what they complete: runs, volumes of shape (x, y, z) and ends of runs.

        Parameters
        ----------
        data : bytes

        Yields
        ------
        AfniRun, ndarray or AfniEnd

        Raises
        ------
        InputError
            If the source says something that cannot be read; nothing that comes after it can be.
        """
        view = memoryview(data)
        while True:
            if self._run is None and (text := self._text()) is not None:
                yield self._begun(_parsed(text))
            elif self._run is not None and len(self._buffer) >= self._run.n_image_bytes:
                yield from self._image(self._run)
            elif not view:
                return
            else:
                n_wanted = _LONGEST_TEXT if self._run is None else self._run.n_image_bytes - len(self._buffer)
                self._buffer += view[:n_wanted]
                view = view[n_wanted:]

    def close(self) -> list[AfniEnd]:
        """Return the end of the run under way, if there is one, when no more bytes come."""
        run, self._run = self._run, None
        if run is None:
            return []
        return [AfniEnd(self._n_lost_bytes(run, len(self._buffer)))]

    def _begun(self, run: AfniRun) -> AfniRun:
        if isinstance(self._echo, Combine):
            if len(run.echoes_ms) != run.n_channels:
                raise InputError(f"it sends {run.n_channels} channels without ECHO_TIMES; choose one with --echo N")
            self._weights = dict(enumerate(weights_of(run.echoes_ms, self._echo.t2star_ms)))
        else:
            if run.n_channels > 1 and not 1 <= self._echo <= run.n_channels:
                raise InputError(f"it sends {run.n_channels} channels; choose one with --echo N, or --echo combine")
            self._weights = {max(self._echo, 1) - 1 if run.n_channels > 1 else 0: 1.0}
        self._run, self._n_images, self._partial, self._whole = run, 0, {}, {}
        return run

    def _n_lost_bytes(self, run: AfniRun, n_buffered: int) -> int:
        """Count the bytes of a volume under way, of all its channels; none if what is taken of it was given."""
        n_slices = len(run.order) or 1
        n_came = self._n_images % (run.n_channels * n_slices)
        if n_came > run.n_channels * (n_slices - 1) + max(self._weights):
            return 0
        return n_came * run.n_image_bytes + n_buffered

    def _text(self) -> bytes | None:
        """Take the text of a run out of the buffer, once it is there."""
        if self._is_after_end:
            # The block that ends a run can be longer than an image: that of rtfeedme, which sends slices, is a volume.
            begins = _BEGINS.search(self._buffer)
            if begins is None:
                del self._buffer[:-32]
                return None
            del self._buffer[: begins.start()]
            self._is_after_end = False
        n_text = self._buffer.find(b"\0")
        if n_text > _LONGEST_TEXT or (n_text < 0 and len(self._buffer) >= _LONGEST_TEXT):
            raise InputError(f"its settings are longer than {_LONGEST_TEXT // 1024} kB: this is no source for AFNI")
        if n_text < 0:
            return None
        text = bytes(self._buffer[:n_text])
        del self._buffer[: n_text + 1]
        return text

    def _image(self, run: AfniRun) -> list[Array | AfniRun | AfniEnd]:
        """Take an image out of the buffer; return the volume that it completes, or the end."""
        n_bytes = run.n_image_bytes
        if self._buffer.startswith(END_OF_RUN[:n_bytes]):
            del self._buffer[:n_bytes]
            self._run, self._is_after_end = None, True
            return [AfniEnd(self._n_lost_bytes(run, 0), is_said=True)]
        image = np.frombuffer(bytes(self._buffer[:n_bytes]), run.dtype)
        del self._buffer[:n_bytes]
        turn, channel = divmod(self._n_images, run.n_channels)
        self._n_images += 1
        if channel not in self._weights:
            return []
        if not run.order:
            volume: Array = image.reshape(run.shape, order="F")
        else:
            if channel not in self._partial:
                self._partial[channel] = np.zeros(run.shape, run.dtype, order="F")
            n_slices = turn % len(run.order)
            self._partial[channel][:, :, run.order[n_slices]] = image.reshape(run.shape[:2], order="F")
            if n_slices < len(run.order) - 1:
                return []
            volume = self._partial.pop(channel)
        self._whole[channel] = _native(volume)
        if len(self._whole) < len(self._weights):
            return []
        echoes, self._whole = [self._whole[channel] for channel in self._weights], {}
        return [combined(echoes, list(self._weights.values())) if len(echoes) > 1 else echoes[0]]


def _native(volume: Array) -> Array:
    """Return voxels in this machine's byte order; bytes as int16, which holds them."""
    return volume.astype(np.int16 if volume.dtype.itemsize == 1 else volume.dtype.newbyteorder("="), copy=False)


# ---------------------------------------------------------------- the text of a run


def _parsed(text: bytes) -> AfniRun:
    said: dict[str, list[str]] = {}
    n_unknown = 0
    for line in re.split(r"[\n\r]", text.decode("utf-8", "replace")):
        word, *values = line[:1023].split() or [""]
        if word in _USED:
            said.pop(word, None)  # the last one counts
            said[word] = values
        else:
            n_unknown += bool(word) and word not in _UNUSED
    notes = [f"{n_unknown} lines of the source's settings are not known, and not used"] if n_unknown else []
    kind = _one(said, "ACQUISITION_TYPE", "2D+zt", _TYPES)
    nx, ny, *rest = _integers(said, "XYMATRIX", 2, 3)
    nz = _integers(said, "ZNUM", 1)[0] if "ZNUM" in said else (rest or [0])[0]
    shape = nx, ny, nz
    dtype = np.dtype(_DTYPES[_one(said, "DATUM", "short", tuple(_DTYPES))])
    if min(shape) < 1 or math.prod(shape) * dtype.itemsize > _MOST_BYTES:
        raise InputError(f"XYMATRIX, ZNUM: a matrix of {nx} × {ny} × {nz} is none of a volume; up to 32 MB are read")
    is_big = "BYTEORDER" in said and _one(said, "BYTEORDER", "", ("LSB_FIRST", "MSB_FIRST")) == "MSB_FIRST"
    n_channels = _integers(said, "NUM_CHAN", 1)[0] if "NUM_CHAN" in said else 1
    if not 1 <= n_channels <= _MOST_CHANNELS:
        raise InputError(f"NUM_CHAN is {n_channels}; up to {_MOST_CHANNELS} channels are read")
    echoes_ms = _numbers(said, "ECHO_TIMES", n_channels) if "ECHO_TIMES" in said else []
    n_volumes = _integers(said, "NUMVOL", 1)[0] if "NUMVOL" in said else 0
    tr_s = _numbers(said, "TR", 1)[0] if "TR" in said else 0.0
    return AfniRun(
        tr_s=tr_s,
        shape=shape,
        affine=_affine(said, shape),
        dtype=dtype.newbyteorder(">" if is_big else "<"),
        order=_order(said, nz) if kind.startswith("2D") else (),
        n_channels=n_channels,
        echoes_ms=tuple(echoes_ms),
        n_volumes=n_volumes if n_volumes > 0 else None,
        notes=tuple(notes),
    )


def _one(said: dict[str, list[str]], word: str, default: str, known: Sequence[str]) -> str:
    value = (said.get(word) or [default])[0]
    if value not in known:
        raise InputError(f"{word} is none of {', '.join(known)}")
    return value


def _values(
    said: dict[str, list[str]], word: str, read: Callable[[str], float], n_least: int, n_most: int
) -> list[float]:
    try:
        values = [read(value) for value in said.get(word, [])[:n_most]]
    except ValueError as error:
        raise InputError(f"{word} has something that is no number") from error
    if len(values) < n_least or not all(abs(value) < 1e6 for value in values):
        raise InputError(f"{word} needs {n_least} numbers")
    return values


def _integers(said: dict[str, list[str]], word: str, n_least: int, n_most: int | None = None) -> list[int]:
    return [int(value) for value in _values(said, word, int, n_least, n_most or n_least)]


def _numbers(said: dict[str, list[str]], word: str, n_least: int, n_most: int | None = None) -> list[float]:
    return _values(said, word, float, n_least, n_most or n_least)


def _order(said: dict[str, list[str]], nz: int) -> tuple[int, ...]:
    values = said.get("ZORDER", ["alt"])
    if values[:1] == ["seq"]:
        return tuple(range(nz))
    if values[:1] == ["alt"]:
        return (*range(0, nz, 2), *range(1, nz, 2))
    if values[:1] == ["explicit"]:
        places = _integers({"ZORDER": values[1:]}, "ZORDER", nz)
        for first in (0, 1):
            if sorted(places) == list(range(first, nz + first)):
                return tuple(place - first for place in places)
    raise InputError(f"ZORDER is none of seq, alt and explicit with each of {nz} slices once")


def _affine(said: dict[str, list[str]], shape: tuple[int, int, int]) -> Float64Array:
    if "OBLIQUE_XFORM" in said:
        lps = np.array(_numbers(said, "OBLIQUE_XFORM", 16)).reshape(4, 4)
        if not np.array_equal(lps[3], [0, 0, 0, 1]) or abs(np.linalg.det(lps)) < 1e-6:
            raise InputError("OBLIQUE_XFORM spans no volume")
        return to_ras(lps)
    fov = _numbers(said, "XYFOV", 2, 3)
    sizes = [fov[0] / shape[0], (fov[1] or fov[0]) / shape[1], 0.0]
    if "ZDELTA" in said:
        sizes[2] = _numbers(said, "ZDELTA", 1)[0] + (_numbers(said, "ZGAP", 1)[0] if "ZGAP" in said else 0.0)
    elif len(fov) > 2:
        sizes[2] = fov[2] / shape[2]
    if min(sizes) < 0.05:
        raise InputError("XYFOV, ZDELTA: a voxel's size is missing, or none")
    axes = [
        "".join(axis[:1] for axis in value.split("-")) if "-" in value else value for value in said.get("XYZAXES", [])
    ]
    sides = [axis[0].upper() for axis in axes if axis and axis[0].upper() in _SIDES]
    if len(axes) < 3 or len(sides) < 3 or {_SIDES[side][0] for side in sides[:3]} != {0, 1, 2}:
        raise InputError("XYZAXES needs three different axes, such as R-L A-P I-S")
    lps = np.eye(4)
    lps[:3, :3] = 0.0
    firsts = _firsts(said)
    offsets = _numbers(said, "XYZOFF", 3) if "XYZOFF" in said else [0.0] * 3
    for i, (side, size) in enumerate(zip(sides[:3], sizes, strict=True)):
        axis, sign = _SIDES[side]
        lps[axis, i] = -sign * size  # the index grows away from the side that it starts at
        if i in firsts:
            value, named = firsts[i]
            if _SIDES[named or side][0] != axis:
                raise InputError("XYZFIRST, ZFIRST: a direction is not that of its axis")
            lps[axis, 3] = _SIDES[named or side][1] * abs(value)
        else:
            lps[axis, 3] = sign * size * (shape[i] - 1) / 2 + offsets[i]
    return to_ras(lps)


def _firsts(said: dict[str, list[str]]) -> dict[int, tuple[float, str]]:
    """Return the first voxel's places by axis, each with the side that it is said to lie on."""
    firsts = {}
    for word in (word for word in said if word in ("XYZFIRST", "ZFIRST")):
        wanted = range(3) if word == "XYZFIRST" else range(2, 3)
        texts = said[word][: len(wanted)]
        sides = [text[-1:].upper() if text[-1:].upper() in _SIDES else "" for text in texts]
        values = [text[: len(text) - len(side)] for text, side in zip(texts, sides, strict=True)]
        numbers = _numbers({word: values}, word, len(wanted))
        firsts.update(dict(zip(wanted, zip(numbers, sides, strict=True), strict=True)))
    return firsts
