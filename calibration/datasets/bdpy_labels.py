"""Labels in files of BrainDecoderToolbox2 and bdpy: the columns that say which image or category was shown.

Published files have one column of image numbers, `Label`. Files that bdpy makes from BIDS have a `Label` of several
columns, those of the events table, each named by a key of its own: `stimulus_id`, `category_id`, `trial_no` and others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.datasets.bdpy_table import Table
from calibration.features.images import first_few
from rtgod.errors import InputError
from rtgod.events.table import category_of
from rtgod.messages import BoolArray, Float64Array

#: Keys of the columns of images and of categories, as names or as numbers; of each, the first that tells something.
_IMAGES, _CATEGORIES = ("stimulus_name", "stimulus_id"), ("category_name", "category_id")
#: Key of all labels; it has one column in published files.
_LABEL = "Label"
#: Lowest and highest offset of a noun in WordNet 3.0: numbers of synsets lie between.
_SYNSETS = (1740, 15_300_280)
_SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Image and category of each row.

    Attributes
    ----------
    stimuli : tuple of str or None
        None where the row names its category only, or nothing.
    categories : tuple of str
        Empty for a row without a label.
    notes : tuple of str
        Where labels were read, if there was a choice.
    """

    stimuli: tuple[str | None, ...]
    categories: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_labels(table: Table) -> Labels:
    """Read what each row of a table shows.

    Images are read from `stimulus_name` or `stimulus_id`, and categories of rows without an image from `category_name`
    or `category_id`. Without these keys, `Label` is read; if it has several columns, the one of image numbers, and for
    rows without one the one of synset numbers.

    Parameters
    ----------
    table : Table

    Raises
    ------
    InputError
        If no column or several could be the one, or image and category of a row contradict each other.
    """
    sources = [_named(table, key) for key in (_telling(table, keys) for keys in (_IMAGES, _CATEGORIES)) if key]
    notes: list[str] = []
    if not sources:
        sources, notes = _of_label(table)
    elif _LABEL in table.keys and len(table.marked(_LABEL)) > 1:
        notes = [f"{table.path.name}: of the columns of Label, {sources[0].name} says what was shown"]
    first, *others = sources
    for other in others:
        _check_agreement(table, first, other)
        if any(category and not known for category, known in zip(other.categories, first.categories, strict=True)):
            notes.append(f"{table.path.name}: where {first.name} is empty, {other.name} says what was asked for")
        first = first.or_else(other)
    return Labels(first.stimuli, first.categories, tuple(notes))


def stimulus_name(number: float) -> str:
    """Return the name of the image that a number means: 1518878.010042 is image 10042 of synset n01518878.

    Parameters
    ----------
    number : float
        The synset before the point, and the image in millionths.
    """
    return f"{category_name(number)}_{_image_of(number)}"


def category_name(number: float) -> str:
    """Return the WordNet id of the synset that a number means: 1518878, or 1518878.010042, is n01518878.

    Parameters
    ----------
    number : float
    """
    return f"n{int(number):08d}"


def _image_of(number: float) -> int:
    return round(1e6 * (number - int(number)))


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """Labels by one column, which has a name for people."""

    name: str
    stimuli: tuple[str | None, ...]
    categories: tuple[str, ...]

    def or_else(self, other: _Source) -> _Source:
        """Return these labels, and another's where these are empty."""
        rows = list(zip(self.stimuli, self.categories, other.stimuli, other.categories, strict=True))
        return _Source(
            self.name,
            tuple(stimulus if category else theirs for stimulus, category, theirs, _ in rows),
            tuple(category or their_category for _, category, _, their_category in rows),
        )


def _telling(table: Table, keys: Sequence[str]) -> str | None:
    """Return the first of some keys that the file has, with names for its numbers or with numbers that mean synsets."""
    for key in keys:
        if key in table.keys:
            numbers = table.column(key)
            if table.names(key) or not key.endswith("_name") or _are_synsets(numbers, images=True):
                return key
    return None


def _named(table: Table, key: str) -> _Source:
    numbers, names = table.column(key), table.names(key)
    if not names:
        return _numbered(key, numbers)
    labels = [names.get(number) or None for number in numbers.tolist()]
    if key in _CATEGORIES:
        return _Source(key, (None,) * len(labels), tuple(name or "" for name in labels))
    return _Source(key, tuple(labels), tuple(category_of(name) if name else "" for name in labels))


def _numbered(name: str, numbers: Float64Array) -> _Source:
    rows = [(number, not np.isnan(number)) for number in numbers.tolist()]
    return _Source(
        name,
        tuple(stimulus_name(number) if ok and _image_of(number) else None for number, ok in rows),
        tuple(category_name(number) if ok else "" for number, ok in rows),
    )


def _of_label(table: Table) -> tuple[list[_Source], list[str]]:
    """Read `Label`: its only column, or those whose numbers are images' or synsets'."""
    if _LABEL not in table.keys:
        there = ", ".join((*_IMAGES, *_CATEGORIES, _LABEL))
        raise InputError(f"{table.path}: no column says what was shown ({there}); add one")
    columns = table.marked(_LABEL)
    if len(columns) < 2:
        return [_named(table, _LABEL)], []
    numbers = table.numbers(columns).T
    images = [i for i, column in enumerate(numbers) if _are_synsets(column, images=True) and _of_images(column).any()]
    synsets = [i for i, column in enumerate(numbers) if _are_synsets(column, images=False)]
    if len(images) == 1:
        synsets = [i for i in synsets if _agree(numbers[images[0]], numbers[i])]
    chosen = [*images, *synsets]
    if not chosen or len(images) > 1 or len(synsets) > 1:
        which = f"columns {first_few([str(i + 1) for i in chosen])} may be meant" if chosen else "none is of synsets"
        raise InputError(
            f"{table.path}: Label has {len(columns)} columns and no key names the one that says what was shown "
            f"({which}); name it with a key of its own, stimulus_id or category_id, as bdpy's add_metadata does with "
            "where='Label'"
        )
    sources = [_numbered(f"column {i + 1} of Label", numbers[i]) for i in chosen]
    kind = "images" if images else "synsets"
    return sources, [
        f"{table.path.name}: of {len(columns)} columns of Label, {chosen[0] + 1} is of {kind}, and is read"
    ]


def _are_synsets(numbers: Float64Array, *, images: bool) -> bool:
    """Return whether a column has labels, all numbers of synsets; or with `images` of images in them."""
    labels = numbers[~np.isnan(numbers)]
    low, high = _SYNSETS
    are = (labels >= low) & (labels < high + 1)
    millionths = 1e6 * (labels - np.floor(labels))
    whole = np.abs(millionths - millionths.round()) < 0.01 if images else millionths == 0
    return bool(len(labels)) and bool((are & whole).all())


def _of_images(numbers: Float64Array) -> BoolArray:
    return ~np.isnan(numbers) & (numbers != np.floor(numbers))


def _agree(images: Float64Array, synsets: Float64Array) -> bool:
    """Return whether no row has an image of another synset than the row's."""
    both = ~np.isnan(images) & ~np.isnan(synsets)
    return bool((np.floor(images[both]) == synsets[both]).all())


def _check_agreement(table: Table, first: _Source, other: _Source) -> None:
    """Raise `InputError` for a row in which two columns name different synsets."""
    for row, (a, b) in enumerate(zip(first.categories, other.categories, strict=True)):
        if a != b and _SYNSET.fullmatch(a) and _SYNSET.fullmatch(b):
            raise InputError(
                f"{table.path}: row {row + 1} is of {a} by {first.name} and of {b} by {other.name}; correct one of them"
            )
