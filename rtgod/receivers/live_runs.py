"""Functional runs while they are acquired: images of any source become runs and volumes for a server.

Neither names of files nor any field that identifies a person is told.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import FileDataset
from pydicom.tag import Tag

from rtgod.errors import InputError, RefusedError, ServerError
from rtgod.events.table import Trial, blocks_of
from rtgod.messages import Array, Run, RunEnd, Volume
from rtgod.protocol.clients import Sender
from rtgod.receivers.live_series import LiveSeries, LiveVolume
from rtgod.receivers.selection import TAGS, why_left_out
from rtgod.sources import acquisition_id
from rtgod.sources.dicom_file import check_readable, integer_of, shielded
from rtgod.sources.dicom_pieces import Piece
from rtgod.sources.dicom_series import alike, format_of, run_name, tags_read
from rtgod.text import number_of

#: A volume is missed after this time, in repetition times.
_SILENCE_TR = 2.0
#: Series whose volumes are single files of series of their own follow each other within this time, in repetition times.
_JOINED_TR = 3.5
#: Element that tells how many volumes a series will have: NumberOfTemporalPositions.
_N_VOLUMES = Tag(0x00200105)


def tags_taken() -> tuple[int, ...]:
    """Return the elements that `LiveRuns.take` reads, as 0xGGGGEEEE."""
    return (*tags_read(), *TAGS, _N_VOLUMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
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


class LiveRuns:
    """Sender of functional runs, out of images in the order in which they come.

    Parameters
    ----------
    sender : Sender
    options : RunOptions
    tell : callable
        Shows the operator a line.
    clock : callable, optional
        Clock of monotonic seconds.

    Attributes
    ----------
    n_sent : int
        Number of volumes that the server has on disk.
    """

    def __init__(
        self,
        sender: Sender,
        options: RunOptions,
        tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sender, self._options, self._tell, self._clock = sender, options, tell, clock
        self._left_out: set[tuple[str, str]] = set()
        self._live: _LiveRun | None = None
        self._ended: set[str] = set()
        self._outbox: deque[Run | Volume | RunEnd] = deque()
        self._refused: set[str] = set()
        self.n_sent = 0

    def take(self, header: FileDataset, read: Callable[[], Array], origin: Path = Path()) -> None:
        """Take in an image.

        Parameters
        ----------
        header : FileDataset
            With the elements of `tags_taken`.
        read : callable
            Returns the stored numbers of all of its frames, shape (n_frames, n_rows, n_columns).
        origin : Path
            Its file, which is not told.
        """
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
            with shielded(origin):
                check_readable(origin, header, 2**62)
                pieces = fitting.pieces(origin, header)
            pixels = read() if pieces else None
            for piece in pieces:
                if pixels is not None and self._is_wanted(piece, pieces):
                    live = self._run_of(uid, number, header, piece)
                    if live is not None:
                        live.series.add(piece, fitting.slices(pixels, piece), self._clock())
        except InputError as error:
            # The path may hold a name, and is not told.
            what = (
                str(error)
                .removeprefix(f"{origin}: ")
                .replace(str(origin), "a file")
                .replace(origin.name or "\0", "a file")
            )
            kind = re.sub(r"\d+", "0", what)
            if (uid, kind) not in self._left_out:
                self._left_out.add((uid, kind))
                self._tell(f"series {number}: a file is left out, as are others like it: {what}")

    def step(self) -> None:
        """Send the volumes that are complete by now, and mind a run that has fallen silent."""
        if (live := self._live) is not None:
            self._queue(live, live.series.ready(self._clock()))
            self._mind_silence(live)
            if live.run is not None and live.n_planned and live.series.n_volumes >= live.n_planned:
                self._end_run()
        self._send()

    def end(self) -> None:
        """End the run under way, and send what is complete."""
        self._end_run()
        self._send()

    def _is_wanted(self, piece: Piece, pieces: Sequence[Piece]) -> bool:
        """Return whether a piece is of the echo that is taken; of several, one must be chosen."""
        echo = self._options.echo
        if not echo:
            return True
        echoes = sorted({other.grid.echo_ms for other in pieces})
        return len(echoes) < echo or piece.grid.echo_ms == echoes[echo - 1]

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
