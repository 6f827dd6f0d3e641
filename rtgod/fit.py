"""Check of whether a run fits a bundle: differences that forbid decoding, and differences to report.

A decoder reads patterns of one head, at one resolution, with a response model of one repetition time. A run that
differs in one of these cannot be decoded, whatever its rankings look like; another coil, angle or grid may be intended.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Float64Array, Run
from rtgod.preprocessing.alignment import Reference, share_inside
from rtgod.preprocessing.geometry import voxel_sizes
from rtgod.text import times

#: Subject label that sources give if they do not know the subject.
UNKNOWN = "unknown"
#: Largest relative difference of repetition times that count as equal.
_SAME_TR = 0.01
#: Largest relative difference of voxel edges that count as equal.
_SAME_EDGE = 0.05
#: Largest ratio of voxel volumes between run and bundle: beyond it voxels show other patterns.
_MOST_VOLUME = 2.0
#: Angle to the bundle's slices, in degrees, above which slices count as prescribed differently.
_SAME_ANGLE_DEG = 20.0
#: Least share of the decoder's voxels that should lie inside a run's volumes.
_LEAST_INSIDE = 0.95


@dataclass(frozen=True, slots=True)
class Training:
    """Acquisition of the runs that a decoder was trained on.

    Attributes
    ----------
    subjects : tuple of str
        Label of the one subject, as given by the user; empty if none was recorded. Older bundles list the labels in the
        runs' files before it.
    tr_s : float or None
        Repetition time, in seconds; None if it was not recorded.
    coils : tuple of str
        Receive coils, as the sources name them; empty if they name none.
    in_files : tuple of str
        Other labels that the runs' files have for the same subject.
    """

    subjects: tuple[str, ...] = ()
    tr_s: float | None = None
    coils: tuple[str, ...] = ()
    in_files: tuple[str, ...] = ()


def training_of(runs: Iterable[Run], subject: str) -> Training:
    """Record the acquisition of training runs, which share one repetition time.

    Parameters
    ----------
    runs : iterable of Run
        At least one.
    subject : str
        Label given by the user; if it is unknown, the labels in the runs are recorded.
    """
    runs = list(runs)
    spellings = {subject_label(run.subject): run.subject for run in runs}
    in_files = tuple(name for label, name in spellings.items() if label not in ("", subject_label(subject)))
    given = subject if subject_label(subject) else ""
    return Training(
        subjects=(given,) if given else in_files,
        tr_s=runs[0].tr_s,
        coils=tuple(sorted({run.coil for run in runs if run.coil})),
        in_files=in_files if given else (),
    )


def check_fit(
    run: Run,
    reference: Reference,
    training: Training,
    *,
    labels: Collection[str] = (),
    any_subject: bool = False,
) -> list[str]:
    """Compare a run with what a decoder was trained on.

    Parameters
    ----------
    run : Run
    reference : Reference
        Template and voxels of the decoder.
    training : Training
    labels : collection of str
        Labels of the blocks that a decoder of plain categories knows; empty if blocks of any category can be decoded.
    any_subject : bool
        Whether a run of another subject is only reported, and not refused.

    Returns
    -------
    list of str
        Differences that do not forbid decoding, a clause for each, for the operator to read.

    Raises
    ------
    InputError
        If the run cannot be decoded with this decoder.
    """
    return [
        *_of_subject(run, training, any_subject=any_subject),
        *_of_tr(run, training.tr_s),
        *_of_grid(run, reference),
        *_of_coil(run, training.coils),
        *_of_labels(run, labels),
    ]


def _of_subject(run: Run, training: Training, *, any_subject: bool) -> list[str]:
    labels = [name for name in (*training.subjects, *training.in_files) if subject_label(name)]
    if not labels:
        return []
    whose = " or ".join(name for name in training.subjects if subject_label(name))
    if training.in_files:
        whose += f" (called {' or '.join(training.in_files)} by the files that it was trained on)"
    if not subject_label(run.subject):
        return [f"its source does not say whose it is; the decoder is subject {whose}'s; give --subject to its source"]
    if subject_label(run.subject) in map(subject_label, labels):
        return []
    if any_subject:
        return [f"it is subject {run.subject}'s, and the decoder is subject {whose}'s"]
    raise InputError(
        f"run {run.run_id}: it is subject {run.subject}'s, and the decoder was trained on subject {whose}, whose "
        "patterns mean nothing in another head; serve this subject's bundle, correct the label, or serve with "
        "--any-subject if this is meant"
    )


def subject_label(subject: str) -> str:
    """Normalise a subject label, so that two spellings such as "sub-01" and "1" are equal; empty if unknown.

    Parameters
    ----------
    subject : str
        Capitals, blanks around it, `sub-` and leading zeros make no difference; `UNKNOWN` or an empty text if unknown.
    """
    label = subject.strip().casefold().removeprefix("sub-")
    return "" if label == UNKNOWN else label.lstrip("0") or label[:1]


def subject_note(files_say: str, subject: str) -> str:
    """Write the note that files have another label for the subject than `--subject`, which is used.

    Parameters
    ----------
    files_say : str
        Beginning of the note, with the label in the files.
    subject : str
        The value of `--subject`.
    """
    return (
        f"{files_say}, and --subject says {subject}: taken for one person, called {subject}; if this is somebody else, "
        "correct --subject"
    )


def _of_tr(run: Run, trained_s: float | None) -> list[str]:
    if trained_s is None or abs(run.tr_s - trained_s) <= _SAME_TR * trained_s:
        return []
    raise InputError(
        f"run {run.run_id}: its TR is {run.tr_s:g} s, and the decoder was trained at {trained_s:g} s, on which its "
        f"model of the response and its windows rest; scan at {trained_s:g} s, or calibrate on runs of {run.tr_s:g} s"
    )


def _of_grid(run: Run, reference: Reference) -> list[str]:
    run_mm, bundle_mm = voxel_sizes(run.affine), voxel_sizes(reference.affine)
    times_larger = float(run_mm.prod() / bundle_mm.prod())
    if not 1 / _MOST_VOLUME <= times_larger <= _MOST_VOLUME:
        raise InputError(
            f"run {run.run_id}: its voxels of {_mm(run_mm)} are {_times_as_large(times_larger)} as the bundle's of "
            f"{_mm(bundle_mm)}, and show other patterns; scan with the bundle's protocol, or calibrate anew"
        )
    differences = []
    # Sorted, as the order of the axes may differ between two exports of one series.
    if not np.allclose(np.sort(run_mm), np.sort(bundle_mm), rtol=_SAME_EDGE):
        differences.append(f"its voxels are {_mm(run_mm)}, the bundle's {_mm(bundle_mm)}")
    elif sorted(run.shape) != sorted(reference.template.shape):
        differences.append(f"its grid is {times(run.shape)}, the bundle's {times(reference.template.shape)}")
    angle_deg = _angle_deg(run.affine, reference.affine)
    if angle_deg > _SAME_ANGLE_DEG:
        differences.append(f"its slices are at {angle_deg:.0f}° to the bundle's")
    if (inside := share_inside(run, reference)) < _LEAST_INSIDE:
        differences.append(f"by its affine it holds {100 * inside:.0f} % of the decoder's voxels")
    return differences


def _of_coil(run: Run, trained: tuple[str, ...]) -> list[str]:
    if not run.coil or not trained or run.coil in trained:
        return []
    return [f"its coil is {run.coil}, the bundle's {' or '.join(trained)}"]


def _of_labels(run: Run, labels: Collection[str]) -> list[str]:
    n_unknown = _n_unknown(run, labels)
    if not n_unknown:
        return []
    return [
        f"{n_unknown} of its {len(run.blocks)} trials are of categories that the decoder was not trained on; is its "
        "table of events another run's, or read by other rules than the bundle's?"
    ]


def is_all_unknown(run: Run, labels: Collection[str]) -> bool:
    """Return whether no trial of a run is of a category that a decoder was trained on.

    Parameters
    ----------
    run : Run
    labels : collection of str
        As for `check_fit`.
    """
    return bool(run.blocks) and _n_unknown(run, labels) == len(run.blocks)


def _n_unknown(run: Run, labels: Collection[str]) -> int:
    return sum(bool(block.label) and block.label not in labels for block in run.blocks) if labels else 0


def _angle_deg(affine: Float64Array, other: Float64Array) -> float:
    """Return the angle between the slices of two images, whatever the direction of slice numbers; 0 to 90°."""
    normals = [np.cross(matrix[:3, 0], matrix[:3, 1]) for matrix in (affine, other)]
    cosine = abs(float(normals[0] @ normals[1])) / float(np.prod([np.linalg.norm(normal) for normal in normals]))
    return math.degrees(math.acos(min(1.0, cosine)))


def _times_as_large(ratio: float) -> str:
    return f"{ratio:.1f} times as large" if ratio > 1 else f"{1 / ratio:.1f} times as small"


def _mm(sizes: Float64Array) -> str:
    return f"{times(sizes, '.3g')} mm"
