"""Cuts a line into pieces that one font writes in one direction, in the order in which they stand from left to right.

Only for lines with letters that must be joined, stacked or reordered, and for those that run from right to left; what
happens inside a piece is left to Raqm. Of Unicode's bidirectional algorithm this is what names, cues and instructions
need: directions of letters, and of what stands between them; no embeddings and no overrides.
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
        In the order in which it is read.
    face : Face
    direction : {"ltr", "rtl"}
    """

    text: str
    face: Face
    direction: Direction


def pieces_of(line: str, typefaces: Typefaces) -> list[Piece]:
    """Cut a line.

    Parameters
    ----------
    line : str
        In Unicode's form NFC.
    typefaces : Typefaces
        A piece is set in the first font that has all of its letters, where there is one; letters that none has are
        left to the first of all.

    Returns
    -------
    list of Piece
        From left to right.
    """
    base = _base_direction(line)
    clusters = _clusters(line)
    directions = _directions(clusters, base)
    if whole := typefaces.face_of(line):
        # Raqm orders a line by itself, mixed or not.
        return [Piece(line, whole, base)]
    spans: list[list[Piece]] = []
    for direction, group in groupby(zip(clusters, directions, strict=True), key=lambda pair: pair[1]):
        span = _by_face([cluster for cluster, _ in group], direction, typefaces)
        spans.append(span if direction == "ltr" else span[::-1])
    return [piece for span in (spans if base == "ltr" else spans[::-1]) for piece in span]


def _base_direction(line: str) -> Direction:
    """That of the first letter which has one."""
    for letter in line:
        kind = unicodedata.bidirectional(letter)
        if kind in _FROM_THE_RIGHT:
            return "rtl"
        if kind == "L":
            return "ltr"
    return "ltr"


def _clusters(line: str) -> list[str]:
    """Letters with the marks that belong to them, and what is joined to them."""
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
    """Of each cluster; what has none takes that of its neighbours, if both have one, or the line's."""
    strong: list[Direction | None] = []
    for cluster in clusters:
        kind = unicodedata.bidirectional(cluster[0])
        strong.append("rtl" if kind in _FROM_THE_RIGHT else "ltr" if kind in _FROM_THE_LEFT else None)
    found: list[Direction] = []
    before = base
    for place, own in enumerate(strong):
        after = next((other for other in strong[place:] if other is not None), base)
        found.append(own or (before if before == after else base))
        before = own or before
    return found


def _by_face(clusters: list[str], direction: Direction, typefaces: Typefaces) -> list[Piece]:
    """Pieces of one direction; words keep to one font where one has all of their letters."""
    pieces: list[Piece] = []
    for is_space, group in groupby(clusters, key=str.isspace):
        word = list(group)
        whole = pieces[-1].face if is_space and pieces else typefaces.face_of("".join(word))
        for cluster in word if whole is None else ["".join(word)]:
            face = whole or typefaces.face_of(cluster) or typefaces.faces[0]
            if pieces and pieces[-1].face == face:
                pieces[-1] = pieces[-1]._replace(text=pieces[-1].text + cluster)
            else:
                pieces.append(Piece(cluster, face, direction))
    return pieces
