"""Evidence that builds up over the volumes of a block and over repeats, on real runs (Haxby et al. 2001).

All rankings are of left-out runs, by decoders, whitening and chances that know nothing of them. Told are: accuracy and
chance of the first category by volume; whether the best linear combination of all of a block's scores so far, by their
means and covariance in other runs, does better than the newest score alone; how sure averages over repeats are, with
the power of their number learned in one half of the runs and tried in the other; what a repeat's first volume does to
an average; and volumes until P > 0.8. The null has the categories exchanged among the blocks of each run.

    python -m benchmarks.evidence_over_time [--data FOLDER] [--json PATH]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.figures import print_all, shared_data, write_json
from benchmarks.gap.plain_folds import exchanged, plain_candidates
from benchmarks.gap.recordings import SETTINGS, Recording, read_haxby
from benchmarks.gap.samples import learn_responses
from calibration.decoders.settings import DecoderSettings
from calibration.metrics.decisions import Decisions, decisions_of
from calibration.metrics.identification import identification_accuracy
from calibration.metrics.reliability import calibration
from calibration.metrics.statistics import t_interval
from calibration.parallel.progress import quiet
from calibration.samples.assemble import samples_of
from calibration.samples.plain import plain_stimuli
from calibration.samples.runs import clean_run
from calibration.samples.study import CandidateFeatures, Samples
from calibration.samples.whitening import Whitening
from calibration.training.fit import train
from calibration.training.held_out_rankings import Learned, LeftOut, learn_matching, predict_left_out
from calibration.training.left_out_predictions import windows_of
from calibration.training.repeats import Averages, averages_of, with_repeats
from rtgod.decoding.category_index import CategoryIndex, index_categories
from rtgod.decoding.chances import Chances
from rtgod.errors import InputError
from rtgod.messages import Array, Float64Array
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import NoiseSettings, RankingSettings

_RIDGE = DecoderSettings(name="ridge")
#: Weight of the correlations of a block's scores; the rest is that of none.
_SHRUNK = 0.9
#: Draws of an earlier trial for each repeat.
_DRAWS = 10
#: Draws of runs for the interval of the volumes to a decision.
_BOOTSTRAP = 200


@dataclass(frozen=True, eq=False)
class LeftOutRuns:
    """Rankings of left-out runs: scores of all windows, and what was learned from them."""

    samples: Samples
    candidates: CandidateFeatures
    left_out: LeftOut
    learned: Learned
    index: CategoryIndex

    @property
    def scores(self) -> Array:
        """Scores of each window, (n_windows, n_candidates)."""
        return self.index.scores_of_many(self.left_out.without_run.layers)

    @property
    def true(self) -> Array:
        """Position of each trial's category."""
        return self.candidates.positions(self.samples.categories)


def samples_in(recording: Recording) -> tuple[Samples, Whitening]:
    """Make the pipeline's samples, with the times of responses that all runs but the first tell."""
    with contextlib.redirect_stdout(io.StringIO()):
        response = learn_responses(recording)[0]
    settings = SETTINGS.model_copy(update={"response": response})
    runs = [clean_run(run, recording.reference, settings, Noise()) for run in recording.runs]
    stimuli = plain_stimuli(trial.category for run in runs for trial in run.trials)
    samples = samples_of(runs, lambda trials: stimuli.of_categories([trial.category for trial in trials]))
    if samples is None:
        raise AssertionError("every run has trials")
    return samples, Whitening.of({run.run.run_id: run.noise for run in runs}, NoiseSettings())


def left_out_runs(samples: Samples, whitening: Whitening) -> LeftOutRuns:
    """Leave runs out in turn, as a calibration does."""
    candidates = plain_candidates(samples.categories)
    trained = train(samples.whitened(whitening.shape).X, samples.runs, samples.Y, _RIDGE, quiet)
    predicted = predict_left_out(samples, trained, _RIDGE, candidates, whitening)
    learned = learn_matching(predicted, trained, candidates, RankingSettings())
    index = index_categories(RankingSettings(), trained.layers, candidates.ids, candidates.features, None, plain=True)
    return LeftOutRuns(samples, candidates, predicted, learned, index)


