"""Count what a maintainer stumbles over: long functions, undocumented parameters, full folders, exported names.

Usage: python docs/count_house.py
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import calibration
import rtgod

PACKAGES = ("rtgod", "calibration", "stimulus")
#: A function of more lines than this is long.
_LONG = 60
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> Iterator[tuple[Path, ast.Module]]:
    """Every module of the packages with its syntax tree."""
    for package in PACKAGES:
        for path in sorted(Path(package).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def public_callables(tree: ast.Module) -> Iterator[_Function]:
    """Functions and methods of a module whose names, and whose classes' names, do not begin with an underscore."""
    for node in tree.body:
        if isinstance(node, _Function) and not node.name.startswith("_"):
            yield node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from (f for f in node.body if isinstance(f, _Function) and not f.name.startswith("_"))


def has_parameters(function: _Function) -> bool:
    """Whether a function takes anything but itself."""
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return bool([name for name in names if name not in ("self", "cls")])


def lines_of(function: _Function) -> int:
    """Lines of a function without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def main() -> None:
    """Print the counts."""
    functions = [(path, node) for path, tree in modules() for node in ast.walk(tree) if isinstance(node, _Function)]
    long = [(lines_of(node), f"{path}: {node.name}") for path, node in functions if lines_of(node) > _LONG]
    callables = [
        node
        for path, tree in modules()
        for node in public_callables(tree)
        if has_parameters(node) and path.parent.name != "commands"  # whose help says what theirs are
    ]
    silent = [node for node in callables if "Parameters" not in (ast.get_docstring(node) or "")]
    folders = Counter(str(path.parent) for path, _ in modules() if path.stem != "__init__")
    folder, n_most = folders.most_common(1)[0]
    print(f"functions of more than {_LONG} lines: {len(long)} of {len(functions)}")
    for n_lines, name in sorted(long, reverse=True):
        print(f"    {n_lines} {name}")
    print(f"public callables with parameters, and without a Parameters section: {len(silent)} of {len(callables)}")
    print(f"modules in a folder, at most: {n_most} ({folder}); in {len(folders)} folders")
    n_names = {module.__name__: len(module.__all__) for module in (rtgod, calibration)}
    print("exported names:", ", ".join(f"{n} of {name}" for name, n in n_names.items()))


if __name__ == "__main__":
    main()
