"""A paradigm before anybody lies in the scanner: every screen as a PNG, and the run's timeline as a figure."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from rtgod.confidence import FIRST
from rtgod.fonts import Face, letter_figure
from rtgod.messages import Motion, NotReady, Ranking, Reason
from rtgod.text import figure_text
from stimulus.feedback import View
from stimulus.paradigm import Script, Situation
from stimulus.scene import Scene
from stimulus.schedule import TRIAL_KINDS, Schedule, Step, StepKind
from stimulus.view import Screen, readable

#: Okabe and Ito's colours, told apart with every kind of colour vision.
_COLOURS: Mapping[StepKind, str] = {
    StepKind.REST: "#d9d9d9",
    StepKind.PAUSE: "#eeeeee",
    StepKind.STIMULUS: "#0072b2",
    StepKind.CUE: "#f0e442",
    StepKind.IMAGERY: "#56b4e9",
    StepKind.NAMING: "#cc79a7",
    StepKind.EVALUATION: "#009e73",
    StepKind.FEEDBACK: "#e69f00",
}
_STILL = Motion((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 0.0, 0, converged=True)
#: Of the timeline: a row, and what a label needs, which is left out where there is no room.
_ROW_S, _LABEL_S = 180.0, 3.5


class Painter(Protocol):
    """Where scenes are drawn."""

    def save_png(self, path: Path, screen: Screen) -> None:
        """Write the picture of a scene."""


def screens(script: Script, seed: int = 0) -> Iterator[tuple[str, Scene]]:
    """Every kind of screen that a run has, by a name for its file; feedback as a made-up ranking would look.

    Parameters
    ----------
    script : Script
    seed : int
        Of the made-up ranking.
    """
    yield "loading", script.loading()
    yield "before", script.before()
    seen: set[str] = set()
    for step in script.schedule.steps:
        name: str = StepKind.FEEDBACK if script.shows_feedback(step) else step.kind
        if step.kind is StepKind.CUE and not step.category:
            name = "cue_free"
        if name in seen:
            continue
        seen.add(name)
        if name == StepKind.FEEDBACK:
            yield from _feedback_screens(script, step, seed)
            continue
        yield name, script.at(step, 0.0, Situation())
        if n := script.n_choices(step):
            yield f"{name}_chosen", script.at(step, 0.0, Situation(choice=n // 2))
        if step.kind is StepKind.STIMULUS:
            yield "stimulus_off", script.at(step, 0.75 / script.flash_hz, Situation())
    yield "after", script.after(stopped=False)
    yield "stopped", script.after(stopped=True)


def scenes_of(script: Script) -> list[Scene]:
    """What a run's steps are going to show, each scene once; results as they would be of a made-up ranking."""
    scenes: dict[Scene, None] = {}
    for step in script.schedule.steps:
        situation = Situation()
        if script.shows_feedback(step):
            target = _target_of(script, step)
            n_candidates, block = len(script.candidates), script.schedule.block_of(step)
            situation = Situation(made_up_ranking(n_candidates, target or 0, block, 0, sure=True), target)
        scenes[script.at(step, 0.0, situation)] = None
    return list(scenes)


def save_screens(script: Script, painter: Painter, folder: Path) -> list[Path]:
    """Write every screen as a PNG, numbered in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (name, scene) in enumerate(screens(script), 1):
        paths.append(folder / f"{number:02d}_{name}.png")
        painter.save_png(paths[-1], scene)
    return paths


def save_timeline(schedule: Schedule, names: Mapping[str, str], path: Path) -> list[str]:
    """Write a figure of what happens when: three minutes in each row; returns texts that no font has the letters of."""
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.patches import Patch

    n_rows = math.ceil(schedule.duration_s / _ROW_S)
    figure = Figure(figsize=(11, 1.2 + 0.9 * n_rows))
    figure.set_layout_engine("constrained", w_pad=0.3)  # inches; the last label may be longer than its row
    for row, axis in enumerate(figure.subplots(n_rows, 1, squeeze=False)[:, 0]):
        begin_s = row * _ROW_S
        free_s = begin_s
        for step in schedule.steps:
            left, right = max(step.onset_s, begin_s), min(step.end_s, begin_s + _ROW_S)
            if right <= left:
                continue
            axis.barh(0, right - left, left=left, height=1, color=_COLOURS[step.kind], edgecolor="white", linewidth=0.5)
            if step.kind in TRIAL_KINDS and left == step.onset_s and left >= free_s:
                label = readable(names.get(step.category, step.category)) or "free choice"
                # Not in the layout: rows are as high whatever the labels.
                axis.text(
                    left, 0.62, figure_text(label), fontsize=6, rotation=30, rotation_mode="anchor"
                ).set_in_layout(False)
                free_s = left + _LABEL_S
        axis.set(xlim=(begin_s, begin_s + _ROW_S), ylim=(-0.5, 2.0), yticks=[])
        axis.spines[["left", "top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    axis.set_xlabel("time from the start of volume 0 (s)", fontsize=8)
    kinds = [kind for kind in StepKind if any(step.kind is kind for step in schedule.steps)]
    figure.legend(
        [Patch(color=_COLOURS[kind]) for kind in kinds],
        [kind.replace("inter_rest", "pause") for kind in kinds],
        loc="outside lower center",
        ncols=len(kinds),
        fontsize=8,
        frameon=False,
    )
    length = f"{schedule.duration_s / 60:.1f} min, {schedule.n_volumes} volumes of {schedule.tr_s:g} s"
    figure.suptitle(figure_text(f"{schedule.name}: {length}"), fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    lacking = letter_figure(figure, Face(findfont(FontProperties())))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # one for each letter; they are told by the text
        figure.savefig(path, dpi=150)
    return lacking


def made_up_ranking(n_candidates: int, target: int, block: int | None, seed: int, *, sure: bool) -> Ranking:
    """A ranking with the target among the first."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_candidates).astype(np.int32)
    place = min(2, n_candidates - 1)
    at = int(np.flatnonzero(order == target)[0])
    order[[place, at]] = order[[at, place]]
    scores = np.sort(rng.normal(0.1, 0.05, n_candidates))[::-1].astype(np.float32)
    luck = [min(k / n_candidates, 1.0) for k in FIRST]
    chances = (0.8, 0.9, 0.95) if sure else (luck[0], luck[1], luck[2])
    return Ranking("preview", 0, 3, block, False, (), order, scores, _STILL, probability=chances)


def _target_of(script: Script, step: Step) -> int | None:
    """Position of what is imagined, by its word; None where nobody knows yet."""
    word = script.names.get(step.category)
    return script.candidates.index(word) if word in script.candidates else None


def _feedback_screens(script: Script, step: Step, seed: int) -> Iterator[tuple[str, Scene]]:
    block = script.schedule.block_of(step)
    target = _target_of(script, step) or 0
    for view in View:
        shown = replace(script, feedback=script.feedback.model_copy(update={"view": view}))
        for word, sure in (("", True), ("_not_sure", False)):
            ranking = made_up_ranking(len(script.candidates), target, block, seed, sure=sure)
            yield f"feedback_{view}{word}", shown.at(step, 0.0, Situation(ranking, target))
    moved = NotReady("preview", 0, Reason.MOTION)
    yield "feedback_not_ready", script.at(step, 0.0, Situation(moved, target))
