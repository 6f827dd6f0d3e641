"""A folder in which a scanner's files appear: each is taken once it is complete.

Files are read, never written to, moved or deleted, and their names are not told.
"""

from __future__ import annotations

import os
import stat
import time
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
from rtgod.sources.dicom.file import begins_as_dicom, read_growing, read_pixels, shielded
from rtgod.sources.dicom.series import format_of
from rtgod.sources.filling import FILLED_S, STABLE_S, Filling, n_blank_voxels
from rtgod.sources.nifti_file import header_beside, is_nifti_name
from rtgod.text import number_of

#: Bytes of files that are taken until volumes are sent, so that those that appear at once do not fill memory.
_MOST_BYTES = 2**25
#: A file that is shorter may still become an image.
_LEAST_BYTES = 132
#: SOP classes of images: MR, Enhanced MR, Enhanced MR Color, and Legacy Converted Enhanced MR.
_IMAGES = frozenset(f"1.2.840.10008.5.1.4.1.1.4{end}" for end in ("", ".1", ".3", ".4"))
#: SOP class of MR spectroscopy.
_SPECTRA = "1.2.840.10008.5.1.4.1.1.4.2"


@dataclass(slots=True)
class _Pending:
    """A file that may not be written to its end yet: what it was at the last look, and when that changed."""

    state: tuple[int, ...] = (-1,)
    since_s: float = 0.0
    #: Time for which it must not have changed until it is read again, seconds.
    reads_at_s: float = 0.0
    is_named: bool = False


