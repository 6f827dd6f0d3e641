"""Drawing of scenes without a window, a graphics card or an X server: the same pixels as on the screen."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from rtgod.errors import MissingDependencyError
from rtgod.messages import Array
from stimulus.drawing.canvas import Box, Canvas, Texture
from stimulus.drawing.lettering import Drawing
from stimulus.drawing.picture_drawings import PictureDrawings
from stimulus.drawing.psychopy_stage import PsychopyStage
from stimulus.drawing.psychopy_window import DEFAULT_SIZE_PX
from stimulus.screens.colours import BACKGROUND, rgb
from stimulus.screens.scene import Scene
from stimulus.screens.screen import Screen
from stimulus.settings import MonitorSettings


class RasterCanvas(Canvas):
    """A canvas whose pixels are an array.

    Parameters
    ----------
    width, height : int
        Size of the picture, pixels.
    font_file : str
        Font of the texts; empty takes the font that PsychoPy brings along.

    Attributes
    ----------
    pixels : ndarray of shape (height, width, 3), uint8
        The picture's colours; the first row is the top.
    """

    def __init__(self, width: int, height: int, font_file: str = "") -> None:
        super().__init__(width, height, font_file)
        self.pixels = np.empty((height, width, 3), np.uint8)
        self._drawings: dict[int, Array] = {}
        self._n_drawings = 0
        self.begin()

    def beside(self, width: int, height: int) -> RasterCanvas:
        """Make another canvas of the given size, with the same fonts.

        Parameters
        ----------
        width, height : int
            Size of its picture, pixels.
        """
        canvas = RasterCanvas(width, height, self._font_file)
        canvas._typefaces = self._typefaces
        return canvas

    def begin(self) -> None:
        """Fill the picture with the background colour."""
        self.pixels[:] = rgb(BACKGROUND)

    def finish(self) -> None:
        """Do nothing: drawing is done when a call returns."""

    def texture(self, drawing: Drawing) -> Texture:
        """Keep a drawing as a texture.

        Parameters
        ----------
        drawing : Drawing
        """
        number, (height, width) = self._n_drawings, drawing.pixels.shape[:2]
        self._drawings[number] = drawing.pixels
        self._n_drawings += 1
        return Texture(number, width, height, drawing.left, drawing.bottom, is_mask=drawing.pixels.ndim == 2)

    def _fill(self, box: Box, colour: str) -> None:
        rows, columns, _ = self._place(box)
        self.pixels[rows, columns] = rgb(colour)

    def _lay(self, texture: Texture, box: Box, colour: str, opacity: float) -> None:
        drawing = self._drawings[texture.number]
        if (box.right - box.left, box.top - box.bottom) != (texture.width, texture.height):
            drawing = _scaled(drawing, box.right - box.left)
        rows, columns, part = self._place(box)
        below, above, share = self.pixels[rows, columns], drawing[part], np.array(opacity)
        if texture.is_mask:
            share, above = opacity * above[..., np.newaxis] / 255, np.array(rgb(colour))
        self.pixels[rows, columns] = np.rint(below + share * (above.astype(float) - below))

    def _forget(self, texture: Texture) -> None:
        del self._drawings[texture.number]

    def _place(self, box: Box) -> tuple[slice, slice, tuple[slice, slice]]:
        """Return the rows and columns of a rectangle that lie on the canvas, and the part of the rectangle they are."""
        # The middle of a side with an odd number of pixels lies within a pixel, not at an edge between two.
        middle_x, middle_y = -(-self.width // 2), self.height // 2
        first_row, last_row = middle_y - box.top, middle_y - box.bottom
        first_column, last_column = middle_x + box.left, middle_x + box.right
        rows = slice(max(first_row, 0), max(min(last_row, self.height), 0))
        columns = slice(max(first_column, 0), max(min(last_column, self.width), 0))
        part = (
            slice(rows.start - first_row, rows.stop - first_row),
            slice(columns.start - first_column, columns.stop - first_column),
        )
        return rows, columns, part


class PreviewStage(PsychopyStage):
    """A stage that has no window: scenes are loaded and laid out as on the screen, and saved.

    Parameters
    ----------
    monitor : MonitorSettings
    font_file : str
        Font of all texts; empty takes the font that PsychoPy brings along.

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
        self._images, self._pictures = {}, PictureDrawings()
        self.notes = ()
        self._degree_px = self._pixels(1.0)

    def warm(self, scenes: Iterable[Scene]) -> None:
        """Do nothing: the first drawing of a scene takes no longer here.

        Parameters
        ----------
        scenes : iterable of Scene
        """

    def drawn(self, screen: Screen) -> Array:
        """Draw a screen and return its picture, upright: shape (height, width, 3), uint8.

        Parameters
        ----------
        screen : Screen
        """
        self._paint(screen)
        return self._raster.pixels.copy()

    def blank(self, width: int, height: int) -> RasterCanvas:
        """Make a canvas of the given size, with the fonts that the screens are written in.

        Parameters
        ----------
        width, height : int
            Size of its picture, pixels.
        """
        return self._raster.beside(width, height)

    def save_png(self, path: Path, screen: Screen) -> None:
        """Write the picture of a screen as a PNG, mirrored and turned as the projector gets it.

        Parameters
        ----------
        path : Path
        screen : Screen
        """
        from PIL import Image

        pixels = self.drawn(screen)
        if self._monitor.mirrored:
            pixels = pixels[:, ::-1]
        pixels = np.rot90(pixels, -self._monitor.rotated_deg // 90)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG")

    def close(self) -> None:
        """Do nothing: no window is open."""


def _scaled(pixels: Array, side_px: int) -> Array:
    """Scale a picture to a square, interpolating between the four pixels around each place, as graphics cards do."""
    (upper_rows, lower_rows, down), (left_columns, right_columns, right) = (
        _between(n, side_px) for n in pixels.shape[:2]
    )
    pixels, right, down = pixels.astype(float), right[:, np.newaxis], down[:, np.newaxis, np.newaxis]
    upper = pixels[upper_rows][:, left_columns] * (1 - right) + pixels[upper_rows][:, right_columns] * right
    lower = pixels[lower_rows][:, left_columns] * (1 - right) + pixels[lower_rows][:, right_columns] * right
    return np.rint(upper * (1 - down) + lower * down).astype(np.uint8)


def _between(n: int, n_new: int) -> tuple[Array, Array, Array]:
    """Return for each new pixel the two old pixels around its middle, and its distance from the first of them."""
    place = np.clip((np.arange(n_new) + 0.5) * n / n_new - 0.5, 0, n - 1)
    first = place.astype(int)
    return first, np.minimum(first + 1, n - 1), place - first
