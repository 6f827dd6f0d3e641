"""The command `rehearse`: a closed-loop imagery session with a simulated subject, with each part as a process.

A run with imagery that gets stronger is decoded twice, once with true feedback and once with sham feedback: feedback
must rise with the imagery in the first and not in the second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from rtgod.commands.subprocesses import CommandProcess, heading, print_figures, read_tsv, step
from rtgod.errors import InputError
from rtgod.files import write_whole
from rtgod.messages import Array
from rtgod.text import number_of
from rtgod.tsv import write_tsv

#: Longest time, in seconds, from the last volume of a run to the end of its display and its source.
_END_S = 60.0
_FREE = "tcp://127.0.0.1:*"
#: Units of the figures, by the ends of their names.
_UNITS = {
    "_third": "share of the other candidates that the target is ahead of; luck 0.5",
    "_rank_correlation": "of feedback with the trial's number, -1 to 1; luck 0",
    "_ms_p99": "ms, 99th percentile, on the screen against the plan",
    "_ms_max": "ms, the worst, on the screen against the plan",
    "_trials_shown": "trials with feedback",
    "steps_planned": "steps of both runs",
    "steps_shown": "steps of both runs",
}
#: If feedback is unrelated to the imagery, one rehearsal in twenty has a rank correlation above `_LUCK` divided by
#: the square root of (n_trials - 1).
_LUCK = 1.645
#: Refresh interval of a usual monitor (60 Hz).
_FRAME_MS = 1000 / 60


def rehearse(
    subject: Annotated[Path, typer.Argument(help="Folder that `rtgod simulate` made.")],
    bundle: Annotated[Path, typer.Option(metavar="FOLDER", help="The subject's decoder, by `rtgod calibrate`.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to make.")],
    speed: Annotated[float, typer.Option(min=0.1, help="1 is the scanner's pace; more takes less time.")] = 1.0,
    trials: Annotated[int, typer.Option(min=4, help="Of a run.")] = 20,
    strength: Annotated[str, typer.Option(help="Of the imagery, from the first trial to the last.")] = "0:5",
    view: Annotated[str, typer.Option(help="How feedback looks: list, thermometer, pictures or grid.")] = "thermometer",
    seed: Annotated[int, typer.Option(min=0, help="Of schedule, scan and sham.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for the figures, as one flat object.")] = None,
) -> None:
    """Rehearse a closed-loop imagery session with a simulated subject, from the schedule to the unblinding.

    Plans a run, scans the subject with imagery that gets stronger, serves the decoder, and shows the feedback twice:
    once true, once with categories shuffled, in an order that is sealed until the session is over. At the scanner's
    pace a run of 20 trials takes 12 minutes.
    """
    if out.exists():
        raise InputError(f"{out}: exists already; choose another folder or remove it")
    out.mkdir(parents=True)
    settings = _write_settings(out, trials, view)
    categories = subject / "stimuli" / "categories.tsv"
    imagined = _imagined(categories, out)
    heading("1. A run is planned, and scanned with imagery that gets stronger")
    plan = ("feedback", "--categories", str(imagined), "--runs", "1", "--seed", str(seed))
    step("stimulus", "plan", *plan, "--settings", str(settings), "--out", str(out / "plan"))
    schedule = next((out / "plan").glob("*_events.tsv"))
    run = out / "scan" / schedule.name.replace("_events.tsv", "_bold.nii.gz")
    step("scan", str(subject), str(schedule), "--out", str(run), "--strength", strength, "--seed", str(seed))
    heading("2. The order of true and sham feedback is drawn and sealed")
    sealed = out / "session" / "conditions.sealed"
    step("stimulus", "seal", "--real", "1", "--shuffled", "1", "--seed", str(seed), "--out", str(sealed))
    heading("3. The session: the same run twice, with feedback")
    journal = _session(out, bundle, subject, run, schedule, settings, sealed, speed)
    heading("4. The session is over: unblinding")
    step("unblind", str(sealed), "--journal", str(journal))
    figures = figures_of(out / "session", schedule, speed)
    print_figures("The rehearsal in figures", figures, _UNITS)
    for line in verdict(figures):
        print(line)
    if json_path:
        write_whole(json_path, json.dumps(figures, indent=1) + "\n")


def _write_settings(out: Path, n_trials: int, view: str) -> Path:
    lines = [
        "tones = false",
        "[monitor]", "width_cm = 32.0", "distance_cm = 60.0", "full_screen = false",
        "[trigger]", 'kind = "server"',
        "[protocol]", f"n_trials = {n_trials}",
        "[feedback]", f'view = "{view}"',
    ]  # fmt: skip
    path = out / "display.toml"
    write_whole(path, "".join(line + "\n" for line in lines))
    return path


def _imagined(categories: Path, out: Path) -> Path:
    """Write a table of the subject's test categories, on which the decoder was never trained; return its path."""
    rows = [row for row in read_tsv(categories) if row.get("shown_in") == "test"]
    if not rows:
        raise InputError(f"{categories}: no test categories; is this a subject that `rtgod simulate` made?")
    path = out / "plan" / "categories.tsv"
    write_tsv(path, ("category_id", "name"), [(row["category_id"], row["name"]) for row in rows])
    return path


