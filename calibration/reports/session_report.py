"""Report of a session's journal: ranks of the true categories, latency by stage, head motion."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console, RenderableType
from rich.table import Table

from calibration.datasets.foreign_runs import usual_of, why_foreign
from calibration.evaluation.accuracy import MOST_IN_MATRIX, Confidences, are_new, confusion_of, units_of
from calibration.features.stimuli import pictures_of
from calibration.metrics.choices import remarks_on_choices
from calibration.metrics.decisions import Decisions
from calibration.metrics.identification import identification_accuracy, permutation_test, rank_of, shuffled_accuracy
from calibration.metrics.permutation import SIGNIFICANT
from calibration.metrics.reliability import calibration
from calibration.metrics.statistics import FEW_SAMPLES, share_interval
from calibration.reports import deciding, figures, reliability
from calibration.reports.tables import write_tsv
from calibration.samples.left_out import (
    AFTER_END,
    COLUMNS,
    HEADER,
    NO_CANDIDATE,
    NO_TRIAL,
    NOT_SENT,
    ONE_BACK,
    UNNAMED,
    LeftOutCounts,
    tally,
)
from calibration.samples.study import KINDS
from rtgod.bundle import DecoderBundle
from rtgod.console import styled
from rtgod.decoding.category_index import positions_of
from rtgod.errors import InputError, what_went_wrong
from rtgod.events.table import Trial, beyond, read_events
from rtgod.events.table import blocks_of as blocks_in
from rtgod.journal.journal import read_journal
from rtgod.messages import (
    Answer,
    Float32Array,
    Float64Array,
    Hello,
    Int32Array,
    Motion,
    NewBlock,
    NotReady,
    Ranking,
    Reason,
    Run,
    Volume,
)
from rtgod.preprocessing.geometry import pose_of, rotation_angles, translation_of
from rtgod.preprocessing.registration import Registration
from rtgod.preprocessing.windows import Window
from rtgod.settings import MotionSettings
from rtgod.text import number_of

#: Names of all files that a report may have; those of an earlier report are removed.
FILES = (
    "summary.json", "left_out.tsv", "ranks.tsv",
    "latency.png", "ranks.png", "decoded.png", "confusion.png", "motion.png", reliability.PICTURE,
)  # fmt: skip


#: Blocks of runs that the decoder was trained on.
_TRAINED_ON = "trained_on"


@dataclass(slots=True)
class JournaledRun:
    """Run of a journal, with the answers to its volumes."""

    run: Run
    n_volumes: int = 0
    first_volume: Volume | None = None
    answers: list[Answer] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Number of volumes up to the last answered one, those that never arrived included."""
        return max((answer.index + 1 for answer in self.answers), default=0)

    def motions(self) -> list[tuple[int, Motion]]:
        """Return index and head motion of every answer that has it."""
        return [(a.index, a.motion) for a in self.answers if a.motion is not None]


@dataclass(frozen=True, slots=True, eq=False)
class DecodedBlock:
    """Last ranking of one trial, with the true category.

    Attributes
    ----------
    trial : Trial
    ranking : Ranking
    name : str
        Name of the true category.
    scores : ndarray of shape (n_ranked,), float32
        Scores in the order of the candidates that the bundle's settings rank; −inf for those outside the shortlist.
    true : int
        Position of the true category among these candidates.
    trained_on : bool
        Whether the decoder was trained on this run: its ranks are then no test of new runs.
    shown : tuple of Ranking
        All rankings of the trial, in their order.
    """

    trial: Trial
    ranking: Ranking
    name: str
    scores: Float32Array
    true: int
    trained_on: bool
    shown: tuple[Ranking, ...]

    @property
    def rank(self) -> int:
        """Rank of the true category, from 1."""
        return rank_of(self.scores, self.true)

    @property
    def accuracy(self) -> float:
        """Share of the other candidates that score lower."""
        return identification_accuracy(self.scores, self.true)


