"""Search for files that apply to a recorded run by BIDS's inheritance principle, such as its events table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rtgod.errors import InputError

_EVENTS = "events.tsv"


def find_events(path: Path) -> Path | None:
    """Find the events table of a run: in its folder, or beside or above it by the rules of BIDS; None without one.

    Parameters
    ----------
    path : Path
        A NIfTI file, or a folder of DICOM files.

    Raises
    ------
    InputError
        If the run is a folder that holds several tables.
    """
    if path.is_dir():
        inside = [p for p in sorted(path.glob(f"*{_EVENTS}")) if p.name == _EVENTS or p.name.endswith(f"_{_EVENTS}")]
        if len(inside) > 1:
            named = ", ".join(table.name for table in inside[:3])
            raise InputError(f"{path}: {len(inside)} tables of events in it ({named}); choose one with --events.")
        if inside:
            return inside[0]
    return next(files_beside(path, _EVENTS), None)


def files_beside(path: Path, ending: str) -> Iterator[Path]:
    """Find files that apply to `path` by BIDS's inheritance principle: nearest folder first, most specific first.

    The name of such a file is `ending`, or has only entities of `path` before `_` and `ending`.

    Parameters
    ----------
    path : Path
        File or folder of a run; links are not resolved.
    ending : str
        End of the names to find: "events.tsv", "bold.json".
    """
    entities = set(stem_of(path).split("_"))
    for folder in _folders_up_to_data_set(path):
        fitting = [
            (len(prefix), candidate)
            for candidate in folder.iterdir()
            if candidate.name.endswith(ending)
            and entities.issuperset(prefix := candidate.name.removesuffix(ending).split("_")[:-1])
            and candidate.name == "_".join([*prefix, ending])
        ]
        yield from (candidate for _, candidate in sorted(fitting, reverse=True))


def stem_of(path: Path) -> str:
    """Return the name of a run's file or folder without its extension.

    Parameters
    ----------
    path : Path
        Only .nii, .nii.gz and .par, in upper or lower case, count as extensions.
    """
    return re.sub(r"\.(nii(\.gz)?|par)$", "", path.name, flags=re.IGNORECASE)


def subject_in(path: Path) -> str:
    """Return the subject's label in the name of a run's file or folder, after `sub-`; empty without one.

    Parameters
    ----------
    path : Path
        The names of folders above it do not count.
    """
    label = re.search(r"(?:^|_)sub-([0-9A-Za-z]+)", stem_of(path))
    return label[1] if label else ""


def _folders_up_to_data_set(path: Path) -> list[Path]:
    # Links are not resolved: in a DataLad data set the file is a link into a store without the other files.
    parents = list(path.absolute().parents)
    roots = [n for n, folder in enumerate(parents) if (folder / "dataset_description.json").is_file()]
    return parents[: roots[0] + 1] if roots else parents[:1]
