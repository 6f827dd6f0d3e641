"""What a paradigm shows, found in folders and tables: images, words for categories, pictures of candidates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from rtgod.errors import InputError
from rtgod.events import category_of, read_table
from rtgod.pictures import ENDINGS
from rtgod.text import composed
from stimulus.schedule import Image


def find_images(folder: Path) -> dict[str, Path]:
    """Images in a folder and the folders in it, by their names without ending, in the order of their paths.

    Names are composed as `rtgod.text.composed` does.

    Raises
    ------
    InputError
        If there is none, or two have one name.
    """
    found: dict[str, Path] = {}
    for path in _image_files(folder, "images"):
        name = composed(path.stem)
        if name in found:
            raise InputError(f"images {folder}: {_apart(found[name], path)} have one name; rename one of them")
        found[name] = path
    if not found:
        raise InputError(f"images {folder}: no image in it; PNG and JPEG files are read, in folders, too")
    return found


def images_to_show(found: Iterable[str]) -> list[Image]:
    """Images with their categories, which their names begin with: n03626115 of n03626115_19498."""
    return [Image(name, category_of(name)) for name in found]


def pictures_of(folder: Path, ids: Iterable[str]) -> dict[int, str]:
    """A picture of each candidate that has one: `ID.png`, `ID_….png`, or the first image in the folder `ID`.

    An image stands for one candidate: `fire_truck.png` for "fire" only where there is no candidate "fire_truck".

    Parameters
    ----------
    folder : Path
    ids : iterable of str
        Of the candidates, in the bundle's order.

    Returns
    -------
    dict of int to str
        Files, by the candidates' positions.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    places = {category: place for place, category in enumerate(ids)}
    found: dict[int, str] = {}
    for path in _image_files(folder, "pictures"):
        stem = composed(path.stem)
        for name in (stem, category_of(stem), composed(path.parent.name)):
            if name in places:
                found.setdefault(places[name], str(path))
                break
    return found


def read_names(path: Path) -> Mapping[str, str]:
    """Words for categories: a table with the columns `category_id` and `name`; without a name one stands for itself.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column, or lists a category twice.
    """
    columns, rows = read_table(path)
    if "category_id" not in columns:
        raise InputError(f"{path}, line 1: no column 'category_id'; the table lists categories and their names")
    names: dict[str, str] = {}
    for row in rows:
        category = composed(row.label("category_id"))
        if category in names:
            raise InputError(f"{path}, line {row.line}, column category_id: {category!r} is there twice; remove one")
        names[category] = row.cells["name"] if row.has("name") else category
    return names


def _apart(first: Path, second: Path) -> str:
    """Two paths; where they look alike, with their accents written out."""
    if composed(str(first)) == composed(str(second)):
        return f"{first} and {second}, which differ in how accents are stored only ({first.name!a}, {second.name!a}),"
    return f"{first} and {second}"


def _image_files(folder: Path, what: str) -> list[Path]:
    """In the order of their paths; hidden files, such as those that a Mac leaves beside images, are none."""
    if not folder.is_dir():
        raise InputError(f"{what} {folder}: no such folder")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file()
    )
