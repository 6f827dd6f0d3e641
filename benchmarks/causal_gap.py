"""Accuracy that is left if every sample uses only past volumes, on real recordings with labels.

Haxby et al. 2001 (one slice, eight categories, twelve runs, one left out at a time) and the studyforrest localizer (one
run, six categories of two blocks each; the first block of each is left out, then the second). The same classifiers,
each tuned within the training samples, decode samples of whole runs (hindsight), the pipeline's samples with default
settings (causal), and the simplest causal ones, signal minus its mean so far. The delay of the responses is estimated
from the training folds: without labels, and for the pipeline's samples as calibration does. The best of a side is the
best of its cells, so that the side with more cells, hindsight, is favoured; "chosen" is the cell that is best within
the training samples of each fold.

Differences and ratios have paired 95 % intervals: a bootstrap over runs (Haxby) or blocks (studyforrest, which has one
run). Those of shares are Wilson's, over blocks. With categories exchanged among the blocks of each run, all of
this must give chance.

    python -m benchmarks.causal_gap [--data FOLDER] [--localizer FOLDER] [--json PATH]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figures import shared_data, write_json
from benchmarks.gap.classifiers import CLASSIFIERS, Tested, tested
from benchmarks.gap.intervals import Bootstrap, middle_95
from benchmarks.gap.recordings import SETTINGS, Recording, read_haxby, read_studyforrest
from benchmarks.gap.samples import WAYS, estimate_delay, learn_responses
from calibration.metrics.statistics import share_interval, wilson
from calibration.parallel.workers import workers
from rtgod.errors import InputError
from rtgod.messages import Array, Float64Array
from rtgod.settings import ResponseSettings

SIDES = ("hindsight", "causal", "simple_causal")
#: Shuffles of the labels, and the samples and the classifier, the quickest one, that are tried with each.
N_SHUFFLES = 10
NULLS = {"hindsight": "hindsight_response_whitened", "causal": "causal_response_whitened"}
_NULL_CLASSIFIER = "ridge"
Delays = Mapping[int, Mapping[str, float | ResponseSettings]]


@dataclass(frozen=True, eq=False)
class Measured:
    """Results on one recording.

    Attributes
    ----------
    recording : Recording
    delays : mapping of int to mapping
        Delays in seconds of "blocks" and "windows", and the "response" as calibration learns it, while each fold was
        left out.
    cells : mapping of (str, str) to Tested
        Results by way and classifier.
    nulls : mapping of str to ndarray of shape (n_shuffles,)
        Accuracy with shuffled labels, by side.
    """

    recording: Recording
    delays: Delays
    cells: Mapping[tuple[str, str], Tested]
    nulls: Mapping[str, Float64Array]

    def chosen(self, side: str) -> Float64Array:
        """Return the results of the cells that are best within each fold's training samples, shape (n_blocks,).

        Parameters
        ----------
        side : {"hindsight", "causal", "simple_causal"}
        """
        cells = [cell for (way, _), cell in self.cells.items() if side_of(way) == side]
        fold_of_block = self.recording.of_blocks(self.recording.fold)
        best = {left_out: max(cells, key=lambda cell: cell.inner[left_out]) for left_out in cells[0].inner}
        return np.array([float(best[fold].right[block]) for block, fold in enumerate(fold_of_block.tolist())])

    @property
    def units(self) -> Array:
        """What the bootstrap draws each block with, shape (n_blocks,)."""
        return self.recording.of_blocks(self.recording.unit)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.causal_gap", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=shared_data() / "haxby2001", help="default: %(default)s")
    parser.add_argument(
        "--localizer", type=Path, default=shared_data() / "studyforrest-localizer", help="default: %(default)s"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    try:
        recordings = [read_haxby(options.data), read_studyforrest(options.localizer)]
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    measured = measure(recordings, options.workers)
    figures = figures_of("", measured)
    for of_one in measured:
        figures |= figures_of(f"{of_one.recording.name}_", [of_one]) | _told(of_one)
    if options.json:
        write_json(options.json, figures)
    return 0


def measure(recordings: Iterable[Recording], n_workers: int) -> list[Measured]:
    """Test every way to make samples with every classifier, on every recording.

    Parameters
    ----------
    recordings : iterable of Recording
    n_workers : int
        Number of processes.
    """
    measured = []
    with workers(n_workers) as pool:
        for recording in recordings:
            folds = np.unique(recording.fold).tolist()
            wanted = [(fold, shape) for fold in folds for shape in ("blocks", "windows")]
            (responses,) = pool.map(learn_responses, [recording])
            estimates = pool.map(_delay, [(recording, *one) for one in wanted])
            delays: dict[int, dict[str, float | ResponseSettings]] = {
                fold: {"response": responses[fold]} for fold in folds
            }
            for (fold, shape), delay_s in zip(wanted, estimates, strict=True):
                delays[fold][shape] = delay_s
            cells = [(way, name) for way in WAYS for name in CLASSIFIERS]
            results = pool.map(_cell, [(recording, delays, *cell) for cell in cells])
            by_cell = dict(zip(cells, results, strict=True))
            nulls = pool.map(_null, [(recording, delays, way) for way in NULLS.values()])
            measured.append(Measured(recording, delays, by_cell, dict(zip(NULLS, nulls, strict=True))))
    return measured


def _delay(arguments: tuple[Recording, int, str]) -> float:
    return estimate_delay(*arguments)


def _cell(arguments: tuple[Recording, Delays, str, str]) -> Tested:
    recording, delays, way, name = arguments
    samples = samples_of(recording, delays, way)
    return tested(name, samples, recording, recording.categories)


def _null(arguments: tuple[Recording, Delays, str]) -> Float64Array:
    recording, delays, way = arguments
    samples, rng = samples_of(recording, delays, way), np.random.default_rng(0)
    shuffles = [recording.shuffled(rng) for _ in range(N_SHUFFLES)]
    return np.array([tested(_NULL_CLASSIFIER, samples, recording, shuffle).right.mean() for shuffle in shuffles])


def samples_of(recording: Recording, delays: Delays, way: str) -> dict[int, Array]:
    """Make all samples for each fold, by the delay and the noise of the other folds.

    Parameters
    ----------
    recording : Recording
    delays : mapping of int to mapping
    way : str
        One of `WAYS`.
    """
    make, shape, whitens = WAYS[way]
    made = {delay_s: make(recording, delay_s) for delay_s in {of_fold[shape] for of_fold in delays.values()}}
    return {
        fold: made[of_fold[shape]].whitened(fold, SETTINGS.noise) if whitens else made[of_fold[shape]].X
        for fold, of_fold in delays.items()
    }


def side_of(way: str) -> str:
    """Return the side that a way to make samples is on.

    Parameters
    ----------
    way : str
    """
    return "simple_causal" if way == "simple_causal" else way.partition("_")[0]


def figures_of(prefix: str, measured: Sequence[Measured]) -> dict[str, float]:
    """Compute and print the figures of recordings taken together, block by block.

    Parameters
    ----------
    prefix : str
        Begins the name of each figure.
    measured : sequence of Measured
    """
    bootstrap = Bootstrap([one.units for one in measured])
    cells = {cell: [one.cells[cell].right.astype(np.float64) for one in measured] for cell in measured[0].cells}
    n_blocks = sum(len(one.units) for one in measured)
    chance = sum(len(one.units) / one.recording.n_categories for one in measured) / n_blocks
    figures: dict[str, float] = {f"{prefix}n_blocks": n_blocks, f"{prefix}chance": chance}
    print(f"\n{prefix.rstrip('_') or 'all together'}: {n_blocks} blocks, chance {chance:.3f}")
    for (way, name), right in cells.items():
        figures |= _with_interval(f"{prefix}{way}_{name}", mean_of(right), wilson(mean_of(right) * n_blocks, n_blocks))
    best = {side: max((c for c in cells if side_of(c[0]) == side), key=lambda c: mean_of(cells[c])) for side in SIDES}
    kinds = {"best": {side: cells[cell] for side, cell in best.items()}}
    kinds["chosen"] = {side: [one.chosen(side) for one in measured] for side in SIDES}
    print("best cells:", ", ".join(f"{side}: {' '.join(cell)}" for side, cell in best.items()))
    for kind, of_side in kinds.items():
        draws = {side: bootstrap.means(right) for side, right in of_side.items()}
        mean = {side: mean_of(right) for side, right in of_side.items()}
        last = "" if kind == "best" else f"_{kind}"
        for side in SIDES:
            figures |= _with_interval(f"{prefix}{side}_{kind}", mean[side], wilson(mean[side] * n_blocks, n_blocks))
        for name, a, b in (("gap", "hindsight", "causal"), ("gain", "causal", "simple_causal")):
            figures |= _with_interval(f"{prefix}{name}{last}", mean[a] - mean[b], middle_95(draws[a] - draws[b]))
        ratio = draws["causal"] / draws["hindsight"]
        figures |= _with_interval(f"{prefix}ratio{last}", mean["causal"] / mean["hindsight"], middle_95(ratio))
    for side in NULLS:
        nulls = np.sum([len(one.units) * one.nulls[side] for one in measured], axis=0) / n_blocks
        mean_null, *interval = share_interval(nulls, range(len(nulls)), level=0.95)
        figures |= _with_interval(f"{prefix}null_{side}", mean_null, interval)
    return figures


def mean_of(right: Sequence[Float64Array]) -> float:
    """Return the mean over all blocks of all recordings.

    Parameters
    ----------
    right : sequence of ndarray of shape (n_blocks,)
    """
    return float(np.concatenate(right).mean())


def _with_interval(name: str, value: float, interval: Sequence[float]) -> dict[str, float]:
    print(f"{name:<52} {value:.3f}  [{interval[0]:.3f}, {interval[1]:.3f}]")
    return {name: value, f"{name}_low": interval[0], f"{name}_high": interval[1]}


def _delay_s(delay: float | ResponseSettings) -> float:
    return delay.delay_s if isinstance(delay, ResponseSettings) else delay


def _told(measured: Measured) -> dict[str, float]:
    """Print the delays, and how often a value at the edge of its grid was chosen."""
    prefix = measured.recording.name
    figures: dict[str, float] = {}
    for shape in ("response", "blocks", "windows"):
        delays = [_delay_s(of_fold[shape]) for of_fold in measured.delays.values()]
        figures |= {
            f"{prefix}_delay_{shape}_s": float(np.median(delays)),
            f"{prefix}_delay_{shape}_min_s": min(delays),
            f"{prefix}_delay_{shape}_max_s": max(delays),
        }
        print(f"{prefix}: {shape} later than the table by {np.median(delays):g} s ({min(delays):g} to {max(delays):g})")
    n_at_edge = sum(cell.n_at_edge for cell in measured.cells.values())
    n_choices = sum(cell.n_choices for cell in measured.cells.values())
    print(f"{prefix}: {n_at_edge} of {n_choices} tuned values are at the edge of their grid")
    for cell, result in measured.cells.items():
        if result.n_at_edge:
            print(f"  {' '.join(cell)}: {result.n_at_edge} of {result.n_choices}")
    return figures | {f"{prefix}_n_at_edge": n_at_edge, f"{prefix}_n_tuned": n_choices}


if __name__ == "__main__":
    sys.exit(main())