def write_report(
    journal: Path,
    out: Path,
    bundle: Path | None,
    dataset: Path | None,
    motion_reference: Path | None,
    console: Console,
    events: Sequence[Path] = (),
) -> None:
    """Write `summary.json`, the tables and the figures of a journal into `out`, then print the results.

    Parameters
    ----------
    journal : Path
    out : Path
        Folder; the files of an earlier report in it are removed.
    bundle : Path or None
        The session's bundle; without it, trials have no ranks.
    dataset : Path or None
        Folder that is searched for the runs' events tables, and for images in its `stimuli`.
    motion_reference : Path or None
        SPM's realignment parameters of the first run.
    console : Console
        Printed to after all files are written: a failure to print costs no file.
    events : sequence of Path
        Tables of the runs' events: named as the runs, or else one for each run, in the journal's order.

    Raises
    ------
    InputError, JournalError, BundleError
        If an input cannot be used, or the bundle is not the session's.
    """
    session = read_session(journal, bundle, dataset, events)
    runs, loaded, parts = session.runs, session.bundle, list[RenderableType]()
    reference = read_spm_motion(motion_reference, runs[0].length) if motion_reference else None
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (out / name).unlink(missing_ok=True)
    summary: dict[str, float | int] = _count(runs)
    summary |= _latency(runs, out, parts)
    if loaded is not None and session.tables is not None:
        summary |= _ranks(session.blocks, loaded, dataset, out, parts)
        summary |= _reliability(session.blocks, loaded, out, parts)
    else:
        parts.append(_no_ranks(loaded, session.tables))
    summary |= _motion(runs, reference, loaded, out, parts)
    summary |= _left_out(session.tallies, session.foreign, out, parts)
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    for part in parts:
        console.print(part)


@dataclass(frozen=True, slots=True, eq=False)
class SessionRead:
    """Contents of a report.

    Attributes
    ----------
    runs : tuple of JournaledRun
        Runs of one subject, grid and repetition time.
    bundle : DecoderBundle or None
    tables : mapping of str to Path, or None
        Events table of each run, by its id; None if none are asked for.
    blocks : tuple of DecodedBlock
    tallies : tuple of LeftOutCounts
    foreign : mapping of str to str
        Reasons why runs are left out, or have no ranks, by their id.
    """

    runs: tuple[JournaledRun, ...]
    bundle: DecoderBundle | None
    tables: Mapping[str, Path] | None
    blocks: tuple[DecodedBlock, ...]
    tallies: tuple[LeftOutCounts, ...]
    foreign: Mapping[str, str]


def read_session(journal: Path, bundle: Path | None, dataset: Path | None, events: Sequence[Path] = ()) -> SessionRead:
    """Read the contents of a report.

    Parameters
    ----------
    journal : Path
    bundle, dataset, events
        The same as in `write_report`.

    Raises
    ------
    InputError, JournalError, BundleError
        If an input cannot be used, or the bundle is not the session's.
    """
    hello, records = read_runs(journal)
    if not records:
        raise InputError(f"{journal}: no run in it; was anything sent to this server?")
    loaded = None
    if bundle is not None:
        loaded = DecoderBundle.load(bundle)
        if hello is not None and hello.bundle_id != loaded.bundle_id:
            raise InputError(f"{journal} was recorded with bundle {hello.bundle_id}, {bundle} is {loaded.bundle_id}")
    tables = tables_of(records, dataset, events) if dataset is not None or events else None
    runs, foreign = _of_one_study(records, loaded)
    blocks: list[DecodedBlock] = []
    tallies = [_volumes_of(record) for record in runs]
    if loaded is not None and tables is not None:
        runs_ranked = [record for record in runs if record.run.run_id in tables]
        foreign |= {r.run.run_id: "no events table: no ranks of it" for r in runs if r not in runs_ranked}
        blocks, trials, mismatched = blocks_and_trials(runs_ranked, loaded, tables)
        foreign |= mismatched
        tallies += trials
    order = {record.run.run_id: place for place, record in enumerate(runs)}
    tallies.sort(key=lambda counts: order[counts.of])
    return SessionRead(tuple(runs), loaded, tables, tuple(blocks), tuple(tallies), foreign)


def plan_report(
    journal: Path, bundle: Path | None, dataset: Path | None, console: Console, events: Sequence[Path] = ()
) -> None:
    """Print what a report would contain and leave out.

    Parameters
    ----------
    journal : Path
    bundle, dataset, console, events
        The same as in `write_report`.

    Raises
    ------
    InputError, JournalError, BundleError
        If an input cannot be used, or the bundle is not the session's.
    """
    session = read_session(journal, bundle, dataset, events)
    for record in session.runs:
        table = (session.tables or {}).get(record.run.run_id)
        console.print(
            styled(
                (record.run.run_id, "bold"),
                f": {record.n_volumes} volumes, {len(record.answers)} answers, events ",
                "of none" if table is None else str(table),
            ),
            soft_wrap=True,
        )
    if session.bundle is None or session.tables is None:
        console.print(_no_ranks(session.bundle, session.tables))
    for part in _said_left_out(session.tallies, session.foreign):
        console.print(part)


def _no_ranks(bundle: DecoderBundle | None, tables: Mapping[str, Path] | None) -> str:
    needed = [*(["--bundle"] if bundle is None else []), *(["--dataset or --events"] if tables is None else [])]
    return f"no ranks: they need {', and '.join(needed)}"


