"""What happens in a run, and when, as plain values: the published protocol's runs and closed-loop imagery.

Pure: no clock, no file, no screen. Every run is a row of steps without gaps; its trials are counterbalanced over runs.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from rtgod.errors import InputError
from stimulus.protocol import ProtocolSettings

Item = TypeVar("Item", bound=Hashable)
#: Times closer than this are the same: tables are written to the microsecond.
_SAME_S = 1e-5


class StepKind(StrEnum):
    """What happens in a step; the words are those of the public data set's tables, as far as it has them."""

    REST = "rest"
    STIMULUS = "stimulus"
    CUE = "cue"
    IMAGERY = "imagery"
    NAMING = "naming"
    EVALUATION = "evaluation"
    PAUSE = "inter_rest"
    FEEDBACK = "feedback"


#: The steps that are decoded: the server counts them as blocks.
TRIAL_KINDS = frozenset({StepKind.STIMULUS, StepKind.IMAGERY})


@dataclass(frozen=True, slots=True)
class Step:
    """One part of a run.

    Attributes
    ----------
    onset_s, duration_s : float
        Seconds; the onset counts from the start of volume 0.
    kind : StepKind
    trial : int
        Which trial it belongs to, counted from 1 through the run; 0 for the rest before and after.
    category : str
        Identifier of what is shown or imagined; empty where there is none, or where the participant chooses it.
    stimulus : str
        Name of the image, without its ending; empty where none is shown.
    """

    onset_s: float
    duration_s: float
    kind: StepKind
    trial: int = 0
    category: str = ""
    stimulus: str = ""

    @property
    def end_s(self) -> float:
        """When the next one begins."""
        return self.onset_s + self.duration_s


@dataclass(frozen=True, slots=True)
class Schedule:
    """A run's steps, in their order, without gaps.

    Attributes
    ----------
    name : str
        Of the run, such as "sub-01_task-imagery_run-01".
    tr_s : float
    steps : tuple of Step

    Raises
    ------
    InputError
        If there is no step, one has no duration, or they leave gaps or overlap.
    """

    name: str
    tr_s: float
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise InputError(f"schedule {self.name}: nothing happens in it; give it at least one step")
        if not (math.isfinite(self.tr_s) and self.tr_s > 0):
            raise InputError(f"schedule {self.name}: tr_s is {self.tr_s}; a repetition time above 0 is needed")
        if abs(self.steps[0].onset_s) > _SAME_S:
            raise InputError(f"schedule {self.name}: begins at {self.steps[0].onset_s:g} s; its first step begins at 0")
        for step in self.steps:
            if not 0 < step.duration_s < math.inf:
                raise InputError(
                    f"schedule {self.name}: the {step.kind} at {step.onset_s:g} s lasts {step.duration_s:g} s; "
                    "a duration above 0 is needed"
                )
        for a, b in pairwise(self.steps):
            if abs(b.onset_s - a.end_s) > _SAME_S:
                raise InputError(
                    f"schedule {self.name}: the {a.kind} at {a.onset_s:g} s ends at {a.end_s:g} s, and the next step, "
                    f"{b.kind}, begins at {b.onset_s:g} s; steps must follow each other"
                )

    @property
    def duration_s(self) -> float:
        """When the last step ends."""
        return self.steps[-1].end_s

    @property
    def n_volumes(self) -> int:
        """How many volumes the scanner must acquire."""
        return math.ceil(self.duration_s / self.tr_s - _SAME_S)

    @property
    def trials(self) -> tuple[Step, ...]:
        """The steps that are decoded, in the order in which `Ranking.block` counts them."""
        return tuple(step for step in self.steps if step.kind in TRIAL_KINDS)

    def at(self, time_s: float) -> Step | None:
        """The step at a time; None before the first and after the last."""
        if not 0 <= time_s < self.duration_s:
            return None
        onsets = [step.onset_s for step in self.steps]
        return self.steps[int(np.searchsorted(onsets, time_s, side="right")) - 1]

    def block_of(self, step: Step) -> int | None:
        """Which block of the server's a step belongs to; None for what belongs to no trial."""
        for number, trial in enumerate(self.trials):
            if step.trial and trial.trial == step.trial:
                return number
        return None

    def is_repeat(self, step: Step) -> bool:
        """Whether the image directly before was the same: the one-back task's target."""
        shown = [s for s in self.steps if s.kind is StepKind.STIMULUS]
        place = shown.index(step)
        return place > 0 and bool(step.stimulus) and shown[place - 1].stimulus == step.stimulus


class Image(NamedTuple):
    """A picture to show: its name without its ending, and the identifier of its category."""

    name: str
    category: str


def perception_run(
    name: str, images: Sequence[Image], settings: ProtocolSettings, rng: np.random.Generator
) -> Schedule:
    """Images in random order, some of them twice in a row for the one-back task.

    Raises
    ------
    InputError
        If there are fewer images than repeats.
    """
    if len(images) < max(settings.n_repeats, 1):
        raise InputError(f"schedule {name}: {len(images)} images and {settings.n_repeats} repeats; give more images")
    repeated = set(rng.choice(len(images), settings.n_repeats, replace=False).tolist())
    shown = [images[i] for i in rng.permutation(len(images)) for _ in range(2 if i in repeated else 1)]
    return _in_a_row(
        name,
        settings,
        [[(StepKind.STIMULUS, settings.block_s, image.category, image.name)] for image in shown],
    )


def imagery_run(name: str, categories: Sequence[str], settings: ProtocolSettings) -> Schedule:
    """Categories in the order given: each cued, imagined with closed eyes, and rated for vividness."""
    parts = (
        (StepKind.CUE, settings.cue_s),
        (StepKind.IMAGERY, settings.imagery_s),
        (StepKind.EVALUATION, settings.rating_s),
        (StepKind.PAUSE, settings.pause_s),
    )
    return _in_a_row(name, settings, [[(*part, category, "") for part in parts] for category in categories])


