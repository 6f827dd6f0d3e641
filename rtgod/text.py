"""Text from outside, made safe to show: no name colours, moves or retitles a terminal, or turns a line round."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

#: Controls (C0, DEL, C1), halves of surrogate pairs, and what Unicode ends a line or a paragraph with.
_ESCAPED = frozenset({"Cc", "Cs", "Zl", "Zp"})
#: Unicode's Bidi_Control: marks, embeddings, overrides and isolates, which reorder what stands around them.
_TURNS_ROUND = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
#: What a file's name cannot have on one system or another.
_NO_FILE_NAME_HAS = frozenset('/\\:*?"<>|')
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", *(f"{p}{n}" for p in ("COM", "LPT") for n in "0123456789¹²³")}
)


def plain(text: object, at_most: int | None = None) -> str:
    """Write text so that a terminal, a log or a page shows every character of it and obeys none.

    Parameters
    ----------
    text : object
        Such as a name, a path or an error; as `str` writes it.
    at_most : int, optional
        Characters of the text to show, from its beginning. What is left out is counted: "… (12 more)".

    Returns
    -------
    str
        On one line. Control characters are written as Python escapes, ESC as a backslash and x1b; others stand as they
        are, whatever the script. It is no markup of any library: print it where none is parsed.
    """
    whole = str(text)
    kept = whole if at_most is None else whole[:at_most]
    shown = "".join(map(_shown, kept))
    left_out = len(whole) - len(kept)
    return f"{shown}… ({left_out} more)" if left_out else shown


def plain_lines(text: object) -> str:
    """Write text as `plain` does, and keep its line breaks: for messages of several lines that rtgod wrote itself."""
    return "\n".join(map(plain, str(text).split("\n")))


def figure_text(text: object) -> str:
    """Write text as `plain_lines` does for a figure of matplotlib, which takes what is between two dollars for TeX."""
    return plain_lines(text).replace("$", r"\$")


def encodable(text: str) -> str:
    """Write what UTF-8 cannot encode as escapes: a file's name in another encoding, or an option, may hold it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def composed(text: str) -> str:
    """Write text in Unicode's form NFC, in which names are compared and shown.

    "é" may be stored as one character or as "e" with an accent; macOS and some archives do the latter in file names.
    """
    return unicodedata.normalize("NFC", text)


def spelled_alike(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two different names that `composed` makes one; None where there are none."""
    seen: dict[str, str] = {}
    for name in names:
        # Of plain letters there is one spelling, and it is most of a million names.
        if not name.isascii() and (other := seen.setdefault(composed(name), name)) != name:
            return other, name
    return None


def times(numbers: Iterable[object], form: str = "") -> str:
    """Write numbers with × between them, as of a grid's voxels: "64 × 64 × 50".

    Parameters
    ----------
    numbers : iterable of object
    form : str
        How `format` writes each; as `str` does by default.
    """
    return " × ".join(format(number, form) for number in numbers)


def number_of(n: int, what: str) -> str:
    """Write how many there are of something: "1 trial", "2 trials"."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def file_stem(name: str) -> str:
    """Make the beginning of a file's name from a name, which is left as it is where it can be.

    Nothing takes such a file for an option, a hidden file, a device (Windows's CON, say) or one in another folder.

    Parameters
    ----------
    name : str
        Of a run, say. An ending, such as _bold.nii.gz, is to be added.

    Returns
    -------
    str
        Not empty. Two names can become one: whoever writes files of several compares, as many file systems do, without
        regard to capitals.
    """
    stem = "".join("-" if c in _NO_FILE_NAME_HAS or plain(c) != c else c for c in name).lstrip("-. ").rstrip(". ")
    return f"run{stem and '-'}{stem}" if not stem or stem.partition(".")[0].rstrip().upper() in _DEVICES else stem


def _shown(character: str) -> str:
    if unicodedata.category(character) in _ESCAPED or character in _TURNS_ROUND:
        return character.encode("unicode_escape").decode("ascii")
    return character
