"""Line breaks of names and texts that must fit their room, and shortening of those that do not; it knows no font."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from unicodedata import east_asian_width

#: Characters that no line begins with.
_NEVER_FIRST = frozenset("、。，．）」』】〕！？ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ・：；)],.!?")


def typeset(
    name: str, width_px: float, heights_px: Sequence[int], length_px: Callable[[str, int], float]
) -> tuple[int, tuple[str, ...]]:
    """Choose how to set a name so that it is as large as its length allows.

    Parameters
    ----------
    name : str
    width_px : float
        Room for each line, pixels.
    heights_px : sequence of int
        Letter sizes to try for one line, pixels, largest first; a name too long even at the last is set in two lines.
    length_px : callable
        Returns the length of a text at a letter size, pixels.

    Returns
    -------
    height_px : int
        The letter size.
    lines : tuple of one or two str
    """
    for height in heights_px:
        if length_px(name, height) <= width_px:
            return height, (name,)
    small = heights_px[-1]
    return small, _in_two_lines(name, lambda text: length_px(text, small) <= width_px)


def in_lines(text: str, n_lines: int, fits: Callable[[str], bool]) -> tuple[str, ...]:
    """Break a text into lines that fit, as few and as equal in length as possible; a text too long gets an ellipsis.

    Parameters
    ----------
    text : str
        Text to break; its own line breaks stay if all its lines fit and are not too many.
    n_lines : int
        Greatest number of lines.
    fits : callable
        Returns whether a line fits its room.
    """
    lines = tuple(text.split("\n"))
    if len(lines) <= n_lines and all(map(fits, lines)):
        return lines
    text = " ".join(lines)
    for n in range(1, n_lines + 1):
        broken = _filled(text, n, fits)
        if len(broken) <= n and all(map(fits, broken)):
            break
    # Lines are made as equal in length as the number of lines allows.
    for longest in range(max(map(len, broken)) - 1, 0, -1):
        evener = _filled(text, n, lambda line, longest=longest: len(line) <= longest and fits(line))  # type: ignore[misc]
        if len(evener) > len(broken) or max(map(len, evener)) > longest or not all(map(fits, evener)):
            break
        broken = evener
    return (*broken[:-1], _shortened(broken[-1], fits))


def _filled(text: str, n_lines: int, fits: Callable[[str], bool]) -> tuple[str, ...]:
    """Break a text into lines as full as they can be; the last line takes all the rest."""
    lines: list[str] = []
    while text and len(lines) < n_lines - 1:
        places = [place for place in _breaks(text) if fits(text[:place].rstrip())]
        if fits(text) or not places:
            break
        lines.append(text[: places[-1]].rstrip())
        text = text[places[-1] :].lstrip()
    return (*lines, text)


def _breaks(text: str) -> list[int]:
    """Find the places where a line may end: before a space, after a hyphen in a word, beside wide letters (Chinese)."""
    return [
        place
        for place, (before, after) in enumerate(pairwise(text), 1)
        if after == " "
        or (before == "-" and after.isalpha() and text[place - 2 : place - 1].isalpha())
        or (before != " " and (_is_wide(before) or _is_wide(after)) and after not in _NEVER_FIRST)
    ]


def _is_wide(letter: str) -> bool:
    return east_asian_width(letter) in "WF"


def _in_two_lines(name: str, fits: Callable[[str], bool]) -> tuple[str, ...]:
    """Break a name so that its first line fits and the longer line is as short as possible; shorten the second line."""
    breaks = [(name[:place].rstrip(), name[place:].lstrip()) for place in _breaks(name)]
    possible = [lines for lines in breaks if fits(lines[0])]
    if not possible:
        return (_shortened(name, fits),)
    first, second = min(possible, key=lambda lines: max(map(len, lines)))
    return first, _shortened(second, fits)


def _shortened(text: str, fits: Callable[[str], bool]) -> str:
    """Keep as much of a text as fits, with an ellipsis if that is not all of it."""
    if fits(text):
        return text
    n_fitting = bisect_left(range(1, len(text)), True, key=lambda n: not fits(text[:n].rstrip(" ,") + "…"))
    return text[:n_fitting].rstrip(" ,") + "…"
