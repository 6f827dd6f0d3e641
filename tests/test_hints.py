"""Whatever option a message, a hint or a docstring names, some command has it."""

import ast
import re
from pathlib import Path

import typer

from rtgod.commands.main import make_app

ROOT = Path(__file__).parents[1]
#: Options of other programs: Dask's workers and fontconfig.
OTHERS = {"--nworkers", "--nthreads", "--format"}


def options_of(command):
    """Names of all options of a command and those below it."""
    found = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return found.union(*(options_of(below) for below in getattr(command, "commands", {}).values()))


def named_in(path):
    """Each option that a string of a module names, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for name in re.findall(r"(?<![\w-])--[a-z][a-z-]*", node.value):
                yield name, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_every_option_that_is_named_is_there():
    known = options_of(typer.main.get_command(make_app())) | {"--help", "-h"} | OTHERS
    paths = [path for folder in ("rtgod", "calibration", "stimulus") for path in sorted((ROOT / folder).rglob("*.py"))]
    named = [found for path in paths for found in named_in(path)]
    assert len(named) > 100
    assert [where for name, where in named if name not in known] == []
