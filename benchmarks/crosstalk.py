"""Identification of the block before in a block's rankings, where blocks follow each other without a pause.

Patterns of simulated voxels go through the pipeline from the aligned volume to the sample, as online and in
calibration. Responses peak where the settings expect them, and elsewhere; the peak is learned from training runs, as
calibration learns it. Samples are matched with the categories' true patterns. Chance is 50 % for the category of the
block before, among those that are not the block's own. Beside it stand the pipeline as it was before crosstalk was
limited, and a null: the category before is exchanged for that of another block.

    python -m benchmarks.crosstalk [--runs N] [--json PATH]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from benchmarks.figures import print_all, write_json
from calibration.parallel.workers import workers
from calibration.samples.noise_fitting import learn_shape
from calibration.samples.response_peak import learns_peak, settings_with_learned_peak
from calibration.samples.response_recording import Recording, record
from calibration.samples.runs import AlignedRun, clean_run
from rtgod.errors import InputError
from rtgod.events.trials import Trial
from rtgod.messages import Array, Block, Float32Array, Float64Array, Motion, Run
from rtgod.preprocessing.alignment import Aligned, Reference
from rtgod.preprocessing.preprocessor import Noise
from rtgod.preprocessing.windows import Sample
from rtgod.settings import PipelineSettings

PEAKS_S = (4, 5, 7)
N_VOXELS, N_CATEGORIES, N_BLOCKS, REST_S, N_TRAINING = 200, 50, 50, 33.0, 12
#: Percent signal change: of any category, and the standard deviation over categories.
EVOKED, EFFECT = 1.0, 0.25
#: Percent: noise of a voxel; the share of its variance that voxels have in common, in so many directions.
NOISE, SHARED, N_SHARED = 1.6, 0.3, 10
#: Seconds after which the noise's correlation with itself has fallen to 1/e.
AR_S = 2.5
#: Least share of blocks that are ranked at a volume for it to count.
_OFTEN = 0.1
_STILL = Motion((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 0.0, 1, converged=True)
#: The pipeline as it was before crosstalk was limited.
BEFORE = PipelineSettings.model_validate({"response": {"sd": 1.0, "most_crosstalk": 1e9, "learn_peak": False}})


@dataclass(frozen=True)
class Design:
    """Blocks of one length without pauses, s, and the repetition time, s."""

    duration_s: float
    tr_s: float

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of a run, after a rest."""
        return tuple(Block(REST_S + n * self.duration_s, self.duration_s) for n in range(N_BLOCKS))

    @property
    def n_volumes(self) -> int:
        """Number of a run's volumes."""
        return int((REST_S + N_BLOCKS * self.duration_s + 12.0) / self.tr_s)


DESIGNS = (Design(3.0, 1.0), Design(6.0, 2.0), Design(9.0, 3.0), Design(12.0, 1.5))


@dataclass(frozen=True, eq=False)
class Scan:
    """A run's categories, in the order of its blocks, and its volumes (n_volumes, n_voxels)."""

    categories: list[int]
    volumes: Float32Array


class Subject:
    """A simulated subject, whose responses peak after `peak_s`."""

    def __init__(self, peak_s: float, seed: int) -> None:
        self._rng, self._peak_s = np.random.default_rng(seed), peak_s
        self._level = self._rng.uniform(500, 1200, N_VOXELS)
        self._evoked = EVOKED * np.abs(self._rng.standard_normal(N_VOXELS))
        self._shared = self._rng.standard_normal((N_SHARED, N_VOXELS)) / np.sqrt(N_SHARED)
        self.patterns = EFFECT * self._rng.standard_normal((N_CATEGORIES, N_VOXELS))

    def scans(self, design: Design, n: int) -> list[Scan]:
        """Scan runs of a design; no category follows itself."""
        return [self._scan(design) for _ in range(n)]

    def _scan(self, design: Design) -> Scan:
        steps = self._rng.integers(1, N_CATEGORIES, N_BLOCKS)
        categories = (np.cumsum(steps) % N_CATEGORIES).tolist()
        change = expected(design, self._peak_s) @ (self._evoked + self.patterns[categories])
        change += self._noise(design.n_volumes, design.tr_s)
        change += self._rng.standard_normal(N_VOXELS) * np.linspace(-0.5, 0.5, design.n_volumes)[:, np.newaxis]
        return Scan(categories, (self._level * (1 + change / 100)).astype(np.float32))

    def _noise(self, n_volumes: int, tr_s: float) -> Float64Array:
        kept = np.exp(-tr_s / AR_S)
        noise = np.sqrt(1 - SHARED) * self._rng.standard_normal((n_volumes, N_VOXELS))
        noise += np.sqrt(SHARED) * self._rng.standard_normal((n_volumes, N_SHARED)) @ self._shared
        for index in range(1, n_volumes):
            noise[index] = kept * noise[index - 1] + np.sqrt(1 - kept**2) * noise[index]
        return NOISE * noise


