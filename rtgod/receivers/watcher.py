"""A folder in which a scanner's files appear: each is taken once it is complete.

Files are read, never written to, moved or deleted, and their names are not told.
"""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Protocol

from pydicom.dataset import FileDataset

from rtgod.errors import InputError
from rtgod.messages import Array
from rtgod.receivers.arrivals import POLL_S
from rtgod.receivers.live_nifti import LiveNifti
from rtgod.receivers.live_runs import LiveRuns, tags_taken
from rtgod.sources.dicom.fields import integer_of
from rtgod.sources.dicom.file import begins_as_dicom, read_growing, read_pixels
from rtgod.sources.nifti_file import header_beside, is_nifti_name
from rtgod.text import number_of

#: Time for which a file without a promised length must not grow until it is taken for whole, seconds.
_STABLE_S = 0.5
#: Bytes of files that are taken until volumes are sent, so that those that appear at once do not fill memory.
_MOST_BYTES = 2**25
#: A file that is shorter may still become an image.
_LEAST_BYTES = 132


@dataclass(slots=True)
class _Pending:
    """A file that may not be written to its end yet: what it was at the last look, and when that changed."""

    state: tuple[int, ...] = (-1,)
    since_s: float = 0.0
    is_read: bool = False
    is_named: bool = False


class NewFiles(Protocol):
    """Files that appear: those of `rtgod.receivers.arrivals.Arrivals`, or of a folder that is played again."""

    def poll(self) -> list[Path]:
        """Return the files that have appeared since the last call."""

    def wait(self, timeout_s: float) -> None:
        """Wait until something changes.

        Parameters
        ----------
        timeout_s : float
            Longest wait, seconds.
        """

    def forget(self, path: Path) -> None:
        """Take a file for new if it appears again, as it went before it could be read.

        Parameters
        ----------
        path : Path
        """


