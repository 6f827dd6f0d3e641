"""The candidate categories of a decoder bundle, as its JSON file lists them: all that a display needs of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtgod.errors import BundleError
from rtgod.text import composed

FORMAT = 3
HEADER = "bundle.json"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A category that can be ranked: its identifier in the data set, and its name for people."""

    category_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Candidates:
    """Those of one bundle, in the order that `Ranking.order` counts them.

    Attributes
    ----------
    bundle_id : str
        As the server's `Hello` says it.
    candidates : tuple of Candidate
    """

    bundle_id: str
    candidates: tuple[Candidate, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Their identifiers."""
        return tuple(candidate.category_id for candidate in self.candidates)

    @property
    def names(self) -> tuple[str, ...]:
        """Their names for people."""
        return tuple(candidate.name for candidate in self.candidates)


#: Of a display without a decoder.
NO_CANDIDATES = Candidates("", ())


def read_candidates(folder: Path) -> Candidates:
    """Read a bundle's candidates without its arrays.

    Raises
    ------
    BundleError
        If the folder is no bundle of this format.
    """
    header = read_header(folder)
    try:
        return Candidates(bundle_id_of(header), candidates_of(header))
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"bundle {folder}: {HEADER} lists no candidates ({error})") from error


def candidates_of(header: Mapping[str, Any]) -> tuple[Candidate, ...]:
    """The candidates of a bundle's JSON file; KeyError, TypeError or ValueError if they are not there."""
    return tuple(Candidate(composed(str(category_id)), str(name)) for category_id, name in header["candidates"])


def bundle_id_of(header: Mapping[str, Any]) -> str:
    """Start of the arrays' checksum."""
    return str(header["sha256"][:12])


def read_header(folder: Path) -> dict[str, Any]:
    """Read a bundle's JSON file.

    Raises
    ------
    BundleError
        If it is missing, not JSON, or of another format.
    """
    path = folder / HEADER
    if not folder.is_dir():
        raise BundleError(f"bundle {folder}: no such folder; `rtgod calibrate` makes one")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(
            f"bundle {folder}: {HEADER} cannot be read ({error.strerror}); this is no decoder bundle: give the "
            "folder of one"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"bundle {folder}: {HEADER} is not JSON ({error}); recalibrate") from error
    if not isinstance(header, dict) or header.get("rtgod_bundle") != FORMAT:
        raise BundleError(
            f"bundle {folder}: {HEADER} is not of format {FORMAT}; recalibrate with this version of rtgod"
        )
    return header
