"""Cholesky factors of many small positive definite matrices, one matrix per thread, without allocating memory.

Only the upper triangle of S = UᵀU is kept, by block columns: `columns[j]` of shape (n, BLOCK) holds columns j·BLOCK to
(j + 1)·BLOCK, and n is a multiple of BLOCK (pad with ones on the diagonal). Every product is then one of contiguous
arrays, which numba hands to BLAS. Limit BLAS to one thread: the other threads work on other matrices.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from rtgod.messages import Array

#: Large enough for BLAS to reach full speed, small enough that the work in plain loops does not count.
BLOCK = 32


@njit(cache=True)
def factorise(columns: Array, inverses: Array, spare: Array) -> None:
    """Replace S by its factor U, in place.

    Parameters
    ----------
    columns : ndarray of shape (n_blocks, n, BLOCK)
        The part below the diagonal is neither read nor valid afterwards.
    inverses : ndarray of shape (n_blocks, BLOCK, BLOCK)
        Filled with the inverses of U's diagonal blocks.
    spare : ndarray of shape (BLOCK, BLOCK)
    """
    for j in range(columns.shape[0]):
        for i in range(j + 1):
            block = columns[j, i * BLOCK : (i + 1) * BLOCK]
            if i > 0:
                np.dot(columns[i, : i * BLOCK].T, columns[j, : i * BLOCK], out=spare)
                _subtract_from(block, spare)
            else:
                spare[:] = block
            if i < j:
                np.dot(inverses[i].T, spare, out=block)
            else:
                _factorise_block(spare, inverses[j])
                block[:] = spare


@njit(cache=True)
def solve(columns: Array, inverses: Array, b: Array, spare: Array) -> None:
    """Replace `b` by S⁻¹b, given the results of `factorise` for S.

    Parameters
    ----------
    columns, inverses : ndarray
    b, spare : ndarray of shape (n,)
    """
    n_blocks = columns.shape[0]
    for j in range(n_blocks):
        start = j * BLOCK
        part, product = b[start : start + BLOCK], spare[start : start + BLOCK]
        if j > 0:
            np.dot(b[:start], columns[j, :start], out=product)
            part -= product
        np.dot(part, inverses[j], out=product)
        part[:] = product
    for j in range(n_blocks - 1, -1, -1):
        start = j * BLOCK
        part = b[start : start + BLOCK]
        np.dot(inverses[j], part, out=spare[:BLOCK])
        part[:] = spare[:BLOCK]
        if j > 0:
            np.dot(columns[j, :start], part, out=spare[:start])
            b[:start] -= spare[:start]


@njit(cache=True)
def invert(columns: Array, inverses: Array, rows: Array, spare: Array, out: Array) -> None:
    """Write S⁻¹ = U⁻¹U⁻ᵀ to `out`, given the results of `factorise` for S.

    Parameters
    ----------
    columns, inverses : ndarray
    rows : ndarray of shape (n_blocks, n, BLOCK)
        Filled with U⁻¹ by block rows, each transposed: `rows[i, k·BLOCK:]` begins with the transpose of block (i, k).
    spare : ndarray of shape (BLOCK, BLOCK)
    out : ndarray of shape (≥ n, ≥ n)
    """
    n_blocks, n, _ = columns.shape
    for j in range(n_blocks):
        here = slice(j * BLOCK, (j + 1) * BLOCK)
        rows[j, here] = inverses[j].T
        # Multiply U's block column by the inverse of its diagonal block, in place: U itself is not needed any more.
        for k in range(j):
            block = columns[j, k * BLOCK : (k + 1) * BLOCK]
            np.dot(block, inverses[j], out=spare)
            block[:] = spare
        for i in range(j):
            np.dot(rows[i, i * BLOCK : j * BLOCK].T, columns[j, i * BLOCK : j * BLOCK], out=spare)
            rows[i, here] = -spare.T
    for i in range(n_blocks):
        for j in range(i, n_blocks):
            np.dot(rows[i, j * BLOCK : n].T, rows[j, j * BLOCK : n], out=spare)
            out[i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK] = spare
            if i < j:
                out[j * BLOCK : (j + 1) * BLOCK, i * BLOCK : (i + 1) * BLOCK] = spare.T


@njit(cache=True, fastmath={"contract", "nsz"})
def _factorise_block(S: Array, V: Array) -> None:
    """Replace one block by its upper factor, and fill V with that factor's inverse.

    Four rows at a time are subtracted from a row, with up to three entries too many, so that the compiler vectorises.
    """
    for p in range(BLOCK):
        start = p // 4 * 4
        for q in range(0, start, 4):
            f0, f1, f2, f3 = S[q, p], S[q + 1, p], S[q + 2, p], S[q + 3, p]
            for j in range(start, BLOCK):
                S[p, j] = S[p, j] - f0 * S[q, j] - f1 * S[q + 1, j] - f2 * S[q + 2, j] - f3 * S[q + 3, j]
        for q in range(start, p):
            factor = S[q, p]
            for j in range(start, BLOCK):
                S[p, j] -= factor * S[q, j]
        scale = 1.0 / math.sqrt(S[p, p])
        for j in range(start, BLOCK):
            S[p, j] *= scale
    for p in range(BLOCK - 1, -1, -1):
        scale = 1.0 / S[p, p]
        V[p] = 0.0
        V[p, p] = scale
        start = p // 4 * 4 + 4
        for q in range(p + 1, start):
            factor = scale * S[p, q]
            for j in range(q, BLOCK):
                V[p, j] -= factor * V[q, j]
        for q in range(start, BLOCK, 4):
            f0, f1, f2, f3 = scale * S[p, q], scale * S[p, q + 1], scale * S[p, q + 2], scale * S[p, q + 3]
            for j in range(q, BLOCK):
                V[p, j] = V[p, j] - f0 * V[q, j] - f1 * V[q + 1, j] - f2 * V[q + 2, j] - f3 * V[q + 3, j]


@njit(cache=True, fastmath={"contract", "nsz"})
def _subtract_from(block: Array, other: Array) -> None:
    """Replace `other` by `block` minus `other`."""
    for i in range(BLOCK):
        row, taken = block[i], other[i]
        for j in range(BLOCK):
            taken[j] = row[j] - taken[j]
