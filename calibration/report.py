"""What a session's journal shows: ranks of the true categories, latency by stage, head motion."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from calibration import figures
from calibration.identification import identification_accuracy, permutation_p, rank_of
from calibration.stimuli import pictures_of
from calibration.study import KINDS
from calibration.tables import write_tsv
from rtgod.bundle import DecoderBundle
from rtgod.console import styled
from rtgod.errors import InputError
from rtgod.events import Trial, is_of, read_events
from rtgod.geometry import pose_of, rotation_angles, translation_of
from rtgod.journal import read_journal
from rtgod.matching import positions_of
from rtgod.messages import Answer, Float32Array, Float64Array, Hello, Int32Array, Motion, NotReady, Ranking, Run, Volume
from rtgod.motion import Registration
from rtgod.settings import MotionSettings


@dataclass(slots=True)
class RunRecord:
    """One run of a journal."""

    run: Run
    n_volumes: int = 0
    first_volume: Volume | None = None
    answers: list[Answer] = field(default_factory=list)

    def motions(self) -> list[tuple[int, Motion]]:
        """Index and head motion of every answer that has it."""
        return [(a.index, a.motion) for a in self.answers if a.motion is not None]


@dataclass(frozen=True, slots=True, eq=False)
class DecodedBlock:
    """The last ranking of one trial, beside what was true.

    Attributes
    ----------
    trial : Trial
    ranking : Ranking
    name : str
        Of the true category.
    scores : ndarray of shape (n_ranked,), float32
        In the order of the candidates that the bundle's settings rank; −inf for what a shortlist left out.
    true : int
        Position of the true category among them.
    trained_on : bool
        Whether the decoder was trained on this run: then its ranks say nothing of new ones.
    """

    trial: Trial
    ranking: Ranking
    name: str
    scores: Float32Array
    true: int
    trained_on: bool

    @property
    def rank(self) -> int:
        """Rank of the true category, from 1."""
        return rank_of(self.scores, self.true)

    @property
    def accuracy(self) -> float:
        """Share of the other candidates that score lower."""
        return identification_accuracy(self.scores, self.true)


def write_report(
    journal: Path, out: Path, bundle: Path | None, dataset: Path | None, motion_reference: Path | None, console: Console
) -> None:
    """Write `summary.json`, the tables and the figures of a journal into `out`, and print what they say.

    Raises
    ------
    InputError, JournalError, BundleError
        If an input cannot be used, or the bundle is not the session's.
    """
    hello, runs = read_runs(journal)
    if not runs:
        raise InputError(f"{journal}: no run in it; was anything sent to this server?")
    out.mkdir(parents=True, exist_ok=True)
    summary: dict[str, float | int] = _count(runs)
    summary |= _latency(runs, out, console)
    if bundle is not None and dataset is not None:
        loaded = DecoderBundle.load(bundle)
        if hello is not None and hello.bundle_id != loaded.bundle_id:
            raise InputError(f"{journal} was recorded with bundle {hello.bundle_id}, {bundle} is {loaded.bundle_id}")
        summary |= _ranks(decoded_blocks(runs, loaded, dataset), loaded, dataset, out, console)
    reference = read_spm_motion(motion_reference, runs[0].n_volumes) if motion_reference else None
    summary |= _motion(runs, reference, out, console)
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def read_runs(journal: Path) -> tuple[Hello | None, list[RunRecord]]:
    """Sort a journal's messages by run."""
    hello: Hello | None = None
    records: dict[str, RunRecord] = {}
    for message in read_journal(journal):
        match message:
            case Hello():
                hello = message
            case Run():
                records.setdefault(message.run_id, RunRecord(message))  # it may be gone on with after another
            case Volume():
                record = records[message.run_id]
                record.n_volumes += 1
                record.first_volume = record.first_volume or message
            case Ranking() | NotReady():
                records[message.run_id].answers.append(message)
    return hello, list(records.values())


