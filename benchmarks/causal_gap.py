"""Share of the offline accuracy that is left if every sample uses only past volumes.

Real data (Haxby et al. 2001, one slice, eight categories, one run left out at a time): block means of runs that were
centred and scaled as a whole are compared with the samples of the online pipeline, with the same classifier. The
settings of the pipeline are chosen within the training runs of each fold; the figure with the defaults is printed
beside it. Simulated subject: the identification accuracy of test categories is compared in the same way, with the
default settings.

    python -m benchmarks.causal_gap [--data FOLDER] [--subject FOLDER] [--json PATH]
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import RidgeClassifier

from benchmarks.figures import shared_data, write_json
from calibration.datasets.bids import find_region, find_runs
from calibration.datasets.dataset_files import DatasetFiles
from calibration.datasets.mask_choice import mask_for
from calibration.datasets.runs import find_plain_runs
from calibration.decoders.settings import DecoderSettings
from calibration.evaluation.ablation import variant_of
from calibration.evaluation.accuracy import accuracies_of
from calibration.evaluation.evaluate import score_blocks
from calibration.features.network import Network
from calibration.parallel.progress import quiet
from calibration.parallel.workers import workers
from calibration.samples.assemble import folds_of
from calibration.samples.noise_fitting import learn_shape
from calibration.samples.preparation import align_runs, denoise_runs
from calibration.samples.runs import AlignedRun, align_run, clean_run, make_reference
from calibration.samples.study import Fold, Samples
from calibration.samples.targets import FeaturesOf, TargetFiles
from calibration.simulation.dataset import simulate
from calibration.simulation.settings import SubjectSettings
from rtgod.messages import Array, Float32Array, Float64Array, Run
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.preprocessor import Noise, is_settled
from rtgod.preprocessing.windows import Window
from rtgod.settings import MotionSettings, NoiseSettings, PipelineSettings

SHIFT_S = 5.0
ALPHA = 1000.0
#: Values that the settings are chosen from, within the training runs.
GRID = {"drift_sd": (0.1, 0.2, 0.4), "response_sd": (0.5, 1.0), "n_components": (20, 50, 100)}
#: Ways to make samples that are compared on the real data, with the words that are printed.
WAYS = {
    "offline": "whole run centred and scaled",
    "offline_whitened": "the same, whitened as below",
    "causal": "causal, settings chosen in training runs",
    "causal_default": "causal, default settings",
    "causal_unwhitened": "causal, not whitened",
    "causal_demeaned": "causal, patterns demeaned",
}
_WEIGHTS = "random:0"


@dataclass(frozen=True)
class Labelled:
    """Samples of one run, (n_blocks, n_voxels), their categories, and the run's noise, (n_volumes, n_voxels)."""

    samples: Array
    categories: tuple[str, ...]
    noise: Float32Array


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.causal_gap", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=shared_data() / "haxby2001", help="default: %(default)s")
    parser.add_argument("--subject", type=Path, help="a simulated subject; by default one is made, in a minute or two")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if not (options.data / "sub001" / "BOLD").is_dir():
        print(f"{options.data}: no sub001/BOLD in it; give the folder of haxby2001 with --data", file=sys.stderr)
        return 2
    figures = real_gap(read_runs(options.data))
    if options.subject:
        figures |= simulated_gap(options.subject)
    else:
        with tempfile.TemporaryDirectory() as folder:
            subject = Path(folder) / "subject"
            simulate(subject, SubjectSettings(n_test_runs=2, n_imagery_runs=0, weights=_WEIGHTS), 2)
            figures |= simulated_gap(subject)
    _print(figures)
    if options.json:
        write_json(options.json, figures)
    return 0


# ---------------------------------------------------------------------------------------------------- real data


def read_runs(folder: Path) -> list[AlignedRun]:
    """Read the slice's runs, with the head's voxels; nothing is aligned, as a single slice cannot be."""
    files = find_plain_runs([folder / "sub001" / "BOLD"], pattern="1slice").runs
    first = files[0].open().run
    everywhere = np.argwhere(np.ones(first.shape, bool)).astype(np.int32)
    reference = Reference(np.ones(first.shape, np.float32), first.affine, everywhere)
    settings = PipelineSettings(motion=MotionSettings(estimate=False))
    runs = [align_run(recorded, reference, Noise(), settings) for recorded in files]
    mean = np.mean([np.mean([v.decoder_values for v in run.volumes], axis=0, dtype=np.float64) for run in runs], axis=0)
    head = mean > 0.3 * mean.max()
    return [
        replace(run, volumes=tuple(replace(v, decoder_values=v.decoder_values[head]) for v in run.volumes))
        for run in runs
    ]


