"""Whitening by the noise of the training runs, and as often as runs are left out: each time without their noise."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, replace

from calibration.samples.noise_fitting import ITERATIONS_OF_FOLDS, learn_shape
from calibration.samples.study import Samples
from rtgod.messages import Float32Array
from rtgod.preprocessing.noise_model import NoiseCovariance
from rtgod.settings import NoiseSettings


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """Noise of the training runs, by which their samples are whitened.

    Attributes
    ----------
    noise : mapping of str to ndarray of shape (n_volumes, n_voxels), float32
        Noise of each run; empty if unknown: then nothing is whitened.
    settings : NoiseSettings
        Without components, nothing is whitened.
    shape : NoiseCovariance or None
        Learned from the noise of all runs; None if nothing is whitened.
    """

    noise: Mapping[str, Float32Array]
    settings: NoiseSettings
    shape: NoiseCovariance | None

    @classmethod
    def of(cls, noise: Mapping[str, Float32Array], settings: NoiseSettings) -> Whitening:
        """Learn the noise of all runs.

        Parameters
        ----------
        noise : mapping of str to ndarray of shape (n_volumes, n_voxels), float32
        settings : NoiseSettings
        """
        shape = learn_shape(list(noise.values()), settings) if noise and settings.n_components else None
        return cls(noise, settings, shape)

    def shape_without(self, left_out: Collection[Hashable], fewest: int = 1) -> NoiseCovariance | None:
        """Learn the noise of the other runs; of all, if too few others are there. None if nothing is whitened.

        Samples of a run whose own noise is known to the whitening come out smaller and cleaner than those of a new run.

        Parameters
        ----------
        left_out : collection of str
            Runs; other names are ignored, such as parts of the only run, whose noise is that of the rest, too.
        fewest : int
            Fewest runs from which noise is learned.
        """
        others = [values for run, values in self.noise.items() if run not in left_out]
        if self.shape is None or len(others) == len(self.noise) or len(others) < fewest:
            return self.shape
        return learn_shape(others, self.settings, ITERATIONS_OF_FOLDS)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSamples:
    """Samples of the training runs before they are whitened, with what whitens them.

    A decoder that is tested on a run must not know the run's noise, although noise has no labels: whitened by its own
    noise, a run looks more like the others than a new one does.

    Attributes
    ----------
    unwhitened : Samples
    whitening : Whitening
    """

    unwhitened: Samples
    whitening: Whitening

    def whitened(self, without: Collection[Hashable] = ()) -> Samples:
        """Whiten the samples of all runs by the noise of all runs but some.

        Parameters
        ----------
        without : collection of str
            Names of the runs whose noise must not be known.
        """
        return self.unwhitened.whitened(self.whitening.shape_without(without))

    def whitened_complete(self, without: Collection[Hashable] = ()) -> Samples:
        """Whiten complete samples alone, in less time: those on the way are dropped.

        Parameters
        ----------
        without : collection of str
            Names of the runs whose noise must not be known.
        """
        return replace(self.unwhitened, windows=None).whitened(self.whitening.shape_without(without))
