"""Peers that benchmarks compare with, behind one interface; they are no dependencies of rtgod."""

from __future__ import annotations

import numpy as np

from rtgod.messages import Float32Array, Float64Array

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Rtspm:
    """SPM's realignment and reslicing in C++, as OpenNFT runs them (python-rtspm, GPL).

    Parameters
    ----------
    template : ndarray of shape (x, y, z)
    affine : ndarray of shape (4, 4)
    """

    name = "rtspm"

    def __init__(self, template: Float32Array, affine: Float64Array) -> None:
        import rtspm

        self._realign, self._reslice = rtspm.spm_realign_rt, rtspm.spm_reslice_rt
        self._flags = {
            "quality": 0.9, "fwhm": 5, "sep": 4, "interp": 4, "wrap": np.zeros((3, 1)), "lkp": np.arange(6),
            "mean": 0, "which": 2, "rtm": 0, "mask": 1, "PW": "",
        }  # fmt: skip
        self._affine = affine.copy()
        self._affine[:3, 3] -= affine[:3, :3].sum(axis=1)  # SPM counts voxels from 1
        self._images = [self._image(template), self._image(template)]
        self._state: list[object] = [[], [], [], [], [], []]
        self._is_first = True
        self.estimate(template)

    def _image(self, volume: Float32Array) -> dict[str, object]:
        return {
            "mat": self._affine.copy(),
            "dim": np.array(volume.shape),
            "Vol": np.asfortranarray(volume, np.float64),
        }

    def estimate(self, volume: Float32Array) -> Float64Array:
        """Estimate the pose, shape (4, 4), template millimetres to volume millimetres."""
        self._images[1] = self._image(volume)
        result = self._realign(self._images, dict(self._flags), 1 if self._is_first else 2, 1, *self._state)
        self._images, self._state, self._is_first = result[0], list(result[1:7]), False
        return self._affine @ np.linalg.inv(self._images[1]["mat"])

    def estimate_and_reslice(self, volume: Float32Array) -> Float64Array:
        """Estimate the pose, and reslice the whole volume."""
        pose = self.estimate(volume)
        self._reslice(self._images, dict(self._flags))
        return pose


class SimpleItk:
    """SimpleITK's rigid registration: mean squares over all voxels, two levels, regular-step gradient descent.

    Parameters
    ----------
    template : ndarray of shape (x, y, z)
    affine : ndarray of shape (4, 4)
    """

    name = "SimpleITK"

    def __init__(self, template: Float32Array, affine: Float64Array) -> None:
        import SimpleITK

        self._sitk = SimpleITK
        self._affine = affine
        self._fixed = self._image(template)

    def _image(self, volume: Float32Array) -> object:
        image = self._sitk.GetImageFromArray(np.ascontiguousarray(volume.transpose(2, 1, 0), np.float32))
        lps = _LPS @ self._affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        return image

    def estimate(self, volume: Float32Array) -> Float64Array:
        """Estimate the pose, shape (4, 4), template millimetres to volume millimetres."""
        sitk, moving = self._sitk, self._image(volume)
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMeanSquares()
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(learningRate=1.0, minStep=1e-4, numberOfIterations=200)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([2, 1])
        method.SetSmoothingSigmasPerLevel([2, 0])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        geometry = sitk.CenteredTransformInitializerFilter.GEOMETRY
        start = sitk.CenteredTransformInitializer(self._fixed, moving, sitk.Euler3DTransform(), geometry)
        method.SetInitialTransform(start, inPlace=False)
        transform = method.Execute(self._fixed, moving)
        origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
        pose = np.eye(4)
        pose[:3, :3] = np.column_stack(
            [np.array(transform.TransformPoint(axis)) - origin for axis in np.eye(3).tolist()]
        )
        pose[:3, 3] = origin
        return _LPS @ pose @ _LPS
