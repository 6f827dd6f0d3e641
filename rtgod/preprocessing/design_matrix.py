"""Regressors for the course of a voxel, volume by volume: constant, drift, motion, noise components and trials.

A regressor's value depends on the volume's index, its head motion and its noise components, never on a later volume.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import MOST_VOLUMES, Block, Float64Array, Motion, Run
from rtgod.preprocessing.geometry import HEAD_RADIUS_MM
from rtgod.preprocessing.hrf import LASTS_S, block_response
from rtgod.settings import NuisanceSettings, ResponseSettings
from rtgod.state import Stateful

#: Prior standard deviation of the constant, so large that its value is as good as unknown.
_UNKNOWN_SD = 1e4
#: Assumed length, in seconds, of a run that does not announce its length.
_USUAL_RUN_S = 900.0
#: Most trials whose responses may overlap in a volume.
MOST_AT_ONCE = 128
#: Sum of expected responses, as a share of a lasting response, above which the baseline before the trials is over.
_REST = 0.05


class Design(Stateful):
    """Rows of the design matrix; one instance per run, which is asked for each volume once and in order.

    The columns are the constant, the other nuisance regressors, and columns for trials: as many as responses overlap
    in a volume. A trial's column passes on: when its response is over, the column serves a later trial.

    Parameters
    ----------
    run : Run
    nuisance : NuisanceSettings
    response : ResponseSettings
    n_components : int
        Number of noise components, each of which has a regressor.
    follows_trials : bool
        Whether the run's trials have regressors.

    Attributes
    ----------
    prior_sd : ndarray of shape (n_columns,), float64
        Prior standard deviation of each column's coefficient, in units of the noise.
    n_nuisance : int
        Number of columns before those of the trials.
    """

    changing: ClassVar = {"_first_motion": Float64Array | None, "_last_motion": Float64Array}
    parts = ("_trials",)

    def __init__(
        self,
        run: Run,
        nuisance: NuisanceSettings,
        response: ResponseSettings,
        n_components: int,
        follows_trials: bool,
    ) -> None:
        self._settings = nuisance
        self._tr_s = run.tr_s
        self._run_s = run.n_volumes * run.tr_s if run.n_volumes else _USUAL_RUN_S
        self._drift = _half_periods(self._run_s, nuisance)
        self._first_motion: Float64Array | None = None
        self._last_motion = np.zeros(6)
        drift_sd = nuisance.drift_sd / np.maximum(self._drift, 1.0)
        columns = [
            np.array([_UNKNOWN_SD]),
            drift_sd,
            np.full(nuisance.motion_parameters, nuisance.motion_sd),
            np.full(int(nuisance.global_signal), nuisance.global_sd),
            np.full(n_components, nuisance.component_sd),
        ]
        self.n_nuisance = sum(map(len, columns))
        self._trials = _TrialColumns(run, response) if follows_trials else None
        self._trial_sd = response.sd
        self.prior_sd = self._with_trials(np.concatenate(columns))

    def _with_trials(self, nuisance_sd: Float64Array) -> Float64Array:
        n_trials = self._trials.n_columns if self._trials else 0
        return np.concatenate([nuisance_sd, np.full(n_trials, self._trial_sd)])

    def extend(self, run: Run) -> None:
        """Take in trials that the run did not list before; columns may be added after the others.

        Parameters
        ----------
        run : Run
            The run, with new trials after those known, each of which begins later than all before it.
        """
        if self._trials:
            self._trials.extend(run)
            self.prior_sd = self._with_trials(self.prior_sd[: self.n_nuisance])

    def row(self, index: int, motion: Motion, gain: float, components: Float64Array) -> Float64Array:
        """Compute the regressors of one volume.

        Parameters
        ----------
        index : int
        motion : Motion
        gain : float
            Brightness of the head, relative to the template's.
        components : ndarray of shape (n_components,)

        Returns
        -------
        ndarray of shape (n_columns,), float64
        """
        settings = self._settings
        parts = [np.ones(1), self._drift_at(index), self._motion_of(motion)[: settings.motion_parameters]]
        if settings.global_signal:
            parts.append(np.array([100.0 * (gain - 1.0)]))
        parts.append(components)
        if self._trials:
            parts.append(self._trials.row(index))
        return np.concatenate(parts)

    def responses(self, index: int) -> Float64Array:
        """Return the expected response to each column's trial under each of `ResponseSettings.peaks_s`.

        Parameters
        ----------
        index : int

        Returns
        -------
        ndarray of shape (n_peaks, n_trial_columns), float64
        """
        return self._trials.responses(index) if self._trials else np.empty((0, 0))

    def starting(self, index: int) -> list[int]:
        """Return the columns that have passed to a new trial by volume `index`, since the last call.

        Parameters
        ----------
        index : int
        """
        return [self.n_nuisance + column for column in self._trials.pass_on(index)] if self._trials else []

    def column_of(self, trial: int) -> int | None:
        """Return the present column of a trial; None if it has none now.

        Parameters
        ----------
        trial : int
            Position in `Run.blocks`.
        """
        column = self._trials.column_of(trial) if self._trials else None
        return None if column is None else self.n_nuisance + column

    def answered(self, index: int) -> dict[int, float]:
        """Return the trials whose responses volume `index` contains, and the expected response to each.

        Parameters
        ----------
        index : int
        """
        return self._trials.answered(index) if self._trials else {}

    def baseline_is_over(self, index: int) -> bool:
        """Return whether the response to a trial has begun by volume `index`; true while no trial is known.

        Parameters
        ----------
        index : int
        """
        if self._trials is None or not self._trials.n_columns:
            return True
        return bool(np.abs(self._trials.row(index)).sum() > _REST)

    def _drift_at(self, index: int) -> Float64Array:
        # SPM's discrete cosine set, at the middle of the volume; frequency 0 stands for the line.
        phase = np.pi * (index + 0.5) * self._tr_s / self._run_s
        values = np.cos(self._drift * phase)
        values[self._drift == 0] = 2.0 * phase / np.pi - 1.0
        return values

    def _motion_of(self, motion: Motion) -> Float64Array:
        """Compute Friston et al.'s (1996) 24 regressors: six parameters in mm, their changes, and all squared."""
        arcs = np.radians(motion.rotation_deg) * HEAD_RADIUS_MM
        now = np.concatenate([motion.translation_mm, arcs])
        if self._first_motion is None:
            self._first_motion = now
        now = now - self._first_motion
        change, self._last_motion = now - self._last_motion, now
        twelve = np.concatenate([now, change])
        return np.concatenate([twelve, twelve**2])


