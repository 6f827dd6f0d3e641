"""What is known of a running scan before it comes, and what a receiver makes a run with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rtgod.errors import InputError
from rtgod.events.table import Trial, blocks_of, check_within
from rtgod.messages import Float64Array, Run
from rtgod.sources import acquisition_id
from rtgod.sources.echoes import Echo

#: A volume is missed after this time, in repetition times.
SILENCE_TR = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What is known of runs beside their images.

    Attributes
    ----------
    subject : str
        Label of the subject; the files' own name and number of the patient are never sent.
    trials : tuple of Trial
        Trials of every run; onsets count from volume 0.
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
    several_patients : bool
        Whether images of another PatientID than that of the first run are sent, too.
    """

    subject: str = "unknown"
    trials: tuple[Trial, ...] = ()
    corrected: bool = False
    echo: Echo = 0
    patience_tr: float = 2.0
    tr_s: float | None = None
    n_volumes: int | None = None
    several_patients: bool = False

    def run(
        self,
        run_id: str,
        identity: str,
        tr_s: float,
        shape: tuple[int, int, int],
        affine: Float64Array,
        n_volumes: int | None,
        coil: str = "",
    ) -> tuple[Run, str]:
        """Make a run of what its images say; a scan goes on without trials that are none of it.

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
            Planned number of volumes, where these options have none.
        coil : str
            Receive coil.

        Returns
        -------
        run : Run
        note : str
            Why it has no trials, where they do not lie in it; empty if they do.

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
            blocks_of(self.trials, tr_s),
            acquisition_id(run_id, identity),
            coil,
        )
        try:
            check_within(run)
        except InputError as error:
            return replace(run, blocks=()), f"{error} Its trials are left out, and volumes are decoded without them"
        return run, ""


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