def real_gap(runs: Sequence[AlignedRun]) -> dict[str, float]:
    """Measure the accuracy of every way in `WAYS`."""
    by_settings = {
        (drift, response): [causal_samples(run, settings_for(drift, response)) for run in runs]
        for drift, response in product(GRID["drift_sd"], GRID["response_sd"])
    }
    offline = [offline_samples(run) for run in runs]
    default = [causal_samples(run, settings_for()) for run in runs]
    demeaned = [causal_samples(run, settings_for(demean=True)) for run in runs]
    noise, right, chosen = PipelineSettings().noise, Counter(), Counter()
    for left_out in range(len(runs)):
        best, fold = choose(by_settings, left_out)
        chosen[best] += 1
        right["causal"] += n_right(fold, left_out)
        right["offline"] += n_right(offline, left_out)
        right["offline_whitened"] += n_right(whitened(offline, left_out, noise), left_out)
        right["causal_default"] += n_right(whitened(default, left_out, noise), left_out)
        right["causal_unwhitened"] += n_right(default, left_out)
        right["causal_demeaned"] += n_right(whitened(demeaned, left_out, noise), left_out)
    n_blocks = sum(len(run.categories) for run in offline)
    figures: dict[str, float] = {"n_blocks": n_blocks}
    for way in WAYS:
        low, high = wilson(right[way], n_blocks)
        figures |= {f"{way}_accuracy": right[way] / n_blocks, f"{way}_low": low, f"{way}_high": high}
    print("settings chosen (drift_sd, response.sd, noise components):", dict(chosen))
    return figures


def choose(
    by_settings: Mapping[tuple[float, float], Sequence[Labelled]], left_out: int
) -> tuple[tuple[float, float, int], list[Labelled]]:
    """Choose the settings that are best within the training runs; return them with all runs' samples."""
    by_choice = {
        (*settings, n): whitened(runs, left_out, NoiseSettings(n_components=n))
        for (settings, runs), n in product(by_settings.items(), GRID["n_components"])
    }
    return max(by_choice.items(), key=lambda item: inner_accuracy(item[1], left_out))


def settings_for(
    drift_sd: float | None = None, response_sd: float | None = None, demean: bool = False
) -> PipelineSettings:
    """Return the defaults, changed for data whose first volumes were dropped and whose blocks are read 5 s late."""
    changes: dict[str, dict[str, Any]] = {
        "nuisance": {"discard_s": 0.0},
        "window": {"hrf_shift_s": SHIFT_S},
        "noise": {"n_components": 0},
        "scaling": {"demean": demean},
    }
    if drift_sd is not None:
        changes["nuisance"]["drift_sd"] = drift_sd
    if response_sd is not None:
        changes["response"] = {"sd": response_sd}
    return variant_of(PipelineSettings(), changes)


def causal_samples(run: AlignedRun, settings: PipelineSettings) -> Labelled:
    """Make the pipeline's samples of a run, not whitened yet."""
    cleaned = clean_run(run, reference_of(run), settings, Noise())
    blocks = cleaned.sampled_blocks()
    samples = np.stack([cleaned.windows[block][-1].values for block in blocks])
    return Labelled(samples, tuple(cleaned.trials[block].category for block in blocks), cleaned.noise)


def reference_of(run: AlignedRun) -> Reference:
    """Make a reference with a run's voxels at made-up places, which do not matter here."""
    n_voxels = len(run.volumes[0].decoder_values)
    voxels = np.column_stack([np.arange(n_voxels), np.zeros((n_voxels, 2))]).astype(np.int32)
    return Reference(np.zeros((1, 1, 1), np.float32), np.eye(4), voxels)


def offline_samples(run: AlignedRun) -> Labelled:
    """Make samples of a run centred and scaled as a whole: means over its blocks."""
    courses = np.array([volume.decoder_values for volume in run.volumes], np.float64)
    courses = (courses - courses.mean(axis=0)) / np.where(courses.std(axis=0) > 0, courses.std(axis=0), 1)
    means, block_of, noise = block_means(courses, run.run), positions(run.run, len(courses)), courses.copy()
    for block, mean in enumerate(means):
        noise[block_of == block] -= mean
    return Labelled(means, tuple(trial.category for trial in run.trials), noise.astype(np.float32))


def block_means(courses: Float64Array, run: Run, settings: PipelineSettings | None = None) -> Float64Array:
    """Average over each block's volumes, shape (n_blocks, n_voxels)."""
    block_of = positions(run, len(courses), settings)
    return np.array([courses[block_of == block].mean(axis=0) for block in range(len(run.blocks))])


def positions(run: Run, n_volumes: int, settings: PipelineSettings | None = None) -> Array:
    """Return the number of the block that each volume belongs to, −1 between blocks."""
    window = Window(run, (settings or settings_for()).window)
    return np.array([-1 if (block := window.position(i)[0]) is None else block for i in range(n_volumes)])


def whitened(runs: Sequence[Labelled], left_out: int, settings: NoiseSettings) -> list[Labelled]:
    """Whiten all runs' samples by the noise of all runs but the one left out."""
    shape = learn_shape([run.noise for k, run in enumerate(runs) if k != left_out], settings)
    return [replace(run, samples=np.array([shape.whiten(sample) for sample in run.samples])) for run in runs]


