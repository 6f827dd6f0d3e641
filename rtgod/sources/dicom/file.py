"""One DICOM file: its header, its voxels, and errors that quote nothing of it.

No data that identify a person leave this module or the formats that use it: not in a run, not in a volume, not in an
error. Fields are read by name, one by one; pydicom's own warnings and errors, which quote values, are not passed on.
"""

from __future__ import annotations

import io
import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileDataset
from pydicom.filereader import read_partial
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from rtgod.errors import InputError
from rtgod.messages import Array, Float64Array
from rtgod.sources.dicom.deflated import LONGEST_META, inflated, is_deflated
from rtgod.sources.dicom.fields import n_frames_of, text_of, without_field

# pydicom would log and warn of values that break the standard, and quote them; values that are used are checked here.
# A filter would stop the lines of this logger alone, and not those of the loggers below it.
logging.getLogger("pydicom").propagate = False
logging.getLogger("pydicom").addHandler(logging.NullHandler())
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

#: Tags of voxels: integers, and two kinds of floating-point numbers.
_VOXELS = frozenset({0x7FE00010, 0x7FE00009, 0x7FE00008})
#: Bytes of a file that are read at once for its header; most headers are shorter.
_USUAL_HEADER = 2**17
#: Bytes of the tag of voxels, little and big-endian; of an undefined length; of the delimiter after items.
_PIXEL_DATA, _PIXEL_DATA_BIG = b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"
_UNDEFINED, _END_OF_ITEMS = b"\xff" * 4, b"\xfe\xff\xdd\xe0" + bytes(4)
#: Compression that gives back every number.
_LOSSLESS = frozenset(
    {JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL, RLELossless}
)
#: Compression that may be of either kind; LossyImageCompression says which.
_EITHER = frozenset({JPEG2000, HTJ2K})
#: Reads of no more bytes than these are not compared with what is left of a file.
_SMALL_READ = 2**16
#: Most that voxels are compressed, as a ratio, if they take more than this many bytes; real images reach 3 to 10.
_MOST_SHRUNK, _SMALL_IMAGE = 20, 2**24


def begins_as_dicom(path: Path) -> bool:
    """Return whether a file has DICOM's mark at its start.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_header(path: Path, tags: Sequence[int]) -> tuple[FileDataset, int, int]:
    """Read elements before the voxels.

    Parameters
    ----------
    path : Path
    tags : sequence of int
        Elements to read, as 0xGGGGEEEE.

    Returns
    -------
    header : FileDataset
    start : int
        Where the element of the voxels begins, bytes from the file's start.
    n_left : int
        Number of bytes from there.
    """
    with _opened(path) as stream:
        header, start = _header(stream, tags)
        return header, start, stream.seek(0, io.SEEK_END) - start


def _header(stream: BinaryIO, tags: Sequence[int]) -> tuple[FileDataset, int]:
    """Read elements before the voxels, and where these begin."""
    # Many short reads of memory take half as long as those of a file.
    head = io.BytesIO(stream.read(_USUAL_HEADER))
    with suppress(Exception):  # whatever comes of a header that is cut off comes of the whole one as well
        header = read_partial(head, _at_voxels, specific_tags=list(tags))
        start = head.tell()
        if head.read(4) in (_PIXEL_DATA, _PIXEL_DATA_BIG):
            return header, start
    stream.seek(0)
    header = read_partial(stream, _at_voxels, specific_tags=list(tags))
    return header, stream.tell()


def _at_voxels(tag: int, vr: str | None, length: int) -> bool:
    del vr, length  # pydicom gives them, too
    return tag in _VOXELS


class _Bounded(io.BufferedReader):
    """File of which no read sets aside more memory than it has bytes, whatever length a damaged element claims."""

    def __init__(self, path: Path) -> None:
        raw = io.FileIO(path)
        super().__init__(raw)
        self._n_bytes = os.fstat(raw.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes, as every file does."""
        if size is not None and size > _SMALL_READ:
            size = max(min(size, self._n_bytes - self.tell()), 0)
        return super().read(size)


