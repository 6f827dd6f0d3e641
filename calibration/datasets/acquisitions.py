"""Recognise files that are forms of one acquisition: echoes, phase and magnitude, reconstructions, resampled copies.

Such files are one run. Echoes of a run share its noise: a decoder trained on one echo must not be tested on another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.datasets.run_patterns import RunPatterns, as_options
from rtgod.errors import InputError
from rtgod.text import number_of

#: Entities that BIDS uses in names of parts, reconstructions and derivatives of one acquisition.
_ENTITIES = "echo|part|rec|chunk|inv|proc|split|space|cohort|res|den|desc|label"
#: The forms in the names given by dcm2niix and others: _e2, _echo2, _ph, _real, _mcf …
_FORM = re.compile(
    rf"(?:{_ENTITIES})-.+|(?:e|te|echo)-?\d{{1,2}}(?:of\d{{1,2}})?|te-?\d+(?:p\d+)?ms|\d+(?:p\d+)?ms|ph|pha|phase|mag|magn|magnitude"
    r"|[mp]|real|imag|imaginary|mcf|moco|stc|nordic|denoised|dn|mppca|topup|unwarped|undistorted|distcorr|sbref|optcom",
    re.IGNORECASE,
)
#: "echo_2" is one word.
_PARTED = re.compile(r"(?<![a-z0-9])(echo|te|e)_(\d{1,2}(?:of\d{1,2})?)(?![a-z0-9])", re.IGNORECASE)
_NO_MAGNITUDE = re.compile(r"(?:part-)?(?:ph|pha|phase|real|imag|imaginary)", re.IGNORECASE)
#: Folders of their own for each echo.
_FOLDER = re.compile(r"(?:te|echo)-?\d{1,2}", re.IGNORECASE)
#: Entries of a sidecar's ImageType that mark an image without magnitudes.
_NO_MAGNITUDE_TYPES = frozenset({"P", "PHASE", "PHASE MAP", "REAL", "IMAGINARY"})
#: Prefixes that SPM puts before the name of a file that it realigned, resliced, normalised, smoothed …
_PREFIX = re.compile(r"(?:s\d{0,2}|[warumd])+")
_SUFFIX = re.compile(r"(\.nii)?(\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Form:
    """A file as one form of an acquisition.

    Attributes
    ----------
    path : Path
    acquisition : tuple of str
        Key that all forms of one acquisition share.
    marks : tuple of str
        Parts of the name that tell this form from others, such as ("echo-2",); empty for the plain file.
    is_magnitude : bool
    is_certain : bool
        Whether BIDS's `part` or a sidecar says so, and not a word of the name, which may name a task.
    """

    path: Path
    acquisition: tuple[str, ...]
    marks: tuple[str, ...]
    is_magnitude: bool = True
    is_certain: bool = True

    @property
    def name(self) -> str:
        """Name of the form for people, such as "echo-2"."""
        return " ".join(self.marks) or "the plain file"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Chosen file of each acquisition, and the files left out.

    Attributes
    ----------
    paths : tuple of Path
        The chosen files, in the order given.
    left_out : tuple of str
        Files that are not runs of their own, each with its reason.
    """

    paths: tuple[Path, ...]
    left_out: tuple[str, ...]


def acquisition_name(stem: str) -> str:
    """The name of a run's file without what tells forms of one acquisition apart.

    Parameters
    ----------
    stem : str
        Name of the file without `.nii` or `.nii.gz`.
    """
    return "_".join(token for token in _words(stem) if not _FORM.fullmatch(token))


def _words(stem: str) -> list[str]:
    """The parts of a file's name; a hyphen parts those of names without the entities of BIDS."""
    if stem.startswith("sub-"):  # of task-phase, phase is what the task is called
        return stem.split("_")
    return [
        part
        for token in _PARTED.sub(r"\1\2", stem).split("_")
        for part in ([token] if _FORM.fullmatch(token) else token.split("-"))
    ]


