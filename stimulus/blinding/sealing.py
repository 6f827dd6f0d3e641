"""Sealed files: they hold the condition of each run, for a session in which nobody may know it.

A seal hides from eyes, not from someone determined: the program that shows the conditions must be able to read them,
and so can whoever runs it. A seal ensures three things: nobody learns a condition in passing, neither from a file's
text nor from its length, nor from how well it compresses; damage is found; and the commitment, noted before the
session, shows afterwards that the plan was not changed.
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
from stimulus.blinding.conditions import Condition, Feedback, open_feedback
from stimulus.blinding.yoking import located

_HEADER = "rtgod sealed conditions, format {}: open with `rtgod unblind`"
HEADER = _HEADER.format(2)
#: Content is filled up to a multiple of this number of bytes before it is hidden, so that its length tells little.
_PIECE_BYTES = 1024
_NONCE_BYTES = 16


class _Plan(msgspec.Struct):
    #: Random, so that equal plans look different.
    nonce: str
    conditions: tuple[Condition, ...]


def seal(conditions: Sequence[Condition]) -> str:
    """Return the text of a file from which nobody can read the runs' conditions in passing.

    Parameters
    ----------
    conditions : sequence of Condition
        One for each run, in the order of the runs; yoked ones as `stimulus.blinding.yoking.pinned` returns them.
    """
    plan = msgspec.json.encode(_Plan(secrets.token_hex(16), tuple(conditions)))
    return _framed(hidden(plan, -(-len(plan) // _PIECE_BYTES) * _PIECE_BYTES))


def unseal(text: str, name: str = "the sealed conditions") -> tuple[Condition, ...]:
    """Return the condition of each run from the text of a sealed file.

    Parameters
    ----------
    text : str
        Text that `seal` returned.
    name : str, optional
        Name of the text in error messages.

    Raises
    ------
    InputError
        If the text is of another format, or differs from the sealed text in any character.
    """
    lines = text.split("\n")
    if lines[0] == _HEADER.format(1):
        raise InputError(
            f"{name}: sealed by an earlier version of rtgod, and opened by that alone; with this version seal anew"
        )
    if lines[0] != HEADER:
        raise InputError(
            f"{name}: damaged at its beginning, or no sealed conditions that this version of rtgod can open"
        )
    if len(lines) != 4 or text != _framed(lines[2]):
        raise InputError(f"{name}: damaged or changed since it was sealed; restore a copy")
    try:
        return msgspec.json.decode(revealed(lines[2]), type=_Plan).conditions
    except (ValueError, msgspec.DecodeError) as error:
        raise InputError(f"{name}: written by another version of rtgod ({error})") from error


def commitment(text: str) -> str:
    """Return the first 16 digits of the sealed text's SHA-256, to be noted beforehand, as in a preregistration.

    Parameters
    ----------
    text : str
        Text that `seal` or `read_sealed` returned.
    """
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def condition_of(path: Path, run_number: int) -> Condition:
    """Read the condition of one run from a sealed file.

    Parameters
    ----------
    path : Path
        The sealed file.
    run_number : int
        Number of the run, from 1.

    Raises
    ------
    InputError
        If the file cannot be opened, or has no such run.
    """
    return _chosen(path, unseal(read_sealed(path), str(path)), run_number)


def open_sealed(
    path: Path, run_number: int, candidates: Sequence[str], ids: Sequence[str], recordings: Sequence[Path] = ()
) -> Feedback:
    """Prepare the feedback of a sealed run; see `stimulus.blinding.conditions.open_feedback`.

    The conditions of all runs are prepared each time, so neither the time this takes nor an error tells which of them
    is this run's.

    Parameters
    ----------
    path : Path
        The sealed file.
    run_number : int
        Number of the run, from 1.
    candidates, ids : sequence of str
        Names and category ids of the decoder's candidates, in its order.
    recordings : sequence of Path, optional
        Folders with the journals that the conditions were sealed with, besides the sealed file's own folder.

    Raises
    ------
    InputError
        If the file cannot be opened or has no such run, or its conditions cannot be prepared.
    """
    conditions = unseal(read_sealed(path), str(path))
    condition = _chosen(path, conditions, run_number)
    try:
        prepared = {
            sealed: open_feedback(located(sealed, path.parent, recordings), candidates, ids)
            for sealed in dict.fromkeys(conditions)
        }
    except InputError:
        # Without its cause, which would be printed with a traceback and may tell a condition.
        raise InputError(
            f"{path}: its runs cannot be prepared, which is said in each of them alike: keep what it was sealed with "
            "beside it or name the folder with --recordings, and give the bundle of the session's server; which files "
            "it needs is told by `rtgod unblind --early`"
        ) from None
    return prepared[condition]


def _chosen(path: Path, conditions: Sequence[Condition], run_number: int) -> Condition:
    if not 1 <= run_number <= len(conditions):
        raise InputError(f"{path}: sealed for {len(conditions)} runs, from 1; there is no run {run_number}")
    return conditions[run_number - 1]


def hidden(content: bytes, n_bytes: int) -> str:
    """Fill bytes up to `n_bytes`, add a checksum, and write them in letters that look random.

    The number of letters depends on `n_bytes` only.

    Parameters
    ----------
    content : bytes
    n_bytes : int
        At least the length of the content.

    Raises
    ------
    ValueError
        If the content is longer than that.
    """
    if len(content) > n_bytes:
        raise ValueError(f"{len(content)} bytes where there is room for {n_bytes}")
    plain = len(content).to_bytes(4, "big") + content.ljust(n_bytes, b"\0")
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return base64.b64encode(nonce + _masked(zlib.crc32(plain).to_bytes(4, "big") + plain, nonce)).decode("ascii")


def revealed(text: str) -> bytes:
    """Return the bytes that `hidden` was given.

    Parameters
    ----------
    text : str
        Text that `hidden` returned.

    Raises
    ------
    ValueError
        If the text differs from that in any character.
    """
    try:
        packed = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    unmasked = _masked(packed[_NONCE_BYTES:], packed[:_NONCE_BYTES])
    checksum, plain = unmasked[:4], unmasked[4:]
    n_bytes = int.from_bytes(plain[:4], "big")
    # Two checks besides the checksum: base64 has bits that mean nothing, and the checksum of an empty content is right.
    is_whole = base64.b64encode(packed).decode("ascii") == text and len(plain) >= 4 and n_bytes <= len(plain) - 4
    if not is_whole or zlib.crc32(plain) != int.from_bytes(checksum, "big"):
        raise ValueError("not what was sealed")
    return plain[4 : 4 + n_bytes]


def _masked(content: bytes, nonce: bytes) -> bytes:
    """Mask bytes with a sequence that looks random and follows from `nonce`; masking twice gives the bytes back."""
    mask = hashlib.shake_256(nonce).digest(len(content))
    return (int.from_bytes(content, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(content), "big")


def read_sealed(path: Path) -> str:
    """Read the text of a sealed file without opening its seal.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
        If the file cannot be read, or is no ASCII text.
    """
    try:
        # A copy made by way of Windows may have other line ends.
        return path.read_bytes().replace(b"\r\n", b"\n").decode("ascii")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: damaged, or not sealed by rtgod: it is no plain text") from error


def _framed(letters: str) -> str:
    return f"{HEADER}\n{hashlib.sha256(letters.encode()).hexdigest()}\n{letters}\n"
