"""What is known of a running scan before it comes, and what a receiver makes a run with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rtgod.errors import InputError
from rtgod.events.counting import in_words, is_usual, n_used
from rtgod.events.table import blocks_of, cut_and_told, trials_in
from rtgod.events.trials import Trial, TrialsRead
from rtgod.messages import LONGEST_RUN_S, Float64Array, Run
from rtgod.settings import EventsSettings
from rtgod.sources import acquisition_id
from rtgod.sources.echoes import Echo
from rtgod.tsv import Table

if TYPE_CHECKING:
    from rtgod.receivers.server_rules import ServerRules

#: A volume is missed after this time, in repetition times.
SILENCE_TR = 2.0
#: A run whose files promise a number of volumes ends so long after the last of them, before a server misses one.
ENDED_TR = 1.5
#: Share of a repetition time by which another one may differ and be the same.
_ROUNDING = 0.01
_LEFT_OUT = "Its trials are left out, and volumes are decoded without them"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What is known of runs beside their images.

    Attributes
    ----------
    subject : str
        Label of the subject; the files' own name and number of the patient are never sent.
    events : Table or None
        Events table of every run.
    rules : EventsSettings
        Rules by which volumes are discarded, and rows of the table are trials.
    corrected : bool
        Whether images that the scanner corrected for motion are taken in place of those as acquired.
    echo : int or Combine
        Echo that is taken, from 1, of series that have several, where 0 takes the only one; or all, combined.
    patience_tr : float
        Time that a missing volume is waited for once a later one is complete, in repetition times.
    tr_s : float or None
        Repetition time, seconds, if the files give none.
    n_volumes : int or None
        Planned number of volumes of every run, after which it ends; None takes that of the files, if they give one.
        Drift is modelled over the planned length.
    geometry : Path or None
        DICOM or NIfTI file, or a folder of such, that says where the slices lie, for a protocol that does not.
    several_patients : bool
        Whether images of another PatientID than that of the first run are sent, too.
    server_rules : ServerRules or None
        Where the rules will be known from, as long as the server has not said them: `rules` do not hold then.
    """

    subject: str = "unknown"
    events: Table | None = None
    rules: EventsSettings = field(default_factory=EventsSettings)
    corrected: bool = False
    echo: Echo = 0
    patience_tr: float = 2.0
    tr_s: float | None = None
    n_volumes: int | None = None
    geometry: Path | None = None
    several_patients: bool = False
    server_rules: ServerRules | None = None

    def renewed(self) -> RunOptions:
        """Return the options with the server's rules, if it has said them by now; it is not asked here."""
        return self if self.server_rules is None else self.server_rules.applied_to(self)

    @property
    def n_discarded(self) -> int:
        """Number of volumes at the start of each run that are discarded; 0 as long as that is not known."""
        return self.rules.discard_volumes if self.server_rules is None else 0

    def chosen_tr_s(self, said_s: float) -> tuple[float, str]:
        """Choose the repetition time of a run: what its images say counts before the option.

        Parameters
        ----------
        said_s : float
            Seconds; 0 if they do not say it.

        Returns
        -------
        tr_s : float
            Seconds; 0 if nobody says it.
        note : str
            That they differ by more than rounding; empty if they do not.
        """
        if not said_s or self.tr_s is None:
            return said_s or self.tr_s or 0.0, ""
        differ = abs(said_s - self.tr_s) > _ROUNDING * said_s
        return said_s, f"its images say TR {said_s:g} s, which counts, not --tr" if differ else ""

    def run(
        self,
        run_id: str,
        identity: str,
        tr_s: float,
        shape: tuple[int, int, int],
        affine: Float64Array,
        n_volumes: int | None,
        coil: str = "",
    ) -> tuple[Run, list[str]]:
        """Make a run of what its images say; a scan goes on without trials that are none of it.

        As long as the server's rules are not known, it is as the scanner delivers it, and `decided` is to be called.

        Parameters
        ----------
        run_id : str
        identity : str
            What tells it from others; only a digest of it is sent.
        tr_s : float
            Repetition time, seconds.
        shape : tuple of int
        affine : ndarray of shape (4, 4), float64
            Voxel indices to RAS+ millimetres.
        n_volumes : int or None
            Planned number of volumes that are delivered, where these options have none.
        coil : str
            Receive coil.

        Returns
        -------
        run : Run
        notes : list of str
            Lines for the operator: how volumes and onsets are counted, and why it has no trials, where they do not lie
            in it.

        Raises
        ------
        ValueError
            If these are none of a run.
        """
        run = Run(
            run_id,
            self.subject,
            tr_s,
            shape,
            affine,
            self.n_volumes or n_volumes,
            acquisition=acquisition_id(run_id, identity),
            coil=coil,
        )
        return (run, []) if self.server_rules is not None else self.decided(run)

    def decided(self, run: Run) -> tuple[Run, list[str]]:
        """Give a run its trials, and its planned number of volumes without those that are discarded.

        Parameters
        ----------
        run : Run
            As the scanner delivers it, without trials.

        Returns
        -------
        run : Run
        notes : list of str
            As of `run`.

        Raises
        ------
        ValueError
            If no volume of it would be left.
        """
        try:
            n_planned = n_used(run.n_volumes, self.rules) if run.n_volumes else None
        except InputError as error:
            raise ValueError(str(error)) from error
        trials, notes = self._trials(run.run_id, run.tr_s)
        run = replace(run, n_volumes=n_planned, blocks=blocks_of(trials, run.tr_s))
        try:
            cut, note = cut_and_told(run)  # as a replay of the run does
        except InputError as error:
            counts = [] if is_usual(self.rules) else [f"{run.run_id}: {in_words(self.rules)}"]
            return replace(run, blocks=()), [*counts, f"{error} {_LEFT_OUT}"]
        return cut, [*notes, *([note] if note else [])]

    def _trials(self, run_id: str, tr_s: float) -> tuple[tuple[Trial, ...], list[str]]:
        """Find a run's trials in the table; say how its volumes and onsets are counted."""
        if self.events is None:
            return (), [] if is_usual(self.rules) else [f"{run_id}: {in_words(self.rules)}"]
        try:
            read, note = live_trials(self.events, self.rules, tr_s)
        except InputError as error:
            why = str(error).replace(str(self.events.path), self.events.path.name)
            return (), [f"{run_id}: {why} {_LEFT_OUT}"]
        notes = [f"{run_id}: {note}"] if note else []
        return read.trials, [*notes, f"{run_id}: {in_words(self.rules, read.trials, tr_s)}"]


