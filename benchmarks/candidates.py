"""Search of a million candidates by a shortlist, against scoring every one of them.

Candidates are images: 15,625 categories of 64 each, in two layers of 256 units with the spectrum of natural images
(the variance of the k-th component falls as 1/k); a category's mean holds 40 % of an image's variance. A query is the
mean of a category as it is decoded: it correlates with the true mean by 0.2 to 0.4, the rest is noise of that spectrum.
The exact search is our own pass over all rows, on all cores; both searches are timed in turn on each query.

    python -m benchmarks.candidates [--candidates N] [--json PATH]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# `rtgod serve` sets this, too, before the first kernel starts OpenMP.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np

from benchmarks.figures import print_all, write_json
from rtgod.decoding.category_index import CategoryIndex
from rtgod.decoding.decoder import LayerDecoder
from rtgod.messages import Array, Features, Float32Array

LAYERS = ("conv5", "fc7")
N_UNITS, N_PER_CATEGORY, N_QUERIES = 256, 64, 100
CATEGORY_SHARE, LEAST_R, MOST_R = 0.4, 0.2, 0.4
#: Number of first candidates among which recall is counted.
N_FIRST = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.candidates", description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=1_000_000, help="how many images; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    figures = measure(options.candidates)
    print_all(figures)
    if options.json:
        write_json(options.json, figures)
    return 0


def measure(n_candidates: int) -> dict[str, float]:
    """Measure the recall of the exact first ten, and times in milliseconds, over the queries."""
    images, queries = drawn(n_candidates)
    unit = np.ones(N_UNITS, np.float32)
    layers = dict.fromkeys(LAYERS, LayerDecoder(np.empty((N_UNITS, 0), np.float32), 0 * unit, unit))
    start = time.perf_counter()
    index = CategoryIndex(images, layers, search="shortlist")
    build_s = time.perf_counter() - start
    if index.n_ranked == n_candidates:
        raise SystemExit(f"{n_candidates} candidates are searched exactly; more are needed to compare")
    del images
    recalls, exact_ms, shortlist_ms = [], [], []
    for number, query in enumerate(queries):
        start = time.perf_counter()
        scores = index.scores(query)
        exact_first = np.argpartition(-scores, N_FIRST)[:N_FIRST]
        between = time.perf_counter()
        order, _ = index.top(query, N_FIRST)
        end = time.perf_counter()
        if number:  # the first query compiles kernels
            exact_ms.append(1e3 * (between - start))
            shortlist_ms.append(1e3 * (end - between))
            recalls.append(np.isin(exact_first, order).mean())
    return {
        "faiss_recall_at_10": float(np.mean(recalls)),
        "faiss_speedup_vs_exact": float(np.median(exact_ms) / np.median(shortlist_ms)),
        "n_candidates": n_candidates,
        "build_s": build_s,
        "index_mb": index.shortlist_mb,
        "exact_ms": float(np.median(exact_ms)),
        "faiss_ms": float(np.median(shortlist_ms)),
        "faiss_p99_ms": float(np.percentile(shortlist_ms, 99)),
        "rows_mb": n_candidates * len(LAYERS) * N_UNITS * 4 / 2**20,
    }


def drawn(n_candidates: int, seed: int = 0) -> tuple[Mapping[str, Float32Array], list[Features]]:
    """Draw features of images, shape (n_candidates, n_units) in each layer, and decoded features for the queries."""
    rng = np.random.default_rng(seed)
    n_categories = -(-n_candidates // N_PER_CATEGORY)
    shown, r = rng.integers(0, n_categories, N_QUERIES), rng.uniform(LEAST_R, MOST_R, (N_QUERIES, 1))
    images: dict[str, Float32Array] = {}
    decoded: dict[str, Array] = {}
    for name in LAYERS:
        to_units = _spectrum(rng)
        means = rng.standard_normal((n_categories, N_UNITS), np.float32)
        images[name] = np.empty((n_candidates, N_UNITS), np.float32)
        for start in range(0, n_candidates, N_PER_CATEGORY * 256):
            positions = np.arange(start, min(start + N_PER_CATEGORY * 256, n_candidates))
            scatter = rng.standard_normal((positions.size, N_UNITS), np.float32)
            mixed = CATEGORY_SHARE**0.5 * means[positions // N_PER_CATEGORY] + (1 - CATEGORY_SHARE) ** 0.5 * scatter
            images[name][positions] = mixed @ to_units
        noise = rng.standard_normal((N_QUERIES, N_UNITS))
        decoded[name] = ((r * means[shown] + np.sqrt(1 - r**2) * noise) @ to_units).astype(np.float32)
    return images, [Features(i, {name: rows[i] for name, rows in decoded.items()}) for i in range(N_QUERIES)]


def _spectrum(rng: np.random.Generator) -> Float32Array:
    """Draw a matrix from components to units, shape (n_units, n_units); components' SDs fall as 1/√k."""
    directions = np.linalg.qr(rng.standard_normal((N_UNITS, N_UNITS)))[0]
    sd = 1 / np.sqrt(np.arange(1, N_UNITS + 1))
    return (sd[:, np.newaxis] / np.sqrt(np.square(sd).mean()) * directions).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
