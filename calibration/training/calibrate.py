"""Calibrate from end to end: recorded runs and images in, a decoder bundle and its cross-validated accuracy out."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from calibration.datasets.dataset_files import DatasetFiles
from calibration.decoders.columns import profile_correlation
from calibration.decoders.settings import DecoderSettings
from calibration.features.images import first_few
from calibration.features.network import Network
from calibration.metrics.identification import accuracy_test, all_accuracies, identification_accuracy, rank_of
from calibration.metrics.permutation import ExchangeTest
from calibration.parallel.progress import Report
from calibration.samples.assemble import samples_of
from calibration.samples.left_out import LeftOutCounts, by_reason, tally
from calibration.samples.plain import check_repeated
from calibration.samples.preparation import gather_runs
from calibration.samples.runs import CleanedRun
from calibration.samples.study import CATEGORIES, Samples
from calibration.samples.targets import TargetFiles, Targets
from calibration.samples.whitening import TrainingSamples, Whitening
from calibration.training.chosen_fit import Labelled, check_decoder, choose_and_train
from calibration.training.decoder_choice import Alternative, DecoderChoice, in_words
from calibration.training.fit import Trained
from calibration.training.folds import parts_of_one_run
from calibration.training.held_out_rankings import Learned, LeftOut, learn_matching, predict_left_out
from calibration.training.near_pictures import LearnedPictures, learn_pictures
from calibration.training.penalty_choice import PenaltyChoice, choose_left_out, warnings_at
from calibration.training.repeats import notes_on_repeats
from rtgod.bundle import DecoderBundle, sha256_of
from rtgod.candidates import Candidate
from rtgod.decoding.category_index import CategoryIndex, check_matching
from rtgod.errors import InputError
from rtgod.fit import training_of
from rtgod.messages import Features
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import PipelineSettings

#: Packages whose versions a bundle records; the second group only if a network saw images.
_PACKAGES, _OF_NETWORKS = ("numpy", "numba", "scikit-learn"), ("torch", "torchvision")
#: Names for people of the stages of a run's preparation.
_STAGES = {
    "read": "reading the files",
    "convert": "alignment",
    "align": "alignment",
    "sample": "alignment",
    "denoise": "denoising",
    "window": "denoising",
    "whiten": "denoising",
}


@dataclass(frozen=True, slots=True)
class LayerReport:
    """Leave-one-run-out accuracy of one layer.

    Attributes
    ----------
    penalty : float or None
        Penalty of the layer; None if each voxel has its own.
    feature_accuracy : float
        Correlation of decoded and true units over samples, averaged over units.
    identification_accuracy : float or None
        Accuracy from this layer alone; None if no shown category is among the candidates.
    """

    penalty: float | None
    feature_accuracy: float
    identification_accuracy: float | None


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """Results of a calibration, for printing.

    Attributes
    ----------
    layers : mapping of str to LayerReport
    identification_accuracy : float or None
        Accuracy from all layers together.
    first : float or None
        Share of samples whose category is ranked first, by all layers together.
    n_samples, n_voxels, n_runs, n_candidates : int
    n_parts : int
        Number of runs, or of parts of one run, that were left out in turn.
    trials : tuple of LeftOutCounts
        Numbers of trials used and left out in each run.
    notes : tuple of str
        Notes on things that could not be learned, on penalties that are the last that was tried, on images, and on
        categories shown in one run only.
    penalty_choice : str
        What was left out to choose penalties, and why; empty if none were chosen.
    known : str
        What the decoders of left-out runs knew of these runs.
    decoder : str
        Name of the decoder, and its settings in words.
    decoder_choice : str
        How the decoder was chosen; empty if it was given.
    alternatives : tuple of Alternative
        Decoders that it was chosen from, or that were left out.
    test : ExchangeTest or None
        Test of the identification accuracy against its values under exchanged labels; None without a test.
    seconds : mapping of str to float
        Seconds of work by stage, summed over all processes.
    """

    layers: Mapping[str, LayerReport]
    identification_accuracy: float | None
    first: float | None
    n_samples: int
    n_voxels: int
    n_runs: int
    n_candidates: int
    n_parts: int
    trials: tuple[LeftOutCounts, ...]
    notes: tuple[str, ...]
    penalty_choice: str
    known: str
    decoder: str = "ridge"
    decoder_choice: str = ""
    alternatives: tuple[Alternative, ...] = ()
    test: ExchangeTest | None = None
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)


def calibrate(
    inputs: DatasetFiles,
    settings: PipelineSettings,
    network: Network | None,
    decoder: DecoderSettings,
    pool: Executor,
    report: Report,
) -> tuple[DecoderBundle, CalibrationReport]:
    """Train a decoder on recorded runs.

    Parameters
    ----------
    inputs : DatasetFiles
    settings : PipelineSettings
    network : Network or None
        Network whose features are decoded; None if the inputs have no images: then categories are decoded.
    decoder : DecoderSettings
        Must leave out runs, so that accuracy can be reported.
    pool : Executor
        Executor from `workers`; the result does not depend on it.
    report : callable
        Called with (stage, steps done, steps in all).

    Returns
    -------
    bundle : DecoderBundle
    report : CalibrationReport

    Raises
    ------
    InputError
        If an input is missing or does not fit the others.
    """
    if decoder.name != "ridge" and not decoder.n_folds:
        raise InputError("n_folds = 0 leaves no run out, and accuracy is reported of runs that are; choose 2 or more")
    files = TargetFiles(inputs, network)
    check_matching(settings.ranking, files.are_plain)
    check_decoder(decoder, plain=files.are_plain)
    first_run = inputs.training[0]
    voxels = inputs.region.voxels(first_run.open(settings.events).run) if inputs.region else None
    gathered = gather_runs(inputs, voxels, settings, pool, report)
    settings = gathered.settings
    runs = gathered.training
    if files.are_plain:
        categories = [run.trials[block].category for run in runs for block in run.sampled_blocks()]
        check_repeated(categories, by_reason(_trials_of(runs)))
    began = time.perf_counter()
    targets = files.targets(runs, report)
    unwhitened = samples_of(runs, targets.features_of)
    if unwhitened is None:
        raise InputError("no trial of the runs has a sample; give other runs")
    have_features = time.perf_counter()
    whitening = Whitening.of({run.run.run_id: run.noise for run in runs}, settings.noise)
    training = TrainingSamples(unwhitened, whitening)
    samples = unwhitened.whitened(whitening.shape)
    with ThreadPoolExecutor(1) as beside:
        checksums = beside.submit(_checksums, inputs)
        in_parts = files.are_plain and len(runs) == 1
        groups = parts_of_one_run(samples.categories) if in_parts else samples.runs
        candidates = targets.candidates
        choice = choose_left_out(samples.categories, groups, candidates, one_run=in_parts)
        labelled = Labelled(samples.X, samples.Y, samples.categories, groups, choice)
        trained, chosen = choose_and_train(
            labelled, decoder, report, pool, without=lambda left_out: training.whitened_complete(left_out).X
        )
        report("confidence", 0, 1)
        left_out = predict_left_out(unwhitened, trained, chosen.decoder, candidates, whitening)
        learned = learn_matching(left_out, trained, candidates, settings.ranking)
        report("confidence", 1, 1)
        pictures = _learn_pictures(files, left_out, trained, learned, settings, runs, report)
        summary = _summarise(trained, samples, groups, targets, runs, learned, choice, chosen, settings)
    seconds = _work_s(runs) | {"features": have_features - began, "fits": time.perf_counter() - have_features}
    of_pictures = pictures.notes if pictures else ()
    summary = replace(summary, seconds=seconds, notes=(*summary.notes, *of_pictures, *gathered.notes))
    bundle = DecoderBundle(
        reference=gathered.reference,
        patterns=trained.patterns,
        voxel_mean=trained.voxel_mean,
        voxel_sd=trained.voxel_sd,
        layers=trained.layers,
        candidates=tuple(map(Candidate, candidates.ids, candidates.names)),
        candidate_features=candidates.features,
        noise=Noise(whitening.shape, gathered.noise.courses),
        settings=settings,
        provenance=_provenance(inputs, network, decoder, chosen, summary) | checksums.result(),
        layer_weights=learned.layer_weights.weights if learned.layer_weights else None,
        chances=learned.confidence.chances,
        imagined_chances=learned.imagined.chances if learned.imagined else None,
        response=learned.presence.weights if learned.presence else None,
        plain_categories=candidates.are_plain,
        standardisation=learned.standardisation.standardisation if learned.standardisation else None,
        pictures=pictures.pictures if pictures else None,
        training=training_of((run.run for run in runs), inputs.subject),
    )
    return bundle, summary


def _learn_pictures(
    files: TargetFiles,
    left_out: LeftOut,
    trained: Trained,
    learned: Learned,
    settings: PipelineSettings,
    runs: Sequence[CleanedRun],
    report: Report,
) -> LearnedPictures | None:
    """Learn how the user's pictures are matched; None without any."""
    if files.pictures is None:
        return None
    weights = dict.fromkeys(settings.ranking.layers or tuple(trained.layers), 1.0)
    if settings.ranking.combine == "weighted" and learned.layer_weights is not None:
        of_layers = learned.layer_weights.weights
        weights = {name: of_layers[name] for name in weights if of_layers.get(name)} or weights
    why_unknown = ""
    if any(len(run.trials[block].images) > 1 for run in runs for block in run.sampled_blocks()):
        why_unknown = "it is learned from trials that show one image each, and some show several"
    elif learned.confidence.chances is None:
        why_unknown = "how sure a ranking of categories may be is unknown, too"
    of_pictures = learn_pictures(
        files.pictures.names, files.picture_features(report), left_out, trained, weights, why_unknown
    )
    left = tuple(f"pictures: {note}" for note in files.pictures.notes)
    return replace(of_pictures, notes=(*left, *of_pictures.notes))


