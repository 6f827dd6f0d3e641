"""Calibration from end to end: recorded runs and images in, a decoder bundle and its cross-validated accuracy out."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from calibration.bids import RunFiles, find_candidates, find_images, read_mask, read_names
from calibration.features import FeatureExtractor, Network, category_means
from calibration.identification import identification_accuracy
from calibration.ridge import PENALTIES_PER_VOXEL, DualRidge, LeaveOneRunOut, fit_layers, profile_correlation
from calibration.samples import RunSamples, make_reference, run_samples
from calibration.workers import workers
from rtgod.bundle import Candidate, DecoderBundle, sha256_of
from rtgod.decoding import LayerDecoder, Matcher
from rtgod.errors import InputError
from rtgod.messages import Features, Float32Array, Float64Array
from rtgod.pipeline import Reference
from rtgod.settings import PipelineSettings
from rtgod.sources import open_source

Report = Callable[[str, int, int], object]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a calibration is made from.

    Attributes
    ----------
    subject : str
    runs : tuple of RunFiles
    mask : Path
        Voxels to decode from, in the space of the first run.
    images : Path
        Folder with the shown images.
    candidates : Path
        Folder with a folder of images for each candidate category.
    names : Path or None
        Table of category names.
    """

    subject: str
    runs: tuple[RunFiles, ...]
    mask: Path
    images: Path
    candidates: Path
    names: Path | None


@dataclass(frozen=True, slots=True)
class LayerReport:
    """Leave-one-run-out accuracy of one layer.

    Attributes
    ----------
    penalty : float
    feature_accuracy : float
        Correlation of decoded and true units over samples, averaged over units.
    identification_accuracy : float or None
        From this layer alone; None where no shown category is among the candidates.
    """

    penalty: float
    feature_accuracy: float
    identification_accuracy: float | None


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What calibration prints.

    Attributes
    ----------
    layers : mapping of str to LayerReport
    identification_accuracy : float or None
        All layers together.
    n_samples, n_voxels, n_runs, n_candidates, n_skipped : int
    """

    layers: Mapping[str, LayerReport]
    identification_accuracy: float | None
    n_samples: int
    n_voxels: int
    n_runs: int
    n_candidates: int
    n_skipped: int


def calibrate(
    inputs: Inputs, settings: PipelineSettings, network: Network, n_workers: int, report: Report
) -> tuple[DecoderBundle, CalibrationReport]:
    """Train a decoder.

    Parameters
    ----------
    inputs : Inputs
    settings : PipelineSettings
    network : Network
    n_workers : int
        Processes that work through runs; the result does not depend on it.
    report : callable
        Told (stage, steps done, steps in all).

    Returns
    -------
    bundle : DecoderBundle
    report : CalibrationReport

    Raises
    ------
    InputError
        If anything that is needed is missing or does not fit.
    """
    images = find_images(inputs.images)
    candidate_images = find_candidates(inputs.candidates)
    names = read_names(inputs.names)
    first = inputs.runs[0].bold
    voxels = read_mask(inputs.mask, open_source(first).run)
    with workers(n_workers) as pool:
        averaging = pool.submit(make_reference, first, voxels, settings)
        # Meanwhile; weights that cannot be loaded should be known before the runs are worked through.
        extractor = FeatureExtractor(network)
        reference = averaging.result()
        samples = _all_samples(inputs.runs, reference, settings, pool, report)
    shown = _shown_images(samples, images)
    features, candidate_ids, candidate_features = _features(extractor, shown, candidate_images, report)
    X = np.concatenate([run.values for run in samples])
    runs = [run.run.run_id for run in samples for _ in run.trials]
    stimuli = [trial.stimulus for run in samples for trial in run.trials]
    position = {name: i for i, name in enumerate(shown)}
    rows = [position[stimulus] for stimulus in stimuli if stimulus]
    Y = {layer: values[rows] for layer, values in features.items()}
    report("fitting", 0, len(Y))
    penalties, held_out = _cross_validate(X, Y, runs, report)
    models = fit_layers(X.astype(np.float64), Y, penalties)
    layers = {layer: _layer_decoder(model) for layer, model in models.items()}
    categories = [trial.category for run in samples for trial in run.trials]
    summary = _summarise(layers, penalties, held_out, Y, candidate_features, candidate_ids, categories, samples)
    some = next(iter(models.values()))
    bundle = DecoderBundle(
        reference=reference,
        patterns=some.X_fit_.astype(np.float32),
        voxel_mean=some.x_mean_.astype(np.float32),
        voxel_sd=some.x_scale_.astype(np.float32),
        layers=layers,
        candidates=tuple(Candidate(c, names.get(c, c)) for c in candidate_ids),
        candidate_features=candidate_features,
        settings=settings,
        provenance=_provenance(inputs, network, summary),
    )
    return bundle, summary


def _all_samples(
    runs: Sequence[RunFiles], reference: Reference, settings: PipelineSettings, pool: Executor, report: Report
) -> list[RunSamples]:
    report("runs through the pipeline", 0, len(runs))
    jobs = [pool.submit(run_samples, run.bold, run.events, reference, settings) for run in runs]
    found = []
    for done, job in enumerate(jobs, 1):
        found.append(job.result())
        report("runs through the pipeline", done, len(runs))
    return found


def _shown_images(samples: Sequence[RunSamples], images: Mapping[str, Path]) -> dict[str, Path]:
    """The file of every image that was shown, each once."""
    shown: dict[str, Path] = {}
    for run in samples:
        for trial in run.trials:
            if trial.stimulus is None:
                raise InputError(
                    f"run {run.run.run_id}: trials name no image; calibrate on runs in which images were shown"
                )
            if trial.stimulus not in images:
                raise InputError(
                    f"run {run.run.run_id} shows {trial.stimulus}, of which there is no image file; "
                    "give the folder of the shown images with --images"
                )
            shown[trial.stimulus] = images[trial.stimulus]
    return shown


def _features(
    extractor: FeatureExtractor, shown: Mapping[str, Path], candidates: Sequence[tuple[str, Path]], report: Report
) -> tuple[dict[str, Float32Array], list[str], dict[str, Float32Array]]:
    """Features of the shown images; the candidates' identifiers and their mean features."""
    files = [*shown.values(), *(path for _, path in candidates)]
    done = 0

    def progress(n: int) -> None:
        nonlocal done
        done += n
        report("network features", done, len(files))

    everything = extractor.extract(files, progress)
    features = {layer: values[: len(shown)] for layer, values in everything.items()}
    rest = {layer: values[len(shown) :] for layer, values in everything.items()}
    ids, means = category_means(rest, [category for category, _ in candidates])
    return features, ids, means


