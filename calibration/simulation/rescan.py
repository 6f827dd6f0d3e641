"""Scan a simulated subject again: the volumes of a run for any schedule that an events table gives."""

from __future__ import annotations

import filecmp
import json
import re
import shutil
import tempfile
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.datasets.bids import read_names
from calibration.features.extractor import FeatureExtractor, Image, category_means
from calibration.simulation import truth
from calibration.simulation.dataset import Report
from calibration.simulation.objects import object_categories
from calibration.simulation.photograph import draw
from calibration.simulation.scan import ongoing_activity, save_nifti, scan, sidecar, signal_change
from calibration.simulation.schedule import TR_S
from calibration.simulation.settings import SubjectSettings
from calibration.simulation.trials import Percept, responses_to
from calibration.simulation.tuning import Tuning
from rtgod.errors import InputError
from rtgod.events.table import Trial, category_of, read_events
from rtgod.events.trials import remarks_on
from rtgod.files import write_whole
from rtgod.messages import Array, Float32Array, Float64Array
from rtgod.settings import EventsSettings
from rtgod.tsv import read_tsv

_ENDING = "_bold.nii.gz"
_IMAGERY = "imagery"
#: Largest number that the header of a NIfTI-1 file can hold.
_MOST_VOLUMES = 32767


def rescan(
    subject: Path,
    events: Path,
    out: Path,
    strength: tuple[float, float] = (1.0, 1.0),
    n_volumes: int | None = None,
    tr_s: float = TR_S,
    seed: int = 0,
    report: Report = lambda *_: None,
    planned: PlannedScan | None = None,
) -> int:
    """Write the run of a schedule, with its events table and JSON sidecar beside it.

    Only the arguments count: the same subject, events, strength, length, repetition time and seed give the same bytes.
    Ratings in the events table have no influence.

    Parameters
    ----------
    subject : Path
        Data set that `simulate` wrote.
    events : Path
        Events table. A trial of seeing names an image of the subject's, or only a category: its response is then the
        mean response to that category's images. A trial of imagery names any of the subject's categories, by its id or
        by its name in stimuli/categories.tsv.
    out : Path
        RUN_bold.nii.gz; must not exist, and appears complete or not at all.
    strength : (float, float)
        Strength of the first and of the last imagery trial, in equal steps between: 1 is a rating of 4 in the subject's
        own runs.
    n_volumes : int, optional
        By default the run lasts until the last row of the events table ends.
    tr_s : float
    seed : int
        Seed of noise, movement and what varies from trial to trial, which are never the same as in the subject's own
        runs.
    report : callable
        Called with (stage, steps done, steps in all) as the work goes on.
    planned : PlannedScan, optional
        Result of `plan_scan` with the same arguments, if it was called before.

    Returns
    -------
    int
        The number of volumes.

    Raises
    ------
    InputError
        If the subject, the events table or something in it cannot be used, or the run cannot be written.
    """
    planned = planned or plan_scan(subject, events, out, n_volumes, tr_s)
    settings, trials, images, n_volumes = planned.settings, planned.trials, planned.images, planned.n_volumes
    tuning, voxels = truth.read_tuning(subject, settings)
    amplitudes = _respond(images, tuning, settings, report)
    percepts = [
        Percept(trial.onset_s, trial.duration_s, trial.kind == _IMAGERY, trial_strength, _percept(trial))
        for trial, trial_strength in zip(trials, _strengths(trials, *strength), strict=True)
    ]
    responses = responses_to(percepts, amplitudes, settings, np.random.default_rng([settings.seed, 5, seed]))
    change = signal_change(responses, n_volumes, tr_s, voxels, tuning, settings)
    head = truth.head_of(settings)
    rng = np.random.default_rng([settings.seed, 3, seed])
    change += ongoing_activity(n_volumes, tr_s, tuning, rng)
    volumes, _ = scan(head, voxels, change, tr_s, settings, rng, lambda done: report("scanning", done, n_volumes))
    _write(out, events, volumes, head.affine, tr_s)
    return n_volumes


@dataclass(frozen=True, slots=True, eq=False)
class PlannedScan:
    """Plan of a run that `rescan` will make.

    Attributes
    ----------
    settings : SubjectSettings
    trials : tuple of Trial
    images : mapping of str to sequence of image
        Images whose mean response is that of each percept.
    n_volumes : int
    remarks : tuple of str
        Notes on the events' rows that are not used as trials.
    """

    settings: SubjectSettings
    trials: tuple[Trial, ...]
    images: Mapping[str, Sequence[Image]]
    n_volumes: int
    remarks: tuple[str, ...]


def plan_scan(subject: Path, events: Path, out: Path, n_volumes: int | None, tr_s: float) -> PlannedScan:
    """Check all inputs of `rescan` without writing anything.

    Parameters
    ----------
    subject : Path
        Data set that `simulate` wrote.
    events : Path
        Events table, as for `rescan`.
    out : Path
        RUN_bold.nii.gz; must not exist.
    n_volumes : int or None
        None for a run that lasts until the last row of the events table ends.
    tr_s : float

    Raises
    ------
    InputError
        If the subject, the events table or something in it cannot be used, the run is longer than a NIfTI file can be,
        its name is unsuitable or taken, or another schedule lies beside it.
    """
    _check_room(out, events)
    settings = truth.read_settings(subject)
    read = read_events(events, EventsSettings(merge_gap_s=0.0))
    n_volumes = n_volumes or _n_volumes(events, tr_s)
    if n_volumes > _MOST_VOLUMES:
        raise InputError(
            f"{events}: {n_volumes} volumes, but a NIfTI file holds {_MOST_VOLUMES}; onset and duration are in seconds"
        )
    album = _Album(subject, settings, events)
    percepts = {_percept(trial): trial for trial in read.trials}
    images = {percept: album.behind(trial) for percept, trial in percepts.items()}
    return PlannedScan(settings, read.trials, images, n_volumes, tuple(remarks_on([read])))


