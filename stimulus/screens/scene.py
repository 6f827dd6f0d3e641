"""Everything that a paradigm can put on the screen, as plain values: two equal scenes are the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from stimulus.screens.screen import Screen


@dataclass(frozen=True, slots=True)
class Picture:
    """An image.

    Attributes
    ----------
    file : str
        Path of the image; empty for a frame with only the label in it.
    size_deg : float
        Length of its longer side, degrees of visual angle.
    x_deg, y_deg : float
        Place of its centre, degrees from the screen's centre.
    label : str
        A word beneath it.
    strength : float
        Opacity, from 0, invisible, to 1.
    """

    file: str
    size_deg: float
    x_deg: float = 0.0
    y_deg: float = 0.0
    label: str = ""
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class Thermometer:
    """A thermometer that shows how near the decoder comes to the target.

    Attributes
    ----------
    level : float
        Height of the column, from 0 to 1; chance is at 0.5.
    label : str
        Line beneath it.
    marks : tuple of 3 str
        Words beside its lower end, its middle and its upper end.
    """

    level: float
    label: str = ""
    marks: tuple[str, str, str] = ("", "", "")


@dataclass(frozen=True, slots=True)
class Choice:
    """Answers to choose from, side by side.

    Attributes
    ----------
    labels : tuple of str
        The answers.
    chosen : int or None
        Position of the chosen answer; None until a button is pressed.
    help : str
        Line that explains the buttons.
    """

    labels: tuple[str, ...]
    chosen: int | None = None
    help: str = ""


@dataclass(frozen=True, slots=True)
class Scene(Screen):
    """A `Screen` with what paradigms add to it.

    Attributes
    ----------
    title : str
        Large text above the middle: a cue, a question.
    lines : tuple of str
        Lines of instructions.
    pictures : tuple of Picture
    thermometer : Thermometer or None
    choice : Choice or None
    """

    title: str = ""
    lines: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    thermometer: Thermometer | None = None
    choice: Choice | None = None

    @property
    def moving(self) -> tuple[float, ...]:
        """Numbers that glide from one scene to the next: the bars' lengths and the thermometer's level."""
        bars = tuple(row.fraction for row in self.rows)
        return bars if self.thermometer is None else (*bars, self.thermometer.level)

    def moved(self, numbers: Sequence[float]) -> Self:
        """Return the scene with the given numbers in the place of `moving`.

        Parameters
        ----------
        numbers : sequence of float
            As many as `moving` has, in its order; from 0 to 1.
        """
        *bars, level = (*numbers, 0.0) if self.thermometer is None else numbers
        rows = tuple(replace(row, fraction=number) for row, number in zip(self.rows, bars, strict=True))
        return replace(self, rows=rows, thermometer=self.thermometer and replace(self.thermometer, level=level))