def _cross_validate(
    X: Float32Array, Y: Mapping[str, Float32Array], runs: Sequence[str], report: Report
) -> tuple[dict[str, float], dict[str, Float64Array]]:
    """The best penalty of each layer, and each sample's prediction from the runs that it is not part of."""
    folds = LeaveOneRunOut(X.astype(np.float64), runs)
    grid = [penalty * X.shape[1] for penalty in PENALTIES_PER_VOXEL]
    penalties, held_out = {}, {}
    for done, (layer, values) in enumerate(Y.items(), 1):
        penalties[layer], _ = folds.choose(values, grid)
        held_out[layer] = folds.predict(values, penalties[layer])
        report("fitting", done, len(Y))
    return penalties, held_out


def _layer_decoder(model: DualRidge) -> LayerDecoder:
    return LayerDecoder(
        dual=np.ascontiguousarray(model.dual_coef_.T, np.float32),
        unit_mean=model.y_mean_.astype(np.float32),
        unit_sd=model.y_scale_.astype(np.float32),
    )


def _summarise(
    layers: Mapping[str, LayerDecoder],
    penalties: Mapping[str, float],
    held_out: Mapping[str, Float64Array],
    Y: Mapping[str, Float32Array],
    candidate_features: Mapping[str, Float32Array],
    candidate_ids: Sequence[str],
    categories: Sequence[str],
    samples: Sequence[RunSamples],
) -> CalibrationReport:
    matcher = Matcher(candidate_features, layers)
    position = {category: i for i, category in enumerate(candidate_ids)}
    each: dict[str, list[float]] = {layer: [] for layer in layers}
    together: list[float] = []
    for i, category in enumerate(categories):
        if category not in position:
            continue
        predicted = Features(i, {layer: values[i].astype(np.float32) for layer, values in held_out.items()})
        order, scores = matcher.rank(predicted)
        unordered = np.empty_like(scores)
        unordered[order] = scores
        together.append(identification_accuracy(unordered, position[category]))
        for layer, correlations in zip(layers, matcher.correlations(predicted), strict=True):
            each[layer].append(identification_accuracy(correlations, position[category]))
    return CalibrationReport(
        layers={
            layer: LayerReport(
                penalty=penalties[layer],
                feature_accuracy=float(profile_correlation(held_out[layer], Y[layer]).mean()),
                identification_accuracy=float(np.mean(each[layer])) if each[layer] else None,
            )
            for layer in layers
        },
        identification_accuracy=float(np.mean(together)) if together else None,
        n_samples=len(categories),
        n_voxels=samples[0].values.shape[1],
        n_runs=len(samples),
        n_candidates=len(candidate_ids),
        n_skipped=sum(run.n_skipped for run in samples),
    )


def _provenance(inputs: Inputs, network: Network, summary: CalibrationReport) -> dict[str, Any]:
    return {
        "made_by": f"rtgod {version('rtgod')}",
        "made_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("numpy", "numba", "scikit-learn", "torch", "torchvision")},
        "subject": inputs.subject,
        "runs": {
            run.bold.name: {"sha256": sha256_of(run.bold), "events_sha256": sha256_of(run.events)}
            for run in inputs.runs
        },
        "mask": {inputs.mask.name: sha256_of(inputs.mask)},
        "network": asdict(network),
        "cross_validation": asdict(summary),
    }
