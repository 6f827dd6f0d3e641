"""Lines cut into pieces of one font and one direction, from left to right."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.pictures import fonts
from rtgod.pictures.fonts import Face, Typefaces
from stimulus.drawing.shaping import pieces_of

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SANS, STIX = Face(str(FONTS / "DejaVuSans.ttf")), Face(str(FONTS / "STIXGeneral.ttf"))


@pytest.fixture
def typefaces(monkeypatch):
    """Three made-up fonts: of Latin letters and digits, of Hebrew ones, and of Thai ones."""
    faces = tuple(Face(name) for name in ("latin", "hebrew", "thai"))
    letters = dict(zip(faces, (range(0x20, 0x80), range(0x590, 0x600), range(0xE00, 0xE80)), strict=True))
    monkeypatch.setattr(fonts, "letters_of", lambda face: frozenset(letters[face]))
    made = Typefaces(faces[0])
    made.faces = faces
    return made


@pytest.mark.parametrize(
    ("line", "pieces"),
    [
        ("דג זהב", [("דג זהב", "hebrew", "rtl")]),
        ("close to דג זהב", [("close to ", "latin", "ltr"), ("דג זהב", "hebrew", "rtl")]),
        # The quotation marks belong to the English around them.
        ('to "דג"', [('to "', "latin", "ltr"), ("דג", "hebrew", "rtl"), ('"', "latin", "ltr")]),
        # The line begins at the right: what follows stands further left.
        ("דג dog", [("dog", "latin", "ltr"), (" ", "latin", "rtl"), ("דג", "hebrew", "rtl")]),
        ("דג 2", [("2", "latin", "ltr"), (" ", "latin", "rtl"), ("דג", "hebrew", "rtl")]),
        ("ปลา dog", [("ปลา ", "thai", "ltr"), ("dog", "latin", "ltr")]),
        ("", [("", "latin", "ltr")]),
    ],
)
def test_pieces_stand_from_left_to_right(typefaces, line, pieces):
    found = [(piece.text, piece.face.path, piece.direction) for piece in pieces_of(line, typefaces)]
    assert _without_faces_of_spaces(found) == _without_faces_of_spaces(pieces)


def _without_faces_of_spaces(pieces):
    """Nobody sees in which font a space is."""
    return [(text.strip(), face if text.strip() else "", direction) for text, face, direction in pieces if text.strip()]


def test_marks_stay_with_their_letters(typefaces):
    assert [piece.text for piece in pieces_of("น้ำ", typefaces)] == ["น้ำ"]


def test_letters_that_no_font_has_are_the_first_font_s(typefaces):
    assert {piece.face.path for piece in pieces_of("ദ്വ ദ", typefaces)} == {"latin"}


@given(st.text(st.sampled_from("ab 1.(אב\u05b7ก\u0e34م\u200dದ“”")))
def test_no_letter_is_lost_or_added(line):
    line = unicodedata.normalize("NFC", line)
    made = Typefaces(STIX)
    made.faces += (SANS,)
    pieces = pieces_of(line, made)
    assert sorted("".join(piece.text for piece in pieces)) == sorted(line)
    assert {piece.face for piece in pieces} <= {STIX, SANS}
