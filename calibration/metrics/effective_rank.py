"""Effective rank: along how many directions responses vary."""

from __future__ import annotations

import numpy as np

from rtgod.messages import Array


def effective_rank(responses: Array) -> float:
    """Return the participation ratio of the variances along the principal axes of responses: (Σ λ)² / Σ λ².

    It is n for n axes of equal variance, 1 for a single one, and 0 for responses that do not vary.

    Parameters
    ----------
    responses : ndarray of shape (n_images, n_voxels)
        Responses without noise.
    """
    centred = responses - responses.mean(axis=0)
    smaller = centred if len(centred) <= centred.shape[1] else centred.T
    # Σ λ is the trace of the Gram matrix and Σ λ² the sum of its squared entries: no eigenvalue is needed.
    squared = float(np.square(smaller @ smaller.T, dtype=np.float64).sum())
    return float(np.square(centred, dtype=np.float64).sum()) ** 2 / squared if squared > 0 else 0.0
