"""A finished export, played to the code that watches a running scan: what it would have sent, and what it would tell.

Files come when they came, by a clock that stands still between them; what would be sent is counted and dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom.dataset import FileDataset

from rtgod.inspection.listing import Listing
from rtgod.inspection.scan_facts import TAGS, ScanFacts, facts_of
from rtgod.inspection.slice_timing import slice_clock_s, times_in_file
from rtgod.messages import Run, RunEnd, Volume
from rtgod.receivers.arrivals import POLL_S
from rtgod.receivers.live_run import LiveRun
from rtgod.receivers.live_runs import LiveRuns
from rtgod.receivers.run_options import RunOptions
from rtgod.receivers.watcher import Watcher
from rtgod.sources.dicom.pieces import Piece
from rtgod.sources.dicom.series import alike
from rtgod.sources.filling import FILLED_S

#: Time between two looks while no file comes, and how long they go on, seconds.
_LOOK_S, _LOOKS_FOR_S = 0.5, 30.0
#: Time after the last file at which it counts as written to its end, seconds.
_SETTLED_S = FILLED_S + 0.1

SeriesKey = tuple[int, str]


@dataclass(frozen=True, slots=True)
class SeenPiece:
    """A volume, or a slice of one, as it came.

    Attributes
    ----------
    piece : Piece
        Of a whole volume, with its first plane alone.
    came_s : float
        When its file came, seconds by the scanner's clock.
    slice_s : float or None
        When a single slice was acquired; see `rtgod.inspection.slice_timing.slice_clock_s`.
    """

    piece: Piece
    came_s: float
    slice_s: float | None


@dataclass(slots=True, eq=False)
class SeenSeries:
    """Files of one series.

    Attributes
    ----------
    number : int
        SeriesNumber.
    n_files : int
    left_out : Counter
        Number of files left out, by reason.
    facts : ScanFacts
        Of its first file.
    is_alike : tuple of str
        What series of one protocol share; not to be shown.
    n_slices : int
        Slices of a volume in the first file that has a whole one; 0 without one.
    n_promised : int or None
        Planned number of volumes, where the files state it.
    tr_s : float
        Repetition time; 0 without one.
    echoes_ms : set of float
        Echo times.
    slice_times_s : tuple of float
        Times of slices of the first whole volume, where its file states them.
    """

    number: int
    facts: ScanFacts
    is_alike: tuple[str, ...]
    n_files: int = 0
    n_slices: int = 0
    n_promised: int | None = None
    tr_s: float = 0.0
    left_out: Counter[str] = field(default_factory=Counter)
    echoes_ms: set[float] = field(default_factory=set)
    slice_times_s: tuple[float, ...] = ()


@dataclass(slots=True, eq=False)
class Playback:
    """What was seen and told.

    Attributes
    ----------
    series : dict of (int, str) to SeenSeries
        By SeriesNumber and SeriesInstanceUID, in the order in which they came.
    runs : list of Run
        Runs that would be sent.
    keys : dict of str to list of (int, str)
        Series of each run, by its run_id, that after which it is called first; several have one volume each.
    pieces : dict of str to list of SeenPiece
        What came of each run, by its run_id.
    n_sent : Counter
        Number of volumes that would be sent, by their run.
    told : list of (float, str)
        Lines for the operator, with their times.
    n_files : int
    n_discarded : int
        Volumes at the start of each run that are not sent.
    """

    series: dict[SeriesKey, SeenSeries] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    keys: dict[str, list[SeriesKey]] = field(default_factory=dict)
    pieces: dict[str, list[SeenPiece]] = field(default_factory=dict)
    n_sent: Counter[str] = field(default_factory=Counter)
    told: list[tuple[float, str]] = field(default_factory=list)
    n_files: int = 0
    n_discarded: int = 0


def played(listing: Listing, options: RunOptions, progress: Callable[[int], object] = lambda _: None) -> Playback:
    """Play files in the order and at the times at which they came.

    Parameters
    ----------
    listing : Listing
    options : RunOptions
        As for `rtgod watch`.
    progress : callable
        Called with the number of files read so far.
    """
    return _Player(listing, options, progress).play()


class _Player:
    """Folder, clock, server and terminal of a watcher, in one."""

    def __init__(self, listing: Listing, options: RunOptions, progress: Callable[[int], object]) -> None:
        self._files, self._place, self._progress = listing.files, 0, progress
        self._now_s = self._files[0][1]
        self._seen = Playback(n_files=len(self._files), n_discarded=options.rules.discard_volumes)
        self._runs = LiveRuns(self, options, self._tell, self._clock, witness=self._witness)
        self._watcher = Watcher(self, self._runs, self._tell, self._clock, tags=TAGS)
        #: Pieces of the last file, which no run has yet; and of each run.
        self._new: list[tuple[SeriesKey, SeenPiece]] = []
        self._of_run: dict[LiveRun, list[tuple[SeriesKey, SeenPiece]]] = {}

    def play(self) -> Playback:
        while self._place < len(self._files):
            self._pass_to(self._files[self._place][1] + POLL_S)
            self._watcher.step()
            self._progress(self._place)
        self._pass_to(self._now_s + _SETTLED_S)
        self._watcher.step()
        self._assign()
        self._watcher.run(lambda: True)
        self._sort_out()
        return self._seen

    def _assign(self) -> None:
        """Note to which run the pieces of the last file went: a series that is restarted is two runs."""
        for key, seen in self._new:
            if (live := self._runs.run_of(key)) is not None:
                self._of_run.setdefault(live, []).append((key, seen))
        self._new.clear()

    def _sort_out(self) -> None:
        """Note the series and the pieces of each run that would be sent."""
        for live, pieces in self._of_run.items():
            if live.run is not None:
                own = [(key, seen) for key, seen in pieces if key in live.keys]
                name = live.run.run_id
                self._seen.keys[name] = list(dict.fromkeys([(live.number, live.uid), *(key for key, _ in own)]))
                self._seen.pieces[name] = [seen for _, seen in own]

    def _pass_to(self, time_s: float) -> None:
        """Let time pass, with a look now and then."""
        end_s = min(time_s, self._now_s + _LOOKS_FOR_S)
        while self._now_s + _LOOK_S < end_s:
            self._now_s += _LOOK_S
            self._watcher.step()
        self._now_s = max(self._now_s, time_s)

    def _clock(self) -> float:
        return self._now_s

    def _tell(self, line: str) -> None:
        self._seen.told.append((self._now_s, line))

    # ---------------------------------------------------------------- as a folder, see `NewFiles`

    def poll(self) -> list[Path]:
        found: list[Path] = []
        while self._place < len(self._files) and self._files[self._place][1] <= self._now_s:
            found.append(self._files[self._place][0])
            self._place += 1
        return found

    def wait(self, timeout_s: float) -> None:
        self._now_s += timeout_s

    def done(self, path: Path, size: int, changed_ns: int) -> None:
        del path, size, changed_ns  # a finished folder does not change

    def forget(self, path: Path) -> None:
        del path  # nothing comes again

    # ---------------------------------------------------------------- as a server, see `Destination`

    def send(self, message: Run | Volume | RunEnd) -> None:
        if isinstance(message, Run):
            self._seen.runs.append(message)
        elif isinstance(message, Volume):
            self._seen.n_sent[message.run_id] += 1

    # ---------------------------------------------------------------- as a witness, see `LiveRuns`

    def _witness(self, key: SeriesKey, header: FileDataset, why: str, pieces: Sequence[Piece]) -> None:
        self._assign()
        series = self._seen.series.get(key)
        if series is None:
            series = self._seen.series[key] = SeenSeries(key[0], facts_of(header), alike(header))
        series.n_files += 1
        if why or not pieces:
            series.left_out[why or "phase images"] += 1
        if echo_ms := header.get("EchoTime"):
            series.echoes_ms.add(round(float(echo_ms), 3))
        if not series.n_promised and (n_promised := str(header.get("NumberOfTemporalPositions") or "")).isdecimal():
            series.n_promised = int(n_promised)
        for piece in pieces:
            series.echoes_ms.add(round(piece.grid.echo_ms, 3))
            series.tr_s = series.tr_s or piece.grid.tr_s
            slice_s = None if piece.is_whole else slice_clock_s(header, piece)
            if piece.is_whole and not series.n_slices:
                series.n_slices, series.slice_times_s = len(piece.planes), times_in_file(header, piece)
            self._new.append((key, SeenPiece(replace(piece, planes=piece.planes[:1]), self._now_s, slice_s)))
