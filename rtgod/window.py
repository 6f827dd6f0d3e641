"""Which volumes make a sample: the blocks of a run, shifted by the response's delay, or the last few volumes.

Membership depends on a volume's index alone, never on when it arrived.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from rtgod.messages import Float32Array, Pattern, Run
from rtgod.settings import WindowSettings


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The mean of a window's patterns so far.

    Attributes
    ----------
    index : int
        The volume that completes or refines it; a censored one does not enter the mean.
    values : ndarray of shape (n_voxels,), float32
    n_volumes : int
    block : int or None
        Position in `Run.blocks`; None for a sliding window.
    final : bool
        Whether the window is complete.
    """

    index: int
    values: Float32Array
    n_volumes: int
    block: int | None
    final: bool


class Window:
    """Collects patterns into samples; one instance per run.

    Parameters
    ----------
    run : Run
    settings : WindowSettings
    """

    def __init__(self, run: Run, settings: WindowSettings) -> None:
        self._blocks = _volumes_of_blocks(run, settings) if settings.mode != "sliding" else []
        self._follows_blocks = settings.mode == "block" or (settings.mode == "auto" and bool(run.blocks))
        self._length = settings.sliding_volumes
        self._patterns: deque[Pattern] = deque()
        self._block: int | None = None

    def position(self, index: int) -> tuple[int | None, bool]:
        """The block that volume `index` belongs to, None where there is none, and whether it is that block's last."""
        for block, volumes in enumerate(self._blocks):
            if index in volumes:
                return block, index == volumes[-1]
        return None, False

    def add(self, pattern: Pattern) -> Sample | None:
        """Take the next pattern in.

        Parameters
        ----------
        pattern : Pattern
            A censored one adds nothing.

        Returns
        -------
        Sample or None
            None between blocks, and while there is no clean volume in the window.
        """
        block, final = self.position(pattern.index) if self._follows_blocks else (None, False)
        if self._follows_blocks and (block is None or block != self._block):
            self._patterns.clear()
        self._block = block
        if self._follows_blocks and block is None:
            return None
        if not pattern.censored:
            self._patterns.append(pattern)
        if not self._follows_blocks:
            oldest = pattern.index - self._length + 1
            while self._patterns and self._patterns[0].index < oldest:
                self._patterns.popleft()
            final = len(self._patterns) == self._length
        if not self._patterns:
            return None
        # Summed anew each time, in order: a running sum would carry rounding from one window to the next.
        total = np.zeros(pattern.values.shape)
        for member in self._patterns:
            total += member.values
        mean = (total / len(self._patterns)).astype(np.float32)
        return Sample(pattern.index, mean, len(self._patterns), block, final)


def _volumes_of_blocks(run: Run, settings: WindowSettings) -> list[range]:
    """Volumes whose middle falls within each block's shifted span."""
    spans = []
    for block in run.blocks:
        start = _first_volume_after(block.onset_s + settings.hrf_shift_s, run.tr_s)
        stop = _first_volume_after(block.onset_s + block.duration_s + settings.hrf_shift_s, run.tr_s)
        if run.n_volumes is not None:
            stop = min(stop, run.n_volumes)
        spans.append(range(start, max(stop, start)))
    return spans


def _first_volume_after(time_s: float, tr_s: float) -> int:
    """The first volume whose middle is at or after `time_s`; a millionth of a TR is taken for rounding."""
    return max(0, int(np.ceil(time_s / tr_s - 0.5 - 1e-6)))
