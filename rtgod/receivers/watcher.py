"""A folder in which a scanner's files appear: each is taken once it is complete.

Files are read, never written to, moved or deleted, and their names are not told.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rtgod.receivers.arrivals import POLL_S, Arrivals
from rtgod.receivers.live_runs import LiveRuns, tags_taken
from rtgod.sources.dicom_file import read_growing, read_pixels

log = logging.getLogger(__name__)

#: Time for which a file without a promised length must not grow until it is taken for whole, seconds.
_STABLE_S = 0.5


@dataclass(slots=True)
class _Pending:
    """A file that may not be written to its end yet."""

    size: int = -1
    since_s: float = 0.0
    is_named: bool = False


class Watcher:
    """Reader of a scanner's folder.

    Parameters
    ----------
    arrivals : Arrivals
    runs : LiveRuns
        Takes the images.
    tell : callable
        Shows the operator a line.
    clock : callable, optional
        Clock of monotonic seconds.
    """

    def __init__(
        self,
        arrivals: Arrivals,
        runs: LiveRuns,
        tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._arrivals, self._runs, self._tell, self._clock = arrivals, runs, tell, clock
        self._tags = tags_taken()
        self._pending: dict[Path, _Pending] = {}
        self._no_images: Counter[str] = Counter()

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
        self._runs.end()

    def step(self) -> None:
        """Take in the files that are complete by now, and send the volumes that they complete."""
        for path in self._arrivals.poll():
            self._pending[path] = _Pending()
        for path in list(self._pending):
            if self._take(path, self._pending[path]):
                del self._pending[path]
        self._runs.step()

    def _take(self, path: Path, pending: _Pending) -> bool:
        """Read a file if it is complete; return whether nothing more is expected of it."""
        now_s = self._clock()
        try:
            size = path.stat().st_size
        except OSError:
            return True  # removed, or renamed
        if size != pending.size:
            pending.size, pending.since_s = size, now_s
        elif now_s - pending.since_s < _STABLE_S:
            return False
        try:
            header, start, n_missing = read_growing(path, self._tags)
        except OSError as error:
            log.info("a file cannot be read yet (%s)", error.strerror)
            return False
        is_stable = now_s - pending.since_s >= _STABLE_S
        if n_missing == 0 and header is not None:
            self._runs.take(header, partial(read_pixels, path, header, start), path)
            return True
        if not is_stable:
            return False
        if header is None or n_missing is None:
            if header is not None and header.file_meta.TransferSyntaxUID.is_compressed:
                self._runs.take(header, partial(read_pixels, path, header, start), path)
            else:
                self._note_no_image(path)
            return True
        if not pending.is_named:
            pending.is_named = True
            number = int(header.get("SeriesNumber") or 0)
            self._tell(f"a file of series {number} lacks {n_missing} bytes of its voxels; it is waited for")
        return False

    def _note_no_image(self, path: Path) -> None:
        ending = path.suffix.lower()[:8]
        if not self._no_images[ending]:
            self._tell(f"files that are no images are left out, the first a {ending or 'file without an ending'}")
        self._no_images[ending] += 1
