"""Difficulty of decoding the simulated subject: its effective rank, and how often five of 50 hold the truth.

A subject is scanned as by `rtgod simulate`, but for what takes long and changes little here: the images hold only
visual cortex, the head lies still, and nothing is written. Its volumes go through the online pipeline, the default
decoder is trained on 24 runs, and 50 categories that it was not trained on are ranked, each with images of its own
behind it. Repeats are averaged over the test runs, of which each shows every category once.

    python -m benchmarks.simulated_subject [--settings FILE] [--json PATH]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import numpy as np

from benchmarks.figures import print_all, write_json
from calibration.decoders.settings import DecoderSettings
from calibration.evaluation.accuracy import ranks_of
from calibration.evaluation.evaluate import index_of
from calibration.evaluation.predictions import decode_kind, fit_fold
from calibration.features.extractor import FeatureExtractor, category_means
from calibration.features.network import Network
from calibration.metrics.effective_rank import effective_rank
from calibration.parallel.progress import quiet
from calibration.parallel.workers import workers
from calibration.samples.assemble import folds_of
from calibration.samples.preparation import denoise_runs
from calibration.samples.runs import AlignedRun
from calibration.samples.study import CandidateFeatures, Study
from calibration.simulation import truth
from calibration.simulation.head import REGIONS, Head
from calibration.simulation.photograph import draw
from calibration.simulation.plan import Plan, PlannedRun
from calibration.simulation.scan import ongoing_activity, signal_change
from calibration.simulation.scanner import Movement, Scanner
from calibration.simulation.schedule import CUE_S, TR_S
from calibration.simulation.settings import StimulusSettings, SubjectSettings
from calibration.simulation.trials import (
    Response,
    imagined_amplitudes,
    percepts_of,
    responses_to,
    seen_amplitudes,
)
from calibration.simulation.tuning import Tuning, subject_tuning
from rtgod.events.trials import Kind, Trial
from rtgod.messages import Block, Float32Array, Int32Array, Motion, Run
from rtgod.preprocessing.alignment import Aligned, Reference
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import PipelineSettings

#: 24 training runs, as in Horikawa & Kamitani (2017), and enough test runs for an average over repeats.
SUBJECT = SubjectSettings(
    n_test_runs=4,
    n_imagery_runs=8,
    stimuli=StimulusSettings(n_training_categories=150, n_images_per_category=8, n_other_categories=0),
)
#: Exemplars behind candidates; neither shown nor imagined.
_CANDIDATES = 1000
#: Voxels around visual cortex that are scanned with it.
_MARGIN = 3
_STILL = Motion((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 0.01, 3, converged=True)
Layers = Mapping[str, Float32Array]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulated_subject", description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, help="the subject's settings, as for rtgod simulate (TOML)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    settings = SubjectSettings.from_toml(options.settings) if options.settings else SUBJECT
    network = Network(weights=settings.weights)
    figures = measure(settings, pictures_of(settings, network))
    print_all(figures)
    if options.json:
        write_json(options.json, figures)
    return 0


# --------------------------------------------------------------------------------------------------- the subject


@dataclass(frozen=True)
class Pictures:
    """Features of all images per layer, (n_images, n_units), for the brain and for the decoder.

    `training` and `test` name the images that are shown, by their place; `imagined` and `candidates` the categories
    of the images that come to mind and of those behind the candidates.
    """

    brain: Layers
    decoder: Layers
    training: Mapping[int, str]
    test: Mapping[int, str]
    imagined: Mapping[int, str]
    candidates: Mapping[int, str]


def pictures_of(settings: SubjectSettings, network: Network) -> Pictures:
    """Draw the images of a subject, and compute their features for its brain and for a decoder's network."""
    plan, stimuli = Plan(settings), settings.stimuli
    wanted = [("training", c, e) for c in plan.training for e in range(stimuli.n_images_per_category)]
    wanted += [("test", c, 0) for c in plan.test]
    exemplars = range(stimuli.n_images_per_candidate)
    wanted += [("imagined", c, truth.FIRST_IMAGINED + e) for c in plan.test for e in exemplars]
    n_evoking = len(wanted)
    wanted += [("candidates", c, _CANDIDATES + e) for c in (*plan.test, *plan.other) for e in exemplars]
    images = [draw(category, exemplar, stimuli.size_px, settings.seed) for _, category, exemplar in wanted]
    brain = FeatureExtractor(truth.brain_network(settings)).extract(images[:n_evoking], lambda _: None)
    decoder = FeatureExtractor(network).extract(images, lambda _: None)
    names = {
        kind: {
            place: f"{category.category_id}_{exemplar}" if kind in ("training", "test") else category.category_id
            for place, (used_for, category, exemplar) in enumerate(wanted)
            if used_for == kind
        }
        for kind in ("training", "test", "imagined", "candidates")
    }
    return Pictures(brain, decoder, **names)


