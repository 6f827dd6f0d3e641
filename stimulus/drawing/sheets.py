"""Contact sheets of a run's screens: every word and picture that it shows, and every name that may be ranked.

A sheet holds a limited number of screens, and the number of sheets is limited; screens that are not drawn are counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rtgod.messages import Array
from stimulus.drawing.lettering import Drawing
from stimulus.paradigm.preview import ranking_of, scene_of, target_of
from stimulus.paradigm.schedule import Step, StepKind
from stimulus.paradigm.script import Paradigm, Script, Situation
from stimulus.screens.colours import BACKGROUND, PLAIN, rgb
from stimulus.screens.feedback import View
from stimulus.screens.scene import Scene
from stimulus.screens.screen import Screen
from stimulus.screens.typesetting import in_lines

if TYPE_CHECKING:
    from stimulus.drawing.raster import RasterCanvas

#: Files of a preview: screens, sheets and the timeline.
_OF_A_PREVIEW = re.compile(r"\d\d_\w+\.png|(stimuli|cues|targets|candidates)_\d\d\.png|timeline\.png")
#: Screens on a sheet, across and down, and greatest number of sheets of one kind.
COLUMNS, ROWS, MOST_SHEETS = 3, 4, 20
#: Greatest length of a screen's longer side on a sheet, pixels.
_TILE_PX = 640
_GAP_PX, _LABEL_PX = 16, 22


class Drawer(Protocol):
    """Interface that draws screens, and makes canvases to lay them out on."""

    def drawn(self, screen: Screen) -> Array:
        """Draw a screen and return its picture, upright.

        Parameters
        ----------
        screen : Screen
        """

    def blank(self, width: int, height: int) -> RasterCanvas:
        """Make a canvas with the same fonts.

        Parameters
        ----------
        width, height : int
            Size of its picture, pixels.
        """


@dataclass(frozen=True, slots=True)
class Group:
    """Screens of one kind, with different words or pictures.

    Attributes
    ----------
    name : str
        Name of the group in file names.
    what : str
        Word for the kind of screens or names, in the plural.
    tiles : tuple of (Scene, str)
        The screens, each with the words to write beneath it.
    n_items : int
        Number of words, pictures or names that are drawn.
    n_all : int
        Number of words, pictures or names in the run.
    """

    name: str
    what: str
    tiles: tuple[tuple[Scene, str], ...]
    n_items: int
    n_all: int


def groups(script: Script) -> Iterator[Group]:
    """Yield each group of two or more screens: of the run's steps, and of the names that may be ranked.

    Parameters
    ----------
    script : Script
    """
    n_most = COLUMNS * ROWS * MOST_SHEETS
    for name, noun, steps in _steps_by_kind(script):
        labels: dict[Scene, Counter[str]] = {}
        for step in steps:
            word = step.stimulus or step.category or "free choice"
            labels.setdefault(scene_of(script, step), Counter())[word] += 1
        if len(labels) > 1:
            tiles = [(scene, _counted(words)) for scene, words in labels.items()][:n_most]
            yield Group(name, noun, tuple(tiles), len(tiles), len(labels))
    yield from _ranked(script, n_most)


def _steps_by_kind(script: Script) -> Iterator[tuple[str, str, list[Step]]]:
    """Yield the steps that show words or pictures of their own, by kind, with the group's name and its word."""
    steps = script.schedule.steps
    yield "stimuli", "images", [step for step in steps if step.kind is StepKind.STIMULUS]
    yield "cues", "cues", [step for step in steps if step.kind is StepKind.CUE]
    if script.feedback.view is View.THERMOMETER:  # all other views show rankings
        yield "targets", "targets", [step for step in steps if script.shows_feedback(step) and step.category]


def _counted(words: Counter[str]) -> str:
    return ", ".join(f"{word} × {n}" if n > 1 else word for word, n in words.items())


