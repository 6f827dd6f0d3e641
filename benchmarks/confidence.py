"""How far the confidence of rankings is from what comes true: the expected calibration error, cell by cell.

Simulated subjects give patterns, not scans: features of low rank are mixed into voxels with a response that all trials
share, noise that is correlated over voxels, strengths that vary, and trials without a response. Imagery is weaker and
mixed differently. Chances are learned and applied by the code of a calibration. A cell is a set of rankings with one
number of volumes and one number of candidates; each trial is in it once, and the cells of all subjects are pooled. Real
runs (Haxby et al. 2001) are decoded by bundles of some of the runs, the others being new; of the localizer's one run
nothing may be said.

The error is that of up to ten bins of equally many rankings, with what chance alone gives taken off (see
`calibration.metrics.reliability`). In the null decoders have nothing to decode; in the other one, true categories are
exchanged, so that the error must be large.

    python -m benchmarks.confidence [--data FOLDER] [--subjects N] [--json PATH]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.figures import print_all, shared_data, write_json
from calibration.decoders.settings import DecoderSettings
from calibration.metrics.reliability import calibration
from calibration.parallel.progress import quiet
from calibration.samples.study import CandidateFeatures, Samples, Windows
from calibration.training.confidence import Rankings
from calibration.training.fit import Trained, train
from calibration.training.held_out_rankings import Learned, learn_from_rankings
from calibration.training.left_out_predictions import windows_of
from rtgod.decoding.category_index import CategoryIndex, index_categories
from rtgod.decoding.decoder import response_of
from rtgod.messages import Array, Float32Array, Float64Array
from rtgod.settings import RankingSettings

#: Candidates of the simulated subjects; the first are trained on.
N_CANDIDATES, N_TRAINED = 15_372, 150
#: Trials of each trained category, and of each run; imagined trials, half of them of trained categories.
_REPEATS, _PER_RUN, _N_IMAGINED = 6, 50, 300
_N_UNITS, _N_VOXELS, _LAYERS = 120, 300, {"low": 60, "high": 60}
#: Response after each volume of a block, and the numbers of volumes that are judged: first, middle and last.
_RISE, _JUDGED = np.array([0.55, 0.8, 1.0, 1.0]), {"first": 0, "middle": 1, "last": 3}
#: Trials of each kind to test on, per subject; those among all candidates, whose scoring takes longest.
_N_TESTED, _N_AMONG_ALL = 400, 200
_SUBSETS = (2, 10, 50)
_PLACES = ("first", "first_five", "first_ten")

#: Probabilities and hits, each (n_rankings, 3), of one cell and subject.
Outcome = tuple[Float64Array, Array]


class Subject:
    """A subject of patterns.

    Parameters
    ----------
    seed : int
    strength : float
        Strength of responses to categories; 0 for a subject without any.
    """

    def __init__(self, seed: int, strength: float) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self._strength = strength
        axes = np.linalg.qr(rng.standard_normal((_N_UNITS, _N_UNITS)))[0] / np.sqrt(1 + np.arange(_N_UNITS) / 6)
        self._axes, self._features = axes.T, rng.standard_normal((N_CANDIDATES, _N_UNITS)) @ axes.T
        self._scale, self._mean = rng.uniform(0.5, 2, _N_UNITS), rng.standard_normal(_N_UNITS)
        self._seen, self._imagined = self._mixing(), self._mixing()
        self._common = rng.standard_normal(_N_VOXELS)
        voxels = np.arange(_N_VOXELS)
        self._noise = np.linalg.cholesky(np.exp(-np.abs(np.subtract.outer(voxels, voxels)) / 3)).T

    def _mixing(self) -> Float64Array:
        """Draw weights of effective rank 15, (n_units, n_voxels)."""
        left = self.rng.standard_normal((_N_UNITS, _N_UNITS)) * np.exp(-np.arange(_N_UNITS) / 15)
        weights = left @ self.rng.standard_normal((_N_UNITS, _N_VOXELS))
        return np.asarray(weights * np.sqrt(_N_VOXELS) / np.linalg.norm(weights))

    def samples(self, categories: Array, *, imagined: bool, run: str) -> Samples:
        """Make one trial for each of `categories`."""
        features = self._features[categories]
        if not imagined:  # each image differs from its category
            features = features + 0.5 * self.rng.standard_normal(features.shape) @ self._axes
        n, n_volumes = len(categories), len(_RISE)
        X = self._patterns(features, imagined=imagined)
        of = np.repeat(np.arange(n, dtype=np.int32), n_volumes)
        return Samples(
            X=X[:, -1],
            runs=tuple(f"{run} {trial // _PER_RUN}" for trial in range(n)),
            categories=tuple(f"c{category}" for category in categories),
            Y=self._by_layer(features),
            windows=Windows(of, np.tile(np.arange(1, n_volumes + 1, dtype=np.int32), n), X.reshape(-1, _N_VOXELS)),
            imagined=(imagined,) * n,
        )

    def _patterns(self, features: Float64Array, *, imagined: bool) -> Float32Array:
        """Return (n_trials, n_volumes, n_voxels); a tenth of the trials has hardly a response."""
        n, n_volumes, rng = len(features), len(_RISE), self.rng
        amplitude = np.exp(0.3 * rng.standard_normal(n)) * np.where(rng.uniform(size=n) < 0.1, 0.1, 1.0)
        response = features @ self._seen
        if imagined:
            response = 0.4 * (0.8 * response + 0.6 * features @ self._imagined)
        response = self._strength * response + (0.5 if imagined else 1.0) * self._common
        of_volumes = 3 * rng.standard_normal((n, n_volumes, _N_VOXELS)) @ self._noise
        noise = of_volumes.cumsum(axis=1) / np.arange(1, n_volumes + 1)[:, np.newaxis]
        noise += 0.7 * rng.standard_normal((n, 1, _N_VOXELS)) @ self._noise
        return ((amplitude[:, np.newaxis] * response)[:, np.newaxis] * _RISE[:, np.newaxis] + noise).astype(np.float32)

    def _by_layer(self, features: Float64Array) -> dict[str, Float32Array]:
        units = (features * self._scale + self._mean).astype(np.float32)
        ends = np.cumsum(list(_LAYERS.values()))[:-1]
        return dict(zip(_LAYERS, np.split(units, ends, axis=1), strict=True))

    def candidates(self) -> CandidateFeatures:
        """Return all candidates."""
        ids = tuple(f"c{category}" for category in range(N_CANDIDATES))
        return CandidateFeatures(ids, ids, self._by_layer(self._features))


@dataclass(frozen=True)
class Scored:
    """Scores of all candidates for each trial after a volume, and what else chances are computed from."""

    scores: list[Float32Array]
    n_volumes: list[int]
    response: list[float]


@dataclass(frozen=True)
class Calibrated:
    """A decoder of a subject, with what was learned of its confidence."""

    trained: Trained
    learned: Learned
    candidates: CandidateFeatures

    @cached_property
    def index(self) -> CategoryIndex:
        """Index of all candidates."""
        ids, features, plain = self.candidates.ids, self.candidates.features, self.candidates.are_plain
        learned = self.learned.standardisation
        standardisation = learned.standardisation if learned else None
        return index_categories(RankingSettings(), self.trained.layers, ids, features, None, plain, standardisation)

    def scored(self, samples: Samples, volume: int) -> Scored:
        """Score all candidates for each trial after a volume, or after its last."""
        windows = windows_of(samples)
        rows = windows.first + np.minimum(volume, windows.last - windows.first)
        decoder, presence, patterns = self.trained.decoder(), self.learned.presence, windows.X[rows]
        return Scored(
            [self.index.scores(decoder.decode(0, x)) for x in patterns],
            windows.n_volumes[rows].tolist(),
            [] if presence is None else [response_of(presence.weights, x) for x in patterns],
        )

    def judged(self, scored: Scored, chosen: Sequence[Array], *, imagined: bool) -> Outcome | None:
        """Judge rankings of chosen candidates, the true one first among them, for each trial; None if unknown."""
        fitted = self.learned.imagined if imagined else self.learned.confidence
        chances = fitted.chances if fitted else None
        if chances is None:
            return None
        is_new = chances.are_new(self.candidates.ids)
        rankings = Rankings(
            scores=[of_trial[some] for of_trial, some in zip(scored.scores, chosen, strict=True)],
            is_new=[is_new[some] for some in chosen],
            true=[0] * len(chosen),
            n_volumes=scored.n_volumes,
            trials=range(len(chosen)),
            groups=[""] * len(chosen),
            response=scored.response,
        )
        return rankings.judged(chances), rankings.hit


def calibrated(subject: Subject) -> Calibrated:
    """Calibrate a subject on seen and imagined trials."""
    rng = subject.rng
    seen = np.concatenate([rng.permutation(N_TRAINED) for _ in range(_REPEATS)])
    new = N_TRAINED + rng.permutation(1000)[: _N_IMAGINED // 2]
    imagined = rng.permutation(np.concatenate([rng.permutation(N_TRAINED)[: _N_IMAGINED // 2], new]))
    parts = (
        subject.samples(seen, imagined=False, run="seen"),
        subject.samples(imagined, imagined=True, run="imagined"),
    )
    samples = joined(parts)
    trained = train(samples.X, samples.runs, samples.Y, DecoderSettings(name="ridge"), quiet)
    candidates = subject.candidates()
    return Calibrated(
        trained,
        learn_from_rankings(samples, trained, DecoderSettings(name="ridge"), candidates, RankingSettings()),
        candidates,
    )


def joined(parts: Sequence[Samples]) -> Samples:
    """Join samples."""
    windows = [part.windows for part in parts if part.windows is not None]
    offsets = np.cumsum([0, *map(len, parts)])
    return Samples(
        X=np.concatenate([part.X for part in parts]),
        runs=tuple(run for part in parts for run in part.runs),
        categories=tuple(category for part in parts for category in part.categories),
        Y={layer: np.concatenate([part.Y[layer] for part in parts]) for layer in parts[0].Y},
        windows=Windows(
            np.concatenate([of.of + offset for of, offset in zip(windows, offsets, strict=False)]).astype(np.int32),
            np.concatenate([of.n_volumes for of in windows]),
            np.concatenate([of.X for of in windows]),
        ),
        imagined=tuple(flag for part in parts for flag in part.imagined),
    )


def simulated_cells(subject: Subject, found: Calibrated) -> Iterator[tuple[str, Outcome]]:
    """Rank new trials of a subject: for each cell its name, and probabilities and hits."""
    trained_ids, shown = np.arange(N_TRAINED), set(found.learned.confidence.chances.trained)  # type: ignore[union-attr]
    is_trained = np.array([category in shown for category in found.candidates.ids])
    kinds = {"trained": np.flatnonzero(is_trained), "untrained": np.flatnonzero(~is_trained)}
    rng = subject.rng
    for imagined, (whose, ids) in ((flag, kind) for flag in (False, True) for kind in kinds.items()):
        true = rng.choice(trained_ids if whose == "trained" else ids, _N_TESTED)
        samples = subject.samples(true, imagined=imagined, run="test")
        sizes = [*_SUBSETS, len(ids)] if whose == "trained" else [*_SUBSETS]
        for name, volume in _JUDGED.items():
            scored = found.scored(samples, volume)
            for size in sizes:
                chosen = [np.concatenate([[t], _others(ids, t, size - 1, rng)]) for t in true]
                outcome = found.judged(scored, chosen, imagined=imagined)
                if outcome is not None:
                    among = "all_trained" if size == len(ids) else str(size)
                    yield f"{'imagined' if imagined else 'seen'}_{whose}_{name}_volume_of_{among}", outcome
    # Among all, the truth is any candidate with equal chance, as the model takes it to be.
    for imagined in (False, True):
        true = rng.choice(N_CANDIDATES, _N_AMONG_ALL)
        samples = subject.samples(true, imagined=imagined, run="test")
        chosen = [np.concatenate([[t], np.delete(np.arange(N_CANDIDATES), t)]) for t in true]
        for name, volume in _JUDGED.items():
            scored = found.scored(samples, volume)
            outcome = found.judged(scored, chosen, imagined=imagined)
            if outcome is not None:
                yield f"{'imagined' if imagined else 'seen'}_{name}_volume_of_{N_CANDIDATES}", outcome


def _others(ids: Array, true: int, n: int, rng: np.random.Generator) -> Array:
    """Draw n of the ids other than the true one."""
    drawn = rng.choice(len(ids) - 1, n, replace=False) if n < len(ids) - 1 else np.arange(len(ids) - 1)
    return ids[ids != true][drawn] if len(ids) < 1000 else _distinct(ids, true, n, rng)


def _distinct(ids: Array, true: int, n: int, rng: np.random.Generator) -> Array:
    drawn = ids[rng.choice(len(ids), n + 1, replace=False)]
    return drawn[drawn != true][:n]


def figures_of(cells: dict[str, list[Outcome]]) -> dict[str, float | str]:
    """Return the calibration error of each cell and place that fewer candidates than all can have, and the worst."""
    figures: dict[str, float | str] = {}
    for name, outcomes in cells.items():
        p, hit = (np.concatenate([outcome[i] for outcome in outcomes]) for i in (0, 1))
        for i, place in enumerate(_PLACES):
            if not (p[:, i] == 1).all():  # the first five of two are certain
                figures[f"ece_{name}_{place}"] = calibration(p[:, i], hit[:, i]).excess
    where, worst = max(((name, float(value)) for name, value in figures.items()), key=lambda item: item[1])
    return {"ece_worst": worst, "ece_where": where.removeprefix("ece_").replace("_", " ")} | figures


def nulls(n_subjects: int) -> dict[str, float]:
    """Without a response chances are base rates; with true categories exchanged the error is large."""
    subject = Subject(1000, 0.0)
    nothing = [outcome for name, outcome in simulated_cells(subject, calibrated(subject)) if "_of_10" in name]
    said = float(np.mean([p[:, 0].mean() for p, _ in nothing]))
    subject = Subject(1001, 2.0)
    found = dict(simulated_cells(subject, calibrated(subject)))["seen_trained_last_volume_of_10"]
    exchanged = np.random.default_rng(n_subjects).uniform(size=len(found[1])) < 1 / 10
    return {
        "null_said_first_of_10": said,
        "ece_of_exchanged_truth": calibration(found[0][:, 0], exchanged).excess,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.confidence", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=shared_data(), help="real data; default: %(default)s")
    parser.add_argument("--subjects", type=int, default=4, help="simulated subjects; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    cells: dict[str, list[Outcome]] = {}
    for seed in range(options.subjects):
        subject = Subject(seed, 1.0 + seed % 2)
        for name, outcome in simulated_cells(subject, calibrated(subject)):
            cells.setdefault(name, []).append(outcome)
    figures: dict[str, float | str] = {}
    if (options.data / "haxby2001").is_dir():
        from benchmarks.real_confidence import localizer_is_unknown, real_cells

        for name, outcome in real_cells(options.data / "haxby2001"):
            cells.setdefault(name, []).append(outcome)
        figures["localizer_unknown"] = int(localizer_is_unknown(options.data / "studyforrest-localizer"))
    figures = figures_of(cells) | nulls(options.subjects) | figures
    print(f"worst: {figures['ece_worst']:.3f}, {figures['ece_where']}")
    print_all({name: value for name, value in figures.items() if not isinstance(value, str)})
    if options.json:
        write_json(options.json, figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