def by_volume(found: LeftOutRuns) -> dict[str, float]:
    """Return how often the first category is right after each volume, and the mean of its chance."""
    windows, fitted = windows_of(found.samples), found.learned.confidence
    place = np.arange(len(windows.of)) - windows.first[windows.of]
    figures = {}
    for volume in range(int(np.median(np.bincount(windows.of)))):
        rows = place == volume
        figures[f"first_right_after_volume_{volume + 1}"] = float(fitted.hit[0][rows, 0].mean())
        figures[f"first_said_after_volume_{volume + 1}"] = float(fitted.held_out[0][rows, 0].mean())
    return figures


def decisions(found: LeftOutRuns) -> dict[str, float]:
    """Return after how many volumes rankings are sure, with an interval over runs, and how often they are right."""
    windows, p = windows_of(found.samples), found.learned.confidence.held_out[0][:, 0]
    first, true = found.scores.argmax(axis=1), found.true[windows.of]
    runs = np.array(found.samples.runs)[windows.of]

    def of(rows: Array, trials: Sequence[tuple[int, int]]) -> Decisions:
        return decisions_of(p[rows], first[rows], true[rows], windows.n_volumes[rows], trials)

    told = of(np.arange(len(p)), [(0, trial) for trial in windows.of.tolist()])
    figures = {
        "volumes_to_decision": told.volumes,
        "sure": told.n_decided / told.n_trials,
        "sure_said": told.said,
        "sure_right": told.right,
        "sure_right_low": told.low,
        "sure_right_high": told.high,
        "sure_right_of_another": told.by_chance,
        "sure_right_at_end": told.right_at_end,
    }
    rng, each, drawn = np.random.default_rng(0), [np.flatnonzero(runs == run) for run in sorted(set(runs.tolist()))], []
    for _ in range(_BOOTSTRAP):
        chosen = [each[i] for i in rng.integers(len(each), size=len(each))]
        trials = [(draw, trial) for draw, rows in enumerate(chosen) for trial in windows.of[rows].tolist()]
        drawn.append(of(np.concatenate(chosen), trials).volumes)
    low, high = np.quantile(drawn, (0.05, 0.95), method="nearest")
    return figures | {"volumes_to_decision_low": float(low), "volumes_to_decision_high": float(high)}


