"""The choice among decoders by cross-validation: the first that is about as good as the best, and what it was among."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from calibration.decoders.settings import DecoderSettings
from rtgod.messages import Array, Float64Array


class Tried(NamedTuple):
    """A decoder that was tried on left-out samples.

    Attributes
    ----------
    decoder : DecoderSettings
    accuracy : ndarray of shape (n_samples,), float64
        Identification accuracy of each sample, decoded without its group; NaN for a sample that cannot be judged.
    """

    decoder: DecoderSettings
    accuracy: Float64Array


@dataclass(frozen=True, slots=True)
class Alternative:
    """A decoder that was tried, or left out, for people.

    Attributes
    ----------
    name : str
    setting : str
        Best values of its settings, in words; empty if it has none.
    accuracy : float or None
        Identification accuracy on left-out samples; None if it was not tried.
    deficit : float or None
        How much lower this is than the best decoder's.
    error : float or None
        Standard error of `deficit`, over the groups that were left out.
    why_not : str
        Why it was not tried; empty if it was.
    """

    name: str
    setting: str = ""
    accuracy: float | None = None
    deficit: float | None = None
    error: float | None = None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class DecoderChoice:
    """A decoder with all its settings, and how it was chosen.

    Attributes
    ----------
    decoder : DecoderSettings
        Names a decoder, never `auto`.
    how : str
        How it was chosen, in words; empty if it was given.
    alternatives : tuple of Alternative
        What was tried or left out, the simplest first.
    """

    decoder: DecoderSettings
    how: str = ""
    alternatives: tuple[Alternative, ...] = ()


def choose_among(
    tried: Sequence[Tried], groups: Sequence[Hashable], not_tried: Sequence[Alternative], left_out: str
) -> DecoderChoice:
    """Choose the first kind of decoder that is worse than the best by no more than one standard error.

    The error is that of the difference. Of each kind, the settings with the highest accuracy are taken, in a tie the
    first.

    Parameters
    ----------
    tried : sequence of Tried
        The simplest kind first.
    groups : sequence of length n_samples
        Group that each sample was left out with; differences within one are taken for one.
    not_tried : sequence of Alternative
        What was left out, with reasons.
    left_out : str
        What was left out in turn, for people.
    """
    names = dict.fromkeys(each.decoder.name for each in tried)
    kinds = [max((each for each in tried if each.decoder.name == name), key=_mean) for name in names]
    best = max(kinds, key=_mean)
    deficits = [_difference(best.accuracy, kind.accuracy, groups) for kind in kinds]
    chosen = next(kind for kind, (deficit, error) in zip(kinds, deficits, strict=True) if deficit <= error)
    alternatives = [
        Alternative(kind.decoder.name, in_words(kind.decoder), _mean(kind), *deficit)
        for kind, deficit in zip(kinds, deficits, strict=True)
    ]
    how = f"the first of these that decodes left-out {left_out} as well as the best does, within one standard error"
    return DecoderChoice(chosen.decoder, how, (*alternatives, *not_tried))


def in_words(decoder: DecoderSettings) -> str:
    """Return the settings that a decoder reads, in words; empty for `ridge`, which tunes its own.

    Parameters
    ----------
    decoder : DecoderSettings
    """
    if decoder.name == "ridge":
        return ""
    parts = [f"{decoder.n_voxels:,} voxels"]
    if decoder.name == "ridge-select":
        parts.append(f"penalty {decoder.alpha:g}")
    if decoder.name == "svm":
        parts.append(f"cost {decoder.cost:g}")
    return ", ".join(parts)


def _mean(tried: Tried) -> float:
    return float(np.nanmean(tried.accuracy))


def _difference(best: Float64Array, other: Float64Array, groups: Sequence[Hashable]) -> tuple[float, float]:
    """Return how much better the best is on average, and the standard error of this over groups."""
    judged = np.isfinite(best) & np.isfinite(other)
    numbers: Array = np.unique([str(group) for group in groups], return_inverse=True)[1][judged]
    difference = (best - other)[judged]
    mean = float(difference.mean())
    counts = np.bincount(numbers)
    sums = np.bincount(numbers, difference - mean)[counts > 0]
    n = len(sums)
    error = float(np.sqrt(np.square(sums).sum() * n / max(n - 1, 1))) / len(difference)
    return mean, error