def _trials_of(runs: Sequence[CleanedRun]) -> tuple[LeftOutCounts, ...]:
    """Count the trials of each run that are trained on, and those that are left out, by reason."""
    return tuple(
        tally(run.run.run_id, "trials", [run.why_left_out(block) for block in range(len(run.trials))]) for run in runs
    )


def _work_s(runs: Sequence[CleanedRun]) -> dict[str, float]:
    """Sum the seconds of each stage over all runs, in the order of the stages."""
    seconds = dict.fromkeys(_STAGES.values(), 0.0)
    for run in runs:
        for stage, took_ms in run.stage_ms.items():
            seconds[_STAGES[stage]] += took_ms / 1000
    return seconds


def _summarise(
    trained: Trained,
    samples: Samples,
    groups: Sequence[Hashable],
    targets: Targets,
    runs: Sequence[CleanedRun],
    learned: Learned,
    choice: PenaltyChoice,
    chosen: DecoderChoice,
    settings: PipelineSettings,
) -> CalibrationReport:
    layers, candidates = trained.layers, targets.candidates
    is_plain = CATEGORIES in layers
    match = settings.ranking.match
    category_index = CategoryIndex(candidates.features, layers, plain=is_plain, match=match, search="exact")
    position = {category: i for i, category in enumerate(candidates.ids)}
    notes = [*warnings_at(trained.edges), *learned.notes, *targets.notes]
    notes += notes_on_repeats(learned.confidence.chances, settings.window)
    alone = _shown_in_one(samples.categories, groups) if is_plain else {}
    if alone:
        notes.append(
            f"shown in one run only, so no other run tells of them: {first_few(list(alone))}; their "
            f"{sum(alone.values())} samples are left out of the accuracy, and are decoded by their run if by anything"
        )
    judged = [i for i, name in enumerate(samples.categories) if name in position and name not in alone]
    shown = list(dict.fromkeys(position[samples.categories[i]] for i in judged))
    layer_accuracies: dict[str, list[float]] = {layer: [] for layer in layers}
    accuracies = np.empty((len(judged), len(shown)))
    is_first: list[bool] = []
    for row, i in enumerate(judged):
        true = position[samples.categories[i]]
        predicted = Features(i, {layer: values[i].astype(np.float32) for layer, values in trained.held_out.items()})
        scores = category_index.scores(predicted)
        accuracies[row] = all_accuracies(scores[np.newaxis])[0, shown]
        is_first.append(rank_of(scores, true) == 1)
        for layer, correlations in zip(layers, category_index.correlations(predicted), strict=True):
            layer_accuracies[layer].append(identification_accuracy(correlations, true))
    column = [shown.index(position[samples.categories[i]]) for i in judged]
    test = accuracy_test(accuracies, column, [groups[i] for i in judged], folded=True) if len(shown) > 1 else None
    return CalibrationReport(
        layers={
            layer: LayerReport(
                penalty=trained.penalties[layer],
                feature_accuracy=float(profile_correlation(trained.held_out[layer], samples.Y[layer]).mean()),
                identification_accuracy=float(np.mean(layer_accuracies[layer])) if layer_accuracies[layer] else None,
            )
            for layer in layers
        },
        identification_accuracy=float(accuracies[np.arange(len(judged)), column].mean()) if judged else None,
        first=float(np.mean(is_first)) if is_first else None,
        n_samples=len(samples),
        n_voxels=samples.X.shape[1],
        n_runs=len(runs),
        n_candidates=len(candidates.ids),
        n_parts=len(set(groups)),
        trials=_trials_of(runs),
        notes=tuple(notes),
        penalty_choice=choice.sentence() if chosen.decoder.name == "ridge" else "",
        known="; ".join(
            part
            for part in (_known(len(runs), bool(settings.nuisance.n_components)), _known_of(chosen, plain=is_plain))
            if part
        ),
        decoder=", ".join(part for part in (chosen.decoder.name, in_words(chosen.decoder)) if part),
        decoder_choice=chosen.how,
        alternatives=chosen.alternatives,
        test=test,
    )


