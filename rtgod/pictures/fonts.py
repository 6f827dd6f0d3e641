"""Fonts that have the letters of a text: which letters a file has, and which file of this machine has those asked for.

Nobody is shown a box in the place of a letter: what is to be written is compared with the fonts' character maps before
it is, and what no font has is told.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from rtgod.text import composed, plain

#: Letters that need nothing but to be put side by side, from left to right: first and last of each range.
_SIDE_BY_SIDE = (
    (0x0000, 0x058F), (0x10A0, 0x10FF), (0x1C90, 0x1CBF), (0x1D00, 0x1FFF), (0x2010, 0x2BFF), (0x2C60, 0x2C7F),
    (0x2DE0, 0x2E7F), (0x2E80, 0xA4CF), (0xA640, 0xA69F), (0xA720, 0xA7FF), (0xAB30, 0xAB6F), (0xAC00, 0xD7A3),
    (0xF900, 0xFB1C), (0xFE30, 0xFE4F), (0xFF00, 0xFFEF), (0x1D400, 0x1D7FF), (0x20000, 0x3FFFF),
)  # fmt: skip
#: Characters that are seen by what they do to others: joiners, marks of direction, variation selectors.
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
#: Debian's packages, by the first word of a letter's name in Unicode.
_PACKAGES = {"HANGUL": "fonts-nanum"} | dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA"), "fonts-noto-cjk")
_OTHER_PACKAGE = "fonts-noto-core"
_EMOJI, _EMOJI_PACKAGE = range(0x1F000, 0x1FB00), "fonts-symbola"
#: So many names are told.
_N_TOLD = 3


class Face(NamedTuple):
    """A font in a file, which may hold several."""

    path: str
    number: int = 0

    @property
    def name(self) -> str:
        """The file's name without ending, for people."""
        return Path(self.path).stem


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which texts have letters that the chosen font lacks.

    Attributes
    ----------
    found : dict of Face to tuple of str
        Fonts that were taken for such texts, with these.
    lacking : dict of str to str
        Texts with letters that no font has, and these letters.
    unshaped : tuple of str
        Texts whose letters must be joined or reordered, where nothing can do that.
    n_texts : int
        How many texts were looked at.
    """

    found: dict[Face, tuple[str, ...]]
    lacking: dict[str, str]
    unshaped: tuple[str, ...]
    n_texts: int

    def notes(self, chosen: str) -> list[str]:
        """Lines about the fonts that were taken beside the chosen one."""
        return [
            f"font {chosen} has no letters for {_some(texts)} ({len(texts)} of {self.n_texts} texts): these are set in "
            f"{face.name}"
            for face, texts in self.found.items()
        ]

    def problems(self, what: str, remedy: str) -> list[str]:
        """Lines about what cannot be written.

        Parameters
        ----------
        what : str
            Of what texts these are: "names".
        remedy : str
            How to choose a font: "set font_file in the settings".
        """
        lines = []
        if self.lacking:
            letters = "".join(dict.fromkeys("".join(self.lacking.values())))
            some = plain(f"{letters[:10]}…" if len(letters) > 10 else letters)
            share = f"{len(self.lacking)} of {self.n_texts} {what}"
            lines.append(
                f"the font has no letters for {_some(tuple(self.lacking))} ({share}, lacking {some}): "
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
    """The font of all texts, and behind it those that have the letters it lacks.

    Parameters
    ----------
    chosen : Face

    Attributes
    ----------
    faces : tuple of Face
        The chosen one first.
    """

    def __init__(self, chosen: Face) -> None:
        self.faces: tuple[Face, ...] = (chosen,)

    def cover(self, texts: Iterable[str], language: str = "") -> Coverage:
        """Find fonts for whatever letters of some texts are lacking, and take them.

        Parameters
        ----------
        texts : iterable of str
        language : str
            Preferred where one letter has several shapes, as Chinese characters do in Japanese.
        """
        asked = list(dict.fromkeys(map(composed, texts)))
        lacking = {text: letters for text in asked if (letters := self._lacking(text))}
        by_script: dict[str, set[str]] = {}
        for letters in lacking.values():
            for letter in letters:
                by_script.setdefault(_script(letter), set()).add(letter)
        # A font for all letters of a script; else what is found for each text, and for each letter.
        wanted = [frozenset(letters) for letters in by_script.values()]
        wanted += [frozenset(letters) for letters in lacking.values()]
        wanted += [frozenset(letter) for letters in by_script.values() for letter in sorted(letters)]
        for letters_wanted in wanted:
            rest = frozenset(letter for letter in letters_wanted if not self._has(letter))
            if rest and (face := find_face(rest, language)):
                self.faces += (face,)
        left = {text: letters for text in lacking if (letters := self._lacking(text))}
        found: dict[Face, tuple[str, ...]] = {}
        for text, letters in lacking.items():
            if text not in left:
                face = next(face for face in self.faces if ord(letters[0]) in letters_of(face))
                found[face] = (*found.get(face, ()), text)
        unshaped = () if shapes() else tuple(text for text in asked if not is_side_by_side(text))
        return Coverage(found, left, unshaped, len(asked))

    def face_of(self, text: str) -> Face | None:
        """The first font that has all letters of a text."""
        letters = [letter for letter in text if is_drawn(letter)]
        return next((face for face in self.faces if letters_of(face).issuperset(map(ord, letters))), None)

    def _has(self, letter: str) -> bool:
        return any(ord(letter) in letters_of(face) for face in self.faces)

    def _lacking(self, text: str) -> str:
        return "".join(dict.fromkeys(letter for letter in text if is_drawn(letter) and not self._has(letter)))


def is_drawn(letter: str) -> bool:
    """Whether a font needs a picture of a character."""
    return not letter.isspace() and ord(letter) not in _IGNORABLE


def is_side_by_side(text: str) -> bool:
    """Whether the letters of a text in form NFC stand side by side from left to right, none changed by its neighbours.

    Other scripts join their letters (Arabic), stack them (Thai), reorder them (Devanagari) or run from right to left.
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
    """Whether Pillow can join, stack and reorder letters here."""
    from PIL import features

    return bool(features.check("raqm"))


