"""Test of blinding: whether somebody who runs a session can tell a run's condition from all that is open to them.

Runs of each condition are rehearsed with a simulated screen, scanner and server. Classifiers are then trained on all
that an operator can see of them: files and their sizes, open tables, the terminal, the events in the journal and their
times. They should be right no more often than with the conditions exchanged at random. The table of all pictures, which
is sealed and does tell the condition, shows that the classifiers find a leak.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rtgod.journal.journal import JournalWriter
from rtgod.messages import Hello, Message, NotReady, Reason
from stimulus.blinding.conditions import Condition, ConditionKind
from stimulus.blinding.sealed_tables import read_sealed_tables
from stimulus.blinding.sealing import commitment, open_sealed, read_sealed, seal
from stimulus.blinding.yoking import pinned
from stimulus.paradigm.schedule import Schedule, StepKind
from tests.stimulus import simulated

SEED = 0
CONDITIONS = tuple(ConditionKind)
#: Number of trials in a run, and time of the first trigger, seconds.
_N_TRIALS, _START_S = 3, 1.0
_N_FOLDS, _N_EXCHANGES, _N_TREES = 5, 30, 15
#: Numbers at least as large as this are no measured values, and are left out.
_MOST = 1e12

Rng = np.random.Generator
Features = dict[str, float]


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A rehearsed run: its condition, and what can be seen of it.

    Attributes
    ----------
    condition : ConditionKind
    visible : dict of str to float
        Everything that an operator can see, as numbers.
    telling : dict of str to float
        Content of the sealed file, as numbers: the pictures on the screen, and the answers that were shown.
    """

    condition: ConditionKind
    visible: Features
    telling: Features


def blinding(folder: Path, n_runs: int) -> dict[str, float]:
    """Measure how well conditions can be told apart.

    Parameters
    ----------
    folder : Path
        A new or empty folder; it holds the runs' files afterwards.
    n_runs : int
        Number of runs, of all four conditions together; at least 20.

    Returns
    -------
    dict of str to float
        blinding_auc: area under the curve, one condition against the others, mean over conditions and two classifiers.
        blinding_auc_null_p99: 99th percentile of that area with the conditions exchanged at random.
        blinding_auc_highest, blinding_auc_highest_null_p99: both figures for the condition that is told best.
        blinding_auc_of_a_leak: area for transfer runs, if the tables of all pictures and answers can be seen as well.
    """
    rng = np.random.default_rng(SEED)
    conditions = [CONDITIONS[place % len(CONDITIONS)] for place in range(n_runs)]
    runs = [rehearsed(folder / f"{place:03d}", condition, rng) for place, condition in enumerate(conditions)]
    truth = np.array([CONDITIONS.index(run.condition) for run in runs])
    visible = matrix([run.visible for run in runs])
    leaking = np.hstack([visible, matrix([run.telling for run in runs])])
    aucs = np.mean([auc(visible, truth, seed) for seed in range(5)], axis=0)
    null = np.array([auc(visible, rng.permutation(truth), seed) for seed in range(_N_EXCHANGES)])
    return {
        "blinding_auc": float(aucs.mean()),
        "blinding_auc_null_p99": float(np.percentile(null.mean(1), 99)),
        "blinding_auc_highest": float(aucs.max()),
        "blinding_auc_highest_null_p99": float(np.percentile(null.max(1), 99)),
        "blinding_auc_of_a_leak": float(auc(leaking, truth, 0)[CONDITIONS.index(ConditionKind.NONE)]),
    }


def auc(features: np.ndarray, truth: np.ndarray, seed: int) -> np.ndarray:
    """Measure how well each class is told from the others: area under the curve, mean of two classifiers.

    Parameters
    ----------
    features : array of shape (n_runs, n_features)
    truth : int array of shape (n_runs,)
        Class of each run.
    seed : int
        Seed of the folds and of one classifier.

    Returns
    -------
    array of shape (n_classes,)
        Areas under the curve, from cross-validated predictions.
    """
    folds = StratifiedKFold(_N_FOLDS, shuffle=True, random_state=seed)
    classifiers = (
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500)),
        RandomForestClassifier(_N_TREES, max_features=0.2, random_state=seed),
    )
    predictions = [
        cross_val_predict(classifier, features, truth, cv=folds, method="predict_proba") for classifier in classifiers
    ]
    return np.mean(
        [
            [roc_auc_score(truth == label, chances[:, label]) for label in range(len(CONDITIONS))]
            for chances in predictions
        ],
        axis=0,
    )


