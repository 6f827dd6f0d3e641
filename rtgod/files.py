"""Files and folders that are written complete or not at all, and a base of objects that are closed after use."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from rtgod.errors import InputError


class Closing(ABC):
    """Base of objects that are closed at the end of a `with` block."""

    @abstractmethod
    def close(self) -> None:
        """Release all resources; may be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def appearing_whole(folder: Path) -> Iterator[Path]:
    """Make a folder beside `folder` that is renamed to it if the block ends without error, and removed otherwise.

    Parameters
    ----------
    folder : Path
        Missing folders above it are made.

    Raises
    ------
    OSError
        If the folder cannot be made, or cannot be renamed, for instance because `folder` exists and is not empty.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Give a path beside `folder`; a folder made there replaces `folder` if the block ends without error.

    Parameters
    ----------
    folder : Path
        Must exist.

    Raises
    ------
    OSError
        If the new folder cannot be moved into place; then the old one is left as it was.
    """
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        yield new
        folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            old.rename(folder)
            raise


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file that appears complete or not at all, and that only the users allowed by `mode` can ever read.

    Parameters
    ----------
    path : Path
        Replaced if it exists; missing folders above it are made.
    text : str
        Written as UTF-8.
    mode : int
        Permissions, as for `chmod`.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}-", delete=False, encoding="utf-8"
        ) as file:
            part = Path(file.name)
            file.write(text)
        part.chmod(mode)
        part.replace(path)
    except OSError as error:
        if part is not None:
            with suppress(OSError):
                part.unlink()
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def flush_folder(folder: Path) -> None:
    """Wait until a folder's entries, the names of its files, are on the disk, where file systems can do so.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    OSError
        If the disk fails.
    """
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
            raise
    finally:
        os.close(descriptor)