def expected(design: Design, peak_s: float) -> Float64Array:
    """Return the share of each block's lasting response in the middle of each volume, (n_volumes, n_blocks)."""
    since_s = (np.arange(design.n_volumes)[:, np.newaxis] + 0.5) * design.tr_s - [b.onset_s for b in design.blocks]

    def step(time_s: Float64Array) -> Float64Array:
        response: Float64Array = stats.gamma.cdf(time_s, peak_s + 1) - stats.gamma.cdf(time_s, 16) / 6
        return response * 6 / 5

    return step(since_s) - step(since_s - design.duration_s)


class Pipeline(NamedTuple):
    """What a bundle holds of a pipeline's front half."""

    settings: PipelineSettings
    noise: Noise


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples (n, n_voxels), and of each: scan, block, and position among the volumes at which the block is ranked."""

    values: Float32Array
    scan: Array
    block: Array
    volume: Array


def samples_of(scans: Sequence[Scan], design: Design, pipeline: Pipeline) -> Samples:
    """Take scans through the pipeline; the first block of each, before which there is none, is left out."""
    found = [
        (sample.values, number, block, sample.index)
        for number, scan in enumerate(scans)
        for block, window in windows(scan, design, pipeline).items()
        for sample in window
        if block
    ]
    if not found:
        return Samples(np.empty((0, N_VOXELS), np.float32), *[np.empty(0, int)] * 3)
    values, number, block, index = zip(*found, strict=True)
    onset_s = REST_S + np.array(block) * design.duration_s + pipeline.settings.window.hrf_shift_s
    volume = np.array(index) - np.ceil(onset_s / design.tr_s - 0.5 - 1e-6).astype(int)
    return Samples(np.array(values), np.array(number), np.array(block), volume)


def windows(scan: Scan, design: Design, pipeline: Pipeline) -> Mapping[int, tuple[Sample, ...]]:
    """Return the samples of each block of a scan; none if no block's response can be told from others'."""
    try:
        return clean_run(aligned(scan, design), reference(), *pipeline).windows
    except InputError:
        return {}


def aligned(scan: Scan, design: Design) -> AlignedRun:
    """Return a scan as the pipeline has it after alignment."""
    run = Run("run", "01", design.tr_s, (1, 1, N_VOXELS), np.eye(4), design.n_volumes, design.blocks)
    nothing = np.empty(0, np.float32)
    volumes = tuple(Aligned("run", n, values, nothing, _STILL, 1.0) for n, values in enumerate(scan.volumes))
    trials = tuple(
        Trial(block.onset_s, block.duration_s, "stimulus", str(category))
        for block, category in zip(design.blocks, scan.categories, strict=True)
    )
    return AlignedRun(Path("run"), Path("events"), run, trials, volumes, {})


def reference() -> Reference:
    """Return a template that is nothing but the simulated voxels."""
    voxels = np.zeros((N_VOXELS, 3), np.int32)
    voxels[:, 2] = np.arange(N_VOXELS)
    return Reference(np.ones((1, 1, N_VOXELS), np.float32), np.eye(4), voxels)


def recordings(scans: Sequence[Scan], design: Design, settings: PipelineSettings) -> list[Recording]:
    """Take training scans through the pipeline for the response's peak."""
    found = [record(aligned(scan, design), reference(), settings, Noise()) for scan in scans]
    return [recording for recording in found if recording is not None]


def calibrated(scans: Sequence[Scan], design: Design, settings: PipelineSettings) -> Pipeline:
    """Learn from training scans what calibration learns: the response's peak, if the settings ask for it, and noise."""
    found = recordings(scans, design, settings)
    if learns_peak(settings):
        settings, _ = settings_with_learned_peak(found, settings)
        found = recordings(scans, design, settings)
    return Pipeline(settings, Noise(learn_shape([recording.noise for recording in found], settings.noise)))


