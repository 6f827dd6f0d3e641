"""Text as pixels, put together from letters that are kept: the first drawing of a letter in a size takes 0.1 ms."""

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
#: Share of an object's width that lies left of its position, by its alignment.
LEFT_OF: dict[Align, float] = {"left": 0.0, "centre": 0.5, "right": 1.0}
#: Ratio of the next smaller font size to the last one, for a text that is too long for its room.
_STEP = 0.85
#: Fonts that come with Windows and macOS, which have no program that tells which font has which letters.
_FONTS = {"ja": ("YuGothM.ttc", "meiryo.ttc", "msgothic.ttc", "ヒラギノ角ゴシック W3.ttc", "Hiragino Sans GB.ttc")}


class Drawing(NamedTuple):
    """Pixels, and their place beside the position at which they are drawn.

    Attributes
    ----------
    pixels : array of uint8, shape (height, width) or (height, width, 3)
        A mask, the opacity of each pixel, to be drawn in some colour; or the pixels' colours. The first row is the top.
    left, bottom : int
        Place of the lower left corner, pixels from the position at which it is drawn.
    """

    pixels: Array
    left: int
    bottom: int

    @classmethod
    def centred(cls, pixels: Array) -> Drawing:
        """Make a drawing of pixels whose middle lies at its position.

        Parameters
        ----------
        pixels : ndarray of shape (height, width) or (height, width, 3), uint8
        """
        return cls(pixels, -(pixels.shape[1] // 2), -(pixels.shape[0] // 2))


class Cell(NamedTuple):
    """A letter, or a piece of text that is laid out as a whole.

    Attributes
    ----------
    pixels : array of uint8, shape (height, width)
        Opacity of the pixels, with room on both sides.
    advance : int
        Distance to the next cell, pixels.
    above : int
        Distance of the cell's first row above the first row of its line, pixels.
    """

    pixels: Array
    advance: int
    above: int


class Lettering:
    """A font in one size, and fallback fonts for letters that it lacks.

    Text is brought to Unicode's form NFC. Letters that stand side by side are kept one by one; lines with letters that
    are joined, stacked or reordered are laid out in pieces, which are kept, too.

    Parameters
    ----------
    font_file : str
        Empty takes the font that PsychoPy brings along, so that text looks alike on every machine.
    bold : bool
        Whether to take the bold weight of PsychoPy's font; a font file has one weight.
    height_px : int
        Size of the font, pixels.
    fallbacks : tuple of Face
        Fallback fonts in their order; the first one that has a letter writes it.

    Raises
    ------
    InputError
        If the file holds no font.
    """

    def __init__(self, font_file: str, bold: bool, height_px: int, fallbacks: tuple[Face, ...] = ()) -> None:
        from PIL import ImageFont

        try:
            # Letters are laid out one by one, as they are kept one by one.
            basic = ImageFont.Layout.BASIC
            self._font = ImageFont.truetype(font_file or _psychopys_font(bold), height_px, layout_engine=basic)
        except OSError as error:
            raise InputError(
                f"font {font_file}: cannot be read ({what_went_wrong(error)}); name a TTF, OTF or TTC file"
            ) from error
        self.height_px = height_px
        #: Fallback fonts have one weight; beside bold letters, theirs are drawn thicker by this stroke, pixels.
        self._stroke_px = round(height_px / 40) if bold and not font_file else 0
        self.path = str(self._font.path)
        self._typefaces = Typefaces(Face(self.path))
        # The regular font comes before the fallbacks, as it may have letters that the bold one lacks.
        regular = (Face(_psychopys_font(bold=False)),) if bold and not font_file else ()
        self._typefaces.faces += (*regular, *fallbacks)
        self._opened: dict[tuple[Face, bool], Any] = {}
        self._ascent_px, descent_px = self._font.getmetrics()
        self._line_px = self._ascent_px + descent_px
        #: Room around a letter, pixels: letters may reach a little over their ends, and other fonts' over their lines.
        self._pad_px, self._above_px = height_px // 4 + 1, height_px
        self._cells: dict[str | Piece, Cell] = {}
        self.length_px = lru_cache(maxsize=8192)(self._length_px)
        self._units_of = lru_cache(maxsize=1024)(self._units)

    def _length_px(self, line: str) -> int:
        """Return the length of a line of text, pixels."""
        return sum([self._cell(unit).advance for unit in self._units_of(composed(line))])

    def write(self, words: str, align: Align) -> Drawing:
        """Write lines of text as a drawing.

        The middle between the first line's top and the last line's bottom lies at the drawing's position.

        Parameters
        ----------
        words : str
            One line or several, with line ends between them.
        align : {"left", "centre", "right"}
            End or centre of the lines that lies at the drawing's position.
        """
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
                area = pixels[place * self._line_px + above - cell.above :][:height, left : left + width]
                np.maximum(area, cell.pixels, out=area)
                left += cell.advance
        # Empty margins are cut off: empty pixels take as long to draw as others.
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        top, bottom, left, right = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) if len(rows) else (0, 1, 0, 1)
        corner = int(left) - pad - round(LEFT_OF[align] * longest)
        return Drawing(pixels[top:bottom, left:right], corner, len(pixels) // 2 - int(bottom))

    def _units(self, line: str) -> tuple[str | Piece, ...]:
        """Split a line into the letters or pieces that it is put together from, from left to right."""
        return tuple(line) if is_side_by_side(line) or not shapes() else tuple(pieces_of(line, self._typefaces))

    def _cell(self, unit: str | Piece) -> Cell:
        if unit not in self._cells:
            self._cells[unit] = self._draw_piece(unit) if isinstance(unit, Piece) else self._draw(unit)
        return self._cells[unit]

    def _draw(self, letter: str) -> Cell:
        from PIL import Image, ImageDraw

        chosen, *fallbacks = self._typefaces.faces
        if fallbacks and (self._typefaces.face_of(letter) or chosen) != chosen:
            return self._drawn(letter, self._opened_font(self._typefaces.face_of(letter) or chosen, shaped=False), None)
        advance = round(self._font.getlength(letter))
        image = Image.new("L", (advance + 2 * self._pad_px, self._line_px))
        ImageDraw.Draw(image).text((self._pad_px, 0), letter, 255, self._font)
        return Cell(np.asarray(image), advance, 0)

    def _draw_piece(self, piece: Piece) -> Cell:
        return self._drawn(piece.text, self._opened_font(piece.face, shaped=True), piece.direction)

    def _drawn(self, text: str, font: Any, direction: str | None) -> Cell:
        """Draw text on the line's baseline, with room above and below: other fonts' letters may be higher."""
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
    """Return the `Lettering` of fonts and a size, a kept one if it was made before.

    Parameters
    ----------
    font_file : str
        Empty takes the font that PsychoPy brings along.
    bold : bool
    height_px : int
        Size of the font, pixels.
    fallbacks : tuple of Face, optional
        Fallback fonts in their order.
    """
    return Lettering(font_file, bold, height_px, fallbacks)


@lru_cache(maxsize=8192)
def written(letters: Lettering, words: str, align: Align) -> Drawing:
    """Return the drawing that `letters.write` gives, and keep it, so that ten new names are on the screen at once.

    Parameters
    ----------
    letters : Lettering
    words : str
        One line or several, with line ends between them.
    align : {"left", "centre", "right"}
    """
    return letters.write(words, align)


@lru_cache(maxsize=512)
def fitting(
    words: str, font_file: str, bold: bool, height_px: int, room_px: float, fallbacks: tuple[Face, ...] = ()
) -> Lettering:
    """Return the lettering of the given size, or of the next smaller one in which every line fits.

    Parameters
    ----------
    words : str
        One line or several, with line ends between them.
    font_file : str
        Empty takes the font that PsychoPy brings along.
    bold : bool
    height_px : int
        Size to begin with, pixels; a size below 8 is taken even if a line does not fit.
    room_px : float
        Room for each line, pixels.
    fallbacks : tuple of Face, optional
        Fallback fonts in their order.
    """
    while True:
        letters = lettering(font_file, bold, height_px, fallbacks)
        if height_px < 8 or all(letters.length_px(line) <= room_px for line in words.split("\n")):
            return letters
        height_px = int(_STEP * height_px)


def find_font(language: str) -> str:
    """Find a font file with a language's letters; return an empty text if PsychoPy's own font has them.

    Parameters
    ----------
    language : {"en", "ja"}

    Raises
    ------
    InputError
        If this machine has no such font.
    """
    if language == "en":
        return ""
    # If no font has the language's letters, fc-match still returns one; so its languages are checked.
    if matcher := shutil.which("fc-match"):
        command = [matcher, f"sans-serif:lang={language}", "--format=%{file}\n%{lang}"]
        output = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 # a fixed program
        file, _, languages = output.partition("\n")
        if language in languages.split("|"):
            return file
    if sys.platform in ("win32", "darwin"):
        for name in _FONTS[language]:
            try:
                return lettering(name, bold=False, height_px=10).path
            except InputError:
                continue  # this version of the system lacks the font
    raise InputError(
        f"no font with the letters of language {language!r} was found: install one (Debian: fonts-ipafont-gothic), or "
        "name a TTF, OTF or TTC file as font_file in the settings"
    )


def _psychopys_font(bold: bool) -> str:
    import psychopy

    return str(Path(psychopy.__file__).parent / "assets" / "fonts" / f"NotoSans-{'Bold' if bold else 'Regular'}.ttf")
