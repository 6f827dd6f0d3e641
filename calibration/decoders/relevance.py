"""Automatic relevance determination of one unit: the steps of sparse linear regression, with work only for changes.

For z-scored voxels X (n_voxels, n_samples), a z-scored unit y (n_samples,) and prior variances A in units of the
noise's, a step is (Horikawa & Kamitani 2017)

    S = XXᵀ + diag(1/A),  W = S⁻¹Xy,  G = diag(XXᵀS⁻¹),
    σ² = (y·y − W·Xy) / n_samples,  A ← √(A · (W²/σ²) / G),

and a voxel is pruned once A/max A ≤ 1e-10. While there are more voxels than samples, S⁻¹ is computed by way of
C = XᵀAX + 1 (n_samples, n_samples). After that no step needs the samples, and few steps need a new inverse: only the
diagonal of S changes. So the inverse P of an earlier S, with `base` in place of A, is kept. Voxels that have moved
since are updated by rank-one changes of P; the moves of the other voxels are included to the lowest orders.

A voxel's own A is kept apart: if the data give its weight the precision H, with the other voxels in the model, then
diag(S⁻¹) = 1/(1/A + H) and G = AH/(1 + AH), which loses no digits as A vanishes.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from calibration.decoders.cholesky import BLOCK, factorise, invert
from rtgod.messages import Array

_PRUNED = 1e-10
#: Steps end if every prior variance changes by less than this share: further steps would change nothing that matters.
_SETTLED = 1e-10
#: Share of noise below which the fit is exact, so that nothing is left to determine relevance by.
_EXACT = 1e-10
#: If the largest prior variance is below this, no voxel is relevant; on its way to 0 it would run out of digits.
_IRRELEVANT = 1e-30
#: Limit for a voxel that has hardly moved: relative change of its posterior variance times its correlation with all
#: others. Predictions then differ from those of exact steps by less than 1e-6 of a unit's standard deviation.
_HARDLY = 2e-3
#: A new inverse is faster than an update of more than this share of the voxels.
_RENEWED = 0.3
#: Number of steps after which the inverse is always computed anew, so that rounding does not add up.
_RENEWED_AFTER = 200


@njit(cache=True, parallel=True)
def fit_each(gram: Array, X: Array, Y: Array, selected: Array, right: Array, n_steps: int, weights: Array) -> None:
    """Fit units as `fit_unit` does, one on each thread.

    Parameters
    ----------
    gram : ndarray of shape (n_all, n_all), float64
        The upper triangle of XXᵀ.
    X : ndarray of shape (n_all, n_samples), float64
    Y : ndarray of shape (n_units, n_samples), float64
    selected : ndarray of shape (n_units, n_voxels), int
        Indices of each unit's voxels to begin with, ascending.
    right : ndarray of shape (n_units, n_voxels), float64
        Entries of Xy for these voxels.
    n_steps : int
        Maximum number of steps.
    weights : ndarray of shape (n_units, n_voxels), float64
        Filled with the weights.
    """
    for unit in prange(len(selected)):
        fit_unit(gram, X, Y[unit], selected[unit], right[unit], n_steps, weights[unit])


@njit(cache=True)
def fit_unit(gram: Array, X: Array, y: Array, voxels: Array, right: Array, n_steps: int, weights: Array) -> None:
    """Fit the weights of a unit's voxels, 0 for voxels that are pruned.

    Parameters
    ----------
    gram : ndarray of shape (n_all, n_all), float64
        The upper triangle of XXᵀ.
    X : ndarray of shape (n_all, n_samples), float64
    y : ndarray of shape (n_samples,), float64
    voxels : ndarray of shape (n_voxels,), int
        Indices of the voxels to begin with, ascending.
    right : ndarray of shape (n_voxels,), float64
        Entries of Xy for these voxels.
    n_steps : int
        Maximum number of steps.
    weights : ndarray of shape (n_voxels,), float64
        Filled with the weights.
    """
    weights[:] = 0.0
    power = np.dot(y, y)
    # Positions of the surviving voxels in `voxels`; a constant voxel does not survive.
    alive = np.empty(voxels.size, np.int64)
    n = 0
    for position in range(voxels.size):
        if gram[voxels[position], voxels[position]] > 0.0:
            alive[n] = position
            n += 1
    if n == 0 or power == 0.0:
        return
    A, W = np.ones(n), np.zeros(n)
    taken = 0
    if n > y.size:
        n, taken = _among_samples(X, y, voxels, right, power, n_steps, alive, A, W)
    if n <= y.size and taken < n_steps:
        n = _among_voxels(gram, voxels, right, power, y.size, n_steps - taken, alive, A, W, n)
    for i in range(n):
        weights[alive[i]] = W[i]


@njit(cache=True)
def _among_samples(
    X: Array, y: Array, voxels: Array, right: Array, power: float, n_steps: int, alive: Array, A: Array, W: Array
) -> tuple[int, int]:
    """Iterate while there are more voxels than samples; return survivors and steps taken (all, if the fit is exact)."""
    n, n_samples = A.size, y.size
    n_blocks = -(-n_samples // BLOCK)
    size = n_blocks * BLOCK
    scaled, inverted, C, P = np.zeros((n, size)), np.empty((n, size)), np.empty((size, size)), np.empty((size, size))
    columns, rows = np.empty((n_blocks, size, BLOCK)), np.empty((n_blocks, size, BLOCK))
    inverses, spare = np.empty((n_blocks, BLOCK, BLOCK)), np.empty((BLOCK, BLOCK))
    G, b = np.empty(n), np.empty(n)
    for step in range(n_steps):
        for i in range(n):
            scaled[i, :n_samples] = math.sqrt(A[i]) * X[voxels[alive[i]]]
            b[i] = right[alive[i]]
        np.dot(scaled[:n].T, scaled[:n], out=C)
        for j in range(n_blocks):
            columns[j] = C[:, j * BLOCK : (j + 1) * BLOCK]
        for i in range(size):
            columns[i // BLOCK, i, i % BLOCK] += 1.0
        factorise(columns, inverses, spare)
        invert(columns, inverses, rows, spare, P)
        np.dot(scaled[:n], P, out=inverted[:n])
        for i in range(n):
            W[i] = math.sqrt(A[i]) * np.dot(inverted[i, :n_samples], y)
            G[i] = np.dot(inverted[i], scaled[i])
        largest, _ = _update(A, W, G, power, np.dot(W[:n], b[:n]), n_samples, n)
        if largest < _IRRELEVANT:
            return n, n_steps
        survivors = 0
        for i in range(n):
            if A[i] > _PRUNED * largest:
                alive[survivors], A[survivors], W[survivors] = alive[i], A[i], W[i]
                survivors += 1
        n = survivors
        if n <= n_samples:
            return n, step + 1
    return n, n_steps


@njit(cache=True)
def _among_voxels(
    gram: Array,
    voxels: Array,
    right: Array,
    power: float,
    n_samples: int,
    n_steps: int,
    alive: Array,
    A: Array,
    W: Array,
    n: int,
) -> int:
    """Iterate once there are no more voxels than samples; return the number of survivors."""
    n_blocks = -(-n // BLOCK)
    K, b, P = np.empty((n, n)), np.empty(n), np.empty((n_blocks * BLOCK, n_blocks * BLOCK))
    columns, rows = np.empty(P.size), np.empty(P.size)
    inverses, spare = np.empty((n_blocks, BLOCK, BLOCK)), np.empty((BLOCK, BLOCK))
    for i in range(n):
        row = gram[voxels[alive[i]]]
        b[i] = right[alive[i]]
        for j in range(i, n):
            K[i, j] = K[j, i] = row[voxels[alive[j]]]
    # `change` is the change of 1/A since `base`; `at_base` is W with `base` in place of A.
    base, change, at_base, H, G = np.ones(n), np.zeros(n), np.empty(n), np.empty(n), np.empty(n)
    moved, vectors, factors = np.empty(n, np.int64), np.zeros((4, n)), np.zeros(4)
    since = _RENEWED_AFTER
    for step in range(n_steps):
        n_moved = 0
        if since < _RENEWED_AFTER:
            for i in range(n):
                change[i] = 1.0 / A[i] - 1.0 / base[i]
                relative = change[i] / (1.0 / A[i] + H[i])
                if abs(relative) * _correlation(K[i, i], base[i], H[i]) > _HARDLY:
                    moved[n_moved] = i
                    n_moved += 1
        if since >= _RENEWED_AFTER or n_moved > _RENEWED * n or step == n_steps - 1:
            base[:n], change[:n], since = A[:n], 0.0, 0
            _renew(K, b, base, n, columns, inverses, rows, spare, P, at_base, H)
        else:
            _bring_up_to_date(P, at_base, H, base, change, moved[:n_moved], n, vectors, factors)
            since += 1
        _account_for(P, at_base, H, A, change, n, W, G)
        # W·Xy in a form where errors of W enter in proportion to `change` only: little of the unit's power may be left.
        explained = np.dot(at_base[:n], b[:n])
        for i in range(n):
            explained -= at_base[i] * change[i] * W[i]
        largest, relative = _update(A, W, G, power, explained, n_samples, n)
        if largest < _IRRELEVANT:
            return n
        i = 0
        while i < n:
            if A[i] > _PRUNED * largest:
                i += 1
                continue
            if _correlation(K[i, i], base[i], H[i]) > _HARDLY:
                since = _RENEWED_AFTER
            # The last voxel takes the place of the pruned one.
            n -= 1
            for matrix in (K, P):
                matrix[i, : n + 1] = matrix[n, : n + 1]
                matrix[: n + 1, i] = matrix[: n + 1, n]
            for vector in (b, A, W, base, at_base, H):
                vector[i] = vector[n]
            alive[i] = alive[n]
        if relative < _SETTLED:
            if since == 0:
                return n
            since = _RENEWED_AFTER
    return n


@njit(cache=True)
def _update(
    A: Array, W: Array, G: Array, power: float, explained: float, n_samples: int, n: int
) -> tuple[float, float]:
    """Compute new prior variances in place; return the largest, and the largest relative change (0, 0 if exact)."""
    noise = (power - explained) / n_samples
    if not noise > _EXACT * power / n_samples:
        return 0.0, 0.0
    largest = relative = 0.0
    for i in range(n):
        new = math.sqrt(A[i] * (W[i] * W[i] / noise) / G[i])
        relative = max(relative, abs(new - A[i]) / A[i])
        largest = max(largest, new)
        A[i] = new
    return largest, relative


@njit(cache=True)
def _correlation(power: float, base: float, precision: float) -> float:
    """Return a weight's multiple correlation with all others under the posterior, whose covariance is σ²P."""
    return math.sqrt(max(base * (power - precision) / (1.0 + base * power), 0.0))


