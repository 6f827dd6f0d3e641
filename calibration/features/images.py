"""Image files: their paths, their names, the category of each, and their pixels."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rtgod.errors import InputError, what_went_wrong
from rtgod.pictures.image_names import IMAGE_SUFFIXES, short_names
from rtgod.pictures.pixels import OTHER_ENDINGS, left_out, read_picture
from rtgod.text import composed, spelled_alike


@dataclass(frozen=True, slots=True)
class ImageList:
    """Images whose features are to be computed.

    Attributes
    ----------
    root : Path
        The folder that the paths are relative to.
    ids : tuple of str
        Name of each image; no two are equal.
    paths : tuple of str
    categories : tuple of str
        Category of each image, with a category's images one after the other; empty if images have no categories.
    names : mapping of str to str
        Names of categories for people, for those that have one.
    notes : tuple of str
        Notes on files beside the images that are left out.

    Raises
    ------
    InputError
        If there are no images, or several have one name.
    """

    root: Path
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    categories: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.ids:
            raise InputError(f"{self.root}: no images ({', '.join(IMAGE_SUFFIXES)}){_beside(self.notes)}")
        if repeated := [name for name, n in Counter(self.ids).items() if n > 1]:
            raise InputError(
                f"{self.root}: names of several images: {first_few(repeated)}; rename all but one of each, or give a "
                "table with an image_id for each path"
            )

    @property
    def files(self) -> list[Path]:
        """Full paths of the images."""
        return [self.root / path for path in self.paths]

    def sha256(self) -> str:
        """Return a checksum of names, paths and categories, by which a list is recognised."""
        digest = hashlib.sha256()
        for row in zip(self.ids, self.paths, self.categories or [""] * len(self.ids), strict=True):
            digest.update("\t".join((*row, self.names.get(row[2], ""))).encode() + b"\n")
        return digest.hexdigest()


def first_few(names: Sequence[str], n: int = 5) -> str:
    """Join the first names of many; if some are not listed, add the total number.

    Parameters
    ----------
    names : sequence of str
    n : int, optional
        Largest number of names that are listed.
    """
    return ", ".join(names) if len(names) <= n else f"{', '.join(names[:n])}, … ({len(names)} in all)"


def list_images(source: Path) -> ImageList:
    """List the images in a folder and its subfolders, or in a table.

    Parameters
    ----------
    source : Path
        A folder, in which an image is named after its file without suffix, or after its path if several files share a
        name; or a table (tab- or comma-separated) with the column `path`, relative to the table's folder, and
        optionally `image_id`, `category_id` and `name`.

    Raises
    ------
    InputError
        If no image is found, several have one name, or the table cannot be read.
    """
    if not source.is_dir():
        return _tabled(source)
    files = _Below(source)
    _check_spelling(source, (path.rpartition(".")[0] for path in files.paths))
    ids = tuple(map(composed, short_names(files.paths)))
    return ImageList(source, ids, files.paths, notes=files.notes())


def list_categories(source: Path) -> ImageList:
    """List the images of each of at least two categories.

    Parameters
    ----------
    source : Path
        A folder with a folder of images for each category, in which an image is named CATEGORY/FILE without suffix;
        or a table as for `list_images`, with `category_id`.

    Raises
    ------
    InputError
        If there are fewer than two categories, several images have one name, or the table cannot be read.
    """
    if not source.is_dir():
        images = _tabled(source)
        if not images.categories:
            raise InputError(f"{source}: no column category_id; add it, or give a folder with a folder per category")
    else:
        files = _Below(source)
        paths = files.paths
        if stray := [path for path in paths if "/" not in path]:
            raise InputError(f"{source}: images outside of any category's folder: {first_few(stray)}; move them there")
        _check_spelling(source, (path.rpartition(".")[0] for path in paths))
        _check_spelling(source, files.folders)
        categories = tuple(composed(path.partition("/")[0]) for path in paths)
        ids = tuple(composed(path.rpartition(".")[0]) for path in paths)
        images = ImageList(source, ids, paths, categories, notes=files.notes(each_folder=True))
    if len(set(images.categories)) < 2:
        raise InputError(
            f"{source}: images of one category; there is nothing to rank among fewer than two{_beside(images.notes)}"
        )
    return images


def find_images(folder: Path) -> dict[str, list[Path]]:
    """Find image files below a folder by their names without suffix, composed as `rtgod.text.composed` does.

    Parameters
    ----------
    folder : Path
        Searched with its subfolders.

    Raises
    ------
    InputError
        If no image is found, or two names differ only in how accented letters are stored.
    """
    images: dict[str, list[Path]] = {}
    files = _Below(folder)
    _check_spelling(folder, (Path(path).stem for path in files.paths))
    for path in files.paths:
        images.setdefault(composed(Path(path).stem), []).append(folder / path)
    if not images:
        raise InputError(
            f"{folder}: no images; give the folder of the shown images with --images{_beside(files.notes())}"
        )
    return images


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image in colour, shape (height, width, 3), uint8: red, green, blue.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
        If the image cannot be read.
    """
    return read_picture(path).pixels


