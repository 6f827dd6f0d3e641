"""Preview of a paradigm, before anybody lies in the scanner: every kind of screen as a PNG, a figure of the timeline.

Every single word and picture is on the contact sheets of `stimulus.drawing.sheets`.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from unicodedata import east_asian_width

import numpy as np

from rtgod.decoding.confidence import FIRST
from rtgod.messages import Motion, NearPicture, NotReady, Ranking, Reason
from rtgod.pictures.fonts import Face, letter_figure
from rtgod.text import figure_text
from stimulus.paradigm.schedule import Schedule, Step, StepKind
from stimulus.paradigm.script import Script, Situation
from stimulus.screens.feedback import N_NEAREST, View
from stimulus.screens.scene import Scene
from stimulus.screens.screen import Screen, readable
from stimulus.screens.typesetting import in_lines

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
#: Timeline: length of a row, and length that a digit of a trial's number needs, seconds; a number without room is left
#: out.
_ROW_S, _DIGIT_S = 180.0, 1.6
#: Legend: lines in a column, most columns, most letters of a name, and inches for a letter and for a number.
_LEGEND_LINES, _LEGEND_COLUMNS, _LEGEND_LETTERS, _LETTER_IN, _NUMBER_IN = 24, 3, 30, 0.07, 0.38
#: Distance from one line of the legend to the next, inches.
_LINE_IN = 0.135


class Painter(Protocol):
    """Interface that draws scenes into files."""

    def save_png(self, path: Path, screen: Screen) -> None:
        """Write the picture of a scene as a PNG.

        Parameters
        ----------
        path : Path
        screen : Screen
        """


def screens(script: Script, seed: int = 0) -> Iterator[tuple[str, Scene]]:
    """Yield every kind of screen that a run has, with a name for its file; feedback shows made-up rankings.

    Parameters
    ----------
    script : Script
    seed : int
        Seed of the made-up rankings.
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
    """Return the scenes with which a run's steps begin, each scene once; feedback shows a made-up ranking.

    Parameters
    ----------
    script : Script
    """
    return list(dict.fromkeys(scene_of(script, step) for step in script.schedule.steps))


def scene_of(script: Script, step: Step) -> Scene:
    """Return the scene with which a step begins; feedback shows a made-up ranking that is sure of the target.

    Parameters
    ----------
    script : Script
    step : Step
        A step of the script's schedule.
    """
    situation = Situation()
    if script.shows_feedback(step):
        target, block = target_of(script, step), script.schedule.block_of(step)
        ranking = made_up_ranking(len(script.candidates), target or 0, block, 0, sure=True)
        situation = Situation(_with_pictures(ranking, script, sure=True), target)
    return script.at(step, 0.0, situation)