def choose_forms(
    paths: Sequence[Path],
    patterns: RunPatterns,
    option: str,
    everything: Iterable[str],
    name_of: Callable[[Path], str] = lambda path: path.name,
    events_of: Callable[[Path], object] = lambda path: None,  # noqa: ARG005 # nobody knows
) -> Chosen:
    """Choose the one file of each acquisition that can be decoded, or ask which one is meant.

    Parameters
    ----------
    paths : sequence of Path
        Recordings that `patterns` select.
    patterns : RunPatterns
    option : str
        The option that the patterns come from, such as "--training".
    everything : iterable of str
        All names that the patterns choose from.
    name_of : callable
        Returns the name of a path, which the patterns are compared with.
    events_of : callable
        Returns what a run's table of events holds: runs of different events are different acquisitions.

    Raises
    ------
    InputError
        If an acquisition has several forms, and the patterns choose none of them.
    """
    names = list(everything)
    groups = [part for forms in _grouped(paths) for part in _by_events(forms, events_of)]
    left_out: list[str] = []
    chosen: list[Path] = []
    unclear: list[list[Form]] = []
    for forms in groups:
        has_both = {"m", "p"} <= {mark.lower() for form in forms for mark in form.marks}
        magnitudes = [f for f in forms if f.is_magnitude and not (has_both and "p" in map(str.lower, f.marks))]
        # Without a magnitude beside it, "imag" may be what a task is called.
        magnitudes = magnitudes or [form for form in forms if not form.is_certain]
        left_out += [f"{name_of(form.path)}: no magnitudes but {form.name}" for form in forms if form not in magnitudes]
        packed_names = {form.path.name for form in magnitudes}
        doubled = [form for form in magnitudes if f"{form.path.name}.gz" in packed_names]
        left_out += [f"{name_of(form.path)}: the same run is there as {form.path.name}.gz" for form in doubled]
        choices = sorted(
            (form for form in magnitudes if form not in doubled), key=lambda form: (len(form.marks), form.path)
        )
        chosen += [form.path for form in choices]
        if len(choices) > 1:
            unclear.append(choices)
    if unclear:
        raise InputError(_question(unclear, patterns, option, names, name_of))
    order = {path: position for position, path in enumerate(paths)}
    return Chosen(tuple(sorted(chosen, key=order.__getitem__)), tuple(left_out))


def _question(
    unclear: Sequence[Sequence[Form]],
    patterns: RunPatterns,
    option: str,
    names: Sequence[str],
    name_of: Callable[[Path], str],
) -> str:
    forms = unclear[0]
    stem = acquisition_name(_SUFFIX.sub("", forms[0].path.name)).removesuffix("_bold")
    form_names = [form.name for form in forms]
    listed = ", ".join(form_names if len(set(form_names)) == len(form_names) else [form.path.name for form in forms])
    more = f" (and {number_of(len(unclear) - 1, 'other run')} likewise)" if len(unclear) > 1 else ""
    problem = f"{stem or 'the run'} is there as {listed}{more}: one acquisition is one run, so choose one"
    for suggested in _ways(forms, patterns):
        narrowed = RunPatterns.parse(suggested)
        selected = {name for name in names if narrowed.match(name)}
        if selected <= {name for name in names if patterns.match(name)} and all(
            sum(name_of(form.path) in selected for form in group) == 1 for group in unclear
        ):
            return f"{problem}, {as_options(option, suggested)}"
    return f"{problem}: give the files themselves, one for each run"


def _ways(forms: Sequence[Form], patterns: RunPatterns) -> Iterable[list[str]]:
    """Yield patterns that may choose one form: the second form first, because the second echo is usually the best."""
    ordered = (*forms[1:2], *forms[:1], *forms[2:])
    elsewhere = [{mark for other in forms if other is not form for mark in other.marks} for form in ordered]
    distinctive = [
        mark for form, taken in zip(ordered, elsewhere, strict=True) for mark in form.marks if mark not in taken
    ]
    yield from ([mark] for mark in distinctive)
    if len(patterns.wanted) == 1 and not patterns.unwanted:
        yield from ([f"{patterns.wanted[0]}*{mark}"] for mark in distinctive)
    for form, taken in zip(ordered, elsewhere, strict=True):
        yield [*patterns.given, *(f"not:{mark}" for mark in sorted(taken.difference(form.marks)))]


