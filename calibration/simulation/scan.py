"""Turn responses into volumes: the signal change that trials cause in each voxel, and the images of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from calibration.simulation.head import Head
from calibration.simulation.response import layer_delays_s
from calibration.simulation.scanner import Movement, Scanner, draw_movement, slice_times_s
from calibration.simulation.settings import SubjectSettings
from rtgod.messages import Array, Float32Array, Int32Array
from rtgod.preprocessing.hrf import block_response


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """Response of visual cortex to one trial.

    Attributes
    ----------
    onset_s, duration_s : float
    imagined : bool
        Imagery is weaker than seeing, and its lower layers respond later.
    strength : float
        1 for an ordinary trial.
    amplitudes : ndarray of shape (n_layers, n_voxels), float32
        Response, as if seen, to the image or category, minus the response to any image; percent signal change.
    """

    onset_s: float
    duration_s: float
    imagined: bool
    strength: float
    amplitudes: Float32Array


def signal_change(
    responses: Sequence[Response],
    n_volumes: int,
    tr_s: float,
    voxels: Int32Array,
    evoked: Float32Array,
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
    evoked : ndarray of shape (n_voxels,), float32
        Response to any image, in percent signal change.
    settings : SubjectSettings

    Returns
    -------
    ndarray of shape (n_volumes, n_voxels), float32
    """
    change = np.zeros((n_volumes, len(voxels)), np.float32)
    shape = settings.response.hrf_peak_s, settings.response.hrf_undershoot_s, settings.response.hrf_ratio
    slice_s = slice_times_s(settings.shape[2], tr_s)
    # Trials with the same time course are added together.
    for imagined, duration_s in sorted({(response.imagined, response.duration_s) for response in responses}):
        group = [r for r in responses if (r.imagined, r.duration_s) == (imagined, duration_s)]
        gain, lag_s = (settings.response.imagery_gain, settings.response.imagery_lag_s) if imagined else (1.0, 0.0)
        layers = np.stack([r.amplitudes * np.float32(gain) * np.float32(r.strength) for r in group], axis=1)
        delays_s = layer_delays_s(len(layers), lag_s)
        strength = np.array([r.strength for r in group]) * gain
        onsets_s = np.array([r.onset_s for r in group])
        for slice_ in np.unique(voxels[:, 2]):
            in_slice = voxels[:, 2] == slice_
            time_s = (np.arange(n_volumes) * tr_s + slice_s[slice_])[:, np.newaxis] - onsets_s
            course = {delay_s: block_response(time_s - delay_s, duration_s, *shape) for delay_s in {0.0, *delays_s}}
            change[:, in_slice] += course[0.0] @ (strength[:, np.newaxis] * evoked[in_slice])
            for delay_s, amplitudes in zip(delays_s, layers, strict=True):
                change[:, in_slice] += course[delay_s] @ amplitudes[:, in_slice]
    return change


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
