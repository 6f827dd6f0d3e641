"""Benchmarks that are run one after another, for the table of figures that are taken from them."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.figures import print_all, write_json

Main = Callable[[Sequence[str]], int]
#: Name of a benchmark; its `main`, and the figures that are taken of it.
Parts = Mapping[str, tuple[Main, tuple[str, ...]]]


def run_parts(parts: Parts, program: str, description: str, arguments: Sequence[str] | None) -> int:
    """Run benchmarks one after another; print the figures taken, and write them as JSON if asked to.

    Parameters
    ----------
    parts : mapping of str to (callable, tuple of str)
    program : str
        Name of the command, for its help.
    description : str
        First line of its help.
    arguments : sequence of str or None
        Of the command line; None for those of this process.

    Returns
    -------
    int
        Exit code: 2 if a benchmark cannot run, of which it has told.
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--only", nargs="+", choices=list(parts), default=list(parts), help="default: all")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    taken: dict[str, float | str] = {}
    for name in options.only:
        run, wanted = parts[name]
        began = time.perf_counter()
        figures = _figures(run)
        if figures is None:
            return 2
        for figure in wanted:
            if figure in figures:
                taken[figure] = figures[figure]
            else:
                print(f"{name}: {figure} is not finite, and left out")
        taken[f"{name}_minutes"] = (time.perf_counter() - began) / 60
    print()
    print_all(taken)
    if options.json:
        write_json(options.json, taken)
    return 0


def _figures(run: Main) -> dict[str, float | str] | None:
    """Return the figures of a benchmark; None if it could not run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "figures.json")
        if run(["--json", str(path)]):
            return None
        figures: dict[str, float | str] = json.loads(path.read_text(encoding="utf-8"))
        return figures
