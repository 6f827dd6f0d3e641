"""The candidate categories that the JSON file of a decoder bundle lists: all that a display needs of a bundle."""

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
    """A category that can be ranked: its identifier in the data set, and its name for display."""

    category_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of one bundle, in the order to which the indices in `Ranking.order` refer.

    Attributes
    ----------
    bundle_id : str
        Identifier of the bundle, as in the server's `Hello`.
    candidates : tuple of Candidate
    pictures : tuple of str
        Names of the pictures of which rankings name the nearest: paths below the folder that the decoder was
        calibrated with. Empty if it has none.
    """

    bundle_id: str
    candidates: tuple[Candidate, ...]
    pictures: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """Identifiers of the candidates."""
        return tuple(candidate.category_id for candidate in self.candidates)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the candidates, for display."""
        return tuple(candidate.name for candidate in self.candidates)


#: Candidates of a display that has no decoder: none.
NO_CANDIDATES = Candidates("", ())


def read_candidates(folder: Path) -> Candidates:
    """Read a bundle's candidates without its arrays.

    Parameters
    ----------
    folder : Path
        The bundle.

    Raises
    ------
    BundleError
        If the folder is no bundle of this format.
    """
    header = read_header(folder)
    try:
        pictures = tuple(str(name) for name in (header.get("pictures") or {"names": ()})["names"])
        return Candidates(bundle_id_of(header), candidates_of(header), pictures)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"bundle {folder}: {HEADER} lists no candidates ({error})") from error


def candidates_of(header: Mapping[str, Any]) -> tuple[Candidate, ...]:
    """Return the candidates in the header of a bundle; raise KeyError, TypeError or ValueError if it lists none.

    Parameters
    ----------
    header : mapping of str to value
        From `read_header`.
    """
    return tuple(Candidate(composed(str(category_id)), str(name)) for category_id, name in header["candidates"])


def bundle_id_of(header: Mapping[str, Any]) -> str:
    """Return the identifier of a bundle: the first 12 digits of the checksum of its arrays.

    Parameters
    ----------
    header : mapping of str to value
        From `read_header`.
    """
    return str(header["sha256"][:12])


def read_header(folder: Path) -> dict[str, Any]:
    """Read the JSON file of a bundle.

    Parameters
    ----------
    folder : Path
        The bundle.

    Raises
    ------
    BundleError
        If the file is missing, not JSON, or of another format.
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