@lru_cache(maxsize=64)
def letters_of(face: Face) -> frozenset[int]:
    """Code points that a font has a picture of; none where its character map cannot be read."""
    from fontTools.ttLib import TTFont, TTLibError

    try:
        # fontTools leaves a file open that it cannot read.
        with Path(face.path).open("rb") as file, TTFont(file, fontNumber=face.number & 0xFFFF, lazy=True) as font:
            return frozenset(font.getBestCmap() or ())
    except (TTLibError, OSError, KeyError, ValueError, AssertionError, IndexError):
        return frozenset()


@lru_cache(maxsize=1024)
def find_face(letters: frozenset[str], language: str = "") -> Face | None:
    """A font of this machine that has all of some letters, and can be drawn in one colour at any size.

    Parameters
    ----------
    letters : frozenset of str
    language : str
        Preferred where one letter has several shapes.
    """
    codes = {ord(letter) for letter in letters}
    # Fontconfig knows what is in the folders, and is faster than a look at each.
    known = (_by_fontconfig,) if shutil.which("fc-list") else ()
    for candidates in (*known, _brought_along, *(() if known else (_in_folders,))):
        for face in candidates(codes, language):
            if letters_of(face) >= codes and _can_be_drawn(face):
                return face
    return None


def letter_figure(figure: Any, default: Face, add_font: Callable[[str], str]) -> list[str]:
    """Set texts of a figure of matplotlib, whose own font lacks their letters, in fonts that have them.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    default : Face
        The font that matplotlib takes.
    add_font : callable
        Makes a font's file known to matplotlib, and returns its family.

    Returns
    -------
    list of str
        Texts with letters that no font has.
    """
    lacking: list[str] = []
    for artist in figure.findobj(_is_lettered):
        text = composed(artist.get_text())
        artist.set_text(text)
        typefaces = Typefaces(default)
        lacking += typefaces.cover([text]).lacking
        letters = frozenset(letter for letter in text if is_drawn(letter))
        if len(typefaces.faces) == 1:
            continue
        if whole := find_face(letters):
            artist.get_fontproperties().set_file(whole.path)
        else:
            own = artist.get_fontproperties().get_family()
            artist.get_fontproperties().set_family([*own, *(add_font(face.path) for face in typefaces.faces[1:])])
    return lacking


def _is_lettered(artist: Any) -> bool:
    return hasattr(artist, "get_fontproperties") and hasattr(artist, "get_text") and not artist.get_text().isascii()


def _by_fontconfig(codes: set[int], language: str) -> Iterator[Face]:
    """What fontconfig prefers for these letters, then whatever has them all."""
    charset = ":charset=" + " ".join(f"{code:x}" for code in sorted(codes)) + ":scalable=true:color=false"
    wanted = f":lang={language}" if language else ""
    for program, pattern, shown in (
        ("fc-match", f"sans-serif{charset}{wanted}", "--format=%{file}\t%{index}\n"),
        ("fc-list", charset, "--format=%{file}\t%{index}\t%{weight}\t%{slant}\t%{family}\n"),
    ):
        if not (path := shutil.which(program)):
            return
        done = subprocess.run([path, shown, pattern], capture_output=True, text=True, check=False)  # noqa: S603 # a fixed program
        rows = [line.split("\t") for line in done.stdout.splitlines() if line.count("\t") >= 1]
        for file, index, *_ in sorted(rows, key=_plainness) if program == "fc-list" else rows:
            yield Face(file, int(index) if index.isdecimal() else 0)


def _plainness(row: list[str]) -> tuple[bool, bool, bool, str]:
    """Sans before serif, upright before slanted, regular before bold."""
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
    """Where a system keeps its fonts."""
    home = Path.home()
    match sys.platform:
        case "win32":
            windows, local = os.environ.get("WINDIR", r"C:\Windows"), os.environ.get("LOCALAPPDATA", str(home))
            return [Path(windows) / "Fonts", Path(local) / "Microsoft" / "Windows" / "Fonts"]
        case "darwin":
            return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library" / "Fonts"]
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    own = os.environ.get("XDG_DATA_HOME") or str(home / ".local" / "share")
    return [*(Path(folder) / "fonts" for folder in (own, *shared.split(":"))), home / ".fonts"]


def _can_be_drawn(face: Face) -> bool:
    """Whether Pillow draws it at any size: pictures of one size, as some fonts of emoji have, are none of letters."""
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