def matrix(rows: Sequence[Features]) -> np.ndarray:
    """Stack features of all runs, shape (n_runs, n_features); a missing one is -1, and constant ones are left out."""
    names = sorted({name for row in rows for name in row})
    values = np.array([[row.get(name, -1.0) for name in names] for row in rows])
    return values[:, np.ptp(values, axis=0) > 0]


def rehearsed(folder: Path, condition: ConditionKind, rng: Rng) -> Rehearsed:
    """Rehearse a run of a condition, with a server, a screen and a participant that vary at random."""
    folder.mkdir(parents=True)
    schedule = simulated.imagining(*(f"n{rng.integers(12):02d}" for _ in range(_N_TRIALS)))
    other_journal = _journal(folder / "other.rtgod", _answers(schedule, rng, n_bad=int(rng.integers(0, 6))))
    sealed_runs = [
        Condition(ConditionKind.REAL),
        Condition(ConditionKind.SHUFFLED, seed=int(rng.integers(2**31))),
        Condition(ConditionKind.YOKED, journal=str(other_journal), run_id="run-1"),
        Condition(ConditionKind.NONE),
    ]
    plan = [sealed_runs[place] for place in rng.permutation(len(sealed_runs))]
    sealed = folder / "conditions.sealed"
    sealed.write_text(seal([pinned(planned, folder) for planned in plan]), encoding="ascii")
    number = 1 + [planned.kind for planned in plan].index(condition)
    candidates = simulated.CANDIDATES
    feedback = open_sealed(sealed, number, candidates.names, candidates.ids)
    answers = _answers(schedule, rng, n_bad=int(rng.integers(0, 6)))
    end_s = _START_S + schedule.duration_s
    keys = [*simulated.pulses(_START_S, end_s), *_presses(schedule, rng)]
    stage = simulated.Stage(
        draw_s=_drawing_s, waits=bool(rng.integers(2)), phase_s=float(rng.uniform(0, 1 / 60)),
        keys=keys,
    )  # fmt: skip
    out = folder / "out"
    says = [*simulated.hellos(end_s + 4), (0.5, simulated.run_header(n_volumes=1000)), *answers]
    laboratory = simulated.Laboratory(
        out, schedule, stage, says=says, instead=feedback, sealed=True, commitment=commitment(read_sealed(sealed)),
    )  # fmt: skip
    laboratory.run()
    return Rehearsed(condition, dict(_visible(laboratory, out)), dict(_telling(out)))


def _answers(schedule: Schedule, rng: Rng, n_bad: int) -> list[tuple[float, Message]]:
    """Make up a server's answers to a run's volumes, each some time after its volume; some volumes are bad."""
    n_volumes = schedule.n_volumes
    bad = set(rng.choice(n_volumes, n_bad, replace=False).tolist())
    answers: list[tuple[float, Message]] = []
    for index in range(n_volumes):
        at_s = _START_S + index + 1 + float(rng.gamma(4.0, 0.02)) + (1.5 if rng.random() < 0.03 else 0.0)
        block = next((place for place, step in enumerate(schedule.trials)
                      if step.onset_s + 1 <= index < step.onset_s + 6), None)  # fmt: skip
        if index in bad:
            answers.append((at_s, NotReady("run-1", index, Reason.BAD_VOLUME)))
        elif block is None:
            answers.append((at_s, NotReady("run-1", index, Reason.BETWEEN_TRIALS)))
        else:
            answers.append((at_s, simulated.ranking(index, block, order=rng.permutation(12))))
    return answers


def _journal(path: Path, answers: Sequence[tuple[float, Message]]) -> Path:
    with JournalWriter(path) as writer:
        writer.append(Hello("0.1.0", simulated.BUNDLE, 12, 400))
        for _, answer in answers:
            writer.append(answer)
    return path


