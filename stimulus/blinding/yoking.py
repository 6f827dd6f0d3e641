"""Journals of yoked runs, found again by name, size and checksum, even if their files were moved.

A sealed file holds no absolute path: that would tell of people and machines, and be wrong on any other machine.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from rtgod.errors import InputError
from stimulus.blinding.conditions import Condition, ConditionKind

#: Number of bytes that are read at a time for a checksum.
_PIECE_BYTES = 1 << 20
#: Name of a folder beside the sealed file in which journals are looked for.
JOURNALS = "journals"


def pinned(condition: Condition, folder: Path) -> Condition:
    """Give a yoked condition its journal's path relative to a folder, its size and checksum; return others unchanged.

    Parameters
    ----------
    condition : Condition
        With a path that leads to the journal from the working directory.
    folder : Path
        Folder of the sealed file.

    Raises
    ------
    InputError
        If the journal cannot be read.
    """
    if condition.kind is not ConditionKind.YOKED:
        return condition
    journal = Path(condition.journal).resolve()
    try:
        name = Path(os.path.relpath(journal, folder.resolve())).as_posix()
    except ValueError:  # the journal is on another drive
        name = journal.name
    try:
        n_bytes = journal.stat().st_size
    except OSError as error:
        raise InputError(f"{journal}: cannot be read ({error.strerror})") from error
    return replace(condition, journal=name, n_bytes=n_bytes, digest=_digest(journal, n_bytes))


def located(condition: Condition, folder: Path, others: Sequence[Path] = ()) -> Condition:
    """Give a yoked condition the path at which its journal is found now; return others unchanged.

    Parameters
    ----------
    condition : Condition
        Condition that `pinned` returned.
    folder : Path
        Folder of the sealed file.
    others : sequence of Path
        More folders in which the journal may be.

    Raises
    ------
    InputError
        If the journal is in none of these folders, or is not the one that was sealed.
    """
    if condition.kind is not ConditionKind.YOKED or not condition.digest:
        return condition
    name = PurePosixPath(condition.journal).name
    paths = [folder / condition.journal, folder / name, folder / JOURNALS / name, *(other / name for other in others)]
    files = [path for path in dict.fromkeys(paths) if path.is_file()]
    for path in files:
        # The journal may have grown since the sealing; only the bytes that were there then are compared.
        if path.stat().st_size >= condition.n_bytes and _digest(path, condition.n_bytes) == condition.digest:
            return replace(condition, journal=str(path))
    if files:
        raise InputError(f"{files[0]}: not the journal that was sealed, though it has its name; restore a copy of that")
    raise InputError(f"journal {name}: not in {folder}, nor in its folder {JOURNALS}, nor in one that was named")


def _digest(path: Path, n_bytes: int) -> str:
    """Return the SHA-256 of a file's first `n_bytes` bytes."""
    digest, n_left = hashlib.sha256(), n_bytes
    try:
        with path.open("rb") as file:
            while n_left and (piece := file.read(min(n_left, _PIECE_BYTES))):
                digest.update(piece)
                n_left -= len(piece)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()
