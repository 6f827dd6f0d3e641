"""The simulated scanner's view of a head, which moves and breathes, with drift and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.simulation.fields import SmoothNoise, slow_courses, wide_field
from calibration.simulation.head import Head
from calibration.simulation.resample import resample
from calibration.simulation.settings import HeadMotionSettings, ScannerNoiseSettings
from rtgod.messages import Array, Float32Array, Float64Array, Int32Array
from rtgod.preprocessing.geometry import rigid

#: Thermal noise outside the head, relative to that of grey matter; smaller, because it is the magnitude of noise alone.
_AIR_NOISE = 0.65


@dataclass(frozen=True, slots=True, eq=False)
class Movement:
    """Position of the head in each volume of a run.

    Attributes
    ----------
    translation_mm : ndarray of shape (n_volumes, 3), float64
    rotation_deg : ndarray of shape (n_volumes, 3), float64
        Angles about x, y and z through the centre of the field of view, z first.
    """

    translation_mm: Float64Array
    rotation_deg: Float64Array

    def pose(self, volume: int, centre_mm: Float64Array) -> Float64Array:
        """Return the map from head mm to scanner mm in one volume, shape (4, 4).

        Parameters
        ----------
        volume : int
            Index of the volume.
        centre_mm : ndarray of shape (3,), float64
            Centre of the field of view, about which the head turns.
        """
        return rigid(self.translation_mm[volume], np.radians(self.rotation_deg[volume]), centre_mm)


def draw_movement(n_volumes: int, settings: HeadMotionSettings, rng: np.random.Generator) -> Movement:
    """Draw a run's movement: a position, a slow wander and a few sudden moves that last.

    Parameters
    ----------
    n_volumes : int
    settings : HeadMotionSettings
    rng : numpy.random.Generator
    """

    def course(between: float, within: float, jerk: float) -> Float64Array:
        start = rng.normal(0, between, 3)
        steps = rng.normal(0, within / np.sqrt(n_volumes), (n_volumes, 3))
        sudden = rng.poisson(settings.jerks_per_run / n_volumes, (n_volumes, 1)) * rng.normal(0, jerk, (n_volumes, 3))
        return start + np.cumsum(steps + sudden, axis=0)

    translation = course(settings.between_runs_mm, settings.within_run_mm, settings.jerk_mm)
    # A move of 1 mm at the head's surface is about a degree of nodding.
    rotation = course(settings.between_runs_deg, settings.within_run_deg, settings.jerk_mm)
    return Movement(translation, rotation)


def slice_times_s(n_slices: int, tr_s: float) -> Float64Array:
    """Return the time of each slice in a volume, interleaved as on Siemens scanners: shape (n_slices,).

    Parameters
    ----------
    n_slices : int
    tr_s : float
    """
    first = 1 if n_slices % 2 == 0 else 0
    order = [*range(first, n_slices, 2), *range(1 - first, n_slices, 2)]
    times = np.empty(n_slices)
    times[order] = np.arange(n_slices) * tr_s / n_slices
    return times


class Scanner:
    """Simulated scanner that images one run of one head.

    Parameters
    ----------
    head : Head
    n_volumes : int
    tr_s : float
    noise : ScannerNoiseSettings
    movement : Movement
    rng : numpy.random.Generator
    """

    def __init__(
        self,
        head: Head,
        n_volumes: int,
        tr_s: float,
        noise: ScannerNoiseSettings,
        movement: Movement,
        rng: np.random.Generator,
    ) -> None:
        self._head = head
        self._noise = noise
        self._movement = movement
        self._rng = rng
        self._slice_s = slice_times_s(head.template.shape[2], tr_s)
        self._tr_s = tr_s
        self._n_volumes = n_volumes
        corner = np.array(head.template.shape) - 1
        self._centre_mm = (head.affine @ [*(corner / 2), 1])[:3]
        brightness = float(head.template[head.grey > 0.5].mean())
        self._noise_sd = np.float32(brightness / noise.tsnr)
        voxel_mm = tuple(np.linalg.norm(head.affine[:3, :3], axis=0).tolist())
        self._smooth = SmoothNoise(head.template.shape, voxel_mm, noise.smooth_fwhm_mm)
        self._ar = self._fresh_noise()
        self._drift = [wide_field(head.template.shape, rng) * noise.drift_percent for _ in range(3)]
        self._drift_phase = rng.uniform(0, np.pi, 3)
        vessels = 0.3 + 2.0 * head.csf
        self._breath = wide_field(head.template.shape, rng) * noise.respiration_percent
        self._pulse = wide_field(head.template.shape, rng) * vessels * noise.cardiac_percent
        self._rates_hz = noise.respiration_hz * rng.uniform(0.95, 1.05), noise.cardiac_hz * rng.uniform(0.95, 1.05)
        # Each component is in all grey matter, here more and there less.
        self._global = [
            head.grey * (1.0 + wide_field(head.template.shape, rng)) * np.float32(noise.global_percent / np.sqrt(2))
            for _ in range(noise.n_global)
        ]
        self._global_course = slow_courses(n_volumes, noise.n_global, tr_s, rng)

    def image(self, volume: int, voxels: Int32Array, change_percent: Float32Array) -> Array:
        """Acquire one volume; call it for volumes 0, 1, … in order.

        Parameters
        ----------
        volume : int
        voxels : ndarray of shape (n_voxels, 3), int32
            Voxels that respond.
        change_percent : ndarray of shape (n_voxels,), float32
            Signal change of these voxels, in percent.

        Returns
        -------
        ndarray of shape (x, y, z), int16
        """
        frame = self._head.template.copy()
        frame[tuple(voxels.T)] *= 1.0 + change_percent / 100.0
        moved = self._move(frame, volume)
        moved *= 1.0 + self._percent(volume) / 100.0
        self._spike(moved)
        noisy = moved + self._next_noise() * np.where(moved > 0.05 * self._head.template.max(), 1.0, _AIR_NOISE)
        # Scanners give magnitudes: negative values from noise are folded back.
        return np.rint(np.abs(noisy)).clip(0, 32767).astype(np.int16)

    def _move(self, frame: Float32Array, volume: int) -> Float32Array:
        """Resample the head at its present position; the scanner's voxels stay."""
        affine = self._head.affine
        pose = self._movement.pose(volume, self._centre_mm)
        return resample(frame, np.linalg.inv(affine) @ np.linalg.inv(pose) @ affine)

    def _percent(self, volume: int) -> Float32Array:
        """Return drift and physiology in percent, each slice at its own time."""
        time_s = volume * self._tr_s + self._slice_s
        run_s = self._n_volumes * self._tr_s
        total = np.zeros(self._head.template.shape, np.float32)
        for k, (field, phase) in enumerate(zip(self._drift, self._drift_phase, strict=True)):
            total += field * np.cos(np.pi * (k + 1) * time_s / run_s + phase).astype(np.float32)
        for field, rate_hz in zip((self._breath, self._pulse), self._rates_hz, strict=True):
            total += field * np.sin(2 * np.pi * rate_hz * time_s).astype(np.float32)
        for field, value in zip(self._global, self._global_course[volume], strict=True):
            total += field * value
        return total

    def _spike(self, frame: Float32Array) -> None:
        if self._rng.random() < self._noise.spike_rate:
            slice_ = self._rng.integers(frame.shape[2])
            frame[:, :, slice_] *= 1.0 + self._rng.choice([-1, 1]) * self._noise.spike_percent / 100.0

    def _next_noise(self) -> Float32Array:
        self._ar *= np.float32(self._noise.ar1)
        self._ar += np.float32(np.sqrt(1.0 - self._noise.ar1**2)) * self._fresh_noise()
        return self._ar

    def _fresh_noise(self) -> Float32Array:
        """Draw noise of which a share is smooth, without memory of the volume before."""
        fresh = self._rng.standard_normal(self._head.template.shape, np.float32)
        share = self._noise.smooth_share
        if share > 0:
            fresh *= np.float32(np.sqrt(1 - share))
            fresh += np.float32(np.sqrt(share)) * self._smooth.draw(self._rng)
        fresh *= self._noise_sd
        return fresh
