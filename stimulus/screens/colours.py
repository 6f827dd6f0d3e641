"""The screen's colours, and their fading: an uncertain ranking is pale, and every word can still be read.

Words keep a contrast of 4.5 to the background, as WCAG 2.2 asks of text, and bars one of 3 to their tracks.
"""

from __future__ import annotations

from functools import lru_cache

from rtgod.pictures.pixels import BACKGROUND as BACKGROUND

BRIGHT = "#f2f2f2"
PLAIN = "#d2d2d2"
QUIET = "#b0b0b0"
TRACK = "#4a4a4a"
#: Colour that other colours fade to.
PALE = "#a8a8a8"
# Orange and blue of Okabe and Ito's palette, told apart with every kind of colour vision; the blue is chosen so that
# the best category is also the brightest.
BEST_BAR = "#e69f00"
OTHER_BAR = "#5f9fc8"


@lru_cache
def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of a colour, from 0 to 255.

    Parameters
    ----------
    colour : str
        Written as #rrggbb.
    """
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def mixed(below: str, above: str, opacity: float) -> str:
    """Mix a colour with the one below it, so that an opaque rectangle can be drawn, which is faster.

    Parameters
    ----------
    below, above : str
        Colours, written as #rrggbb.
    opacity : float
        Opacity of `above`, from 0 to 1.
    """
    pairs = zip(rgb(below), rgb(above), strict=True)
    return "#" + bytes(round(a + opacity * (b - a)) for a, b in pairs).hex()


def faded(colour: str, strength: float) -> str:
    """Fade a colour; it loses its colour rather than its contrast.

    Parameters
    ----------
    colour : str
        Written as #rrggbb.
    strength : float
        From 0, pale, to 1, unchanged.
    """
    return mixed(PALE, colour, strength)
