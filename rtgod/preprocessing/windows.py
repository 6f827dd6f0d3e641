"""Windows of volumes that make samples: a trial's volumes, shifted by the response's delay, or the last few volumes.

Membership depends only on a volume's index, never on the time of its arrival.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np

from rtgod.messages import Float32Array, Float64Array, Pattern, Run
from rtgod.settings import WindowSettings
from rtgod.state import Stateful


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Mean pattern, or estimated response, of a window so far.

    Attributes
    ----------
    index : int
        Index of the newest volume of the window, even if it is censored and does not enter the sample.
    values : ndarray of shape (n_voxels,), float32
    n_volumes : int
        Number of clean volumes that the sample rests on.
    block : int or None
        Position in `Run.blocks`; None for a sliding window.
    final : bool
        Whether the window is complete.
    n_blocks : int
        Number of trials over which the sample is averaged.
    """

    index: int
    values: Float32Array
    n_volumes: int
    block: int | None
    final: bool
    n_blocks: int = 1


class Window(Stateful):
    """Window that collects patterns into samples; one instance per run.

    Parameters
    ----------
    run : Run
    settings : WindowSettings
    delay_s : float
        How much later responses to blocks come than the run's blocks say, in seconds; may be negative.
    """

    changing: ClassVar = {
        "_members": list[tuple[Pattern, float]],
        "_before": Pattern | None,
        "_block": int | None,
    }

    def __init__(self, run: Run, settings: WindowSettings, delay_s: float = 0.0) -> None:
        self._settings, self._tr_s = settings, run.tr_s
        self._shift_s = settings.hrf_shift_s + delay_s
        self._length = settings.sliding_volumes
        self._follow_blocks_of(run)
        self._members: list[tuple[Pattern, float]] = []
        self._before: Pattern | None = None
        self._block: int | None = None

    def _follow_blocks_of(self, run: Run) -> None:
        mode, shift_s = self._settings.mode, self._shift_s
        self.follows_blocks = mode in ("block", "repeats") or (mode == "auto" and bool(run.blocks))
        self._spans_s = [(block.onset_s + shift_s, block.onset_s + block.duration_s + shift_s) for block in run.blocks]
        self._volumes = [_volumes_in(span_s, run) for span_s in self._spans_s] if self.follows_blocks else []

    def extend(self, run: Run) -> None:
        """Take in blocks that the run did not list before; a window that slid follows blocks from now on.

        Parameters
        ----------
        run : Run
            The run, with new blocks after those known.
        """
        slid = not self.follows_blocks
        self._follow_blocks_of(run)
        if slid and self.follows_blocks:
            self._members.clear()

    def position(self, index: int) -> tuple[int | None, bool]:
        """Return the block of volume `index`, or None between blocks, and whether it is the block's last volume.

        Parameters
        ----------
        index : int
        """
        for block, volumes in enumerate(self._volumes):
            if index in volumes:
                return block, index == volumes[-1]
        return None, False

    def add(self, pattern: Pattern) -> Sample | None:
        """Take in the next pattern.

        A trial's sample is the mean of its volumes, weighted by the share of each that lies within the shifted trial:
        if onset and delay are not whole numbers of TRs, the first volume counts in part. A volume belongs to the trial
        that holds its middle.

        Parameters
        ----------
        pattern : Pattern
            The next volume's pattern; a censored one adds nothing to the sample.

        Returns
        -------
        Sample or None
            None between trials, and while the window holds no clean volume.
        """
        if self.follows_blocks:
            block, final = self.position(pattern.index)
            self._follow(block, pattern)
        else:
            block, final = None, self._slide(pattern)
            self._before = pattern
        if (self.follows_blocks and block is None) or not self._members:
            return None
        members, weights = zip(*self._members, strict=True)
        return Sample(pattern.index, _mean(members, weights), len(members), block, final)

    def _follow(self, block: int | None, pattern: Pattern) -> None:
        before, self._before = self._before, pattern
        if block is None:
            self._members.clear()
        elif block != self._block:
            self._members.clear()
            # The end of the volume before may lie within the trial, although its middle does not.
            if before is not None and not before.censored and self._share(before.index, block) > 0:
                self._members.append((before, self._share(before.index, block)))
        self._block = block
        if block is not None and not pattern.censored:
            self._members.append((pattern, self._share(pattern.index, block)))

    def _slide(self, pattern: Pattern) -> bool:
        if not pattern.censored:
            self._members.append((pattern, 1.0))
        while self._members and self._members[0][0].index <= pattern.index - self._length:
            del self._members[0]
        return len(self._members) == self._length

    def _share(self, index: int, block: int) -> float:
        """Return the share of a volume's time within a block's shifted span; a share below rounding counts as 0."""
        start_s, stop_s = self._spans_s[block]
        overlap_s = min((index + 1) * self._tr_s, stop_s) - max(index * self._tr_s, start_s)
        share = overlap_s / self._tr_s
        return share if share > 1e-6 else 0.0