def _of_one_study(
    records: Sequence[JournaledRun], bundle: DecoderBundle | None
) -> tuple[list[JournaledRun], dict[str, str]]:
    """Select the runs of one subject, grid and repetition time; return reasons why others are left out, by their id."""
    subject = None if bundle is None else str(bundle.provenance.get("subject", ""))
    usual = usual_of([record.run for record in records], subject)
    reasons = {record.run.run_id: why_foreign(record.run, usual) for record in records}
    return [record for record in records if not reasons[record.run.run_id]], {k: v for k, v in reasons.items() if v}


def _volumes_of(record: JournaledRun) -> LeftOutCounts:
    """Count the volumes of a run by their fate."""
    of_volume = {a.index: "" if isinstance(a, Ranking) else a.reason.value for a in record.answers}
    unanswered = max(record.n_volumes - sum(reason != Reason.LOST_VOLUME for reason in of_volume.values()), 0)
    return tally(record.run.run_id, "volumes", [*of_volume.values(), *["not answered"] * unanswered])


def _left_out(
    tallies: Sequence[LeftOutCounts], foreign: Mapping[str, str], out: Path, parts: list[RenderableType]
) -> dict[str, float | int]:
    """Write and print the trials, volumes and runs that are left out, with the reasons."""
    rows: list[tuple[object, ...]] = [counts.row() for counts in tallies]
    rows += [(run_id, "run", 1, 0, 1, why) for run_id, why in foreign.items()]
    write_tsv(out / "left_out.tsv", COLUMNS, rows)
    parts += _said_left_out(tallies, foreign)
    trials = [counts for counts in tallies if counts.what != "volumes"]
    summary: dict[str, float | int] = {"runs_left_out": len(foreign)}
    if trials:
        summary["trials_left_out"] = sum(counts.n_left_out for counts in trials)
    for reason in (Reason.LOST_VOLUME, Reason.BEHIND, Reason.MOTION, Reason.BAD_VOLUME):
        n = sum(counts.left_out.get(reason.value, 0) for counts in tallies if counts.what == "volumes")
        summary[f"volumes_{reason.name.lower().removesuffix('_volume')}"] = n
    return summary


def _said_left_out(tallies: Sequence[LeftOutCounts], foreign: Mapping[str, str]) -> list[RenderableType]:
    table = Table(title="What was used, and what was left out", title_justify="left")
    for name in HEADER:
        is_number = name in ("in all", "used", "left out")
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for counts in tallies:
        set_name, things, *numbers, why = counts.row()
        table.add_row(styled(set_name), styled(things), *map(str, numbers), styled(why))
    return [table, *(styled(("left out", "yellow"), f" {run_id}: {why}") for run_id, why in foreign.items())]


def read_runs(journal: Path) -> tuple[Hello | None, list[JournaledRun]]:
    """Sort a journal's messages by run.

    Parameters
    ----------
    journal : Path
    """
    hello: Hello | None = None
    records: dict[str, JournaledRun] = {}
    for message in read_journal(journal):
        match message:
            case Hello():
                hello = message
            case Run():
                records.setdefault(message.run_id, JournaledRun(message))  # a run may continue after another
            case NewBlock():
                record = records[message.run_id]
                record.run = message.in_run(record.run)
            case Volume():
                record = records[message.run_id]
                record.n_volumes += 1
                record.first_volume = record.first_volume or message
            case Ranking() | NotReady():
                records[message.run_id].answers.append(message)
    return hello, list(records.values())