def _presses(schedule: Schedule, rng: Rng) -> Iterator[tuple[float, str]]:
    """Yield presses with which a participant rates at random, whatever was shown: times and keys."""
    for step in schedule.steps:
        if step.kind is StepKind.EVALUATION:
            for _ in range(int(rng.integers(0, 3))):
                yield _START_S + step.onset_s + float(rng.uniform(0.1, 0.9)), str(rng.integers(1, 3))


def _drawing_s(scene: object) -> float:
    """Return how long a scene takes to draw, seconds: one with content takes longer than an empty one."""
    full = any(getattr(scene, part, None) for part in ("thermometer", "rows", "pictures", "message"))
    return 0.008 if full else 0.001


# ------------------------------------------------------------------------------------------------ what can be seen


def _visible(laboratory: simulated.Laboratory, folder: Path) -> Iterator[tuple[str, float]]:
    for path in sorted(folder.iterdir()):
        content, ending = path.read_bytes(), path.name.removeprefix(laboratory.record.name)
        yield f"{ending} bytes", len(content)
        yield f"{ending} lines", content.count(b"\n")
        yield f"{ending} of line lengths", float(np.std([len(line) for line in content.split(b"\n")]))
        # Compressed sizes of open files vary by chance, with the digits of times, so only sealed files' are compared.
        yield f"{ending} compressed", len(gzip.compress(content, mtime=0)) if ending.endswith(".sealed") else 0.0
        if path.suffix == ".tsv":
            with path.open(encoding="utf-8", newline="") as file:
                yield from _of_table(ending, list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)))
    lines = [line for _, line in laboratory.told]
    yield "terminal lines", len(lines)
    yield "terminal characters", sum(map(len, lines))
    yield from _summary("terminal", [at_s for at_s, _ in laboratory.told])
    server = laboratory.server
    yield "events", len(server.reports)
    events = [
        {"kind": kind, "at_s": str(at_s), "received_s": str(received_s), "delay_s": str(received_s - at_s),
         "value": value, "run": run_id, "gap_s": str(received_s - before_s)}
        for (kind, at_s, run_id, value), received_s, before_s in zip(
            server.reports, server.received, [0.0, *server.received], strict=False
        )
    ]  # fmt: skip
    yield from _of_table("journal", events)


def _of_table(name: str, rows: Sequence[dict[str, str]]) -> Iterator[tuple[str, float]]:
    """Yield counts and summaries of a table's columns, over all rows and over each kind of row."""
    kind_column = next(
        (column for column in ("kind", "event_type", "changed", "shown") if rows and column in rows[0]), ""
    )
    by_kind: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        by_kind["all"].append(row)
        by_kind[row.get(kind_column, "all of it")].append(row)
    for kind, of_kind in by_kind.items():
        yield f"{name} {kind} rows", len(of_kind)
        for column in of_kind[0]:
            cells = [row[column] for row in of_kind]
            yield f"{name} {kind} {column} different", len(set(cells))
            yield f"{name} {kind} {column} characters", sum(map(len, cells))
            yield from _summary(f"{name} {kind} {column}", [value for cell in cells for value in _numbers(cell)])


def _numbers(cell: str) -> Iterator[float]:
    for word in cell.split():
        try:
            value = float(word)
        except ValueError:
            continue
        if abs(value) < _MOST:  # the digits of a commitment may look like any number
            yield value


def _summary(name: str, values: Sequence[float]) -> Iterator[tuple[str, float]]:
    if values:
        for statistic, compute in (("mean", np.mean), ("sd", np.std), ("least", np.min), ("most", np.max)):
            yield f"{name} {statistic}", float(compute(values))


def _telling(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield the features that the tables of all pictures and of all answers would give if they were open."""
    (sealed,) = folder.glob("*_shown.sealed")
    tables = read_sealed_tables(sealed)
    for table in ("flips", "shown"):
        columns, *rows = tables[table]
        yield from _of_table(table, [dict(zip(columns, row, strict=True)) for row in rows])
