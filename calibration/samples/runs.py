"""Turn recorded runs into training samples through the pipeline that the server runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np

from calibration.datasets.masks import Region, in_head
from calibration.datasets.runs import RunFiles
from calibration.samples.left_out import AFTER_END, ONE_BACK
from rtgod.errors import InputError
from rtgod.events.table import Trial, cut_to_length
from rtgod.events.trials import TrialsRead
from rtgod.messages import Float32Array, Int32Array, NotReady, Pattern, Reason, Run, Volume
from rtgod.preprocessing.alignment import (
    NO_VOXELS,
    Aligned,
    Aligner,
    IdentityRegistration,
    Reference,
    check_reference,
    registration_to,
)
from rtgod.preprocessing.censoring import Censor
from rtgod.preprocessing.preprocessor import MIXED, Noise, NoiseResiduals, VolumeCleaner, is_settled
from rtgod.preprocessing.registration import Registration
from rtgod.preprocessing.sampling import Sampler
from rtgod.preprocessing.stopwatch import Stopwatch
from rtgod.preprocessing.windows import RepeatAverager, Sample
from rtgod.settings import PipelineSettings
from rtgod.sources import Source

#: Why a trial has no sample although its volumes are usable.
_UNSEEN = "its response is not to be seen, or cannot be told from that to another trial"
#: Largest number of trials whose responses are never told apart, for each that has a sample, in a run that is used.
_MOST_MIXED = 9
#: Number of volumes that are averaged into the template.
_TEMPLATE_VOLUMES = 10


class MixedResponsesError(InputError):
    """Responses to most trials of a run cannot be told from those to others while they are ranked."""


@dataclass(frozen=True, slots=True, eq=False)
class AlignedRun:
    """Run in the template's space, with its trials.

    Attributes
    ----------
    path, events : Path
    run : Run
    trials : tuple of Trial
        Trials of the run's blocks, then those that begin after the run's end.
    volumes : tuple of Aligned
        The volumes that could be aligned.
    stage_ms : mapping of str to float
        Milliseconds of work that each stage took: "read", "align" and so on.
    read : TrialsRead or None
        The other contents of the events table.
    unusable : mapping of str to int
        Number of volumes that could not be aligned, for each reason.
    """

    path: Path
    events: Path
    run: Run
    trials: tuple[Trial, ...]
    volumes: tuple[Aligned, ...]
    stage_ms: Mapping[str, float]
    read: TrialsRead | None = None
    unusable: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class CleanedRun:
    """Run after the pipeline's front half, with the samples of its trials.

    Attributes
    ----------
    path : Path
    run : Run
    trials : tuple of Trial
        Trials of the run's blocks, then those that begin after the run's end.
    windows : mapping of int to tuple of Sample
        Samples by position of the trial: one after each of its volumes. Trials without a clean volume are absent.
    patterns : tuple of Pattern
        Patterns of all volumes that have one, if they were asked for.
    noise : ndarray of shape (n_clean, n_voxels), float32
        Clean volumes' patterns minus the responses to trials, each response as estimated after its last volume. Unlike
        online, hindsight is allowed: a part of a response that could not be foretold is not noise.
    answers : tuple of frozenset of int
        The trials that each row of `noise` responds to.
    stage_ms : mapping of str to float
        Milliseconds of work that each stage took, aligning included.
    read : TrialsRead or None
        Contents of the events table, as in `AlignedRun`.
    volumes : tuple of str
        Reason why each volume is left out; empty if it is used.
    without_sample : mapping of int to str
        Reasons why trials have no sample, by their position.
    responses : mapping of int to ndarray of shape (n_voxels,), float32
        Responses to trials by their position, each as estimated after its last volume, if patterns were asked for.
    """

    path: Path
    run: Run
    trials: tuple[Trial, ...]
    windows: Mapping[int, tuple[Sample, ...]]
    patterns: tuple[Pattern, ...]
    noise: Float32Array
    answers: tuple[frozenset[int], ...]
    stage_ms: Mapping[str, float]
    read: TrialsRead | None = None
    volumes: tuple[str, ...] = ()
    without_sample: Mapping[int, str] = field(default_factory=dict)
    responses: Mapping[int, Float32Array] = field(default_factory=dict)

    def sampled_blocks(self, kind: str | None = None) -> list[int]:
        """List the positions of trials that have a sample and are no one-back repeats.

        A second look at an image is another state of mind.

        Parameters
        ----------
        kind : {"stimulus", "imagery"}, optional
            Trial type; by default all.
        """
        return [
            block
            for block, trial in enumerate(self.trials)
            if block in self.windows and not trial.repeat and kind in (None, trial.kind)
        ]

    def why_left_out(self, block: int) -> str:
        """Return why a trial gives no sample to learn from; empty if it does.

        Parameters
        ----------
        block : int
            Position of the trial.
        """
        return ONE_BACK if self.trials[block].repeat else self.without_sample.get(block, "")


def align_run(files: RunFiles, reference: Reference, noise: Noise, settings: PipelineSettings) -> AlignedRun:
    """Bring a recorded run into the template's space, volume by volume.

    Parameters
    ----------
    files : RunFiles
    reference : Reference
    noise : Noise
        Names voxels that are read beside those of the reference.
    settings : PipelineSettings

    Raises
    ------
    InputError
        If the run or its events cannot be used.
    """
    source = files.open(settings.events)
    trials = files.trials(settings.events, source.run.tr_s)
    run, _ = cut_to_length(source.run)  # as a server gets it; trials without volumes are counted later
    aligner = Aligner(reference, run, settings.motion, settings.sampling, noise.voxels)
    stopwatch, volumes, aligned_volumes, unusable = Stopwatch(), iter(source), [], Counter[str]()
    while True:
        with stopwatch("read"):
            volume = next(volumes, None)
        if volume is None:
            break
        aligned = aligner.align(volume, stopwatch)
        if isinstance(aligned, Aligned):
            aligned_volumes.append(aligned)
        else:
            unusable[_in_words(aligned, settings)] += 1
    return AlignedRun(
        files.bold, files.events, run, trials, tuple(aligned_volumes), stopwatch.stage_ms, source.read, unusable
    )


def _in_words(answer: NotReady, settings: PipelineSettings) -> str:
    """Explain why volumes could not be aligned, in words that hold for all with this reason, and how to mend it."""
    if answer.reason == Reason.BAD_VOLUME and "not finite" in answer.detail:
        return (
            "have voxels that are not finite (NaN or infinite) in the head or among those that are decoded from; fill "
            "them with 0, or decode from other voxels"
        )
    if answer.reason == Reason.BAD_VOLUME:
        return f"are no volumes of a head ({answer.detail})"
    least = f"they explain less than {settings.motion.least_explained:g} of it"
    return (
        f"do not fit the template ({least}): another head, a phase image, a mirrored header, or less than half of the "
        "head in view?"
    )


def _check_usable(aligned: AlignedRun, n_censored: int = 0) -> None:
    """Raise `InputError` if at least half of a run's volumes cannot be used, so that its trials have none."""
    n_volumes = len(aligned.volumes) + sum(aligned.unusable.values())
    reasons = dict(sorted(aligned.unusable.items(), key=lambda reason: -reason[1]))
    if n_censored:
        reasons["are censored: too much motion, or a jump of the signal (censoring in the settings)"] = n_censored
    if 2 * sum(reasons.values()) < n_volumes or not reasons:
        return
    listed = "; ".join(f"{n} of {n_volumes} volumes {why}" for why, n in reasons.items())
    raise InputError(f"{aligned.path}: no trial has a usable volume: {listed}")


