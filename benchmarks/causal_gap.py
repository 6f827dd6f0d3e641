"""How much of the offline accuracy is left when every sample rests on the past alone.

On real data (Haxby et al. 2001, one slice, eight categories, one run left out at a time): block means of runs that were
centred and scaled as a whole, against the samples of the online pipeline, with the same classifier. The settings of
the pipeline are chosen within the training runs of each fold; the figure with the defaults is printed beside it. On
the simulated subject: identification accuracy of test categories, likewise.

    python -m benchmarks.causal_gap [--data FOLDER] [--subject FOLDER] [--json PATH]
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
from sklearn.linear_model import RidgeClassifier

from benchmarks.figures import shared_data, write_json
from calibration.ablation import variant_of
from calibration.bids import find_mask, find_runs, read_mask
from calibration.evaluation import rank_features, rank_trials
from calibration.features import FeatureExtractor, Network
from calibration.noise import learn_shape
from calibration.preparation import align_runs, denoise_runs
from calibration.samples import AlignedRun, RunSamples, make_reference, run_samples
from calibration.simulation.dataset import simulate
from calibration.simulation.settings import SubjectSettings
from calibration.stimuli import StimulusFiles
from calibration.training import train
from calibration.workers import workers
from rtgod.alignment import Aligned, Reference
from rtgod.decoding import Matcher
from rtgod.events import Trial, blocks
from rtgod.messages import Array, Float32Array, Float64Array, Motion, Run
from rtgod.preprocessing import Noise, is_settled
from rtgod.settings import NoiseSettings, PipelineSettings
from rtgod.sources import open_source
from rtgod.window import Window

SHIFT_S = 5.0
ALPHA = 1000.0
#: What the settings are chosen from, within the training runs.
GRID = {"drift_sd": (0.1, 0.2, 0.4), "response_sd": (0.5, 1.0), "n_components": (20, 50, 100)}
_STILL = Motion((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, None, 0, converged=True)
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
    """The slice's runs as if aligned: there is nothing to align a single slice to. Voxels are those of the head."""
    events = {}
    names = dict(
        line.split()[1:] for line in (folder / "models/model001/condition_key.txt").read_text().splitlines() if line
    )
    for path in sorted((folder / "sub001/model/model001/onsets").glob("*/cond*.txt")):
        onsets = [tuple(map(float, line.split()[:2])) for line in path.read_text().splitlines() if line.strip()]
        category = names[path.stem]
        events.setdefault(path.parent.name, []).extend(Trial(o, d, "stimulus", category) for o, d in onsets)
    images = {name: nib.load(folder / "sub001/BOLD" / name / "bold_1slice.nii.gz") for name in events}
    mean = np.mean([image.get_fdata().mean(axis=3) for image in images.values()], axis=0)
    head = mean > 0.3 * mean.max()
    runs = []
    for name, image in images.items():
        courses = image.get_fdata(dtype=np.float32)[head].T
        trials = tuple(sorted(events[name], key=lambda trial: trial.onset_s))
        run = Run(name, "001", 2.5, image.shape[:3], image.affine, len(courses), blocks(trials))
        volumes = tuple(Aligned(name, i, values, 0, _STILL, 1.0) for i, values in enumerate(courses))
        runs.append(AlignedRun(folder, folder, run, trials, volumes))
    return runs


