"""Find the files of a BIDS data set that calibration needs: runs with their events, regions, names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from calibration.datasets.acquisitions import acquisition_name, choose_forms
from calibration.datasets.mask_choice import MaskFor, choose_mask
from calibration.datasets.masks import Region
from calibration.datasets.regions import find_name, names_in
from calibration.datasets.run_patterns import RunPatterns
from calibration.datasets.runs import FoundRuns, RunFiles, names_there
from calibration.features.images import first_few
from rtgod.errors import InputError
from rtgod.sources.beside import find_events
from rtgod.tsv import Table, read_tsv

_NAMES_NEEDS = "needs tab-separated columns category_id and name"

_RUN = re.compile(r"(.*_run-)(\d+)(.*)")
_LABELLED = re.compile(r"sub-[^_]+_(?P<before>.*_)?label-(?P<name>[^_]+)_(.*_)?mask\.nii(\.gz)?")
_SOURCE = re.compile(r"sub-[^_]+_mask_(?P<before>[LR]H_)?(?P<name>.+?)\.nii(\.gz)?")
_SIDE = re.compile(r"(?:^|_)(?:hemi-)?([LR])H?_")
#: The study's larger areas and their parts: early visual cortex, and all of the visual cortex that was decoded from.
_COMPOSED = {"LVC": ("V1", "V2", "V3"), "VC": ("V1", "V2", "V3", "V4", "HVC")}

#: The region that needs no mask: the whole head.
HEAD = "head"


def is_data_set(folder: Path) -> bool:
    """Return whether a folder looks like the root of a BIDS data set.

    Parameters
    ----------
    folder : Path
    """
    return (folder / "dataset_description.json").is_file() or any(p.is_dir() for p in folder.glob("sub-*"))


def find_runs(dataset: Path, subject: str, pattern: str) -> list[RunFiles]:
    """Find one subject's runs whose file name contains `pattern`, in the order of their names; see `search_runs`.

    Parameters
    ----------
    dataset : Path
        Root of the BIDS data set.
    subject : str
        Label, with or without `sub-`.
    pattern : str
        One or several patterns, separated by commas; see `calibration.datasets.run_patterns.RunPatterns`.
    """
    return list(search_runs(dataset, subject, pattern).runs)


def search_runs(
    dataset: Path, subject: str, patterns: RunPatterns | str, tr_s: float | None = None, option: str = "--training"
) -> FoundRuns:
    """Find one subject's runs that the patterns mean, in the order of their names, and list the incomplete ones.

    Parameters
    ----------
    dataset : Path
    subject : str
        The subject's label, with or without `sub-`.
    patterns : RunPatterns or str
    tr_s : float or None
        Repetition time, seconds, of runs whose files give none or contradict each other.
    option : str
        The option that the patterns come from, for messages.

    Raises
    ------
    InputError
        If the folder or the subject does not exist, no run has both images and events, or one acquisition has images in
        several forms, such as echoes.
    """
    patterns = RunPatterns.parse(patterns) if isinstance(patterns, str) else patterns
    folder = find_subject(dataset, subject)
    images = [p for p in sorted(folder.rglob("*_bold.nii*")) if p.name.endswith((".nii", ".nii.gz"))]
    tables = sorted(folder.rglob("*_events.tsv"))
    selected = [image for image in images if patterns.match(image.name)]
    names = [path.name for path in images]
    missing = [
        f"{_stem(image).name}: images are a link to nothing; download them (datalad get)"
        for image in selected
        if not image.is_file()
    ]
    if unknown := patterns.unmatched([*names, *(table.name for table in tables)]) if len(patterns.given) > 1 else ():
        raise InputError(f"{folder}: no run with {unknown[0]!r} in its name; {names_there(names)}")
    chosen = choose_forms([image for image in selected if image.is_file()], patterns, option, names)
    missing += chosen.left_out
    runs = []
    for image in chosen.paths:
        if events := find_events(image):
            runs.append(RunFiles(image, events, tr_s=tr_s))
        else:
            missing.append(f"{_stem(image).name}: images, but no events")
    imageless = [table for table in tables if patterns.match(table.name) and not any(_is_of(table, i) for i in images)]
    missing += [f"{_stem(table).name}: events, but no images" for table in imageless]
    missing += [f"{name}: neither images nor events" for name in _gaps([*map(_stem, selected), *map(_stem, imageless)])]
    if not runs:
        why = f" ({first_few(missing)})" if missing else ""
        raise InputError(
            f"{folder}: no *_bold.nii.gz with events whose name contains {patterns}{why}; choose runs with {option}; "
            f"{names_there(names)}"
        )
    return FoundRuns(tuple(runs), tuple(sorted(missing)))


def find_subject(dataset: Path, subject: str) -> Path:
    """Find the folder of a subject.

    Parameters
    ----------
    dataset : Path
        Root of the BIDS data set.
    subject : str
        Label, with or without `sub-`.

    Raises
    ------
    InputError
        If the data set or the subject does not exist.
    """
    if not dataset.is_dir():
        raise InputError(f"{dataset}: no such folder; give the root of a BIDS data set")
    folder = dataset / f"sub-{label_of(subject)}"
    if not folder.is_dir():
        labels = ", ".join(sorted(p.name.removeprefix("sub-") for p in dataset.glob("sub-*") if p.is_dir())) or "none"
        raise InputError(f"{dataset}: no subject {label_of(subject)!r}; subjects found: {labels}")
    return folder


def label_of(subject: str) -> str:
    """Return a subject's label without `sub-`.

    Parameters
    ----------
    subject : str
        Label, with or without `sub-`.
    """
    return subject.removeprefix("sub-")


def _stem(path: Path) -> Path:
    """Return a run's path without the suffix that tells images from events: equal for both files of a run."""
    return path.with_name(re.sub(r"_(bold\.nii(\.gz)?|events\.tsv)$", "", path.name))


