"""Runs that do not belong to the others: of another subject, on another grid, or at another repetition time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from calibration.datasets.dataset_files import DatasetFiles
from calibration.datasets.runs import RunFiles
from calibration.features.images import first_few
from rtgod.errors import InputError
from rtgod.fit import subject_label
from rtgod.messages import Run
from rtgod.preprocessing.geometry import voxel_sizes
from rtgod.settings import EventsSettings
from rtgod.text import times

_T = TypeVar("_T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Usual:
    """Subject, grid and repetition time that most runs of a study have in common.

    Attributes
    ----------
    subject : str
        Empty if no run names one.
    grid : tuple
        Voxels along each axis, and their edges in mm, rounded.
    tr_s : float
        Repetition time, rounded to a hundredth of a second.
    """

    subject: str
    grid: tuple[tuple[int, ...], tuple[float, ...]]
    tr_s: float


def usual_of(runs: Sequence[Run], subject: str | None = None) -> Usual:
    """Find what most of the runs have in common; in a tie, the value of the first run counts.

    Parameters
    ----------
    runs : sequence of Run
        At least one.
    subject : str, optional
        The subject asked for, who is taken if any run names them.
    """
    named = {label: run.subject for run in reversed(runs) if (label := subject_label(run.subject))}
    labels = [label for run in runs if (label := subject_label(run.subject))]
    asked = subject_label(subject or "")
    who = asked if asked in named else _most(labels) if labels else ""
    of_subject = [run for run in runs if subject_label(run.subject) in ("", who)]
    grid, tr_s = _most([(_grid(run), round(run.tr_s, 2)) for run in of_subject])
    return Usual(named.get(who, ""), grid, tr_s)


def why_foreign(run: Run, usual: Usual) -> str:
    """Explain in words why a run does not belong to the others; empty if it does.

    Parameters
    ----------
    run : Run
    usual : Usual
        What the others have in common; see `usual_of`.
    """
    reasons = []
    if usual.subject and subject_label(run.subject) not in ("", subject_label(usual.subject)):
        reasons.append(f"subject {run.subject}, where the others are of {usual.subject}")
    shape, edges = _grid(run)
    if (shape, edges) != usual.grid:
        reasons.append(f"{times(shape)} voxels of {times(edges, 'g')} mm, where the others have {_described(usual)}")
    if round(run.tr_s, 2) != usual.tr_s:
        reasons.append(f"a volume each {run.tr_s:g} s, where the others have one each {usual.tr_s:g} s")
    return "; ".join(reasons)


def without_foreign(inputs: DatasetFiles, settings: EventsSettings | None = None) -> DatasetFiles:
    """The inputs without runs that do not belong to the others; `missing` says which and why.

    Parameters
    ----------
    inputs : DatasetFiles
    settings : EventsSettings, optional
        Settings that choose the rows of an events table that are trials; see `rtgod.events.table.read_events`.

    Raises
    ------
    InputError
        If a run cannot be opened, or none is left to train on or to test on.
    """
    files = (*inputs.training, *inputs.test)
    runs = [recorded.open(settings).run for recorded in files]
    usual = usual_of(runs, inputs.subject)
    _check_majority(files, runs, usual)
    reasons = {
        recorded.name: reason for recorded, run in zip(files, runs, strict=True) if (reason := why_foreign(run, usual))
    }
    if not reasons:
        return inputs
    training, test = (
        tuple(recorded for recorded in side if recorded.name not in reasons) for side in (inputs.training, inputs.test)
    )
    notes = tuple(f"{name}: {reason}" for name, reason in reasons.items())
    if not training or (inputs.test and not test):
        raise InputError(f"no run is left to {'test' if training else 'train'} on: {'; '.join(notes)}")
    return replace(inputs, training=training, test=test, missing=(*inputs.missing, *notes))


def _check_majority(files: Sequence[RunFiles], runs: Sequence[Run], usual: Usual) -> None:
    """Raise `InputError` if as many runs of the usual subject lie in another grid as in the usual one."""
    names: dict[tuple[tuple[int, ...], tuple[float, ...]], list[str]] = {}
    for recorded, run in zip(files, runs, strict=True):
        if subject_label(run.subject) in ("", subject_label(usual.subject)):
            names.setdefault(_grid(run), []).append(recorded.name)
    n_usual = len(names[usual.grid])
    if ties := [grid for grid, members in names.items() if grid != usual.grid and len(members) == n_usual]:
        listed = "; ".join(
            f"{times(shape)} voxels in {first_few(names[shape, edges], 2)}" for shape, edges in (usual.grid, *ties)
        )
        raise InputError(
            f"as many runs lie in one grid as in another ({listed}); choose those that are meant with --training "
            "or --test; --training alone tests on the others, unless --split says how to split the chosen ones"
        )


def _grid(run: Run) -> tuple[tuple[int, ...], tuple[float, ...]]:
    return tuple(run.shape), tuple(round(float(edge), 2) for edge in voxel_sizes(run.affine))


def _described(usual: Usual) -> str:
    shape, edges = usual.grid
    return f"{times(shape)} of {times(edges, 'g')} mm"


def _most(values: Sequence[_T]) -> _T:
    return Counter(values).most_common(1)[0][0]
