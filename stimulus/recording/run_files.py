"""Files of a run: a log of everything that happened, every flip, the feedback that was shown, and the BIDS events.

The log is written line by line; a display that was started again reads it and continues the run. If nobody may know a
run's condition, a sealed file holds what was on the screen.
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
#: Smaller differences between times since 1970 are rounding, seconds.
_SAME_S = 1e-6
#: Tables of a sealed file.
SHOWN, FLIPS, ONSETS = "shown", "flips", "onsets"

Number = TypeVar("Number", int, float)


class RunRecord(Closing):
    """Files of one run in a folder; an unfinished run of the same name is continued.

    Parameters
    ----------
    folder : Path
    schedule : Schedule
    now_utc_s : float
        The time now, seconds since 1970; a run in the folder that must be over by now is closed, and a new acquisition
        begins.
    speed : float
        Speed at which the run is played: 1 in an experiment, more to rehearse.
    sealed : bool
        Whether nobody may read what was shown before the session is unblinded.
    machine : MachineTime, optional
        The time now by a clock that nobody sets.
    frame_hz : float
        Refreshes of the monitor in a second.
    tell : callable, optional
        Shows the operator a line; called with the lines that are left when the files are closed.

    Attributes
    ----------
    name : str
        Name of the run; with a number if another acquisition of that name came first.
    happened : RunState
        Events of the run so far.
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
        """Write a line of the log: an event, its time by each clock, and the server's clock offset with its error.

        Parameters
        ----------
        kind : str
            Kind of the event, such as "started", "onset" or "answer".
        utc_s : float
            Time of the event, seconds since 1970.
        clock_s : float or None
            Time of the event by the display's clock, seconds; None if it is not known.
        run_s : float or None
            Time of the event, seconds into the run; None before the run.
        step : int or None
            Place in the schedule of the step that the event is about; None if it is about no step.
        value : str
            Details of the event.
        offset : tuple of 2 (float or None)
            Seconds to add to the display's clock to get the server's, and their greatest possible error; None while
            they are not measured.
        """
        self.happened.apply(Entry(kind, utc_s, run_s, step, value))
        times = [_number(number) for number in (utc_s, clock_s, run_s, *offset)]
        self._log.write([*times, kind, _place(step), value or NOT_APPLICABLE])

    def flip(self, clock_s: float, run_s: float | None, step: int | None, late_ms: float, changed: str) -> None:
        """Write a line about a picture that came on the screen.

        Parameters
        ----------
        clock_s : float
            Time of the flip by the display's clock, seconds.
        run_s : float or None
            Time of the flip, seconds into the run; None before the run.
        step : int or None
            Place in the schedule of the step on the screen; None before the run and after it.
        late_ms : float
            Milliseconds from the refresh at which the picture was due until the flip.
        changed : str
            Difference from the picture before: "step", "answer", "scene" or "same".
        """
        cells = [_number(clock_s), _number(run_s), _place(step), f"{late_ms:.3f}", changed]
        if isinstance(self._shown, SealedTables):
            self._shown.write(FLIPS, cells)
        else:
            self._flips.write(cells)

    def sealed_onset(self, step: int, onset_s: float, rough_s: float) -> None:
        """Write when a step of a sealed run began: exactly to the sealed file, else roughly.

        Parameters
        ----------
        step : int
            Place of the step in the schedule.
        onset_s : float
            Exact onset, seconds into the run.
        rough_s : float
            Rounded onset, seconds into the run, which may be read before the session is unblinded.
        """
        if not isinstance(self._shown, SealedTables):
            raise TypeError("the run is not sealed")
        self._shown.write(ONSETS, [seconds(self.happened.schedule.steps[step].onset_s), seconds(onset_s)])
        self._flips.write([NOT_APPLICABLE, _number(rough_s), _place(step), NOT_APPLICABLE, "step"])

    def shown(self, cells: Sequence[str]) -> None:
        """Write a line about feedback that the participant was shown.

        Parameters
        ----------
        cells : sequence of str
            Cells of `SHOWN_COLUMNS`, in their order.
        """
        if isinstance(self._shown, SealedTables):
            self._shown.write(SHOWN, cells)
        else:
            self._shown.write(cells)

    def poll(self, now_s: float) -> list[str]:
        """Write lines that wait for a disk, and records that are due in a sealed file; return lines for the operator.

        Parameters
        ----------
        now_s : float
            Time by the display's clock, seconds.
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
        """Write the events; if that fails, try again when the record is closed, and then write them elsewhere."""
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
        """Close the files, and tell the operator what could not be written and where a copy is."""
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
        """Take in an existing log, and return whether its run is over, so that a new run needs another name."""
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
            self.happened.apply(entry)
        if not has_ended and self.happened.since_start(now)[0] < duration_s - _SAME_S:
            return False
        if not has_ended or not self._path(EVENTS_SUFFIX).exists():
            self.write_events()
        return True


def _entries(path: Path) -> list[Entry]:
    """Read the whole lines of a log; none if the file does not exist."""
    if not path.exists():
        return []
    header, *lines = path.read_bytes().split(b"\n")
    if not lines:
        return []  # the file was cut short within its first line
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