def columns_of(run: Run, delay_s: float = 0.0) -> list[int]:
    """Choose the column of each trial: in the order of onsets, each takes the first that is free by then.

    So few columns are needed, and the columns of earlier trials do not depend on later ones.

    Parameters
    ----------
    run : Run
    delay_s : float
        How much later responses come than the run's blocks say, in seconds; may be negative.

    Raises
    ------
    InputError
        If more than `MOST_AT_ONCE` trials would be answered at the same time.
    """
    columns = [0] * len(run.blocks)
    free_from: list[int] = []
    spans = [_answered_span(block, run.tr_s, delay_s) for block in run.blocks]
    for trial in sorted(range(len(run.blocks)), key=lambda trial: spans[trial][0]):
        first_volume, last_volume = spans[trial]
        free = [column for column, volume in enumerate(free_from) if volume <= first_volume]
        column = free[0] if free else len(free_from)
        if column >= MOST_AT_ONCE:
            raise InputError(
                f"run {run.run_id}: more than {MOST_AT_ONCE} of its {len(run.blocks)} trials would be answered at "
                "the same time, and their responses cannot be told apart; merge trials of one category that follow "
                'each other, or let windows slide (window.mode = "sliding")'
            )
        free_from[column : column + 1] = [last_volume + 1]
        columns[trial] = column
    return columns


def _answered_span(block: Block, tr_s: float, delay_s: float) -> tuple[int, int]:
    """Return the first and the last volume that contain a response to a trial."""
    onset_s = block.onset_s + delay_s
    last = int((onset_s + block.duration_s + LASTS_S) / tr_s)
    return int(max(onset_s, 0.0) / tr_s), min(last, MOST_VOLUMES)


class _TrialColumns(Stateful):
    """Columns of the trials: the trial for which each stands at a volume, and its expected response."""

    changing: ClassVar = {"_occupant": list[int | None]}

    def __init__(self, run: Run, response: ResponseSettings) -> None:
        self._peaks_s, self._delay_s = response.peaks_s, response.delay_s
        self._undershoot = response.undershoot_s, response.undershoot_ratio
        self._first: list[int] = []
        self._last: list[int] = []
        self._response: list[Float64Array] = []
        self._occupant: list[int | None] = []
        self.extend(run)

    @property
    def n_columns(self) -> int:
        return len(self._occupant)

    def extend(self, run: Run) -> None:
        """Take in the trials that are not known yet."""
        self._column = columns_of(run, self._delay_s)
        for block in run.blocks[len(self._first) :]:
            first_volume, last_volume = _answered_span(block, run.tr_s, self._delay_s)
            onset_s = block.onset_s + self._delay_s
            since_s = (np.arange(first_volume, last_volume + 1, dtype=np.float64) + 0.5) * run.tr_s - onset_s
            self._first.append(first_volume)
            self._last.append(last_volume)
            shapes = [block_response(since_s, block.duration_s, peak_s, *self._undershoot) for peak_s in self._peaks_s]
            self._response.append(np.array(shapes))
        self._occupant += [None] * (max(self._column, default=-1) + 1 - len(self._occupant))

    def pass_on(self, index: int) -> list[int]:
        passed = [trial for trial in self._active(index) if self._occupant[self._column[trial]] != trial]
        for trial in passed:
            self._occupant[self._column[trial]] = trial
        return [self._column[trial] for trial in passed]

    def column_of(self, trial: int) -> int | None:
        column = self._column[trial]
        return column if self._occupant[column] == trial else None

    def row(self, index: int) -> Float64Array:
        """Return the expected response of each column's trial in the middle of volume `index`."""
        return self.responses(index)[0]

    def responses(self, index: int) -> Float64Array:
        """Return the expected response to each column's trial, as `row` does, for each peak."""
        values = np.zeros((len(self._peaks_s), self.n_columns))
        for trial in self._active(index):
            values[:, self._column[trial]] = self._response[trial][:, index - self._first[trial]]
        return values

    def answered(self, index: int) -> dict[int, float]:
        return {t: float(self._response[t][0, index - self._first[t]]) for t in self._active(index)}

    def _active(self, index: int) -> list[int]:
        return [t for t, first_volume in enumerate(self._first) if first_volume <= index <= self._last[t]]


def _half_periods(run_s: float, settings: NuisanceSettings) -> Float64Array:
    """Return the half periods of each drift regressor in a run: 0 for the line, then 1, 2, … up to the cut-off."""
    if not settings.drift_cutoff_s or not settings.drift_sd:
        return np.empty(0)
    return np.arange(1 + int(2 * run_s / settings.drift_cutoff_s), dtype=np.float64)
