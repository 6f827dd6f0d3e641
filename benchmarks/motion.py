"""Head motion estimates: their errors, and their speed compared with the peers', on the same volumes in one run.

Four comparisons are made. Synthetic heads moved by known motions (64 × 64 × 50 voxels of 3 mm: twelve motions of up to
±2 mm and ±1.5° with noise of 1 % on template and volumes, six of up to ±5 mm and ±5° with 2 % on the volumes), against
SPM's realignment (rtspm), SimpleITK, exact and set up for speed, and elastix; larger volumes; real heads moved by known
motion through a windowed sinc; and real series against SPM12 and SimpleITK.

Realignment is compared with realignment, and realignment with reslicing of the whole head with the same; in one thread
each (`..._one_thread`; rtspm has no more), and with each peer's own number of threads.

    python -m pip install ".[all,bench]"
    python -m benchmarks.motion [--json PATH]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numba
import numpy as np

from benchmarks.figures import print_all, shared_data, write_json
from benchmarks.heads import HeadScanner, errors, with_noise
from benchmarks.peers import Elastix, Rtspm, SimpleItk, versions
from benchmarks.spm_agreement import brain_points, compare
from rtgod.messages import Float32Array, Float64Array
from rtgod.preprocessing.geometry import rigid
from rtgod.preprocessing.registration import Registration
from rtgod.preprocessing.sampling import Sampler
from rtgod.settings import MotionSettings, SamplingSettings
from rtgod.sources import Source, open_source

N_VOXELS = 4500
#: Our part that does what each peer does.
PAIRS = {
    "rtspm": "realign", "rtspm_reslice": "reslice", "simpleitk": "realign", "simpleitk_quick": "realign",
    "elastix": "realign",
}  # fmt: skip
SIZES = {"110x110x72": ((110, 110, 72), 2.0), "100x100x100": ((100, 100, 100), 2.0)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.motion", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=shared_data(), help="real data; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if lacking := [name for name in ("itk", "rtspm", "SimpleITK") if find_spec(name) is None]:
        print(f"{lacking[0]} is not installed; run: python -m pip install '.[all,bench]'", file=sys.stderr)
        return 2
    figures = synthetic_figures(HeadScanner((64, 64, 50), 3.0), n_small=12, n_large=6)
    for name, (shape, voxel_mm) in SIZES.items():
        figures |= size_figures(name, HeadScanner(shape, voxel_mm))
    if (options.data / "siemens-run").is_dir():
        figures |= real_figures(options.data)
    else:
        print(f"{options.data}: no siemens-run in it; nothing is compared on real data", file=sys.stderr)
    told = {**figures, **versions("python-rtspm", "SimpleITK", "itk-elastix")}
    print_all(told)
    if options.json:
        write_json(options.json, told)
    return 0


class Ours:
    """Our registration and sampling of voxels; it starts from the last pose, or after a reset from a standstill."""

    def __init__(self, template: Float32Array, affine: Float64Array) -> None:
        x, y, z = template.shape
        self._affine = affine
        self._all = Sampler(np.argwhere(np.ones(template.shape)).astype(np.int32), (x, y, z), SamplingSettings())
        self.registration = Registration(template, affine, (x, y, z), affine, MotionSettings())
        bright = np.argwhere(template > np.percentile(template, 90)).astype(np.int32)
        voxels = bright[np.linspace(0, len(bright) - 1, N_VOXELS).astype(int)]
        self._sampler = Sampler(voxels, (x, y, z), SamplingSettings())
        self.estimate_and_sample(template)  # compiles kernels

    def estimate(self, volume: Float32Array) -> Float64Array:
        """Estimate the pose, shape (4, 4), template millimetres to volume millimetres."""
        alignment = self.registration.align(volume)
        assert not alignment.problem, alignment.problem
        return alignment.pose

    def estimate_and_sample(self, volume: Float32Array) -> Float64Array:
        """Estimate the pose, and sample the decoder's voxels with it."""
        return self._sampled(volume, self._sampler)

    def estimate_and_reslice(self, volume: Float32Array) -> Float64Array:
        """Estimate the pose, and sample all voxels with it."""
        return self._sampled(volume, self._all)

    def _sampled(self, volume: Float32Array, sampler: Sampler) -> Float64Array:
        pose = self.estimate(volume)
        sampler.sample(volume, np.linalg.inv(self._affine) @ pose @ self._affine)
        return pose


