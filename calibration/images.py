"""Image files: where they are, what they are called, which category each shows, and their pixels."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rtgod.errors import InputError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


@dataclass(frozen=True, slots=True)
class ImageList:
    """Images to compute features of.

    Attributes
    ----------
    root : Path
        What the paths are relative to.
    ids : tuple of str
        Each image's name, each once.
    paths : tuple of str
    categories : tuple of str
        Of each image, with the images of a category one after the other; empty where there are none.
    names : mapping of str to str
        Names of categories for people, where they are known.
    """

    root: Path
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    categories: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.ids:
            raise InputError(f"{self.root}: no images ({', '.join(_SUFFIXES)})")
        if repeated := [name for name, n in Counter(self.ids).items() if n > 1]:
            raise InputError(
                f"{self.root}: names of several images: {first_few(repeated)}; rename all but one of each, or give a "
                "table with an image_id for each path"
            )

    @property
    def files(self) -> list[Path]:
        """Where the images are."""
        return [self.root / path for path in self.paths]

    def sha256(self) -> str:
        """Checksum of names, paths and categories, to recognise a list by."""
        digest = hashlib.sha256()
        for row in zip(self.ids, self.paths, self.categories or [""] * len(self.ids), strict=True):
            digest.update("\t".join((*row, self.names.get(row[2], ""))).encode() + b"\n")
        return digest.hexdigest()


def first_few(names: Sequence[str], n: int = 5) -> str:
    """The first names of many, and how many there are in all if those are not all."""
    return ", ".join(names) if len(names) <= n else f"{', '.join(names[:n])}, … ({len(names)} in all)"


def list_images(source: Path) -> ImageList:
    """The images of a folder and the folders in it, or of a table.

    Parameters
    ----------
    source : Path
        A folder, in which each image is called as its file without suffix; or a table (tab- or comma-separated) with
        the column `path`, relative to the table's folder, and optionally `image_id`, `category_id` and `name`.

    Raises
    ------
    InputError
        If there are no images, several have one name, or the table cannot be read.
    """
    if not source.is_dir():
        return _tabled(source)
    paths = tuple(_below(source))
    return ImageList(source, tuple(Path(path).stem for path in paths), paths)


def list_categories(source: Path) -> ImageList:
    """The images of each of at least two categories.

    Parameters
    ----------
    source : Path
        A folder with a folder of images for each category, in which an image is called CATEGORY/FILE without suffix;
        or a table as for `list_images`, with `category_id`.

    Raises
    ------
    InputError
        If there are fewer, several images have one name, or the table cannot be read.
    """
    if not source.is_dir():
        images = _tabled(source)
        if not images.categories:
            raise InputError(f"{source}: no column category_id; add it, or give a folder with a folder per category")
    else:
        paths = tuple(_below(source))
        if stray := [path for path in paths if "/" not in path]:
            raise InputError(f"{source}: images outside of any category's folder: {first_few(stray)}; move them there")
        categories = tuple(path.partition("/")[0] for path in paths)
        images = ImageList(source, tuple(path.rpartition(".")[0] for path in paths), paths, categories)
    if len(set(images.categories)) < 2:
        raise InputError(f"{source}: images of one category; there is nothing to rank among fewer than two")
    return images


def find_images(folder: Path) -> dict[str, list[Path]]:
    """Image files below a folder by their name without suffix; `InputError` if there are none."""
    images: dict[str, list[Path]] = {}
    for path in _below(folder):
        images.setdefault(Path(path).stem, []).append(folder / path)
    if not images:
        raise InputError(f"{folder}: no images; give the folder of the shown images with --images")
    return images


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Pixels of an image in colour, shape (height, width, 3), uint8: red, green, blue.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as opened:
            return np.asarray(opened.convert("RGB"))
    # Pillow meets damage in many ways: SyntaxError is one of them.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"image {path}: cannot be read ({error}); replace or remove it") from error


def _below(folder: Path) -> list[str]:
    """Image files below a folder, relative to it, in an order that no file system changes."""
    # Not as Path objects: a million of them take half a gigabyte.
    found = [
        f"{parent}/{name}"[len(str(folder)) + 1 :]
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(_SUFFIXES) and not name.startswith(".")
    ]
    return sorted(found)


def _tabled(path: Path) -> ImageList:
    rows = _rows(path)
    by_category: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_category.setdefault(row.get("category_id", ""), []).append(row)
    ordered = [row for some in by_category.values() for row in some]
    return ImageList(
        root=path.parent,
        ids=tuple(row.get("image_id") or Path(row["path"]).stem for row in ordered),
        paths=tuple(row["path"] for row in ordered),
        categories=tuple(row["category_id"] for row in ordered) if rows and "category_id" in rows[0] else (),
        names={row["category_id"]: row["name"] for row in ordered if row.get("name") and "category_id" in row},
    )


class _TabSeparated(csv.excel_tab):
    """As in BIDS, nothing is quoted."""

    quoting = csv.QUOTE_NONE


def _rows(path: Path) -> list[Mapping[str, str]]:
    """The table's rows, each with what it needs."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: neither a folder of images nor a table that can be read ({error})") from error
    dialect = _TabSeparated if "\t" in text.partition("\n")[0] else csv.excel
    reader = csv.DictReader(io.StringIO(text, newline=None), dialect=dialect, strict=True)
    try:
        rows: list[Mapping[str, str]] = list(reader)
    except csv.Error as error:
        raise InputError(f"{path}, after line {reader.line_num}: {error}; save it as a table of columns") from error
    columns = list(reader.fieldnames or ())
    if "path" not in columns:
        raise InputError(f"{path}, line 1: needs a column path, has {', '.join(columns) or 'none'}")
    needed = {"path", "category_id"} & set(columns)
    for line, row in enumerate(rows, 2):
        if None in row or any(value is None for value in row.values()):
            raise InputError(f"{path}, row {line}: not as many cells as there are columns")
        if empty := sorted(column for column in needed if not row[column].strip()):
            raise InputError(f"{path}, row {line}: {empty[0]} is empty; fill it in or remove the row")
    return rows