class NewFiles(Protocol):
    """Files that appear: those of `rtgod.receivers.arrivals.Arrivals`, or of a folder that is played again."""

    def poll(self) -> list[Path]:
        """Return the files that have appeared, or were written anew in place, since the last call."""

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
        self._filling = Filling()
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
            self._pending.setdefault(path, _Pending())
        n_bytes = 0
        for path in list(self._pending):
            if self._take(path, self._pending[path]):
                size, *changed_ns = self._pending.pop(path).state[:2]
                if changed_ns:
                    self._arrivals.done(path, size, *changed_ns)
                n_bytes += max(size, 0)
                if n_bytes >= _MOST_BYTES:
                    n_bytes = 0
                    self._step_runs()
        self._step_runs()

    def _step_runs(self) -> None:
        # One run is sent at a time, whichever kind of files begins.
        if self._nifti is None or not self._nifti.is_live:
            self._runs.step()
        if self._nifti is not None and not self._runs.is_live:
            self._nifti.step()

    def _take(self, path: Path, pending: _Pending) -> bool:
        """Read a file if it is complete; return whether nothing more is expected of it."""
        try:
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                self._arrivals.forget(path)  # what a link led to that was not there before
            if not stat.S_ISREG(status.st_mode):
                return True
            unchanged_s = self._unchanged_s(pending, _state_of(path, status))
            if unchanged_s < pending.reads_at_s:
                return False
            if self._nifti is not None and is_nifti_name(path):
                done = self._take_nifti(path, pending, self._nifti, unchanged_s)
            else:
                done = self._take_dicom(path, pending, unchanged_s)
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
        later_s = (wait_s for wait_s in (STABLE_S, FILLED_S) if wait_s > unchanged_s)
        pending.reads_at_s = next(later_s, float("inf"))
        return done

    def _unchanged_s(self, pending: _Pending, state: tuple[int, ...]) -> float:
        """Return for how long a file has not changed, seconds."""
        if state != pending.state:
            pending.state, pending.since_s, pending.reads_at_s = state, self._clock(), 0.0
        return self._clock() - pending.since_s

    def _take_dicom(self, path: Path, pending: _Pending, unchanged_s: float) -> bool:
        header, start, n_missing = read_growing(path, self._tags)
        is_stable = unchanged_s >= STABLE_S
        if header is not None:
            if _has_no_image(header) and ("SeriesNumber" in header or is_stable):
                return self._take_no_image(header, path)
            read = cache(partial(read_pixels, path, header, start))
            # Compressed voxels without a mark at their end are whole if they can be decoded.
            is_unmeasured = n_missing is None and header.file_meta.TransferSyntaxUID.is_compressed
            is_there = n_missing == 0 or (is_unmeasured and is_stable and _is_decodable(read))
            if is_there and self._is_filled(path, header, read, unchanged_s):
                if self._nifti is not None and self._nifti.is_live:
                    return self._left_out("DICOM images come beside NIfTI files, which are sent")
                self._runs.take(header, read, path)
                return True
        size = pending.state[0]
        if not is_stable or size < _LEAST_BYTES or n_missing == 0:
            return False
        if header is None and not _begins_as_dicom(path):
            self._note_no_image()
            return True
        if not pending.is_named:
            pending.is_named = True
            number = (integer_or_0(header) if header is not None else 0) or "unknown"
            lacks = f"{n_missing} bytes" if n_missing else "the rest"
            self._tell(f"a file of series {number} lacks {lacks} of its voxels; it is waited for")
        return False

    def _take_no_image(self, header: FileDataset, path: Path) -> bool:
        """Leave out an object that never has voxels, as raw data, a report, or spectra."""
        if str(header.SOPClassUID).startswith(_SPECTRA):
            return self._left_out(f"series {integer_or_0(header)}: spectra")
        self._runs.take(header, partial(read_pixels, path, header, 0), path)  # which names it
        return True

    def _is_filled(self, path: Path, header: FileDataset, read: Callable[[], Array], unchanged_s: float) -> bool:
        """Return whether voxels are written to their end, and not zeros that hold their place."""
        try:
            voxels = read()
        except InputError:
            return True  # which is told where they are taken
        n_blank, kind = n_blank_voxels(voxels), str(header.get("SeriesInstanceUID", ""))
        wait_s = self._filling.wait_s(kind, n_blank, voxels.nbytes)
        if wait_s and n_blank < voxels.nbytes:
            wait_s = min(wait_s, self._filling.wait_s(None, *_end_of_slices(path, header, voxels)))
        if unchanged_s < wait_s:
            return False
        self._filling.note(kind, n_blank, voxels.nbytes)
        if wait_s >= FILLED_S:
            self._tell_once(
                f"a file ends with more zeros than those before it; it has not changed for {FILLED_S:g} s, and is taken"
            )
        return True

    def _take_nifti(self, path: Path, pending: _Pending, nifti: LiveNifti, unchanged_s: float) -> bool:
        if self._runs.is_live:
            return self._left_out("NIfTI files come beside DICOM images, which are sent")
        lacks = nifti.take(path, unchanged_s=unchanged_s)
        if lacks and unchanged_s >= STABLE_S and not pending.is_named:
            pending.is_named = True
            self._tell(f"a NIfTI file lacks {lacks}; it is waited for")
        return not lacks

    def _left_out(self, why: str) -> bool:
        self._tell_once(f"{why}: left out")
        return True

    def _tell_once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._tell(line)

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


def _has_no_image(header: FileDataset) -> bool:
    return str(header.get("SOPClassUID", "")) not in ("", *_IMAGES)


def _end_of_slices(path: Path, header: FileDataset, voxels: Array) -> tuple[int, int]:
    """Return how many bytes of the last slice are 0 at its end, and all of them: tiles after it are always blank."""
    fitting = format_of(header)
    if fitting is None or len(voxels) != 1:
        return n_blank_voxels(voxels), voxels.nbytes
    try:
        with shielded(path):
            (piece,) = fitting.pieces(path, header)
            last = fitting.slices(voxels, piece)[..., -1].T
    except (InputError, ValueError):
        return n_blank_voxels(voxels), voxels.nbytes
    return n_blank_voxels(last), last.nbytes
