"""Draws rectangles, discs, texts and pictures, in pixels from the middle; on what, its kinds say.

`stimulus.drawing.quads` draws in a window, `stimulus.drawing.raster` into an array: both get the same whole pixels
from here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

import numpy as np

from rtgod.pictures.fonts import Coverage, Face, Typefaces
from stimulus.drawing.lettering import LEFT_OF, Align, Drawing, fitting, lettering, written

#: So many texts and small pictures are kept.
_N_KEPT = 256


class Texture(NamedTuple):
    """A drawing that a canvas holds."""

    number: int
    width: int
    height: int
    left: int
    bottom: int
    is_mask: bool


class Box(NamedTuple):
    """Sides of a rectangle, pixels from the middle."""

    left: int
    bottom: int
    right: int
    top: int


class Canvas(ABC):
    """What is drawn between two flips; positions and sizes are rounded to whole pixels, so that all is sharp.

    Parameters
    ----------
    width, height : int
        Of the picture.
    font_file : str
        Empty takes the font that PsychoPy brings along, so that text looks alike on every machine.

    Attributes
    ----------
    width, height : int
    unit : float
        What sizes are shares of: the height, or less where the picture is higher than 4:3.

    Raises
    ------
    InputError
        If the font cannot be read.
    """

    def __init__(self, width: int, height: int, font_file: str = "") -> None:
        self._font_file = font_file
        self._typefaces = Typefaces(Face(lettering(font_file, bold=False, height_px=10).path))
        self.width, self.height = width, height
        self.unit = min(height, 0.75 * width)
        self._kept: OrderedDict[Hashable, Texture] = OrderedDict()

    @abstractmethod
    def begin(self) -> None:
        """Get ready for a new picture."""

    @abstractmethod
    def finish(self) -> None:
        """Wait until all of it is drawn."""

    @abstractmethod
    def texture(self, drawing: Drawing) -> Texture:
        """Take a drawing in, to be drawn again and again."""

    @abstractmethod
    def _fill(self, box: Box, colour: str) -> None:
        """Draw a rectangle."""

    @abstractmethod
    def _lay(self, texture: Texture, box: Box, colour: str, opacity: float) -> None:
        """Draw a texture, which fills a rectangle; a mask in a colour."""

    @abstractmethod
    def _forget(self, texture: Texture) -> None:
        """Give back what a texture took."""

    def rectangle(
        self, x: float, y: float, width: float, height: float, colour: str, *, align: Align = "centre"
    ) -> None:
        """Draw one at a position, beside which it lies as `align` says."""
        left, bottom = x - LEFT_OF[align] * width, y - height / 2
        self._fill(Box(round(left), round(bottom), round(left + width), round(bottom + height)), colour)

    def disc(self, x: float, y: float, radius: float, colour: str) -> None:
        """Draw one, with a smooth edge."""
        self.picture(self.kept(radius, lambda: _disc(radius)), x, y, colour=colour)

    def text(
        self,
        words: str,
        x: float,
        y: float,
        height_px: float,
        colour: str,
        *,
        bold: bool = False,
        align: Align = "centre",
        opacity: float = 1,
        room_px: float | None = None,
    ) -> None:
        """Write lines of text, `height_px` the font's size; smaller where they would be longer than their room."""
        room_px = 0.96 * self.width if room_px is None else room_px
        letters = fitting(words, self._font_file, bold, int(height_px), room_px, self._fallbacks)
        key = (words, letters.height_px, bold, align, len(self._fallbacks))
        self.picture(self.kept(key, lambda: written(letters, words, align)), x, y, colour=colour, opacity=opacity)

    def prepare(self, words: str, height_px: int, *, bold: bool, align: Align) -> None:
        """Write a text that may be shown later."""
        written(lettering(self._font_file, bold, height_px, self._fallbacks), words, align)

    def length_px(self, line: str, height_px: int, *, bold: bool) -> float:
        """How long a line of text would be."""
        return lettering(self._font_file, bold, height_px, self._fallbacks).length_px(line)

    @property
    def _fallbacks(self) -> tuple[Face, ...]:
        return self._typefaces.faces[1:]

    def cover(self, texts: Iterable[str], language: str = "") -> Coverage:
        """Find fonts for letters of some texts that the chosen one lacks; see `rtgod.pictures.fonts.Typefaces`."""
        return self._typefaces.cover(texts, language)

    @property
    def font_name(self) -> str:
        """Name of the chosen font's file."""
        return self._typefaces.faces[0].name

    def picture(
        self,
        texture: Texture,
        x: float,
        y: float,
        side_px: int | None = None,
        *,
        colour: str = "#ffffff",
        opacity: float = 1,
    ) -> None:
        """Draw a texture: pixel by pixel, or as a square of that size."""
        width, height = (texture.width, texture.height) if side_px is None else (side_px, side_px)
        beside = (texture.left, texture.bottom) if side_px is None else (-(side_px // 2), -(side_px // 2))
        left, bottom = round(x) + beside[0], round(y) + beside[1]
        self._lay(texture, Box(left, bottom, left + width, bottom + height), colour, opacity)

    def kept(self, key: Hashable, draw: Callable[[], Drawing]) -> Texture:
        """The texture of a key, which is made unless it still is there from before."""
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            self._kept[key] = self.texture(draw())
            if len(self._kept) > _N_KEPT:
                _, oldest = self._kept.popitem(last=False)
                self._forget(oldest)
        return self._kept[key]


def _disc(radius: float) -> Drawing:
    middle = math.ceil(radius)
    from_middle = np.arange(2 * middle) + 0.5 - middle
    distance = np.hypot(from_middle[:, None], from_middle)
    return Drawing.centred(np.rint(255 * np.clip(radius - distance + 0.5, 0, 1)).astype(np.uint8))