@njit(cache=True)
def _renew(
    K: Array,
    b: Array,
    A: Array,
    n: int,
    columns: Array,
    inverses: Array,
    rows: Array,
    spare: Array,
    P: Array,
    W: Array,
    H: Array,
) -> None:
    """Compute P, W and H for this A from scratch; `columns` and `rows` are flat, because they shrink with `n`."""
    n_blocks = -(-n // BLOCK)
    size = n_blocks * BLOCK
    S = columns[: size * size].reshape(n_blocks, size, BLOCK)
    for j in range(n_blocks):
        width = min(BLOCK, n - j * BLOCK)
        for i in range(min((j + 1) * BLOCK, n)):
            S[j, i, :width] = K[i, j * BLOCK : j * BLOCK + width]
            S[j, i, width:] = 0.0
    S[n_blocks - 1, n:] = 0.0
    for i in range(size):
        S[i // BLOCK, i, i % BLOCK] += 1.0 / A[i] if i < n else 1.0
    factorise(S, inverses, spare)
    invert(S, inverses, rows[: size * size].reshape(n_blocks, size, BLOCK), spare, P)
    for i in range(n):
        W[i] = np.dot(P[i, :n], b[:n])
        H[i] = np.dot(P[i, :n], K[i, :n]) / P[i, i]


@njit(cache=True, fastmath={"contract", "nsz"})
def _bring_up_to_date(
    P: Array,
    W: Array,
    H: Array,
    base: Array,
    change: Array,
    moved: Array,
    n: int,
    vectors: Array,
    factors: Array,
) -> None:
    """Apply the change of the voxels that moved by rank-one changes of P (Sherman & Morrison 1950), four at a time."""
    for first in range(0, moved.size, 4):
        factors[:] = 0.0
        for k in range(min(4, moved.size - first)):
            j = moved[first + k]
            vector = vectors[k]
            vector[:n] = P[j, :n]
            for earlier in range(k):
                _subtract(vector[:n], factors[earlier] * vectors[earlier, j], vectors[earlier, :n])
            factors[k] = change[j] / (1.0 + change[j] * vector[j])
            _subtract(W[:n], factors[k] * W[j], vector[:n])
            own = H[j]
            for i in range(n):
                variance, less = 1.0 / (1.0 / base[i] + H[i]), factors[k] * vector[i] * vector[i]
                H[i] += less / (variance * (variance - less))
            H[j] = own
            base[j] = 1.0 / (1.0 / base[j] + change[j])
            change[j] = 0.0
        a, b, c, d = vectors[0, :n], vectors[1, :n], vectors[2, :n], vectors[3, :n]
        for i in range(n):
            row = P[i, :n]
            of_a, of_b, of_c, of_d = factors[0] * a[i], factors[1] * b[i], factors[2] * c[i], factors[3] * d[i]
            for j in range(n):
                row[j] -= (of_a * a[j] + of_b * b[j]) + (of_c * c[j] + of_d * d[j])


@njit(cache=True, fastmath={"contract", "nsz"})
def _subtract(vector: Array, factor: float, other: Array) -> None:
    for j in range(vector.size):
        vector[j] -= factor * other[j]


@njit(cache=True, fastmath={"contract", "nsz", "reassoc"})
def _account_for(P: Array, at_base: Array, H: Array, A: Array, change: Array, n: int, W: Array, G: Array) -> None:
    """Compute W and G with `change` applied: each voxel's own exactly, the others' to second and to first order."""
    of_variance, of_weight = np.empty(n), np.empty(n)
    for j in range(n):
        of_variance[j] = change[j] / (1.0 + change[j] * P[j, j])
        of_weight[j] = of_variance[j] * at_base[j]
    for i in range(n):
        row, weight, less, own = P[i, :n], 0.0, 0.0, P[i, i]
        for j in range(n):
            weight += row[j] * of_weight[j]
            less += row[j] * row[j] * of_variance[j]
        weight -= own * of_weight[i]
        less -= own * own * of_variance[i]
        W[i] = (at_base[i] - weight) / (1.0 + change[i] * own)
        informed = A[i] * (H[i] + less / (own * (own - less)))
        G[i] = informed / (1.0 + informed)
    for j in range(n):
        of_weight[j] = change[j] * W[j]
    for i in range(n):
        row, weight, own = P[i, :n], 0.0, P[i, i]
        for j in range(n):
            weight += row[j] * of_weight[j]
        weight -= own * of_weight[i]
        W[i] = (at_base[i] - weight) / (1.0 + change[i] * own)
