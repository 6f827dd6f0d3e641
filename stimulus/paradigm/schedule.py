"""Schedules of runs as plain values: the published protocol's runs and closed-loop imagery.

Pure: no clock, no file, no screen. Every run is a row of steps without gaps; its trials are counterbalanced over runs.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from rtgod.errors import InputError
from stimulus.paradigm.timing_settings import ProtocolSettings

Item = TypeVar("Item", bound=Hashable)
#: Times that differ by less than this count as the same, seconds: tables are written to the microsecond.
_SAME_S = 1e-5


class StepKind(StrEnum):
    """Kind of a step; the words are those of the public data set's tables, as far as it has them."""

    REST = "rest"
    STIMULUS = "stimulus"
    CUE = "cue"
    IMAGERY = "imagery"
    NAMING = "naming"
    EVALUATION = "evaluation"
    PAUSE = "inter_rest"
    FEEDBACK = "feedback"


#: Kinds of steps that are decoded; the server counts them as blocks.
TRIAL_KINDS = frozenset({StepKind.STIMULUS, StepKind.IMAGERY})


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a run in which one kind of thing happens.

    Attributes
    ----------
    onset_s, duration_s : float
        Seconds; the onset counts from the start of volume 0.
    kind : StepKind
    trial : int
        Number of the trial that the step belongs to, from 1 in each run; 0 for rest.
    category : str
        Identifier of the category that is shown or imagined; empty if there is none, or if the participant chooses it.
    stimulus : str
        Name of the image, without its file ending; empty if none is shown.
    """

    onset_s: float
    duration_s: float
    kind: StepKind
    trial: int = 0
    category: str = ""
    stimulus: str = ""

    @property
    def end_s(self) -> float:
        """Time at which the step ends, seconds."""
        return self.onset_s + self.duration_s


@dataclass(frozen=True, slots=True)
class Schedule:
    """A run's steps, in their order, without gaps.

    Attributes
    ----------
    name : str
        Name of the run, such as "sub-01_task-imagery_run-01".
    tr_s : float
        Repetition time, seconds.
    steps : tuple of Step
    trials : tuple of Step
        Steps that are decoded, in the order in which `Ranking.block` counts them; found in `steps`.

    Raises
    ------
    InputError
        If the schedule has no step, the repetition time or a duration is not above 0, the first step does not begin at
        0 s, or steps leave gaps or overlap.
    """

    name: str
    tr_s: float
    steps: tuple[Step, ...]
    trials: tuple[Step, ...] = field(init=False, repr=False, compare=False)
    #: Onsets of the steps, and blocks by the numbers of trials; found once, as every frame asks for them.
    _onsets_s: tuple[float, ...] = field(init=False, repr=False, compare=False)
    _blocks: Mapping[int, int] = field(init=False, repr=False, compare=False)

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
        trials = tuple(step for step in self.steps if step.kind in TRIAL_KINDS)
        object.__setattr__(self, "trials", trials)
        object.__setattr__(self, "_onsets_s", tuple(step.onset_s for step in self.steps))
        object.__setattr__(self, "_blocks", {step.trial: block for block, step in enumerate(trials) if step.trial})

    @property
    def duration_s(self) -> float:
        """Time at which the last step ends, seconds."""
        return self.steps[-1].end_s

    @property
    def n_volumes(self) -> int:
        """Number of volumes that the scanner must acquire."""
        return math.ceil(self.duration_s / self.tr_s - _SAME_S)

    def at(self, time_s: float) -> Step | None:
        """Return the step at a time; None before the first step and after the last.

        Parameters
        ----------
        time_s : float
            Time from the start of volume 0, seconds.
        """
        if not 0 <= time_s < self.duration_s:
            return None
        return self.steps[max(bisect_right(self._onsets_s, time_s) - 1, 0)]

    def block_of(self, step: Step) -> int | None:
        """Return the number of the server's block that a step belongs to; None if it belongs to no trial.

        Parameters
        ----------
        step : Step
        """
        return self._blocks.get(step.trial)


class Image(NamedTuple):
    """A picture to show: its name without its ending, and the identifier of its category."""

    name: str
    category: str


def perception_run(
    name: str, images: Sequence[Image], settings: ProtocolSettings, rng: np.random.Generator
) -> Schedule:
    """Schedule images in the order given, some of them twice in a row for the one-back task.

    Parameters
    ----------
    name : str
        Name of the run, with which its files' names begin.
    images : sequence of Image
    settings : ProtocolSettings
        `n_images` is not used: all of `images` are shown.
    rng : numpy.random.Generator
        Chooses the images that are shown twice.

    Raises
    ------
    InputError
        If there are fewer images than repeats, or an image follows itself, which would be an unplanned target.
    """
    if len(images) < max(settings.n_repeats, 1):
        raise InputError(
            f"schedule {name}: {len(images)} images and {settings.n_repeats} repeats; give more images, plan fewer "
            "runs, or set n_repeats in the settings' table [protocol]"
        )
    if any(a == b for a, b in pairwise(images)):
        raise InputError(f"schedule {name}: an image follows itself, which only repeats do; give more images")
    repeated = set(rng.choice(len(images), settings.n_repeats, replace=False).tolist())
    shown = [image for place, image in enumerate(images) for _ in range(2 if place in repeated else 1)]
    trials = [[(StepKind.STIMULUS, settings.block_s, image.category, image.name)] for image in shown]
    return _in_a_row(name, settings, trials)


def imagery_run(name: str, categories: Sequence[str], settings: ProtocolSettings) -> Schedule:
    """Schedule categories in the order given: each is cued, imagined with closed eyes, and rated for vividness.

    Parameters
    ----------
    name : str
        Name of the run, with which its files' names begin.
    categories : sequence of str
        Identifiers, one for each trial.
    settings : ProtocolSettings
        `n_trials` is not used: all of `categories` are imagined.
    """
    parts = (
        (StepKind.CUE, settings.cue_s),
        (StepKind.IMAGERY, settings.imagery_s),
        (StepKind.EVALUATION, settings.rating_s),
        (StepKind.PAUSE, settings.pause_s),
    )
    return _in_a_row(name, settings, [[(*part, category, "") for part in parts] for category in categories])


def feedback_run(name: str, categories: Sequence[str], settings: ProtocolSettings) -> Schedule:
    """Schedule closed-loop imagery of categories in the order given.

    Parameters
    ----------
    name : str
        Name of the run, with which its files' names begin.
    categories : sequence of str
        Identifiers, one for each trial; for an empty one the participant chooses a category, and names it afterwards.
    settings : ProtocolSettings
        `n_trials` is not used: all of `categories` are imagined.
    """
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
    """Deal items to runs, counterbalanced and in random order.

    Every item comes as often as any other, or once less; none comes again before all had their turn, and none comes
    twice in a row if there are at least two. In each round, items that came late in their earlier runs come early, so
    that no item has the best places.

    Parameters
    ----------
    items : sequence
    n_runs, n_per_run : int
        Number of runs, and of items in each.
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
            waiting = waiting or [items[i] for i in rng.permutation(len(items))]
            if run and waiting[0] == run[-1]:
                waiting.append(waiting.pop(0))
            n_taken = n_per_run - len(run)
            taken, waiting = _late_ones_first(waiting[:n_taken], places, rng), waiting[n_taken:]
            if run and taken[0] == run[-1]:
                taken.append(taken.pop(0))
            for place, item in enumerate(taken, len(run)):
                places[item].append(place)
            run += taken
        runs.append(run)
    return runs


