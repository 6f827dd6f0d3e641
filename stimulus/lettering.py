"""Writes text as pixels, from letters that are kept: drawing one of a size for the first time takes 0.1 ms."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Array

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


class Lettering:
    """A font in one size.

    Parameters
    ----------
    font_file : str
        Empty takes the font that PsychoPy brings along, so that text looks alike on every machine.
    bold : bool
        Of PsychoPy's; a file has one weight.
    height_px : int

    Raises
    ------
    InputError
        If the file holds no font.
    """

    def __init__(self, font_file: str, bold: bool, height_px: int) -> None:
        from PIL import ImageFont

        try:
            # Letter by letter, as they are kept: nothing is gained by a layout of the whole.
            basic = ImageFont.Layout.BASIC
            self._font = ImageFont.truetype(font_file or _psychopys_font(bold), height_px, layout_engine=basic)
        except OSError as error:
            raise InputError(f"font {font_file}: cannot be read ({error}); name a TTF, OTF or TTC file") from error
        self.height_px = height_px
        self.path = str(self._font.path)
        self._line_px = sum(self._font.getmetrics())
        #: Letters may reach a little over their ends.
        self._pad_px = height_px // 4 + 1
        self._letters: dict[str, tuple[Array, int]] = {}
        self.length_px = lru_cache(maxsize=8192)(self._length_px)

    def _length_px(self, line: str) -> int:
        """How long a line of text is."""
        return sum([self._letter(letter)[1] for letter in line])

    def write(self, words: str, align: Align) -> Drawing:
        """Lines of text, the middle between the first one's top and the last one's bottom at their position."""
        lines = words.split("\n")
        lengths = [self.length_px(line) for line in lines]
        longest, pad = max(lengths), self._pad_px
        pixels = np.zeros((self._line_px * len(lines), longest + 2 * pad), np.uint8)
        for place, (line, length) in enumerate(zip(lines, lengths, strict=True)):
            row = pixels[place * self._line_px :][: self._line_px]
            left = round(LEFT_OF[align] * (longest - length))
            for letter in line:
                cell, advance = self._letter(letter)
                here = row[:, left : left + cell.shape[1]]
                np.maximum(here, cell, out=here)
                left += advance
        # What is empty takes as long to draw as what is not.
        up, across = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        top, bottom, left, right = (up[0], up[-1] + 1, across[0], across[-1] + 1) if len(up) else (0, 1, 0, 1)
        corner = int(left) - pad - round(LEFT_OF[align] * longest)
        return Drawing(pixels[top:bottom, left:right], corner, len(pixels) // 2 - int(bottom))

    def _letter(self, letter: str) -> tuple[Array, int]:
        """Its pixels, with room on both sides, and how far the next one is."""
        if letter not in self._letters:
            self._letters[letter] = self._draw(letter)
        return self._letters[letter]

    def _draw(self, letter: str) -> tuple[Array, int]:
        from PIL import Image, ImageDraw

        advance = round(self._font.getlength(letter))
        image = Image.new("L", (advance + 2 * self._pad_px, self._line_px))
        ImageDraw.Draw(image).text((self._pad_px, 0), letter, 255, self._font)
        return np.asarray(image), advance


@lru_cache(maxsize=256)
def lettering(font_file: str, bold: bool, height_px: int) -> Lettering:
    """The same for the same font and size; see `Lettering`."""
    return Lettering(font_file, bold, height_px)


@lru_cache(maxsize=8192)
def written(letters: Lettering, words: str, align: Align) -> Drawing:
    """What `letters.write` gives, kept: a participant's ten new names are then on the screen in no time."""
    return letters.write(words, align)


@lru_cache(maxsize=512)
def fitting(words: str, font_file: str, bold: bool, height_px: int, room_px: float) -> Lettering:
    """The size, or the next one below it in which every line fits."""
    while True:
        given = lettering(font_file, bold, height_px)
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
