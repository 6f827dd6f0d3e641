"""Ablation of preprocessing: identification accuracy on new runs, with each step changed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from calibration.datasets.dataset_files import DatasetFiles
from calibration.decoders.settings import DecoderSettings
from calibration.evaluation.trial_ranks import RankedTrial, rank_trials
from calibration.features.extractor import FeatureExtractor
from calibration.features.network import Network
from calibration.features.stimuli import StimulusFiles
from calibration.parallel.progress import Report, quiet
from calibration.samples.preparation import align_runs, denoise_runs, noise_to_read
from calibration.samples.runs import AlignedRun, make_reference
from calibration.training.fit import stacked, train
from rtgod.errors import InputError
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import PipelineSettings

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
    """Ranked trials of new runs, with one step changed."""

    name: str
    ranked: Sequence[RankedTrial]


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
    if inputs.images is None or inputs.candidates is None:
        raise InputError("preprocessing is taken apart by decoding images; give --images and --candidates")
    stimulus_files = StimulusFiles(inputs.images, inputs.candidates)
    first = inputs.training[0]
    voxels = inputs.region.voxels(first.open(settings.events).run) if inputs.region else None
    extractor = FeatureExtractor(network) if stimulus_files.need_network else None
    steps, stimuli = [], None
    reference = make_reference(first, voxels, settings)
    # Most steps come after alignment, which takes the longest, so alignments are kept.
    cache: dict[str, tuple[Noise, list[AlignedRun], list[AlignedRun]]] = {}
    variants = {name: variant_of(settings, changes) for name, changes in STEPS.items()}
    variants = {name: v for name, v in variants.items() if name == "as set" or v != settings}

    # Progress of each step's own stages would only flicker, so it is not shown.
    for done, (name, changed) in enumerate(variants.items(), 1):
        key = f"{changed.motion!r} {changed.sampling!r} {bool(changed.nuisance.n_components)}"
        if key not in cache:
            noise = noise_to_read(first, inputs.noise_mask, reference, changed)
            runs = align_runs([*inputs.training, *inputs.test], reference, noise, changed, pool, quiet)
            cache[key] = noise, runs[: len(inputs.training)], runs[len(inputs.training) :]
        noise, old, new = cache[key]
        samples, noise = denoise_runs(old, reference, noise, changed, pool, quiet)
        # The shown images are the same for each step, unless an earlier one censored the only trial of an image.
        if stimuli is None or any(t.stimulus not in stimuli.rows for run in samples for t in run.trials):
            stimuli = stimulus_files.features(samples, extractor, report)
        Y = stimuli.of([trial for run in samples for trial in run.trials])
        trained = train(*stacked(samples), Y, DecoderSettings(), quiet)
        ranked = rank_trials(new, reference, changed, noise, trained, stimuli, pool, quiet)
        steps.append(AblationStep(name, ranked))
        report("steps of preprocessing", done, len(variants))
    return steps


def variant_of(settings: PipelineSettings, changes: Mapping[str, Mapping[str, Any]]) -> PipelineSettings:
    """Return the settings with some values of their parts replaced, validated anew."""
    values = settings.model_dump()
    for part, some in changes.items():
        values[part] |= some
    return PipelineSettings.model_validate(values)