def clean_run(
    aligned: AlignedRun,
    reference: Reference,
    settings: PipelineSettings,
    noise: Noise,
    with_patterns: bool = False,
) -> CleanedRun:
    """Take an aligned run through the rest of the pipeline's front half.

    Parameters
    ----------
    aligned : AlignedRun
    reference : Reference
        Names the decoder's voxels; those of `noise` were read after them.
    settings : PipelineSettings
        Each trial is estimated alone, even if the settings average repeats or slide a window when a decoder is used.
    noise : Noise
    with_patterns : bool
        Whether the patterns of single volumes are kept, of which courses are made.

    Raises
    ------
    InputError
        If no trial has a usable volume.
    MixedResponsesError
        If hardly any trial has a response that can be told from others.
    """
    cleaner = VolumeCleaner(reference, aligned.run, _trial_by_trial(settings), noise, RepeatAverager())
    windows: dict[int, list[Sample]] = {}
    patterns: list[Pattern] = []
    stopwatch = Stopwatch()
    clean: list[tuple[Float32Array, dict[int, float]]] = []
    responses: dict[int, Float32Array] = {}
    n_censored, mixed = 0, set[int | None]()
    left_out: dict[int, str] = {}
    for volume, later in zip_longest(aligned.volumes, aligned.volumes[1:]):
        pattern, sample, problem, waits_for = cleaner.clean(volume, stopwatch)
        n_censored += bool(problem)
        if waits_for.startswith(MIXED):
            mixed.add(cleaner.trial_at(volume.index))
        left_out[volume.index] = _why_left_out(volume.index, aligned.run, settings, problem, has_pattern=bool(pattern))
        if sample is not None and sample.block is not None:
            windows.setdefault(sample.block, []).append(sample)
        answered = cleaner.denoiser.answered(volume.index)
        # Responses are taken at their last estimate: after the last volume that responds to the trial.
        for trial in answered.keys() - (cleaner.denoiser.answered(later.index) if later else {}):
            if (response := cleaner.denoiser.response(trial)) is not None:
                responses[trial] = response
        if pattern is not None:
            if with_patterns:
                patterns.append(pattern)
            if not problem:
                clean.append((pattern.values, answered))
    if len(mixed - windows.keys()) > _MOST_MIXED * len(windows):
        raise _never_apart(aligned, settings, len(mixed - windows.keys()))
    if not any(block in windows for block, trial in enumerate(aligned.trials) if not trial.repeat):
        _check_usable(aligned, n_censored)
        raise InputError(
            f"{aligned.path}: no trial of {aligned.events.name} has a usable volume; do the events belong to this run?"
        )
    return CleanedRun(
        path=aligned.path,
        run=aligned.run,
        trials=aligned.trials,
        windows={block: tuple(grown) for block, grown in windows.items()},
        patterns=tuple(patterns),
        noise=np.stack([cleaner.unwhitened(_without(values, shares, responses)) for values, shares in clean]),
        answers=tuple(frozenset(shares) for _, shares in clean),
        stage_ms={**aligned.stage_ms, **stopwatch.stage_ms},
        read=aligned.read,
        volumes=(volumes := _of_every_volume(aligned.run, left_out)),
        without_sample=_without_sample(aligned, cleaner, windows, volumes),
        responses=responses if with_patterns else {},
    )


