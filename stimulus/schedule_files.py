"""Schedules in files: BIDS `events.tsv`, as a plan before the run and as its result, and TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from rtgod.errors import InputError
from rtgod.events import Row, category_of, read_table
from rtgod.files import write_whole
from rtgod.settings import Positive, Settings
from stimulus.schedule import Schedule, Step, StepKind, from_steps

NOT_APPLICABLE = "n/a"  # BIDS's word in tables
EVENTS_SUFFIX = "_events.tsv"
#: Those of the public data set, as far as they apply, then ours.
PLAN_COLUMNS = ("onset", "duration", "trial_no", "event_type", "category_name", "stimulus_name")
RESULT_COLUMNS = (*PLAN_COLUMNS, "response_time", "evaluation", "planned_onset")
_DESCRIPTIONS = {
    "onset": {"Description": "When it was first on the screen, from the start of volume 0", "Units": "s"},
    "duration": {"Description": "Until the next row's onset", "Units": "s"},
    "trial_no": {"Description": "Trial that the row belongs to, from 1; 0 is rest before and after"},
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

    An events table has `event_type` (as the public data set's) or `trial_type`; gaps are rest. A TOML file has an array
    of tables `step`, each with `kind`, `duration_s` and what it shows; they follow each other.

    Parameters
    ----------
    path : Path
    tr_s : float
        Repetition time, unless a TOML file says another.

    Raises
    ------
    InputError
        If it cannot be read, or is no schedule.
    """
    if path.suffix == ".toml":
        return _TomlRun.from_toml(path).schedule(path.stem, tr_s)
    columns, rows = read_table(path)
    for column in ("onset", "duration"):
        if column not in columns:
            raise InputError(f"{path}, line 1: no column {column!r}; an events table is tab-separated and has one.")
    if not columns & {"event_type", "trial_type"}:
        raise InputError(f"{path}, line 1: no column says what happens; add 'event_type' or 'trial_type'.")
    name = path.name.removesuffix(".tsv").removesuffix("_events")
    try:
        return from_steps(name, tr_s, [_step_of(row) for row in rows if row.duration() > 0])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write_plan(path: Path, schedule: Schedule) -> None:
    """Write a schedule as it is planned, with its columns explained beside it; InputError if it cannot be written."""
    write_events(path, PLAN_COLUMNS, [planned_cells(step) for step in schedule.steps])


def write_events(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    """Write an events table and the JSON file that explains it; cells that a row lacks are n/a."""
    lines = ["\t".join(columns), *("\t".join(row.get(column, NOT_APPLICABLE) for column in columns) for row in rows)]
    write_whole(path, "".join(line + "\n" for line in lines))
    described = {column: _DESCRIPTIONS[column] for column in columns}
    write_whole(path.with_suffix(".json"), json.dumps(described, indent=2) + "\n")


def planned_cells(step: Step) -> dict[str, str]:
    """The cells of a step as it is planned."""
    return {
        "onset": seconds(step.onset_s),
        "duration": seconds(step.duration_s),
        "trial_no": str(step.trial),
        "event_type": step.kind,
        "category_name": step.category or NOT_APPLICABLE,
        "stimulus_name": step.stimulus or NOT_APPLICABLE,
    }


def seconds(value: float) -> str:
    """Seconds to the microsecond, without the zeros that say nothing."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _step_of(row: Row) -> Step:
    onset_s, duration_s = row.seconds("onset"), row.duration()
    trial = row.cells.get("trial_no", "")
    number = int(trial) if trial.isdecimal() else 0
    if not row.has("event_type") and not row.has("trial_type"):
        return Step(onset_s, duration_s, StepKind.REST)
    category = row.cells["category_name"] if row.has("category_name") else ""
    stimulus = row.cells["stimulus_name"] if row.has("stimulus_name") else ""
    if row.has("event_type"):
        try:
            kind = StepKind(row.cells["event_type"])
        except ValueError:
            said, kinds = row.cells["event_type"][:40], ", ".join(StepKind)
            raise InputError(f"line {row.line}, column event_type: {said!r} is unknown; write one of {kinds}") from None
    elif row.cells["trial_type"].casefold() in ("rest", "fixation"):
        kind = StepKind.REST
    else:
        kind, category = StepKind.STIMULUS, row.cells["trial_type"]
        stimulus = PurePosixPath(row.cells["stim_file"]).stem if row.has("stim_file") else ""
    if kind is StepKind.REST:
        return Step(onset_s, duration_s, kind)
    if kind is StepKind.STIMULUS and stimulus and not category:
        category = category_of(stimulus)
    return Step(onset_s, duration_s, kind, number, category, stimulus)


class _TomlStep(Settings):
    kind: StepKind
    duration_s: Positive
    trial: int = 0
    category: str = ""
    stimulus: str = ""


class _TomlRun(Settings):
    name: str = ""
    tr_s: Positive | None = None
    step: tuple[_TomlStep, ...]

    def schedule(self, name: str, tr_s: float) -> Schedule:
        steps: list[Step] = []
        for step in self.step:
            onset_s = steps[-1].end_s if steps else 0.0
            steps.append(Step(onset_s, step.duration_s, step.kind, step.trial, step.category, step.stimulus))
        return from_steps(self.name or name, self.tr_s or tr_s, steps)
