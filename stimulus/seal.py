"""Sealed files: which condition each run has, and what was shown when, for a session in which nobody may know.

A seal hides from eyes, not from someone determined: the program that shows the conditions must be able to read them,
and so can whoever runs it. What it does ensure: nobody learns a condition in passing, neither from a file's text nor
from the length of its lines; damage is found; and the commitment, noted before the session, shows afterwards that the
plan was not changed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from rtgod.errors import InputError
from stimulus.conditions import Condition, Feedback, open_feedback
from stimulus.tables import Lines

HEADER = "rtgod sealed conditions, format 1: open with `rtgod unblind`"
#: Hidden bytes come in multiples of so many, so that what is hidden cannot be told by its length.
_PIECE_BYTES = 384


class _Plan(msgspec.Struct):
    #: Random, so that equal plans look different.
    nonce: str
    conditions: tuple[Condition, ...]


def seal(conditions: Sequence[Condition]) -> str:
    """Text of a file that keeps the runs' conditions from being read in passing."""
    plan = _Plan(secrets.token_hex(16), tuple(conditions))
    return _framed(_hidden(msgspec.json.encode(plan)))


def unseal(text: str, name: str = "the sealed conditions") -> tuple[Condition, ...]:
    """The condition of each run.

    Parameters
    ----------
    text : str
        As `seal` gives it.
    name : str, optional
        What errors call it.

    Raises
    ------
    InputError
        If it is of another format, or not the text that was sealed, to the last character.
    """
    lines = text.split("\n")
    if lines[0] != HEADER:
        raise InputError(
            f"{name}: damaged at its beginning, or no sealed conditions that this version of rtgod can open"
        )
    if len(lines) != 4 or text != _framed(lines[2]):
        raise InputError(f"{name}: damaged or changed since it was sealed; restore a copy")
    try:
        return msgspec.json.decode(_revealed(lines[2]), type=_Plan).conditions
    except (ValueError, msgspec.DecodeError) as error:
        raise InputError(f"{name}: written by another version of rtgod ({error})") from error


def commitment(text: str) -> str:
    """The first 16 digits of the sealed file's SHA-256, to be noted beforehand, as in a preregistration."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_sealed(path: Path) -> str:
    """Text of a sealed file, unopened.

    Raises
    ------
    InputError
        If it cannot be read, or is no text.
    """
    try:
        # A copy by way of Windows may end its lines in another way.
        return path.read_bytes().replace(b"\r\n", b"\n").decode("ascii")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: damaged, or not sealed by rtgod: it is no plain text") from error


def condition_of(path: Path, run_number: int) -> Condition:
    """The condition of one run, from 1, of a sealed file.

    Raises
    ------
    InputError
        If the file cannot be opened, or has no such run.
    """
    conditions = unseal(read_sealed(path), str(path))
    if not 1 <= run_number <= len(conditions):
        raise InputError(f"{path}: sealed for {len(conditions)} runs, from 1; there is no run {run_number}")
    return conditions[run_number - 1]


def open_sealed(path: Path, run_number: int, candidates: Sequence[str], ids: Sequence[str]) -> Feedback:
    """Prepare what is shown in a sealed run; see `stimulus.conditions.open_feedback`. No error tells the condition.

    Raises
    ------
    InputError
        If the file cannot be opened or has no such run, or its condition cannot be prepared.
    """
    condition = condition_of(path, run_number)
    try:
        return open_feedback(condition, candidates, ids)
    except InputError as error:
        raise InputError(
            f"{path}: the sealed condition of run {run_number} cannot be prepared: open it with `rtgod unblind --early`"
        ) from error


class SealedLines(Lines):
    """A table that grows line by line, and that nobody reads in passing; parameters and errors as of `Lines`."""

    def _encoded(self, line: str) -> bytes:
        return _hidden(line.encode()).encode("ascii")


def read_sealed_lines(path: Path) -> list[list[str]]:
    """Rows of a table that `SealedLines` wrote, without a last one that a crash cut short.

    Raises
    ------
    InputError
        If it cannot be read, or one of its lines is damaged.
    """
    rows = []
    *lines, _ = read_sealed(path).split("\n")
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_revealed(line).decode().split("\t"))
        except ValueError as error:
            raise InputError(f"{path}, line {number}: damaged ({error}); restore a copy") from error
    return rows


def _framed(hidden: str) -> str:
    return f"{HEADER}\n{hashlib.sha256(hidden.encode()).hexdigest()}\n{hidden}\n"


def _hidden(content: bytes) -> str:
    """Base64 of a checksum and the deflated bytes, filled up with zeros."""
    deflated = zlib.compress(content, 9)
    n_bytes = -(-(4 + len(deflated)) // _PIECE_BYTES) * _PIECE_BYTES
    filled = deflated.ljust(n_bytes - 4, b"\0")
    return base64.b64encode(zlib.crc32(filled).to_bytes(4, "big") + filled).decode("ascii")


def _revealed(hidden: str) -> bytes:
    """What `_hidden` was given; ValueError if it is not exactly what it gave."""
    try:
        packed = base64.b64decode(hidden, validate=True)
        inflating = zlib.decompressobj()
        content = inflating.decompress(packed[4:])
    except (binascii.Error, zlib.error) as error:
        raise ValueError(str(error)) from error
    # Some bits of base64 mean nothing, nor do those that fill it up; the checksum of nothing is right.
    whole = base64.b64encode(packed).decode("ascii") == hidden and inflating.eof
    if not whole or zlib.crc32(packed[4:]) != int.from_bytes(packed[:4], "big"):
        raise ValueError("not what was sealed")
    return content
