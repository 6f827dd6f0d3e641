"""Data of an evaluation: labelled samples, split into training and test samples.

This module reads no files. Samples are not whitened: whitening depends on the voxels that are decoded from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.samples.left_out import LeftOutCounts
from rtgod.decoding.category_index import positions_of
from rtgod.errors import InputError
from rtgod.messages import Array, BoolArray, Float32Array, Float64Array, Int32Array
from rtgod.preprocessing.noise_model import NoiseCovariance
from rtgod.preprocessing.windows import Sample

#: Trial types by the names that people use for them.
KINDS = {"seen": "stimulus", "imagined": "imagery"}
#: The layer whose units are the categories themselves.
CATEGORIES = "category"


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Samples on the way: each sample as it was after each of its volumes.

    Attributes
    ----------
    of : ndarray of shape (n_windows,), int32
        Row of the sample that each window belongs to.
    n_volumes : ndarray of shape (n_windows,), int32
        Number of clean volumes in each window.
    X : ndarray of shape (n_windows, n_voxels), float32
    """

    of: Int32Array
    n_volumes: Int32Array
    X: Float32Array

    @property
    def first(self) -> Array:
        """Row of each sample's first window, shape (n_samples,)."""
        return np.unique(self.of, return_index=True)[1]

    @property
    def last(self) -> Array:
        """Row of each sample's last window, that of the complete sample, shape (n_samples,)."""
        return len(self.of) - 1 - np.unique(self.of[::-1], return_index=True)[1]

    def select(self, rows: Int32Array) -> Windows:
        """Select the windows of some samples, and number these samples anew.

        Parameters
        ----------
        rows : ndarray of shape (n_selected,), int32
            Rows of the samples, each once.
        """
        position = {int(row): new for new, row in enumerate(rows)}
        keep = np.flatnonzero(np.isin(self.of, rows))
        sample_rows = np.array([position[int(row)] for row in self.of[keep]], np.int32)
        return Windows(sample_rows, self.n_volumes[keep], self.X[keep])


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Labelled samples of several runs.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_voxels), float32
    runs : tuple of str
        The run that each sample comes from.
    categories : tuple of str
        The category that was seen or imagined in each sample.
    Y : mapping of str to ndarray of shape (n_samples, n_units), float32
        Features per layer: of the image that was shown, or of the category that was imagined.
    windows : Windows or None
        Samples on the way; None if only complete samples are known.
    imagined : tuple of bool
        Whether each sample's trial asked to imagine its category; empty if all were seen.
    """

    X: Float32Array
    runs: tuple[str, ...]
    categories: tuple[str, ...]
    Y: Mapping[str, Float32Array]
    windows: Windows | None = None
    imagined: tuple[bool, ...] = ()

    @classmethod
    def of_partial_windows(
        cls,
        windows: Sequence[Sequence[Sample]],
        runs: Sequence[str],
        categories: Sequence[str],
        Y: Mapping[str, Float32Array],
        imagined: Sequence[bool] = (),
    ) -> Samples:
        """Make samples from each trial's windows.

        Parameters
        ----------
        windows : sequence of sequence of Sample
            Each trial's sample after each of its volumes; the last is complete.
        runs : sequence of str
            Run of each trial.
        categories : sequence of str
            Category that was seen or imagined in each trial.
        Y : mapping of str to ndarray of shape (n_trials, n_units), float32
            Features per layer.
        imagined : sequence of bool
            Whether each trial asked to imagine its category; empty if all were seen.
        """
        all_samples = [sample for of_trial in windows for sample in of_trial]
        return cls(
            X=np.stack([of_trial[-1].values for of_trial in windows]),
            runs=tuple(runs),
            categories=tuple(categories),
            Y=Y,
            windows=Windows(
                of=np.repeat(np.arange(len(windows), dtype=np.int32), [len(of_trial) for of_trial in windows]),
                n_volumes=np.array([sample.n_volumes for sample in all_samples], np.int32),
                X=np.stack([sample.values for sample in all_samples]),
            ),
            imagined=tuple(imagined),
        )

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.runs)

    @property
    def is_imagined(self) -> BoolArray:
        """Whether each sample's trial asked to imagine its category, shape (n_samples,), bool."""
        return np.array(self.imagined or [False] * len(self), bool)

    def select(self, rows: Int32Array | BoolArray) -> Samples:
        """Select samples by their rows or by a mask.

        Parameters
        ----------
        rows : ndarray of shape (n_selected,), int, or of shape (n_samples,), bool
        """
        indices: Int32Array = (np.flatnonzero(rows) if rows.dtype == bool else rows).astype(np.int32)
        return Samples(
            self.X[indices],
            tuple(self.runs[row] for row in indices),
            tuple(self.categories[row] for row in indices),
            {layer: values[indices] for layer, values in self.Y.items()},
            None if self.windows is None else self.windows.select(indices),
            tuple(self.imagined[row] for row in indices) if self.imagined else (),
        )

    def whitened(self, shape: NoiseCovariance | None) -> Samples:
        """Whiten all samples, as for a decoder.

        Parameters
        ----------
        shape : NoiseCovariance or None
            Noise of the samples' voxels; None leaves the samples unchanged.
        """
        if shape is None:
            return self
        windows = self.windows and replace(self.windows, X=_rows_whitened(self.windows.X, shape))
        return replace(self, X=_rows_whitened(self.X, shape), windows=windows)

    def select_voxels(self, columns: Int32Array) -> Samples:
        """Keep some of the voxels of all samples.

        Parameters
        ----------
        columns : ndarray of shape (n_selected,), int32
        """
        # Taken, not indexed: each row must lie in one piece of memory, or sums over it would differ from the server's.
        windows = self.windows and replace(self.windows, X=self.windows.X.take(columns, axis=1))
        return replace(self, X=self.X.take(columns, axis=1), windows=windows)


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """Patterns of single volumes around the trials of one kind.

    Attributes
    ----------
    times_s : ndarray of shape (n_times,), float64
        Middle of each volume, in seconds from the trial's onset.
    duration_s : float
        Length of a trial, in seconds.
    X : ndarray of shape (n_trials, n_times, n_voxels), float32
        NaN at times without a clean volume.
    categories : tuple of str
    Y : mapping of str to ndarray of shape (n_trials, n_units), float32
    cue_lead_s : float or None
        Time from a trial's cue to its onset, in seconds; None without cues.
    """

    times_s: Float64Array
    duration_s: float
    X: Float32Array
    categories: tuple[str, ...]
    Y: Mapping[str, Float32Array]
    cue_lead_s: float | None = None

    def select_voxels(self, columns: Int32Array) -> Course:
        """Keep some of the voxels.

        Parameters
        ----------
        columns : ndarray of shape (n_selected,), int32
        """
        return replace(self, X=self.X.take(columns, axis=2))


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """Training samples, and the samples that their decoder is tested on.

    Attributes
    ----------
    training : Samples
    noise : mapping of str to ndarray of shape (n_volumes, n_voxels), float32
        Noise of each training run; empty if unknown: then nothing is whitened.
    tests : mapping of str to Samples
        Test samples by kind: "seen", "imagined".
    courses : mapping of str to Course
        Single volumes by kind, for kinds that have them.
    """

    training: Samples
    noise: Mapping[str, Float32Array]
    tests: Mapping[str, Samples]
    courses: Mapping[str, Course]

    def select_voxels(self, columns: Int32Array) -> Fold:
        """Keep some of the voxels in all samples, noise and courses.

        Parameters
        ----------
        columns : ndarray of shape (n_selected,), int32
        """
        return Fold(
            self.training.select_voxels(columns),
            {run: values.take(columns, axis=1) for run, values in self.noise.items()},
            {kind: samples.select_voxels(columns) for kind, samples in self.tests.items()},
            {kind: course.select_voxels(columns) for kind, course in self.courses.items()},
        )

    def complete_only(self) -> Fold:
        """Drop samples on the way and single volumes."""
        return replace(
            self,
            training=replace(self.training, windows=None),
            tests={kind: replace(samples, windows=None) for kind, samples in self.tests.items()},
            courses={},
        )

    def with_runs(self, runs: Sequence[str]) -> Fold:
        """Keep some of the training runs only.

        Parameters
        ----------
        runs : sequence of str
        """
        return replace(
            self,
            training=self.training.select(np.isin(self.training.runs, runs)),
            noise={run: values for run, values in self.noise.items() if run in runs},
        )


