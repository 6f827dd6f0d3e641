"""Draws rectangles, discs, texts and pictures in a PsychoPy window, in pixels from its middle.

PsychoPy's own stimuli take up to a millisecond each to draw and five to change, so that a new ranking would take
several frames; and where a projection is mirrored or turned, not all of them are. Here each is one quad of OpenGL.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from rtgod.fonts import Coverage, Face, Typefaces
from stimulus.lettering import LEFT_OF, Align, Drawing, fitting, lettering, written

_COS_SIN = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}
#: So many texts and small pictures stay with the graphics card.
_N_KEPT = 256


class Texture(NamedTuple):
    """A drawing that the graphics card holds."""

    number: int
    width: int
    height: int
    left: int
    bottom: int
    is_mask: bool


class Canvas:
    """What is drawn between two flips; positions and sizes are rounded to whole pixels, so that all is sharp.

    Parameters
    ----------
    window : psychopy.visual.Window
    mirrored : bool
        Left and right are exchanged.
    rotated_deg : int
        Then the picture is turned clockwise by 0, 90, 180 or 270 degrees.
    font_file : str
        Empty takes the font that PsychoPy brings along, so that text looks alike on every machine.

    Attributes
    ----------
    width, height : int
        Of the picture, before it is turned.
    unit : float
        What sizes are shares of: the height, or less where the picture is higher than 4:3.

    Raises
    ------
    InputError
        If the font cannot be read.
    """

    def __init__(self, window: Any, *, mirrored: bool = False, rotated_deg: int = 0, font_file: str = "") -> None:
        from pyglet import gl

        self._gl: Any = gl
        self._font_file = font_file
        self._typefaces = Typefaces(Face(lettering(font_file, bold=False, height_px=10).path))
        width, height = (int(n) for n in window.size)
        self.width, self.height = (height, width) if rotated_deg % 180 else (width, height)
        self.unit = min(self.height, 0.75 * self.width)
        cos, sin = _COS_SIN[rotated_deg]
        flip = -1 if mirrored else 1
        # By columns. A side with an odd number of pixels has no edge between two of them in its middle.
        self._matrix = (gl.GLfloat * 16)(
            2 * cos * flip / width, -2 * sin * flip / height, 0, 0,
            2 * sin / width, 2 * cos / height, 0, 0,
            0, 0, 1, 0,
            width % 2 / width, height % 2 / height, 0, 1,
        )  # fmt: skip
        self._kept: OrderedDict[Hashable, Texture] = OrderedDict()

    def begin(self) -> None:
        """Set OpenGL up for what follows; PsychoPy sets it up anew at each flip."""
        gl = self._gl
        gl.glUseProgram(0)
        gl.glDisable(gl.GL_DEPTH_TEST)
        gl.glDisable(gl.GL_BLEND)
        gl.glBlendFunc(gl.GL_SRC_ALPHA, gl.GL_ONE_MINUS_SRC_ALPHA)
        gl.glActiveTexture(gl.GL_TEXTURE0)
        gl.glTexEnvi(gl.GL_TEXTURE_ENV, gl.GL_TEXTURE_ENV_MODE, gl.GL_MODULATE)
        gl.glMatrixMode(gl.GL_PROJECTION)
        gl.glLoadMatrixf(self._matrix)
        gl.glMatrixMode(gl.GL_MODELVIEW)
        gl.glLoadIdentity()

    def rectangle(
        self, x: float, y: float, width: float, height: float, colour: str, *, align: Align = "centre"
    ) -> None:
        """Draw one at a position, beside which it lies as `align` says."""
        left, bottom = x - LEFT_OF[align] * width, y - height / 2
        self._gl.glColor3f(*_rgb(colour))
        self._gl.glRectf(round(left), round(bottom), round(left + width), round(bottom + height))

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
        """Find fonts for letters of some texts that the chosen one lacks; see `rtgod.fonts.Typefaces`."""
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
        gl = self._gl
        width, height = texture.width, texture.height
        left, bottom = round(x) + texture.left, round(y) + texture.bottom
        if side_px is not None:
            width = height = side_px
            left, bottom = round(x) - side_px // 2, round(y) - side_px // 2
        right, top = left + width, bottom + height
        gl.glColor4f(*_rgb(colour), opacity)
        gl.glEnable(gl.GL_TEXTURE_2D)
        gl.glBindTexture(gl.GL_TEXTURE_2D, texture.number)
        if texture.is_mask or opacity < 1:
            gl.glEnable(gl.GL_BLEND)
        gl.glBegin(gl.GL_QUADS)
        for u, v, across, up in ((0, 1, left, bottom), (1, 1, right, bottom), (1, 0, right, top), (0, 0, left, top)):
            gl.glTexCoord2f(u, v)
            gl.glVertex2f(across, up)
        gl.glEnd()
        gl.glDisable(gl.GL_BLEND)
        gl.glDisable(gl.GL_TEXTURE_2D)

    def finish(self) -> None:
        """Wait until all of it is drawn."""
        self._gl.glFinish()

    def kept(self, key: Hashable, draw: Callable[[], Drawing]) -> Texture:
        """The texture of a key, which is made unless it still is there from before."""
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            self._kept[key] = self.texture(draw())
            if len(self._kept) > _N_KEPT:
                _, oldest = self._kept.popitem(last=False)
                self._gl.glDeleteTextures(1, self._gl.GLuint(oldest.number))
        return self._kept[key]

    def texture(self, drawing: Drawing) -> Texture:
        """Give a drawing to the graphics card."""
        gl, (height, width) = self._gl, drawing.pixels.shape[:2]
        is_mask = drawing.pixels.ndim == 2
        kind = gl.GL_ALPHA if is_mask else gl.GL_RGB
        number = gl.GLuint()
        gl.glGenTextures(1, number)
        gl.glBindTexture(gl.GL_TEXTURE_2D, number)
        for name, value in (
            (gl.GL_TEXTURE_MIN_FILTER, gl.GL_NEAREST if is_mask else gl.GL_LINEAR),
            (gl.GL_TEXTURE_MAG_FILTER, gl.GL_NEAREST if is_mask else gl.GL_LINEAR),
            (gl.GL_TEXTURE_WRAP_S, gl.GL_CLAMP_TO_EDGE),
            (gl.GL_TEXTURE_WRAP_T, gl.GL_CLAMP_TO_EDGE),
        ):
            gl.glTexParameteri(gl.GL_TEXTURE_2D, name, value)
        gl.glPixelStorei(gl.GL_UNPACK_ALIGNMENT, 1)
        pixels = np.ascontiguousarray(drawing.pixels)
        gl.glTexImage2D(gl.GL_TEXTURE_2D, 0, kind, width, height, 0, kind, gl.GL_UNSIGNED_BYTE, pixels.ctypes.data)
        return Texture(number.value, width, height, drawing.left, drawing.bottom, is_mask)


@lru_cache
def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red / 255, green / 255, blue / 255


def _disc(radius: float) -> Drawing:
    middle = math.ceil(radius)
    from_middle = np.arange(2 * middle) + 0.5 - middle
    distance = np.hypot(from_middle[:, None], from_middle)
    return Drawing.centred(np.rint(255 * np.clip(radius - distance + 0.5, 0, 1)).astype(np.uint8))