def _is_of(table: Path, image: Path) -> bool:
    """Return whether a table applies to an image by BIDS's inheritance principle."""
    entities = _stem(table).name.split("_")
    return table.parent in image.parents and set(_stem(image).name.split("_")).issuperset(entities)


def _gaps(stems: Sequence[Path]) -> list[str]:
    """Return names of missing runs whose numbers lie between those of runs that exist."""
    numbers: dict[tuple[str, str], dict[int, int]] = {}
    for name in dict.fromkeys(acquisition_name(stem.name) for stem in stems):
        if name_parts := _RUN.fullmatch(name):
            before, number, after = name_parts.groups()
            numbers.setdefault((before, after), {})[int(number)] = len(number)
    return [
        f"{before}{number:0{max(n_digits.values())}d}{after}"
        for (before, after), n_digits in numbers.items()
        for number in range(min(n_digits), max(n_digits))
        if number not in n_digits
    ]


def find_region(dataset: Path, subject: str, expression: str, of: MaskFor) -> Region:
    """Find a region by an expression; masks in the runs' grid are taken.

    Parameters
    ----------
    dataset : Path
        Root of the BIDS data set.
    subject : str
        Label, with or without `sub-`.
    expression : str
        Expression over the names of `find_masks`; see `calibration.datasets.regions.select_region`.
    of : MaskFor
        Run that chooses among several masks of one region.

    Raises
    ------
    InputError
        If the text is no expression, it names a region that is absent, or it is unclear which masks are meant.
    """
    masks = find_masks(dataset, subject)
    try:
        named = {name: masks[find_name(name, masks)] for name in names_in(expression)}
    except InputError as error:
        label = label_of(subject)
        raise InputError(
            f"{dataset}, subject {label}: {error}, or give a mask image with --mask; masks lie anywhere in derivatives "
            f"or sourcedata, called as sub-{label}_label-V1_mask.nii.gz, and --region {HEAD} takes the whole head"
        ) from error
    chosen = {name: [choose_mask(name, paths, of) for paths in parts] for name, parts in named.items()}
    notes = [note for parts in chosen.values() for _, note in parts if note]
    return Region(expression, {name: tuple(path for path, _ in parts) for name, parts in chosen.items()}, tuple(notes))


def find_masks(dataset: Path, subject: str) -> dict[str, tuple[tuple[Path, ...], ...]]:
    """Find mask images of a subject's regions in derivatives and sourcedata.

    Files are named as BIDS says (`sub-01_label-V1_mask.nii.gz`, perhaps with `hemi-L`) or as in ds001246
    (`sub-01_mask_LH_V1d.nii.gz`).

    Parameters
    ----------
    dataset : Path
        Root of the BIDS data set.
    subject : str
        Label, with or without `sub-`.

    Returns
    -------
    dict of str to tuple of tuple of Path
        By region, its parts, whose union is the region; each part holds its images: several if it exists in several
        spaces, resolutions or folders. The hemispheres of a region are united, and can be had as LH_ and RH_, too;
        dorsal and ventral parts (V1d, V1v) are united to V1; LVC and VC, if they have no image, are composed as in
        Horikawa & Kamitani (2017).
    """
    sides: dict[str, dict[str, list[Path]]] = {}
    for folder in ("derivatives", "sourcedata"):
        for path in sorted((dataset / folder).rglob(f"sub-{label_of(subject)}_*mask*.nii*")):
            if name_parts := _LABELLED.fullmatch(path.name) or _SOURCE.fullmatch(path.name):
                side = _SIDE.search(name_parts["before"] or "")
                sides.setdefault(name_parts["name"], {}).setdefault(side[1] if side else "", []).append(path)
    masks: dict[str, tuple[tuple[Path, ...], ...]] = {}
    for name, by_side in sides.items():
        masks[name] = (tuple(by_side[""]),) if "" in by_side else tuple(map(tuple, by_side.values()))
        masks |= {f"{side}H_{name}": (tuple(paths),) for side, paths in by_side.items() if side}
    for name in list(masks):
        if name.endswith("d") and (ventral := f"{name[:-1]}v") in masks:
            masks.setdefault(name[:-1], masks[name] + masks[ventral])
    for name, parts in _COMPOSED.items():
        if name not in masks and masks.keys() >= set(parts):
            masks[name] = tuple(paths for part in parts for paths in masks[part])
    return masks


def read_names(path: Path | None) -> dict[str, str]:
    """Read the names of categories for people, by category id.

    Parameters
    ----------
    path : Path or None
        Tab-separated table with columns `category_id` and `name`; None gives {}.

    Raises
    ------
    InputError
        If the file cannot be read or lacks the columns.
    """
    if path is None:
        return {}
    table = _names_table(path)
    if not {"category_id", "name"}.issubset(table.columns):
        columns = ", ".join(table.columns)
        raise InputError(f"names {path}: {_NAMES_NEEDS}, has {columns}")
    names = {}
    for row in table.rows:
        if not {"category_id", "name"}.issubset(row.cells):
            raise InputError(f"names {path}: line {row.line} has too few columns")
        names[row.cells["category_id"]] = row.cells["name"]
    return names


def remarks_on_names(path: Path | None) -> tuple[str, ...]:
    """Note oddities of a table of names.

    Parameters
    ----------
    path : Path or None
        As for `read_names`; None has no oddities.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    return tuple(f"names {path}: {line}" for line in _names_table(path).remarks()) if path else ()


def _names_table(path: Path) -> Table:
    try:
        return read_tsv(path, what="a table of names")
    except InputError as error:
        raise InputError(f"names {path}: cannot be read ({error}); it {_NAMES_NEEDS}") from error