def _at(layers: Layers, places: Mapping[int, str]) -> dict[str, Float32Array]:
    return {layer: values[list(places)] for layer, values in layers.items()}


@dataclass(frozen=True)
class Subject:
    """Subject as it lies in the scanner, with the amplitudes of all that it sees or imagines."""

    settings: SubjectSettings
    head: Head
    voxels: Int32Array
    tuning: Tuning
    amplitudes: Mapping[object, Float32Array]

    @classmethod
    def of(cls, settings: SubjectSettings, pictures: Pictures) -> Subject:
        """Draw a subject whose brain responds to these pictures."""
        head = truth.head_of(settings)
        voxels = np.argwhere(head.regions > 0).astype(np.int32)
        rng = np.random.default_rng([settings.seed, 1])
        tuning = subject_tuning(_at(pictures.brain, pictures.training), head, voxels, settings, rng)
        shown = {**pictures.training, **pictures.test}
        amplitudes = seen_amplitudes(tuning, list(shown.values()), _at(pictures.brain, shown))
        labels = list(pictures.imagined.values())
        amplitudes |= imagined_amplitudes(tuning, labels, _at(pictures.brain, pictures.imagined))
        return cls(settings, head, voxels, tuning, amplitudes)

    def effective_ranks(self, names: Sequence[str]) -> list[float]:
        """Return the effective rank of each region's noise-free responses to images."""
        labels = self.head.regions[tuple(self.voxels.T)]
        responses = np.stack([self.amplitudes[name].sum(axis=0) for name in names])
        return [effective_rank(responses[:, labels == 1 + i]) for i in range(len(REGIONS))]


def _around(head: Head, voxels: Int32Array) -> tuple[Head, Int32Array]:
    """Cut visual cortex out of a head, with all of its slices; return it with the voxels' new places."""
    low = np.maximum(voxels.min(axis=0) - _MARGIN, 0)
    high = voxels.max(axis=0) + _MARGIN + 1
    low[2], high[2] = 0, head.template.shape[2]  # the slices keep their times
    box = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    affine = head.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    parts = (getattr(head, name)[box].copy() for name in ("template", "grey", "white", "csf", "brain", "regions"))
    return Head(affine, *parts), (voxels - low).astype(np.int32)


def scanned(subject: Subject, run: PlannedRun, responses: Sequence[Response], seed: int) -> AlignedRun:
    """Scan a run of a head that lies still, and return it as the pipeline has it after alignment."""
    head, voxels = _around(subject.head, subject.voxels)
    settings, n_volumes = subject.settings, run.schedule.n_volumes
    change = signal_change(responses, n_volumes, TR_S, subject.voxels, subject.tuning, settings)
    still = Movement(np.zeros((n_volumes, 3)), np.zeros((n_volumes, 3)))
    rng = np.random.default_rng([settings.seed, 2, seed])
    change += ongoing_activity(n_volumes, TR_S, subject.tuning, rng)
    scanner = Scanner(head, n_volumes, TR_S, settings.noise, still, rng)
    at = tuple(voxels.T)
    run_id = f"sub-{settings.subject}_{run.stem}"
    images = (scanner.image(i, voxels, change[i])[at].astype(np.float32) for i in range(n_volumes))
    none = np.empty(0, np.float32)
    volumes = tuple(Aligned(run_id, i, image, none, _STILL, 1.0) for i, image in enumerate(images))
    trials = _trials_of(run)
    blocks = tuple(Block(trial.onset_s, trial.duration_s, trial.category) for trial in trials)
    described = Run(run_id, settings.subject, TR_S, head.template.shape, head.affine, n_volumes, blocks)
    return AlignedRun(Path(run_id), Path(f"{run_id}_events.tsv"), described, trials, volumes, {})


