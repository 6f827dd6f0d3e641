"""Writing files so that a reader, or a crash, never meets half of one."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rtgod.errors import InputError


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is seen complete or not at all.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            file.write(text)
        Path(file.name).replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