def identification(samples: Samples, scans: Sequence[Scan], patterns: Float64Array, rng: np.random.Generator) -> Array:
    """Return percent (n, 3) for the block's category, for that of the block before, and for another as the null."""
    own = np.array([scans[n].categories[b] for n, b in zip(samples.scan, samples.block, strict=True)], int)
    before = np.array([scans[n].categories[b - 1] for n, b in zip(samples.scan, samples.block, strict=True)], int)
    # Any category but the block's own, as often as any other.
    other = (own + rng.integers(1, N_CATEGORIES, len(own))) % N_CATEGORIES
    centred = samples.values - samples.values.mean(axis=0)
    scores = stats.zscore(centred, axis=1) @ stats.zscore(patterns - patterns.mean(axis=0), axis=1).T
    rows = np.arange(len(own))
    columns = [100 * (scores < scores[rows, own, np.newaxis]).sum(axis=1) / (N_CATEGORIES - 1)]
    for which in (before, other):
        score = scores[rows, which, np.newaxis]
        below = (scores < score).sum(axis=1) - (scores[rows, own] < score[:, 0])
        columns.append(100 * below / (N_CATEGORIES - 2))
    return np.column_stack(columns)


def measure(case: tuple[Design, int], n_runs: int) -> dict[str, float]:
    """Measure one design with one true peak: keys name the pipeline, the position of the volume, and the figure."""
    design, peak_s = case
    subject, rng = Subject(peak_s, seed=peak_s), np.random.default_rng(0)
    training, scans = subject.scans(design, N_TRAINING), subject.scans(design, n_runs)
    pipelines = {
        "after": calibrated(training, design, PipelineSettings()),
        "before": calibrated(training, design, BEFORE),
    }
    response = pipelines["after"].settings.response
    figures = {"peak_s": response.peak_s, "peak_sd_s": response.peak_sd_s}
    for name, pipeline in pipelines.items():
        samples = samples_of(scans, design, pipeline)
        if not len(samples.values):
            continue
        percent = identification(samples, scans, subject.patterns, rng)
        for volume in np.unique(samples.volume):
            at = samples.volume == volume
            own, before, other = percent[at].mean(axis=0)
            figures |= {
                f"{name}_{volume}_own": own,
                f"{name}_{volume}_points": before - 50,
                f"{name}_{volume}_null": other - 50,
                f"{name}_{volume}_share": at.sum() / (n_runs * (N_BLOCKS - 1)),
            }
    return figures


def figures_of(cases: Sequence[tuple[Design, int]], measured: Sequence[dict[str, float]]) -> dict[str, float]:
    """Name the figures of all cases, and add the worst of all volumes that are ranked."""
    figures: dict[str, float] = {}
    worst = {f"{name}_{figure}": [0.0] for name, figure in product(("after", "before"), ("points", "null"))}
    n_without = 0
    for (design, peak_s), of_case in zip(cases, measured, strict=True):
        where = f"{design.duration_s:g}s_tr{design.tr_s:g}_peak{peak_s}"
        figures |= {f"{name}_{where}": of_case[name] for name in ("peak_s", "peak_sd_s")}
        for name in ("after", "before"):
            ranked = [v for v in range(design.n_volumes) if of_case.get(f"{name}_{v}_share", 0.0) >= _OFTEN]
            for figure in ("points", "null"):
                worst[f"{name}_{figure}"] += [of_case[f"{name}_{v}_{figure}"] for v in ranked]
            if not ranked:
                n_without += name == "after"
                continue
            figures[f"{name}_first_volume_{where}"] = ranked[0] + 1.0
            for when, volume in (("first", ranked[0]), ("last", ranked[-1])):
                figures[f"{name}_{when}_own_{where}"] = of_case[f"{name}_{volume}_own"]
                figures[f"{name}_{when}_points_{where}"] = of_case[f"{name}_{volume}_points"]
    return {
        "crosstalk_first_points": max(worst["after_points"]),
        "crosstalk_null_points": max(worst["after_null"]),
        "crosstalk_before_points": max(worst["before_points"]),
        "cases": float(len(cases)),
        "cases_without_ranking": float(n_without),
        **figures,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crosstalk", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=40, help="test runs of each case; default: %(default)s")
    parser.add_argument("--workers", type=int, help="processes; default: one for each core")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    cases = list(product(DESIGNS, PEAKS_S))
    with workers(options.workers) as pool:
        measured = list(pool.map(partial(measure, n_runs=options.runs), cases))
    figures = figures_of(cases, measured)
    print_all(figures)
    if options.json:
        write_json(options.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
