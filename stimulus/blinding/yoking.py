"""Which journal a yoked run shows: by name, size and checksum, wherever its file lies by now.

A sealed file holds no absolute path, which would tell of people and machines, and be wrong on any other.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from rtgod.errors import InputError
from stimulus.blinding.conditions import Condition, ConditionKind

#: A checksum is made of so many bytes at a time.
_PIECE_BYTES = 1 << 20
#: Journals may lie here, in the folder of the sealed file.
JOURNALS = "journals"


def pinned(condition: Condition, folder: Path) -> Condition:
    """A yoked condition whose journal is named as seen from a folder, and known by its content; others as they are.

    Parameters
    ----------
    condition : Condition
        With a path that leads to the journal from here.
    folder : Path
        Where the conditions are sealed.

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
    except ValueError:  # another drive
        name = journal.name
    try:
        n_bytes = journal.stat().st_size
    except OSError as error:
        raise InputError(f"{journal}: cannot be read ({error.strerror})") from error
    return replace(condition, journal=name, n_bytes=n_bytes, digest=_digest(journal, n_bytes))


def located(condition: Condition, folder: Path, others: Sequence[Path] = ()) -> Condition:
    """A yoked condition with the path where its journal is; others as they are.

    Parameters
    ----------
    condition : Condition
        As `pinned` gave it.
    folder : Path
        Of the sealed file.
    others : sequence of Path
        More folders that the journal may be in.

    Raises
    ------
    InputError
        If the journal is in none of them, or is another than the one that was sealed.
    """
    if condition.kind is not ConditionKind.YOKED or not condition.digest:
        return condition
    name = PurePosixPath(condition.journal).name
    paths = [folder / condition.journal, folder / name, folder / JOURNALS / name, *(other / name for other in others)]
    there = [path for path in dict.fromkeys(paths) if path.is_file()]
    for path in there:
        # What a server wrote after the sealing changes nothing of what came before.
        if path.stat().st_size >= condition.n_bytes and _digest(path, condition.n_bytes) == condition.digest:
            return replace(condition, journal=str(path))
    if there:
        raise InputError(f"{there[0]}: not the journal that was sealed, though it has its name; restore a copy of that")
    raise InputError(f"journal {name}: not in {folder}, nor in its folder {JOURNALS}, nor in one that was named")


def _digest(path: Path, n_bytes: int) -> str:
    """SHA-256 of a file's first bytes."""
    digest, left = hashlib.sha256(), n_bytes
    try:
        with path.open("rb") as file:
            while left and (piece := file.read(min(left, _PIECE_BYTES))):
                digest.update(piece)
                left -= len(piece)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()
