"""Pieces of a line, each written by one font in one direction, in their order from left to right.

Lines are cut only if they have letters that must be joined, stacked or reordered, or run from right to left; Raqm lays
out the inside of a piece. The part of Unicode's bidirectional algorithm that names, cues and instructions need is here:
directions of letters, and of the characters between them; no embeddings and no overrides.
"""

from __future__ import annotations

import unicodedata
from itertools import groupby
from typing import Literal, NamedTuple

from rtgod.pictures.fonts import Face, Typefaces, is_drawn

Direction = Literal["ltr", "rtl"]
_FROM_THE_RIGHT = frozenset({"R", "AL"})
_FROM_THE_LEFT = frozenset({"L", "EN", "AN"})  # numbers run from left to right in every script


class Piece(NamedTuple):
    """Text that is laid out as a whole.

    Attributes
    ----------
    text : str
        The letters, in the order in which they are read.
    face : Face
        Font that writes the piece.
    direction : {"ltr", "rtl"}
        Direction of writing.
    """

    text: str
    face: Face
    direction: Direction


def pieces_of(line: str, typefaces: Typefaces) -> list[Piece]:
    """Cut a line into pieces of one font and one direction.

    Parameters
    ----------
    line : str
        Text in Unicode's form NFC.
    typefaces : Typefaces
        Fonts to choose from. A piece is set in the first font that has all of its letters, if one has; letters that no
        font has are left to the first font.

    Returns
    -------
    list of Piece
        The pieces, from left to right.
    """
    base = _base_direction(line)
    clusters = _clusters(line)
    directions = _directions(clusters, base)
    if line_face := typefaces.face_of(line):
        # Raqm orders a whole line by itself, even one of mixed directions.
        return [Piece(line, line_face, base)]
    spans: list[list[Piece]] = []
    for direction, group in groupby(zip(clusters, directions, strict=True), key=lambda pair: pair[1]):
        span = _by_face([cluster for cluster, _ in group], direction, typefaces)
        spans.append(span if direction == "ltr" else span[::-1])
    return [piece for span in (spans if base == "ltr" else spans[::-1]) for piece in span]


def _base_direction(line: str) -> Direction:
    """Return the direction of the first letter that has one."""
    for letter in line:
        kind = unicodedata.bidirectional(letter)
        if kind in _FROM_THE_RIGHT:
            return "rtl"
        if kind == "L":
            return "ltr"
    return "ltr"


def _clusters(line: str) -> list[str]:
    """Group each letter with its marks, and with characters that are joined to it."""
    clusters: list[str] = []
    for letter in line:
        joined = clusters and (
            unicodedata.category(letter) in ("Mn", "Mc", "Me") or (not is_drawn(letter) and not letter.isspace())
        )
        if joined or (clusters and clusters[-1].endswith("\u200d")):
            clusters[-1] += letter
        else:
            clusters.append(letter)
    return clusters


def _directions(clusters: list[str], base: Direction) -> list[Direction]:
    """Find the direction of each cluster; one that has none takes its neighbours' if they agree, else the line's."""
    strong: list[Direction | None] = []
    for cluster in clusters:
        kind = unicodedata.bidirectional(cluster[0])
        strong.append("rtl" if kind in _FROM_THE_RIGHT else "ltr" if kind in _FROM_THE_LEFT else None)
    directions: list[Direction] = []
    before = base
    for place, direction in enumerate(strong):
        after = next((later for later in strong[place:] if later is not None), base)
        directions.append(direction or (before if before == after else base))
        before = direction or before
    return directions


def _by_face(clusters: list[str], direction: Direction, typefaces: Typefaces) -> list[Piece]:
    """Cut clusters of one direction into pieces of one font; a word stays in one font if one has all of its letters."""
    pieces: list[Piece] = []
    for is_space, group in groupby(clusters, key=str.isspace):
        word = list(group)
        word_face = pieces[-1].face if is_space and pieces else typefaces.face_of("".join(word))
        for cluster in word if word_face is None else ["".join(word)]:
            face = word_face or typefaces.face_of(cluster) or typefaces.faces[0]
            if pieces and pieces[-1].face == face:
                pieces[-1] = pieces[-1]._replace(text=pieces[-1].text + cluster)
            else:
                pieces.append(Piece(cluster, face, direction))
    return pieces
