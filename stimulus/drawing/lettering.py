"""Writes text as pixels, from letters that are kept: drawing one of a size for the first time takes 0.1 ms."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from rtgod.errors import InputError, what_went_wrong
from rtgod.messages import Array
from rtgod.pictures.fonts import Face, Typefaces, is_side_by_side, shapes
from rtgod.text import composed
from stimulus.drawing.shaping import Piece, pieces_of

Align = Literal["left", "centre", "right"]
#: By how much of its width something lies left of its position.
LEFT_OF: dict[Align, float] = {"left": 0.0, "centre": 0.5, "right": 1.0}
#: A text that is too long for its room is set smaller, in steps of this ratio.
_STEP = 0.85
#: Fonts that come with Windows and macOS, where nothing tells which font has which letters.
_FONTS = {"ja": ("YuGothM.ttc", "meiryo.ttc", "msgothic.ttc", "ヒラギノ角ゴシック W3.ttc", "Hiragino Sans GB.ttc")}


class Drawing(NamedTuple):
    """Pixels, and where they go.

    Attributes
    ----------
    pixels : array of uint8, shape (height, width) or (height, width, 3)
        How opaque each is, to be drawn in some colour; or their colours. The first row is the top.
    left, bottom : int
        Where its corner lies, from the position at which it is drawn.
    """

    pixels: Array
    left: int
    bottom: int

    @classmethod
    def centred(cls, pixels: Array) -> Drawing:
        """Its middle at its position."""
        return cls(pixels, -(pixels.shape[1] // 2), -(pixels.shape[0] // 2))


class Cell(NamedTuple):
    """A letter, or a piece of text that is laid out as a whole.

    Attributes
    ----------
    pixels : array of uint8, shape (height, width)
        With room on both sides.
    advance : int
        How far the next one is.
    above : int
        How far its first row lies above that of its line.
    """

    pixels: Array
    advance: int
    above: int


class Lettering:
    """A font in one size, and others behind it for letters that it lacks.

    Text is taken in Unicode's form NFC. Letters that stand side by side are kept one by one; lines with others are laid
    out in pieces, which are kept, too.

    Parameters
    ----------
    font_file : str
        Empty takes the font that PsychoPy brings along, so that text looks alike on every machine.
    bold : bool
        Of PsychoPy's; a file has one weight.
    height_px : int
    fallbacks : tuple of Face
        In this order; the first that has a letter writes it.

    Raises
    ------
    InputError
        If the file holds no font.
    """

    def __init__(self, font_file: str, bold: bool, height_px: int, fallbacks: tuple[Face, ...] = ()) -> None:
        from PIL import ImageFont

        try:
            # Letter by letter, as they are kept: nothing is gained by a layout of the whole.
            basic = ImageFont.Layout.BASIC
            self._font = ImageFont.truetype(font_file or _psychopys_font(bold), height_px, layout_engine=basic)
        except OSError as error:
            raise InputError(
                f"font {font_file}: cannot be read ({what_went_wrong(error)}); name a TTF, OTF or TTC file"
            ) from error
        self.height_px = height_px
        #: Other fonts have one weight; beside bold letters theirs are drawn thicker.
        self._stroke_px = round(height_px / 40) if bold and not font_file else 0
        self.path = str(self._font.path)
        self._typefaces = Typefaces(Face(self.path))
        # Fallbacks are those of the regular font, which may have letters that the bold one lacks.
        regular = (Face(_psychopys_font(bold=False)),) if bold and not font_file else ()
        self._typefaces.faces += (*regular, *fallbacks)
        self._opened: dict[tuple[Face, bool], Any] = {}
        self._ascent_px, descent_px = self._font.getmetrics()
        self._line_px = self._ascent_px + descent_px
        #: Letters may reach a little over their ends, and those of other fonts over their lines.
        self._pad_px, self._above_px = height_px // 4 + 1, height_px
        self._cells: dict[str | Piece, Cell] = {}
        self.length_px = lru_cache(maxsize=8192)(self._length_px)
        self._units_of = lru_cache(maxsize=1024)(self._units)

    def _length_px(self, line: str) -> int:
        """How long a line of text is."""
        return sum([self._cell(unit).advance for unit in self._units_of(composed(line))])

    def write(self, words: str, align: Align) -> Drawing:
        """Lines of text, the middle between the first one's top and the last one's bottom at their position."""
        lines = composed(words).split("\n")
        lengths = [self.length_px(line) for line in lines]
        longest, pad = max(lengths), self._pad_px
        cells = [[self._cell(unit) for unit in self._units_of(line)] for line in lines]
        above = max((cell.above for line in cells for cell in line), default=0)
        pixels = np.zeros((self._line_px * len(lines) + 2 * above, longest + 2 * pad), np.uint8)
        for place, (line, length) in enumerate(zip(cells, lengths, strict=True)):
            left = round(LEFT_OF[align] * (longest - length))
            for cell in line:
                height, width = cell.pixels.shape
                here = pixels[place * self._line_px + above - cell.above :][:height, left : left + width]
                np.maximum(here, cell.pixels, out=here)
                left += cell.advance
        # What is empty takes as long to draw as what is not.
        up, across = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        top, bottom, left, right = (up[0], up[-1] + 1, across[0], across[-1] + 1) if len(up) else (0, 1, 0, 1)
        corner = int(left) - pad - round(LEFT_OF[align] * longest)
        return Drawing(pixels[top:bottom, left:right], corner, len(pixels) // 2 - int(bottom))

    def _units(self, line: str) -> tuple[str | Piece, ...]:
        """What a line is put together from, from left to right."""
        return tuple(line) if is_side_by_side(line) or not shapes() else tuple(pieces_of(line, self._typefaces))

    def _cell(self, unit: str | Piece) -> Cell:
        if unit not in self._cells:
            self._cells[unit] = self._draw_piece(unit) if isinstance(unit, Piece) else self._draw(unit)
        return self._cells[unit]

    def _draw(self, letter: str) -> Cell:
        from PIL import Image, ImageDraw

        own, *others = self._typefaces.faces
        if others and (self._typefaces.face_of(letter) or own) != own:
            return self._drawn(letter, self._opened_font(self._typefaces.face_of(letter) or own, shaped=False), None)
        advance = round(self._font.getlength(letter))
        image = Image.new("L", (advance + 2 * self._pad_px, self._line_px))
        ImageDraw.Draw(image).text((self._pad_px, 0), letter, 255, self._font)
        return Cell(np.asarray(image), advance, 0)

    def _draw_piece(self, piece: Piece) -> Cell:
        return self._drawn(piece.text, self._opened_font(piece.face, shaped=True), piece.direction)

    def _drawn(self, text: str, font: Any, direction: str | None) -> Cell:
        """Text on the line's baseline, with room above and below: other fonts' letters may be higher."""
        from PIL import Image, ImageDraw

        advance = round(font.getlength(text, direction=direction))
        image = Image.new("L", (advance + 2 * self._pad_px, self._line_px + 2 * self._above_px))
        stroke_px = 0 if font.path == self.path else self._stroke_px
        baseline = self._pad_px, self._above_px + self._ascent_px
        ImageDraw.Draw(image).text(baseline, text, 255, font, anchor="ls", direction=direction, stroke_width=stroke_px)
        return Cell(np.asarray(image), advance, self._above_px)

    def _opened_font(self, face: Face, *, shaped: bool) -> Any:
        from PIL import ImageFont

        if (face, shaped) not in self._opened:
            engine = ImageFont.Layout.RAQM if shaped else ImageFont.Layout.BASIC
            self._opened[face, shaped] = ImageFont.truetype(
                face.path, self.height_px, face.number, layout_engine=engine
            )
        return self._opened[face, shaped]


@lru_cache(maxsize=256)
def lettering(font_file: str, bold: bool, height_px: int, fallbacks: tuple[Face, ...] = ()) -> Lettering:
    """The same for the same fonts and size; see `Lettering`."""
    return Lettering(font_file, bold, height_px, fallbacks)


@lru_cache(maxsize=8192)
def written(letters: Lettering, words: str, align: Align) -> Drawing:
    """What `letters.write` gives, kept: a participant's ten new names are then on the screen in no time."""
    return letters.write(words, align)