def _never_apart(aligned: AlignedRun, settings: PipelineSettings, n_trials: int) -> MixedResponsesError:
    most = f"{100 * settings.response.most_crosstalk:g}%"
    return MixedResponsesError(
        f"{aligned.path}: while they are ranked, responses to {n_trials} of {len(aligned.trials)} trials of "
        f"{aligned.events.name} cannot be told from those to others; leave more time between trials, rank them later "
        f"(window.hrf_shift_s), or allow more than {most} of another response in a trial's "
        "(response.most_crosstalk)"
    )


def _why_left_out(index: int, run: Run, settings: PipelineSettings, problem: str, *, has_pattern: bool) -> str:
    if not is_settled(index, run, settings.nuisance.discard_s):
        return "discarded at the start"
    if problem:
        return "censored"
    return "" if has_pattern else "before there is a baseline"


def _of_every_volume(run: Run, left_out: Mapping[int, str]) -> tuple[str, ...]:
    n_volumes = run.n_volumes if run.n_volumes is not None else max(left_out, default=-1) + 1
    return tuple(left_out.get(index, "not aligned") for index in range(n_volumes))


def _without_sample(
    aligned: AlignedRun, cleaner: VolumeCleaner, windows: Mapping[int, object], volumes: Sequence[str]
) -> dict[int, str]:
    """Explain why trials have no sample: they begin after the run's end, or all of their volumes are left out."""
    reasons: dict[int, Counter[str]] = {}
    for index, why in enumerate(volumes):
        if (block := cleaner.trial_at(index)) is not None and block not in windows:
            reasons.setdefault(block, Counter())[why or _UNSEEN] += 1
    n_blocks = len(aligned.run.blocks)
    explanations = {}
    for block in range(len(aligned.trials)):
        if block >= n_blocks:
            explanations[block] = AFTER_END
        elif block not in windows:
            common = reasons[block].most_common(1)[0][0] if block in reasons else "its response ends after the run"
            explanations[block] = common if common == _UNSEEN else f"no usable volume: {common}"
    return explanations


def _without(
    values: Float32Array, answered: Mapping[int, float], responses: Mapping[int, Float32Array]
) -> Float32Array:
    """Subtract the responses to the trials that a pattern responds to, each by its share."""
    for trial, share in answered.items():
        if trial in responses:
            values = values - np.float32(share) * responses[trial]
    return values


def noise_residuals(aligned: AlignedRun, noise: Noise, settings: PipelineSettings) -> Float32Array:
    """Return the unpredicted part of noise voxels in an aligned run's clean volumes: (n_volumes, n_noise_voxels).

    Parameters
    ----------
    aligned : AlignedRun
        Run in which the voxels of `noise` were read.
    noise : Noise
        Names the noise voxels.
    settings : PipelineSettings

    Raises
    ------
    InputError
        If no clean volume is left.
    """
    reader, censor = NoiseResiduals(len(noise.voxels), aligned.run, settings), Censor(settings.censoring)
    residuals = []
    for volume in (v for v in aligned.volumes if is_settled(v.index, aligned.run, settings.nuisance.discard_s)):
        problem = censor.problem_with(volume.decoder_values, volume.motion)
        residual = reader.residual(volume, bool(problem))
        if residual is not None and not problem:
            residuals.append(residual)
    if not residuals:
        _check_usable(aligned)
        raise InputError(f"{aligned.path}: no volume is left to read noise components from; leave the run out")
    return np.stack(residuals)


