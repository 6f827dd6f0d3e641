"""Recordings with labels that the gap between causal and hindsight decoding is measured on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from calibration.datasets.runs import RunFiles, find_plain_runs
from calibration.samples.runs import AlignedRun, align_run, make_reference
from rtgod.errors import InputError
from rtgod.events.trials import Trial
from rtgod.messages import Array, BoolArray, Float64Array
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import MotionSettings, NuisanceSettings, PipelineSettings

#: The first volumes of both recordings are settled already: none is discarded.
SETTINGS = PipelineSettings(nuisance=NuisanceSettings(discard_s=0.0))
#: Voxels of the single slice that count as head, as a share of the brightest.
_HEAD = 0.3
#: Samples of each block where there is one run: two for training while a third chooses.
_N_PARTS = 3


@dataclass(frozen=True, eq=False)
class Recording:
    """Labelled runs of one person, and what is left out of them in turn.

    Attributes
    ----------
    name : str
    runs : tuple of AlignedRun
        Each trial gives one sample, in the order of runs and of time.
    fold : ndarray of shape (n_samples,), int
        What is left out together in the outer cross-validation.
    inner : ndarray of shape (n_samples,), int
        What is left out together within the training samples.
    block : ndarray of shape (n_samples,), int
        The block that each sample is of, or is a part of; what is tested are blocks.
    unit : ndarray of shape (n_samples,), int
        What the bootstrap draws: runs, or blocks where there is one run.
    """

    name: str
    runs: tuple[AlignedRun, ...]
    fold: Array
    inner: Array
    block: Array
    unit: Array

    @cached_property
    def categories(self) -> Array:
        """Category of each sample, shape (n_samples,)."""
        return np.array([trial.category for run in self.runs for trial in run.trials])

    @cached_property
    def n_categories(self) -> int:
        """Number of categories."""
        return len(set(self.categories.tolist()))

    @cached_property
    def reference(self) -> Reference:
        """A reference with as many voxels as are decoded from, at made-up places, which do not matter here."""
        n_voxels = len(self.runs[0].volumes[0].decoder_values)
        voxels = np.column_stack([np.arange(n_voxels), np.zeros((n_voxels, 2))]).astype(np.int32)
        return Reference(np.zeros((1, 1, 1), np.float32), np.eye(4), voxels)

    def trials_of(self, run: int) -> slice:
        """Return the samples of one run.

        Parameters
        ----------
        run : int
            Position of the run.
        """
        start = sum(len(earlier.trials) for earlier in self.runs[:run])
        return slice(start, start + len(self.runs[run].trials))

    def fold_of_volumes(self, run: int) -> Array:
        """Return the fold of each volume of a run, shape (n_volumes,): that of the newest trial that has begun.

        Parameters
        ----------
        run : int
        """
        middles_s = (np.arange(len(self.runs[run].volumes)) + 0.5) * self.runs[run].run.tr_s
        onsets_s = [trial.onset_s for trial in self.runs[run].trials]
        newest = np.maximum(np.searchsorted(onsets_s, middles_s, side="right") - 1, 0)
        return self.fold[self.trials_of(run)][newest]

    def of_blocks(self, of_samples: Array) -> Array:
        """Return what all samples of a block have in common, shape (n_blocks,).

        Parameters
        ----------
        of_samples : ndarray of shape (n_samples,)
        """
        return of_samples[np.unique(self.block, return_index=True)[1]]

    def shuffled(self, rng: np.random.Generator) -> Array:
        """Shuffle categories among the blocks of each fold; samples of one block keep theirs in common.

        Parameters
        ----------
        rng : Generator
        """
        categories = self.categories.copy()
        for fold in np.unique(self.fold):
            blocks, first = np.unique(self.block[self.fold == fold], return_index=True)
            new = dict(zip(blocks.tolist(), rng.permutation(categories[self.fold == fold][first]), strict=True))
            for row in np.flatnonzero(self.fold == fold):
                categories[row] = new[int(self.block[row])]
        return categories


def read_haxby(folder: Path) -> Recording:
    """Read the slice's twelve runs, with the head's voxels; nothing is aligned, as a single slice cannot be.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    InputError
        If the runs are not there.
    """
    bold = folder / "sub001" / "BOLD"
    if not bold.is_dir():
        raise InputError(f"{folder}: no sub001/BOLD in it; give the folder of haxby2001 with --data")
    files = find_plain_runs([bold], pattern="1slice").runs
    first = files[0].open().run
    everywhere = np.argwhere(np.ones(first.shape, bool)).astype(np.int32)
    reference = Reference(np.ones(first.shape, np.float32), first.affine, everywhere)
    settings = SETTINGS.model_copy(update={"motion": MotionSettings(estimate=False)})
    runs = [align_run(recorded, reference, Noise(), settings) for recorded in files]
    mean = np.mean([courses_of(run).mean(axis=0) for run in runs], axis=0)
    head: BoolArray = np.greater(mean, _HEAD * mean.max())
    return by_runs("haxby2001", [with_voxels(run, head) for run in runs])


def by_runs(name: str, runs: Sequence[AlignedRun]) -> Recording:
    """Make a recording of which one run is left out at a time.

    Parameters
    ----------
    name : str
    runs : sequence of AlignedRun
    """
    run_of = np.repeat(np.arange(len(runs)), [len(run.trials) for run in runs])
    return Recording(name, tuple(runs), run_of, run_of, np.arange(len(run_of)), run_of)


def read_studyforrest(folder: Path) -> Recording:
    """Read the localizer's one run, with the head's voxels that no movement takes out of view.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    InputError
        If the run is not there.
    """
    found = sorted(folder.glob("*_bold.nii.gz"))
    if not found:
        raise InputError(f"{folder}: no run (*_bold.nii.gz) in it; give the folder of the localizer with --localizer")
    files = RunFiles(found[0], folder / "events.tsv")
    reference = make_reference(files, None, SETTINGS)
    run = align_run(files, reference, Noise(), SETTINGS)
    in_view: BoolArray = np.logical_and.reduce(np.isfinite(courses_of(run)), axis=0)
    return of_one_run("studyforrest", with_voxels(run, in_view))


def of_one_run(name: str, run: AlignedRun) -> Recording:
    """Make a recording of one run whose blocks give several samples each, one for each part of a block.

    The first block of each category is left out, then the second. With a sample of each training block nothing could be
    tuned; of parts of it one can be left out, although it is a close neighbour of the others.

    Parameters
    ----------
    name : str
    run : AlignedRun
    """
    seen: Counter[str] = Counter()
    fold = []
    for trial in run.trials:
        fold.append(seen[trial.category])
        seen[trial.category] += 1
    trials = [part for trial in run.trials for part in _parts(trial)]
    block = np.repeat(np.arange(len(run.trials)), _N_PARTS)
    part = np.tile(np.arange(_N_PARTS), len(run.trials))
    return Recording(name, (with_trials(run, trials),), np.repeat(fold, _N_PARTS), part, block, block)


def _parts(trial: Trial) -> list[Trial]:
    part_s = trial.duration_s / _N_PARTS
    return [replace(trial, onset_s=trial.onset_s + k * part_s, duration_s=part_s) for k in range(_N_PARTS)]


def with_trials(run: AlignedRun, trials: Sequence[Trial]) -> AlignedRun:
    """Return a run with other trials, and blocks to match.

    Parameters
    ----------
    run : AlignedRun
    trials : sequence of Trial
    """
    label_of = {trial.category: block.label for trial, block in zip(run.trials, run.run.blocks, strict=True)}
    any_block = run.run.blocks[0]
    blocks = tuple(
        replace(any_block, onset_s=trial.onset_s, duration_s=trial.duration_s, label=label_of[trial.category])
        for trial in trials
    )
    return replace(run, trials=tuple(trials), run=replace(run.run, blocks=blocks))


def with_voxels(run: AlignedRun, keep: BoolArray) -> AlignedRun:
    """Keep some of the voxels of a run.

    Parameters
    ----------
    run : AlignedRun
    keep : ndarray of shape (n_voxels,), bool
    """
    volumes = tuple(replace(volume, decoder_values=volume.decoder_values[keep]) for volume in run.volumes)
    return replace(run, volumes=volumes)


def courses_of(run: AlignedRun) -> Float64Array:
    """Return the intensities of all voxels, shape (n_volumes, n_voxels); every volume of these runs was aligned.

    Parameters
    ----------
    run : AlignedRun
    """
    return np.array([volume.decoder_values for volume in run.volumes], np.float64)