def tables_of(records: Sequence[JournaledRun], dataset: Path | None, events: Sequence[Path] = ()) -> dict[str, Path]:
    """Find the events table of each run, by the run's id; runs without a table are missing.

    Parameters
    ----------
    records : sequence of JournaledRun
    dataset : Path or None
        Folder that is searched for tables named after the runs.
    events : sequence of Path
        Given tables: named after the runs, or else one for each run that no table is named after, in order.

    Raises
    ------
    InputError
        If no run has a table, or it is unclear which run a table belongs to.
    """
    if absent := [path for path in events if not path.is_file()]:
        raise InputError(f"--events {absent[0]}: no such file")
    tables: dict[str, Path] = {}
    unnamed = list(events)
    for record in records:
        names = [f"{name}_events.tsv" for name in (record.run.run_id, record.run.name)]
        if named := sorted((path for path in unnamed if path.name in names), key=lambda path: names.index(path.name)):
            tables[record.run.run_id] = named[0]
            unnamed.remove(named[0])
    runs_without = [record for record in records if record.run.run_id not in tables]
    if len(unnamed) != len(runs_without):
        # Acquisitions of one run may share a table; the remaining tables then belong to the other runs.
        by_name = {path.name: path for path in reversed(events)}
        for record in runs_without:
            name = f"{record.run.name}_events.tsv"
            if name in by_name:
                tables[record.run.run_id] = by_name[name]
            elif dataset is not None and (inside := sorted(dataset.rglob(name))):
                tables[record.run.run_id] = inside[0]
        runs_without = [record for record in runs_without if record.run.run_id not in tables]
    if unnamed and len(unnamed) != len(runs_without):
        listed = ", ".join(record.run.run_id for record in runs_without) or "none"
        raise InputError(
            f"{number_of(len(unnamed), 'table')} of events for {number_of(len(runs_without), 'run')} without one "
            f"({listed}); give --events once for "
            "each run, in the journal's order, or name the tables RUN_events.tsv"
        )
    tables |= {record.run.run_id: path for record, path in zip(runs_without, unnamed, strict=False)}
    if not tables:
        raise InputError(
            f"{dataset}: no {records[0].run.name}_events.tsv; give the data set that was replayed, or the runs' tables "
            "with --events"
        )
    return tables


def blocks_and_trials(
    runs: Sequence[JournaledRun], bundle: DecoderBundle, tables: Mapping[str, Path]
) -> tuple[list[DecodedBlock], list[LeftOutCounts], dict[str, str]]:
    """Return the last ranking of every trial, counts of all trials, and runs whose tables belong to others.

    Parameters
    ----------
    runs : sequence of JournaledRun
    bundle : DecoderBundle
    tables : mapping of str to Path
        Events table of each of the runs, by its id.

    Returns
    -------
    blocks : list of DecodedBlock
        Blocks of trials whose category is a candidate, without one-back repeats.
    tallies : list of LeftOutCounts
        Counts of each run's trials, seen and imagined, and of blocks without a trial.
    mismatched : dict of str to str
        Reason why a run has no blocks, by its id.
    """
    ranked = _ranked(bundle)
    row = {bundle.candidates[position].category_id: i for i, position in enumerate(ranked)}
    blocks: list[DecodedBlock] = []
    tallies: list[LeftOutCounts] = []
    mismatched: dict[str, str] = {}
    for record in runs:
        path = tables[record.run.run_id]
        trials = read_events(path, bundle.settings.events, record.run.tr_s).trials
        _check_times(path, record, trials)
        block_of = blocks_of_trials(record.run, trials)
        if record.run.blocks and len(block_of) < len(record.run.blocks) / 2:
            mismatched[record.run.run_id] = (
                f"{path.name} has {number_of(len(trials), 'trial')} by the bundle's settings, and the run "
                f"{len(record.run.blocks)} "
                f"blocks, of which {len(block_of)} agree: these are another run's events, or it was replayed by other "
                "settings (replay it with --settings BUNDLE); no ranks of it"
            )
            continue
        # Provenance names runs by their file, or by a name of their own if files share a name.
        trained_on = any(
            name == record.run.name or name.startswith(f"{record.run.name}_bold.")
            for name in bundle.provenance.get("runs", ())
        )
        shown: dict[int, list[Ranking]] = {}
        for answer in record.answers:
            if isinstance(answer, Ranking) and answer.block is not None:
                shown.setdefault(answer.block, []).append(answer)
        latest = {block: rankings[-1] for block, rankings in shown.items()}
        why_not = _why_not_ranked(record, bundle)
        end_s = record.run.tr_s * max(record.n_volumes, record.run.n_volumes or 0)
        reasons: dict[str, list[str]] = {kind: [] for kind in KINDS.values()}
        for i, trial in enumerate(trials):
            ranking = latest.get(block_of.get(i, -1))
            reason, why_unsent = "", AFTER_END if trial.onset_s >= end_s else NOT_SENT
            if trial.repeat:
                reason = ONE_BACK
            elif not trial.category:
                reason = UNNAMED
            elif trial.category not in row:
                reason = NO_CANDIDATE
            elif ranking is None:
                reason = why_not.get(block_of.get(i, -1), why_unsent if i not in block_of else "never ranked")
            reasons[trial.kind].append(reason)
            if not reason and ranking is not None:
                scores = np.full(len(ranked), -np.inf, np.float32)
                scores[np.searchsorted(ranked, ranking.order)] = ranking.scores
                true = row[trial.category]
                name = bundle.candidates[ranked[true]].name
                of_trial = tuple(shown[block_of[i]])
                blocks.append(DecodedBlock(trial, ranking, name, scores, true, trained_on, of_trial))
        tallies += [
            tally(record.run.run_id, f"trials {name}", reasons[kind]) for name, kind in KINDS.items() if reasons[kind]
        ]
        if n_others := len(record.run.blocks) - len(block_of):
            tallies.append(LeftOutCounts(record.run.run_id, "blocks sent", len(block_of), {NO_TRIAL: n_others}))
    return blocks, tallies, mismatched