@lru_cache(maxsize=512)
def fitting(
    words: str, font_file: str, bold: bool, height_px: int, room_px: float, fallbacks: tuple[Face, ...] = ()
) -> Lettering:
    """The size, or the next one below it in which every line fits."""
    while True:
        given = lettering(font_file, bold, height_px, fallbacks)
        if height_px < 8 or all(given.length_px(line) <= room_px for line in words.split("\n")):
            return given
        height_px = int(_STEP * height_px)


def find_font(language: str) -> str:
    """A font file with a language's letters; empty where PsychoPy's own font has them.

    Raises
    ------
    InputError
        If there is none on this machine.
    """
    if language == "en":
        return ""
    # Without the language's letters in any font, the match is another font.
    if matcher := shutil.which("fc-match"):
        command = [matcher, f"sans-serif:lang={language}", "--format=%{file}\n%{lang}"]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 # a fixed program
        file, _, languages = said.partition("\n")
        if language in languages.split("|"):
            return file
    if sys.platform in ("win32", "darwin"):
        for name in _FONTS[language]:
            try:
                return lettering(name, bold=False, height_px=10).path
            except InputError:
                continue  # not with this version of the system
    raise InputError(
        f"no font with the letters of language {language!r} was found: install one (Debian: fonts-ipafont-gothic), or "
        "name a TTF, OTF or TTC file as font_file in the settings"
    )


def _psychopys_font(bold: bool) -> str:
    import psychopy

    return str(Path(psychopy.__file__).parent / "assets" / "fonts" / f"NotoSans-{'Bold' if bold else 'Regular'}.ttf")