def _trial_by_trial(settings: PipelineSettings) -> PipelineSettings:
    """Return the settings for single trials, on which decoders are trained even if averages or windows are decoded."""
    changes = {
        "repeats": {"mode": "block"},
        # A sliding window knows no trials, and takes the mean of its volumes.
        "sliding": {"mode": "block", "estimate": "mean"},
    }.get(settings.window.mode, {})
    return settings.model_copy(update={"window": settings.window.model_copy(update=changes)})


def make_reference(files: RunFiles, voxels: Int32Array | None, settings: PipelineSettings) -> Reference:
    """Average a run's first settled volumes, aligned to the first of them, into the template.

    Parameters
    ----------
    files : RunFiles
    voxels : ndarray of shape (n_voxels, 3), int32, or None
        The decoder's voxels; None takes those of the head.
    settings : PipelineSettings

    Raises
    ------
    InputError
        If the run is too short or has no contrast, or the voxels lie outside the head.
    """
    run, volumes, registration = _first_volumes(files, settings, _TEMPLATE_VOLUMES)
    everywhere = np.argwhere(np.ones(run.shape, bool)).astype(np.int32)
    sampler = Sampler(everywhere, run.shape, settings.sampling)
    total, count = np.zeros(len(everywhere)), np.zeros(len(everywhere))
    for volume in volumes:
        alignment = registration.align(volume)
        if not alignment.problem:
            values, _ = sampler.sample(volume, np.linalg.inv(run.affine) @ alignment.pose @ run.affine)
            inside = np.isfinite(values)
            total[inside] += values[inside]
            count += inside
    template = np.divide(total, count, out=np.zeros_like(total), where=count > 0).reshape(run.shape)
    template = template.astype(np.float32)
    if voxels is None:
        voxels = np.argwhere(in_head(template)).astype(np.int32)
    reference = Reference(template, run.affine, voxels)
    check_reference(reference, settings.motion)
    return reference


def check_first(files: RunFiles, region: Region | None, settings: PipelineSettings) -> None:
    """Refuse a run whose first settled volume cannot stand for the template; that volume is read.

    Parameters
    ----------
    files : RunFiles
    region : Region or None
        The decoder's voxels; None takes those of the head.
    settings : PipelineSettings

    Raises
    ------
    InputError
        If the run is too short or has no contrast, or the voxels lie outside the head.
    """
    run, volumes, _ = _first_volumes(files, settings, 1)
    voxels = NO_VOXELS if region is None else region.voxels(run)
    check_reference(Reference(volumes[0], run.affine, voxels), settings.motion)


def settled(source: Source, settings: PipelineSettings, n_volumes: int) -> Iterator[Volume]:
    """The first volumes after those that are discarded.

    Parameters
    ----------
    source : Source
    settings : PipelineSettings
    n_volumes : int
        Maximum number of volumes.
    """
    n_discarded = int(np.ceil(settings.nuisance.discard_s / source.run.tr_s))
    return islice(iter(source), n_discarded, n_discarded + n_volumes)


def _first_volumes(
    files: RunFiles, settings: PipelineSettings, n_volumes: int
) -> tuple[Run, list[Float32Array], Registration | IdentityRegistration]:
    """Read a run's first settled volumes, and prepare the registration to the first of them.

    Raises
    ------
    InputError
        If there is no such volume, or it has no contrast.
    """
    source = files.open(settings.events)
    run = source.run
    volumes = _filled([volume.data.astype(np.float32) for volume in settled(source, settings, n_volumes)], files.bold)
    if not volumes:
        raise InputError(
            f"{files.bold}: no volume after the first {settings.nuisance.discard_s:g} s, which are discarded"
        )
    try:
        return run, volumes, registration_to(volumes[0], run.affine, run, settings.motion)
    except InputError as error:
        raise InputError(f"{files.bold}: {error}") from error


def _filled(volumes: Sequence[Float32Array], path: Path) -> list[Float32Array]:
    """Fill voxels that are NaN in all of the template's volumes with 0: a mask made them so.

    Volumes with other voxels that are not finite are damaged and left out.

    Raises
    ------
    InputError
        If all volumes are damaged, or all voxels are NaN.
    """
    if not volumes:
        return []
    background = np.logical_and.reduce([np.isnan(volume) for volume in volumes])
    filled = [np.where(background, np.float32(0), volume) for volume in volumes]
    whole = [volume for volume in filled if np.isfinite(volume).all()]
    if not whole or background.all():
        raise InputError(
            f"{path}: all of the first {len(volumes)} volumes, of which the template is made, have voxels that are not "
            "finite (NaN); fill them with 0"
        )
    return whole