def feedback_run(name: str, categories: Sequence[str], settings: ProtocolSettings) -> Schedule:
    """Closed-loop imagery; a category that is empty is the participant's choice, who names it afterwards."""
    trials = []
    for category in categories:
        parts = [(StepKind.CUE, settings.cue_s), (StepKind.IMAGERY, settings.imagery_s)]
        if not category:
            parts.append((StepKind.NAMING, settings.naming_s))
        parts += [
            (StepKind.EVALUATION, settings.rating_s),
            (StepKind.PAUSE, settings.feedback_pause_s),
            (StepKind.FEEDBACK, settings.feedback_s),
            (StepKind.PAUSE, settings.pause_s),
        ]
        trials.append([(*part, category, "") for part in parts])
    return _in_a_row(name, settings, trials)


def deal(items: Sequence[Item], n_runs: int, n_per_run: int, rng: np.random.Generator) -> list[list[Item]]:
    """Deal items to runs, counterbalanced.

    Every item comes as often as any other, or once less; none comes again before all had their turn, none twice in a
    row. In each round, those that came late in their earlier runs come early, so that no item has the best places.

    Parameters
    ----------
    items : sequence
    n_runs, n_per_run : int
    rng : numpy.random.Generator

    Raises
    ------
    InputError
        If there is nothing to deal.
    """
    if not items:
        raise InputError("no images or categories to make a run of; say where they are")
    places: dict[Item, list[int]] = {item: [] for item in items}
    waiting: list[Item] = []
    runs: list[list[Item]] = []
    for _ in range(n_runs):
        run: list[Item] = []
        while len(run) < n_per_run:
            if not waiting:
                waiting = [items[i] for i in rng.permutation(len(items))]
                last = run[-1] if run else None
                if len(items) > 1 and waiting[0] == last:
                    waiting.append(waiting.pop(0))
            taken = waiting[: n_per_run - len(run)]
            waiting = waiting[len(taken) :]
            run += _late_ones_first(taken, places, rng) if len(taken) > 1 else taken
        runs.append(_without_neighbours(run))
        for place, item in enumerate(runs[-1]):
            places[item].append(place)
    return runs


def deal_images(images: Iterable[Image], n_per_run: int, rng: np.random.Generator) -> list[list[Image]]:
    """Deal images, each once, to as many runs as they fill, so that a run shows as many categories as it can."""
    by_category: dict[str, list[Image]] = {}
    for image in images:
        by_category.setdefault(image.category, []).append(image)
    piles = [[pile[i] for i in rng.permutation(len(pile))] for pile in by_category.values()]
    order: list[Image] = []
    while any(piles):
        top = [pile.pop() for pile in piles if pile]
        order += [top[i] for i in rng.permutation(len(top))]
    return [order[start : start + n_per_run] for start in range(0, len(order), n_per_run)]


def _late_ones_first(items: Sequence[Item], places: dict[Item, list[int]], rng: np.random.Generator) -> list[Item]:
    """The half that came later on average, then the other, each in random order."""
    means = [float(np.mean(places[item])) if places[item] else 0.0 for item in items]
    order = sorted(rng.permutation(len(items)).tolist(), key=lambda i: -means[i])
    half = (len(order) + 1) // 2
    shuffled = [*rng.permutation(order[:half]).tolist(), *rng.permutation(order[half:]).tolist()]
    return [items[i] for i in shuffled]


def _without_neighbours(items: list[Item]) -> list[Item]:
    """Swap what would come twice in a row with the next that would not, where there is one."""
    for place in range(1, len(items)):
        if items[place] == items[place - 1]:
            for later in range(place + 1, len(items)):
                if items[later] != items[place]:
                    items[place], items[later] = items[later], items[place]
                    break
    return items


def _in_a_row(
    name: str, settings: ProtocolSettings, trials: Sequence[Sequence[tuple[StepKind, float, str, str]]]
) -> Schedule:
    steps = [Step(0.0, settings.rest_s, StepKind.REST)]
    for number, parts in enumerate(trials, 1):
        for kind, duration_s, category, stimulus in parts:
            steps.append(Step(steps[-1].end_s, duration_s, kind, number, category, stimulus))
    steps.append(Step(steps[-1].end_s, settings.end_s, StepKind.REST))
    return Schedule(name, settings.tr_s, tuple(steps))


def from_steps(name: str, tr_s: float, steps: Iterable[Step]) -> Schedule:
    """A schedule of steps that may leave gaps, which become rest, and that need not be numbered.

    Where no step has a number, a trial begins with each cue, each image, and imagery without a cue.

    Raises
    ------
    InputError
        As `Schedule`.
    """
    given = sorted(steps, key=lambda s: s.onset_s)
    if not any(step.trial for step in given):
        given = _numbered(given)
    filled: list[Step] = []
    for step in given:
        end_s = filled[-1].end_s if filled else 0.0
        if step.onset_s - end_s > _SAME_S:
            filled.append(Step(end_s, step.onset_s - end_s, StepKind.REST))
        filled.append(step)
    return Schedule(name, tr_s, tuple(filled))


def _numbered(steps: Sequence[Step]) -> list[Step]:
    numbered: list[Step] = []
    trial, before = 0, StepKind.REST
    for step in steps:
        opens = {StepKind.CUE, StepKind.STIMULUS} | ({StepKind.IMAGERY} if before is not StepKind.CUE else set())
        trial += step.kind in opens
        numbered.append(replace(step, trial=0 if step.kind is StepKind.REST else trial))
        before = step.kind
    return numbered
