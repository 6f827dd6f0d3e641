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
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from fastl2lir import FastL2LiR
from threadpoolctl import threadpool_limits

from benchmarks.figures import print_all, write_json
from calibration.decoders.columns import standardised
from calibration.decoders.ridge import fit_layers
from calibration.decoders.selected_ridge import SelectedRidge
from calibration.decoders.slr import SparseRegression
from rtgod.messages import Float64Array
from tests import naive

N_SAMPLES, N_VOXELS, N_SELECTED, N_LAYERS = 1200, 4500, 500, 8
N_COMPONENTS = 60
ALPHA = 100.0
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
    print_all(figures)
    if options.json:
        write_json(options.json, figures)
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
    """Time ridge on selected voxels, and fastl2lir, on all units: best times of a few turns, and largest difference."""
    ours_s, theirs_s = [], []
    for _ in range(N_TURNS):
        ours, taken_s = timed(lambda: SelectedRidge(N_SELECTED, ALPHA).fit(X, Y))
        ours_s.append(taken_s)
        theirs, taken_s = timed(lambda: FastL2LiR().fit(X, Y, alpha=ALPHA, n_feat=N_SELECTED))
        theirs_s.append(taken_s)
    return {
        "ridge_select_speedup_vs_fastl2lir": min(theirs_s) / min(ours_s),
        "ridge_select_max_abs_diff": float(np.abs(ours.predict(X) - theirs.predict(X)).max()),
        "ridge_select_s": min(ours_s),
        "fastl2lir_s": min(theirs_s),
        "n_units": float(Y.shape[1]),
    }


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
    _, theirs_s = timed(lambda: FastL2LiR().fit(X, Y[:, :N_FEW], alpha=ALPHA, n_feat=N_SELECTED))
    return {"ridge_8000_units_s": ours_s, "fastl2lir_100_units_s": theirs_s}


def timed(work: Callable[[], _T]) -> tuple[_T, float]:
    """Return the result of `work`, and the seconds that it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