def _opened(source: Path | bytes) -> BinaryIO:
    """Open a file, or what one holds; a deflated one is read as the explicit little-endian file that it was."""
    stream = io.BytesIO(source) if isinstance(source, bytes) else cast("BinaryIO", _Bounded(source))
    beginning = stream.read(LONGEST_META)
    stream.seek(0)
    if not is_deflated(beginning):
        return stream
    with stream:
        return io.BytesIO(inflated(stream.read()))


def read_growing(source: Path | bytes, tags: Sequence[int]) -> tuple[FileDataset | None, int, int | None]:
    """Read the header of a file that may not be written to its end yet.

    Parameters
    ----------
    source : Path or bytes
        The file, or what it holds.
    tags : sequence of int
        Elements to read, as 0xGGGGEEEE.

    Returns
    -------
    header : FileDataset or None
        None if it is no DICOM file, or its header cannot be read yet.
    start : int
        Where the element of the voxels begins, bytes from the file's start.
    n_missing : int or None
        Number of bytes that the voxels still need, by the length that the header promises; None if it promises none.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    try:
        stream = _opened(source)
    except InputError:  # deflated, and damaged
        return None, 0, None
    with stream, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        if stream.read(132)[128:] != b"DICM":
            return None, 0, None
        stream.seek(0)
        try:
            header, start = _header(stream, tags)
            syntax = header.file_meta.TransferSyntaxUID
            is_little, is_implicit = syntax.is_little_endian, syntax.is_implicit_VR
        except OSError as error:
            if error.strerror:
                raise
            return None, 0, None
        except Exception:  # noqa: BLE001 - on the beginning of a file pydicom raises whatever it leads to
            return None, 0, None
        stream.seek(start)
        element = stream.read(12)
        size = stream.seek(0, 2)
        if element[:4] != (_PIXEL_DATA if is_little else _PIXEL_DATA_BIG) or len(element) < 12:
            return header, start, None
        n_own, length = (8, element[4:8]) if is_implicit else (12, element[8:12])
        if length == _UNDEFINED:  # compressed: items, and a delimiter at the end
            stream.seek(-len(_END_OF_ITEMS), 2)
            return header, start, 0 if stream.read() == _END_OF_ITEMS else None
        return header, start, max(start + n_own + int.from_bytes(length, "little" if is_little else "big") - size, 0)


def check_readable(path: Path, header: FileDataset, n_left: int) -> None:
    """Raise `InputError` if a file's voxels are cut short, or of a kind that cannot be decoded here.

    Parameters
    ----------
    path : Path
    header : FileDataset
    n_left : int
        Number of bytes after the header, from `read_header`.
    """
    syntax = header.file_meta.TransferSyntaxUID
    is_lossless = syntax in _LOSSLESS or (syntax in _EITHER and text_of(header, "LossyImageCompression") == "00")
    if text_of(header, "LossyImageCompression") == "01" or (syntax.is_compressed and not is_lossless):
        how = f", as {syntax.name}" if syntax.is_compressed else ""
        raise InputError(
            f"{path}: compressed with loss{how}, so that its numbers are not those that were measured; export it "
            "uncompressed or without loss."
        )
    if syntax.is_compressed and not _has_decoder(syntax):
        advice = f"export it uncompressed{_installable(syntax)}"
        raise InputError(f"{path}: compressed as {syntax.name}, which cannot be read here; {advice}.")
    if header.BitsAllocated != 16 or header.get("SamplesPerPixel", 1) != 1:
        raise InputError(f"{path}: its voxels are not single 16-bit numbers; export the original series.")
    # The element's own header is 12 bytes with an explicit VR, 8 without one. The length of encapsulated voxels is not
    # known beforehand.
    n_voxels = header.Rows * header.Columns * n_frames_of(header)
    n_expected = (8 if syntax.is_implicit_VR else 12) + 2 * n_voxels
    if not syntax.is_compressed and n_left < n_expected:
        raise InputError(f"{path}: cut short, {n_expected - n_left} bytes of its voxels are missing; copy it again.")


def _has_decoder(syntax: UID) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:  # pydicom has no decoder, whatever is installed
        return False


def _installable(syntax: UID) -> str:
    """Advise to install decoders, if there are any for a syntax; otherwise an empty text."""
    try:
        get_decoder(syntax)
    except NotImplementedError:
        return ""
    return ", or install what decodes it: pip install 'rtgod[compressed]'"


def read_pixels(path: Path, header: FileDataset, start: int, raw: bytes | None = None) -> Array:
    """Read the stored numbers of all frames, shape (n_frames, n_rows, n_columns), int16 or uint16.

    Numbers that are not compressed are taken as they lie in the file; pydicom decodes the others.

    Parameters
    ----------
    path : Path
    header : FileDataset
    start : int
        Where the element of the voxels begins, from `read_header` or `read_growing`.
    raw : bytes, optional
        What the file holds, if it is not on a disk; `path` is then what messages call it.

    Raises
    ------
    InputError
        If they cannot be decoded.
    """
    with shielded(path):
        syntax = header.file_meta.TransferSyntaxUID
        kind, order = "i" if header.PixelRepresentation else "u", "<" if syntax.is_little_endian else ">"
        shape = n_frames_of(header), int(header.Rows), int(header.Columns)
        with _opened(path if raw is None else raw) as stream:
            if syntax.is_compressed:
                n_bytes = stream.seek(0, io.SEEK_END)
                if 2 * math.prod(shape) > max(_MOST_SHRUNK * n_bytes, _SMALL_IMAGE):
                    raise InputError(f"{path}: its header says more voxels than it can hold; copy or export it again.")
                stream.seek(0)
                pixels = pixel_array(stream).reshape(shape)
            else:
                stream.seek(start + (8 if syntax.is_implicit_VR else 12))
                stored = stream.read(2 * math.prod(shape))
                n_missing = 2 * math.prod(shape) - len(stored)
                if n_missing > 0 and raw is not None:
                    raise InputError(f"{path}: {n_missing} bytes of its voxels are missing")
                if n_missing > 0:
                    raise InputError(
                        f"{path}: changed while it was being read; start again once the folder is complete."
                    )
                pixels = np.frombuffer(stored, f"{order}{kind}2").reshape(shape)
        pixels = pixels.astype(f"={kind}2", copy=False)
        if kind == "i" and header.BitsStored < 16:  # not every decoder gives the sign to the bits that are not stored
            n_unused = 16 - int(header.BitsStored)
            pixels = (pixels << n_unused) >> n_unused
        return pixels


@contextmanager
def shielded(path: Path) -> Iterator[None]:
    """Turn any error of pydicom on a broken file into one `InputError`.

    Its warnings and messages are neither passed on nor chained: they quote the file's values, which may be a name.

    Parameters
    ----------
    path : Path
        The file that is read, for the message.
    """
    with warnings.catch_warnings():
        # These warn of values that break the standard (too long, odd characters); values used here are checked.
        warnings.simplefilter("ignore", UserWarning)
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - on broken bytes pydicom raises whatever they lead to
            # The name of a field identifies nobody, unlike its value.
            if isinstance(error, AttributeError) and error.name and tag_for_keyword(error.name) is not None:
                raise InputError(without_field(path, error.name, "is missing")) from None
            # pydicom's own OSErrors have no strerror; errors of the operating system have.
            if isinstance(error, OSError) and error.strerror:
                raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
            raise InputError(f"{path}: a DICOM file that cannot be decoded; copy or export it again.") from None


def to_ras(affine: Float64Array) -> Float64Array:
    """Turn an affine to DICOM's coordinates, whose x and y run to left and posterior, into one to RAS+.

    Parameters
    ----------
    affine : ndarray of shape (4, 4), float64
    """
    turned: Float64Array = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return turned
