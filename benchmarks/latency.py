"""Time of a whole step, compared with the machine's limit, over a long session.

A step takes one volume to its ranking at the size of the paper: 4,500 voxels, eight layers of 1,000 units, 15,372
candidates, 1,200 training samples. The floor is the time of one pass over the same weights and candidate features with
BLAS plus one read of the volume; it is timed between the steps, so that both meet the same machine.

    python -m benchmarks.latency [--volumes N] [--json PATH]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# `rtgod serve` sets this, too, before the first kernel starts OpenMP.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np

from benchmarks.figures import print_all, write_json
from calibration.simulation.head import build_head
from calibration.simulation.resample import resample
from rtgod.bundle import DecoderBundle
from rtgod.candidates import Candidate
from rtgod.decoding.decoder import LayerDecoder
from rtgod.messages import Array, Block, Float32Array, Ranking, Run, RunEnd, Volume
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.geometry import rigid
from rtgod.preprocessing.noise_model import NoiseCovariance
from rtgod.preprocessing.preprocessor import Noise
from rtgod.server.session import Session
from rtgod.server.warmup import warm_up
from rtgod.settings import PipelineSettings

N_VOXELS, N_LAYERS, N_UNITS, N_CANDIDATES, N_SAMPLES = 4500, 8, 1000, 15_372, 1200
SIZES = {"64x64x50": ((64, 64, 50), 3.0), "110x110x72": ((110, 110, 72), 2.0), "100x100x100": ((100, 100, 100), 2.0)}
TR_S, VOLUMES_PER_RUN = 3.0, 178
BLOCKS = tuple(Block(33.0 + 9 * n, 9.0) for n in range(55))
STAGES = ("convert", "align", "sample", "denoise", "window", "whiten", "decode", "rank")
#: Number of steps after which a floor is timed.
_FLOOR_EVERY = 25
#: Time that BLAS's threads spin for more work, on the cores that the next step needs, seconds.
_BLAS_SPINS_S = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=int, default=10_000, help="of the paper's size; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    warm_up()
    figures: dict[str, float] = {}
    for name, (shape, voxel_mm) in SIZES.items():
        paper = name == "64x64x50"
        measured = measure(shape, voxel_mm, options.volumes if paper else min(options.volumes, 400))
        figures |= {key if paper else f"{key}_{name}": value for key, value in measured.items()}
    print_all(figures)
    if options.json:
        write_json(options.json, figures)
    return 0


def measure(shape: tuple[int, int, int], voxel_mm: float, n_volumes: int) -> dict[str, float]:
    """Measure times of steps and floors in milliseconds, their ratios, and the growth of memory over the volumes."""
    head = build_head(shape, (voxel_mm,) * 3)
    volumes = moving_head(head.template, head.affine)
    bundle = paper_bundle(head.template, head.affine, np.argwhere(head.grey > 0.5))
    session = Session(bundle)
    pass_over = floor_of(bundle, volumes[0])
    # Times are kept in arrays made beforehand, so that they add nothing to the growth of memory.
    steps, n_steps = np.zeros(n_volumes), 0
    stages = {stage: np.full(n_volumes, np.nan) for stage in STAGES}
    floors, memory_mb = [], []
    for number, messages in enumerate(runs(shape, head.affine, volumes, n_volumes)):
        for message in messages:
            start = time.perf_counter()
            answers = [answer for answer, _ in session.handle(message)]
            taken_ms = 1e3 * (time.perf_counter() - start)
            if answers and isinstance(answers[0], Ranking):
                steps[n_steps] = taken_ms
                for stage, ms in answers[0].stage_ms.items():
                    stages[stage][n_steps] = ms
                n_steps += 1
                if n_steps % _FLOOR_EVERY == 0:
                    start = time.perf_counter()
                    pass_over()
                    floors.append(1e3 * (time.perf_counter() - start))
                    time.sleep(_BLAS_SPINS_S)
        if number:  # the first run fills caches and pools
            memory_mb.append(resident_mb())
    (p50, p99), floor = np.percentile(steps[:n_steps], (50, 99)), np.median(floors)
    return {
        "step_median_over_floor": p50 / floor,
        "step_p99_over_floor": p99 / floor,
        "step_median_ms": p50,
        "step_p99_ms": p99,
        "floor_ms": floor,
        "floor_p99_ms": np.percentile(floors, 99),
        "rss_growth_mb": memory_mb[-1] - memory_mb[0] if memory_mb else 0.0,
        "n_volumes": float(n_volumes),
        **{f"stage_{stage}_ms": float(np.nanmedian(ms)) for stage, ms in stages.items()},
    }


def runs(
    shape: tuple[int, int, int], affine: Array, volumes: Sequence[Array], n_volumes: int
) -> Iterator[Iterator[Run | Volume | RunEnd]]:
    """Yield the messages of run after run, with `n_volumes` volumes in all."""
    for number, first in enumerate(range(0, n_volumes, VOLUMES_PER_RUN)):
        n = min(VOLUMES_PER_RUN, n_volumes - first)
        yield _run(Run(f"run-{number}", "none", TR_S, shape, affine, VOLUMES_PER_RUN, BLOCKS), volumes, n)


def _run(run: Run, volumes: Sequence[Array], n: int) -> Iterator[Run | Volume | RunEnd]:
    yield run
    for index in range(n):
        yield Volume(run.run_id, index, index * run.tr_s, volumes[index % len(volumes)])
    yield RunEnd(run.run_id, n)


def moving_head(template: Float32Array, affine: Array, n: int = 30) -> list[Array]:
    """Make volumes of a head that moves by tenths of a millimetre, with noise, as int16."""
    rng = np.random.default_rng(0)
    steps = np.cumsum(rng.normal(0, 0.04, (n, 6)), axis=0)
    centre_mm = (affine @ [*(np.array(template.shape) - 1) / 2, 1])[:3]
    volumes = []
    for step in steps:
        pose = rigid(step[:3], np.radians(step[3:]), centre_mm)
        moved = resample(np.array(template), np.linalg.inv(affine) @ np.linalg.inv(pose) @ affine)
        noisy = moved + rng.normal(0, 10, template.shape)
        volumes.append(np.rint(np.abs(noisy)).astype(np.int16))
    return volumes


def paper_bundle(template: Float32Array, affine: Array, cortex: Array) -> DecoderBundle:
    """Make a decoder of the paper's size with random weights: its rankings are meaningless, but not its times."""
    rng = np.random.default_rng(1)

    def noise(*shape: int) -> Float32Array:
        return rng.standard_normal(shape, np.float32)

    voxels = cortex[np.linspace(0, len(cortex) - 1, N_VOXELS).astype(int)].astype(np.int32)
    names = [f"cnn{k}" for k in range(1, N_LAYERS + 1)]
    settings = PipelineSettings()
    n_components = settings.noise.n_components
    shape = NoiseCovariance(
        np.ones(N_VOXELS, np.float32), noise(n_components, N_VOXELS), np.ones(n_components, np.float32)
    )
    return DecoderBundle(
        reference=Reference(np.array(template), affine, voxels),
        patterns=noise(N_SAMPLES, N_VOXELS),
        voxel_mean=noise(N_VOXELS),
        voxel_sd=np.ones(N_VOXELS, np.float32),
        layers={
            name: LayerDecoder(noise(N_UNITS, N_SAMPLES), noise(N_UNITS), np.ones(N_UNITS, np.float32))
            for name in names
        },
        candidates=tuple(Candidate(str(i), f"category {i}") for i in range(N_CANDIDATES)),
        candidate_features={name: noise(N_CANDIDATES, N_UNITS) for name in names},
        noise=Noise(shape),
        settings=settings,
        provenance={},
    )


def floor_of(bundle: DecoderBundle, volume: Array) -> Callable[[], None]:
    """Return a function that passes over all weights and candidate features with BLAS, and reads the volume once."""
    pattern, similarity = np.ones(N_VOXELS, np.float32), np.ones(N_SAMPLES, np.float32)
    units = np.ones(N_UNITS, np.float32)

    def pass_over() -> None:
        volume.max()
        bundle.patterns @ pattern
        for layer in bundle.layers.values():
            layer.dual @ similarity
        for features in bundle.candidate_features.values():
            features @ units

    return pass_over


def resident_mb() -> float:
    """Return the resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(main())