class _Album:
    """Images behind trials: those that the subject was shown, and those that come to its mind."""

    def __init__(self, subject: Path, settings: SubjectSettings, events: Path) -> None:
        self._subject = subject
        self._settings = settings
        self._events = events
        categories = object_categories(settings.stimuli.n_categories, settings.seed)
        self._categories = {category.category_id: category for category in categories}
        self._ids = {name: id_ for id_, name in read_names(subject / "stimuli" / "categories.tsv").items()}
        shown = (path for kind in ("training", "test") for path in sorted((subject / "stimuli" / kind).glob("*.png")))
        self._shown = {path.stem: path for path in shown}

    def behind(self, trial: Trial) -> Sequence[Image]:
        """Return images whose mean response is the trial's: files, or images drawn anew if the subject has no files."""
        if trial.stimulus is not None:
            if trial.stimulus not in self._shown:
                raise self._refusal(trial, f"image {trial.stimulus!r}", "training or stimuli/test, or a category alone")
            return [self._shown[trial.stimulus]]
        category = self._categories.get(self._ids.get(trial.category, trial.category))
        if category is None:
            raise self._refusal(trial, f"category {trial.category!r}", "categories.tsv")
        id_, stimuli = category.category_id, self._settings.stimuli
        if trial.kind == _IMAGERY:
            files = sorted((self._subject / truth.IMAGINED / id_).glob("*.png"))
            start, n_drawn = truth.FIRST_IMAGINED, stimuli.n_images_per_candidate
        else:
            files = [path for name, path in self._shown.items() if category_of(name) == id_]
            start, n_drawn = 0, stimuli.n_images_per_category
        return files or [draw(category, start + e, stimuli.size_px, self._settings.seed) for e in range(n_drawn)]

    def _refusal(self, trial: Trial, item: str, place: str) -> InputError:
        return InputError(
            f"{self._events}: {item} at {trial.onset_s:g} s is none of {self._subject}'s; choose one from its "
            f"stimuli/{place}"
        )


def _percept(trial: Trial) -> str:
    """Return the name of what is seen or imagined: trials of one percept have one response."""
    return f"{trial.kind} {trial.stimulus or trial.category}"


def _respond(
    images: Mapping[str, Sequence[Image]], tuning: Tuning, settings: SubjectSettings, report: Report
) -> dict[Hashable, Float32Array]:
    """Return amplitudes (n_layers, n_voxels) of the mean response to each percept's images."""
    all_images = [image for of_percept in images.values() for image in of_percept]
    done = 0

    def progress(n: int) -> None:
        nonlocal done
        done += n
        report("network responses", done, len(all_images))

    features = FeatureExtractor(truth.brain_network(settings)).extract(all_images, progress)
    percepts, means = category_means(features, [percept for percept, of_percept in images.items() for _ in of_percept])
    seen, imagined = (tuning.amplitudes(means, imagined=imagined) for imagined in (False, True))
    return {percept: (imagined if percept.startswith(_IMAGERY) else seen)[:, i] for i, percept in enumerate(percepts)}


def _strengths(trials: Sequence[Trial], first: float, last: float) -> list[float]:
    """Return the strength of each trial: 1 for seeing, in equal steps from `first` to `last` for imagery."""
    imagined = np.array([trial.kind == _IMAGERY for trial in trials])
    strengths = np.ones(len(trials))
    strengths[imagined] = np.linspace(first, last, imagined.sum())
    return strengths.tolist()


def _n_volumes(events: Path, tr_s: float) -> int:
    """Return the number of volumes until the last row ends; a row without a duration takes no time."""
    rows = [row for row in read_tsv(events, what="an events table").rows if row.has("onset")]
    end_s = max(row.seconds("onset") + (row.duration() if row.has("duration") else 0.0) for row in rows)
    return max(1, round(end_s / tr_s))


def _check_room(out: Path, events: Path) -> None:
    """Raise `InputError` if the run's name is unsuitable or taken, or another schedule lies beside it."""
    if not out.name.endswith(_ENDING):
        raise InputError(f"{out}: call it RUN{_ENDING}, so that its events are found beside it")
    if out.exists():
        raise InputError(f"{out}: exists already; choose another name or remove it")
    beside = _beside(out, "_events.tsv")
    if beside.exists() and events.is_file() and not filecmp.cmp(events, beside, shallow=False):
        raise InputError(f"{beside}: holds another schedule than {events}; choose another name for the run")


def _beside(out: Path, ending: str) -> Path:
    return out.with_name(out.name.removesuffix(_ENDING) + ending)


def _write(out: Path, events: Path, volumes: Array, affine: Float64Array, tr_s: float) -> None:
    """Write the run after its events and sidecar, which are needed to read it."""
    task = re.search(r"(?:^|_)task-([A-Za-z0-9]+)", out.name)
    entries = {**({"TaskName": task[1]} if task else {}), **sidecar(volumes.shape[2], tr_s)}
    beside = _beside(out, "_events.tsv")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
            unfinished = Path(folder) / out.name
            save_nifti(unfinished, volumes, affine, tr_s)
            if not beside.exists():
                shutil.copyfile(events, Path(folder) / beside.name).replace(beside)
            write_whole(_beside(out, "_bold.json"), json.dumps(entries, indent=2) + "\n")
            unfinished.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from error
