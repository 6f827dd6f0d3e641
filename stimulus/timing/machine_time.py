"""A clock of this machine that nobody sets, by which a run that is gone on with knows its second.

The wall clock may be set in the middle of a run, by a person or a time server; what counts since the machine was
started is not, and every program that runs on it sees the same.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: The two clocks may differ by so much before somebody is told that one was set.
_MOST_APART_S = 0.5


@dataclass(frozen=True, slots=True)
class MachineTime:
    """A moment by the machine's clock.

    Attributes
    ----------
    boot : str
        Which start of the machine it is counted from; two moments of different ones cannot be compared.
    at_s : float
        Seconds since then, those in which it slept included.
    """

    boot: str
    at_s: float

    def __str__(self) -> str:
        return f"boot {self.boot} {self.at_s:.6f}"

    @classmethod
    def read(cls, text: str) -> MachineTime | None:
        """The moment that a log's cell holds as `str` gave it; None where it holds none."""
        match text.split():
            case ["boot", boot, at_s]:
                try:
                    return cls(boot, float(at_s))
                except ValueError:
                    return None
            case _:
                return None


def machine_time() -> MachineTime | None:
    """Give this moment; None where the system has no such clock, or does not say since which start it counts."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return MachineTime(boot, time.clock_gettime(time.CLOCK_BOOTTIME)) if boot else None


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment by the wall clock and, where there is one, by the machine's.

    Attributes
    ----------
    utc_s : float
        Seconds since 1970.
    machine : MachineTime or None
    """

    utc_s: float
    machine: MachineTime | None = None

    def since(self, start: Moment) -> tuple[float, str]:
        """Seconds since an earlier moment, and what the operator should know of them; empty where all is well."""
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