def decoded_blocks(runs: Sequence[RunRecord], bundle: DecoderBundle, dataset: Path) -> list[DecodedBlock]:
    """The last ranking of every trial whose category is a candidate; one-back repeats are left out.

    Raises
    ------
    InputError
        If a run's events are not in the data set.
    """
    ranked = _ranked(bundle)
    row = {bundle.candidates[position].category_id: i for i, position in enumerate(ranked)}
    blocks = []
    for record in runs:
        found = sorted(dataset.rglob(f"{record.run.name}_events.tsv"))
        if not found:
            raise InputError(f"{dataset}: no {record.run.name}_events.tsv; give the data set that was replayed")
        trials = read_events(found[0], bundle.settings.events).trials
        if not is_of(record.run, trials):
            n_sent = len(record.run.blocks)
            raise InputError(
                f"run {record.run.run_id}: its {n_sent} trials are not the {len(trials)} that {found[0]} has by the "
                "bundle's settings; give the data set that was replayed, and replay it with --settings BUNDLE"
            )
        # Runs are recorded by their file's name, or by their own where files are called alike.
        trained_on = any(
            name == record.run.name or name.startswith(f"{record.run.name}_bold.")
            for name in bundle.provenance.get("runs", ())
        )
        latest = {a.block: a for a in record.answers if isinstance(a, Ranking) and a.block is not None}
        for block, ranking in sorted(latest.items()):
            trial = trials[block]
            if not trial.repeat and trial.category in row:
                scores = np.full(len(ranked), -np.inf, np.float32)
                scores[np.searchsorted(ranked, ranking.order)] = ranking.scores
                true = row[trial.category]
                name = bundle.candidates[ranked[true]].name
                blocks.append(DecodedBlock(trial, ranking, name, scores, true, trained_on))
    return blocks


def _ranked(bundle: DecoderBundle) -> Int32Array:
    """Positions of the candidates that the bundle's settings rank, ascending."""
    ids = [candidate.category_id for candidate in bundle.candidates]
    return positions_of(bundle.settings.ranking.candidates or ids, ids)


def read_spm_motion(path: Path, n_volumes: int) -> list[Float64Array]:
    """Poses (4, 4) from SPM's realignment parameters: translation in mm, then rotation in rad, a line per volume.

    SPM's matrix T Rx Ry Rz, with rotations of the opposite sign to ours, takes a volume's world to the template's
    (spm_matrix.m); ours is its inverse.

    Raises
    ------
    InputError
        If the table cannot be read or has another number of volumes.
    """
    try:
        first = path.read_text(encoding="utf-8-sig").split(maxsplit=1)[0]
        table = np.loadtxt(path, ndmin=2, encoding="utf-8-sig", skiprows=0 if _is_number(first) else 1)
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"motion {path}: cannot be read as a table of numbers ({error})") from error
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
        poses.append(np.linalg.inv(matrix))
    return poses


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _count(runs: Sequence[RunRecord]) -> dict[str, float | int]:
    answered = [{a.index for a in record.answers} for record in runs]
    return {
        "runs": len(runs),
        "volumes_received": sum(record.n_volumes for record in runs),
        "volumes_ranked_or_explained": sum(len(indices) for indices in answered),
        "volumes_ranked": sum(isinstance(a, Ranking) for record in runs for a in record.answers),
    }


def _latency(runs: Sequence[RunRecord], out: Path, console: Console) -> dict[str, float | int]:
    """Time from a volume's arrival to its answer; only volumes that arrived have stages."""
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
    console.print(table)
    figures.save(figures.latency(stages, total), out / "latency.png")
    p50, p99 = np.percentile(total, (50, 99))
    return {"latency_ms_p50": float(p50), "latency_ms_p99": float(p99)}


def _ranks(
    blocks: Sequence[DecodedBlock], bundle: DecoderBundle, dataset: Path, out: Path, console: Console
) -> dict[str, float | int]:
    new = [b for b in blocks if not b.trained_on]
    groups = {name: [b for b in new if b.trial.kind == kind] for name, kind in KINDS.items()}
    groups["trained_on"] = [b for b in blocks if b.trained_on]
    groups = {kind: groups[kind] for kind in groups if groups[kind]}
    n_candidates = len(_ranked(bundle))
    summary: dict[str, float | int] = {"n_candidates": n_candidates}
    columns = ("kind", "onset_s", "category_id", "category", "first", "rank", "identification_accuracy", "n_volumes")
    rows: list[tuple[object, ...]] = []
    for kind, members in groups.items():
        summary |= _print_ranks(kind, members, n_candidates, console)
        for b in members:
            of_trial = (kind, b.trial.onset_s, b.trial.category, b.name)
            rows.append((*of_trial, b.ranking.top[0], b.rank, round(b.accuracy, 6), b.ranking.n_volumes))
    write_tsv(out / "ranks.tsv", columns, rows)
    if groups:
        ranks = {kind: np.array([b.rank for b in members]) for kind, members in groups.items()}
        figures.save(figures.ranks(ranks, n_candidates), out / "ranks.png")
    if "seen" in groups:
        _examples(groups["seen"], bundle, dataset, out)
    return summary


