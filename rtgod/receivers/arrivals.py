"""Files that appear in a folder while it is watched: by the system's events where they come, and by looking.

Nothing is opened here, and nothing in the folder is changed. Files that were there before are old until they are
written anew. They stay known when their folder goes and comes back, as a share does, or is renamed. Links to folders
are followed.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from rtgod.errors import InputError
from rtgod.receivers.known_folder import Gone, KnownFolder, identity_of, state_of
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
#: Known files that are looked at in turns at every look: fewest, most, and the time, seconds, after which no more are.
_FEWEST_KNOWN, _MOST_KNOWN, _KNOWN_S = 25, 150, 0.002
#: Longest time that is taken at the start to look at old files, seconds; the others are looked at in turns.
_START_S = 0.15
#: Time for which a known file that was written to must not change until it is found, seconds.
_REWRITTEN_S = 0.1
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
        self._folders: dict[str, KnownFolder] = {}
        self._away: dict[str, dict[str, Gone]] = {}
        #: Where the folders are, by device and inode.
        self._places: dict[tuple[int, int], str] = {}
        self._looks_until_s = time.perf_counter() + _START_S
        self._turns = self._in_turns()
        #: Known files of which an event told, by folder and name; and those that are written to, with state and time.
        self._touched: set[tuple[str, str]] = set()
        self._changing: dict[tuple[str, str], tuple[int, float]] = {}
        self._identity = (0, 0)
        self._turn = 0
        self._wake = threading.Event()
        self._changed: set[str] = set()
        self.is_gone = False
        try:
            self._identity = identity_of(folder)
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
        """Return the files that have appeared, or were written anew in place, since the last call.

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
        return _in_order(found + self._rewritten())

    def done(self, path: Path, size: int, changed_ns: int) -> None:
        """Find a file again if it is written anew.

        Parameters
        ----------
        path : Path
        size : int
            Its bytes when it was read.
        changed_ns : int
            When it had changed last, nanoseconds.
        """
        folder = self._folders.get(str(path.parent))
        if folder is not None and path.name in folder.names:
            folder.states[path.name] = state_of(size, changed_ns)

    def forget(self, path: Path) -> None:
        """Take a file for new if it appears again, as it went before it could be read.

        Parameters
        ----------
        path : Path
        """
        parent = str(path.parent)
        if parent in self._folders:
            self._folders[parent].forget(path.name)
            self._folders[parent].changed_s = self._clock()  # so that it is listed
        self._away.get(parent, {}).pop(path.name, None)

    def _is_gone(self) -> bool:
        """Return whether the folder is away; keep what is known of it until it is back, or another in its place."""
        try:
            identity = identity_of(self._folder)
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
        self._places[identity] = str(self._folder)
        return False

    def _lose_all(self) -> None:
        for path, folder in self._folders.items():
            self._away[path] = folder.as_gone()
        top = str(self._folder)
        self._folders = {top: KnownFolder(-1, self._away.pop(top, {}), self._identity)}

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

    def _look(self, path: str, folder: KnownFolder) -> list[Path]:
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

    def _list(self, path: str, folder: KnownFolder) -> list[Path]:
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
                    if entry.is_dir():
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
            try:
                found += self._add(inner, are_old=False)
            except OSError as error:
                log.warning("a folder cannot be looked at (%s); it is tried again", error.strerror)
        return found

    def _add(self, path: str, *, are_old: bool) -> list[Path]:
        """Begin to look at a folder and those in it; return their files unless they are old."""
        status = os.stat(path)  # noqa: PTH116 # as above
        identity = status.st_dev, status.st_ino
        if self._is_watched(path, identity):
            return []
        gone = self._names_of(path, identity)
        folder = self._folders[path] = KnownFolder(status.st_mtime_ns if are_old else -1, gone, identity)
        self._places[identity] = path
        if not are_old:
            folder.changed_s = self._clock()
            return self._list(path, folder)
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    try:
                        self._add(entry.path, are_old=True)
                    except OSError as error:
                        log.warning("a folder cannot be listed (%s); it is left out", error.strerror)
                else:
                    folder.add_old(entry, look=time.perf_counter() < self._looks_until_s)
        return []

    def _is_watched(self, path: str, identity: tuple[int, int]) -> bool:
        """Return whether a folder is looked at under another name, as where a link leads to one of those above it."""
        other = self._places.get(identity)
        return other is not None and other != path and other in self._folders and _is_at(other, identity)

    def _names_of(self, path: str, identity: tuple[int, int]) -> dict[str, Gone]:
        """Return what is known of a folder from before it went, or had another name."""
        other = self._places.get(identity, path)
        if other in (path, str(self._folder)):
            return self._away.pop(path, {})
        if other in self._folders and self._folders[other].identity == identity:
            self._away[other] = self._folders.pop(other).as_gone()
        # Files that wait to be read are to be found under their new names.
        return {name: gone for name, gone in self._away.pop(other, {}).items() if gone.state is not None}

    # ---------------------------------------------------------------- files that are known

    def _rewritten(self) -> list[Path]:
        """Return known files that were written to, once they have not changed for a while."""
        touched, self._touched = self._touched, set()
        for parent, name in touched:
            if parent in self._folders and self._folders[parent].states.get(name, 0) is None:
                self._folders[parent].states[name] = -1  # that of no file, as it was not looked at before
        found = [Path(parent, name) for parent, name in {*touched, *self._changing} if self._is_anew(parent, name)]
        until_s = time.perf_counter() + _KNOWN_S
        for n_looked, (parent, name) in enumerate(islice(self._turns, _MOST_KNOWN), 1):
            if self._is_anew(parent, name):
                found.append(Path(parent, name))
            if not name or (n_looked >= _FEWEST_KNOWN and time.perf_counter() > until_s):
                break
        return found

    def _in_turns(self) -> Iterator[tuple[str, str]]:
        """List folders and names of all known files again and again, with an empty name after the last."""
        while True:
            for parent in list(self._folders):
                folder = self._folders.get(parent)
                for name in list(folder.states) if folder is not None else ():
                    yield parent, name
            yield "", ""

    def _is_anew(self, parent: str, name: str) -> bool:
        folder, changing = self._folders.get(parent), self._changing.pop((parent, name), None)
        if folder is None or (state := folder.has_changed(name, f"{parent}{os.sep}{name}")) is None:
            return False
        now_s = self._clock()
        since_s = changing[1] if changing is not None and changing[0] == state else now_s
        if now_s - since_s < _REWRITTEN_S:
            self._changing[parent, name] = state, since_s
            return False
        del folder.states[name]
        return True

    def _observed(self) -> BaseObserver | None:
        if len(self._folders) > _MOST_OBSERVED:
            log.warning("%d folders in it: they are looked at in turns, without events", len(self._folders))
            return None
        observer = Observer()
        try:
            observer.schedule(_Waker(self._changed_at), str(self._folder), recursive=True)
            observer.start()
        except OSError as error:
            log.info("no events of the system (%s); the folder is looked at every %g s", error, POLL_S)
            return None
        return observer

    def _changed_at(self, path: str) -> None:
        folder, name = os.path.split(path)
        known = self._folders.get(folder)
        if known is not None:
            known.changed_s = self._clock()
        self._changed.add(folder)
        self._touched.add((folder, name))
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


def _is_at(path: str, identity: tuple[int, int]) -> bool:
    try:
        return identity_of(path) == identity
    except OSError:
        return False


class _Waker(FileSystemEventHandler):
    """Says where something changed."""

    def __init__(self, changed_at: Callable[[str], None]) -> None:
        self._changed_at = changed_at

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in {"opened", "closed_no_write"}:  # our own reading
            return
        for path in (event.src_path, event.dest_path):
            if path:
                self._changed_at(os.fsdecode(path))