def _grouped(paths: Sequence[Path]) -> list[list[Form]]:
    by_name: dict[tuple[str, ...], list[Form]] = {}
    for form in map(_form_of, paths):
        by_name.setdefault(form.acquisition, []).append(form)
    groups = list(by_name.values())
    for pairs in (_by_prefix, _by_time):
        groups = _joined(groups, pairs(groups))
    return [part for forms in groups for part in _by_echo_time(forms)]


def _form_of(path: Path) -> Form:
    *folders, stem = (*path.absolute().parts[:-1], _SUFFIX.sub("", path.name))
    marks = [token for token in _words(stem) if _FORM.fullmatch(token)]
    key = (*(part for part in folders if not _FOLDER.fullmatch(part)), acquisition_name(stem))
    image_types = _sidecar(path).get("ImageType")
    types = {str(kind).upper() for kind in image_types} if isinstance(image_types, list) else set()
    no_magnitude = [mark for mark in marks if _NO_MAGNITUDE.fullmatch(mark)]
    is_magnitude, is_certain = not no_magnitude, any(mark.lower().startswith("part-") for mark in no_magnitude)
    if is_magnitude and (type_marks := sorted(types & _NO_MAGNITUDE_TYPES, key=len, reverse=True)):
        is_magnitude, is_certain, marks = False, True, [*marks, type_marks[0].lower()]
    return Form(path, key, tuple(marks), is_magnitude, is_certain)


def _by_events(forms: list[Form], events_of: Callable[[Path], object]) -> list[list[Form]]:
    """Part files whose tables of events differ; those without a table stay with the first."""
    parts: dict[object, list[Form]] = {}
    for form in forms:
        events = events_of(form.path)
        parts.setdefault(events if events is not None else next(iter(parts), None), []).append(form)
    return list(parts.values())


def _sidecar(path: Path) -> dict[str, Any]:
    """Return the JSON file beside an image, or {} if it cannot be read; later steps report an unreadable file."""
    try:
        content = json.loads(path.with_name(_SUFFIX.sub(".json", path.name, count=1)).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _joined(groups: Sequence[list[Form]], pairs: Iterable[tuple[int, int]]) -> list[list[Form]]:
    """Join the groups that pairs of their positions name."""
    group_of = list(range(len(groups)))
    for left, right in pairs:
        low, high = sorted((group_of[left], group_of[right]))
        group_of = [low if position == high else position for position in group_of]
    joined: dict[int, list[Form]] = {}
    for position, forms in zip(group_of, groups, strict=True):
        joined.setdefault(position, []).extend(forms)
    return list(joined.values())


def _by_prefix(groups: list[list[Form]]) -> Iterable[tuple[int, int]]:
    """Pair files of one folder whose names differ by a prefix of SPM: `swrun1.nii` was made from `run1.nii`."""
    position = {
        (form.path.parent, _SUFFIX.sub("", form.path.name)): i for i, forms in enumerate(groups) for form in forms
    }
    for (folder, stem), derived in position.items():
        prefix = _PREFIX.match(stem)
        for length in range(1, prefix.end() + 1 if prefix else 0):
            original = position.get((folder, stem[length:]))
            if original is not None and _PREFIX.fullmatch(stem[:length]):
                yield original, derived
                break


def _by_time(groups: list[list[Form]]) -> Iterable[tuple[int, int]]:
    """Pair groups with equal acquisition times: nothing else was acquired at the same time."""
    group_at: dict[tuple[object, ...], int] = {}
    for i, forms in enumerate(groups):
        for form in forms:
            sidecar = _sidecar(form.path)
            time = sidecar.get("AcquisitionDateTime"), sidecar.get("AcquisitionTime"), sidecar.get("AcquisitionDate")
            if isinstance(time[1] or time[0], str):
                yield group_at.setdefault(time, i), i


def _by_echo_time(forms: list[Form]) -> list[list[Form]]:
    """Split files named like echoes into runs of their own if their sidecars state one and the same echo time."""
    times = [_sidecar(form.path).get("EchoTime") for form in forms]
    echo_names = [
        form.marks and re.fullmatch(r"(?:e|te|echo)-?\d{1,2}", form.marks[-1], re.IGNORECASE) for form in forms
    ]
    if len(forms) > 1 and all(echo_names) and times[0] is not None and len(set(map(str, times))) == 1:
        return [[form] for form in forms]
    return [forms]
