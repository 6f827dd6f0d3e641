"""Preprocessing of volumes into samples, which a decoder is trained on and decodes: align, denoise, average, whiten.

Calibration runs recorded volumes through this code, and the server live ones, from the same initial state.
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
from rtgod.settings import PipelineSettings
from rtgod.state import Stateful

#: Why a trial has no sample at a volume.
UNSEEN = "nothing of the response can be seen yet"
MIXED = "the response cannot be told from that to another trial yet"


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """Model of the noise that calibration learned.

    Attributes
    ----------
    shape : NoiseCovariance or None
        Model that whitens patterns; None for no whitening.
    courses : NoiseComponents or None
        Regressors from voxels without the signal of interest; None for no such regressors.
    """

    shape: NoiseCovariance | None = None
    courses: NoiseComponents | None = None

    @property
    def voxels(self) -> Int32Array:
        """Voxels from which noise components are computed, shape (n_noise_voxels, 3); none without components."""
        return NO_VOXELS if self.courses is None else self.courses.voxels


class Cleaned(NamedTuple):
    """Result of cleaning an aligned volume.

    Attributes
    ----------
    pattern : Pattern or None
        None until the baseline is learned.
    sample : Sample or None
        Sample of the window that the volume completes or refines; None if it does neither.
    problem : str
        Why the volume is censored; empty if it is not.
    waits_for : str
        Why a trial whose window holds the volume has no sample; empty if it has one, and between trials.
    """

    pattern: Pattern | None
    sample: Sample | None
    problem: str
    waits_for: str = ""


class Preprocessor(Stateful):
    """Preprocessor that turns the volumes of one run into patterns and samples.

    Parameters
    ----------
    reference : Reference
    run : Run
    settings : PipelineSettings
    noise : Noise
    repeats : RepeatAverager
        The session's evidence so far, used if the settings average trials over repeats.

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

    def extend(self, run: Run) -> None:
        """Take in blocks that the run did not list before; see `VolumeCleaner.extend`.

        Parameters
        ----------
        run : Run
        """
        self._cleaner.extend(run)

    def step(self, volume: Volume, stopwatch: Stopwatch) -> tuple[Pattern | None, Sample | NotReady]:
        """Process the next volume of the run.

        Parameters
        ----------
        volume : Volume
            Its index is larger than those before.
        stopwatch : Stopwatch
            Times the stages from "convert" to "whiten".

        Returns
        -------
        pattern : Pattern or None
            None until the baseline is learned, and for a volume that cannot be used.
        outcome : Sample or NotReady
            Sample of the window that the volume completes or refines, or the reason why it gives none.
        """
        aligned = self._aligner.align(volume, stopwatch)
        if isinstance(aligned, NotReady):
            return None, aligned
        pattern, sample, problem, waits_for = self._cleaner.clean(aligned, stopwatch)

        def not_ready(reason: Reason, detail: str = "") -> NotReady:
            return NotReady(volume.run_id, volume.index, reason, detail, aligned.motion)

        if sample is not None:
            return pattern, sample
        if problem:
            return pattern, not_ready(Reason.MOTION, problem)
        if pattern is None:
            return None, not_ready(Reason.WARMING_UP, "the baseline is being learned")
        if waits_for:
            return pattern, not_ready(Reason.WARMING_UP, waits_for)
        return pattern, not_ready(Reason.BETWEEN_TRIALS)


