"""Window that shows the decoder's nearest pictures as well as rankings; sizes follow the screen, not visual angles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stimulus.drawing.canvas import Texture
from stimulus.drawing.painting import FEEDBACK_DEG, ScenePainting
from stimulus.drawing.picture_drawings import PictureDrawings
from stimulus.drawing.psychopy_window import PsychopyWindow


class PictureWindow(ScenePainting, PsychopyWindow):
    """A window for scenes with pictures, as large as the window allows.

    Parameters
    ----------
    pictures : iterable of str
        Files that are read beforehand; others are read when they are first shown.
    *arguments, **options
        As for `PsychopyWindow`.

    Raises
    ------
    InputError
        If a file cannot be read, or as for `PsychopyWindow`.
    """

    def __init__(self, pictures: Iterable[str], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._images: dict[tuple[str, float], Texture] = {}
        room_px = (self._canvas.width, self._canvas.height)
        self._degree_px = min(px / deg for px, deg in zip(room_px, FEEDBACK_DEG, strict=True))
        try:
            self._pictures = PictureDrawings(list(pictures))
        except Exception:
            self.close()
            raise
