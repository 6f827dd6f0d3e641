"""Options that commands of several packages share, and functions that print settings and planned outputs."""

from __future__ import annotations

import json
import math
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rtgod.candidates import HEADER
from rtgod.console import PlainConsole, styled
from rtgod.errors import InputError

Key = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Key to connect with, where one is asked for.")]
ClientName = Annotated[
    str | None, typer.Option("--name", help="What `rtgod status` calls this client: 'scanner console'.")
]
Echo = Annotated[
    str,
    typer.Option(
        "--echo",
        metavar="N|combine|combine:MS",
        help="Echo to take of several, from 1 by echo time; or all, combined with weights for a T2* of 45 ms (grey "
        "matter at 3 T), or of MS.",
    ),
]
ShowSettings = Annotated[bool, typer.Option("--show-settings", help="Print the settings in force, as JSON, and stop.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be read, used, left out and written, and stop.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what an earlier call left in --out, once this one is done.")
]

Discard = Annotated[
    int | None,
    typer.Option(
        "--discard",
        min=0,
        max=10_000,
        metavar="N",
        help="Discard the first N volumes of a run that the scanner delivers; default as for the bundle's runs.",
    ),
]
CountFrom = Annotated[
    int | None,
    typer.Option(
        "--count-from",
        min=-10_000,
        max=10_000,
        metavar="VOLUME",
        help="Volume at whose start the events' onset 0 is, from 1, of those that the scanner delivers, discarded ones "
        "counted; -4 after five that it does not deliver; default as for the bundle's runs.",
    ),
]

console = PlainConsole(stderr=True)


def progress_bars(*, transient: bool = False) -> Progress:
    """Return progress bars with the remaining time, on standard error.

    Parameters
    ----------
    transient : bool
        Whether they vanish at the end, and are shown on a screen alone.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=transient, disable=transient and not console.is_terminal)


#: Seconds after which the reason for waiting is printed again.
_SAY_AGAIN_S = 30.0


def chosen_counts(discard: int | None, count_from: int | None) -> dict[str, int]:
    """Return the settings of `[events]` that `--discard` and `--count-from` give.

    Parameters
    ----------
    discard, count_from : int or None
        Values of the options; None where an option is not given.
    """
    given = {"discard_volumes": discard, "count_from": count_from}
    return {name: value for name, value in given.items() if value is not None}


#: Most files that a message names when files exist already; the rest are counted.
_MOST_NAMED = 3


def show_settings(settings: BaseModel | Mapping[str, BaseModel]) -> None:
    """Print settings as JSON, and nothing else, to standard output.

    Parameters
    ----------
    settings : BaseModel or mapping of str to BaseModel
        Settings of one file, or settings of several files by the name of their option.
    """
    if isinstance(settings, BaseModel):
        shown = settings.model_dump(mode="json")
    else:
        shown = {name: table.model_dump(mode="json") for name, table in settings.items()}
    PlainConsole().print_json(json.dumps(shown))


def needed_out(out: Path | None) -> Path:
    """Return the value of `--out`, after a check that it is given and can be written to.

    Raises
    ------
    InputError
        If the option is missing, or no folder can be made or written to at this path.
    """
    if out is None:
        raise InputError("no folder to write to; give one with --out")
    if problem := _problem_with(out):
        raise InputError(f"{problem}; choose another --out")
    return out


def check_new(out: Path, names: Sequence[str], *, overwrite: bool) -> None:
    """Refuse to replace files of an earlier call, unless `overwrite` is set.

    Parameters
    ----------
    out : Path
        Folder to write into.
    names : sequence of str
        Names of the files that may be written.
    overwrite : bool
        The value of `--overwrite`.

    Raises
    ------
    InputError
        If one of the files exists and may not be replaced, or if the folder holds a bundle.
    """
    if (out / HEADER).exists():
        raise InputError(f"{out}: holds a decoder bundle; choose another --out")
    if (out / "dataset_description.json").exists():
        raise InputError(
            f"{out}: is the root of a data set; choose another --out, such as {out / 'derivatives' / 'rtgod'}"
        )
    if not overwrite and (existing := _there(out, names)):
        raise InputError(f"{out}: {existing} already there; choose another --out, or replace it with --overwrite")


def say_output(
    out: Path | None, what: str, names: Sequence[str], *, overwrite: bool | None, console: PlainConsole
) -> None:
    """Print, in a dry run, what would be written, and whether something prevents it.

    Parameters
    ----------
    out : Path or None
        The value of `--out`, if it is given.
    what : str
        Description of the output.
    names : sequence of str
        Names of the files that may be written; empty if the command makes the folder itself.
    overwrite : bool or None
        The value of `--overwrite`; None for commands that never replace anything.
    console : PlainConsole
    """
    where = f"to {out}" if out is not None else "to the folder of --out, which is not given"
    console.print(styled(("would be written", "yellow"), f" {where}: {what}"), soft_wrap=True)
    if out is not None and (problem := _problem_with(out)):
        console.print(styled(("in its place", "yellow"), f" {problem}: it would be refused"), soft_wrap=True)
    elif out is not None and (existing := _there(out, names)):
        consequence = "there, and would be replaced"
        if not overwrite:
            unasked = "" if overwrite is None else ", and --overwrite not given"
            consequence = f"already there{unasked}: it would be refused"
        console.print(styled(("in its place", "yellow"), f" {existing} {consequence}"), soft_wrap=True)


def _problem_with(out: Path) -> str:
    """Return why no folder can be made or written to at a path; an empty string if one can."""
    parent = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not parent.is_dir():
        return f"{out}: {'is' if parent == out else f'{parent} is'} a file, and no folder"
    try:
        with tempfile.TemporaryFile(dir=parent):
            return ""
    except OSError as error:
        return f"{out}: {parent} cannot be written to ({error.strerror})"


def _there(out: Path, names: Sequence[str]) -> str:
    """Name the files (or, without `names`, the folder) that exist, with a verb; empty if nothing exists."""
    if not names:
        return f"{out} is" if out.exists() else ""
    existing = [name for name in names if (out / name).exists()]
    if not existing:
        return ""
    more = f" and {len(existing) - _MOST_NAMED} more" if len(existing) > _MOST_NAMED else ""
    return f"{', '.join(existing[:_MOST_NAMED])}{more} {'is' if len(existing) == 1 else 'are'}"


def say(text: str) -> None:
    """Print a line on standard error, without markup or wrapping."""
    console.print(styled(text), soft_wrap=True)


class Waiting:
    """Printer of why a source waits: at first, when the reason changes, and again after `_SAY_AGAIN_S`."""

    def __init__(self) -> None:
        self._said, self._said_s = "", -math.inf

    def say(self, why: str) -> None:
        """Print the reason, unless only its numbers differ from the last one printed.

        Parameters
        ----------
        why : str
        """
        kind = re.sub(r"[0-9]+(\.[0-9]+)?", "0", why)
        if kind != self._said or time.monotonic() >= self._said_s + _SAY_AGAIN_S:
            self._said, self._said_s = kind, time.monotonic()
            say(why)