def real_gap(runs: Sequence[AlignedRun]) -> dict[str, float]:
    """Accuracy offline, causally with settings chosen in training runs, and causally with the defaults."""
    offline = [offline_samples(run) for run in runs]
    by_settings = {
        (drift, response): [causal_samples(run, settings_for(drift, response)) for run in runs]
        for drift, response in product(GRID["drift_sd"], GRID["response_sd"])
    }
    defaults = PipelineSettings()
    default = [causal_samples(run, settings_for()) for run in runs]
    n_blocks = sum(len(run.categories) for run in offline)
    right, right_by_default, right_offline, chosen = 0, 0, 0, Counter()
    for left_out in range(len(runs)):
        right_offline += n_right(offline, left_out)
        right_by_default += n_right(whitened(default, left_out, defaults.noise), left_out)
        best, fold = max(
            (
                (inner_accuracy(found, left_out), -i, (drift, response, n), found)
                for i, ((drift, response), n) in enumerate(product(by_settings, GRID["n_components"]))
                for found in [whitened(by_settings[drift, response], left_out, NoiseSettings(n_components=n))]
            ),
            key=lambda one: one[:2],
        )[2:]
        chosen[best] += 1
        right += n_right(fold, left_out)
    figures: dict[str, float] = {"n_blocks": n_blocks}
    for name, n in (("offline", right_offline), ("causal", right), ("causal_default", right_by_default)):
        low, high = wilson(n, n_blocks)
        figures |= {f"{name}_accuracy": n / n_blocks, f"{name}_low": low, f"{name}_high": high}
    print("settings chosen (drift_sd, response.sd, noise components):", dict(chosen))
    return figures


def settings_for(drift_sd: float | None = None, response_sd: float | None = None) -> PipelineSettings:
    """The defaults, for data whose first volumes were dropped and whose blocks are read 5 s late."""
    changes = {"nuisance": {"discard_s": 0.0}, "window": {"hrf_shift_s": SHIFT_S}, "noise": {"n_components": 0}}
    if drift_sd is not None and response_sd is not None:
        changes["nuisance"]["drift_sd"] = drift_sd
        changes["response"] = {"sd": response_sd}
    return variant_of(PipelineSettings(), changes)


def causal_samples(run: AlignedRun, settings: PipelineSettings) -> Labelled:
    """The pipeline's samples, as yet not whitened."""
    n_voxels = len(run.volumes[0].values)
    voxels = np.column_stack([np.arange(n_voxels), np.zeros((n_voxels, 2))]).astype(np.int32)
    reference = Reference(np.zeros((1, 1, 1), np.float32), np.eye(4), voxels)
    found = run_samples(run, reference, settings, Noise())
    return Labelled(found.values, tuple(trial.category for trial in found.trials), found.noise)


def offline_samples(run: AlignedRun) -> Labelled:
    """Means over blocks of the run centred and scaled as a whole."""
    courses = np.array([volume.values for volume in run.volumes], np.float64)
    courses = (courses - courses.mean(axis=0)) / np.where(courses.std(axis=0) > 0, courses.std(axis=0), 1)
    return Labelled(block_means(courses, run.run), tuple(t.category for t in run.trials), np.empty((0, 0), np.float32))


def block_means(courses: Float64Array, run: Run, settings: PipelineSettings | None = None) -> Float64Array:
    """Mean over each block's volumes, (n_blocks, n_voxels)."""
    window = Window(run, (settings or settings_for()).window)
    positions = np.array([-1 if (p := window.position(i)[0]) is None else p for i in range(len(courses))])
    return np.array([courses[positions == block].mean(axis=0) for block in range(len(run.blocks))])


def whitened(runs: Sequence[Labelled], left_out: int, settings: NoiseSettings) -> list[Labelled]:
    """All runs' samples, whitened by the noise of all but one run."""
    shape = learn_shape([run.noise for k, run in enumerate(runs) if k != left_out], settings)
    return [replace(run, samples=np.array([shape.whiten(one) for one in run.samples])) for run in runs]


def n_right(runs: Sequence[Labelled], left_out: int) -> int:
    """Blocks of one run whose category a classifier of the others names."""
    training = [run for k, run in enumerate(runs) if k != left_out]
    X = np.concatenate([run.samples for run in training])
    y = np.concatenate([run.categories for run in training])
    mean, sd = X.mean(axis=0), X.std(axis=0)
    sd[sd == 0] = 1
    classifier = RidgeClassifier(ALPHA).fit((X - mean) / sd, y)
    predicted = classifier.predict((runs[left_out].samples - mean) / sd)
    return int((predicted == np.array(runs[left_out].categories)).sum())


def inner_accuracy(runs: Sequence[Labelled], left_out: int) -> float:
    """Share of the other runs' blocks that are right when each of these is left out in turn."""
    training = [run for k, run in enumerate(runs) if k != left_out]
    right = sum(n_right(training, k) for k in range(len(training)))
    return right / sum(len(run.categories) for run in training)


