"""From volumes to samples: align, denoise, average, whiten. What a decoder is trained on, and what it meets.

Calibration runs recorded volumes through this, and the server live ones: the same code, from the same state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from rtgod.messages import Float32Array, Int32Array, NotReady, Pattern, Reason, Run, Volume
from rtgod.preprocessing.alignment import NO_VOXELS, Aligned, Aligner, Reference
from rtgod.preprocessing.censoring import Censor
from rtgod.preprocessing.denoising import Denoised, Denoiser
from rtgod.preprocessing.noise_model import NoiseComponents, NoiseCovariance
from rtgod.preprocessing.smoothing import Smoother
from rtgod.preprocessing.stopwatch import Stopwatch
from rtgod.preprocessing.windows import RepeatAverager, Sample, Window
from rtgod.settings import PipelineSettings, WindowSettings
from rtgod.state import Stateful


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """What calibration learned of the noise.

    Attributes
    ----------
    shape : NoiseCovariance or None
        Whitens patterns.
    courses : NoiseComponents or None
        Regressors from voxels without the signal of interest.
    """

    shape: NoiseCovariance | None = None
    courses: NoiseComponents | None = None

    @property
    def voxels(self) -> Int32Array:
        """Voxels that components are read from, shape (n_noise_voxels, 3)."""
        return NO_VOXELS if self.courses is None else self.courses.voxels


class Cleaned(NamedTuple):
    """What an aligned volume comes to.

    Attributes
    ----------
    pattern : Pattern or None
        None before there is a baseline.
    sample : Sample or None
        The window that the volume completes or refines.
    problem : str
        Why the volume is censored; empty if it is not.
    """

    pattern: Pattern | None
    sample: Sample | None
    problem: str


class Preprocessor(Stateful):
    """Volumes of one run to patterns and samples.

    Parameters
    ----------
    reference : Reference
    run : Run
    settings : PipelineSettings
    noise : Noise
    repeats : RepeatAverager
        The session's evidence so far; for runs in which trials are averaged over repeats.

    Raises
    ------
    InputError
        If the run does not fit the reference.
    """

    parts = ("_aligner", "_cleaner")

    def __init__(
        self, reference: Reference, run: Run, settings: PipelineSettings, noise: Noise, repeats: RepeatAverager
    ) -> None:
        self._aligner = Aligner(reference, run, settings.motion, settings.sampling, noise.voxels)
        self._cleaner = VolumeCleaner(reference, run, settings, noise, repeats)

    def step(self, volume: Volume, stopwatch: Stopwatch) -> tuple[Pattern | None, Sample | NotReady]:
        """Take the run's next volume; its index is larger than those before.

        Returns
        -------
        pattern : Pattern or None
            None before there is a baseline, and for a volume that cannot be used.
        outcome : Sample or NotReady
            The window that the volume completes or refines, or why there is none.
        """
        aligned = self._aligner.align(volume, stopwatch)
        if isinstance(aligned, NotReady):
            return None, aligned
        pattern, sample, problem = self._cleaner.clean(aligned, stopwatch)

        def not_ready(reason: Reason, detail: str = "") -> NotReady:
            return NotReady(volume.run_id, volume.index, reason, detail, aligned.motion)

        if sample is not None:
            return pattern, sample
        if problem:
            return pattern, not_ready(Reason.MOTION, problem)
        if pattern is None:
            return None, not_ready(Reason.WARMING_UP, "the baseline is being learned")
        if self._cleaner.in_trial(volume.index):
            return pattern, not_ready(Reason.WARMING_UP, "nothing of the response can be seen yet")
        return pattern, not_ready(Reason.BETWEEN_TRIALS)


class VolumeCleaner(Stateful):
    """Aligned volumes of one run to patterns and samples.

    Parameters
    ----------
    reference, run, settings, noise, repeats
        As in `Preprocessor`.

    Attributes
    ----------
    denoiser : Denoiser
        Of the decoder's voxels.
    """

    parts = ("denoiser", "_noise_reader", "_censor", "_estimator")

    def __init__(
        self, reference: Reference, run: Run, settings: PipelineSettings, noise: Noise, repeats: RepeatAverager
    ) -> None:
        self._run = run
        self._noise = noise
        self._discard_s = settings.nuisance.discard_s
        self._demeans = settings.scaling.demean
        self._no_components = np.zeros(settings.nuisance.n_components)
        self.denoiser = Denoiser(len(reference.voxels), run, settings, settings.nuisance.n_components)
        self._noise_reader = NoiseResiduals(len(noise.voxels), run, settings) if noise.courses else None
        self._censor = Censor(settings.censoring)
        self._estimator = SampleEstimator(run, settings.window, repeats)
        fwhm_mm = settings.scaling.smoothing_fwhm_mm
        self._smoother = Smoother(reference.voxels, reference.affine, fwhm_mm) if fwhm_mm else None

    def clean(self, aligned: Aligned, stopwatch: Stopwatch) -> Cleaned:
        """Take the run's next volume that could be aligned."""
        if not is_settled(aligned.index, self._run, self._discard_s):
            return Cleaned(None, None, "")
        problem = self._censor.problem_with(aligned.decoder_values, aligned.motion)
        with stopwatch("denoise"):
            denoised = self._denoise(aligned, bool(problem))
        if denoised is None:
            return Cleaned(None, None, problem)
        n_outside = int(np.isnan(aligned.decoder_values).sum())
        pattern = Pattern(aligned.run_id, aligned.index, denoised.values, n_outside, aligned.motion, bool(problem))
        with stopwatch("window"):
            sample = self._estimator.step(pattern, self.denoiser)
        if sample is None:
            return Cleaned(pattern, None, problem)
        with stopwatch("whiten"):
            whitened = self.whitened(sample.values)
        return Cleaned(pattern, replace(sample, values=whitened), problem)

    def in_trial(self, index: int) -> bool:
        """Whether a trial is to be ranked at volume `index`."""
        return self._estimator.in_trial(index)

    def trial_at(self, index: int) -> int | None:
        """The trial that is to be ranked at volume `index`, by its position; None between trials."""
        return self._estimator.trial_at(index)

    def unwhitened(self, values: Float32Array) -> Float32Array:
        """A pattern smoothed and demeaned, as far as the settings say so: what the noise's shape is learned from."""
        if self._smoother:
            values = self._smoother.smooth(values)
        return values - values.mean(dtype=np.float64).astype(np.float32) if self._demeans else values

    def whitened(self, values: Float32Array) -> Float32Array:
        """The same, then whitened."""
        values = self.unwhitened(values)
        return self._noise.shape.whiten(values) if self._noise.shape else values

    def _denoise(self, aligned: Aligned, censored: bool) -> Denoised | None:
        index, motion, gain, components = aligned.index, aligned.motion, aligned.gain, self._no_components
        if self._noise_reader and self._noise.courses:
            residual = self._noise_reader.residual(aligned, censored)
            components = components if residual is None else self._noise.courses.at(residual)
        return self.denoiser.step(index, aligned.decoder_values, motion, gain, components, censored)


