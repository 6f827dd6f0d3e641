"""Which volumes make a sample: a trial's, shifted by the response's delay, or the last few.

Membership depends on a volume's index alone, never on when it arrived.
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
    """A window's pattern so far.

    Attributes
    ----------
    index : int
        The volume that completes or refines it; a censored one does not enter it.
    values : ndarray of shape (n_voxels,), float32
    n_volumes : int
        Clean volumes that it rests on.
    block : int or None
        Position in `Run.blocks`; None for a sliding window.
    final : bool
        Whether the window is complete.
    n_blocks : int
        Trials that it is averaged over.
    """

    index: int
    values: Float32Array
    n_volumes: int
    block: int | None
    final: bool
    n_blocks: int = 1


class Window(Stateful):
    """Collects patterns into samples; one instance per run.

    Parameters
    ----------
    run : Run
    settings : WindowSettings
    """

    changing: ClassVar = {
        "_members": list[tuple[Pattern, float]],
        "_before": Pattern | None,
        "_block": int | None,
    }

    def __init__(self, run: Run, settings: WindowSettings) -> None:
        self.follows_blocks = settings.mode in ("block", "repeats") or (settings.mode == "auto" and bool(run.blocks))
        self._tr_s = run.tr_s
        self._spans_s = [
            (block.onset_s + settings.hrf_shift_s, block.onset_s + block.duration_s + settings.hrf_shift_s)
            for block in run.blocks
        ]
        self._volumes = [_volumes_in(span_s, run) for span_s in self._spans_s] if self.follows_blocks else []
        self._length = settings.sliding_volumes
        self._members: list[tuple[Pattern, float]] = []
        self._before: Pattern | None = None
        self._block: int | None = None

    def position(self, index: int) -> tuple[int | None, bool]:
        """The block that volume `index` belongs to, None where there is none, and whether it is that block's last."""
        for block, volumes in enumerate(self._volumes):
            if index in volumes:
                return block, index == volumes[-1]
        return None, False

    def add(self, pattern: Pattern) -> Sample | None:
        """Take the next pattern in.

        A trial's sample is the mean of its volumes, weighted by the share of each that lies within the shifted trial:
        where onset and delay are no whole number of TRs, the first volume counts in part. A volume belongs to the
        trial that holds its middle.

        Parameters
        ----------
        pattern : Pattern
            A censored one adds nothing.

        Returns
        -------
        Sample or None
            None between trials, and while there is no clean volume in the window.
        """
        if self.follows_blocks:
            block, final = self.position(pattern.index)
            self._follow(block, pattern)
        else:
            block, final = None, self._slide(pattern)
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
            # Its middle lies before the trial, its end may not.
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
        """Share of a volume's time that lies within a block's shifted span; what rounding leaves of it is none."""
        start_s, stop_s = self._spans_s[block]
        overlap_s = min((index + 1) * self._tr_s, stop_s) - max(index * self._tr_s, start_s)
        share = overlap_s / self._tr_s
        return share if share > 1e-6 else 0.0


class _Unfinished(NamedTuple):
    """The newest sample of a trial that may go on, and which trial that is."""

    run_id: str
    label: str
    sample: Sample


class RepeatAverager(Stateful):
    """Evidence from earlier trials of the same label; it lasts for a session, over runs."""

    changing: ClassVar = {
        "_finished": dict[str, tuple[Float64Array, int, int]],
        "_unfinished": _Unfinished | None,
    }

    def __init__(self) -> None:
        self._finished: dict[str, tuple[Float64Array, int, int]] = {}
        self._unfinished: _Unfinished | None = None

    def averaged(self, sample: Sample, run_id: str, label: str) -> Sample:
        """The mean of a sample and of the earlier trials of its label; it joins them when its trial is over.

        A trial is over with its last volume, or with the first sample of another trial or another run: the last volume
        may have been lost, and the run may have ended before it.

        Parameters
        ----------
        sample : Sample
        run_id : str
            Of the sample's run; another for each run of a session.
        label : str
            Of the sample's trial; one without a label stands alone.
        """
        before = self._unfinished
        if before and (before.run_id, before.label, before.sample.block) != (run_id, label, sample.block):
            self._finish()
        if not label:
            return sample
        total, n_blocks, n_volumes = self._finished.get(label, (np.zeros(sample.values.shape), 0, 0))
        self._unfinished = _Unfinished(run_id, label, sample)
        if sample.final:
            self._finish()
        return replace(
            sample,
            values=((total + sample.values) / (n_blocks + 1)).astype(np.float32),
            n_volumes=n_volumes + sample.n_volumes,
            n_blocks=n_blocks + 1,
        )

    def _finish(self) -> None:
        if self._unfinished:
            _, label, sample = self._unfinished
            total, n_blocks, n_volumes = self._finished.get(label, (np.zeros(sample.values.shape), 0, 0))
            self._finished[label] = total + sample.values, n_blocks + 1, n_volumes + sample.n_volumes
            self._unfinished = None


def _mean(patterns: tuple[Pattern, ...], weights: tuple[float, ...]) -> Float32Array:
    # Summed anew each time, in order: a running sum would carry rounding from one window to the next.
    total: Float64Array = np.zeros(patterns[0].values.shape)
    for pattern, weight in zip(patterns, weights, strict=True):
        total += weight * pattern.values
    return (total / sum(weights)).astype(np.float32)


def _volumes_in(span_s: tuple[float, float], run: Run) -> range:
    """Volumes whose middle falls within a span."""
    start, stop = (_first_volume_after(time_s, run.tr_s) for time_s in span_s)
    if run.n_volumes is not None:
        stop = min(stop, run.n_volumes)
    return range(start, max(stop, start))


def _first_volume_after(time_s: float, tr_s: float) -> int:
    """The first volume whose middle is at or after `time_s`; a millionth of a TR is taken for rounding."""
    return max(0, int(np.ceil(time_s / tr_s - 0.5 - 1e-6)))
