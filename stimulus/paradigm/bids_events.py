"""Files of schedules: TOML, and BIDS `events.tsv`, as a plan before the run and as its result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from rtgod.errors import InputError
from rtgod.events.table import category_of, image_path, layout_of, reasons
from rtgod.events.trials import Why
from rtgod.files import write_whole
from rtgod.settings import Positive, Settings
from rtgod.text import composed
from rtgod.tsv import Row, read_tsv
from stimulus.paradigm.schedule import Schedule, Step, StepKind, from_steps
from stimulus.tables import NOT_APPLICABLE, line_of

EVENTS_SUFFIX = "_events.tsv"
#: Columns of events tables: the public data set's, as far as they apply, then our own.
PLAN_COLUMNS = ("onset", "duration", "trial_no", "event_type", "category_name", "stimulus_name")
RESULT_COLUMNS = (*PLAN_COLUMNS, "response_time", "evaluation", "planned_onset")
_DESCRIPTIONS = {
    "onset": {"Description": "When it was first on the screen, from the start of volume 0", "Units": "s"},
    "duration": {"Description": "Until the next row's onset", "Units": "s"},
    "trial_no": {"Description": "Trial that the row belongs to, from 1; rest belongs to none and has 0"},
    "event_type": {
        "LongName": "What happened",
        "Levels": {
            "rest": "fixation",
            "stimulus": "an image was shown, flashing",
            "cue": "the word for what to imagine was shown",
            "imagery": "imagery",
            "naming": "the participant said what had been imagined",
            "evaluation": "the participant rated how vivid the imagery was",
            "inter_rest": "fixation between trials",
            "feedback": "the decoder's result was shown",
        },
    },
    "category_name": {"Description": "Identifier of the category that was shown or imagined"},
    "stimulus_name": {"Description": "Name of the image"},
    "response_time": {"Description": "When a button was pressed, from the start of volume 0", "Units": "s"},
    "evaluation": {"Description": "Vividness, 1 (target not recognised) to 5 (very vivid)"},
    "planned_onset": {"Description": "Onset in the schedule that was written before the run", "Units": "s"},
}


def read_schedule(path: Path, tr_s: float) -> Schedule:
    """Read a run from an `events.tsv` or a TOML file.

    An events table has a column `event_type` (as in the public data set) or `trial_type`; gaps are rest. Its trials are
    those that `rtgod.events.table.read_trials` finds in it, as the server counts them. A TOML file has an array of
    tables `step`, each with `kind`, `duration_s`, and a `category` and a `stimulus` if it shows them; each step begins
    where the one before ends.

    Parameters
    ----------
    path : Path
    tr_s : float
        Repetition time in seconds, unless a TOML file gives another.

    Raises
    ------
    InputError
        If the file cannot be read, or holds no schedule.
    """
    if path.suffix == ".toml":
        run = _TomlRun.from_toml(path)
        name, tr_s, steps = run.name or path.stem, run.tr_s or tr_s, run.steps()
    else:
        name, steps = path.name.removesuffix(".tsv").removesuffix("_events"), _steps_of(path)
    try:
        return from_steps(name, tr_s, steps)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write_plan(path: Path, schedule: Schedule) -> None:
    """Write a schedule as an events table, and a JSON file that explains it; raise InputError if that fails.

    Parameters
    ----------
    path : Path
        The table to write; the JSON file has its name with the ending .json.
    schedule : Schedule
    """
    write_events(path, PLAN_COLUMNS, [planned_cells(step) for step in schedule.steps])


def write_events(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    """Write an events table and the JSON file that explains it.

    Parameters
    ----------
    path : Path
        The table to write; the JSON file has its name with the ending .json.
    columns : sequence of str
        Columns in their order, each one of `RESULT_COLUMNS`.
    rows : sequence of mapping of str to str
        Cells by column; those that a row lacks are n/a.
    """
    table = [columns, *([row.get(column, NOT_APPLICABLE) for column in columns] for row in rows)]
    write_whole(path, "".join(line_of(cells) + "\n" for cells in table))
    descriptions = {column: _DESCRIPTIONS[column] for column in columns}
    write_whole(path.with_suffix(".json"), json.dumps(descriptions, indent=2) + "\n")


def planned_cells(step: Step) -> dict[str, str]:
    """Return the cells of a step's row in the planned events table, by column.

    Parameters
    ----------
    step : Step
    """
    return {
        "onset": seconds(step.onset_s),
        "duration": seconds(step.duration_s),
        "trial_no": str(step.trial),
        "event_type": step.kind,
        "category_name": step.category or NOT_APPLICABLE,
        "stimulus_name": step.stimulus or NOT_APPLICABLE,
    }


def seconds(value: float) -> str:
    """Write seconds to the microsecond, without trailing zeros.

    Parameters
    ----------
    value : float
    """
    return f"{round(value, 6) + 0.0:.6f}".rstrip("0").rstrip(".")  # + 0.0 turns -0.0 into 0.0


def _steps_of(path: Path) -> list[Step]:
    table = read_tsv(path, what="an events table")
    if layout_of(table).is_object:
        return [_object_step(row) for row in table.rows]
    steps: list[Step] = []
    extra_rests: list[Step] = []
    for row, why in zip(table.rows, reasons(table), strict=True):
        # Rows that are neither trial nor rest, such as answers, become rest; those that overlap others are left out.
        if why in (None, Why.REST, Why.NO_ONSET, Why.NO_DURATION):  # `_step` refuses a missing time
            steps.append(_plain_step(row, is_rest=why is Why.REST))
        elif row.has("duration") and row.duration() > 0:
            extra_rests.append(_step(row, StepKind.REST, "", ""))
    for step in extra_rests:
        if all(step.end_s <= other.onset_s or other.end_s <= step.onset_s for other in steps):
            steps.append(step)
    return steps


def _object_step(row: Row) -> Step:
    """Make a step of a row in the public data set's form."""
    event_type = row.cells["event_type"] if row.has("event_type") else StepKind.REST
    if event_type not in list(StepKind):
        raise InputError(
            f"{row.path}, line {row.line}, column event_type: {event_type[:40]!r} is unknown; write one of "
            f"{', '.join(StepKind)}."
        )
    stimulus = row.cells["stimulus_name"] if row.has("stimulus_name") else ""
    category = row.cells["category_name"] if row.has("category_name") else ""
    if event_type == StepKind.STIMULUS and stimulus and not category:
        category = category_of(stimulus)
    return _step(row, StepKind(event_type), category, stimulus)