@dataclass(frozen=True, slots=True, eq=False)
class CandidateFeatures:
    """Categories that are ranked, with their features.

    Attributes
    ----------
    ids, names : tuple of str
    features : mapping of str to ndarray of shape (n_candidates, n_units), float32
        Features per layer.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    features: Mapping[str, Float32Array]

    def __post_init__(self) -> None:
        if twice := [category for category, n in Counter(self.ids).items() if n > 1]:
            raise InputError(
                f"candidates: {', '.join(twice[:5])} more than once, so that it would be ranked against itself; "
                "give each category once"
            )

    @classmethod
    def with_names(
        cls, ids: Sequence[str], features: Mapping[str, Float32Array], names: Mapping[str, str]
    ) -> CandidateFeatures:
        """Make candidates with names for people.

        Parameters
        ----------
        ids : sequence of str
        features : mapping of str to ndarray of shape (n_candidates, n_units), float32
            Features per layer, in the order of `ids`.
        names : mapping of str to str
            Names by id; a candidate that it lacks is named by its id.
        """
        return cls(tuple(ids), tuple(names.get(category, category) for category in ids), features)

    @property
    def are_plain(self) -> bool:
        """Return whether the units are the categories themselves, one for each."""
        return CATEGORIES in self.features

    def select(self, ids: Sequence[str]) -> CandidateFeatures:
        """Select some candidates, in the order of all candidates.

        Parameters
        ----------
        ids : sequence of str
            Ids in any order; if empty, all candidates are selected.
        """
        rows = positions_of(ids, self.ids) if ids else np.arange(len(self.ids), dtype=np.int32)
        return CandidateFeatures(
            tuple(self.ids[row] for row in rows),
            tuple(self.names[row] for row in rows),
            {layer: values[rows] for layer, values in self.features.items()},
        )

    def positions(self, categories: Sequence[str]) -> Int32Array:
        """Return the position of each category among the candidates, −1 for one that is not a candidate.

        Parameters
        ----------
        categories : sequence of str
        """
        position = {category: i for i, category in enumerate(self.ids)}
        return np.array([position.get(category, -1) for category in categories], np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """All that an evaluation works on.

    Attributes
    ----------
    folds : tuple of Fold
    regions : mapping of str to ndarray of shape (n_voxels_of_region,), int32
        Columns of each region; figures that name no region are for the first.
    candidates : CandidateFeatures
    notes : tuple of str
        Notes on images and candidates left out, and on conversions of images' pixels.
    tallies : tuple of LeftOutCounts
        Counts of the runs' used and left-out trials and volumes; empty if only samples are known.
    """

    folds: tuple[Fold, ...]
    regions: Mapping[str, Int32Array]
    candidates: CandidateFeatures
    notes: tuple[str, ...] = ()
    tallies: tuple[LeftOutCounts, ...] = ()

    @property
    def main_region(self) -> str:
        """The region of figures that name none."""
        return next(iter(self.regions))


def leave_one_run_out(samples: Samples, noise: Mapping[str, Float32Array]) -> tuple[Fold, ...]:
    """Make folds that each test on one run and train on all others.

    Parameters
    ----------
    samples : Samples
    noise : mapping of str to ndarray of shape (n_volumes, n_voxels), float32
        Noise of each run.
    """
    runs = np.array(samples.runs)
    return tuple(
        Fold(
            samples.select(runs != left_out),
            {run: values for run, values in noise.items() if run != left_out},
            {"seen": samples.select(runs == left_out)},
            {},
        )
        for left_out in dict.fromkeys(samples.runs)
    )


def check_halves(categories: Sequence[str], runs: Sequence[str]) -> None:
    """Raise `InputError` if no category has a second half of samples in a run, to test on.

    Parameters
    ----------
    categories : sequence of str
        Category of each sample, in order of time.
    runs : sequence of str
        Run of each sample.
    """
    if first_half(categories, runs).all():
        remedy = "give another run" if len(set(runs)) < 2 else "leave a run out instead, with --split leave-one-run-out"
        raise InputError(f"no category has two blocks in a run; {remedy}")


def first_half(categories: Sequence[str], runs: Sequence[str]) -> BoolArray:
    """Mark the first half of each category's samples in each run, with the middle one of an odd number.

    Parameters
    ----------
    categories : sequence of str
        Category of each sample, in order of time.
    runs : sequence of str
        Run of each sample.
    """
    keys = list(zip(categories, runs, strict=True))
    total = {key: keys.count(key) for key in dict.fromkeys(keys)}
    seen: dict[tuple[str, str], int] = dict.fromkeys(total, 0)
    is_first = []
    for key in keys:
        is_first.append(2 * seen[key] < total[key])
        seen[key] += 1
    return np.array(is_first, bool)


def _rows_whitened(X: Float32Array, shape: NoiseCovariance) -> Float32Array:
    return np.stack([shape.whiten(row) for row in X])
