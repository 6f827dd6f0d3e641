"""Echoes of a volume: which are taken, and how they are combined.

Combined, each echo counts by TE · exp(−TE/T2*), the sensitivity of its signal to changes of T2* (Posse et al. 1999,
Magnetic Resonance in Medicine 42:87); weights sum to 1. T2* is one number for all voxels and volumes: so the weights
are the same live and replayed, whichever volumes are lost, and a head that moves does not move through them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Array

#: T2* of grey matter at 3 T, ms: between 42 (occipital) and 52 (frontal), Wansapura et al. 1999, Journal of
#: Magnetic Resonance Imaging 9:531.
T2STAR_MS = 45.0
_LEAST_T2STAR_MS, _MOST_T2STAR_MS = 1.0, 1000.0


@dataclass(frozen=True, slots=True)
class Combine:
    """Choice of all echoes, combined.

    Attributes
    ----------
    t2star_ms : float
        T2* that weights are made for, milliseconds.
    """

    t2star_ms: float = T2STAR_MS


#: Number of the echo that is taken, from 1 by echo time, where 0 takes the only one; or all, combined.
Echo = int | Combine


def echo_of(text: str) -> Echo:
    """Read which echo is taken, as it is given on the command line.

    Parameters
    ----------
    text : str
        A number from 1, "combine", or "combine:MS" with T2* in milliseconds; empty or "0" for the only one.

    Raises
    ------
    InputError
        If it is none of these.
    """
    match = re.fullmatch(r"(\d{1,3})|combine(?::(\d+(?:\.\d+)?))?", text.strip() or "0", re.ASCII)
    if match is None:
        raise InputError(f"--echo {text}: give the number of an echo, combine, or combine:MS with T2* in milliseconds")
    if match[1]:
        return int(match[1])
    t2star_ms = float(match[2] or T2STAR_MS)
    if not _LEAST_T2STAR_MS <= t2star_ms <= _MOST_T2STAR_MS:
        raise InputError(
            f"--echo {text}: T2* is {_LEAST_T2STAR_MS:g} to {_MOST_T2STAR_MS:g} ms; grey matter's at 3 T is "
            f"{T2STAR_MS:g} ms"
        )
    return Combine(t2star_ms)


def in_words(echoes_ms: Sequence[float]) -> str:
    """List echoes by number and time: "1: 12 ms, 2: 30 ms".

    Parameters
    ----------
    echoes_ms : sequence of float
        Echo times, ascending.
    """
    return ", ".join(f"{number}: {echo_ms:g} ms" for number, echo_ms in enumerate(echoes_ms, 1))


def weights_of(echoes_ms: Sequence[float], t2star_ms: float) -> list[float]:
    """Return the weight of each echo; they sum to 1.

    Parameters
    ----------
    echoes_ms : sequence of float
        Echo times, milliseconds.
    t2star_ms : float
        T2*, milliseconds.

    Raises
    ------
    InputError
        If there are not several echoes, or one has no echo time.
    """
    if len(echoes_ms) < 2:
        raise InputError("it has one echo only, so that there is nothing to combine; leave out --echo combine")
    if min(echoes_ms) <= 0:
        raise InputError("its images do not all say their echo time, so that echoes cannot be combined")
    sensitivity = [echo_ms * math.exp(-echo_ms / t2star_ms) for echo_ms in echoes_ms]
    return [one / math.fsum(sensitivity) for one in sensitivity]


def combined(echoes: Sequence[Array], weights: Sequence[float]) -> Array:
    """Combine the echoes of a volume, shape (x, y, z), float32.

    Parameters
    ----------
    echoes : sequence of ndarray of shape (x, y, z)
    weights : sequence of float
    """
    total = np.zeros(echoes[0].shape)
    for echo, weight in zip(echoes, weights, strict=True):
        total += weight * echo.astype(np.float64)
    return total.astype(np.float32)
