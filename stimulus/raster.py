"""Draws scenes into pictures without a window, a graphics card or an X server: the same pixels as on the screen."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from rtgod.errors import MissingDependencyError
from rtgod.fonts import Face, Typefaces
from rtgod.messages import Array
from stimulus.canvas import Canvas, Texture
from stimulus.colours import BACKGROUND
from stimulus.lettering import LEFT_OF, Align, Drawing, lettering
from stimulus.scene import Scene
from stimulus.settings import MonitorSettings
from stimulus.stage import PsychopyStage
from stimulus.view import Screen
from stimulus.window import DEFAULT_SIZE_PX


class RasterCanvas(Canvas):
    """A canvas whose pixels are an array.

    Parameters
    ----------
    width, height : int
    font_file : str
        Empty takes the font that PsychoPy brings along.

    Attributes
    ----------
    pixels : ndarray of shape (height, width, 3), uint8
    """

    def __init__(self, width: int, height: int, font_file: str = "") -> None:
        # Not the canvas's own: it talks to OpenGL.
        self._font_file = font_file
        self._typefaces = Typefaces(Face(lettering(font_file, bold=False, height_px=10).path))
        self.width, self.height = width, height
        self.unit = min(height, 0.75 * width)
        self.pixels = np.empty((height, width, 3), np.uint8)
        self._drawings: list[Array] = []
        self._textures: dict[Hashable, Texture] = {}
        self.begin()

    def begin(self) -> None:
        """Clear it."""
        self.pixels[:] = _rgb(BACKGROUND)

    def finish(self) -> None:
        """Nothing is waited for."""

    def rectangle(
        self, x: float, y: float, width: float, height: float, colour: str, *, align: Align = "centre"
    ) -> None:
        """Draw one at a position, beside which it lies as `align` says."""
        left, bottom = x - LEFT_OF[align] * width, y - height / 2
        rows, columns, _ = self._place(round(left), round(bottom), round(left + width), round(bottom + height))
        self.pixels[rows, columns] = _rgb(colour)

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
        drawing = self._drawings[texture.number]
        left, bottom = round(x) + texture.left, round(y) + texture.bottom
        if side_px is not None:
            drawing = _scaled(drawing, side_px)
            left, bottom = round(x) - side_px // 2, round(y) - side_px // 2
        height, width = drawing.shape[:2]
        rows, columns, seen = self._place(left, bottom, left + width, bottom + height)
        below, above, share = self.pixels[rows, columns], drawing[seen], np.array(opacity)
        if texture.is_mask:
            share, above = opacity * above[..., np.newaxis] / 255, np.array(_rgb(colour))
        self.pixels[rows, columns] = np.rint(below + share * (above.astype(float) - below))

    def kept(self, key: Hashable, draw: Callable[[], Drawing]) -> Texture:
        """The texture of a key, which is made once."""
        if key not in self._textures:
            self._textures[key] = self.texture(draw())
        return self._textures[key]

    def texture(self, drawing: Drawing) -> Texture:
        """Keep a drawing."""
        self._drawings.append(drawing.pixels)
        height, width = drawing.pixels.shape[:2]
        return Texture(
            len(self._drawings) - 1, width, height, drawing.left, drawing.bottom, is_mask=drawing.pixels.ndim == 2
        )

    def _place(self, left: int, bottom: int, right: int, top: int) -> tuple[slice, slice, tuple[slice, slice]]:
        """Rows and columns of a rectangle on the canvas, and which part of the rectangle they are."""
        # A side with an odd number of pixels has no edge between two of them in its middle.
        middle_x, middle_y = -(-self.width // 2), self.height // 2
        first_row, last_row = middle_y - top, middle_y - bottom
        first_column, last_column = middle_x + left, middle_x + right
        rows = slice(max(first_row, 0), max(min(last_row, self.height), 0))
        columns = slice(max(first_column, 0), max(min(last_column, self.width), 0))
        seen = (
            slice(rows.start - first_row, rows.stop - first_row),
            slice(columns.start - first_column, columns.stop - first_column),
        )
        return rows, columns, seen


class PreviewStage(PsychopyStage):
    """A stage that has no window: scenes are loaded and laid out as on the screen, and saved.

    Parameters
    ----------
    monitor : MonitorSettings
    font_file : str
        Of all texts; empty takes the font that PsychoPy brings along.

    Raises
    ------
    InputError
        If the monitor's width or distance is not known.
    MissingDependencyError
        If PsychoPy's font is needed, and PsychoPy is not installed.
    """

    def __init__(self, monitor: MonitorSettings, *, font_file: str = "") -> None:
        if not font_file and find_spec("psychopy") is None:
            raise MissingDependencyError(
                "a preview is written in the font that PsychoPy brings along; install it with: python -m pip install "
                "'rtgod[display]', or name a TTF, OTF or TTC file as font_file in the settings"
            )
        width, height = monitor.size_px or DEFAULT_SIZE_PX
        self._monitor, self._width_px = monitor, width
        size = (height, width) if monitor.rotated_deg % 180 else (width, height)
        self._raster = self._canvas = RasterCanvas(*size, font_file=font_file)
        self._images, self._pictures = {}, {}
        self.notes = ()
        self._degree_px = self._pixels(1.0)

    def warm(self, scenes: Iterable[Scene]) -> None:
        """Nothing takes longer the first time."""

    def save_png(self, path: Path, screen: Screen) -> None:
        """Write the picture of a screen, as the projector gets it."""
        from PIL import Image

        self._paint(screen)
        pixels = self._raster.pixels
        if self._monitor.mirrored:
            pixels = pixels[:, ::-1]
        pixels = np.rot90(pixels, -self._monitor.rotated_deg // 90)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG")

    def close(self) -> None:
        """Nothing was taken."""


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def _scaled(pixels: Array, side_px: int) -> Array:
    """A square of another size: between the four pixels around each place, as graphics cards do."""
    (above, below, down), (before, after, right) = (_between(n, side_px) for n in pixels.shape[:2])
    pixels, right, down = pixels.astype(float), right[:, np.newaxis], down[:, np.newaxis, np.newaxis]
    upper = pixels[above][:, before] * (1 - right) + pixels[above][:, after] * right
    lower = pixels[below][:, before] * (1 - right) + pixels[below][:, after] * right
    return np.rint(upper * (1 - down) + lower * down).astype(np.uint8)


def _between(n: int, n_new: int) -> tuple[Array, Array, Array]:
    """For each new pixel the two old ones around its middle, and how far it is from the first."""
    place = np.clip((np.arange(n_new) + 0.5) * n / n_new - 0.5, 0, n - 1)
    first = place.astype(int)
    return first, np.minimum(first + 1, n - 1), place - first
