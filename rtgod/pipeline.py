"""One volume in, one answer out: align, sample, detrend, window, decode, rank.

Calibration runs recorded volumes through `Preprocessor`, the front half, and the server through `Pipeline`, which is
the same front half with a decoder behind it; so what the decoder was trained on and what it meets are computed by the
same code from the same state. Results depend on the volumes and their order, on nothing else.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import numpy as np

from rtgod.baseline import Baseline
from rtgod.decoding import Decoder, Matcher
from rtgod.errors import InputError
from rtgod.geometry import voxel_sizes
from rtgod.messages import (
    Answer,
    Float32Array,
    Float64Array,
    Int32Array,
    Motion,
    NotReady,
    Pattern,
    Ranking,
    Reason,
    Run,
    Volume,
)
from rtgod.motion import FEWEST_VOXELS, Registration
from rtgod.sampling import Sampler
from rtgod.settings import PipelineSettings
from rtgod.window import Sample, Window

#: A head that lies this much outside the field of view by the run's affine can still be found in it.
_REACH_MM = 20.0
_T = TypeVar("_T")


class Reference(NamedTuple):
    """The space that volumes are brought into.

    Attributes
    ----------
    template : ndarray of shape (x, y, z), float32
    affine : ndarray of shape (4, 4), float64
        Voxel to millimetres.
    voxels : ndarray of shape (n_voxels, 3), int32
        The decoder's voxels, as indices into the template; may be empty.
    """

    template: Float32Array
    affine: Float64Array
    voxels: Int32Array


class Stopwatch:
    """Collects the milliseconds of each stage, in the order in which they run."""

    def __init__(self) -> None:
        self.stage_ms: dict[str, float] = {}

    def time(self, stage: str, work: Callable[[], _T]) -> _T:
        """Run `work` and add its time to `stage`."""
        start = time.perf_counter_ns()
        try:
            return work()
        finally:
            self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + (time.perf_counter_ns() - start) / 1e6


def check_run(run: Run, reference: Reference) -> None:
    """Raise `InputError` if the run cannot be aligned, or holds less than half of what is to be decoded."""
    if min(run.shape) < FEWEST_VOXELS:
        raise InputError(
            f"run {run.run_id}: volumes of {_times(run.shape)} voxels cannot be aligned; at least "
            f"{FEWEST_VOXELS} slices, rows and columns are needed"
        )
    corners = np.argwhere(np.ones((2, 2, 2), bool)) * (np.array(reference.template.shape) - 1)
    voxels = reference.voxels if len(reference.voxels) else corners
    to_run = np.linalg.inv(run.affine) @ reference.affine
    positions = voxels @ to_run[:3, :3].T + to_run[:3, 3]
    reach = _REACH_MM / voxel_sizes(run.affine)
    inside = ((positions > -reach) & (positions < np.array(run.shape) - 1 + reach)).all(axis=1).mean()
    if inside < 0.5:
        raise InputError(
            f"run {run.run_id}: by its affine, the {_times(run.shape)} voxels hold {100 * inside:.0f} % "
            "of the bundle's; prescribe the slices so that they cover what was calibrated"
        )


def check_reference(reference: Reference, settings: PipelineSettings) -> None:
    """Raise `InputError` if no run can be aligned to the template, or most of its voxels lie outside the head."""
    template, affine, voxels = reference
    x, y, z = template.shape
    Registration(template, affine, (x, y, z), affine, settings.motion)
    if not len(voxels):
        return
    if (voxels < 0).any() or (voxels >= template.shape).any():
        raise InputError("decoder's voxels lie outside the template; take mask and template from the same images")
    in_head = (template[tuple(voxels.T)] > 0.1 * np.percentile(template, 98)).mean()
    if in_head < 0.5:
        raise InputError(
            f"only {100 * in_head:.0f} % of the decoder's voxels lie in the head; "
            "is the mask in the functional images' space?"
        )


class Preprocessor:
    """Volumes of one run to patterns and samples.

    Parameters
    ----------
    reference : Reference
    run : Run
    settings : PipelineSettings

    Raises
    ------
    InputError
        If the run does not fit the reference.
    """

    def __init__(self, reference: Reference, run: Run, settings: PipelineSettings) -> None:
        check_run(run, reference)
        self._settings = settings
        self._reference = reference
        self._registration = Registration(reference.template, reference.affine, run.shape, run.affine, settings.motion)
        self._sampler = Sampler(reference.voxels, run.shape, settings.sampling)
        self._mm_to_voxel = np.linalg.inv(run.affine)
        self._baseline = Baseline(len(reference.voxels), run.tr_s, settings.baseline)
        self._window = Window(run, settings.window)
        self._volume = np.empty(run.shape, np.float32)

    def step(self, volume: Volume, stopwatch: Stopwatch) -> tuple[Pattern | None, Sample | NotReady]:
        """Take the run's next volume; its index is larger than those before.

        Returns
        -------
        pattern : Pattern or None
            None before there is a baseline, and for a volume that cannot be used.
        outcome : Sample or NotReady
            The window that the volume completes or refines, or why there is none.
        """
        fault = stopwatch.time("convert", lambda: self._convert(volume))
        if fault:
            return None, NotReady(volume.run_id, volume.index, Reason.BAD_VOLUME, fault)
        alignment = stopwatch.time("align", lambda: self._registration.align(self._volume))
        motion = alignment.motion

        def not_ready(reason: Reason, detail: str = "") -> NotReady:
            return NotReady(volume.run_id, volume.index, reason, detail, motion)

        if alignment.problem:
            return None, not_ready(Reason.MOTION, alignment.problem)
        if not len(self._reference.voxels):
            return None, not_ready(Reason.NO_DECODER, "no bundle is loaded")
        values, n_outside = stopwatch.time("sample", lambda: self._sample(alignment.pose))
        pattern = stopwatch.time("detrend", lambda: self._detrend(volume, values, n_outside, motion))
        if pattern is None:
            return None, not_ready(Reason.WARMING_UP, "the baseline is being learned")
        window = stopwatch.time("window", lambda: self._window.add(pattern))
        if window is not None:
            return pattern, window
        if pattern.censored:
            return pattern, not_ready(Reason.MOTION, f"moved {motion.framewise_displacement_mm:.2f} mm in one volume")
        return pattern, not_ready(Reason.BETWEEN_TRIALS)

    def _convert(self, volume: Volume) -> str:
        """Copy the volume as float32; say what is wrong with it, if anything."""
        if volume.data.shape != self._volume.shape:
            return f"volume of {_times(volume.data.shape)} voxels in a run of {_times(self._volume.shape)}"
        # What does not fit into single precision becomes infinite, and is found below.
        with np.errstate(over="ignore"):
            np.copyto(self._volume, volume.data, casting="same_kind" if volume.data.dtype.kind == "f" else "unsafe")
        lowest, highest = float(self._volume.min()), float(self._volume.max())
        if not np.isfinite(lowest) or not np.isfinite(highest):
            return "volume has voxels that are not finite"
        return "volume is constant" if lowest == highest else ""

    def _sample(self, pose: Float64Array) -> tuple[Float32Array, int]:
        return self._sampler.sample(self._volume, self._mm_to_voxel @ pose @ self._reference.affine)

    def _detrend(self, volume: Volume, values: Float32Array, n_outside: int, motion: Motion) -> Pattern | None:
        if not self._baseline.settled(volume.index):
            return None
        censored = motion.framewise_displacement_mm > self._settings.motion.censor_fd_mm
        change = self._baseline.change(volume.index, values) if self._baseline.ready else None
        if not censored:
            self._baseline.update(volume.index, values)
        if change is None:
            return None
        return Pattern(volume.run_id, volume.index, change, n_outside, motion, censored)


class Pipeline:
    """Volumes of one run to rankings.

    Parameters
    ----------
    reference : Reference
    decoder : Decoder or None
        None for alignment only: every answer is then a `NotReady` with the head's motion.
    matcher : Matcher or None
    names : tuple of str
        The candidates' names, for the top of the ranking.
    run : Run
    settings : PipelineSettings

    Raises
    ------
    InputError
        If the run does not fit the reference.
    """

    def __init__(
        self,
        reference: Reference,
        decoder: Decoder | None,
        matcher: Matcher | None,
        names: tuple[str, ...],
        run: Run,
        settings: PipelineSettings,
    ) -> None:
        self._front = Preprocessor(reference, run, settings)
        self._decoder = decoder
        self._matcher = matcher
        self._names = names
        self._n_top = settings.ranking.n_top

    def step(self, volume: Volume) -> tuple[Answer, Pattern | None]:
        """Take the run's next volume.

        Returns
        -------
        answer : Ranking or NotReady
        pattern : Pattern or None
            The volume's own pattern, for the record; None before there is a baseline.
        """
        stopwatch = Stopwatch()
        pattern, outcome = self._front.step(volume, stopwatch)
        decoder, matcher = self._decoder, self._matcher
        if isinstance(outcome, NotReady):
            return dataclasses.replace(outcome, stage_ms=stopwatch.stage_ms), pattern
        if pattern is None or decoder is None or matcher is None:
            raise AssertionError("a sample comes from a pattern, and patterns from a bundle's voxels")
        window = outcome
        features = stopwatch.time("decode", lambda: decoder.decode(window.index, window.values))
        order, scores = stopwatch.time("rank", lambda: matcher.rank(features))
        ranking = Ranking(
            run_id=volume.run_id,
            index=volume.index,
            n_volumes=window.n_volumes,
            block=window.block,
            final=window.final,
            top=tuple(self._names[i] for i in order[: self._n_top]),
            order=order,
            scores=scores,
            motion=pattern.motion,
            stage_ms=stopwatch.stage_ms,
        )
        return ranking, pattern


def _times(numbers: Iterable[object]) -> str:
    return " × ".join(map(str, numbers))
