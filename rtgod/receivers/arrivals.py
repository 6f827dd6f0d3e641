"""Files that appear in a folder while it is watched: by the system's events where they come, and by looking.

Nothing is opened here, and nothing in the folder is changed. Files that were there before are known by name alone, and
stay known when their folder goes and comes back, as a share does: they are old unless they were written to after the
last change of their folder. So the file that was written last may be found once more.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from rtgod.errors import InputError
from rtgod.sources.nifti_file import is_nifti_name, stem_and_number

log = logging.getLogger(__name__)

#: Time between two looks at folders, seconds.
POLL_S = 0.02
#: Time for which a folder is listed at every look after a change, and then now and then, seconds.
_SETTLES_S, _COARSE_S = 0.25, 3.0
#: Number of folders, those changed last, that are looked at every time, and of others, which take turns.
_MOST_BUSY, _MOST_OTHERS = 500, 250
#: Most folders for which the system's events are asked: more of them are looked at alone.
_MOST_OBSERVED = 2000
#: Endings of names that programs give to files while they write them.
UNFINISHED = (".tmp", ".part", ".partial", ".filepart", ".crdownload")


class Arrivals:
    """New files below a folder, in the order in which they were found.

    Parameters
    ----------
    folder : Path
    with_events : bool
        Whether the system's events are used, so that files are found at once; without them within `POLL_S`.
    clock : callable, optional
        Clock of monotonic seconds.

    Attributes
    ----------
    is_gone : bool
        Whether the folder was not there at the last look.

    Raises
    ------
    InputError
        If the folder is not there, or cannot be read.
    """

    def __init__(self, folder: Path, *, with_events: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._folders: dict[str, _Folder] = {}
        self._away: dict[str, dict[str, _Gone]] = {}
        self._identity = (0, 0)
        self._turn = 0
        self._wake = threading.Event()
        self._changed: set[str] = set()
        self.is_gone = False
        try:
            self._identity = _identity_of(folder)
            self._add(str(folder), are_old=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be watched ({error.strerror}); give a folder that is there") from error
        self._observer = self._observed() if with_events else None
        self.poll()  # those that came while everything was listed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()

    @property
    def n_old(self) -> int:
        """Number of files that were there when watching began, or are known since."""
        return sum(len(folder.names) for folder in self._folders.values())

    def wait(self, timeout_s: float) -> None:
        """Wait until something changes.

        Parameters
        ----------
        timeout_s : float
            Longest wait, seconds.
        """
        self._wake.wait(timeout_s)
        self._wake.clear()

    def poll(self) -> list[Path]:
        """Return the files that have appeared since the last call.

        Those that appear at once, as when a share is back, are in the order of their last changes, and NIfTI files of
        one name in that of their numbers.
        """
        found: list[Path] = []
        if self._is_gone():
            return found
        for path in self._to_look_at():
            folder = self._folders.get(path)
            if folder is not None:
                found += self._look(path, folder)
        return _in_order(found)

    def forget(self, path: Path) -> None:
        """Take a file for new if it appears again, as it went before it could be read.

        Parameters
        ----------
        path : Path
        """
        parent = str(path.parent)
        if parent in self._folders:
            self._folders[parent].names.pop(path.name, None)
            self._folders[parent].gone.pop(path.name, None)
        self._away.get(parent, {}).pop(path.name, None)

    def _is_gone(self) -> bool:
        """Return whether the folder is away; keep what is known of it until it is back, or another in its place."""
        try:
            identity = _identity_of(self._folder)
        except OSError:
            if not self.is_gone:
                log.warning("the folder is gone; files are taken again once it is back")
                self._lose_all()
            self.is_gone = True
            return True
        if self.is_gone or identity != self._identity:
            # A share that is unmounted leaves an empty folder in its place, and is another one than that.
            if self.is_gone:
                log.warning("the folder is back")
            else:
                log.warning("another folder is in the folder's place: unmounted, mounted, or made again?")
                self._lose_all()
            if self._observer is not None:
                self.close()
                self._observer = self._observed()
        self.is_gone, self._identity = False, identity
        return False

    def _lose_all(self) -> None:
        for path, folder in self._folders.items():
            self._away[path] = folder.as_gone()
        top = str(self._folder)
        self._folders = {top: _Folder(-1, self._away.pop(top, {}))}

    def _to_look_at(self) -> list[str]:
        """List the folders to look at now: those with events, those that changed last, and some of the others."""
        changed, self._changed = self._changed, set()
        if len(self._folders) <= _MOST_BUSY:
            return list(self._folders)
        by_change = sorted(self._folders, key=lambda path: self._folders[path].changed_s, reverse=True)
        busy, others = by_change[:_MOST_BUSY], by_change[_MOST_BUSY:]
        self._turn = (self._turn + _MOST_OTHERS) % max(len(others), 1)
        others = (others + others)[self._turn : self._turn + _MOST_OTHERS]
        return list(dict.fromkeys([*(path for path in changed if path in self._folders), *busy, *others]))

    def _look(self, path: str, folder: _Folder) -> list[Path]:
        now_s = self._clock()
        try:
            changed_ns = os.stat(path).st_mtime_ns  # noqa: PTH116 # a Path for each folder costs more than the look
        except OSError:
            if path != str(self._folder):
                self._away[path] = self._folders.pop(path).as_gone()
            return []
        if changed_ns != folder.changed_ns:
            folder.changed_ns, folder.changed_s = changed_ns, now_s
        since_s = now_s - folder.changed_s
        # Clocks of file systems are coarse, some to seconds: a folder is listed for a while after each change.
        if since_s > _COARSE_S or (since_s > _SETTLES_S and now_s - folder.listed_s < _SETTLES_S):
            return []
        return self._list(path, folder)

    def _list(self, path: str, folder: _Folder) -> list[Path]:
        """List a folder; return the files that are not known, or were replaced by others of their names."""
        found: list[Path] = []
        folders: list[str] = []
        there: dict[str, int] = {}
        folder.listed_s = self._clock()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        if entry.path not in self._folders:
                            folders.append(entry.path)
                        continue
                    there[entry.name] = inode = entry.inode()
                    if folder.names.get(entry.name) == inode or entry.name.lower().endswith(UNFINISHED):
                        continue
                    if not folder.has_back(entry, inode):
                        found.append(Path(entry.path))
        except OSError as error:
            log.warning("a folder cannot be listed (%s); it is tried again", error.strerror)
            return []
        folder.replace(there)
        for inner in folders:
            found += self._add(inner, are_old=False)
        return found

    def _add(self, path: str, *, are_old: bool) -> list[Path]:
        """Begin to look at a folder and those in it; return their files unless they are old."""
        changed_ns = -1 if not are_old else os.stat(path).st_mtime_ns  # noqa: PTH116 # as above
        folder = _Folder(changed_ns, self._away.pop(path, {}))
        self._folders[path] = folder
        if not are_old:
            folder.changed_s = self._clock()
            return self._list(path, folder)
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    try:
                        self._add(entry.path, are_old=True)
                    except OSError as error:
                        log.warning("a folder cannot be listed (%s); it is left out", error.strerror)
                else:
                    folder.names[entry.name] = entry.inode()
        return []

    def _observed(self) -> BaseObserver | None:
        if len(self._folders) > _MOST_OBSERVED:
            log.warning("%d folders in it: they are looked at in turns, without events", len(self._folders))
            return None
        observer = Observer()
        try:
            observer.schedule(_Waker(self._changed_in), str(self._folder), recursive=True)
            observer.start()
        except OSError as error:
            log.info("no events of the system (%s); the folder is looked at every %g s", error, POLL_S)
            return None
        return observer

    def _changed_in(self, folder: str) -> None:
        known = self._folders.get(folder)
        if known is not None:
            known.changed_s = self._clock()
        self._changed.add(folder)
        self._wake.set()


def _in_order(paths: list[Path]) -> list[Path]:
    if len(paths) < 2:
        return paths
    changed_ns = {path: _changed_ns(path) for path in paths}
    named = {path: stem_and_number(path) if is_nifti_name(path) else (path.name, None) for path in paths}
    first_ns: dict[tuple[Path, str], int] = {}
    for path in sorted(paths, key=changed_ns.__getitem__):
        first_ns.setdefault((path.parent, named[path][0]), changed_ns[path])
    return sorted(
        paths,
        key=lambda path: (first_ns[path.parent, named[path][0]], named[path][1] or 0, changed_ns[path], path.name),
    )


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0  # gone again


@dataclass(frozen=True, slots=True)
class _Gone:
    """A name that is not there now: its inode, None if its folder went, and the folder's last change while it was."""

    inode: int | None
    changed_ns: int


