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
    found: dict[str, Path] = {}
    for path in _image_files(folder, "images"):
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
        for name in (path.stem, category_of(path.stem), path.parent.name):
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
        category = row.label("category_id")
        if category in names:
            raise InputError(f"{path}, line {row.line}, column category_id: {category!r} is there twice; remove one")
        names[category] = row.cells["name"] if row.has("name") else category
    return names


def _image_files(folder: Path, what: str) -> list[Path]:
    """In the order of their paths; hidden files, such as those that a Mac leaves beside images, are none."""
    if not folder.is_dir():
        raise InputError(f"{what} {folder}: no such folder")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _ENDINGS and not path.name.startswith(".") and path.is_file()
    )
