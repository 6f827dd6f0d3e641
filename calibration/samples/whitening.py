"""Training samples that are whitened as often as runs are left out: each time without the noise of these runs."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, replace

from calibration.samples.noise_fitting import learn_shape
from calibration.samples.study import Samples
from rtgod.messages import Float32Array
from rtgod.preprocessing.noise_model import NoiseCovariance
from rtgod.settings import NoiseSettings


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSamples:
    """Samples of the training runs before they are whitened, with what whitening is learned from.

    A decoder that is tested on a run must not know the run's noise, although noise has no labels: whitened by its own
    noise, a run looks more like the others than a new one does.

    Attributes
    ----------
    unwhitened : Samples
    noise : mapping of str to ndarray of shape (n_volumes, n_voxels), float32
        Noise of each run; empty if unknown: then nothing is whitened.
    settings : NoiseSettings
        Without components, nothing is whitened.
    """

    unwhitened: Samples
    noise: Mapping[str, Float32Array]
    settings: NoiseSettings

    @property
    def are_whitened(self) -> bool:
        """Whether whitening is learned at all."""
        return bool(self.noise) and self.settings.n_components > 0

    def shape(self, without: Collection[Hashable] = ()) -> NoiseCovariance | None:
        """Learn the shape of the noise of all runs but some; None if nothing is whitened.

        Parameters
        ----------
        without : collection of str
            Names of runs; others are ignored, such as parts of the only run, whose noise is that of the rest, too.
        """
        if not self.are_whitened:
            return None
        return learn_shape([noise for run, noise in self.noise.items() if run not in without], self.settings)

    def whitened(self, without: Collection[Hashable] = ()) -> Samples:
        """Whiten the samples of all runs by the noise of all runs but some.

        Parameters
        ----------
        without : collection of str
            Names of the runs whose noise must not be known.
        """
        return self.unwhitened.whitened(self.shape(without))

    def whitened_complete(self, without: Collection[Hashable] = ()) -> Samples:
        """Whiten complete samples alone, in less time: those on the way are dropped.

        Parameters
        ----------
        without : collection of str
            Names of the runs whose noise must not be known.
        """
        return replace(self.unwhitened, windows=None).whitened(self.shape(without))