class _Folder:
    """Inodes of the names in a folder, names that went, and when it changed and was listed last."""

    def __init__(self, changed_ns: int, gone: dict[str, _Gone]) -> None:
        self.changed_ns, self.changed_s, self.listed_s = changed_ns, float("-inf"), float("-inf")
        self.names: dict[str, int] = {}
        self.gone = gone
        self._known_ns = changed_ns

    def replace(self, names: dict[str, int]) -> None:
        """Take in a new list of names; those that went are kept, as a file that comes back is not a new one."""
        for name in self.names.keys() - names.keys():
            self.gone[name] = _Gone(self.names[name], self._known_ns)
        self.names, self._known_ns = names, self.changed_ns

    def has_back(self, entry: os.DirEntry[str], inode: int) -> bool:
        """Return whether a file that was gone is back, and was not written since it was seen."""
        gone = self.gone.pop(entry.name, None)
        if gone is None or gone.inode not in (None, inode):
            return False
        try:
            return entry.stat().st_mtime_ns <= gone.changed_ns
        except OSError:
            return False

    def as_gone(self) -> dict[str, _Gone]:
        """Return all names as gone with the folder; inodes may be others once it is back."""
        gone = {name: _Gone(None, one.changed_ns) for name, one in self.gone.items()}
        return gone | {name: _Gone(None, self._known_ns) for name in self.names}


def _identity_of(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116 # a Path for each look costs more than the look
    return status.st_dev, status.st_ino


class _Waker(FileSystemEventHandler):
    """Says in which folder something changed."""

    def __init__(self, changed_in: Callable[[str], None]) -> None:
        self._changed_in = changed_in

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in {"opened", "closed_no_write"}:  # our own reading
            return
        for path in (event.src_path, event.dest_path):
            if path:
                self._changed_in(os.path.dirname(os.fsdecode(path)))  # noqa: PTH120 # a Path for each event costs more