def wilson(n_right: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z, p = 1.959964, n_right / n
    middle, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


# ------------------------------------------------------------------------------------------- the simulated subject


def simulated_gap(subject: Path) -> dict[str, float]:
    """Identification accuracy of seen test categories, offline and causally."""
    settings = PipelineSettings()
    old, new = (find_runs(subject, "01", name) for name in ("Training", "perceptionTest"))
    voxels = read_mask(find_mask(subject, "01", "VC"), open_source(old[0].bold).run)
    with workers(2) as pool:
        reference = pool.submit(make_reference, old[0].bold, voxels, settings).result()
        aligned = align_runs([*old, *new], reference, Noise(), settings, pool, _silent)
        trained_on, tested_on = aligned[: len(old)], aligned[len(old) :]
        samples, noise = denoise_runs(trained_on, reference, Noise(), settings, pool, _silent)
        files = StimulusFiles(subject / "stimuli", subject / "stimuli" / "candidates")
        stimuli = files.features(samples, FeatureExtractor(Network(weights=_WEIGHTS)), _silent)
        trained = train(samples, stimuli.of(_trials_of(samples)), _silent)
        causal = rank_trials(tested_on, reference, settings, noise, trained, stimuli, pool, _silent)
    with_hindsight = [offline_run(run, settings) for run in aligned]
    hindsight_training = with_hindsight[: len(old)]
    trained = train(hindsight_training, stimuli.of(_trials_of(hindsight_training)), _silent)
    decoder, matcher = trained.decoder(), Matcher(stimuli.candidates, trained.layers)
    offline = []
    for run, found in zip(tested_on, with_hindsight[len(old) :], strict=True):
        features = {run.trials.index(t): decoder.decode(0, v) for t, v in zip(found.trials, found.values, strict=True)}
        offline += rank_features(run, features, matcher, stimuli.candidate_ids)
    return {
        "simulated_n_blocks": len(causal),
        "simulated_offline": float(np.mean([trial.accuracy for trial in offline])),
        "simulated_causal": float(np.mean([trial.accuracy for trial in causal])),
    }


def offline_run(run: AlignedRun, settings: PipelineSettings) -> RunSamples:
    """Means over trials of the run centred and scaled as a whole; one-back repeats are left out."""
    n_volumes = 1 + max(volume.index for volume in run.volumes)
    courses = np.full((n_volumes, len(run.volumes[0].values)), np.nan)
    for volume in run.volumes:
        if is_settled(volume.index, run.run, settings):
            courses[volume.index] = volume.values
    sd = np.nanstd(courses, axis=0)
    courses = np.nan_to_num((courses - np.nanmean(courses, axis=0)) / np.where(sd > 0, sd, 1))
    wanted = [block for block, trial in enumerate(run.trials) if not trial.repeat]
    values = block_means(courses, run.run, settings)[wanted].astype(np.float32)
    return RunSamples(run.run, tuple(run.trials[block] for block in wanted), values, np.empty((0, 0), np.float32), 0)


def _trials_of(samples: Sequence[RunSamples]) -> list[Trial]:
    return [trial for run in samples for trial in run.trials]


def _silent(_: str, __: int, ___: int) -> None:
    """Tell nobody."""


def _print(figures: dict[str, float]) -> None:
    print(f"real data, {figures['n_blocks']} blocks of eight categories, chance 0.125:")
    labels = {
        "offline": "whole run centred and scaled",
        "causal": "causal, settings chosen in training runs",
        "causal_default": "causal, default settings",
    }
    for name, label in labels.items():
        low, high = figures[f"{name}_low"], figures[f"{name}_high"]
        print(f"  {label:<42} {figures[f'{name}_accuracy']:.3f}  (95 % interval {low:.3f} to {high:.3f})")
    print(f"simulated subject, {figures['simulated_n_blocks']} blocks of test categories, chance 0.5:")
    print(f"  {'whole run centred and scaled':<42} {figures['simulated_offline']:.3f}")
    print(f"  {'causal, default settings':<42} {figures['simulated_causal']:.3f}")


if __name__ == "__main__":
    sys.exit(main())
