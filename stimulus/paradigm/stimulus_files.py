"""Files that a paradigm shows: images, words for categories, pictures of candidates, found in folders and tables."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rtgod.errors import InputError
from rtgod.events.table import category_of
from rtgod.pictures.image_names import IMAGE_SUFFIXES, ImageIndex, short_names
from rtgod.pictures.pixels import OTHER_ENDINGS, is_image, left_out
from rtgod.text import composed
from rtgod.tsv import read_tsv
from stimulus.paradigm.schedule import Image

log = logging.getLogger(__name__)


def find_images(folder: Path) -> dict[str, Path]:
    """Find the images in a folder and the folders in it; return their paths, in order, by the images' names.

    An image's name is its file's name without ending; if several files have that name, their paths below the folder.

    Names are composed by `rtgod.text.composed`.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    InputError
        If there is no image, or two files in one folder differ only in their ending.
    """
    paths = _image_files(folder, "images")
    if not paths:
        raise InputError(f"images {folder}: no image in it; PNG and JPEG files are read, in folders, too")
    by_name: dict[str, Path] = {}
    for path in paths:
        if (other := by_name.setdefault(composed(str(path.with_suffix(""))), path)) != path:
            raise InputError(f"images {folder}: {_apart(other, path)} have one name; rename one of them")
    names = short_names([composed(path.relative_to(folder).as_posix()) for path in paths])
    return dict(zip(names, paths, strict=True))


def images_of(names: Iterable[str], folder: Path) -> dict[str, Path]:
    """Find the image that each name in a schedule means; names without an image are left out.

    Parameters
    ----------
    names : iterable of str
        As schedules name images, see `rtgod.pictures.image_names`; empty ones are left out.
    folder : Path

    Raises
    ------
    InputError
        If the folder has no image at all, or a name may mean several.
    """
    paths = {str(path): path for path in find_images(folder).values()}
    index = ImageIndex((key, path.relative_to(folder).as_posix()) for key, path in paths.items())
    keys_of = {name: index.find(name) for name in names if name}
    if several := [name for name, keys in keys_of.items() if len(keys) > 1]:
        a, b, *_ = keys_of[several[0]]
        raise InputError(f"images {folder}: {several[0]!r} may be {a} or {b}; name it by its path in the schedule")
    return {name: paths[keys[0]] for name, keys in keys_of.items() if keys}


def images_left_out(folder: Path) -> list[str]:
    """Return a line about image files in a folder of kinds that `find_images` does not read, or nothing.

    Parameters
    ----------
    folder : Path
    """
    endings = (path.suffix.lower() for path in folder.rglob("*") if not path.name.startswith("."))
    return left_out(Counter(ending for ending in endings if ending in OTHER_ENDINGS))


def images_to_show(names: Iterable[str]) -> list[Image]:
    """Give images their categories, with which their names begin: n03626115 for n03626115_19498.

    Parameters
    ----------
    names : iterable of str
        Names of images, as those of `find_images`.
    """
    return [Image(name, category_of(name)) for name in names]


def pictures_of(folder: Path, ids: Iterable[str]) -> dict[int, str]:
    """Find a picture of each candidate that has one: `ID.png`, `ID_….png`, or the first image in the folder `ID`.

    An image stands for one candidate: `fire_truck.png` for "fire" only if no candidate is called "fire_truck".

    Parameters
    ----------
    folder : Path
    ids : iterable of str
        Category ids of the candidates, in the bundle's order.

    Returns
    -------
    dict of int to str
        Files, by the candidates' positions.

    Raises
    ------
    InputError
        If the folder does not exist.
    """
    places = {category: place for place, category in enumerate(ids)}
    pictures: dict[int, str] = {}
    for path in _image_files(folder, "pictures"):
        stem = composed(path.stem)
        for name in (stem, category_of(stem), composed(path.parent.name)):
            if name in places:
                pictures.setdefault(places[name], str(path))
                break
    return pictures


def near_pictures(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Find the decoder's pictures in their folder.

    Parameters
    ----------
    folder : Path
        The folder that the decoder was calibrated with, or a copy.
    names : sequence of str
        Path of each picture below it.

    Returns
    -------
    dict of str to str
        Files, by name.

    Raises
    ------
    InputError
        If the folder does not exist, or pictures are missing in it or are no images.
    """
    there = {composed(path.relative_to(folder).as_posix()): str(path) for path in _image_files(folder, "pictures")}
    if missing := [name for name in names if name not in there]:
        raise InputError(
            f"pictures {folder}: {_few(missing)} missing, of the {len(names)} that the decoder may name; give the "
            "folder that it was calibrated with, or calibrate again"
        )
    files = {name: there[name] for name in names}
    if unreadable := [name for name, file in files.items() if not is_image(file)]:
        raise InputError(f"pictures {folder}: {_few(unreadable)} cannot be read as an image; replace these files")
    return files


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 5 else f"{', '.join(names[:5])} and {len(names) - 5} more"


def read_names(path: Path) -> Mapping[str, str]:
    """Read words for categories from a table with the columns `category_id` and `name`.

    A category without a name has its identifier as its word.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
        If the table cannot be read, lacks the column `category_id`, or lists a category twice.
    """
    table = read_tsv(path, what="a table of names")
    if "category_id" not in table.columns:
        raise InputError(f"{path}, line 1: no column 'category_id'; the table lists categories and their names")
    names: dict[str, str] = {}
    for row in table.rows:
        category = composed(row.label("category_id"))
        if category in names:
            raise InputError(f"{path}, line {row.line}, column category_id: {category!r} is there twice; remove one")
        names[category] = row.cells["name"] if row.has("name") else category
    for line in table.remarks():
        log.warning("%s: %s", path, line)
    return names


def _apart(first: Path, second: Path) -> str:
    """Write two paths; if they look alike, with their accents written out."""
    if composed(str(first)) == composed(str(second)):
        return f"{first} and {second}, which differ in how accents are stored only ({first.name!a}, {second.name!a}),"
    return f"{first} and {second}"


def _image_files(folder: Path, noun: str) -> list[Path]:
    """List image files in the order of their paths, without hidden files, such as those that a Mac leaves behind."""
    if not folder.is_dir():
        raise InputError(f"{noun} {folder}: no such folder")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