def _known(n_runs: int, has_components: bool) -> str:
    """Describe what decoders knew of the runs that they were tested on."""
    if n_runs < 2:
        return "whitening and the mean response are learned from the noise of the whole run, left-out blocks included"
    components = "noise components, " if has_components else ""
    return (
        "accuracy, and the chances of trained categories, are of decoders that were whitened and scaled without the "
        f"run that was left out; {components}penalties, weights of layers, the mean response and the chances of new "
        "categories are learned with the noise and scale of all runs"
    )


def _known_of(chosen: DecoderChoice, *, plain: bool) -> str:
    """Describe what the choice of the decoder knew of what is left out; empty if none was made."""
    if not chosen.how:
        return ""
    if plain:
        return (
            "accuracy is of decoders that were chosen and tuned anew without what is left out; chances are of the one "
            "that was chosen by all"
        )
    return "the decoder was chosen by all runs, so that its accuracy may be too high by as much as the choice gains"


def _shown_in_one(categories: Sequence[str], groups: Sequence[Hashable]) -> dict[str, int]:
    """Return categories that only one left-out group contains, with their numbers of samples."""
    places: dict[str, set[Hashable]] = {}
    for category, group in zip(categories, groups, strict=True):
        places.setdefault(category, set()).add(group)
    return {name: categories.count(name) for name, members in places.items() if len(members) == 1}