def _plain_step(row: Row, *, is_rest: bool) -> Step:
    """Make a step of a row in plain BIDS: rest or a stimulus."""
    if is_rest:
        return _step(row, StepKind.REST, "", "")
    stimulus = image_path(row.cells["stim_file"]) if row.has("stim_file") else ""
    return _step(row, StepKind.STIMULUS, row.label("trial_type"), stimulus)


def _step(row: Row, kind: StepKind, category: str, stimulus: str) -> Step:
    duration_s = row.duration()
    if duration_s == 0:
        raise InputError(f"{row.path}, line {row.line}, column duration: is 0 s, and nothing is shown so briefly.")
    return Step(row.seconds("onset"), duration_s, kind, 0, category, stimulus)


class _TomlStep(Settings):
    kind: StepKind
    duration_s: Positive
    category: str = ""
    stimulus: str = ""


class _TomlRun(Settings):
    #: Name of the run, with which its files' names begin.
    name: Annotated[str, Field(pattern=r"^[^/\\\s]*$")] = ""
    tr_s: Positive | None = None
    step: tuple[_TomlStep, ...]

    def steps(self) -> list[Step]:
        """Return the run's steps; each begins where the one before ends."""
        steps: list[Step] = []
        for step in self.step:
            onset_s = steps[-1].end_s if steps else 0.0
            steps.append(Step(onset_s, step.duration_s, step.kind, 0, composed(step.category), composed(step.stimulus)))
        return steps
