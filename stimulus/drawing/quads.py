"""A canvas in a PsychoPy window.

PsychoPy's own stimuli take up to a millisecond each to draw and five to change, so that a new ranking would take
several frames; and a mirrored or turned projection does not change all of them. Here each element is one quad of
OpenGL.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stimulus.drawing.canvas import Box, Canvas, Texture
from stimulus.drawing.lettering import Drawing
from stimulus.screens.colours import rgb

_COS_SIN = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}


class QuadCanvas(Canvas):
    """A canvas that OpenGL draws in a window.

    Parameters
    ----------
    window : psychopy.visual.Window
    mirrored : bool
        Whether left and right are exchanged.
    rotated_deg : int
        Angle by which the picture is then turned clockwise: 0, 90, 180 or 270 degrees.
    font_file : str
        Font of the texts; empty takes the font that PsychoPy brings along.

    Raises
    ------
    InputError
        If the font cannot be read.
    """

    def __init__(self, window: Any, *, mirrored: bool = False, rotated_deg: int = 0, font_file: str = "") -> None:
        from pyglet import gl

        self._gl: Any = gl
        width, height = (int(n) for n in window.size)
        super().__init__(*((height, width) if rotated_deg % 180 else (width, height)), font_file=font_file)
        cos, sin = _COS_SIN[rotated_deg]
        flip = -1 if mirrored else 1
        # The matrix is written by columns. The middle of a side with an odd number of pixels lies within a pixel, not
        # at an edge between two.
        self._matrix = (gl.GLfloat * 16)(
            2 * cos * flip / width, -2 * sin * flip / height, 0, 0,
            2 * sin / width, 2 * cos / height, 0, 0,
            0, 0, 1, 0,
            width % 2 / width, height % 2 / height, 0, 1,
        )  # fmt: skip

    def begin(self) -> None:
        """Set OpenGL up for a new picture; PsychoPy changes its state at each flip."""
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

    def finish(self) -> None:
        """Wait until the whole picture is drawn."""
        self._gl.glFinish()

    def texture(self, drawing: Drawing) -> Texture:
        """Copy a drawing to the graphics card.

        Parameters
        ----------
        drawing : Drawing
        """
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

    def _fill(self, box: Box, colour: str) -> None:
        self._gl.glColor3ub(*rgb(colour))
        self._gl.glRectf(*box)

    def _lay(self, texture: Texture, box: Box, colour: str, opacity: float) -> None:
        gl, (left, bottom, right, top) = self._gl, box
        red, green, blue = rgb(colour)
        gl.glColor4f(red / 255, green / 255, blue / 255, opacity)
        gl.glEnable(gl.GL_TEXTURE_2D)
        gl.glBindTexture(gl.GL_TEXTURE_2D, texture.number)
        if texture.is_mask or opacity < 1:
            gl.glEnable(gl.GL_BLEND)
        gl.glBegin(gl.GL_QUADS)
        for u, v, x, y in ((0, 1, left, bottom), (1, 1, right, bottom), (1, 0, right, top), (0, 0, left, top)):
            gl.glTexCoord2f(u, v)
            gl.glVertex2f(x, y)
        gl.glEnd()
        gl.glDisable(gl.GL_BLEND)
        gl.glDisable(gl.GL_TEXTURE_2D)

    def _forget(self, texture: Texture) -> None:
        self._gl.glDeleteTextures(1, self._gl.GLuint(texture.number))