def _ranked(script: Script, n_most: int) -> Iterator[Group]:
    """Yield a group with every candidate as a ranking shows it; with too many candidates, the longest names."""
    step = next((step for step in script.schedule.steps if _lists_names(script, step)), None)
    if script.paradigm is not Paradigm.FEEDBACK or step is None:
        return
    n, block = len(script.candidates), script.schedule.block_of(step)

    def shown(positions: Sequence[int]) -> Scene:
        return script.at(step, 0.0, Situation(ranking_of(positions, n, block), target_of(script, step)))

    first_scene = shown(range(n))
    n_each = len(first_scene.rows) or len(first_scene.pictures)
    if n <= n_each:
        return
    by_length = sorted(range(n), key=lambda i: -len(script.candidates[i]))
    chosen = sorted(by_length[: n_most * n_each])
    parts = [chosen[start : start + n_each] for start in range(0, len(chosen), n_each)]
    tiles = tuple((shown(part), f"{part[0] + 1} to {part[-1] + 1} of {n:,} candidates") for part in parts)
    yield Group("candidates", "names that may be ranked", tiles, len(chosen), n)


def _lists_names(script: Script, step: Step) -> bool:
    """Whether a step shows names as they are ranked; a thermometer does so only without a target, pictures never."""
    if script.feedback.view is View.NEAREST:
        return False
    return script.shows_feedback(step) and (script.feedback.view is not View.THERMOMETER or not step.category)


def save_sheets(script: Script, drawer: Drawer, folder: Path) -> tuple[list[Path], list[str]]:
    """Write contact sheets as PNGs; return their paths, and a line about each group for the operator.

    Parameters
    ----------
    script : Script
    drawer : Drawer
    folder : Path
        Existing folder; sheets of the same names in it are replaced.
    """
    from PIL import Image

    paths, lines = [], []
    for group in groups(script):
        sheets = [group.tiles[start : start + COLUMNS * ROWS] for start in range(0, len(group.tiles), COLUMNS * ROWS)]
        for number, tiles in enumerate(sheets, 1):
            paths.append(folder / f"{group.name}_{number:02d}.png")
            Image.fromarray(_sheet(tiles, drawer)).save(paths[-1], format="PNG")
        share = f"all {group.n_all:,}" if group.n_items == group.n_all else f"{group.n_items:,} of {group.n_all:,}"
        remark = ", those with the longest" if group.name == "candidates" and group.n_items < group.n_all else ""
        amount = "1 sheet" if len(sheets) == 1 else f"{len(sheets)} sheets"
        names = f"{group.name}_01.png" + (f" to {group.name}_{len(sheets):02d}.png" if len(sheets) > 1 else "")
        lines.append(f"{share} {group.what} are drawn{remark}: {amount}, {names}")
    return paths, lines


def earlier_previews(folder: Path) -> list[str]:
    """Names of the pictures that an earlier preview left in a folder, in their order.

    Parameters
    ----------
    folder : Path
        A folder that does not exist has none.
    """
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if _OF_A_PREVIEW.fullmatch(path.name))


def _sheet(tiles: Iterable[tuple[Scene, str]], drawer: Drawer) -> Array:
    """Draw a sheet with screens side by side, each with its words beneath."""
    from PIL import Image

    tiles = list(tiles)
    pictures = []
    for scene, _ in tiles:
        pixels = drawer.drawn(scene)
        scale = min(1.0, _TILE_PX / max(pixels.shape[:2]))
        size = (round(scale * pixels.shape[1]), round(scale * pixels.shape[0]))
        pictures.append(np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)))
    height, width = pictures[0].shape[:2]
    across, down = min(COLUMNS, len(tiles)), -(-len(tiles) // COLUMNS)
    pitch = width + _GAP_PX, height + 2 * _LABEL_PX + _GAP_PX
    canvas = drawer.blank(across * pitch[0] + _GAP_PX, down * pitch[1] + _GAP_PX)
    canvas.pixels[:] = np.array(rgb(BACKGROUND)) // 2
    for place, (pixels, (_, label)) in enumerate(zip(pictures, tiles, strict=True)):
        row, column = divmod(place, COLUMNS)
        left, top = _GAP_PX + column * pitch[0], _GAP_PX + row * pitch[1]
        x, y = left + width / 2 - canvas.width / 2, canvas.height / 2 - top - height / 2
        canvas.picture(canvas.texture(Drawing.centred(pixels)), x, y)
        fits = lambda text: canvas.length_px(text, _LABEL_PX, bold=False) <= width  # noqa: E731
        words = in_lines(label, 1, fits)[0]
        canvas.text(words, x, y - height / 2 - _LABEL_PX, _LABEL_PX, PLAIN)
    return canvas.pixels