class Watcher:
    """Reader of a scanner's folder.

    Parameters
    ----------
    arrivals : NewFiles
    runs : LiveRuns
        Takes the DICOM images.
    tell : callable
        Shows the operator a line.
    clock : callable, optional
        Clock of monotonic seconds.
    nifti : LiveNifti, optional
        Takes the NIfTI files; without it they are left out.
    tags : sequence of int
        Elements that are read besides those that `runs` needs, as 0xGGGGEEEE.
    """

    def __init__(
        self,
        arrivals: NewFiles,
        runs: LiveRuns,
        tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
        nifti: LiveNifti | None = None,
        tags: Sequence[int] = (),
    ) -> None:
        self._arrivals, self._runs, self._tell, self._clock, self._nifti = arrivals, runs, tell, clock, nifti
        self._tags = (*tags_taken(), *tags)
        self._pending: dict[Path, _Pending] = {}
        self._taken: deque[tuple[float, Path, tuple[int, ...]]] = deque()
        self._n_no_images = 0
        self._told: set[str] = set()

    def run(self, stopped: Callable[[], bool]) -> None:
        """Watch until somebody stops it; what is complete by then is sent, with the end of the run.

        Parameters
        ----------
        stopped : callable
            Returns whether somebody has stopped it.
        """
        while not stopped():
            self.step()
            self._arrivals.wait(POLL_S)
        self.step()
        if self._pending:
            self._tell(f"{number_of(len(self._pending), 'file')} not written to the end by now: left out")
        self._runs.end()
        if self._nifti is not None:
            self._nifti.end()

    def step(self) -> None:
        """Take in the files that are complete by now, and send the volumes that they complete."""
        for path in self._arrivals.poll():
            self._pending[path] = _Pending()
        n_bytes = 0
        for path in list(self._pending):
            if self._take(path, self._pending[path]):
                n_bytes += max(self._pending.pop(path).state[0], 0)
                if n_bytes >= _MOST_BYTES:
                    n_bytes = 0
                    self._step_runs()
        self._look_again()
        self._step_runs()

    def _step_runs(self) -> None:
        # One run is sent at a time, whichever kind of files begins.
        if self._nifti is None or not self._nifti.is_live:
            self._runs.step()
        if self._nifti is not None and not self._runs.is_live:
            self._nifti.step()

    def _look_again(self) -> None:
        """Read files again that were written to after they were taken; other voxels are named as those of copies."""
        while self._taken and self._taken[0][0] <= self._clock():
            _, path, state = self._taken.popleft()
            try:
                state_now = _state_of(path, path.stat())
            except OSError:
                continue  # what was taken stays taken
            if state_now != state:
                self._pending.setdefault(path, _Pending())

    def _take(self, path: Path, pending: _Pending) -> bool:
        """Read a file if it is complete; return whether nothing more is expected of it."""
        now_s = self._clock()
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                return True
            state = _state_of(path, status)
            if state != pending.state:
                pending.state, pending.since_s, pending.is_read = state, now_s, False
            is_stable = now_s - pending.since_s >= _STABLE_S
            if pending.is_read and (pending.is_named or not is_stable):
                return False
            if self._nifti is not None and is_nifti_name(path):
                pending.is_read = True
                return self._take_nifti(path, pending, self._nifti, is_stable=is_stable)
            header, start, n_missing = read_growing(path, self._tags)
        except FileNotFoundError:
            if path.is_symlink():
                return False
            self._arrivals.forget(path)  # removed, renamed, or its share is away
            return True
        except OSError as error:
            if not pending.is_named:
                pending.is_named = True
                self._tell(f"a file cannot be read ({error.strerror}); it is tried again")
            return False
        pending.is_read = True
        if header is not None:
            read = cache(partial(read_pixels, path, header, start))
            is_whole = n_missing == 0 and (is_stable or not _is_blank(read))
            is_unmeasured = n_missing is None and header.file_meta.TransferSyntaxUID.is_compressed
            if is_whole or (is_unmeasured and is_stable and _is_decodable(read)):
                if self._nifti is not None and self._nifti.is_live:
                    return self._left_out("DICOM images come beside NIfTI files, which are sent")
                self._runs.take(header, read, path)
                self._taken.append((now_s + _STABLE_S, path, state))
                return True
        if not is_stable:
            return False
        if state[0] >= _LEAST_BYTES and header is None and not _begins_as_dicom(path):
            self._note_no_image()
            return True
        if not pending.is_named and state[0] >= _LEAST_BYTES:
            pending.is_named = True
            number = (integer_or_0(header) if header is not None else 0) or "unknown"
            lacks = f"{n_missing} bytes" if n_missing else "the rest"
            self._tell(f"a file of series {number} lacks {lacks} of its voxels; it is waited for")
        return False

    def _take_nifti(self, path: Path, pending: _Pending, nifti: LiveNifti, *, is_stable: bool) -> bool:
        if self._runs.is_live:
            return self._left_out("NIfTI files come beside DICOM images, which are sent")
        lacks = nifti.take(path, is_stable=is_stable)
        if not lacks:
            self._taken.append((self._clock() + _STABLE_S, path, pending.state))
            return True
        if is_stable and not pending.is_named:
            pending.is_named = True
            self._tell(f"a NIfTI file lacks {lacks}; it is waited for")
        return False

    def _left_out(self, why: str) -> bool:
        if why not in self._told:
            self._told.add(why)
            self._tell(f"{why}: left out")
        return True

    def _note_no_image(self) -> None:
        if not self._n_no_images:
            self._tell("files that are no DICOM images are left out")
        self._n_no_images += 1


def _state_of(path: Path, status: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is written to, or the file that has its header."""
    state, header = (status.st_size, status.st_mtime_ns), header_beside(path)
    if header == path:
        return state
    try:
        beside = header.stat()
    except OSError:
        return state
    return *state, beside.st_size, beside.st_mtime_ns


def integer_or_0(header: FileDataset) -> int:
    """Return a file's SeriesNumber; 0 if it has none.

    Parameters
    ----------
    header : FileDataset
    """
    try:
        return integer_of(header.get("SeriesNumber")) or 0
    except ValueError:
        return 0


def _begins_as_dicom(path: Path) -> bool:
    try:
        return begins_as_dicom(path)
    except OSError:
        return True


def _is_decodable(read: Callable[[], Array]) -> bool:
    try:
        read()
    except InputError:
        return False
    return True


def _is_blank(read: Callable[[], Array]) -> bool:
    """Return whether all voxels are 0, as in a file whose length was set before it is written."""
    try:
        return not read().any()
    except InputError:
        return False
