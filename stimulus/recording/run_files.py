"""Files of a run: a log of everything that happened, every flip, what was shown, and the BIDS events.

The log is written line by line, and is what a display that was started again goes on from. A run whose condition nobody
may know has what was on the screen in a sealed file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from rtgod.errors import InputError
from rtgod.files import Closing
from rtgod.messages import AGAIN
from rtgod.text import file_stem
from stimulus.blinding.sealed_tables import SealedTables
from stimulus.paradigm.bids_events import EVENTS_SUFFIX, RESULT_COLUMNS, seconds, write_events
from stimulus.paradigm.schedule import Schedule
from stimulus.recording.run_state import Entry, RunState
from stimulus.tables import NOT_APPLICABLE, Lines, copied_elsewhere
from stimulus.timing.machine_time import MachineTime, Moment

LOG_COLUMNS = ("utc_s", "clock_s", "run_s", "server_offset_s", "server_offset_error_s", "kind", "step", "value")
FLIP_COLUMNS = ("clock_s", "run_s", "step", "late_ms", "changed")
SHOWN_COLUMNS = ("run_s", "index", "shown", "target", "percentile", "strength", "first")
ONSET_COLUMNS = ("planned_onset", "onset")
#: Of times since 1970, smaller differences are rounding.
_SAME_S = 1e-6
#: Tables of a sealed file.
SHOWN, FLIPS, ONSETS = "shown", "flips", "onsets"

Number = TypeVar("Number", int, float)


class RunRecord(Closing):
    """Files of one run in a folder; one that was left unfinished is gone on with.

    Parameters
    ----------
    folder : Path
    schedule : Schedule
    now_utc_s : float
        A run that began so long ago that it must be over is closed, and a new acquisition begins.
    speed : float
        As the run is played: 1 in earnest.
    sealed : bool
        Whether what was shown may not be read before the session is unblinded.
    machine : MachineTime, optional
        Now, by a clock that nobody sets.
    frame_hz : float
        Refreshes in a second.
    tell : callable, optional
        Tells the operator what of the files was lost when they are closed.

    Attributes
    ----------
    name : str
        Of the run; with a number where another acquisition of that name came first.
    happened : RunState
    sealed : bool

    Raises
    ------
    InputError
        If the folder cannot be written, a log in it is damaged, or an unfinished run of that name had another schedule.
    """

    def __init__(
        self,
        folder: Path,
        schedule: Schedule,
        now_utc_s: float,
        *,
        speed: float = 1.0,
        sealed: bool = False,
        machine: MachineTime | None = None,
        frame_hz: float = 60.0,
        tell: Callable[[str], object] = lambda line: None,  # noqa: ARG005 # nobody is told
    ) -> None:
        self._folder, self._tell, self.sealed = folder, tell, sealed
        self._news: list[str] = []
        self._lacks_events = self._closed = False
        plan = f"{hashlib.sha256(repr((schedule.tr_s, schedule.steps)).encode()).hexdigest()[:12]} x{speed:g}"
        number = 1
        while True:
            self.name = schedule.name if number == 1 else f"{schedule.name}{AGAIN}{number}"
            self.happened = RunState(schedule)
            if not self._is_over(plan, Moment(now_utc_s, machine), schedule.duration_s / speed):
                break
            number += 1
        self._log = Lines(self._path("_log.tsv"), LOG_COLUMNS)
        self._flips = Lines(self._path("_flips.tsv"), FLIP_COLUMNS)
        self._shown: Lines | SealedTables
        if sealed:
            columns = {SHOWN: SHOWN_COLUMNS, FLIPS: FLIP_COLUMNS, ONSETS: ONSET_COLUMNS}
            self._shown = SealedTables(self._path("_shown.sealed"), columns, frame_hz)
        else:
            self._shown = Lines(self._path("_shown.tsv"), SHOWN_COLUMNS)
        if self.happened.started_utc_s is None:
            self.log("plan", now_utc_s, value=plan)

    def log(
        self,
        kind: str,
        utc_s: float,
        clock_s: float | None = None,
        run_s: float | None = None,
        step: int | None = None,
        value: str = "",
        offset: tuple[float | None, float | None] = (None, None),
    ) -> None:
        """Write a line: what happened, when by each clock, and how far the server's is from the display's."""
        self.happened.take(Entry(kind, utc_s, run_s, step, value))
        times = [_number(number) for number in (utc_s, clock_s, run_s, *offset)]
        self._log.write([*times, kind, _place(step), value or NOT_APPLICABLE])

    def flip(self, clock_s: float, run_s: float | None, step: int | None, late_ms: float, changed: str) -> None:
        """Write a line for a picture that came on the screen."""
        cells = [_number(clock_s), _number(run_s), _place(step), f"{late_ms:.3f}", changed]
        if isinstance(self._shown, SealedTables):
            self._shown.write(FLIPS, cells)
        else:
            self._flips.write(cells)

    def sealed_onset(self, step: int, onset_s: float, rough_s: float) -> None:
        """Write in a sealed run when a step began, in seconds into the run: the sealed file has it exactly."""
        if not isinstance(self._shown, SealedTables):
            raise TypeError("the run is not sealed")
        self._shown.write(ONSETS, [seconds(self.happened.schedule.steps[step].onset_s), seconds(onset_s)])
        self._flips.write([NOT_APPLICABLE, _number(rough_s), _place(step), NOT_APPLICABLE, "step"])

    def shown(self, cells: Sequence[str]) -> None:
        """Write a line of what the participant was shown; see `SHOWN_COLUMNS`."""
        if isinstance(self._shown, SealedTables):
            self._shown.write(SHOWN, cells)
        else:
            self._shown.write(cells)

    def poll(self, now_s: float) -> list[str]:
        """Write what waits for a disk, and what is due in a sealed file; returns lines for the operator.

        Parameters
        ----------
        now_s : float
            Of the display's clock.
        """
        news, self._news = self._news, []
        return [*news, *(line for file in (self._log, self._flips, self._shown) for line in file.poll(now_s))]

    def write_events(self) -> Path:
        """Write the events of the run, as they happened.

        Raises
        ------
        InputError
            If they cannot be written.
        """
        path = self._path(EVENTS_SUFFIX)
        self._write_events(path)
        return path

    def save_events(self) -> None:
        """As `write_events`; what a disk refuses is tried again when the record is closed, and then put elsewhere."""
        try:
            self.write_events()
        except InputError as error:
            self._lacks_events = True
            self._news.append(f"{error}; it is tried again at the end: make room on that disk, or connect it again")

    @property
    def is_saved(self) -> bool:
        """Whether all that was recorded is in the folder."""
        return not self._lacks_events and not any(file.n_waiting for file in (self._log, self._flips, self._shown))

    def close(self) -> None:
        """Close the files; the operator is told of what could not be written, and where a copy is."""
        for file in (self._log, self._flips, self._shown):
            file.close()
        if self._lacks_events and not self._closed:
            try:
                self.write_events()
                self._lacks_events = False
            except InputError as error:
                where = copied_elsewhere(self._path(EVENTS_SUFFIX), self._write_events)
                self._news.append(f"{error}; {where}")
        self._closed = True
        for line in self.poll(0.0):
            self._tell(line)

    def _write_events(self, path: Path) -> None:
        write_events(path, RESULT_COLUMNS, self.happened.rows())

    def _path(self, ending: str) -> Path:
        return self._folder / f"{file_stem(self.name)}{ending}"

    def _is_over(self, plan: str, now: Moment, duration_s: float) -> bool:
        """Take in a log that is there; whether its run is over, so that the next must have another name."""
        path = self._path("_log.tsv")
        entries = _entries(path)
        starts = [place for place, entry in enumerate(entries) if entry.kind == "started"]
        if not starts:
            return False
        is_same = [entry.value for entry in entries if entry.kind == "plan"][-1:] == [plan]
        has_ended = any(entry.kind in ("ended", "stopped") for entry in entries[starts[-1] :])
        if not is_same and not has_ended:
            raise InputError(
                f"{path}: this run was left unfinished with another schedule or speed; go on with that one, or choose "
                "another folder or name"
            )
        if not is_same:
            return True
        for entry in entries:
            self.happened.take(entry)
        if not has_ended and self.happened.since_start(now)[0] < duration_s - _SAME_S:
            return False
        if not has_ended or not self._path(EVENTS_SUFFIX).exists():
            self.write_events()
        return True


def _entries(path: Path) -> list[Entry]:
    """Whole lines of a log; none where there is no file."""
    if not path.exists():
        return []
    header, *lines = path.read_bytes().split(b"\n")
    if not lines:
        return []  # cut short within its first line
    if header.decode(errors="replace").split("\t") != list(LOG_COLUMNS):
        raise InputError(f"{path}: no log of a run that this version of rtgod wrote; choose another folder")
    entries = []
    for number, line in enumerate(lines[:-1], 2):
        try:
            utc_s, _, run_s, _, _, kind, step, value = line.decode().split("\t")
            entries.append(
                Entry(
                    kind,
                    float(utc_s),
                    _given(run_s, float),
                    _given(step, int),
                    "" if value == NOT_APPLICABLE else value,
                )
            )
        except ValueError as error:
            raise InputError(
                f"{path}, line {number}: damaged ({error}); restore a copy, or choose another folder"
            ) from error
    return entries


def _given(cell: str, read: Callable[[str], Number]) -> Number | None:
    return None if cell == NOT_APPLICABLE else read(cell)


def _number(value: float | None) -> str:
    return NOT_APPLICABLE if value is None else f"{value:.6f}"


def _place(step: int | None) -> str:
    return NOT_APPLICABLE if step is None else str(step)
