"""Turn responses into volumes: the signal change that trials cause in each voxel, and the images of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from calibration.simulation.fields import slow_courses
from calibration.simulation.head import Head
from calibration.simulation.response import BlockCourse, layer_delays_s
from calibration.simulation.scanner import Movement, Scanner, draw_movement, slice_times_s
from calibration.simulation.settings import SubjectSettings
from calibration.simulation.trials import Response
from calibration.simulation.tuning import Tuning
from rtgod.messages import Array, Float32Array, Int32Array


def signal_change(
    responses: Sequence[Response],
    n_volumes: int,
    tr_s: float,
    voxels: Int32Array,
    tuning: Tuning,
    settings: SubjectSettings,
) -> Float32Array:
    """Compute the percent signal change of every responding voxel at its slice's time.

    Parameters
    ----------
    responses : sequence of Response
    n_volumes : int
    tr_s : float
    voxels : ndarray of shape (n_voxels, 3), int32
        Indices of the responding voxels; slices are along the third axis.
    tuning : Tuning
        Gives each voxel's response to any image, and the course of its response.
    settings : SubjectSettings

    Returns
    -------
    ndarray of shape (n_volumes, n_voxels), float32
    """
    change = np.zeros((n_volumes, len(voxels)), np.float32)
    response = settings.response_in_force
    slice_s = slice_times_s(settings.shape[2], tr_s)
    # Voxels of a slice and a region have the same times and the same course; trials of a kind are added together.
    alike, place = np.unique(np.column_stack([voxels[:, 2], tuning.hrf]), axis=0, return_inverse=True)
    for imagined, duration_s in sorted({(r.imagined, r.duration_s) for r in responses}):
        group = [r for r in responses if (r.imagined, r.duration_s) == (imagined, duration_s)]
        gain, lag_s, delay_s = 1.0, 0.0, 0.0
        if imagined:
            gain, lag_s, delay_s = response.imagery_gain, response.imagery_lag_s, response.imagery_delay_s
        layers = np.stack([r.amplitudes * np.float32(gain) * np.float32(r.strength) for r in group], axis=1)
        delays_s = delay_s + layer_delays_s(len(layers), lag_s)
        strength = np.array([r.strength for r in group]) * gain
        onsets_s = np.array([r.onset_s for r in group])
        shapes = {
            (peak_s, undershoot_s, ratio): BlockCourse(
                duration_s, peak_s, undershoot_s, ratio, response.hrf_dispersion_s
            )
            for peak_s, undershoot_s, ratio in alike[:, 1:].tolist()
        }
        for position, (slice_, *hrf) in enumerate(alike.tolist()):
            members = place == position
            time_s = (np.arange(n_volumes) * tr_s + slice_s[int(slice_)])[:, np.newaxis] - onsets_s
            course = {late_s: shapes[tuple(hrf)].at(time_s - late_s) for late_s in {delay_s, *delays_s.tolist()}}
            change[:, members] += course[delay_s] @ (strength[:, np.newaxis] * tuning.evoked[members])
            for late_s, amplitudes in zip(delays_s.tolist(), layers, strict=True):
                change[:, members] += course[late_s] @ amplitudes[:, members]
    return change


def ongoing_activity(n_volumes: int, tr_s: float, tuning: Tuning, rng: np.random.Generator) -> Float32Array:
    """Draw the percent signal change by activity that no trial causes: (n_volumes, n_voxels), float32.

    Parameters
    ----------
    n_volumes : int
    tr_s : float
    tuning : Tuning
    rng : numpy.random.Generator
    """
    return slow_courses(n_volumes, len(tuning.ongoing), tr_s, rng) @ tuning.ongoing


def scan(
    head: Head,
    voxels: Int32Array,
    change: Float32Array,
    tr_s: float,
    settings: SubjectSettings,
    rng: np.random.Generator,
    progress: Callable[[int], object] = lambda _: None,
) -> tuple[Array, Movement]:
    """Acquire one run of a moving head.

    Parameters
    ----------
    head : Head
    voxels : ndarray of shape (n_voxels, 3), int32
        Voxels that respond.
    change : ndarray of shape (n_volumes, n_voxels), float32
        Signal change of these voxels, in percent.
    tr_s : float
    settings : SubjectSettings
    rng : numpy.random.Generator
        Draws movement and noise.
    progress : callable
        Called with the number of volumes done.

    Returns
    -------
    volumes : ndarray of shape (x, y, z, n_volumes), int16
    movement : Movement
    """
    movement = draw_movement(len(change), settings.motion, rng)
    scanner = Scanner(head, len(change), tr_s, settings.noise, movement, rng)
    data = np.empty((*settings.shape, len(change)), np.int16, order="F")
    for volume in range(len(change)):
        data[..., volume] = scanner.image(volume, voxels, change[volume])
        progress(volume + 1)
    return data, movement


def sidecar(n_slices: int, tr_s: float) -> dict[str, object]:
    """Return the acquisition's entries for the run's BIDS sidecar, all but the task.

    Parameters
    ----------
    n_slices : int
    tr_s : float
    """
    return {
        "RepetitionTime": tr_s,
        "EchoTime": 0.03,
        "FlipAngle": 80,
        "SliceTiming": [round(t, 6) for t in slice_times_s(n_slices, tr_s).tolist()],
        "SliceEncodingDirection": "k",
        "MagneticFieldStrength": 3,
        "Manufacturer": "simulated",
    }


def save_nifti(path: Path, data: Array, affine: Array, tr_s: float | None = None) -> None:
    """Write an image or a run.

    Parameters
    ----------
    path : Path
        Ends in .nii or .nii.gz.
    data : ndarray of shape (x, y, z) or (x, y, z, n_volumes)
        Of a type that NIfTI-1 holds.
    affine : ndarray of shape (4, 4), float64
        Maps voxel indices to scanner mm, RAS+.
    tr_s : float, optional
        Repetition time of a run; None for an image.
    """
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    if tr_s:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
    nib.save(image, path)