def live_trials(table: Table, rules: EventsSettings, tr_s: float | None) -> tuple[TrialsRead, str]:
    """Find the trials of a run whose length is not known, without those that no run reaches.

    Parameters
    ----------
    table : Table
    rules : EventsSettings
    tr_s : float or None
        Repetition time, seconds, if it is known.

    Returns
    -------
    read : TrialsRead
    note : str
        How many trials are left out; empty for none.

    Raises
    ------
    InputError
        If the table has no trial, or none within a day.
    """
    read = trials_in(table, rules, tr_s)
    kept = tuple(trial for trial in read.trials if trial.onset_s + trial.duration_s <= LONGEST_RUN_S)
    n_left, n = len(read.trials) - len(kept), len(read.trials)
    if not n_left:
        return read, ""
    last_s = max(trial.onset_s + trial.duration_s for trial in read.trials)
    why = f"{n_left} of {n} trials end more than a day after the run's start, the last after {last_s:g} s"
    if not kept:
        raise InputError(f"{table.path}: {why}; are these milliseconds?")
    return replace(read, trials=kept), f"{why}: left out; are these milliseconds?"


def silence(n_volumes: int, sender: str) -> str:
    """Say that no volume comes.

    Parameters
    ----------
    n_volumes : int
        Number of the last one that came, from 1.
    sender : str
        What may hang.
    """
    return f"no volume for {SILENCE_TR:g} TR, since volume {n_volumes}: did the scan stop, or does {sender} hang?"