def synthetic_figures(scanner: HeadScanner, n_small: int, n_large: int) -> dict[str, float]:
    """Measure errors and times of all methods on the same volumes."""
    rng = np.random.default_rng(0)
    still = scanner.scan(np.zeros(3), np.zeros(3))
    small = [scanner.scan(rng.uniform(-2, 2, 3), rng.uniform(-1.5, 1.5, 3)) for _ in range(n_small)]
    large = [scanner.scan(rng.uniform(-5, 5, 3), rng.uniform(-5, 5, 3)) for _ in range(n_large)]
    template = with_noise(still.image, 0.01, 99)
    ours, spm, itk, elastix = (make(template, scanner.affine) for make in (Ours, Rtspm, SimpleItk, Elastix))
    quick = SimpleItk(template, scanner.affine, share=0.05)
    methods: dict[str, Callable[[Float32Array], Float64Array]] = {
        "motion": ours.estimate_and_sample, "realign": ours.estimate, "reslice": ours.estimate_and_reslice,
        "rtspm": spm.estimate, "rtspm_reslice": spm.estimate_and_reslice, "simpleitk": itk.estimate,
        "simpleitk_quick": quick.estimate, "elastix": elastix.estimate,
    }  # fmt: skip
    own = ("motion", "realign", "reslice")
    times: dict[str, list[float]] = {name: [] for name in (*methods, *(f"{name}_one_thread" for name in own))}
    pose_errors: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for k, head in enumerate(small):
        volume = with_noise(head.image, 0.01, k)
        for name, method in methods.items():
            pose = _timed(ours, method, volume, times[name])
            pose_errors[name].append(errors(pose, head.pose, scanner.centre_mm))
        with _one_thread():
            for name in own:
                _timed(ours, methods[name], volume, times[f"{name}_one_thread"])
    figures: dict[str, float] = {f"{name}_ms": float(np.median(taken)) for name, taken in times.items()}
    for name, found in pose_errors.items():
        in_mm, in_deg = np.array(found).max(axis=0)
        figures |= {f"{name}_max_error_mm": in_mm, f"{name}_max_error_deg": in_deg}
    for peer, own_part in PAIRS.items():
        for threads in ("", "_one_thread"):
            ratio = np.median(np.array(times[peer]) / times[f"{own_part}{threads}"])
            figures[f"{own_part}_speedup_vs_{peer}{threads}"] = float(ratio)
    large_errors = []
    for k, head in enumerate(large):
        ours.registration.reset()
        pose = ours.estimate_and_sample(with_noise(head.image, 0.02, 100 + k))
        large_errors.append(errors(pose, head.pose, scanner.centre_mm))
    in_mm, in_deg = np.array(large_errors).max(axis=0)
    return {**figures, "motion_5mm_max_error_mm": in_mm, "motion_5mm_max_error_deg": in_deg}


def _timed(
    ours: Ours, method: Callable[[Float32Array], Float64Array], volume: Float32Array, times: list[float]
) -> Float64Array:
    """Estimate a pose from a standstill, and note the milliseconds."""
    ours.registration.reset()
    start = time.perf_counter()
    pose = method(volume)
    times.append(1e3 * (time.perf_counter() - start))
    return pose


@contextmanager
def _one_thread() -> Iterator[None]:
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def size_figures(name: str, scanner: HeadScanner) -> dict[str, float]:
    """Measure times of all quick methods on a larger volume of one motion, and our error on it."""
    still, moved = scanner.scan(np.zeros(3), np.zeros(3)), scanner.scan(np.array([0.4, -0.3, 0.5]), np.full(3, 0.3))
    template, volume = with_noise(still.image, 0.01, 99), with_noise(moved.image, 0.01, 0)
    ours, spm, elastix = (make(template, scanner.affine) for make in (Ours, Rtspm, Elastix))
    quick = SimpleItk(template, scanner.affine, share=0.05)

    def milliseconds(method: Callable[[Float32Array], Float64Array], n: int) -> float:
        taken: list[float] = []
        for _ in range(n):
            _timed(ours, method, volume, taken)
        return float(np.median(taken))

    sampled_ms, realigned_ms = milliseconds(ours.estimate_and_sample, 20), milliseconds(ours.estimate, 20)
    in_mm, in_deg = errors(ours.estimate_and_sample(volume), moved.pose, scanner.centre_mm)
    return {
        f"motion_ms_{name}": sampled_ms,
        f"motion_error_mm_{name}": in_mm,
        f"motion_error_deg_{name}": in_deg,
        f"realign_speedup_vs_rtspm_{name}": milliseconds(spm.estimate, 2) / realigned_ms,
        f"reslice_speedup_vs_rtspm_{name}": milliseconds(spm.estimate_and_reslice, 2)
        / milliseconds(ours.estimate_and_reslice, 5),
        f"realign_speedup_vs_simpleitk_quick_{name}": milliseconds(quick.estimate, 2) / realigned_ms,
        f"realign_speedup_vs_elastix_{name}": milliseconds(elastix.estimate, 2) / realigned_ms,
    }