def save_screens(script: Script, painter: Painter, folder: Path) -> list[Path]:
    """Write every kind of screen of a run as a PNG; the files' names begin with numbers in the screens' order.

    Parameters
    ----------
    script : Script
    painter : Painter
    folder : Path
        It is made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (name, scene) in enumerate(screens(script), 1):
        paths.append(folder / f"{number:02d}_{name}.png")
        painter.save_png(paths[-1], scene)
    return paths


def save_timeline(schedule: Schedule, names: Mapping[str, str], path: Path, fonts: Sequence[Face] = ()) -> list[str]:
    """Write a figure of the run's timeline: three minutes in each row, trials numbered, with their names in a legend.

    Parameters
    ----------
    schedule : Schedule
    names : mapping of str to str
        Words for categories, by identifier; an identifier that is not in it is written itself.
    path : Path
        The PNG to write.
    fonts : sequence of Face
        Fonts of the display, for letters that matplotlib's own lacks.

    Returns
    -------
    list of str
        Texts with letters that no font has.
    """
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties, findfont, fontManager
    from matplotlib.patches import Patch

    n_rows = max(math.ceil(schedule.duration_s / _ROW_S - 1e-6), 1)
    legend = _legend([readable(names.get(step.category, step.category)) for step in schedule.trials])
    n_columns = min(-(-len(legend) // _LEGEND_LINES), _LEGEND_COLUMNS) or 1
    n_lines = -(-len(legend) // n_columns)
    column_in = 0.3 + _NUMBER_IN + _LETTER_IN * max((_width(name) for _, name in legend), default=0)
    side = column_in * n_columns
    height = max(1.5 + 0.75 * n_rows, 1.0 + 0.15 * n_lines)
    figure = Figure(figsize=(11 + side, height))
    figure.set_layout_engine("none")
    rows = figure.subplots(
        n_rows, 1, squeeze=False,
        gridspec_kw={
            "left": 0.3 / (11 + side), "right": 10.8 / (11 + side), "top": 1 - 0.55 / height, "bottom": 0.85 / height,
            "hspace": 0.9,
        },
    )[:, 0]  # fmt: skip
    numbers = {step: number for number, step in enumerate(schedule.trials, 1)}
    for row, axis in enumerate(rows):
        begin_s = row * _ROW_S
        free_s = begin_s
        for step in schedule.steps:
            left, right = max(step.onset_s, begin_s), min(step.end_s, begin_s + _ROW_S)
            if right <= left:
                continue
            axis.barh(0, right - left, left=left, height=1, color=_COLOURS[step.kind], edgecolor="white", linewidth=0.5)
            number = str(numbers.get(step, ""))
            middle_s, half_s = (left + right) / 2, _DIGIT_S * len(number) / 2
            if number and left == step.onset_s and middle_s - half_s >= free_s:
                axis.text(middle_s, 0.6, number, fontsize=7, ha="center", va="bottom")
                free_s = middle_s + half_s
        axis.set(xlim=(begin_s, begin_s + _ROW_S), ylim=(-0.5, 1.3), yticks=[])
        axis.spines[["left", "top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    rows[-1].set_xlabel("time from the start of volume 0 (s)", fontsize=8)
    kinds = [kind for kind in StepKind if any(step.kind is kind for step in schedule.steps)]
    figure.legend(
        [Patch(color=_COLOURS[kind]) for kind in kinds],
        [kind.replace("inter_rest", "pause") for kind in kinds],
        loc="lower left",
        bbox_to_anchor=(0.3 / (11 + side), 0),
        ncols=len(kinds),
        fontsize=8,
        frameon=False,
    )
    for column in range(n_columns):
        # Name and number are separate texts: a name may need a font that lacks digits, or run from right to left.
        for place, (number, name) in enumerate(legend[column * n_lines : (column + 1) * n_lines]):
            x_in, y = 11 + column_in * column, 1 - (0.55 + _LINE_IN * place) / height
            figure.text((x_in + _NUMBER_IN - 0.08) / (11 + side), y, number, fontsize=7, ha="right", va="top")
            figure.text((x_in + _NUMBER_IN) / (11 + side), y, name, fontsize=7, va="top")
    length = f"{schedule.duration_s / 60:.1f} min, {schedule.n_volumes} volumes of {schedule.tr_s:g} s"
    figure.suptitle(
        figure_text(f"{schedule.name}: {length}"), fontsize=10, x=0.3 / (11 + side), y=1 - 0.12 / height, ha="left",
        va="top",
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)

    def add_font(file: str) -> str:
        fontManager.addfont(file)
        return FontProperties(fname=file).get_name()

    lacking = letter_figure(figure, Face(findfont(FontProperties())), add_font, fonts)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a warning for each letter; `lacking` has the texts
        figure.savefig(path, dpi=150)
    return lacking


def _legend(words: Sequence[str]) -> list[tuple[str, str]]:
    """List number and name of each trial; of too many trials for the legend, how often each category comes."""
    names = [word or "free choice" for word in words]
    if len(names) > _LEGEND_LINES * _LEGEND_COLUMNS:
        counts = Counter(names)
        lines = [(f"{n} ×", name) for name, n in counts.items()]
        n_left = len(lines) - _LEGEND_LINES * _LEGEND_COLUMNS
        if n_left > 0:
            lines = [*lines[: -n_left - 1], ("", f"and {n_left + 1} more categories")]
    else:
        lines = [(str(number), name) for number, name in enumerate(names, 1)]
    return [(n, figure_text(in_lines(name, 1, lambda text: _width(text) <= _LEGEND_LETTERS)[0])) for n, name in lines]


def _width(text: str) -> int:
    """Return the width of a text in letters; wide letters, such as Chinese and Japanese ones, count twice."""
    return sum(1 + (east_asian_width(letter) in "WF") for letter in text)


def made_up_ranking(n_candidates: int, target: int, block: int | None, seed: int, *, sure: bool) -> Ranking:
    """Make up a ranking with the target in third place, or last of fewer candidates.

    Parameters
    ----------
    n_candidates : int
        At least 1.
    target : int
        Position of the target among the candidates.
    block : int or None
        The server's block that the ranking is about; None for a sliding window.
    seed : int
        Seed of the order and of the scores.
    sure : bool
        Whether the chances are high (0.8, 0.9, 0.95); otherwise they are those of luck.
    """
    order = np.random.default_rng(seed).permutation(n_candidates)
    place = min(2, n_candidates - 1)
    target_place = int(np.flatnonzero(order == target)[0])
    order[[place, target_place]] = order[[target_place, place]]
    return ranking_of(order.tolist(), n_candidates, block, seed, sure=sure)


def ranking_of(
    first: Sequence[int], n_candidates: int, block: int | None, seed: int = 0, *, sure: bool = True
) -> Ranking:
    """Make up a ranking that begins with the given candidates.

    Parameters
    ----------
    first : sequence of int
        Positions of candidates, best first; the others follow in the bundle's order.
    n_candidates : int
    block : int or None
        The server's block that the ranking is about; None for a sliding window.
    seed : int
        Seed of the scores.
    sure : bool
        Whether the chances are high (0.8, 0.9, 0.95); otherwise they are those of luck.
    """
    order = np.array(list(dict.fromkeys([*first, *range(n_candidates)])), np.int32)
    scores = np.sort(np.random.default_rng(seed).normal(0.1, 0.05, n_candidates))[::-1].astype(np.float32)
    luck = [min(k / n_candidates, 1.0) for k in FIRST]
    chances = (0.8, 0.9, 0.95) if sure else (luck[0], luck[1], luck[2])
    return Ranking("preview", 0, 3, block, False, (), order, scores, _STILL, probability=chances)


def _with_pictures(ranking: Ranking, script: Script, *, sure: bool) -> Ranking:
    """Add the first four of the decoder's pictures to a made-up ranking, if it has any."""
    names = list(script.near)[:N_NEAREST]
    chances = (0.5, 0.2, 0.1, 0.05) if sure else (1 / len(script.near),) * N_NEAREST if names else ()
    return replace(
        ranking,
        pictures=tuple(NearPicture(name, 0.3, chance) for name, chance in zip(names, chances, strict=False)),
    )


