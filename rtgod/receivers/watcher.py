"""The bridge from a folder in which a scanner's files appear to a server: one run after the other, volume by volume.

Files are read, never written to, moved or deleted. Neither their names nor any field that identifies a person is told.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import FileDataset
from pydicom.tag import Tag

from rtgod.errors import InputError, RefusedError, ServerError
from rtgod.events.table import Trial, blocks_of
from rtgod.messages import Run, RunEnd, Volume
from rtgod.protocol.clients import Sender
from rtgod.receivers.arrivals import POLL_S, Arrivals
from rtgod.receivers.live_series import LiveSeries, LiveVolume
from rtgod.receivers.selection import TAGS, why_left_out
from rtgod.sources import acquisition_id
from rtgod.sources.dicom_file import check_readable, integer_of, read_growing, read_pixels, shielded
from rtgod.sources.dicom_pieces import Piece
from rtgod.sources.dicom_series import alike, format_of, run_name, tags_read
from rtgod.text import number_of

log = logging.getLogger(__name__)

#: Time for which a file without a promised length must not grow until it is taken for whole, seconds.
_STABLE_S = 0.5
#: A volume is missed after this time, in repetition times.
_SILENCE_TR = 2.0
#: Series whose volumes are single files of series of their own follow each other within this time, in repetition times.
_JOINED_TR = 3.5
#: Element that tells how many volumes a series will have: NumberOfTemporalPositions.
_N_VOLUMES = Tag(0x00200105)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """What is known of runs beside their files.

    Attributes
    ----------
    subject : str
        Label of the subject; the files' own name and number of the patient are never read.
    trials : tuple of Trial
        Trials of every run; onsets count from volume 0.
    corrected : bool
        Whether images that the scanner corrected for motion are taken in place of those as acquired.
    echo : int
        Echo that is taken, from 1, of series that have several; 0 takes the only one.
    patience_tr : float
        Time that a missing volume is waited for once a later one is complete, in repetition times.
    tr_s : float or None
        Repetition time, seconds, if the files give none.
    n_volumes : int or None
        Planned number of volumes of every run, after which it ends; None takes that of the files, if they give one.
        Drift is modelled over the planned length.
    """

    subject: str = "unknown"
    trials: tuple[Trial, ...] = ()
    corrected: bool = False
    echo: int = 0
    patience_tr: float = 2.0
    tr_s: float | None = None
    n_volumes: int | None = None


@dataclass(slots=True, eq=False)
class _LiveRun:
    """The run under way."""

    uid: str
    number: int
    alike: tuple[str, ...]
    series: LiveSeries
    coil: str
    n_planned: int | None
    n_files: int = 0
    clock_s: float | None = None
    run: Run | None = None
    heard_s: float = 0.0
    is_silent: bool = False
    uids: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Pending:
    """A file that may not be written to its end yet."""

    size: int = -1
    since_s: float = 0.0
    is_named: bool = False


class Watcher:
    """Reader of a scanner's folder that sends its functional runs to a server.

    Parameters
    ----------
    arrivals : Arrivals
    sender : Sender
    options : WatchOptions
    tell : callable
        Shows the operator a line.
    clock : callable, optional
        Clock of monotonic seconds.
    """

    def __init__(
        self,
        arrivals: Arrivals,
        sender: Sender,
        options: WatchOptions,
        tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._arrivals, self._sender, self._options = arrivals, sender, options
        self._tell, self._clock = tell, clock
        self._tags = (*tags_read(), *TAGS, _N_VOLUMES)
        self._pending: dict[Path, _Pending] = {}
        self._left_out: set[tuple[str, str]] = set()
        self._no_images: Counter[str] = Counter()
        self._live: _LiveRun | None = None
        self._ended: set[str] = set()
        self._outbox: deque[Run | Volume | RunEnd] = deque()
        self._refused: set[str] = set()
        #: Number of volumes that the server has on disk.
        self.n_sent = 0

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
        self._end_run()
        self._send()

    def step(self) -> None:
        """Take in the files that are complete by now, and send the volumes that they complete."""
        for path in self._arrivals.poll():
            self._pending[path] = _Pending()
        for path in list(self._pending):
            if self._take(path, self._pending[path]):
                del self._pending[path]
        if (live := self._live) is not None:
            self._queue(live, live.series.ready(self._clock()))
            self._mind_silence(live)
            if live.run is not None and live.n_planned and live.series.n_volumes >= live.n_planned:
                self._end_run()
        self._send()

    # ---------------------------------------------------------------- files

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
            self._read(path, header, start)
            return True
        if not is_stable:
            return False
        if header is None or n_missing is None:
            if header is not None and header.file_meta.TransferSyntaxUID.is_compressed:
                self._read(path, header, start)
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

    def _read(self, path: Path, header: FileDataset, start: int) -> None:
        uid, number = str(header.get("SeriesInstanceUID", "")), int(header.get("SeriesNumber") or 0)
        fitting = format_of(header)
        why = why_left_out(header, corrected=self._options.corrected)
        if fitting is None or why:
            why = why or "a format that is not read"
            if (uid, why) not in self._left_out:
                self._left_out.add((uid, why))
                self._tell(f"series {number}: {why}: left out")
            return
        try:
            with shielded(path):
                check_readable(path, header, 2**62)
                pieces = fitting.pieces(path, header)
            pixels = read_pixels(path, header, start) if pieces else None
            for piece in pieces:
                if pixels is not None and self._is_wanted(piece, pieces):
                    live = self._run_of(uid, number, header, piece)
                    if live is not None:
                        live.series.add(piece, fitting.slices(pixels, piece), self._clock())
        except InputError as error:
            # The path may hold a name, and is not told.
            what = str(error).removeprefix(f"{path}: ").replace(str(path), "a file").replace(path.name, "a file")
            kind = re.sub(r"\d+", "0", what)
            if (uid, kind) not in self._left_out:
                self._left_out.add((uid, kind))
                self._tell(f"series {number}: a file is left out, as are others like it: {what}")

    def _is_wanted(self, piece: Piece, pieces: object) -> bool:
        """Return whether a piece is of the echo that is taken; of several, one must be chosen."""
        echo = self._options.echo
        if not echo:
            return True
        echoes = sorted({other.grid.echo_ms for other in pieces}) if isinstance(pieces, tuple) else []
        return len(echoes) < echo or piece.grid.echo_ms == echoes[echo - 1]

    # ---------------------------------------------------------------- runs

    def _run_of(self, uid: str, number: int, header: FileDataset, piece: Piece) -> _LiveRun | None:
        """Return the run that a piece belongs to: the one under way, or a new one, which ends it."""
        live = self._live
        if live is not None and (uid in live.uids or self._continues(live, uid, header, piece)):
            live.uids.add(uid)
            live.n_files += 1
            live.clock_s = piece.clock_s if piece.clock_s is not None else live.clock_s
            return live
        if uid in self._ended:
            if (uid, "over") not in self._left_out:
                self._left_out.add((uid, "over"))
                self._tell(f"series {number}: files came after its run had ended: left out")
            return None
        self._end_run()
        series = LiveSeries(piece, self._options.patience_tr)
        if self._options.tr_s is not None:
            series.tr_s = self._options.tr_s
        n_planned = self._options.n_volumes or integer_of(header.get("NumberOfTemporalPositions")) or None
        self._live = _LiveRun(
            uid, number, alike(header), series, piece.grid.coil, n_planned, 1, piece.clock_s, uids={uid}
        )
        self._live.heard_s = self._clock()
        return self._live

    def _continues(self, live: _LiveRun, uid: str, header: FileDataset, piece: Piece) -> bool:
        """Return whether a file of another series is of the run, as in exports that give each volume a series."""
        if uid in self._ended or alike(header) != live.alike or live.n_files != len(live.uids) or not piece.is_whole:
            return False
        if live.clock_s is None or piece.clock_s is None:
            return False
        apart_s = (piece.clock_s - live.clock_s + 43200.0) % 86400.0 - 43200.0
        return abs(apart_s) <= _JOINED_TR * live.series.tr_s

    def _queue(self, live: _LiveRun, volumes: list[LiveVolume]) -> None:
        """Queue volumes to be sent, after the run if they are its first."""
        for note in live.series.notes:
            self._tell(f"series {live.number}: {note}")
        live.series.notes.clear()
        for volume in volumes:
            if live.run is None:
                live.run = self._announced(live)
                self._outbox.append(live.run)
            self._outbox.append(Volume(live.run.run_id, volume.index, volume.acquired_s, volume.data))
            live.heard_s = self._clock()
            if live.is_silent:
                live.is_silent = False
                self._tell(f"series {live.number}: volumes come again")

    def _announced(self, live: _LiveRun) -> Run:
        run_id = run_name(live.number, live.uid)
        try:
            run = Run(
                run_id,
                self._options.subject,
                live.series.tr_s,
                live.series.shape,
                live.series.affine,
                live.n_planned,
                blocks_of(self._options.trials, live.series.tr_s),
                acquisition_id(run_id, live.uid),
                live.coil[:64],
            )
        except ValueError as error:
            raise InputError(f"series {live.number}: {error}; give the repetition time with --tr") from error
        grid = " × ".join(map(str, run.shape))
        self._tell(f"{run_id}: begins, {grid} voxels, TR {run.tr_s:g} s, {number_of(len(run.blocks), 'trial')}")
        return run

    def _mind_silence(self, live: _LiveRun) -> None:
        silent_s = self._clock() - live.heard_s
        if live.is_silent or live.run is None or silent_s < _SILENCE_TR * live.series.tr_s:
            return
        live.is_silent = True
        self._tell(
            f"series {live.number}: no volume for {_SILENCE_TR:g} TR, since volume {live.series.n_volumes}: did the "
            "scan stop, or does the export hang?"
        )

    def _end_run(self) -> None:
        live, self._live = self._live, None
        if live is None:
            return
        self._queue(live, live.series.finish())
        self._ended |= live.uids
        if live.run is not None:
            self._outbox.append(RunEnd(live.run.run_id, live.series.n_volumes))

    # ---------------------------------------------------------------- the server

    def _send(self) -> None:
        """Send what is queued; what cannot be sent now stays, and is tried again."""
        while self._outbox:
            message = self._outbox[0]
            if message.run_id in self._refused:
                self._outbox.popleft()
                continue
            try:
                self._sender.send(message)
            except RefusedError as error:
                self._tell(f"{message.run_id}: the server refuses it: {error}")
                if isinstance(message, Run):
                    self._refused.add(message.run_id)
            except ServerError as error:
                self._tell(f"{number_of(len(self._outbox), 'message')} wait for the server: {error}")
                return
            else:
                self.n_sent += isinstance(message, Volume)
                if isinstance(message, RunEnd):
                    self._tell(f"{message.run_id}: ended after {number_of(message.n_volumes, 'volume')}")
            self._outbox.popleft()