def combination_gain(found: LeftOutRuns) -> dict[str, float]:
    """Return what the best combination of all scores of a block adds to its newest score, in points."""
    windows = windows_of(found.samples)
    counts = np.bincount(windows.of)
    n = int(np.median(counts))
    trials = np.flatnonzero(counts == n)
    scores = np.stack([found.scores[windows.of == trial] for trial in trials])
    true, runs = found.true[trials], np.array(found.samples.runs)[trials]
    others = np.arange(scores.shape[2]) != true[:, np.newaxis]
    ahead = np.stack([(of[:, [t]] - of)[:, other] for of, t, other in zip(scores, true, others, strict=True)])
    gains: dict[int, list[float]] = {n // 2: [], n: []}
    for run in sorted(set(runs.tolist())):
        elsewhere = np.concatenate(list(ahead[runs != run]), axis=1)
        mean, covariance = elsewhere.mean(axis=1), np.cov(elsewhere)
        covariance = _SHRUNK * covariance + (1 - _SHRUNK) * np.diag(np.diag(covariance))
        for volume, of_runs in gains.items():
            weights = np.linalg.solve(covariance[:volume, :volume], mean[:volume])
            here = [
                identification_accuracy(weights @ of[:volume], t) - identification_accuracy(of[volume - 1], t)
                for of, t in zip(scores[runs == run], true[runs == run], strict=True)
            ]
            of_runs.append(100 * float(np.mean(here)))
    figures = {}
    for name, of_runs in zip(("middle", "end"), gains.values(), strict=True):
        for end, value in zip(("", "_low", "_high"), t_interval(of_runs), strict=True):
            figures[f"combination_gain_{name}{end}"] = float(value)
    return figures


def repeats(found: LeftOutRuns) -> dict[str, float]:
    """Return what averages over repeats say and what is right, with the power learned in one half of the runs."""
    runs, chances = np.array(found.samples.runs), found.learned.confidence.chances
    if chances is None:
        raise AssertionError("twelve runs are enough to learn from")
    names = np.unique(runs)
    said: dict[str, list[Float64Array]] = {"before": [], "learned": []}
    hits, sizes = [], []
    for half in (0, 1):
        in_half = np.isin(runs, names[half::2])
        learning, tried = (
            averages_of(found.samples, which, found.left_out.without_run, found.candidates, found.index,
                        found.left_out.presence, new=False)
            for which in (in_half, ~in_half)
        )  # fmt: skip
        single = replace(chances, repeats=0.0)
        for name, of in (("before", single), ("learned", with_repeats(single, [learning]))):
            said[name].append(_first_chances(of, tried))
        hits.append([average.scores.argmax() == average.true for average in tried.rankings])
        sizes.append([average.n_blocks for average in tried.rankings])
    hit, size = np.concatenate(hits), np.concatenate(sizes)
    figures = {f"of_{k}_trials_right": float(hit[size == k].mean()) for k in np.unique(size)}
    for name, parts in said.items():
        p = np.concatenate(parts)
        figures |= {f"of_{k}_trials_said_{name}": float(p[size == k].mean()) for k in np.unique(size)}
        figures[f"of_repeats_error_{name}"] = calibration(p, hit).error
    return figures


def _first_chances(chances: Chances, averages: Averages) -> Float64Array:
    said = []
    for average in averages.rankings:
        scores, n = np.sort(average.scores)[::-1], len(average.scores)
        evidence = average.n_volumes, average.response, average.n_blocks
        p = chances.probabilities(scores, np.full(n, averages.are_new), n, *evidence)
        said.append(np.nan if p is None else p[0])
    return np.array(said)


def begun_repeats(found: LeftOutRuns) -> dict[str, float]:
    """Return how often the first category of a whole trial and another's first volumes is right."""
    windows, rng, scores, true = windows_of(found.samples), np.random.default_rng(0), found.scores, found.true
    right: dict[str, list[bool]] = {}
    for trial in range(len(true)):
        earlier = np.setdiff1d(np.flatnonzero(true == true[trial]), [trial])
        for whole in windows.last[rng.choice(earlier, _DRAWS)]:
            for volume in (1, 2, 4):
                row = windows.first[trial] + volume - 1
                n, n_whole = windows.n_volumes[row], windows.n_volumes[whole]
                ways = {"equally": (1, 1), "by_volumes": (n_whole, n), "without": (1, 0)}
                for way, weights in ways.items():
                    mean = np.average(scores[[whole, row]], axis=0, weights=weights)
                    right.setdefault(f"repeat_begun_{volume}_{way}", []).append(bool(mean.argmax() == true[trial]))
    return {name: float(np.mean(hits)) for name, hits in right.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence_over_time", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data", type=Path, default=shared_data() / "haxby2001", help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    try:
        recording = read_haxby(options.data)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    samples, whitening = samples_in(recording)
    found, null = left_out_runs(samples, whitening), left_out_runs(exchanged(samples), whitening)
    figures: dict[str, float | str] = {
        **by_volume(found), **decisions(found), **combination_gain(found), **repeats(found), **begun_repeats(found)
    }  # fmt: skip
    for name, value in (decisions(null) | repeats(null)).items():
        figures[f"null_{name}"] = value
    # Infinite or not a number: nothing was ever sure, which JSON cannot say; `sure` says it.
    figures = {name: value for name, value in figures.items() if isinstance(value, str) or np.isfinite(value)}
    print_all(figures)
    if options.json:
        write_json(options.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