class _Unfinished(NamedTuple):
    """Newest sample of a trial that may not be over, with the trial's run and label."""

    run_id: str
    label: str
    sample: Sample


class RepeatAverager(Stateful):
    """Averager of a sample with earlier trials of the same label; it lasts for a session, over runs."""

    changing: ClassVar = {
        "_finished": dict[str, tuple[Float64Array, int, int]],
        "_unfinished": _Unfinished | None,
    }

    def __init__(self) -> None:
        self._finished: dict[str, tuple[Float64Array, int, int]] = {}
        self._unfinished: _Unfinished | None = None

    def averaged(self, sample: Sample, run_id: str, label: str, *, by_volumes: bool = False) -> Sample:
        """Average a sample with the earlier trials of its label, to which it is added when its trial is over.

        A trial is over with its last volume, or with the first sample of another trial or another run: the last volume
        may have been lost, and the run may have ended before it.

        Parameters
        ----------
        sample : Sample
        run_id : str
            Identity of the sample's run, unique in a session.
        label : str
            Label of the sample's trial; if it is empty, the sample is not averaged.
        by_volumes : bool
            Whether trials count by their numbers of volumes instead of equally; the same in all calls.
        """
        before = self._unfinished
        if before and (before.run_id, before.label, before.sample.block) != (run_id, label, sample.block):
            self._finish(by_volumes=by_volumes)
        if not label:
            return sample
        total, n_blocks, n_volumes = self._finished.get(label, (np.zeros(sample.values.shape), 0, 0))
        self._unfinished = _Unfinished(run_id, label, sample)
        if sample.final:
            self._finish(by_volumes=by_volumes)
        if by_volumes:
            values = (total + sample.n_volumes * sample.values.astype(np.float64)) / (n_volumes + sample.n_volumes)
        else:
            values = (total + sample.values) / (n_blocks + 1)
        return replace(
            sample,
            values=values.astype(np.float32),
            n_volumes=n_volumes + sample.n_volumes,
            n_blocks=n_blocks + 1,
        )

    def _finish(self, *, by_volumes: bool) -> None:
        if self._unfinished:
            _, label, sample = self._unfinished
            total, n_blocks, n_volumes = self._finished.get(label, (np.zeros(sample.values.shape), 0, 0))
            added = sample.n_volumes * sample.values.astype(np.float64) if by_volumes else sample.values
            self._finished[label] = total + added, n_blocks + 1, n_volumes + sample.n_volumes
            self._unfinished = None


def _mean(patterns: tuple[Pattern, ...], weights: tuple[float, ...]) -> Float32Array:
    # The sum is computed anew each time, in order: a running sum would carry rounding from one window to the next.
    total: Float64Array = np.zeros(patterns[0].values.shape)
    for pattern, weight in zip(patterns, weights, strict=True):
        total += weight * pattern.values
    return (total / sum(weights)).astype(np.float32)


def _volumes_in(span_s: tuple[float, float], run: Run) -> range:
    """Return the indices of the volumes whose middle falls within a span."""
    start, stop = (_first_volume_after(time_s, run.tr_s) for time_s in span_s)
    if run.n_volumes is not None:
        stop = min(stop, run.n_volumes)
    return range(start, max(stop, start))


def _first_volume_after(time_s: float, tr_s: float) -> int:
    """Return the first volume whose middle is at or after `time_s`, with a tolerance of a millionth of a TR."""
    return max(0, int(np.ceil(time_s / tr_s - 0.5 - 1e-6)))
