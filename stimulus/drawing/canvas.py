"""Base of the canvases: it draws rectangles, discs, texts and pictures, placed in pixels from the middle.

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

#: Number of textures, of texts and small pictures, that a canvas keeps for reuse.
_N_KEPT = 256


class Texture(NamedTuple):
    """A drawing that a canvas holds, with its size and place in pixels."""

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
    """A surface for one picture at a time; positions and sizes are rounded to whole pixels, so that all is sharp.

    Parameters
    ----------
    width, height : int
        Size of the picture, pixels.
    font_file : str
        Font of the texts; empty takes the font that PsychoPy brings along, so that text looks alike on every machine.

    Attributes
    ----------
    width, height : int
        Size of the picture, pixels.
    unit : float
        Length in pixels that sizes are shares of: the height, or 0.75 of the width if that is less.

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
        """Begin a new picture."""

    @abstractmethod
    def finish(self) -> None:
        """Wait until the whole picture is drawn."""

    @abstractmethod
    def texture(self, drawing: Drawing) -> Texture:
        """Store a drawing as a texture, which can be drawn again and again.

        Parameters
        ----------
        drawing : Drawing
        """

    @abstractmethod
    def _fill(self, box: Box, colour: str) -> None:
        """Fill a rectangle with a colour."""

    @abstractmethod
    def _lay(self, texture: Texture, box: Box, colour: str, opacity: float) -> None:
        """Draw a texture so that it fills a rectangle; a mask is drawn in the colour."""

    @abstractmethod
    def _forget(self, texture: Texture) -> None:
        """Free the memory of a texture."""

    def rectangle(
        self, x: float, y: float, width: float, height: float, colour: str, *, align: Align = "centre"
    ) -> None:
        """Draw a rectangle.

        Parameters
        ----------
        x : float
            Left side, centre or right side, as `align` says, pixels to the right of the picture's middle.
        y : float
            Centre, pixels above the picture's middle.
        width, height : float
            Pixels.
        colour : str
            Such as "#e69f00".
        align : {"left", "centre", "right"}, optional
        """
        left, bottom = x - LEFT_OF[align] * width, y - height / 2
        self._fill(Box(round(left), round(bottom), round(left + width), round(bottom + height)), colour)

    def disc(self, x: float, y: float, radius: float, colour: str) -> None:
        """Draw a disc with a smooth edge.

        Parameters
        ----------
        x, y : float
            Centre, pixels to the right of the picture's middle and above it.
        radius : float
            Pixels.
        colour : str
            Such as "#e69f00".
        """
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
        """Draw lines of text.

        Parameters
        ----------
        words : str
            One line or several, with line ends between them.
        x : float
            Left end, centre or right end of the lines, as `align` says, pixels to the right of the picture's middle.
        y : float
            Middle between the first line's top and the last line's bottom, pixels above the picture's middle.
        height_px : float
            Font size, pixels, of which the whole part is used; smaller if a line would be longer than `room_px`.
        colour : str
            Such as "#e69f00".
        bold : bool, optional
        align : {"left", "centre", "right"}, optional
        opacity : float, optional
            From 0 to 1.
        room_px : float or None, optional
            Room for each line, pixels; None is 0.96 of the picture's width.
        """
        room_px = 0.96 * self.width if room_px is None else room_px
        letters = fitting(words, self._font_file, bold, int(height_px), room_px, self._fallbacks)
        key = (words, letters.height_px, bold, align, len(self._fallbacks))
        self.picture(self.kept(key, lambda: written(letters, words, align)), x, y, colour=colour, opacity=opacity)

    def prepare(self, words: str, height_px: int, *, bold: bool, align: Align) -> None:
        """Write a text beforehand that may be shown later, so that it is then drawn at once.

        Parameters
        ----------
        words : str
            One line or several, with line ends between them.
        height_px : int
            Font size, pixels.
        bold : bool
        align : {"left", "centre", "right"}
        """
        written(lettering(self._font_file, bold, height_px, self._fallbacks), words, align)

    def length_px(self, line: str, height_px: int, *, bold: bool) -> float:
        """Return the length that a line of text would have, pixels.

        Parameters
        ----------
        line : str
        height_px : int
            Font size, pixels.
        bold : bool
        """
        return lettering(self._font_file, bold, height_px, self._fallbacks).length_px(line)

    @property
    def _fallbacks(self) -> tuple[Face, ...]:
        return self._typefaces.faces[1:]

    def cover(self, texts: Iterable[str], language: str = "") -> Coverage:
        """Find fonts for letters of the texts that the chosen font lacks; see `rtgod.pictures.fonts.Typefaces`.

        Parameters
        ----------
        texts : iterable of str
        language : str, optional
            Language whose fonts are preferred, as some letters have several shapes.
        """
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
        """Draw a texture at a position: pixel by pixel, or scaled to a square.

        Parameters
        ----------
        texture : Texture
            Texture that this canvas stores.
        x, y : float
            Position, pixels to the right of the picture's middle and above it; a square has its centre there.
        side_px : int or None, optional
            Side of the square, pixels; None draws pixel by pixel.
        colour : str, optional
            Colour in which a mask is drawn; a texture with colours of its own needs the default, white.
        opacity : float, optional
            From 0 to 1.
        """
        width, height = (texture.width, texture.height) if side_px is None else (side_px, side_px)
        offset = (texture.left, texture.bottom) if side_px is None else (-(side_px // 2), -(side_px // 2))
        left, bottom = round(x) + offset[0], round(y) + offset[1]
        self._lay(texture, Box(left, bottom, left + width, bottom + height), colour, opacity)

    def kept(self, key: Hashable, draw: Callable[[], Drawing]) -> Texture:
        """Return the texture of a key.

        Parameters
        ----------
        key : hashable
            Everything that the drawing depends on.
        draw : callable
            Returns the drawing; called only if no texture is kept under the key.
        """
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