def real_figures(data: Path) -> dict[str, float]:
    """Measure agreement with SPM12 and SimpleITK on real series, and errors on real heads moved by known motion."""
    siemens = open_source(data / "siemens-run" / "dicom")
    spm = compare(siemens, siemens.run.affine, np.loadtxt(data / "siemens-run" / "spm_motion.tsv", skiprows=1))
    figures = {name: spm[name] for name in ("spm_median_diff_mm", "spm_max_diff_mm")}
    localizer = open_source(next((data / "studyforrest-localizer").glob("*_bold.nii.gz")))
    for name, source in {"siemens": siemens, "studyforrest": localizer}.items():
        volumes = [volume.data.astype(np.float32) for volume in source]
        template, affine = volumes[0], source.run.affine
        ours, itk, points = Ours(template, affine), SimpleItk(template, affine), brain_points(template, affine)
        apart = []
        for k, volume in enumerate(volumes):
            pose = ours.estimate_and_sample(volume)
            if k and k % 12 == 0:
                difference = points @ (pose - itk.estimate(volume)).T
                apart.append(np.linalg.norm(difference[:, :3], axis=1).mean())
        figures |= {f"simpleitk_median_diff_mm_{name}": np.median(apart), f"simpleitk_max_diff_mm_{name}": max(apart)}
    mosaics = [open_source(data / folder) for folder in ("siemens-mosaic", "siemens-cmrr-mosaic/dicom")]
    heads = [siemens, localizer, *mosaics]
    for name, reach, turn_deg, seeds in (("real_moved", 2.0, 1.5, (0, 1)), ("real_moved_5mm", 5.0, 5.0, (2,))):
        pose_errors = [moved_by_sinc(head, reach, turn_deg, seed) for head in heads for seed in seeds]
        in_mm, in_deg = np.max(pose_errors, axis=0)
        figures |= {f"{name}_max_error_mm": in_mm, f"{name}_max_error_deg": in_deg}
    return figures


def moved_by_sinc(source: Source, reach_mm: float, turn_deg: float, seed: int) -> tuple[float, float]:
    """Measure the error for a real volume that was moved at random through a sinc under a Hann window of ±6 voxels."""
    image, affine = next(iter(source)).data.astype(np.float32), source.run.affine
    ours, rng = Ours(image, affine), np.random.default_rng(seed)
    centre_mm = ours.registration.centre_mm
    pose = rigid(rng.uniform(-reach_mm, reach_mm, 3), np.radians(rng.uniform(-turn_deg, turn_deg, 3)), centre_mm)
    ours.registration.reset()
    estimated = ours.estimate_and_sample(_sinc(image, np.linalg.inv(affine) @ np.linalg.inv(pose) @ affine))
    return errors(estimated, pose, centre_mm)


def _sinc(image: Float32Array, mapping: Float64Array, radius: int = 6) -> Float32Array:
    """Interpolate an image at mapped voxels; beyond the edges the outer voxels repeat."""
    padded = np.pad(image.astype(np.float64), radius, mode="edge")
    where = (mapping[:3, :3] @ np.indices(image.shape).reshape(3, -1) + mapping[:3, 3:]).T
    where = np.clip(where, -1, np.array(image.shape) - 1e-9)  # no further out than the padding reaches
    first = np.floor(where).astype(int) + 1  # place of the first tap in the padded image
    taps = np.arange(2 * radius)
    distance = (where - np.floor(where))[:, :, np.newaxis] - (taps - radius + 1)
    weights = np.sinc(distance) * np.cos(np.pi * distance / (2 * radius)) ** 2 * (np.abs(distance) < radius)
    weights /= weights.sum(axis=2, keepdims=True)
    out = np.zeros(len(where))
    for a in taps:
        for b in taps:
            rows = padded[first[:, 0] + a, first[:, 1] + b]
            along = np.take_along_axis(rows, first[:, 2:] + taps, axis=1)
            out += weights[:, 0, a] * weights[:, 1, b] * np.einsum("pt,pt->p", along, weights[:, 2])
    return out.reshape(image.shape).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
