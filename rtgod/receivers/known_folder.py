"""What is known of the files in a watched folder: which there are, which went, and how each was when it was read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


def state_of(size: int, changed_ns: int) -> int:
    """Return a number that is another one once a file was written to.

    Parameters
    ----------
    size : int
        Bytes.
    changed_ns : int
        Time of its last change, nanoseconds.
    """
    return hash((size, changed_ns))


def identity_of(folder: Path | str) -> tuple[int, int]:
    """Return device and inode of a folder, which stay when it is renamed.

    Parameters
    ----------
    folder : Path or str

    Raises
    ------
    OSError
        If it is not there, or cannot be read.
    """
    status = os.stat(folder)  # noqa: PTH116 # a Path for each look costs more than the look
    return status.st_dev, status.st_ino


def _state(status: os.stat_result) -> int:
    return state_of(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Gone:
    """A name that is not there now.

    Attributes
    ----------
    inode : int or None
        None if its folder went: inodes may be others once that is back.
    state : int or None
        The file's state, if it is known.
    changed_ns : int
        The folder's last change while the file was there, nanoseconds.
    """

    inode: int | None
    state: int | None
    changed_ns: int


class KnownFolder:
    """Names in a folder.

    Parameters
    ----------
    changed_ns : int
        When the folder changed last by its file system, nanoseconds; -1 if it is to be listed.
    gone : dict of str to Gone
        Names that are not new if they come.
    identity : tuple of int
        Device and inode.

    Attributes
    ----------
    names : dict of str to int
        Inodes.
    states : dict of str to int or None
        States of files by which it is known whether they are written anew: as they were read, or, of old ones, at the
        first look, None before that. A file that is to be read has none.
    changed_s, listed_s : float
        When the folder changed and was listed last, seconds by the clock of its user.
    """

    def __init__(self, changed_ns: int, gone: dict[str, Gone], identity: tuple[int, int]) -> None:
        self.changed_ns, self.changed_s, self.listed_s = changed_ns, float("-inf"), float("-inf")
        self.names: dict[str, int] = {}
        self.states: dict[str, int | None] = {}
        self.gone, self.identity = gone, identity
        self._known_ns = changed_ns

    def add_old(self, entry: os.DirEntry[str], *, look: bool) -> None:
        """Take a file for one that was there before.

        Parameters
        ----------
        entry : os.DirEntry
        look : bool
            Whether its state is looked at now, and not at the first call of `has_changed`.
        """
        self.names[entry.name] = entry.inode()
        try:
            self.states[entry.name] = _state(entry.stat()) if look else None
        except OSError:
            self.states[entry.name] = None  # a link to a file that is not there

    def forget(self, name: str) -> None:
        """Take a file for new if it appears again.

        Parameters
        ----------
        name : str
        """
        for known in (self.names, self.states, self.gone):
            known.pop(name, None)

    def replace(self, names: dict[str, int]) -> None:
        """Take in a new list of names; those that went are kept, as a file that comes back is not a new one.

        Parameters
        ----------
        names : dict of str to int
            Inodes.
        """
        for name in self.names.keys() - names.keys():
            self.gone[name] = Gone(self.names[name], self.states.pop(name, None), self._known_ns)
        self.names, self._known_ns = names, self.changed_ns

    def has_back(self, entry: os.DirEntry[str], inode: int) -> bool:
        """Return whether a file that was gone is back, and was not written since it was seen.

        Parameters
        ----------
        entry : os.DirEntry
        inode : int
        """
        self.states.pop(entry.name, None)
        gone = self.gone.pop(entry.name, None)
        if gone is None or gone.inode not in (None, inode):
            return False
        try:
            status = entry.stat()
        except OSError:
            return False
        if gone.state is None:
            return status.st_mtime_ns <= gone.changed_ns
        if gone.state != _state(status):
            return False
        self.states[entry.name] = gone.state
        return True

    def has_changed(self, name: str, path: str) -> int | None:
        """Return the state of a file if it was written to since it was read, or since the first look at it.

        Parameters
        ----------
        name : str
        path : str
        """
        if name not in self.states:
            return None  # it is to be read
        try:
            state = _state(os.stat(path))  # noqa: PTH116 # a Path for each look costs more than the look
        except OSError:
            return None  # gone, which the next list says
        known = self.states[name]
        if known is None:
            self.states[name] = state
        return state if known not in (None, state) else None

    def as_gone(self) -> dict[str, Gone]:
        """Return all names as gone with the folder."""
        gone = {name: Gone(None, one.state, one.changed_ns) for name, one in self.gone.items()}
        return gone | {name: Gone(None, self.states.get(name), self._known_ns) for name in self.names}
