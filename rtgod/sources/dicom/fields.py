"""Fields of a DICOM file's header, read by name; values never reach a message."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from rtgod.errors import InputError

_MAKERS = {
    "SIEMENS": "Siemens",
    "GE ": "GE",
    "PHILIPS": "Philips",
    "CANON": "Canon",
    "TOSHIBA": "Toshiba",
    "UIH": "United Imaging",
}
#: Kinds of values that are text, none of which depends on a character set.
_TEXT = frozenset({"AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"})


def without_field(path: Path, keyword: str, problem: str) -> str:
    """Write an error text about a field that is needed.

    Parameters
    ----------
    path : Path
    keyword : str
        DICOM's name of the field.
    problem : str
        What is wrong with it: "is missing", for instance.
    """
    tag = tag_for_keyword(keyword) or 0
    return (
        f"{path}: {keyword} ({tag >> 16:04x},{tag & 0xFFFF:04x}) {problem}, and without it the voxels cannot be read "
        "or placed; anonymise with this field kept, or export the series again."
    )


def text_of(dataset: Dataset, keyword: str) -> str:
    """Return the text of a field as it lies in the file, without padding; empty without one.

    pydicom's conversion of a value takes ten times as long, and a volume has a dozen of them.

    Parameters
    ----------
    dataset : Dataset
    keyword : str
        DICOM's name of a field that holds ASCII text: numbers, dates, times, codes. Backslashes part its values.
    """
    element = dataset.get_item(tag_for_keyword(keyword) or 0)
    if element is None:
        return ""
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
        vr = element.VR or dictionary_VR(element.tag)
        if vr in _TEXT:
            return element.value.decode("ascii", "replace").strip(" \0")
    value = dataset.get(keyword)
    if value is None:
        return ""
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value).strip()


def numbers(path: Path, dataset: Dataset, keyword: str, n: int) -> list[float]:
    """Read the numbers of a field that is needed to place the voxels.

    Parameters
    ----------
    path : Path
        The file, for messages.
    dataset : Dataset
    keyword : str
        DICOM's name of the field.
    n : int
        How many numbers it must have.

    Raises
    ------
    InputError
        If there are not as many.
    """
    if keyword not in dataset:
        getattr(dataset, keyword)  # `shielded` reports a missing field
    values = text_of(dataset, keyword).split("\\")
    if len(values) != n or any(value in ("", "None") for value in values):
        raise InputError(without_field(path, keyword, "is empty" if n == 1 else f"is empty, or not {n} numbers"))
    return [float(value) for value in values]


def number_or_0(dataset: Dataset, keyword: str) -> float:
    """Return the number of a field; 0 without one.

    Parameters
    ----------
    dataset : Dataset
    keyword : str
        DICOM's name of the field.
    """
    return float(text_of(dataset, keyword) or 0)


def rescale_of(dataset: Dataset) -> tuple[float, float]:
    """Return the slope and intercept that make stored numbers intensities; 1 and 0 if they are not given.

    Parameters
    ----------
    dataset : Dataset
        A file, or a frame's sequence of them.
    """
    return float(text_of(dataset, "RescaleSlope") or 1), number_or_0(dataset, "RescaleIntercept")


def integer_of(value: object) -> int | None:
    """Return the value of a field as an integer; None if it is missing, empty, or no integer.

    Parameters
    ----------
    value : object
    """
    try:
        return None if value is None else int(str(value))
    except ValueError:
        return None


def image_type(dataset: Dataset, keyword: str = "ImageType") -> Sequence[str]:
    """Return the words of a file's ImageType; empty without one.

    Parameters
    ----------
    dataset : Dataset
    keyword : str
        Or "FrameType", of a frame.
    """
    text = text_of(dataset, keyword)
    return [word.strip() for word in text.split("\\")] if text else []


def n_frames_of(dataset: Dataset) -> int:
    """Return the number of a file's frames.

    Parameters
    ----------
    dataset : Dataset
    """
    return int(text_of(dataset, "NumberOfFrames") or 1)


def maker_of(dataset: Dataset) -> str:
    """Return the scanner's maker, from a fixed list: the field itself is free text.

    Parameters
    ----------
    dataset : Dataset
    """
    manufacturer = str(dataset.get("Manufacturer", "")).upper()
    return next((name for key, name in _MAKERS.items() if manufacturer.startswith(key)), "unrecognised")


def seconds_of_day(text: str) -> float | None:
    """Read a time of day, or the time in a date with a time, as seconds from midnight; None if it is none.

    Parameters
    ----------
    text : str
        DICOM's TM (HHMMSS.ffffff) or DT (YYYYMMDDHHMMSS.ffffff), perhaps with a time zone.
    """
    match = re.fullmatch(r"(?:\d{8}(?=\d{6}))?(\d\d):?(\d\d):?(\d\d(?:\.\d*)?)(?:[+-]\d{4})?\s*", text)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None
