"""Difference of our head motion from SPM12's on a real run, and our time for a volume.

The run is realigned to its first volume, as `spm_realign` did when it wrote `spm_motion.tsv`. The figure is the mean
over the brain of the distance between a voxel's two estimated positions; its median and maximum over volumes are given.

    python -m benchmarks.spm_agreement [--run FOLDER] [--json PATH]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.figures import shared_data, write_json
from rtgod.messages import Array, Float64Array, Volume
from rtgod.preprocessing.registration import Registration
from rtgod.settings import MotionSettings
from rtgod.sources import open_source

#: Voxels of the first volume above this share of its 98th percentile count as brain.
_BRAIN = 0.3


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spm_agreement", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--run",
        type=Path,
        default=shared_data() / "siemens-run",
        help="folder with dicom/ and spm_motion.tsv (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if not (options.run / "spm_motion.tsv").is_file():
        print(f"{options.run}: no spm_motion.tsv in it; give the real run's folder with --run", file=sys.stderr)
        return 2
    source = open_source(options.run / "dicom")
    figures = compare(source, source.run.affine, np.loadtxt(options.run / "spm_motion.tsv", skiprows=1))
    print(
        f"{figures['n_volumes']} volumes, mean displacement against SPM12: {figures['spm_median_diff_mm']:.3f} mm "
        f"in the median, {figures['spm_max_diff_mm']:.3f} mm in the worst; {figures['align_ms_median']:.1f} ms a volume"
    )
    if options.json:
        write_json(options.json, figures)
    return 0


def compare(volumes: Iterable[Volume], affine: Float64Array, spm: Array) -> dict[str, float]:
    """Compare our head motion with SPM's, and return the figures by name.

    Parameters
    ----------
    volumes : iterable of Volume
        Volumes of the run; both methods realign to the first.
    affine : ndarray of shape (4, 4), float64
    spm : ndarray of shape (n_volumes, 6)
        SPM's parameters: translations in mm, rotations in rad.
    """
    differences, times_ms, registration, points = [], [], None, np.empty((0, 4))
    for volume, parameters in zip(volumes, spm, strict=True):
        image = np.ascontiguousarray(volume.data, np.float32)
        if registration is None:
            registration = Registration(image, affine, image.shape, affine, MotionSettings())
            points = brain_points(image, affine)
            registration.align(image)  # compiles kernels
        start = time.perf_counter()
        alignment = registration.align(image)
        times_ms.append(1e3 * (time.perf_counter() - start))
        if alignment.problem:
            raise AssertionError(f"volume {volume.index} could not be aligned")
        # SPM's matrix takes the volume's world to the template's, ours the other way round.
        apart = points @ (alignment.pose - np.linalg.inv(spm_matrix(parameters))).T
        differences.append(np.linalg.norm(apart[:, :3], axis=1).mean())
    return {
        "spm_median_diff_mm": round(float(np.median(differences)), 4),
        "spm_max_diff_mm": round(float(np.max(differences)), 4),
        "n_volumes": len(differences),
        "align_ms_median": round(float(np.median(times_ms)), 2),
    }


def brain_points(image: Array, affine: Float64Array) -> Float64Array:
    """Return the positions of the brain's voxels in mm, with a 1 appended: shape (n_voxels, 4)."""
    brain = np.argwhere(image > _BRAIN * np.percentile(image, 98))
    return np.column_stack([brain, np.ones(len(brain))]) @ affine.T


def spm_matrix(parameters: Array) -> Float64Array:
    """Compute SPM's T Rx Ry Rz from (6,) parameters; its rotations turn the other way than right-handed ones."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(parameters[3:]), np.sin(parameters[3:])
    about_x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = about_x @ about_y @ about_z
    matrix[:3, 3] = parameters[:3]
    return matrix


if __name__ == "__main__":
    sys.exit(main())
