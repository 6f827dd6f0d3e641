"""Drawings of pictures, as small squares: read beforehand, or when one is first shown."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Array
from rtgod.pictures.pixels import Change, read_picture
from stimulus.drawing.lettering import Drawing

log = logging.getLogger(__name__)

#: Side in pixels at which pictures are kept, and bytes of memory that all of them may take; they are kept smaller if
#: that would not do.
_SIDE_PX = 256
_MOST_BYTES = 256e6
#: Grey of a picture that cannot be read when it is shown.
_GREY = 128
#: Most pictures of a decoder that are read beforehand: more would be kept too small.
MOST_BEFOREHAND = 2_000


class PictureDrawings(dict[str, Drawing]):
    """Drawings by file; one that was not read beforehand is read each time it is asked for.

    Parameters
    ----------
    files : sequence of str
        Files to read beforehand.

    Attributes
    ----------
    changes : dict of str to tuple of Change
        Conversions of the pixels of files read beforehand.

    Raises
    ------
    InputError
        If a file cannot be read.
    """

    def __init__(self, files: Sequence[str] = ()) -> None:
        super().__init__()
        self._side_px = min(_SIDE_PX, int((_MOST_BYTES / 3 / max(len(files), 1)) ** 0.5))
        self.changes: dict[str, tuple[Change, ...]] = {}
        for file in files:
            pixels, self.changes[file] = read_square(file, self._side_px)
            self[file] = Drawing.centred(pixels)

    def __missing__(self, file: str) -> Drawing:
        """Read a picture; of one that cannot be read, give a grey square, as the run goes on."""
        try:
            return Drawing.centred(read_square(file, self._side_px)[0])
        except InputError as error:
            log.warning("%s; a grey square is shown", error)
            return Drawing.centred(np.full((self._side_px, self._side_px, 3), _GREY, np.uint8))


def beforehand(files: Sequence[str]) -> tuple[list[str], str]:
    """Choose which of a decoder's pictures are read beforehand: all or, of too many, none.

    Parameters
    ----------
    files : sequence of str

    Returns
    -------
    chosen : list of str
    line : str
        What the operator should know; empty if all are chosen.
    """
    if len(files) <= MOST_BEFOREHAND:
        return list(files), ""
    line = (
        f"{len(files):,} pictures are read as they are shown, which may take a refresh or two; up to "
        f"{MOST_BEFOREHAND:,} would be read beforehand"
    )
    return [], line


def read_square(file: str, side_px: int) -> tuple[Array, tuple[Change, ...]]:
    """Read a picture, cut to a square: shape (side_px, side_px, 3), uint8; and how its pixels were converted.

    Parameters
    ----------
    file : str
    side_px : int

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    from PIL import Image, ImageOps

    decoded = read_picture(file)
    return np.asarray(ImageOps.fit(Image.fromarray(decoded.pixels), (side_px, side_px))), decoded.changes
