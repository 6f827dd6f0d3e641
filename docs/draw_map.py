"""Draws the maps in `docs/architecture.md` from the imports; with `--check`, says whether they are up to date."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is drawn, whichever is installed
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("rtgod", "calibration", "stimulus")
BEGIN, END = "<!-- map of {} -->", "<!-- end of map -->"


def rooms_of(package: str) -> dict[str, list[str]]:
    """List the rooms of a package, each with its modules; a module that lies in no folder is a room of its own."""
    rooms: dict[str, list[str]] = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if len(parts) > 2:
            rooms.setdefault(parts[1], []).extend(() if parts[-1] == "__init__" else [".".join(parts[2:])])
        elif not parts[1].startswith("__"):
            rooms.setdefault(parts[1], [])
    return rooms


def arrows_of(package: str) -> dict[str, set[str]]:
    """Map each room of a package to the rooms that it imports from; imports inside of functions count."""
    graph = grimp.build_graph(package, cache_dir=None)
    arrows: dict[str, set[str]] = {}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            here, there = (name.split(".")[1:2] for name in (module, imported))
            if here and there and here != there and not here[0].startswith("__"):
                arrows.setdefault(here[0], set()).add(there[0])
    return arrows


def layers_of(rooms: Mapping[str, object], arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Sort rooms into layers, lowest first: each room lies one layer above the highest that it imports from.

    Raises
    ------
    ValueError
        If rooms import from each other in a circle.
    """
    layers: list[list[str]] = []
    left = set(rooms)
    while left:
        free = sorted(room for room in left if not arrows.get(room, set()) & left)
        if not free:
            raise ValueError(f"rooms that import from each other: {', '.join(sorted(left))}")
        layers.append(free)
        left -= set(free)
    return layers


def direct_arrows(arrows: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Leave out every arrow that a longer way says already."""

    def reached(room: str) -> set[str]:
        return {further for there in arrows.get(room, set()) for further in {there, *reached(there)}}

    return [
        (room, there)
        for room in sorted(arrows)
        for there in sorted(arrows[room])
        if not any(there in reached(other) for other in arrows[room] - {there})
    ]


def purpose_of(package: str, room: str) -> str:
    """Read the first line of a room's docstring."""
    path = ROOT / package / room / "__init__.py"
    path = path if path.is_file() else ROOT / package / f"{room}.py"
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def draw(package: str) -> str:
    """Write one package's map as Markdown: a Mermaid flowchart of its rooms, and a table from the top layer down."""
    rooms, arrows = rooms_of(package), arrows_of(package)
    lines = ["", "```mermaid", "flowchart TD"]
    downwards = [room for layer in reversed(layers_of(rooms, arrows)) for room in layer]
    # In quotes: a slash before a bracket is a shape to Mermaid.
    lines += [f'    {room}["{_shown(room, rooms)}"]' for room in downwards]
    lines += [f"    {room} --> {there}" for room, there in direct_arrows(arrows)]
    lines += ["```", "", "| room | what it is for | modules |", "|---|---|---|"]
    for room in downwards:
        modules = ", ".join(f"`{module}`" for module in rooms[room])
        lines.append(f"| `{_shown(room, rooms)}` | {purpose_of(package, room)} | {modules} |")
    return "\n".join([*lines, ""])


def _shown(room: str, rooms: Mapping[str, Sequence[str]]) -> str:
    """Write a folder with a slash, and a module of the ground floor without."""
    return f"{room}/" if rooms[room] else room


def redrawn(page: str) -> str:
    """Replace the maps of a page by new ones."""
    for package in PACKAGES:
        before, begin, rest = page.partition(BEGIN.format(package))
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise SystemExit(f"{PAGE} has no place for the map of {package}: {BEGIN.format(package)} … {END}")
        page = f"{before}{begin}\n{draw(package)}\n{end}{after}"
    return page


def main(arguments: list[str]) -> int:
    """Draw the maps, or check them; 0 if they are up to date, 1 if not, 2 for an unknown argument."""
    if arguments not in ([], ["--check"]):
        print(f"python docs/draw_map.py [--check], not {' '.join(arguments)}", file=sys.stderr)
        return 2
    now = PAGE.read_text(encoding="utf-8")
    new = redrawn(now)
    if arguments:
        if new != now:
            print(f"{PAGE} is behind the imports; run: python docs/draw_map.py", file=sys.stderr)
        return int(new != now)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