def _session(
    out: Path, bundle: Path, subject: Path, run: Path, schedule: Path, settings: Path, sealed: Path, speed: float
) -> Path:
    """Serve, show and replay the run under both conditions; return the path of the session's journal."""
    folder, ready_file = out / "session", out / "server.json"
    serve = ["serve", "--supervise", str(bundle), "--ingest", _FREE, "--publish", _FREE, "--journal", str(folder)]
    with CommandProcess(*serve, "--ready-file", str(ready_file), lasting=True) as server:
        server.wait_for(ready_file)
        ready: dict[str, Any] = json.loads(ready_file.read_text(encoding="utf-8"))
        for number in (1, 2):
            display_ready = out / f"display-{number}.ready"
            show = ["stimulus", "feedback", str(schedule), "--bundle", str(bundle), "--settings", str(settings)]
            show += ["--pictures", str(subject / "stimuli" / "candidates"), "--conditions", str(sealed)]
            show += ["--run", str(number), "--out", str(folder), "--from", ready["publish"], "--to", ready["ingest"]]
            show += ["--speed", str(speed), "--ready-file", str(display_ready)]
            with CommandProcess(*show, beside=[server]) as display:
                display.wait_for(display_ready)
                replay = ["replay", str(run), "--to", ready["ingest"], "--speed", str(speed), "--again"]
                with CommandProcess(*replay, beside=[server, display]) as source:
                    source.wait_end(_length_s(schedule) / speed + _END_S)
                display.wait_end(_END_S)
    return Path(ready["journal"])


def _length_s(schedule: Path) -> float:
    return max(float(row["onset"]) + float(row["duration"]) for row in read_tsv(schedule))


def figures_of(folder: Path, schedule: Path, speed: float) -> dict[str, float | int]:
    """Compute figures from the session's files: feedback in each condition, and the timing error of steps shown."""
    planned = read_tsv(schedule)
    conditions = [row["condition"] for row in read_tsv(folder / "conditions.tsv")]
    figures: dict[str, float | int] = {"steps_planned": 2 * (len(planned) - 1)}
    errors_ms: list[float] = []
    name = schedule.name.removesuffix("_events.tsv")
    for place, condition in enumerate(conditions):
        stem = name if place == 0 else f"{name}~{place + 1}"
        events = read_tsv(folder / f"{stem}_events.tsv")
        # The first rest is not timed: it is on the screen before the display knows that the run has begun.
        errors_ms += [1e3 * abs(float(row["onset"]) - float(row["planned_onset"])) / speed for row in events[1:]]
        levels = _levels(read_tsv(folder / f"{stem}_shown.tsv"), events)
        figures[f"{condition}_trials_shown"] = len(levels)
        third = max(len(levels) // 3, 1)
        figures[f"{condition}_feedback_first_third"] = float(np.mean(levels[:third]))
        figures[f"{condition}_feedback_last_third"] = float(np.mean(levels[-third:]))
        figures[f"{condition}_rank_correlation"] = _rank_correlation(levels)
    figures["steps_shown"] = len(errors_ms)
    figures["onset_error_ms_p99"] = float(np.percentile(errors_ms, 99))
    figures["onset_error_ms_max"] = max(errors_ms)
    return figures


def verdict(figures: Mapping[str, float | int]) -> list[str]:
    """Put the figures in words: whether feedback followed the imagery, sham did not, and steps were on time."""
    lines = []
    for condition, name in (("real", "true feedback"), ("shuffled", "sham feedback")):
        n_trials = int(figures.get(f"{condition}_trials_shown", 0))
        if n_trials < 3:
            lines.append(f"{name}: nothing can be said of {number_of(n_trials, 'trial')}; see the warnings above")
            continue
        correlation, luck = figures[f"{condition}_rank_correlation"], min(_LUCK / (n_trials - 1) ** 0.5, 1.0)
        outcome = {
            ("real", True): "followed the imagery, as it should",
            ("real", False): "did not follow the imagery: try more --trials, stronger imagery with --strength, or look "
            "at the decoder with `rtgod evaluate`",
            ("shuffled", False): "did not follow the imagery, as it should not",
            ("shuffled", True): "followed the imagery: by luck that happens once in 20 rehearsals; repeat it with "
            "another --seed",
        }[condition, correlation > luck]
        lines.append(
            f"{name} {outcome} (rank correlation {correlation:.2f} over {n_trials} trials; luck stays below {luck:.2f} "
            "in 19 of 20 rehearsals)"
        )
    missing = int(figures["steps_planned"] - figures["steps_shown"])
    error_ms = figures["onset_error_ms_p99"]
    timing = (
        "kept to the plan" if error_ms <= _FRAME_MS else "were late: play it with less --speed, or on an idle machine"
    )
    lines.append(
        f"steps {timing} ({'all' if missing == 0 else f'all but {missing}'} of {figures['steps_planned']} shown; 99 % "
        f"within {error_ms:.1f} ms, a refresh takes {_FRAME_MS:.1f} ms)"
    )
    return lines


def _levels(shown: Sequence[Mapping[str, str]], events: Sequence[Mapping[str, str]]) -> Array:
    """Return the last percentile that was on the screen in each trial."""
    onsets_s = np.array([float(row["onset"]) for row in events])
    trials = [int(row["trial_no"]) for row in events]
    percentiles: dict[int, float] = {}
    for row in shown:
        if row["percentile"] != "n/a":
            place = int(np.searchsorted(onsets_s, float(row["run_s"]) + 1e-6, side="right")) - 1
            percentiles[trials[place]] = float(row["percentile"])
    return np.array([percentiles[trial] for trial in sorted(percentiles)])


def _rank_correlation(levels: Array) -> float:
    """Compute Spearman's correlation of level and trial number; ties, which are rare, are broken by order."""
    ranks = np.argsort(np.argsort(levels, kind="stable"), kind="stable")
    return float(np.corrcoef(np.arange(len(levels)), ranks)[0, 1])