def _provenance(
    inputs: DatasetFiles,
    network: Network | None,
    decoder: DecoderSettings,
    chosen: DecoderChoice,
    summary: CalibrationReport,
) -> dict[str, Any]:
    return {
        "made_by": f"rtgod {version('rtgod')}",
        "made_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in (*_PACKAGES, *(_OF_NETWORKS if network else ()))},
        "subject": inputs.subject,
        "region": inputs.region.expression if inputs.region else "head",
        "decoder": chosen.decoder.model_dump(mode="json"),
        "decoder_asked_for": decoder.name,
        "network": network and network.model_dump(mode="json"),
        # Times are no property of the result.
        "cross_validation": {name: value for name, value in asdict(summary).items() if name != "seconds"},
    }


def _checksums(inputs: DatasetFiles) -> dict[str, Any]:
    """Compute the checksums of the files that the bundle is made from, for its provenance."""
    return {
        "runs": {
            run.name: {"sha256": _sha256_of_run(run.bold), "events_sha256": sha256_of(run.events)}
            for run in inputs.training
        },
        "masks": {path.name: sha256_of(path) for path in inputs.region.files} if inputs.region else {},
        "noise_mask": {inputs.noise_mask.name: sha256_of(inputs.noise_mask)} if inputs.noise_mask else None,
    }


def _sha256_of_run(path: Path) -> str:
    """Return the checksum of a file, or of the checksums of a folder's files in the order of their names."""
    if not path.is_dir():
        return sha256_of(path)
    parts = [sha256_of(file) for file in sorted(path.iterdir()) if file.is_file()]
    return hashlib.sha256("".join(parts).encode()).hexdigest()
