"""Nearest four of many pictures, against one pass of BLAS over the same pictures in single precision.

Pictures are images as in `benchmarks.candidates`: two layers of 256 units with the spectrum of natural images, 512
dimensions together. A query is the mean of 64 images as it is decoded. The whole of a ranking's stage "pictures" is
timed: standardising the decoded features, the search, and the chances. Search and BLAS take turns on each query; that
both find the same four is checked. The reduction of 5,000 units to 512 dimensions, which a larger decoder needs before
the search, is timed alone.

    python -m benchmarks.pictures [--pictures N] [--queries N] [--json PATH]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# `rtgod serve` sets this, too, before the first kernel starts OpenMP.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# OpenBLAS's threads spin for some 30 ms after a product, on the core that the next search needs.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

import numpy as np

from benchmarks import candidates
from benchmarks.figures import print_all, write_json
from rtgod.decoding.chances import Chances, Weight
from rtgod.decoding.correlation import correlate
from rtgod.decoding.decoder import LayerDecoder
from rtgod.decoding.picture_index import N_NEAREST, Pictures, matched_rows

_CHANCES = Chances((), (None, Weight(2.0, 0.1, 0.0)), (0.0, 0.0), (1, 9), (2, 300))
_N_UNITS, _N_DIMENSIONS = 5_000, 512


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100_000, help="how many; default: %(default)s")
    parser.add_argument("--queries", type=int, default=300, help="how many; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    figures = measure(options.pictures, options.queries)
    print_all(figures)
    if options.json:
        write_json(options.json, figures)
    return 0


def measure(n_pictures: int, n_queries: int) -> dict[str, float]:
    """Measure times in milliseconds; raise SystemExit if the search and BLAS differ."""
    images, queries = candidates.drawn(n_pictures)
    unit = np.ones(candidates.N_UNITS, np.float32)
    layers = dict.fromkeys(candidates.LAYERS, LayerDecoder(np.empty((unit.size, 0), np.float32), 0 * unit, unit))
    weights = dict.fromkeys(candidates.LAYERS, 1.0)
    names = tuple(map(str, range(n_pictures)))
    pictures = Pictures(names, matched_rows(images, layers, weights), weights, None, _CHANCES)
    del images
    start = time.perf_counter()
    pictures.search.nearest(pictures.codes[0], N_NEAREST)
    build_s = time.perf_counter() - start
    ours_ms, blas_ms = [], []
    for number in range(n_queries + 1):
        features = queries[number % len(queries)]
        start = time.perf_counter()
        nearest = pictures.nearest(features, layers, 3)
        between = time.perf_counter()
        scores = pictures.codes @ (query := pictures.query(features, layers))
        end = time.perf_counter()
        first = np.argsort(-scores, kind="stable")[:N_NEAREST]
        if not np.allclose([each.score for each in nearest], scores[first], atol=1e-5):
            raise SystemExit(f"query {number}: {nearest} found, and {first.tolist()} are nearer")
        if number:  # the first query compiles kernels
            ours_ms.append(1e3 * (between - start))
            blas_ms.append(1e3 * (end - between))
    basis = np.random.default_rng(0).standard_normal((_N_DIMENSIONS, _N_UNITS)).astype(np.float32)
    query, ends, reduce_ms = basis[0].copy(), np.array([_N_UNITS]), []
    for _ in range(n_queries):
        start = time.perf_counter()
        correlate(basis, query, ends)
        reduce_ms.append(1e3 * (time.perf_counter() - start))
    return {
        "picture_ms_p99": float(np.percentile(ours_ms, 99)),
        "picture_ms": float(np.median(ours_ms)),
        "picture_ms_least": min(ours_ms),
        "blas_ms": float(np.median(blas_ms)),
        "blas_ms_least": min(blas_ms),
        "picture_over_blas": float(np.median(ours_ms) / np.median(blas_ms)),
        "picture_p99_over_blas_p99": float(np.percentile(ours_ms, 99) / np.percentile(blas_ms, 99)),
        "reduce_ms": float(np.median(reduce_ms)),
        "n_pictures": n_pictures,
        "n_dimensions": pictures.codes.shape[1],
        "build_s": build_s,
        "copies_mb": pictures.codes.size / 2**20,
        "codes_mb": pictures.codes.nbytes / 2**20,
    }


if __name__ == "__main__":
    sys.exit(main())
