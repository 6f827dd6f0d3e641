import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import interpolate, ndimage

from rtgod.preprocessing.splines import (
    basis,
    basis_slope,
    convolve,
    evaluate,
    interpolation_coefficients,
    smoothing_kernel,
)
from tests import naive


def image(shape, seed=0):
    return np.random.default_rng(seed).normal(500, 200, shape).astype(np.float32)


@pytest.mark.parametrize("fwhm_voxels", [0.0, 0.5, 1.0, 5 / 3, 8 / 3, 4.0, 9.0])
def test_the_kernel_and_the_spline_together_smooth_by_the_width(fwhm_voxels):
    kernel = smoothing_kernel(fwhm_voxels).astype(float)
    offset = np.arange(kernel.size) - kernel.size // 2
    assert kernel.size % 2 == 1
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(kernel, kernel[::-1], atol=1e-7)
    spline_variance = 1 / 3
    assert (kernel * offset**2).sum() + spline_variance == pytest.approx(
        fwhm_voxels**2 / (8 * np.log(2)), rel=0.01, abs=0.005
    )


@pytest.mark.parametrize("fwhm_voxels", [5 / 3, 8 / 3, 4.0])
def test_smoothing_at_voxels_is_that_of_a_gaussian(fwhm_voxels):
    """Kernel, then B-spline at the voxels, against scipy's sampled Gaussian, on an image as sharp as a scanner's."""
    noise = ndimage.gaussian_filter(image((40, 36, 30)), 0.8)
    coefficients = np.empty_like(noise)
    convolve(noise, *[smoothing_kernel(fwhm_voxels)] * 3, coefficients)
    at_voxels = coefficients.astype(float)
    for axis in range(3):
        at_voxels = ndimage.correlate1d(at_voxels, [1 / 6, 2 / 3, 1 / 6], axis, mode="nearest")
    expected = ndimage.gaussian_filter(noise.astype(float), fwhm_voxels / np.sqrt(8 * np.log(2)), mode="nearest")
    inner = (slice(8, -8),) * 3
    assert (at_voxels - expected)[inner].std() < 0.06 * expected[inner].std()


@pytest.mark.parametrize("shape", [(12, 9, 7), (3, 20, 5), (1, 4, 2)])
def test_convolution_is_separable_with_repeated_edges(shape):
    values = image(shape)
    kernels = [smoothing_kernel(fwhm) for fwhm in (1.7, 2.5, 0.5)]
    out = np.empty_like(values)
    convolve(values, *kernels, out)
    np.testing.assert_allclose(out, naive.separable_smooth(values, kernels), rtol=1e-5, atol=1e-3)
    by_scipy = values.astype(float)
    for axis, kernel in enumerate(kernels):
        by_scipy = ndimage.correlate1d(by_scipy, kernel, axis, mode="nearest")
    np.testing.assert_allclose(out, by_scipy, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("shape", [(40, 23, 31), (14, 11, 9), (2, 7, 1), (1, 1, 1), (3, 1, 2)])
def test_coefficients_are_scipy_s(shape):
    values = image(shape)
    out = np.empty_like(values)
    interpolation_coefficients(values, out)
    np.testing.assert_allclose(out, ndimage.spline_filter(values.astype(float), 3, mode="mirror"), atol=5e-3)


@given(st.floats(0, 1))
def test_the_basis_is_the_cubic_b_spline_and_its_slope(fraction):
    spline = interpolate.BSpline.basis_element([-2, -1, 0, 1, 2], extrapolate=False)
    where = fraction - np.arange(-1, 3)
    np.testing.assert_allclose(basis(fraction), np.nan_to_num(spline(where)), atol=1e-6)
    np.testing.assert_allclose(basis_slope(fraction), np.nan_to_num(spline.derivative()(where)), atol=1e-6)
    assert sum(basis(fraction)) == pytest.approx(1, abs=1e-6)
    assert sum(basis_slope(fraction)) == pytest.approx(0, abs=1e-6)


def test_a_value_is_the_weighted_sum_of_its_64_neighbours():
    values = image((6, 7, 8))
    wx, wy, wz = basis(0.3), basis(0.9), basis(0.0)
    found = evaluate(values.reshape(-1), 7, 8, 1, 2, 3, wx, wy, wz)
    assert found == pytest.approx(np.einsum("ijk,i,j,k->", values[1:5, 2:6, 3:7].astype(float), wx, wy, wz), rel=1e-6)
