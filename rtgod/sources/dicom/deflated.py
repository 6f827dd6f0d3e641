"""Deflated DICOM files, read as the explicit little-endian files that they were before they were deflated."""

from __future__ import annotations

import zlib

from rtgod.errors import InputError

#: Bytes of a file within which the elements about the file itself end.
LONGEST_META = 2048
#: Most bytes that a file may inflate to, most by which it grows, and bytes up to which it may grow by more.
_MOST_BYTES, _MOST_GROWN, _SMALL = 2**28, 20, 2**24
#: TransferSyntaxUID (0002,0010) of deflated files, as an element, and its value for those that are not.
_ELEMENT = b"\x02\x00\x10\x00UI\x16\x00"
_DEFLATED, _PLAIN = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1".ljust(22, b"\0")
#: FileMetaInformationGroupLength (0002,0000), which comes first: the number of bytes of those elements after it.
_LENGTH, _LENGTH_AT = b"\x02\x00\x00\x00UL\x04\x00", 132


def is_deflated(beginning: bytes) -> bool:
    """Return whether a file is deflated.

    Parameters
    ----------
    beginning : bytes
        Its first `LONGEST_META` bytes, or as many as there are.
    """
    return beginning[128:132] == b"DICM" and _ELEMENT + _DEFLATED in beginning


def inflated(content: bytes) -> bytes:
    """Return the file that a deflated one was; of the beginning of one, its beginning.

    Parameters
    ----------
    content : bytes

    Raises
    ------
    InputError
        If it is damaged, or far too large.
    """
    begins = _LENGTH_AT + len(_LENGTH) + 4
    if content[_LENGTH_AT : begins - 4] != _LENGTH:
        raise InputError("a deflated DICOM file that does not say where its data begin; export it uncompressed")
    begins += int.from_bytes(content[begins - 4 : begins], "little")
    meta = content[:begins].replace(_ELEMENT + _DEFLATED, _ELEMENT + _PLAIN)
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    most_bytes = min(_MOST_BYTES, max(_MOST_GROWN * len(content), _SMALL))
    try:
        data = stream.decompress(content[begins:], most_bytes)
    except zlib.error as error:
        raise InputError("a deflated DICOM file that cannot be inflated; copy or export it again") from error
    if stream.unconsumed_tail:
        raise InputError(f"a deflated DICOM file of more than {most_bytes >> 20} MiB; export it uncompressed")
    return meta + data