def _trials_of(run: PlannedRun) -> tuple[Trial, ...]:
    trials: list[Trial] = []
    for t in run.schedule.trials:
        name = t.stimulus.name if t.stimulus else None
        repeat_ = name is not None and bool(trials) and trials[-1].stimulus == name
        kind: Kind = "stimulus" if name else "imagery"
        trials.append(Trial(t.onset_s, t.duration_s, kind, t.category.category_id, name, repeat_))
    return tuple(trials)


# -------------------------------------------------------------------------------------------------- the figures


def study_of(
    subject: Subject, pictures: Pictures, pipeline: PipelineSettings | None = None, n_workers: int | None = None
) -> Study:
    """Scan all runs of a subject, and return them as an evaluation takes them: with visual cortex and its areas."""
    settings = subject.settings
    runs = Plan(settings).runs(np.random.default_rng([settings.seed, 1]))
    rngs = [np.random.default_rng([settings.seed, 4, k]) for k in range(len(runs))]
    responses = [
        responses_to(percepts_of(run.schedule), subject.amplitudes, settings, rng)
        for run, rng in zip(runs, rngs, strict=True)
    ]
    # Workers get the course of a voxel's response, and no weights or amplitudes, which are large.
    lying = replace(subject, tuning=replace(subject.tuning, weights={}, imagery_weights={}), amplitudes={})
    reference = Reference(subject.head.template, subject.head.affine, subject.voxels)
    with workers(n_workers) as pool:
        aligned = list(pool.map(scanned, repeat(lying), runs, responses, range(len(runs))))
        training, test = (
            [one for one, run in zip(aligned, runs, strict=True) if ("Training" in run.session) == is_training]
            for is_training in (True, False)
        )
        gathered = denoise_runs(training, test, reference, Noise(), pipeline or PipelineSettings(), pool, quiet, CUE_S)
    shown = {name: place for place, name in {**pictures.training, **pictures.test}.items()}
    ids, means = category_means(_at(pictures.decoder, pictures.candidates), list(pictures.candidates.values()))
    candidates = CandidateFeatures.with_names(ids, means, {})

    def features_of(trials: Sequence[Trial]) -> dict[str, Float32Array]:
        if all(trial.stimulus for trial in trials):
            places = [shown[trial.stimulus] for trial in trials if trial.stimulus]
            return {layer: values[places] for layer, values in pictures.decoder.items()}
        rows = candidates.positions([trial.category for trial in trials])
        return {layer: values[rows] for layer, values in candidates.features.items()}

    labels = subject.head.regions[tuple(subject.voxels.T)]
    regions = {"VC": np.arange(len(labels), dtype=np.int32)} | {
        name: np.flatnonzero(labels == i).astype(np.int32) for i, name in enumerate(REGIONS, 1)
    }
    return Study(folds_of(gathered, features_of, "runs"), regions, candidates)


def measure(settings: SubjectSettings, pictures: Pictures, n_workers: int | None = None) -> dict[str, float]:
    """Return the subject's effective rank, and the shares of blocks and averages with the truth in the first five."""
    subject = Subject.of(settings, pictures)
    ranks = subject.effective_ranks(list(pictures.training.values()))
    figures = {
        "sim_effective_rank": float(np.median(ranks)),
        "sim_effective_rank_least": min(ranks),
        "sim_effective_rank_most": max(ranks),
    }
    pipeline = PipelineSettings()
    study = study_of(subject, pictures, pipeline, n_workers)
    fold, candidates = study.folds[0].complete_only(), study.candidates
    fitted = fit_fold(fold, pipeline.noise, DecoderSettings(name="ridge"))
    index = index_of(candidates, fitted, pipeline.ranking)
    for kind, samples in fold.tests.items():
        decoded = decode_kind(samples, fitted, index, candidates)
        stem = "sim_top5_of_50" if kind == "seen" else f"sim_top5_of_50_{kind}"
        figures[stem] = _in_first_five(ranks_of(decoded.blocks))
        if decoded.averages is not None:
            figures[f"{stem}_averaged"] = _in_first_five(ranks_of(decoded.averages))
    return figures


def _in_first_five(ranks: Int32Array) -> float:
    return float((ranks <= 5).mean())


if __name__ == "__main__":
    sys.exit(main())
