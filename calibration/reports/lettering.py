"""Names of any script in figures: find a font with their letters, or warn if none has them."""

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
    """Make a font's file known to matplotlib, and return its family.

    Parameters
    ----------
    path : str
    """
    fontManager.addfont(path)
    return FontProperties(fname=path).get_name()


@contextmanager
def lettered(figure: Figure) -> Iterator[None]:
    """Find fonts for a figure's texts; save it inside, where one warning replaces matplotlib's for each letter.

    Parameters
    ----------
    figure : Figure
    """
    if lacking := letter_figure(figure, Face(findfont(FontProperties())), add_font):
        listed = ", ".join(map(plain, lacking[:3]))
        log.warning("figures: no font has the letters of %s (%d texts); boxes stand for them", listed, len(lacking))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield
