"""What a paradigm shows, found in folders and tables: images, words for categories, pictures of candidates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from rtgod.errors import InputError
from rtgod.events import category_of, read_table
from stimulus.schedule import Image

_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def find_images(folder: Path) -> dict[str, Path]:
    """Images in a folder and the folders in it, by their names without ending, in the order of their paths.

    Raises
    ------
    InputError
        If there is none, or two have one name.
    """
    if not folder.is_dir():
        raise InputError(f"images {folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS):
        if path.stem in found:
            raise InputError(f"images {folder}: {found[path.stem]} and {path} have one name; rename one of them")
        found[path.stem] = path
    if not found:
        raise InputError(f"images {folder}: no image in it; PNG and JPEG files are read, in folders, too")
    return found


def images_to_show(found: Iterable[str]) -> list[Image]:
    """Images with their categories, which their names begin with: n03626115 of n03626115_19498."""
    return [Image(name, category_of(name)) for name in found]


def pictures_of(folder: Path, ids: Iterable[str]) -> dict[int, str]:
    """A picture of each candidate that has one: `ID.png`, `ID_….png`, or the first image in the folder `ID`.

    Parameters
    ----------
    folder : Path
    ids : iterable of str
        Of the candidates, in the bundle's order.

    Returns
    -------
    dict of int to str
        Files, by the candidates' positions.
    """
    if not folder.is_dir():
        raise InputError(f"pictures {folder}: no such folder")
    first: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS):
        for category in (path.parent.name, path.stem, category_of(path.stem)):
            first.setdefault(category, path)
    return {place: str(first[category]) for place, category in enumerate(ids) if category in first}


def read_names(path: Path) -> Mapping[str, str]:
    """Words for categories: a table with the columns `category_id` and `name`; without a name one stands for itself.

    Raises
    ------
    InputError
        If it cannot be read, or lacks a column.
    """
    columns, rows = read_table(path)
    if "category_id" not in columns:
        raise InputError(f"{path}, line 1: no column 'category_id'; the table lists categories and their names")
    return {
        row.label("category_id"): row.cells["name"] if row.has("name") else row.label("category_id") for row in rows
    }