def target_of(script: Script, step: Step) -> int | None:
    """Return the candidates' position of the category of a step, found by its word; None if it is not among them.

    Parameters
    ----------
    script : Script
    step : Step
    """
    word = script.names.get(step.category)
    return script.candidates.index(word) if word in script.candidates else None


def _feedback_screens(script: Script, step: Step, seed: int) -> Iterator[tuple[str, Scene]]:
    """Yield feedback in the view of the settings: sure, not sure, of unknown confidence, of a free trial, not ready."""
    block, view, n = script.schedule.block_of(step), script.feedback.view, len(script.candidates)
    target = target_of(script, step) or 0
    sure, not_sure = (
        _with_pictures(made_up_ranking(n, target, block, seed, sure=is_sure), script, sure=is_sure)
        for is_sure in (True, False)
    )
    unknown = replace(sure, probability=None, pictures=tuple(replace(each, probability=None) for each in sure.pictures))
    yield f"feedback_{view}", script.at(step, 0.0, Situation(sure, target))
    yield f"feedback_{view}_not_sure", script.at(step, 0.0, Situation(not_sure, target))
    yield f"feedback_{view}_unknown", script.at(step, 0.0, Situation(unknown, target))
    if view is View.THERMOMETER and any(not trial.category for trial in script.schedule.trials):
        yield "feedback_free", script.at(step, 0.0, Situation(sure, None))
    not_ready = NotReady("preview", 0, Reason.MOTION)
    yield "feedback_not_ready", script.at(step, 0.0, Situation(not_ready, target))
