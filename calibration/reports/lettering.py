"""Names in figures, whatever script they are in: in a font that has their letters, or told where none has."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager

from rtgod.pictures.fonts import Face, letter_figure
from rtgod.text import plain

log = logging.getLogger(__name__)


def add_font(path: str) -> str:
    """Make a font's file known to matplotlib; returns its family."""
    fontManager.addfont(path)
    return FontProperties(fname=path).get_name()


@contextmanager
def lettered(figure: Figure) -> Iterator[None]:
    """Find fonts for a figure's texts; to be saved meanwhile, as matplotlib warns of each missing letter."""
    if lacking := letter_figure(figure, Face(findfont(FontProperties())), add_font):
        some = ", ".join(map(plain, lacking[:3]))
        log.warning("figures: no font has the letters of %s (%d texts); boxes stand for them", some, len(lacking))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield
