"""Model of the spatial shape of noise, learned in calibration: components to regress out, and whitening of patterns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange

from rtgod.decoding.decoder import rows_dot
from rtgod.kernels import launch
from rtgod.messages import Array, Float32Array, Float64Array, Int32Array

#: Voxels that a thread works on at a time.
_PART = 512


@dataclass(frozen=True, slots=True, eq=False)
class NoiseCovariance:
    """Factor model of the noise of the decoder's voxels: a few components, and a rest equal in all directions.

    Whitening shrinks a pattern along each component to the size of the rest, so that voxels that vary together without
    a stimulus no longer dominate the others.

    Attributes
    ----------
    sd : ndarray of shape (n_voxels,), float32
        Standard deviation of the voxels' noise.
    components : ndarray of shape (n_components, n_voxels), float32
        Orthonormal components of the noise in units of `sd`.
    shrinkage : ndarray of shape (n_components,), float32
        Factor by which whitening multiplies a pattern along each component.
    """

    sd: Float32Array
    components: Float32Array
    shrinkage: Float32Array

    def __post_init__(self) -> None:
        # Sums over another memory layout would round differently: make it equal in calibration and decoding.
        object.__setattr__(self, "components", np.ascontiguousarray(self.components))

    def whiten(self, values: Float32Array) -> Float32Array:
        """Whiten a pattern; its unit stays the same.

        Parameters
        ----------
        values : ndarray of shape (n_voxels,), float32
        """
        weights = np.empty(len(self.components), np.float32)
        rows_dot(self.components, (values / self.sd).astype(np.float32), weights)
        out = np.empty_like(values)
        shrunk = (weights * (self.shrinkage - 1)).astype(np.float32)
        launch(_add_components, self.components.size, self.components, shrunk, self.sd, values, out)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class NoiseComponents:
    """Noise components, computed from voxels without the signal of interest (aCompCor: Behzadi et al. 2007).

    Attributes
    ----------
    voxels : ndarray of shape (n_noise_voxels, 3), int32
        Indices into the template.
    loadings : ndarray of shape (n_components, n_noise_voxels), float32
        Weights that turn the voxels' residuals into courses of standard deviation 1.
    """

    voxels: Int32Array
    loadings: Float32Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "loadings", np.ascontiguousarray(self.loadings))  # as in `NoiseCovariance`

    def values_of(self, residual: Float32Array) -> Float64Array:
        """Compute the components' values (n_components,) in one volume from its residuals.

        Parameters
        ----------
        residual : ndarray of shape (n_noise_voxels,), float32
            From `NoiseResiduals.residual`, in the order of `voxels`.
        """
        courses = np.empty(len(self.loadings), np.float32)
        rows_dot(self.loadings, residual, courses)
        return courses.astype(np.float64)


@njit(cache=True, parallel=True, error_model="numpy")
def _add_components(components: Array, weights: Array, sd: Array, values: Array, out: Array) -> None:
    """Compute `out = values + sd * (weights @ components)`, each voxel by one thread."""
    n = values.size
    for part in prange((n + _PART - 1) // _PART):
        # The inner loops run over voxels, so that the compiler handles several in one instruction.
        first, last = part * _PART, min((part + 1) * _PART, n)
        total = out[first:last]
        total[:] = np.float32(0.0)
        for c in range(weights.size):
            weight, component = weights[c], components[c, first:last]
            for v in range(total.size):
                total[v] += weight * component[v]
        for v in range(total.size):
            total[v] = values[first + v] + sd[first + v] * total[v]