def blocks_of_trials(run: Run, trials: Sequence[Trial]) -> dict[int, int]:
    """Match trials to blocks of the run, by positions: at the same time, with the same label if both have one.

    Parameters
    ----------
    run : Run
        Run with its blocks as they were sent.
    trials : sequence of Trial
    """
    block_of: dict[int, int] = {}
    expected = blocks_in(trials)
    for position, block in enumerate(run.blocks):
        for i, trial in enumerate(expected):
            is_near = abs(trial.onset_s - block.onset_s) <= run.tr_s / 2
            if i not in block_of and is_near and (not block.label or not trial.label or block.label == trial.label):
                block_of[i] = position
                break
    return block_of


def _check_times(path: Path, record: JournaledRun, trials: Sequence[Trial]) -> None:
    """Refuse a table whose trials lie outside of the run, with the words of the other commands."""
    try:
        beyond(trials, record.run.n_volumes, record.run.tr_s)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _why_not_ranked(record: JournaledRun, bundle: DecoderBundle) -> dict[int, str]:
    """Return the most common reason why volumes of each block gave no ranking."""
    window = Window(record.run, bundle.settings.window)
    reasons: dict[int, Counter[str]] = {}
    for answer in record.answers:
        if isinstance(answer, NotReady):
            block, _ = window.position(answer.index)
            if block is not None:
                reasons.setdefault(block, Counter())[answer.reason.value] += 1
    return {block: f"never ranked: {counts.most_common(1)[0][0]}" for block, counts in reasons.items()}


def _ranked(bundle: DecoderBundle) -> Int32Array:
    """Return the positions of the candidates that the bundle's settings rank, ascending."""
    ids = [candidate.category_id for candidate in bundle.candidates]
    return positions_of(bundle.settings.ranking.candidates or ids, ids)


def read_spm_motion(path: Path, n_volumes: int) -> list[Float64Array]:
    """Read poses (4, 4) from SPM's realignment parameters.

    SPM's matrix T Rx Ry Rz, with rotations of the opposite sign to ours, maps a volume's world to the template's
    (spm_matrix.m); our pose is its inverse.

    Parameters
    ----------
    path : Path
        Table with a line per volume: translation in mm, then rotation in rad; a heading is skipped.
    n_volumes : int
        Number of lines that the table must have.

    Raises
    ------
    InputError
        If the table cannot be read or has another number of volumes.
    """
    try:
        first_word = path.read_text(encoding="utf-8-sig").split(maxsplit=1)[0]
        table = np.loadtxt(path, ndmin=2, encoding="utf-8-sig", skiprows=0 if _is_number(first_word) else 1)
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"motion {path}: cannot be read as a table of numbers ({what_went_wrong(error)})") from error
    if table.shape != (n_volumes, 6):
        raise InputError(f"motion {path}: {table.shape} numbers, where {n_volumes} volumes × 6 are needed")
    poses = []
    for x, y, z, *angles in table:
        (ca, cb, cc), (sa, sb, sc) = np.cos(angles), np.sin(angles)
        matrix = np.eye(4)
        matrix[:3, :3] = (
            np.array([[1, 0, 0], [0, ca, sa], [0, -sa, ca]])
            @ np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
            @ np.array([[cc, sc, 0], [-sc, cc, 0], [0, 0, 1]])
        )
        matrix[:3, 3] = x, y, z
        poses.append(np.asarray(np.linalg.inv(matrix), np.float64))
    return poses


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _count(runs: Sequence[JournaledRun]) -> dict[str, float | int]:
    answered = [{a.index for a in record.answers} for record in runs]
    return {
        "runs": len(runs),
        "volumes_received": sum(record.n_volumes for record in runs),
        "volumes_ranked_or_explained": sum(len(indices) for indices in answered),
        "volumes_ranked": sum(isinstance(a, Ranking) for record in runs for a in record.answers),
    }