class _Below:
    """Image files below a folder, and the other files beside them.

    Parameters
    ----------
    folder : Path

    Attributes
    ----------
    paths : tuple of str
        Paths relative to the folder, in an order that does not depend on the file system.
    folders : list of str
        Names of the folders directly inside.
    """

    def __init__(self, folder: Path) -> None:
        # Not Path objects: a million of them take half a gigabyte.
        paths: list[str] = []
        self.folders: list[str] = []
        self._others: Counter[str] = Counter()
        for parent, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]  # so that no hidden one is entered
            if parent == str(folder):
                self.folders = sorted(folders)
            for name in names:
                if name.startswith("."):
                    continue
                if name.lower().endswith(IMAGE_SUFFIXES):
                    paths.append(f"{parent}/{name}"[len(str(folder)) + 1 :])
                elif (ending := os.path.splitext(name)[1].lower()) in OTHER_ENDINGS:  # noqa: PTH122 # no Path, as above
                    self._others[ending] += 1
        self.paths = tuple(sorted(paths))

    def notes(self, *, each_folder: bool = False) -> tuple[str, ...]:
        """Return lines about files that are left out; with `each_folder`, about folders without an image, too."""
        notes = []
        if each_folder:
            filled = {path.partition("/")[0] for path in self.paths}
            if empty := [name for name in self.folders if name not in filled]:
                notes.append(f"folders: {len(empty)} without an image, so no category: {first_few(empty)}")
        notes += left_out(self._others)
        return tuple(notes)


def _check_spelling(folder: Path, names: Iterable[str]) -> None:
    if alike := spelled_alike(names):
        raise InputError(
            f"{folder}: two names {alike[0]} that differ in how accented letters are stored only ({alike[0]!a}, "
            f"{alike[1]!a}); rename or remove one"
        )


def _beside(notes: Sequence[str]) -> str:
    return "".join(f"; {note}" for note in notes)


def _tabled(path: Path) -> ImageList:
    rows = _rows(path)
    by_category: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_category.setdefault(composed(row.get("category_id", "")), []).append(row)
    ordered = [row for members in by_category.values() for row in members]
    return ImageList(
        root=path.parent,
        ids=tuple(composed(row.get("image_id") or Path(row["path"]).stem) for row in ordered),
        paths=tuple(row["path"] for row in ordered),
        categories=tuple(composed(row["category_id"]) for row in ordered) if rows and "category_id" in rows[0] else (),
        names={
            composed(row["category_id"]): row["name"] for row in ordered if row.get("name") and "category_id" in row
        },
    )


class _TabSeparated(csv.excel_tab):
    """Tab-separated dialect without quoting, as in BIDS."""

    quoting = csv.QUOTE_NONE


def _rows(path: Path) -> list[Mapping[str, str]]:
    """Read the table's rows, and check that each has the cells it needs."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: neither a folder of images nor a table that can be read ({what_went_wrong(error)})"
        ) from error
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
