"""Decoded units as series of their own: freed from drift and motion in place of the voxels they are decoded from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rtgod.decoding.decoder import Decoder
from rtgod.messages import Float32Array, Pattern, Run
from rtgod.preprocessing.denoising import Denoiser
from rtgod.preprocessing.preprocessor import SampleEstimator
from rtgod.preprocessing.stopwatch import Stopwatch
from rtgod.preprocessing.windows import RepeatAverager, Sample
from rtgod.settings import PipelineSettings
from rtgod.state import Stateful


class UnitCourses(Stateful):
    """The units of one run (Lee, Jang & Park 2015 detrend what their classifiers give).

    Parameters
    ----------
    decoder : Decoder
    run : Run
    settings : PipelineSettings
    repeats : RepeatAverager
    """

    parts = ("_denoiser", "_estimator")

    def __init__(self, decoder: Decoder, run: Run, settings: PipelineSettings, repeats: RepeatAverager) -> None:
        self._decoder = decoder
        self._denoiser = Denoiser(decoder.n_units, run, settings, in_unit=False)
        self._estimator = SampleEstimator(run, settings, repeats)
        # What is decoded from no change at all: units are freed from it as from a baseline, and it belongs to them.
        self._at_rest = self._units(0, np.zeros(decoder.n_voxels, np.float32))

    def step(self, pattern: Pattern, voxels: Float32Array, stopwatch: Stopwatch) -> Sample | None:
        """Take the next volume in.

        Parameters
        ----------
        pattern : Pattern
        voxels : ndarray of shape (n_voxels,), float32
            The pattern's values, whitened.
        stopwatch : Stopwatch

        Returns
        -------
        Sample or None
            Of units, layer after layer; None between trials and while the baseline is being learned.
        """
        units = stopwatch.time("decode", lambda: self._units(pattern.index, voxels))
        found = self._denoiser.step(pattern.index, units, pattern.motion, 1.0, np.empty(0), pattern.censored)
        if found is None:
            return None
        of_units = replace(pattern, values=found.values)
        sample = stopwatch.time("window", lambda: self._estimator.step(of_units, self._denoiser))
        return sample and replace(sample, values=sample.values + self._at_rest)

    def _units(self, index: int, voxels: Float32Array) -> Float32Array:
        return np.concatenate(list(self._decoder.decode(index, voxels).layers.values()))
