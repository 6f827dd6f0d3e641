"""Peers that benchmarks compare with, behind one interface; they are no dependencies of rtgod."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context

import numpy as np
from scipy.spatial.transform import Rotation

from rtgod.messages import Float32Array, Float64Array

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


#: What differs from elastix's default parameters of a rigid registration.
_ELASTIX = {
    "Metric": "AdvancedMeanSquares", "NumberOfSpatialSamples": "2048", "MaximumNumberOfIterations": "100",
    "WriteResultImage": "false", "AutomaticTransformInitialization": "false", "BSplineInterpolationOrder": "1",
}  # fmt: skip


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of installed packages, by `version_` and their names."""
    return {f"version_{name}": version(name) for name in packages}


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
    """SimpleITK's rigid registration: mean squares, two levels, regular-step gradient descent.

    Parameters
    ----------
    template : ndarray of shape (x, y, z)
    affine : ndarray of shape (4, 4)
    share : float
        Share of the voxels that are compared, on a regular lattice. 1 is the most exact; with 0.05, which is quick,
        errors stay below a twentieth of a millimetre and a tenth of a degree.
    """

    name = "simpleitk"

    def __init__(self, template: Float32Array, affine: Float64Array, share: float = 1.0) -> None:
        import SimpleITK

        self._sitk, self._affine, self._share = SimpleITK, affine, share
        self._fixed = self._image(template)

    def _image(self, volume: Float32Array) -> object:
        image = self._sitk.GetImageFromArray(np.ascontiguousarray(volume.transpose(2, 1, 0), np.float32))
        origin, spacing, direction = _lattice(self._affine)
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(origin.tolist())
        image.SetDirection(direction.ravel().tolist())
        return image

    def estimate(self, volume: Float32Array) -> Float64Array:
        """Estimate the pose, shape (4, 4), template millimetres to volume millimetres."""
        sitk, moving = self._sitk, self._image(volume)
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMeanSquares()
        least = 1e-4
        if self._share < 1:
            method.SetMetricSamplingStrategy(method.REGULAR)
            method.SetMetricSamplingPercentage(self._share, 1)
            least = 1e-3
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(learningRate=1.0, minStep=least, numberOfIterations=200)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([2, 1])
        method.SetSmoothingSigmasPerLevel([2, 0])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        geometry = sitk.CenteredTransformInitializerFilter.GEOMETRY
        start = sitk.CenteredTransformInitializer(self._fixed, moving, sitk.Euler3DTransform(), geometry)
        method.SetInitialTransform(start, inPlace=False)
        return _pose_of(method.Execute(self._fixed, moving).TransformPoint)


class Elastix:
    """Elastix's rigid registration, as it is used for speed: mean squares at random points, one level.

    It works in a process of its own, as its ITK and SimpleITK's crash the one in which they both end. A volume's way
    there takes about a millisecond.

    Parameters
    ----------
    template : ndarray of shape (x, y, z)
    affine : ndarray of shape (4, 4)
    """

    name = "elastix"

    def __init__(self, template: Float32Array, affine: Float64Array) -> None:
        self._there = ProcessPoolExecutor(1, get_context("spawn"), _begin_elastix, (template, affine))
        self.estimate(template)  # waits until it has begun

    def estimate(self, volume: Float32Array) -> Float64Array:
        """Estimate the pose, shape (4, 4), template millimetres to volume millimetres."""
        return self._there.submit(_estimate_by_elastix, volume).result()


_elastix: list[_Elastix] = []


def _begin_elastix(template: Float32Array, affine: Float64Array) -> None:
    _elastix.append(_Elastix(template, affine))


def _estimate_by_elastix(volume: Float32Array) -> Float64Array:
    return _elastix[0].estimate(volume)


class _Elastix:
    """Elastix in this process."""

    def __init__(self, template: Float32Array, affine: Float64Array) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # modules of SWIG warn while they load, and crash if that is an error
            import itk

            self._itk, self._affine = itk, affine
            self._fixed = self._image(template)
            self._parameters = itk.ParameterObject.New()
            chosen = self._parameters.GetDefaultParameterMap("rigid", 1)
            for name, value in _ELASTIX.items():
                chosen[name] = [value]
            self._parameters.AddParameterMap(chosen)
            self.estimate(template)  # loads the other modules

    def _image(self, volume: Float32Array) -> object:
        image = self._itk.GetImageFromArray(np.ascontiguousarray(volume.transpose(2, 1, 0), np.float32))
        origin, spacing, direction = _lattice(self._affine)
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(origin.tolist())
        image.SetDirection(self._itk.GetMatrixFromArray(direction))
        return image

    def estimate(self, volume: Float32Array) -> Float64Array:
        """Estimate the pose, shape (4, 4), template millimetres to volume millimetres."""
        method = self._itk.ElastixRegistrationMethod.New(self._fixed, self._image(volume))
        method.SetParameterObject(self._parameters)
        method.SetLogToConsole(False)
        method.SetLogToFile(False)
        method.UpdateLargestPossibleRegion()
        found = method.GetTransformParameterObject().GetParameterMap(0)
        x, y, z, *shift = (float(value) for value in found["TransformParameters"])
        is_zyx = found.get("ComputeZYX", ["false"])[0] == "true"
        turned = Rotation.from_euler("ZYX", (z, y, x)) if is_zyx else Rotation.from_euler("ZXY", (z, x, y))
        centre = np.array([float(value) for value in found["CenterOfRotationPoint"]])
        return _pose_of(lambda point: turned.apply(np.array(point) - centre) + centre + shift)


def _lattice(affine: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return origin, spacing and direction of an image's voxels in LPS+ millimetres, as ITK counts them."""
    lps = _LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    return lps[:3, 3], spacing, lps[:3, :3] / spacing


def _pose_of(moved: Callable[[Sequence[float]], Sequence[float]]) -> Float64Array:
    """Return the matrix, in RAS+ millimetres, of a map of points in LPS+ millimetres."""
    origin = np.array(moved((0.0, 0.0, 0.0)))
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([np.array(moved(axis)) - origin for axis in np.eye(3).tolist()])
    pose[:3, 3] = origin
    return _LPS @ pose @ _LPS
