"""What a run leaves behind: a log of everything that happened, every flip, what was shown, and the BIDS events.

The log is written line by line, and is what a display that was started again goes on from; the events are made of it.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from rtgod.errors import InputError
from rtgod.files import Closing
from rtgod.messages import AGAIN
from stimulus.schedule import Schedule, StepKind
from stimulus.schedule_files import NOT_APPLICABLE, RESULT_COLUMNS, planned_cells, seconds, write_events
from stimulus.seal import SealedLines

LOG_COLUMNS = ("utc_s", "clock_s", "run_s", "server_offset_s", "server_offset_error_s", "kind", "step", "value")
FLIP_COLUMNS = ("clock_s", "run_s", "step", "late_ms", "changed")
SHOWN_COLUMNS = ("run_s", "index", "shown", "target", "percentile", "strength", "first")


@dataclass(slots=True)
class Happened:
    """What is known of a run that began.

    Attributes
    ----------
    started_utc_s : float or None
        Onset of volume 0, seconds since 1970; None while no trigger came.
    onsets_s : dict of int to float
        When each step was first on the screen, by its place in the schedule; seconds into the run.
    presses : list of (int, float)
        Step and time of each press of a button that answers the one-back task.
    answers : dict of int to (float, str)
        By the place of the step that asked: when it was last answered, and how.
    ended : bool
    """

    started_utc_s: float | None = None
    onsets_s: dict[int, float] = field(default_factory=dict)
    presses: list[tuple[int, float]] = field(default_factory=list)
    answers: dict[int, tuple[float, str]] = field(default_factory=dict)
    ended: bool = False

    def take(self, kind: str, utc_s: float, run_s: float | None, step: int | None, value: str) -> None:
        """Take one line of the log in; kinds that change nothing are passed over."""
        match kind:
            case "started":
                self.started_utc_s = utc_s
            case "ended" | "stopped":
                self.ended = True
            case "onset" if step is not None and run_s is not None:
                self.onsets_s.setdefault(step, run_s)
            case "response" if step is not None and run_s is not None:
                self.presses.append((step, run_s))
            case "answer" | "target" if step is not None and run_s is not None:
                self.answers[step] = run_s, value

    def rows(self, schedule: Schedule) -> list[dict[str, str]]:
        """The events table: what was shown, as it was shown; steps that never were have no row."""
        order = sorted(self.onsets_s)
        rows = []
        for place, following in zip(order, [*order[1:], None], strict=True):
            step, onset_s = schedule.steps[place], self.onsets_s[place]
            end_s = step.end_s if following is None else self.onsets_s[following]
            row = planned_cells(step)
            row |= {"planned_onset": row["onset"], "onset": seconds(onset_s), "duration": seconds(end_s - onset_s)}
            row |= self._answers_of(schedule, place)
            rows.append(row)
        return rows

    def _answers_of(self, schedule: Schedule, place: int) -> dict[str, str]:
        step = schedule.steps[place]
        cells = {}
        if pressed := [at_s for of, at_s in self.presses if of == place]:
            cells["response_time"] = seconds(pressed[0])
        for of, (at_s, value) in self.answers.items():
            asking = schedule.steps[of]
            if not step.trial or asking.trial != step.trial:
                continue
            if of == place and asking.kind in (StepKind.EVALUATION, StepKind.NAMING):
                cells["response_time"] = seconds(at_s)
            if asking.kind is StepKind.EVALUATION:
                cells["evaluation"] = value
            elif not step.category:
                cells["category_name"] = value
        return cells


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

    Attributes
    ----------
    name : str
        Of the run; with a number where another acquisition of that name came first.
    happened : Happened

    Raises
    ------
    InputError
        If the folder cannot be written, or an unfinished run of that name had another schedule.
    """

    def __init__(
        self, folder: Path, schedule: Schedule, now_utc_s: float, *, speed: float = 1.0, sealed: bool = False
    ) -> None:
        self._folder, self._schedule = folder, schedule
        plan = f"{_digest(schedule)} x{speed:g}"
        self.happened = Happened()
        for number in range(1, 1000):
            self.name = schedule.name if number == 1 else f"{schedule.name}{AGAIN}{number}"
            if not self._path("log.tsv").exists():
                break
            if not self._is_over(plan, now_utc_s, schedule.duration_s / speed):
                break
            self.happened = Happened()
        else:
            raise InputError(f"{folder}: holds {schedule.name} a thousand times; choose another folder")
        self.resumes = self._path("log.tsv").exists()
        self._log = _Table(self._path("log.tsv"), LOG_COLUMNS)
        self._flips = _Table(self._path("flips.tsv"), FLIP_COLUMNS)
        self._shown: _Table | SealedLines
        if sealed:
            new = not self._path("shown.sealed").exists()
            self._shown = SealedLines(self._path("shown.sealed"))
            if new:
                self._shown.write(SHOWN_COLUMNS)
        else:
            self._shown = _Table(self._path("shown.tsv"), SHOWN_COLUMNS)
        if not self.resumes:
            self._log.write([seconds(now_utc_s), *[NOT_APPLICABLE] * 4, "plan", NOT_APPLICABLE, plan])

    def log(
        self,
        kind: str,
        utc_s: float,
        clock_s: float,
        run_s: float | None = None,
        step: int | None = None,
        value: str = "",
        offset: tuple[float | None, float | None] = (None, None),
    ) -> None:
        """Write a line: what happened, when by each clock, and how far the server's is from the display's."""
        self.happened.take(kind, utc_s, run_s, step, value)
        cells = [_number(number) for number in (utc_s, clock_s, run_s, *offset)]
        self._log.write([*cells, kind, NOT_APPLICABLE if step is None else str(step), value or NOT_APPLICABLE])

    def flip(self, clock_s: float, run_s: float | None, step: int | None, late_ms: float, changed: str) -> None:
        """Write a line for a picture that came on the screen."""
        where = NOT_APPLICABLE if step is None else str(step)
        self._flips.write([_number(clock_s), _number(run_s), where, f"{late_ms:.3f}", changed])

    def shown(self, cells: Sequence[str]) -> None:
        """Write a line of what the participant was shown; see `SHOWN_COLUMNS`."""
        self._shown.write(cells)

    def write_events(self) -> Path:
        """Write the events of the run, as they happened."""
        path = self._path("events.tsv")
        write_events(path, RESULT_COLUMNS, self.happened.rows(self._schedule))
        return path

    def close(self) -> None:
        """Close the files."""
        for file in (self._log, self._flips, self._shown):
            file.close()

    def _path(self, what: str) -> Path:
        return self._folder / f"{self.name}_{what}"

    def _is_over(self, plan: str, now_utc_s: float, duration_s: float) -> bool:
        """Read a log that is there; whether its run is over, and nothing is left to write of it."""
        path = self._path("log.tsv")
        found = NOT_APPLICABLE
        for line in _lines(path):
            kind, value = line["kind"], line["value"]
            if kind == "plan":
                found = value
            step = int(line["step"]) if line["step"] != NOT_APPLICABLE else None
            run_s = float(line["run_s"]) if line["run_s"] != NOT_APPLICABLE else None
            self.happened.take(kind, float(line["utc_s"]), run_s, step, value)
        if self.happened.ended:
            return True
        if found != plan:
            raise InputError(
                f"{path}: this run was left unfinished with another schedule or speed; go on with that one, or choose "
                "another folder or name"
            )
        started = self.happened.started_utc_s
        if started is None or now_utc_s < started + duration_s:
            return False
        self.write_events()
        return True


class _Table(Closing):
    """A tab-separated file that is added to line by line, and known to the last line if the process is killed."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = path.open("a", encoding="utf-8", buffering=1, newline="\n")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        if self._file.tell() == 0:
            self.write(columns)
        elif not path.read_bytes().endswith(b"\n"):
            self._file.write("\n")  # the last line was cut off

    def write(self, cells: Sequence[str]) -> None:
        self._file.write("\t".join(" ".join(cell.split()) for cell in cells) + "\n")

    def close(self) -> None:
        self._file.close()


def _lines(path: Path) -> list[dict[str, str]]:
    """Whole lines of a log; one that was cut off is passed over."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row for row in rows if None not in row and None not in row.values()]


def _number(value: float | None) -> str:
    return NOT_APPLICABLE if value is None else f"{value:.6f}"


def _digest(schedule: Schedule) -> str:
    """The same for the same steps."""
    return hashlib.sha256(repr((schedule.tr_s, schedule.steps)).encode()).hexdigest()[:12]
