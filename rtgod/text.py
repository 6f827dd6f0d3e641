"""Safe display of text from outside: no name can control a terminal or reverse the direction of a line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

from rich.cells import cell_len

#: Unicode categories of controls (C0, DEL, C1), surrogates, and separators of lines and paragraphs.
_ESCAPED = frozenset({"Cc", "Cs", "Zl", "Zp"})
#: Unicode's Bidi_Control: marks, embeddings, overrides and isolates, which reorder the text around them.
_TURNS_ROUND = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
#: Characters that some operating system does not allow in file names.
_NO_FILE_NAME_HAS = frozenset('/\\:*?"<>|')
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", *(f"{p}{n}" for p in ("COM", "LPT") for n in "0123456789¹²³")}
)


def plain(text: object, at_most: int | None = None) -> str:
    """Write text so that a terminal, a log or a page shows every character of it and obeys none.

    Parameters
    ----------
    text : object
        A name, a path or an error, for example; it is converted by `str`.
    at_most : int, optional
        Most characters of the text to show, from its beginning; further ones are counted: "… (12 more)".

    Returns
    -------
    str
        Text on one line. Control characters are written as Python escapes, ESC as a backslash and x1b, and so is a text
        of marks alone, which has no width; all others are unchanged, in any script. Markup is not escaped: print the
        text only where no markup is parsed.
    """
    whole = str(text)
    start = whole if at_most is None else whole[:at_most]
    shown = "".join(map(_shown, start))
    if not shown.isascii() and not cell_len(shown):
        shown = shown.encode("ascii", "backslashreplace").decode()
    left_out = len(whole) - len(start)
    return f"{shown}… ({left_out} more)" if left_out else shown


def plain_lines(text: object) -> str:
    """Write text as `plain` does, but keep its line breaks, for messages of several lines that rtgod made itself.

    Parameters
    ----------
    text : object
        Converted by `str`.
    """
    return "\n".join(map(plain, str(text).split("\n")))


def figure_text(text: object) -> str:
    """Write text as `plain_lines` does, with dollars escaped for matplotlib, which reads text between two as TeX.

    Parameters
    ----------
    text : object
        Converted by `str`.
    """
    return plain_lines(text).replace("$", r"\$")


def encodable(text: str) -> str:
    """Escape characters that UTF-8 cannot encode, which file names in another encoding, or options, may hold.

    Parameters
    ----------
    text : str
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def composed(text: str) -> str:
    """Convert text to Unicode's form NFC, in which names are compared and shown.

    "é" may be stored as one character or as "e" with an accent; macOS and some archives do the latter in file names.

    Parameters
    ----------
    text : str
    """
    return unicodedata.normalize("NFC", text)


def spelled_alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Find the first two different names that are equal once `composed`; None if all stay different.

    Parameters
    ----------
    names : iterable of str
    """
    seen: dict[str, str] = {}
    for name in names:
        # ASCII names have only one spelling, and are most of a million names.
        if not name.isascii() and (earlier := seen.setdefault(composed(name), name)) != name:
            return earlier, name
    return None


def called_alike(names: Mapping[str, str]) -> dict[str, list[str]]:
    """Group categories that people cannot tell apart, as they are called by one name.

    Parameters
    ----------
    names : mapping of str to str
        The name of each category.

    Returns
    -------
    dict of str to list of str
        The categories of each name that several have.
    """
    by_name: dict[str, list[str]] = {}
    for category, name in names.items():
        by_name.setdefault(name, []).append(category)
    return {name: categories for name, categories in by_name.items() if len(categories) > 1}


def times(numbers: Iterable[object], form: str = "") -> str:
    """Write numbers with × between them, such as the voxels of a grid: "64 × 64 × 50".

    Parameters
    ----------
    numbers : iterable of object
    form : str
        Format of each number, for `format`.
    """
    return " × ".join(format(number, form) for number in numbers)


def number_of(n: int, what: str) -> str:
    """Write a number with a noun in singular or plural: "1 trial", "2 trials".

    Parameters
    ----------
    n : int
    what : str
        Noun in the singular, whose plural only adds an s.
    """
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def file_stem(name: str) -> str:
    """Make the beginning of a file's name from a name, which is changed only if needed.

    Such a file cannot be taken for an option, a hidden file, a device (Windows's CON, for example) or a file in another
    folder.

    Parameters
    ----------
    name : str
        Name of a run, for example. An ending, such as _bold.nii.gz, is to be added.

    Returns
    -------
    str
        Never empty. Two names can become equal: a caller that writes files of several names must compare the results,
        without regard to capitals, as many file systems do.
    """
    stem = "".join("-" if c in _NO_FILE_NAME_HAS or plain(c) != c else c for c in name).lstrip("-. ").rstrip(". ")
    return f"run{stem and '-'}{stem}" if not stem or stem.partition(".")[0].rstrip().upper() in _DEVICES else stem


def _shown(character: str) -> str:
    if unicodedata.category(character) in _ESCAPED or character in _TURNS_ROUND:
        return character.encode("unicode_escape").decode("ascii")
    return character