def n_right(runs: Sequence[Labelled], left_out: int) -> int:
    """Count the blocks of the left-out run whose category a classifier trained on the other runs names."""
    training = [run for k, run in enumerate(runs) if k != left_out]
    X = np.concatenate([run.samples for run in training])
    y = np.concatenate([run.categories for run in training])
    mean, sd = X.mean(axis=0), X.std(axis=0)
    sd[sd == 0] = 1
    classifier = RidgeClassifier(ALPHA).fit((X - mean) / sd, y)
    predicted = classifier.predict((runs[left_out].samples - mean) / sd)
    return int((predicted == np.array(runs[left_out].categories)).sum())


def inner_accuracy(runs: Sequence[Labelled], left_out: int) -> float:
    """Return the share of right blocks when each of the other runs, the training runs, is left out in turn."""
    training = [run for k, run in enumerate(runs) if k != left_out]
    right = sum(n_right(training, k) for k in range(len(training)))
    return right / sum(len(run.categories) for run in training)


def wilson(n_right: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    z, p = 1.959964, n_right / n
    middle, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


# ------------------------------------------------------------------------------------------- the simulated subject


def simulated_gap(subject: Path) -> dict[str, float]:
    """Measure the identification accuracy of seen test categories, offline and causally."""
    settings = PipelineSettings()
    old, new = (find_runs(subject, "01", name) for name in ("Training", "perceptionTest"))
    inputs = DatasetFiles(
        subject="01",
        training=tuple(old),
        test=tuple(new),
        regions={"VC": find_region(subject, "01", "VC", mask_for(old))},
        images=subject / "stimuli",
        candidates=subject / "stimuli" / "candidates",
    )
    files = TargetFiles(inputs, Network(weights=_WEIGHTS))
    with workers(2) as pool:
        reference = make_reference(old[0], inputs.regions["VC"].voxels(old[0].open().run), settings)
        aligned = align_runs([*old, *new], reference, Noise(), settings, pool, quiet)
        gathered = denoise_runs(aligned, inputs, reference, Noise(), settings, pool, quiet)
    targets = files.targets((*gathered.training, *gathered.test), quiet)
    (causal,) = folds_of(gathered, targets.features_of, "runs")
    training, test = (
        hindsight_samples(runs, targets.features_of, settings) for runs in (aligned[: len(old)], aligned[len(old) :])
    )
    offline = Fold(training, {}, {"seen": test}, {})
    accuracies = {
        name: accuracies_of(score_blocks(fold.complete_only(), targets.candidates, settings, DecoderSettings())["seen"])
        for name, fold in (("causal", causal), ("offline", offline))
    }
    return {
        "simulated_n_blocks": len(accuracies["causal"]),
        "simulated_offline": float(accuracies["offline"].mean()),
        "simulated_causal": float(accuracies["causal"].mean()),
    }


def hindsight_samples(runs: Sequence[AlignedRun], features_of: FeaturesOf, settings: PipelineSettings) -> Samples:
    """Make samples of runs centred and scaled as a whole: means over trials; one-back repeats are left out."""
    X, names, trials = [], [], []
    for run in runs:
        courses = np.full((1 + max(volume.index for volume in run.volumes), len(run.volumes[0].decoder_values)), np.nan)
        for volume in run.volumes:
            if is_settled(volume.index, run.run, settings.nuisance.discard_s):
                courses[volume.index] = volume.decoder_values
        sd = np.nanstd(courses, axis=0)
        courses = np.nan_to_num((courses - np.nanmean(courses, axis=0)) / np.where(sd > 0, sd, 1))
        wanted = [block for block, trial in enumerate(run.trials) if not trial.repeat]
        X.append(block_means(courses, run.run, settings)[wanted].astype(np.float32))
        names += [run.run.run_id] * len(wanted)
        trials += [run.trials[block] for block in wanted]
    return Samples(np.concatenate(X), tuple(names), tuple(trial.category for trial in trials), features_of(trials))


def _print(figures: dict[str, float]) -> None:
    print(f"real data, {figures['n_blocks']} blocks of eight categories, chance 0.125:")
    for name, label in WAYS.items():
        low, high = figures[f"{name}_low"], figures[f"{name}_high"]
        print(f"  {label:<42} {figures[f'{name}_accuracy']:.3f}  (95 % interval {low:.3f} to {high:.3f})")
    print(f"simulated subject, {figures['simulated_n_blocks']} blocks of test categories, chance 0.5:")
    print(f"  {'whole run centred and scaled':<42} {figures['simulated_offline']:.3f}")
    print(f"  {'causal, default settings':<42} {figures['simulated_causal']:.3f}")


if __name__ == "__main__":
    sys.exit(main())