def _latency(runs: Sequence[JournaledRun], out: Path, parts: list[RenderableType]) -> dict[str, float | int]:
    """Report the time from a volume's arrival to its answer; only volumes that arrived have stages."""
    timed = [a for record in runs for a in record.answers if a.stage_ms]
    if not timed:
        return {}
    names = list(dict.fromkeys(name for a in timed for name in a.stage_ms))
    stages = {name: np.array([a.stage_ms[name] for a in timed if name in a.stage_ms]) for name in names}
    total = np.array([sum(a.stage_ms.values()) for a in timed])
    table = Table(title="Latency in the server, milliseconds", title_justify="left")
    for column in ("stage", "median", "99th percentile", "volumes"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, values in [*stages.items(), ("total", total)]:
        p50, p99 = np.percentile(values, (50, 99))
        style = "bold" if name == "total" else ""
        table.add_row(styled(name), f"{p50:.2f}", f"{p99:.2f}", str(len(values)), style=style)
    parts.append(table)
    figures.save(figures.latency(stages, total), out / "latency.png")
    p50, p99 = np.percentile(total, (50, 99))
    return {"latency_ms_p50": float(p50), "latency_ms_p99": float(p99)}


def _ranks(
    blocks: Sequence[DecodedBlock], bundle: DecoderBundle, dataset: Path | None, out: Path, parts: list[RenderableType]
) -> dict[str, float | int]:
    new = [b for b in blocks if not b.trained_on]
    groups = {name: [b for b in new if b.trial.kind == kind] for name, kind in KINDS.items()}
    groups[_TRAINED_ON] = [b for b in blocks if b.trained_on]
    groups = {kind: groups[kind] for kind in groups if groups[kind]}
    names = [bundle.candidates[position].name for position in _ranked(bundle)]
    n_candidates = len(names)
    # A bundle without chances does not say what it was trained on.
    chances = bundle.chances or bundle.imagined_chances
    summary: dict[str, float | int] = {"n_candidates": n_candidates}
    columns = (
        "kind", "onset_s", "category_id", "category", "first", "rank", "identification_accuracy", "n_volumes", "run",
    )  # fmt: skip
    rows: list[tuple[object, ...]] = []
    for kind, members in groups.items():
        are_unknown = chances is not None and are_new((b.trial.category for b in members), chances.trained)
        summary |= _sum_up(kind, members, names, parts, new=are_unknown)
        for b in members:
            of_trial = (kind, b.trial.onset_s, b.trial.category, b.name)
            rows.append(
                (*of_trial, b.ranking.top[0], b.rank, round(b.accuracy, 6), b.ranking.n_volumes, b.ranking.run_id)
            )
    write_tsv(out / "ranks.tsv", columns, rows)
    if groups:
        labels = {_TRAINED_ON: "trained on: a fit, no test"}
        ranks = {labels.get(kind, kind): np.array([b.rank for b in members]) for kind, members in groups.items()}
        figures.save(figures.ranks(ranks, n_candidates), out / "ranks.png")
    if "seen" in groups:
        if dataset is not None:
            _examples(groups["seen"], bundle, dataset, out)
        if n_candidates <= MOST_IN_MATRIX:
            matrix = confusion_of(np.stack([b.scores for b in groups["seen"]]), [b.true for b in groups["seen"]])
            figures.save(figures.confusion(matrix, names), out / "confusion.png")
    return summary


def _sum_up(
    kind: str, blocks: Sequence[DecodedBlock], names: Sequence[str], parts: list[RenderableType], *, new: bool
) -> dict[str, float | int]:
    """Tabulate the rank of every block's true category, and return the figures that sum them up.

    `new` says that the decoder was trained on none of the blocks' categories.
    """
    label, n_candidates = kind.replace("_", " "), len(names)
    table = Table(title=f"{label.capitalize()}: rank among {n_candidates} categories", title_justify="left")
    for column in (label, "ranked first", "rank"):
        table.add_column(column, justify="right" if column == "rank" else "left")
    for b in blocks:
        # Bold only for ranks that chance seldom gives.
        style = "bold" if b.rank <= min(10, n_candidates // 10) or b.rank == 1 else ""
        table.add_row(styled(b.name), styled(b.ranking.top[0]), str(b.rank), style=style)
    true = [b.true for b in blocks]
    accuracies = np.array([b.accuracy for b in blocks])
    # Rankings of averages over a category's trials so far share most of their trials, and err alike.
    err_alike = new or any(b.ranking.n_blocks > 1 for b in blocks)
    units, unit_of_each = units_of(true, new=err_alike)
    accuracy, low, high = share_interval(accuracies, unit_of_each)
    median_rank = float(np.median([b.rank for b in blocks]))
    scores = np.stack([b.scores for b in blocks])
    test = permutation_test(scores, true, [b.ranking.run_id for b in blocks], new=err_alike)
    few = f" (fewer than {FEW_SAMPLES} blocks: too few to say much)" if len(blocks) < FEW_SAMPLES else ""
    interval = "" if np.isnan(low) else f"; 90 % interval over {units} {100 * low:.1f}–{100 * high:.1f} %"
    p_value = f"permutation p = {test.p_value:.4f}"
    if test.least > SIGNIFICANT:
        p_value += f", which no result of so few could bring below {test.least:.2g}"
    sentence = styled(
        *(
            f"{label}: identification accuracy ",
            (f"{100 * accuracy:.1f} %", "bold"),
            f" of {number_of(len(blocks), 'block')}{few}: ",
        ),
        f"of the other categories, the share ranked below the true one (chance 50 %, "
        f"{100 * shuffled_accuracy(scores, true):.1f} % with labels shuffled{interval}, {p_value}), ",
        f"median rank {median_rank:g} of {n_candidates} (chance {(n_candidates + 1) / 2:g})",
    )
    summary = {
        f"{kind}_identification_accuracy": accuracy,
        f"{kind}_p_value": test.p_value,
        f"{kind}_median_rank": median_rank,
        f"{kind}_top10": float(np.mean([b.rank <= 10 for b in blocks])),
        f"{kind}_blocks": len(blocks),
        f"{kind}_low": low,
        f"{kind}_high": high,
    }
    if n_candidates <= 10:  # all categories are among the first ten
        del summary[f"{kind}_top10"]
    summary = {name: value for name, value in summary.items() if not np.isnan(value)}
    if kind == _TRAINED_ON:
        sentence = styled(
            (f"{label}: a fit, no test", "bold"),
            f": the decoder was trained on these runs, so that it ranks {100 * accuracy:.1f} % of the others below the "
            f"true category ({len(blocks)} blocks) says nothing of new ones",
        )
        parts += [table, sentence, ""]
        of_a_fit = ("identification_accuracy", "median_rank", "top10", "blocks")
        return {name: summary[name] for name in (f"{kind}_{figure}" for figure in of_a_fit) if name in summary}
    parts += [table, sentence, *map(styled, remarks_on_choices(label, scores, true, names)), ""]
    return summary


def _reliability(
    blocks: Sequence[DecodedBlock], bundle: DecoderBundle, out: Path, parts: list[RenderableType]
) -> dict[str, float | int]:
    """Compare the chances of all rankings of new runs with what came true."""
    ranked = _ranked(bundle)
    by_kind: dict[str, Confidences] = {}
    for kind, trial_type in KINDS.items():
        of_kind = [block for block in blocks if block.trial.kind == trial_type and not block.trained_on]
        confidences = reliability.shown_confidences([(int(ranked[block.true]), block.shown) for block in of_kind])
        if confidences is not None:
            by_kind[kind] = confidences
        elif of_kind:
            parts.append(styled((kind, "yellow"), ": how sure these rankings were is not known, and they did not say"))
    if not by_kind or len(ranked) < 2:
        return {}
    table = Table(title="Confidence of what was shown, volume by volume", title_justify="left")
    for column in reliability.HEADER:
        table.add_column(column, justify="left" if column in ("", "true category") else "right")
    for row in reliability.rows_of(by_kind, len(ranked)):
        table.add_row(*map(styled, row))
    parts += [table, reliability.MEANING]
    decisions = deciding.decided(by_kind)
    parts.append(_table_of_decisions(decisions))
    parts += [styled(f"{deciding.sentence(kind, of)}.") for kind, of in decisions.items()]
    parts.append(deciding.MEANING)
    figures.save(reliability.figure_of(by_kind, len(ranked)), out / reliability.PICTURE)
    found = {kind: calibration(of.probability[:, 0], of.hit[:, 0], of.trials) for kind, of in by_kind.items()}
    return (
        {f"{kind}_calibration_error": of.error for kind, of in found.items()}
        | {f"{kind}_calibration_error_by_chance": of.of_chance for kind, of in found.items()}
        | deciding.figures_of(decisions)
    )


def _table_of_decisions(decisions: Mapping[str, Decisions]) -> Table:
    """Tabulate after how many volumes rankings were sure."""
    table = Table(title=deciding.TITLE, title_justify="left")
    for column in deciding.HEADER:
        table.add_column(column, justify="right" if column else "left")
    for row in deciding.rows_of(decisions):
        table.add_row(*map(styled, row))
    return table


def _examples(blocks: Sequence[DecodedBlock], bundle: DecoderBundle, dataset: Path, out: Path) -> None:
    """Draw images that were seen beside those of the categories ranked first: best, median and worst blocks."""
    stimuli = dataset / "stimuli"
    shown = {p.stem: p for p in stimuli.rglob("*.png")} if stimuli.is_dir() else {}
    if not (stimuli / "candidates").is_dir():
        return
    portraits = pictures_of(stimuli / "candidates")
    rows = []
    for block in sorted(blocks, key=lambda block: block.rank):
        image = shown.get(block.trial.stimulus or "")
        top = [bundle.candidates[i] for i in block.ranking.order[:5]]
        if image is not None and all(c.category_id in portraits for c in top):
            is_true = [c.category_id == block.trial.category for c in top]
            pictures = [(c.name, portraits[c.category_id], true) for c, true in zip(top, is_true, strict=True)]
            rows.append((block.name, image, block.rank, pictures))
    if rows:
        chosen = best_median_worst(len(rows), figures.N_EXAMPLES)
        figure = figures.examples([rows[i] for _, i in chosen], labels=[name for name, _ in chosen])
        figures.save(figure, out / "decoded.png")


def best_median_worst(n: int, n_chosen: int) -> list[tuple[str, int]]:
    """Choose positions in a list sorted from best to worst: a third from each end and a third from the middle.

    Parameters
    ----------
    n, n_chosen : int
        Length of the list, and maximum number to choose, a multiple of three.
    """
    n_each = n_chosen // 3
    if n <= n_chosen:
        return [("best" if i == 0 else "worst" if i == n - 1 else "", i) for i in range(n)]
    middle = (n - n_each) // 2
    groups = {"best": range(n_each), "median": range(middle, middle + n_each), "worst": range(n - n_each, n)}
    return [(name, position) for name, positions in groups.items() for position in positions]


def _motion(
    runs: Sequence[JournaledRun],
    reference: Sequence[Float64Array] | None,
    bundle: DecoderBundle | None,
    out: Path,
    parts: list[RenderableType],
) -> dict[str, float | int]:
    courses = [(record.run.run_id, record.run.tr_s, record.motions()) for record in runs if record.motions()]
    if not courses:
        return {}
    reference_motion = None
    summary: dict[str, float | int] = {}
    if reference is not None:
        registration = _registration(runs[0])
        reference_motion = np.array([_as_people_read_it(pose, registration.centre_mm) for pose in reference])
        apart_mm = np.array(
            [
                _mean_displacement_mm(pose_of(motion, registration.centre_mm), reference[index], registration.points_mm)
                for index, motion in runs[0].motions()
            ]
        )
        summary = {"spm_median_diff_mm": float(np.median(apart_mm)), "spm_max_diff_mm": float(apart_mm.max())}
        sentence = styled(
            "head motion against SPM's, mean displacement over the brain: ",
            *((f"{np.median(apart_mm):.3f} mm", "bold"), f" in the median of {len(apart_mm)} volumes, "),
            *((f"{apart_mm.max():.3f} mm", "bold"), " in the worst"),
        )
        parts.append(sentence)
    marks = {
        record.run.run_id: figures.RunMarks(
            trials_s=[(block.onset_s, block.onset_s + block.duration_s) for block in record.run.blocks],
            censored=[a.index for a in record.answers if isinstance(a, NotReady) and a.reason is Reason.MOTION],
            lost=[a.index for a in record.answers if isinstance(a, NotReady) and a.reason is Reason.LOST_VOLUME],
        )
        for record in runs
    }
    if bundle is not None and not bundle.settings.motion.estimate:
        parts.append(styled("head motion was not estimated (motion.estimate = false), so none is drawn"))
        return summary
    if not any(any((*motion.translation_mm, *motion.rotation_deg)) for *_, of_run in courses for _, motion in of_run):
        parts.append(
            styled(
                "every volume lies exactly where the template does, as where head motion is not estimated: none is "
                "drawn"
            )
        )
        return summary
    limit_mm = None if bundle is None else bundle.settings.censoring.fd_mm
    figures.save(figures.motion(courses, reference_motion, marks, limit_mm), out / "motion.png")
    return summary


def _registration(record: JournaledRun) -> Registration:
    """Return the registration of a run that was aligned to its own first volume."""
    if record.first_volume is None:
        raise InputError(f"run {record.run.run_id}: no volumes to compare the motion of")
    affine = record.run.affine
    return Registration(record.first_volume.data.astype(np.float32), affine, record.run.shape, affine, MotionSettings())


def _as_people_read_it(pose: Float64Array, centre_mm: Float64Array) -> Float64Array:
    return np.concatenate([translation_of(pose, centre_mm), np.degrees(rotation_angles(pose[:3, :3]))])


def _mean_displacement_mm(a: Float64Array, b: Float64Array, points_mm: Float64Array) -> float:
    difference = points_mm @ (a - b)[:3, :3].T + (a - b)[:3, 3]
    return float(np.linalg.norm(difference, axis=1).mean())