def deal_images(images: Iterable[Image], n_per_run: int, rng: np.random.Generator) -> list[list[Image]]:
    """Deal images, each once, to as many runs as they fill, in random order; the last run may have fewer.

    A run shows as many categories as it can, each as often as any other while its images last.

    Parameters
    ----------
    images : iterable of Image
    n_per_run : int
        Number of images in a run, at least 1.
    rng : numpy.random.Generator
    """
    by_category: dict[str, list[Image]] = {}
    for image in images:
        by_category.setdefault(image.category, []).append(image)
    piles = [[pile[i] for i in rng.permutation(len(pile))] for pile in by_category.values()]
    runs: list[list[Image]] = []
    while any(piles):
        run: list[Image] = []
        while len(run) < n_per_run and any(piles):
            # Images are taken from the fullest piles, so that as many categories as possible last to the end.
            fullest = sorted(rng.permutation(len(piles)), key=lambda i: -len(piles[i]))
            run += [piles[i].pop() for i in fullest[: n_per_run - len(run)] if piles[i]]
        runs.append([run[i] for i in rng.permutation(len(run))])
    return runs


def _late_ones_first(items: Sequence[Item], places: Mapping[Item, list[int]], rng: np.random.Generator) -> list[Item]:
    """Order items: first the half that came later on average, then the other half, each in random order."""
    means = [float(np.mean(places[item] or 0.0)) for item in items]
    order = sorted(rng.permutation(len(items)), key=lambda i: -means[i])
    half = (len(order) + 1) // 2
    return [items[i] for part in (order[:half], order[half:]) for i in rng.permutation(part).astype(int)]


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
    """Make a schedule of steps; gaps become rest.

    Trials are counted anew: a trial begins with each cue, and with each decoded step that no cue came before.

    Parameters
    ----------
    name : str
        Name of the run, with which its files' names begin.
    tr_s : float
        Repetition time, seconds.
    steps : iterable of Step
        In any order.

    Raises
    ------
    InputError
        For the reasons of `Schedule`.
    """
    filled: list[Step] = []
    trial, is_cued = 0, False
    for step in sorted(steps, key=lambda step: step.onset_s):
        end_s = filled[-1].end_s if filled else 0.0
        if step.onset_s - end_s > _SAME_S:
            filled.append(Step(end_s, step.onset_s - end_s, StepKind.REST))
        is_decoded = step.kind in TRIAL_KINDS
        if step.kind is StepKind.CUE or (is_decoded and not is_cued):
            trial += 1
        is_cued = step.kind is StepKind.CUE or (is_cued and not is_decoded)
        filled.append(replace(step, trial=0 if step.kind is StepKind.REST else trial))
    return Schedule(name, tr_s, tuple(filled))
