"""Gain of a delay that is learned and of a decoder that is chosen, on real runs (Haxby et al. 2001), online.

Two thirds of the runs train and the others are decoded, in turn, so that each of the 96 blocks is decoded once: its
sample is that after its last volume, as a server has it. Decoder, its settings, and when responses come are learned
from the training runs alone, as by `rtgod calibrate`. The best single decoder is the best of all in hindsight, which
favours it. Differences have paired 95 % intervals of a bootstrap over runs. With categories exchanged within runs the
chosen decoder must be at chance.

    python -m benchmarks.decoder_gain [--data FOLDER] [--json PATH]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.figures import print_all, shared_data, write_json
from benchmarks.gap.intervals import Bootstrap, middle_95
from benchmarks.gap.plain_folds import exchanged, fold_without, plain_candidates
from benchmarks.gap.recordings import SETTINGS, Recording, read_haxby
from calibration.decoders.settings import DecoderSettings
from calibration.evaluation.accuracy import ranks_of
from calibration.evaluation.evaluate import index_of
from calibration.evaluation.predictions import decode_kind, fit_fold
from calibration.metrics.statistics import wilson
from calibration.samples.study import CandidateFeatures, Fold
from rtgod.errors import InputError
from rtgod.messages import BoolArray

#: Decoders that are tried, each tuned where it can be; the first is the one that is chosen among the others.
DECODERS = ("auto", "ridge", "lda", "svm")
_N_FOLDS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoder_gain", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=shared_data() / "haxby2001", help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    try:
        recording = read_haxby(options.data)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    figures = figures_of(recording)
    print_all(figures)
    if options.json:
        write_json(options.json, figures)
    return 0


def figures_of(recording: Recording, n_folds: int = _N_FOLDS) -> dict[str, float]:
    """Decode all blocks of a recording by every decoder, with and without times that are learned.

    Parameters
    ----------
    recording : Recording
    n_folds : int
        Number of groups of runs that are left out in turn.
    """
    as_set = SETTINGS.model_copy(update={"response": SETTINGS.response.model_copy(update={"learn_peak": False})})
    left_out = [part.tolist() for part in np.array_split(np.arange(len(recording.runs)), n_folds)]
    candidates = plain_candidates(recording.categories)
    learned = [fold_without(recording, runs) for runs in left_out]
    right = {name: _right(learned, candidates, name) for name in DECODERS}
    undelayed = _right([fold_without(recording, runs, as_set) for runs in left_out], candidates, "auto")
    shuffled = [replace(fold, training=exchanged(fold.training)) for fold in learned]
    chance = _right(shuffled, candidates, "auto")
    runs = np.concatenate([np.full(len(recording.runs[run].trials), run) for part in left_out for run in part])
    bootstrap = Bootstrap([runs])
    best = max(DECODERS[1:], key=lambda name: right[name].mean())
    figures: dict[str, float] = {"n_blocks": len(runs)}
    for name, of_blocks in {**right, "auto_without_learned_times": undelayed, "null": chance}.items():
        figures |= _figure(f"right_{name}", float(of_blocks.mean()), wilson(float(of_blocks.sum()), len(of_blocks)))
    for name, a, b in (("delay_gain", right["auto"], undelayed), ("auto_over_best_single", right["auto"], right[best])):
        draws = bootstrap.means([a.astype(np.float64)]) - bootstrap.means([b.astype(np.float64)])
        figures |= _figure(name, float(a.mean() - b.mean()), middle_95(draws))
    return figures


def _figure(name: str, value: float, interval: Sequence[float]) -> dict[str, float]:
    return {name: value, f"{name}_low": interval[0], f"{name}_high": interval[1]}


def _right(folds: Sequence[Fold], candidates: CandidateFeatures, decoder: str) -> BoolArray:
    """Return whether the first category of each block's last ranking is its own, fold by fold, shape (n_blocks,)."""
    found = []
    for fold in map(Fold.complete_only, folds):
        fitted = fit_fold(fold, SETTINGS.noise, DecoderSettings(name=decoder))
        index = index_of(candidates, fitted, SETTINGS.ranking)
        found.append(ranks_of(decode_kind(fold.tests["seen"], fitted, index, candidates).blocks) == 1)
    return np.concatenate(found)


if __name__ == "__main__":
    sys.exit(main())
