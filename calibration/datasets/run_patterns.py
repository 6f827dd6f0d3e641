"""Patterns over the names of runs, by which `--training` and `--test` choose runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rtgod.errors import InputError

_WITHOUT = "not:"
_MOST_NUMBERS = 1000
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_TOKEN = re.compile(r"(?P<digits>\d+)|(?P<any>[*?])|\[(?P<invert>!?)(?P<among>[^]]+)\]|(?P<plain>.)", re.DOTALL)
#: Regular expression for both ends of a pattern: no number may be cut in two there.
_WHOLE = r"(?!(?<=\d)\d)"


@dataclass(frozen=True, slots=True)
class RunPatterns:
    """Patterns over the names of runs; a run is meant if one of them is found in its name.

    A pattern is a part of a name; `*`, `?` and `[…]` in it mean the same as in a shell. Numbers are compared by value:
    `run-1` is found in `run-01`, but neither in `run-10` nor in `run-11`.

    Attributes
    ----------
    wanted : tuple of str
        Patterns that choose runs; if empty, all runs are meant.
    unwanted : tuple of str
        Patterns of runs to leave out.
    """

    wanted: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()

    @classmethod
    def parse(cls, given: str | Iterable[str] | None, default: str = "") -> RunPatterns:
        """Read the values of an option.

        Parameters
        ----------
        given : str, iterable of str, or None
            Each item is one or several patterns, separated by commas; `run-1..6` stands for `run-1` to `run-6`, and
            `not:echo-1` leaves out the runs in whose names `echo-1` is found.
        default : str
            Pattern used if no given pattern chooses runs.

        Raises
        ------
        InputError
            If a range does not ascend or is endless, or it is unclear what is left out.
        """
        items = [given] if isinstance(given, str) else list(given or ())
        for item in items:
            first, *others = [part.strip() for part in item.split(",")]
            if first.startswith(_WITHOUT) and any(part and not part.startswith(_WITHOUT) for part in others):
                raise InputError(
                    f"pattern {item}: does {_WITHOUT} hold for the first or for all? Write it before each, and what is "
                    "wanted in an option of its own"
                )
        parts = [part.strip() for item in items for part in item.split(",") if part.strip()]
        wanted = [p for part in parts if not part.startswith(_WITHOUT) for p in _expanded(part)]
        unwanted = [p for part in parts if part.startswith(_WITHOUT) for p in _expanded(part.removeprefix(_WITHOUT))]
        return cls(tuple(wanted) or ((default,) if default else ()), tuple(unwanted))

    @property
    def given(self) -> tuple[str, ...]:
        """All patterns, as they are written on the command line."""
        return (*self.wanted, *(f"{_WITHOUT}{pattern}" for pattern in self.unwanted))

    def __str__(self) -> str:
        return (" or ".join(map(repr, self.wanted)) or "''") + "".join(
            f" without {pattern!r}" for pattern in self.unwanted
        )

    def renamed(self, names: Mapping[str, str]) -> RunPatterns:
        """Return a copy in which patterns that equal a key of `names` are replaced by its value.

        Parameters
        ----------
        names : mapping of str to str
        """
        return RunPatterns(tuple(names.get(p, p) for p in self.wanted), tuple(names.get(p, p) for p in self.unwanted))

    def match(self, name: str) -> bool:
        """Return whether a run of this name is meant.

        Parameters
        ----------
        name : str

        Raises
        ------
        InputError
            If a pattern cannot be read.
        """
        return (not self.wanted or any(_found(p, name) for p in self.wanted)) and not any(
            _found(p, name) for p in self.unwanted
        )

    def unmatched(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the patterns that no name contains, in the form in which they are given.

        Parameters
        ----------
        names : sequence of str
            Names of all runs.

        Raises
        ------
        InputError
            If a pattern cannot be read.
        """
        return tuple(
            written
            for written, pattern in zip(self.given, (*self.wanted, *self.unwanted), strict=True)
            if not any(_found(pattern, name) for name in names)
        )


def as_options(option: str, patterns: Iterable[str]) -> str:
    """Write patterns as options of a command line, such as `--training run-1 --training 'run-[45]'`.

    Parameters
    ----------
    option : str
        The option's name, with its hyphens.
    patterns : iterable of str
        Patterns in the form of `RunPatterns.given`.
    """
    return " ".join(f"{option} '{p}'" if re.search(r"[*?\[\]]", p) else f"{option} {p}" for p in patterns)


def _expanded(pattern: str) -> Iterator[str]:
    """Expand a range in a pattern into one pattern for each number."""
    if not (numbers := _RANGE.search(pattern)):
        yield pattern
        return
    first, last = int(numbers[1]), int(numbers[2])
    if not first <= last < first + _MOST_NUMBERS:
        raise InputError(f"pattern {pattern}: write the lower number first, such as run-1..6")
    for number in range(first, last + 1):
        yield from _expanded(f"{pattern[: numbers.start()]}{number:0{len(numbers[1])}d}{pattern[numbers.end() :]}")


def _found(pattern: str, name: str) -> bool:
    try:
        return re.search(f"{_WHOLE}{''.join(map(_regex, _TOKEN.finditer(pattern)))}{_WHOLE}", name) is not None
    except re.error as error:
        raise InputError(f"pattern {pattern}: cannot be read ({error}); write it as in a shell: run-[1-6]") from error


def _regex(token: re.Match[str]) -> str:
    if token["digits"]:
        return f"0*{number}" if (number := token["digits"].lstrip("0")) else "0+"
    if token["any"]:
        return ".*" if token["any"] == "*" else "."
    if token["among"]:
        among = token["among"].replace("\\", "\\\\").replace("^", "\\^").replace("[", "\\[")
        return f"[{'^' if token['invert'] else ''}{among}]"
    return re.escape(token["plain"])
