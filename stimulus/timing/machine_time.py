"""A clock of this machine that nobody sets: a run that is continued after a restart keeps time by it.

The wall clock may be set in the middle of a run, by a person or a time server. The clock that counts from the start of
the machine is not set, and every program on the machine reads the same time from it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: Largest difference between the two clocks that is not told to the operator, seconds.
_MOST_APART_S = 0.5


@dataclass(frozen=True, slots=True)
class MachineTime:
    """A moment by the machine's clock.

    Attributes
    ----------
    boot : str
        Name of the machine's start from which time is counted; moments of different starts cannot be compared.
    at_s : float
        Seconds since then, including those in which the machine slept.
    """

    boot: str
    at_s: float

    def __str__(self) -> str:
        return f"boot {self.boot} {self.at_s:.6f}"

    @classmethod
    def read(cls, text: str) -> MachineTime | None:
        """Read a moment from a log's cell; None if the cell holds no moment.

        Parameters
        ----------
        text : str
            The cell, as `str` wrote the moment.
        """
        match text.split():
            case ["boot", boot, at_s]:
                try:
                    return cls(boot, float(at_s))
                except ValueError:
                    return None
            case _:
                return None


def machine_time() -> MachineTime | None:
    """Read the machine's clock; None if the system has no such clock, or no name for the machine's start."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return MachineTime(boot, time.clock_gettime(time.CLOCK_BOOTTIME)) if boot else None


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment by the wall clock and, if the system has one, by the machine's clock.

    Attributes
    ----------
    utc_s : float
        Seconds since 1970.
    machine : MachineTime or None
    """

    utc_s: float
    machine: MachineTime | None = None

    def since(self, start: Moment) -> tuple[float, str]:
        """Return the seconds since an earlier moment, and a line for the operator, empty if the clocks agree.

        Parameters
        ----------
        start : Moment
        """
        by_wall_s = self.utc_s - start.utc_s
        if self.machine is None or start.machine is None or self.machine.boot != start.machine.boot:
            why = "this machine has no other"
            if self.machine is not None:
                why = "the log tells of no other" if start.machine is None else "the machine was started again, too"
            return max(by_wall_s, 0.0), (
                f"the run began {by_wall_s:.1f} s ago by the wall clock, and no other tells ({why}): if that was set "
                "meanwhile, the run goes on at the wrong second"
            )
        since_s = self.machine.at_s - start.machine.at_s
        set_by_s = by_wall_s - since_s
        if abs(set_by_s) <= _MOST_APART_S:
            return since_s, ""
        return since_s, f"the wall clock was set by {set_by_s:+.1f} s since the run began; the run keeps to its second"
