"""Choice of fonts that have the letters of a text, by the character maps of the font files on this computer.

Letters are checked before a text is drawn, so that no box appears in the place of a letter; letters that no font has
are reported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from rtgod.text import composed, plain

#: Letters that only need to be put side by side, from left to right: first and last of each range.
_SIDE_BY_SIDE = (
    (0x0000, 0x058F), (0x10A0, 0x10FF), (0x1C90, 0x1CBF), (0x1D00, 0x1FFF), (0x2010, 0x2BFF), (0x2C60, 0x2C7F),
    (0x2DE0, 0x2E7F), (0x2E80, 0xA4CF), (0xA640, 0xA69F), (0xA720, 0xA7FF), (0xAB30, 0xAB6F), (0xAC00, 0xD7A3),
    (0xF900, 0xFB1C), (0xFE30, 0xFE4F), (0xFF00, 0xFFEF), (0x1D400, 0x1D7FF), (0x20000, 0x3FFFF),
)  # fmt: skip
#: Characters that are not drawn themselves: joiners, marks of direction, variation selectors.
_IGNORABLE = frozenset(
    {0x00AD, 0x034F, 0x061C, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF}
    | {*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), *range(0x180B, 0x180F)}
)
#: Fonts that come with Windows and macOS and have letters beyond Latin, Greek and Cyrillic.
_BROUGHT_ALONG = (
    "segoeui.ttf", "malgun.ttf", "YuGothM.ttc", "meiryo.ttc", "msgothic.ttc", "msyh.ttc", "msjh.ttc", "Nirmala.ttc",
    "Nirmala.ttf", "LeelawUI.ttf", "leelawui.ttf", "ebrima.ttf", "mmrtext.ttf", "gadugi.ttf", "arial.ttf",
    "seguisym.ttf", "seguihis.ttf", "Arial Unicode.ttf", "AppleSDGothicNeo.ttc", "ヒラギノ角ゴシック W3.ttc",
    "Hiragino Sans GB.ttc", "PingFang.ttc", "GeezaPro.ttc", "ArialHB.ttc", "Thonburi.ttc", "KohinoorDevanagari.ttc",
    "KohinoorBangla.ttc", "KohinoorTelugu.ttc", "KohinoorGujarati.ttc", "Tamil MN.ttc", "Gurmukhi MN.ttc",
    "Kannada MN.ttc", "Malayalam MN.ttc", "Khmer MN.ttc", "Lao MN.ttc", "Myanmar MN.ttc", "Kefa.ttc", "Mshtakan.ttc",
)  # fmt: skip
#: Debian packages of fonts, by the first word of a letter's name in Unicode.
_PACKAGES = {"HANGUL": "fonts-nanum"} | dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA"), "fonts-noto-cjk")
_OTHER_PACKAGE = "fonts-noto-core"
_EMOJI, _EMOJI_PACKAGE = range(0x1F000, 0x1FB00), "fonts-symbola"
#: Most texts that a line quotes.
_N_TOLD = 3


class Face(NamedTuple):
    """A font, by its file and its number in it, as a file may hold several."""

    path: str
    number: int = 0

    @property
    def name(self) -> str:
        """Name of the file without its ending, for display."""
        return Path(self.path).stem


@dataclass(frozen=True, slots=True)
class Coverage:
    """Result of the search for fonts for some texts, as far as the chosen font lacks their letters.

    Attributes
    ----------
    found : dict of Face to tuple of str
        Other fonts that are used, each with the texts that need it.
    lacking : dict of str to str
        Texts with letters that no font has, and these letters.
    unshaped : tuple of str
        Texts whose letters must be joined or reordered, if Pillow cannot do that here.
    n_texts : int
        Number of texts that were checked.
    """

    found: dict[Face, tuple[str, ...]]
    lacking: dict[str, str]
    unshaped: tuple[str, ...]
    n_texts: int

    def notes(self, chosen: str) -> list[str]:
        """Write lines about the fonts that are used besides the chosen one.

        Parameters
        ----------
        chosen : str
            Name of the chosen font.
        """
        return [
            f"font {chosen} has no letters for {_some(texts)} ({len(texts)} of {self.n_texts} texts): these are set in "
            f"{face.name}"
            for face, texts in self.found.items()
        ]

    def problems(self, what: str, remedy: str) -> list[str]:
        """Write lines about texts that cannot be drawn.

        Parameters
        ----------
        what : str
            Plural noun for the texts: "names".
        remedy : str
            Instruction that tells how to choose a font: "set font_file in the settings".
        """
        lines = []
        if self.lacking:
            letters = "".join(dict.fromkeys("".join(self.lacking.values())))
            shown = plain(f"{letters[:10]}…" if len(letters) > 10 else letters)
            share = f"{len(self.lacking)} of {self.n_texts} {what}"
            lines.append(
                f"the font has no letters for {_some(tuple(self.lacking))} ({share}, lacking {shown}): "
                f"{remedy} to a TTF, OTF or TTC file that has them, or install one (Debian: "
                f"{_package_of(letters)})"
            )
        if self.unshaped:
            share = f"{len(self.unshaped)} of {self.n_texts} {what}"
            lines.append(
                f"the letters of {_some(self.unshaped)} ({share}) must be joined, stacked or reordered, for which "
                "Pillow lacks Raqm or FriBiDi: install Pillow from its wheel, and FriBiDi (Debian: libfribidi0)"
            )
        return lines


class Typefaces:
    """A chosen font, and further fonts for the letters that it lacks.

    Parameters
    ----------
    chosen : Face

    Attributes
    ----------
    faces : tuple of Face
        All fonts in use, the chosen one first.
    """

    def __init__(self, chosen: Face) -> None:
        self.faces: tuple[Face, ...] = (chosen,)

    def cover(self, texts: Iterable[str], language: str = "") -> Coverage:
        """Find and add fonts for the letters of some texts that the present fonts lack.

        Parameters
        ----------
        texts : iterable of str
        language : str
            Language whose fonts are preferred, as some Chinese characters have another shape in Japanese.
        """
        asked = list(dict.fromkeys(map(composed, texts)))
        lacking = {text: letters for text in asked if (letters := self._lacking(text))}
        by_script: dict[str, set[str]] = {}
        for letters in lacking.values():
            for letter in letters:
                by_script.setdefault(_script(letter), set()).add(letter)
        # Try a font for all letters of a script first, then one for each text, then one for each letter.
        wanted = [frozenset(letters) for letters in by_script.values()]
        wanted += [frozenset(letters) for letters in lacking.values()]
        wanted += [frozenset(letter) for letters in by_script.values() for letter in sorted(letters)]
        for letters_wanted in wanted:
            missing = frozenset(letter for letter in letters_wanted if not self._has(letter))
            if missing and (face := find_face(missing, language)):
                self.faces += (face,)
        still_lacking = {text: letters for text in lacking if (letters := self._lacking(text))}
        by_face: dict[Face, tuple[str, ...]] = {}
        for text, letters in lacking.items():
            if text not in still_lacking:
                face = next(face for face in self.faces if ord(letters[0]) in letters_of(face))
                by_face[face] = (*by_face.get(face, ()), text)
        unshaped = () if shapes() else tuple(text for text in asked if not is_side_by_side(text))
        return Coverage(by_face, still_lacking, unshaped, len(asked))

    def face_of(self, text: str) -> Face | None:
        """Return the first font that has all letters of a text; None if no font has them all.

        Parameters
        ----------
        text : str
            In form NFC, from `rtgod.text.composed`.
        """
        letters = [letter for letter in text if is_drawn(letter)]
        return next((face for face in self.faces if letters_of(face).issuperset(map(ord, letters))), None)

    def _has(self, letter: str) -> bool:
        return any(ord(letter) in letters_of(face) for face in self.faces)

    def _lacking(self, text: str) -> str:
        return "".join(dict.fromkeys(letter for letter in text if is_drawn(letter) and not self._has(letter)))


def is_drawn(letter: str) -> bool:
    """Return whether a font needs a glyph to draw a character.

    Parameters
    ----------
    letter : str
        One character.
    """
    return not letter.isspace() and ord(letter) not in _IGNORABLE


def is_side_by_side(text: str) -> bool:
    """Return whether the letters of a text can be drawn one by one, from left to right.

    Other scripts join their letters (Arabic), stack them (Thai), reorder them (Devanagari) or run from right to left.

    Parameters
    ----------
    text : str
        In form NFC, from `rtgod.text.composed`.
    """
    return text.isascii() or all(letter == "\n" or _stands_alone(letter) for letter in text)


@lru_cache(maxsize=8192)
def _stands_alone(letter: str) -> bool:
    code = ord(letter)
    return any(first <= code <= last for first, last in _SIDE_BY_SIDE) and unicodedata.category(letter) not in (
        "Mn", "Mc", "Me", "Cf",
    )  # fmt: skip


@lru_cache(maxsize=1)
def shapes() -> bool:
    """Return whether the installed Pillow can join, stack and reorder letters."""
    from PIL import features

    return bool(features.check("raqm"))


@lru_cache(maxsize=64)
def letters_of(face: Face) -> frozenset[int]:
    """Return the code points for which a font has glyphs; empty if its character map cannot be read.

    Parameters
    ----------
    face : Face
    """
    from fontTools.ttLib import TTFont, TTLibError

    try:
        # Opened here, as fontTools leaves a file open that it cannot read.
        with Path(face.path).open("rb") as file, TTFont(file, fontNumber=face.number & 0xFFFF, lazy=True) as font:
            return frozenset(font.getBestCmap() or ())
    except (TTLibError, OSError, KeyError, ValueError, AssertionError, IndexError):
        return frozenset()


@lru_cache(maxsize=1024)
def find_face(letters: frozenset[str], language: str = "") -> Face | None:
    """Find an installed font that has all of some letters and is scalable; None if no font does.

    Parameters
    ----------
    letters : frozenset of str
    language : str
        Language whose fonts are preferred, if letters have several shapes.
    """
    codes = {ord(letter) for letter in letters}
    # Fontconfig knows the fonts in the folders, and is faster than opening each file.
    fontconfig = (_by_fontconfig,) if shutil.which("fc-list") else ()
    for search in (*fontconfig, _brought_along, *(() if fontconfig else (_in_folders,))):
        for face in search(codes, language):
            if letters_of(face) >= codes and _can_be_drawn(face):
                return face
    return None


def letter_figure(
    figure: Any, default: Face, add_font: Callable[[str], str], preferred: Sequence[Face] = ()
) -> list[str]:
    """Set the texts of a matplotlib figure in fonts that have their letters, if the default font lacks some.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    default : Face
        Default font of matplotlib.
    add_font : callable
        Function that registers a font file with matplotlib, and returns the font's family.
    preferred : sequence of Face
        Fonts that are tried before installed ones, for texts of which the default font lacks letters.

    Returns
    -------
    list of str
        Texts with letters that no font has.
    """
    lacking: list[str] = []
    for artist in figure.findobj(_is_lettered):
        text = composed(artist.get_text())
        artist.set_text(text)
        letters = frozenset(letter for letter in text if is_drawn(letter))
        codes = {ord(letter) for letter in letters}
        if codes <= letters_of(default):
            continue
        if known := next((face for face in preferred if codes <= letters_of(face)), None):
            artist.get_fontproperties().set_file(known.path)
            continue
        typefaces = Typefaces(default)
        lacking += typefaces.cover([text]).lacking
        if len(typefaces.faces) == 1:
            continue
        if whole := find_face(letters):
            artist.get_fontproperties().set_file(whole.path)
        else:
            families = artist.get_fontproperties().get_family()
            artist.get_fontproperties().set_family([*families, *(add_font(face.path) for face in typefaces.faces[1:])])
    return lacking


def _is_lettered(artist: Any) -> bool:
    return hasattr(artist, "get_fontproperties") and hasattr(artist, "get_text") and not artist.get_text().isascii()


def _by_fontconfig(codes: set[int], language: str) -> Iterator[Face]:
    """Give the fonts that fontconfig prefers for some letters, then all others that have these letters."""
    charset = ":charset=" + " ".join(f"{code:x}" for code in sorted(codes)) + ":scalable=true:color=false"
    wanted = f":lang={language}" if language else ""
    for program, pattern, output_format in (
        ("fc-match", f"sans-serif{charset}{wanted}", "--format=%{file}\t%{index}\n"),
        ("fc-list", charset, "--format=%{file}\t%{index}\t%{weight}\t%{slant}\t%{family}\n"),
    ):
        if not (path := shutil.which(program)):
            return
        result = subprocess.run([path, output_format, pattern], capture_output=True, text=True, check=False)  # noqa: S603 # a fixed program
        rows = [line.split("\t") for line in result.stdout.splitlines() if line.count("\t") >= 1]
        for file, index, *_ in sorted(rows, key=_plainness) if program == "fc-list" else rows:
            yield Face(file, int(index) if index.isdecimal() else 0)


def _plainness(row: list[str]) -> tuple[bool, bool, bool, str]:
    """Return a sort key of fonts: sans before serif, upright before slanted, regular before bold."""
    file, _, weight, slant, family = (*row, "", "", "")[:5]
    return "sans" not in family.casefold(), slant not in ("", "0"), weight not in ("", "80"), file


def _brought_along(codes: set[int], language: str) -> Iterator[Face]:  # noqa: ARG001 # as the others are called
    if sys.platform not in ("win32", "darwin"):
        return
    from PIL import ImageFont

    for name in _BROUGHT_ALONG:
        try:
            yield Face(str(ImageFont.truetype(name, 10).path))
        except OSError:
            continue  # not with this version of the system


def _in_folders(codes: set[int], language: str) -> Iterator[Face]:  # noqa: ARG001 # as the others are called
    for folder in _folders():
        for parent, _, names in sorted(os.walk(folder)):
            for name in sorted(names):
                if name.lower().endswith((".ttf", ".otf", ".ttc")):
                    yield Face(str(Path(parent) / name))


def _folders() -> list[Path]:
    """List the folders in which the operating system keeps fonts."""
    home = Path.home()
    match sys.platform:
        case "win32":
            windows, local = os.environ.get("WINDIR", r"C:\Windows"), os.environ.get("LOCALAPPDATA", str(home))
            return [Path(windows) / "Fonts", Path(local) / "Microsoft" / "Windows" / "Fonts"]
        case "darwin":
            return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library" / "Fonts"]
    shared_data = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    user_data = os.environ.get("XDG_DATA_HOME") or str(home / ".local" / "share")
    return [*(Path(folder) / "fonts" for folder in (user_data, *shared_data.split(":"))), home / ".fonts"]


def _can_be_drawn(face: Face) -> bool:
    """Return whether Pillow can draw a font at any size; some emoji fonts hold pictures of only one size."""
    from PIL import ImageFont

    try:
        ImageFont.truetype(face.path, 13, index=face.number)
    except OSError:
        return False
    return True


def _script(letter: str) -> str:
    return unicodedata.name(letter, "?").partition(" ")[0].partition("-")[0]


def _package_of(letters: str) -> str:
    return ", ".join(
        dict.fromkeys(
            _EMOJI_PACKAGE if ord(letter) in _EMOJI else _PACKAGES.get(_script(letter), _OTHER_PACKAGE)
            for letter in letters
        )
    )


def _some(texts: tuple[str, ...]) -> str:
    shown = ", ".join(plain(text.replace("\n", " ")) for text in texts[:_N_TOLD])
    return f"{shown}, …" if len(texts) > _N_TOLD else shown