class NoiseResiduals(Stateful):
    """What nothing foretold in the noise voxels of one run: their course freed from drift and motion.

    Parameters
    ----------
    n_voxels : int
    run : Run
    settings : PipelineSettings
    """

    parts = ("_denoiser",)

    def __init__(self, n_voxels: int, run: Run, settings: PipelineSettings) -> None:
        self._denoiser = Denoiser(n_voxels, run, settings, n_components=0)

    def residual(self, aligned: Aligned, censored: bool) -> Float32Array | None:
        """Take the next volume in; shape (n_noise_voxels,), None before there is a baseline."""
        values, motion = aligned.noise_values, aligned.motion
        found = self._denoiser.step(aligned.index, values, motion, aligned.gain, np.empty(0), censored)
        return None if found is None else found.residual


class SampleEstimator(Stateful):
    """Patterns of one run to samples: means of windows, or the responses that the denoiser estimates; over repeats.

    Parameters
    ----------
    run : Run
    settings : WindowSettings
    repeats : RepeatAverager
        The session's, and no part of this one's state.
    """

    parts = ("_window",)

    def __init__(self, run: Run, settings: WindowSettings, repeats: RepeatAverager) -> None:
        self._run = run
        self._window = Window(run, settings)
        self._by_response = settings.estimate == "response"
        self._repeats = repeats if settings.mode == "repeats" else None

    def in_trial(self, index: int) -> bool:
        """Whether volume `index` lies in a trial's window."""
        return self.trial_at(index) is not None

    def trial_at(self, index: int) -> int | None:
        """The trial in whose window volume `index` lies, by its position; None between trials."""
        return self._window.position(index)[0]

    def step(self, pattern: Pattern, denoiser: Denoiser) -> Sample | None:
        """Take the next pattern, after `denoiser` has learned from it."""
        sample = self._window.add(pattern)
        block = sample.block if sample else None
        if sample is None or block is None:
            return sample
        if self._by_response:
            response = denoiser.response(block)
            if response is None:
                return None
            sample = replace(sample, values=response)
        if self._repeats:
            return self._repeats.averaged(sample, self._run.run_id, self._run.blocks[block].label)
        return sample


def is_settled(index: int, run: Run, discard_s: float) -> bool:
    """Whether a volume comes after those that are discarded at the start of a run."""
    return index * run.tr_s >= discard_s - 1e-6