def _print_ranks(
    kind: str, blocks: Sequence[DecodedBlock], n_candidates: int, console: Console
) -> dict[str, float | int]:
    """Print the rank of every block's true category; give the figures that sum them up."""
    label = kind.replace("_", " ")
    table = Table(title=f"{label.capitalize()}: rank among {n_candidates} categories", title_justify="left")
    for column in (label, "ranked first", "rank"):
        table.add_column(column, justify="right" if column == "rank" else "left")
    for b in blocks:
        style = "bold" if b.rank <= 10 else ""
        table.add_row(styled(b.name), styled(b.ranking.top[0]), str(b.rank), style=style)
    accuracy, median_rank = float(np.mean([b.accuracy for b in blocks])), float(np.median([b.rank for b in blocks]))
    p_value = permutation_p(np.stack([b.scores for b in blocks]), [b.true for b in blocks])
    console.print(table)
    said = styled(
        *(f"{label}: identification accuracy ", (f"{100 * accuracy:.1f} %", "bold"), f" of {len(blocks)} blocks "),
        f"(chance 50 %, permutation p = {p_value:.4f}), median rank {median_rank:g} of {n_candidates} ",
        f"(chance {(n_candidates + 1) / 2:g})",
    )
    console.print(said, end="\n\n")
    return {
        f"{kind}_identification_accuracy": accuracy,
        f"{kind}_p_value": p_value,
        f"{kind}_median_rank": median_rank,
        f"{kind}_top10": float(np.mean([b.rank <= 10 for b in blocks])),
        f"{kind}_blocks": len(blocks),
    }


def _examples(blocks: Sequence[DecodedBlock], bundle: DecoderBundle, dataset: Path, out: Path) -> None:
    """Draw what was seen beside the images of the categories that came first."""
    stimuli = dataset / "stimuli"
    shown = {p.stem: p for p in stimuli.rglob("*.png")} if stimuli.is_dir() else {}
    if not (stimuli / "candidates").is_dir():
        return
    portraits = pictures_of(stimuli / "candidates")
    rows = []
    for block in blocks:
        image = shown.get(block.trial.stimulus or "")
        first = [bundle.candidates[i] for i in block.ranking.order[:5]]
        if image is not None and all(c.category_id in portraits for c in first):
            is_true = [c.category_id == block.trial.category for c in first]
            pictures = [(c.name, portraits[c.category_id], true) for c, true in zip(first, is_true, strict=True)]
            rows.append((block.name, image, block.rank, pictures))
    if rows:
        figures.save(figures.examples(rows[: figures.N_EXAMPLES]), out / "decoded.png")


def _motion(
    runs: Sequence[RunRecord], reference: Sequence[Float64Array] | None, out: Path, console: Console
) -> dict[str, float | int]:
    courses = [(record.run.run_id, record.run.tr_s, record.motions()) for record in runs if record.motions()]
    if not courses:
        return {}
    theirs = None
    summary: dict[str, float | int] = {}
    if reference is not None:
        registration = _registration(runs[0])
        theirs = np.array([_as_people_read_it(pose, registration.centre_mm) for pose in reference])
        apart_mm = np.array(
            [
                _mean_displacement_mm(pose_of(motion, registration.centre_mm), reference[index], registration.points_mm)
                for index, motion in runs[0].motions()
            ]
        )
        summary = {"spm_median_diff_mm": float(np.median(apart_mm)), "spm_max_diff_mm": float(apart_mm.max())}
        said = styled(
            "head motion against SPM's, mean displacement over the brain: ",
            *((f"{np.median(apart_mm):.3f} mm", "bold"), f" in the median of {len(apart_mm)} volumes, "),
            *((f"{apart_mm.max():.3f} mm", "bold"), " in the worst"),
        )
        console.print(said)
    figures.save(figures.motion(courses, theirs), out / "motion.png")
    return summary


def _registration(record: RunRecord) -> Registration:
    """The registration of a run that was aligned to its own first volume."""
    if record.first_volume is None:
        raise InputError(f"run {record.run.run_id}: no volumes to compare the motion of")
    affine = record.run.affine
    return Registration(record.first_volume.data.astype(np.float32), affine, record.run.shape, affine, MotionSettings())


def _as_people_read_it(pose: Float64Array, centre_mm: Float64Array) -> Float64Array:
    return np.concatenate([translation_of(pose, centre_mm), np.degrees(rotation_angles(pose[:3, :3]))])


def _mean_displacement_mm(a: Float64Array, b: Float64Array, points_mm: Float64Array) -> float:
    difference = points_mm @ (a - b)[:3, :3].T + (a - b)[:3, 3]
    return float(np.linalg.norm(difference, axis=1).mean())
