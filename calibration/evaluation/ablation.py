"""Ablation of preprocessing: identification accuracy on new runs, with each step changed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from calibration.datasets.dataset_files import DatasetFiles
from calibration.decoders.settings import DecoderSettings
from calibration.evaluation.accuracy import accuracies_of, are_new, units_of
from calibration.evaluation.evaluate import score_blocks
from calibration.evaluation.predictions import CandidateScores
from calibration.features.network import Network
from calibration.metrics.statistics import difference_interval
from calibration.parallel.progress import Report, quiet
from calibration.samples.assemble import folds_of
from calibration.samples.preparation import align_runs, cue_lead_of, denoise_runs, noise_to_read, parted
from calibration.samples.runs import AlignedRun, CleanedRun, make_reference
from calibration.samples.study import KINDS, CandidateFeatures
from calibration.samples.targets import TargetFiles
from rtgod.errors import InputError
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import PipelineSettings

#: Run, position in the run, and category of a trial.
TrialKey = tuple[str, int, str]

#: Changed settings of each step, by part, under the step's name for people.
STEPS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "as set": {},
    "motion not corrected": {"motion": {"correct": False}},
    "linear interpolation": {"sampling": {"interpolation": "linear"}},
    "nothing censored": {"censoring": {"fd_mm": 1e6, "dvars_ratio": 1e6}},
    "nothing clipped": {"censoring": {"clip_sd": 0.0}},
    "no drift regressors": {"nuisance": {"drift_sd": 0.0}},
    "drift hardly held": {"nuisance": {"drift_sd": 10.0}},
    "6 motion regressors": {"nuisance": {"motion_parameters": 6}},
    "12 motion regressors": {"nuisance": {"motion_parameters": 12}},
    "24 motion regressors": {"nuisance": {"motion_parameters": 24}},
    "5 noise components": {"nuisance": {"n_components": 5}},
    "global signal": {"nuisance": {"global_signal": True}},
    "mean of volumes": {"window": {"estimate": "mean"}},
    "z-score": {"scaling": {"unit": "zscore"}},
    "baseline frozen": {"scaling": {"baseline": "frozen"}},
    "patterns demeaned": {"scaling": {"demean": True}},
    "smoothed by 5 mm": {"scaling": {"smoothing_fwhm_mm": 5.0}},
    "not whitened": {"noise": {"n_components": 0}},
}


@dataclass(frozen=True, slots=True)
class AblationStep:
    """Accuracies on new runs, with one step changed.

    Attributes
    ----------
    name : str
        The step's name for people.
    accuracies : mapping of str to mapping
        For each kind of trials, "seen" or "imagined", the identification accuracy of each trial.
    new : frozenset of str
        Kinds of trials of whose categories the decoder was trained on none.
    """

    name: str
    accuracies: Mapping[str, Mapping[TrialKey, float]]
    new: frozenset[str] = frozenset()


def ablate_preprocessing(
    inputs: DatasetFiles,
    settings: PipelineSettings,
    network: Network,
    pool: Executor,
    report: Report,
) -> list[AblationStep]:
    """Train and test once with the settings as given, and once with each step of `STEPS` changed.

    Parameters
    ----------
    inputs : DatasetFiles
    settings : PipelineSettings
    network : Network
    pool : Executor
    report : callable
        Called with (stage, steps done, steps in all).

    Returns
    -------
    list of AblationStep
        The first has the settings as given; steps that would not change them are left out.

    Raises
    ------
    InputError
        If an input is missing or does not fit the others.
    """
    files = TargetFiles(inputs, network)
    if files.are_plain:
        raise InputError("preprocessing is taken apart by decoding images; give --images and --candidates")
    first_run = inputs.training[0]
    voxels = inputs.region.voxels(first_run.open(settings.events).run) if inputs.region else None
    steps: list[AblationStep] = []
    targets, known = None, set[tuple[str, int]]()
    reference, lead_s = make_reference(first_run, voxels, settings), cue_lead_of(inputs)
    # Most steps come after alignment, which takes the longest, so alignments are kept.
    cache: dict[str, tuple[Noise, list[AlignedRun]]] = {}
    variants = {name: variant_of(settings, changes) for name, changes in STEPS.items()}
    variants = {name: v for name, v in variants.items() if name == "as set" or v != settings}

    # Progress of each step's own stages would only flicker, so it is not shown.
    for done, (name, changed) in enumerate(variants.items(), 1):
        key = f"{changed.motion!r} {changed.sampling!r} {bool(changed.nuisance.n_components)}"
        if key not in cache:
            noise = noise_to_read(first_run, inputs.noise_mask, reference, changed)
            cache[key] = noise, align_runs([*inputs.training, *inputs.test], reference, noise, changed, pool, quiet)
        noise, aligned = cache[key]
        gathered = denoise_runs(*parted(aligned, inputs), reference, noise, changed, pool, quiet, lead_s)
        # The images are the same for each step, unless an earlier one censored the only trial of an image.
        runs = (*gathered.training, *gathered.test)
        trials = {(run.run.run_id, block) for run in runs for block in run.sampled_blocks()}
        if targets is None or not trials <= known:
            targets, known = files.targets(runs, report), trials
        (fold,) = folds_of(gathered, targets.features_of, "runs")
        scores = score_blocks(fold.complete_only(), targets.candidates, changed, DecoderSettings(name="ridge"))
        accuracies = _by_trial(scores, gathered.test, targets.candidates)
        of_kinds = {kind: {category for _, _, category in trials} for kind, trials in accuracies.items()}
        new = {kind for kind, tested in of_kinds.items() if are_new(tested, fold.training.categories)}
        steps.append(AblationStep(name, accuracies, frozenset(new)))
        report("steps of preprocessing", done, len(variants))
    return steps


def _by_trial(
    scores: Mapping[str, CandidateScores], test: Sequence[CleanedRun], candidates: CandidateFeatures
) -> dict[str, dict[TrialKey, float]]:
    """Return accuracies by the trials that they are of, in the order of samples."""
    accuracies = {}
    for name, ranked in scores.items():
        trials = [
            (run.run.run_id, block, run.trials[block].category)
            for run in test
            for block in run.sampled_blocks(KINDS[name])
            if run.trials[block].category in candidates.ids
        ]
        accuracies[name] = dict(zip(trials, accuracies_of(ranked).tolist(), strict=True))
    return {name: by_trial for name, by_trial in accuracies.items() if by_trial}


def paired_difference(
    a: Mapping[TrialKey, float], b: Mapping[TrialKey, float], *, new: bool = False
) -> tuple[float, float, float]:
    """Return the mean difference of accuracy, `a` minus `b`, with its 95 % interval; see `difference_interval`.

    The interval is over categories, whose trials may err alike; over trials if categories are few and not `new`.

    Parameters
    ----------
    a, b : mapping of TrialKey to float
        Accuracies by trial; those that both have are paired.
    new : bool
        Option of `calibration.evaluation.accuracy.units_of`.

    Returns
    -------
    mean, low, high : float
        nan for fewer than two pairs.
    """
    pairs = [trial for trial in a if trial in b]
    if len(pairs) < 2:
        return float("nan"), float("nan"), float("nan")
    _, units = units_of([category for _, _, category in pairs], new=new)
    return difference_interval([a[trial] - b[trial] for trial in pairs], units)


def variant_of(settings: PipelineSettings, changes: Mapping[str, Mapping[str, Any]]) -> PipelineSettings:
    """Return the settings with some values of their parts replaced, validated anew.

    Parameters
    ----------
    settings : PipelineSettings
    changes : mapping of str to mapping
        For each part of the settings, such as "motion", its new values by their names.

    Raises
    ------
    ValueError
        If a value is not allowed.
    """
    values = settings.model_dump()
    for part, new_values in changes.items():
        values[part] |= new_values
    return PipelineSettings.model_validate(values)