class VolumeCleaner(Stateful):
    """Cleaner that turns the aligned volumes of one run into patterns and samples.

    Parameters
    ----------
    reference, run, settings, noise, repeats
        See `Preprocessor`.

    Attributes
    ----------
    denoiser : Denoiser
        Denoiser of the decoder's voxels.
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
        self._estimator = SampleEstimator(run, settings, repeats)
        fwhm_mm = settings.scaling.smoothing_fwhm_mm
        self._smoother = Smoother(reference.voxels, reference.affine, fwhm_mm) if fwhm_mm else None

    def extend(self, run: Run) -> None:
        """Take in blocks that the run did not list before.

        Parameters
        ----------
        run : Run
            The run, with new blocks after those known, each of which begins later than all before it.
        """
        self._run = run
        self.denoiser.extend(run)
        if self._noise_reader:
            self._noise_reader.extend(run)
        self._estimator.extend(run)

    def clean(self, aligned: Aligned, stopwatch: Stopwatch) -> Cleaned:
        """Clean the next aligned volume of the run.

        Parameters
        ----------
        aligned : Aligned
            Its index is larger than those before.
        stopwatch : Stopwatch
            Times the stages "denoise", "window" and "whiten".
        """
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
        if isinstance(sample, str):
            return Cleaned(pattern, None, problem, sample)
        with stopwatch("whiten"):
            whitened = self.whitened(sample.values)
        return Cleaned(pattern, replace(sample, values=whitened), problem)

    def trial_at(self, index: int) -> int | None:
        """Return the position of the trial that is to be ranked at volume `index`; None between trials.

        Parameters
        ----------
        index : int
        """
        return self._estimator.trial_at(index)

    def unwhitened(self, values: Float32Array) -> Float32Array:
        """Smooth and demean a pattern, if the settings say so; the noise's shape is learned from the result.

        Parameters
        ----------
        values : ndarray of shape (n_voxels,), float32
        """
        if self._smoother:
            values = self._smoother.smooth(values)
        return values - values.mean(dtype=np.float64).astype(np.float32) if self._demeans else values

    def whitened(self, values: Float32Array) -> Float32Array:
        """Smooth and demean a pattern, if the settings say so, and whiten it.

        Parameters
        ----------
        values : ndarray of shape (n_voxels,), float32
        """
        values = self.unwhitened(values)
        return self._noise.shape.whiten(values) if self._noise.shape else values

    def _denoise(self, aligned: Aligned, censored: bool) -> Denoised | None:
        index, motion, gain, components = aligned.index, aligned.motion, aligned.gain, self._no_components
        if self._noise_reader and self._noise.courses:
            residual = self._noise_reader.residual(aligned, censored)
            components = components if residual is None else self._noise.courses.values_of(residual)
        return self.denoiser.step(index, aligned.decoder_values, motion, gain, components, censored)


class NoiseResiduals(Stateful):
    """Residuals of the noise voxels of one run, after drift, motion and trials are regressed out.

    Parameters
    ----------
    n_voxels : int
    run : Run
    settings : PipelineSettings
    """

    parts = ("_denoiser",)

    def __init__(self, n_voxels: int, run: Run, settings: PipelineSettings) -> None:
        self._denoiser = Denoiser(n_voxels, run, settings, n_components=0)

    def extend(self, run: Run) -> None:
        """Take in blocks that the run did not list before; see `VolumeCleaner.extend`.

        Parameters
        ----------
        run : Run
        """
        self._denoiser.extend(run)

    def residual(self, aligned: Aligned, censored: bool) -> Float32Array | None:
        """Return the residual of the next volume, shape (n_noise_voxels,); None until the baseline is learned.

        Parameters
        ----------
        aligned : Aligned
            Its index is larger than those before.
        censored : bool
            Whether the volume must not be learned from.
        """
        values, motion = aligned.noise_values, aligned.motion
        denoised = self._denoiser.step(aligned.index, values, motion, aligned.gain, np.empty(0), censored)
        return None if denoised is None else denoised.residual


class SampleEstimator(Stateful):
    """Estimator of a run's samples: means of windows, or responses from the denoiser, optionally averaged over repeats.

    Parameters
    ----------
    run : Run
    settings : PipelineSettings
        Only `window` and `response` are used.
    repeats : RepeatAverager
        Averager of the session, which is not part of this object's state.
    """

    parts = ("_window",)

    def __init__(self, run: Run, settings: PipelineSettings, repeats: RepeatAverager) -> None:
        self._run = run
        self._window = Window(run, settings.window, settings.response.delay_s)
        self._by_response = settings.window.estimate == "response"
        self._most_crosstalk = settings.response.most_crosstalk
        self._repeats = repeats if settings.window.mode == "repeats" else None
        self._by_volumes = settings.window.weigh_repeats == "by_volumes"

    def extend(self, run: Run) -> None:
        """Take in blocks that the run did not list before; see `VolumeCleaner.extend`.

        Parameters
        ----------
        run : Run
        """
        self._run = run
        self._window.extend(run)

    def in_trial(self, index: int) -> bool:
        """Return whether volume `index` lies in the window of a trial.

        Parameters
        ----------
        index : int
        """
        return self.trial_at(index) is not None

    def trial_at(self, index: int) -> int | None:
        """Return the position of the trial in whose window volume `index` lies; None between trials.

        Parameters
        ----------
        index : int
        """
        return self._window.position(index)[0]

    def step(self, pattern: Pattern, denoiser: Denoiser) -> Sample | str:
        """Take in the next pattern; return the sample that it gives, or what a trial's sample waits for.

        Parameters
        ----------
        pattern : Pattern
        denoiser : Denoiser
            Denoiser that has taken in the pattern's volume already; estimates the responses to trials.

        Returns
        -------
        Sample or str
            The reason is empty between trials.
        """
        sample = self._window.add(pattern)
        if sample is None:
            return UNSEEN if self.in_trial(pattern.index) else ""
        block = sample.block
        if block is None:
            return sample
        if self._by_response:
            response = denoiser.response(block)
            if response is None:
                return UNSEEN
            if (crosstalk := denoiser.crosstalk(block)) > self._most_crosstalk:
                return f"{MIXED}: up to {min(crosstalk, 9.99):.0%} of that is in it"
            sample = replace(sample, values=response)
        if self._repeats:
            label = self._run.blocks[block].label
            return self._repeats.averaged(sample, self._run.run_id, label, by_volumes=self._by_volumes)
        return sample


def is_settled(index: int, run: Run, discard_s: float) -> bool:
    """Return whether a volume comes after those that are discarded at the start of a run.

    Parameters
    ----------
    index : int
    run : Run
    discard_s : float
        Time from the start of the run, in seconds; volumes that start before it are discarded.
    """
    return index * run.tr_s >= discard_s - 1e-6
