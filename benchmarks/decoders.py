"""Speed of decoder fits, against fastl2lir 0.11 and against the equations of sparse regression in plain NumPy.

The data have the study's size: 1,200 samples, 4,500 voxels, layers of 1,000 units, 500 selected voxels for each unit.
Voxels and units are mixtures of the same 60 components and noise of their own; the signal's share differs widely
between voxels, as it does in a cortex, so that units select many voxels in common. All decoders are fitted to the same
samples, z-scored beforehand because fastl2lir would otherwise penalise the intercept. The plain loop is timed on a few
units, and its time per unit is compared with ours on many; it runs with BLAS's own number of threads and with one, and
the quicker time counts.

    python -m benchmarks.decoders [--units N] [--json PATH]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from fastl2lir import FastL2LiR
from threadpoolctl import threadpool_limits

from benchmarks.figures import print_all, write_json
from benchmarks.peers import versions
from calibration.decoders.columns import standardised
from calibration.decoders.ridge import fit_layers
from calibration.decoders.selected_ridge import SelectedRidge
from calibration.decoders.slr import SparseRegression
from rtgod.messages import Float64Array
from tests import naive

N_SAMPLES, N_VOXELS, N_SELECTED, N_LAYERS = 1200, 4500, 500, 8
N_COMPONENTS = 60
ALPHA = 100.0
N_CORES = os.cpu_count() or 1
#: Number of units of sparse regression, ours and in plain NumPy, and of fastl2lir beside eight layers of ridge.
N_SPARSE, N_PLAIN, N_FEW = 100, 2, 100
#: Number of turns, whose best time counts, as other programs may use the machine.
N_TURNS = 4
_T = TypeVar("_T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoders", description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=1000, help="of a layer; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    X, Y = samples(options.units)
    compile_all(X[:60, :40], Y[:60, :4])
    figures = selected_ridge(X, Y) | sparse_regression(X, Y) | ridge(X, Y)
    told = {**figures, **versions("fastl2lir", "numpy", "numba")}
    print_all(told)
    if options.json:
        write_json(options.json, told)
    return 0


def samples(n_units: int) -> tuple[Float64Array, Float64Array]:
    """Draw z-scored voxels, shape (n_samples, n_voxels), and units, shape (n_samples, n_units)."""
    rng = np.random.default_rng(0)
    components = rng.standard_normal((N_SAMPLES, N_COMPONENTS)) / np.sqrt(1 + np.arange(N_COMPONENTS))

    def mixtures(n: int, signal: Float64Array) -> Float64Array:
        mixed = standardised(components @ rng.standard_normal((N_COMPONENTS, n)))[0]
        return standardised(np.sqrt(signal) * mixed + np.sqrt(1 - signal) * rng.standard_normal(mixed.shape))[0]

    return mixtures(N_VOXELS, rng.beta(0.5, 4, N_VOXELS)), mixtures(n_units, np.full(n_units, 0.6))


def compile_all(X: Float64Array, Y: Float64Array) -> None:
    """Compile the kernels, or load them from the cache, and start the threads."""
    for model in (SelectedRidge(10), SparseRegression(10, 20)):
        model.fit(X, Y)


def selected_ridge(X: Float64Array, Y: Float64Array) -> dict[str, float]:
    """Time ridge on selected voxels, and fastl2lir, on all units: best times of a few turns, and largest difference.

    Both are timed in one thread, and at their best. fastl2lir pins its BLAS to one thread, so at its best each core has
    a process of its own that fits a share of the units; ours uses all threads.
    """
    times: dict[str, list[float]] = {name: [] for name in ("ours", "ours_one", "theirs_one", "theirs")}
    with processes(X, Y) as pool:
        for _ in range(N_TURNS):
            ours, taken_s = timed(lambda: SelectedRidge(N_SELECTED, ALPHA).fit(X, Y))
            times["ours"].append(taken_s)
            with one_thread():
                _, taken_s = timed(lambda: SelectedRidge(N_SELECTED, ALPHA).fit(X, Y))
                times["ours_one"].append(taken_s)
                theirs, taken_s = timed(lambda: fit_theirs(X, Y))
            times["theirs_one"].append(taken_s)
            _, taken_s = timed(lambda: list(pool.map(_fit_share, range(N_CORES))))
            times["theirs"].append(min(taken_s, times["theirs_one"][-1]))
    best = {name: min(taken) for name, taken in times.items()}
    return {
        "ridge_select_speedup_vs_fastl2lir_one_thread": best["theirs_one"] / best["ours_one"],
        "ridge_select_speedup_vs_fastl2lir_at_best": best["theirs"] / best["ours"],
        "ridge_select_max_abs_diff": float(np.abs(ours.predict(X) - theirs.predict(X)).max()),
        "ridge_select_s": best["ours"],
        "ridge_select_one_thread_s": best["ours_one"],
        "fastl2lir_s": best["theirs"],
        "fastl2lir_one_thread_s": best["theirs_one"],
        "n_cores": float(N_CORES),
        "n_units": float(Y.shape[1]),
    }


def fit_theirs(X: Float64Array, Y: Float64Array) -> FastL2LiR:
    """Fit fastl2lir."""
    return FastL2LiR().fit(X, Y, alpha=ALPHA, n_feat=N_SELECTED)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS and our kernels use one thread."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        numba.set_num_threads(before)


@contextmanager
def processes(X: Float64Array, Y: Float64Array) -> Iterator[ProcessPoolExecutor]:
    """Start a process for each core, which has the samples and has imported what it needs."""
    shares = [np.ascontiguousarray(share) for share in np.array_split(Y, N_CORES, axis=1)]
    # Processes that share nothing: forked ones would have the threads of this one's libraries.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(N_CORES, context, _begin, (X, shares, N_SELECTED)) as pool:
        list(pool.map(_fit_share, [0] * N_CORES))
        yield pool


_GIVEN: dict[str, Any] = {}


def _begin(X: Float64Array, shares: Sequence[Float64Array], n_selected: int) -> None:
    _GIVEN.update(X=X, shares=shares, n_selected=n_selected)


def _fit_share(number: int) -> None:
    FastL2LiR().fit(_GIVEN["X"], _GIVEN["shares"][number], alpha=ALPHA, n_feat=_GIVEN["n_selected"])


def sparse_regression(X: Float64Array, Y: Float64Array) -> dict[str, float]:
    """Time sparse regression of some units, and the plain equations for a few of them; compare predictions."""
    ours, before_s = timed(lambda: SparseRegression(N_SELECTED).fit(X, Y[:, :N_SPARSE]))
    weights, plain_s = timed(lambda: plain_sparse_regression(X, Y[:, :N_PLAIN]))
    with threadpool_limits(1, user_api="blas"):
        _, alone_s = timed(lambda: plain_sparse_regression(X, Y[:, :N_PLAIN]))
    _, after_s = timed(lambda: SparseRegression(N_SELECTED).fit(X, Y[:, :N_SPARSE]))
    difference = X @ weights - ours.predict(X)[:, :N_PLAIN]
    ours_unit_s, plain_unit_s = min(before_s, after_s) / len(ours.y_mean_), min(plain_s, alone_s) / N_PLAIN
    return {
        "slr_speedup_vs_numpy": plain_unit_s / ours_unit_s,
        "slr_max_abs_diff": float(np.abs(difference).max()),
        "slr_unit_s": ours_unit_s,
        "slr_numpy_unit_s": plain_unit_s,
        "slr_voxels_per_unit": ours.coef_.nnz / len(ours.y_mean_),
    }


def plain_sparse_regression(X: Float64Array, Y: Float64Array) -> Float64Array:
    """Fit weights, shape (n_voxels, n_units), by the tests' reference, on the voxels that each unit selects."""
    weights = np.zeros((X.shape[1], Y.shape[1]))
    for y, of_unit in zip(Y.T, weights.T, strict=True):
        selected = np.argsort(-np.abs(y @ X))[:N_SELECTED]
        of_unit[selected] = naive.sparse_regression(X[:, selected], y)
    return weights


def ridge(X: Float64Array, Y: Float64Array) -> dict[str, float]:
    """Time ridge on all voxels for eight layers, and fastl2lir on a few units."""
    layers = {f"layer {k}": np.roll(Y, k, axis=1) for k in range(N_LAYERS)}
    _, ours_s = timed(lambda: fit_layers(X, layers, dict.fromkeys(layers, float(X.shape[1]))))
    _, theirs_s = timed(lambda: fit_theirs(X, Y[:, :N_FEW]))
    return {"ridge_8000_units_s": ours_s, "fastl2lir_100_units_s": theirs_s}


def timed(work: Callable[[], _T]) -> tuple[_T, float]:
    """Return the result of `work`, and the seconds that it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
