"""What the volumes of a run came to: how many were ranked, why others were not, and whether the head is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from rtgod.messages import Answer, NotReady, Reason

#: Volumes in a row that cannot be aligned before the operator is told: at the start of a run, and once some could be.
N_AT_START, N_LATER = 3, 5
RANKING = "ranking"
#: In place of the reason "motion" where the head was not found, or was too different, rather than moved too much.
NOT_ALIGNED = "not aligned"
#: What may be told of a blinded run, and what all its other volumes are called.
_FAULTS, IN_ORDER = (NOT_ALIGNED, Reason.BAD_VOLUME.value, Reason.LOST_VOLUME.value), "in order"


@dataclass(slots=True)
class Tally:
    """Counts the answers to one acquisition's volumes.

    Attributes
    ----------
    answers : dict of str to int
        How many volumes had a ranking, and how many another answer, by reason.
    n_aligned : int
        Volumes in which the head was found.
    n_astray : int
        Volumes since then in which it was not, or which cannot be used.
    why : str
        Why not in the newest of them, or in the one that made them too many.
    hint : str
        What may explain it; whoever found out sets it.
    """

    answers: dict[str, int] = field(default_factory=dict)
    n_aligned: int = 0
    n_astray: int = 0
    why: str = ""
    hint: str = ""

    def add(self, answer: Answer) -> None:
        """Count one more."""
        kind = kind_of(answer)
        self.answers[kind] = self.answers.get(kind, 0) + 1
        if kind in (NOT_ALIGNED, Reason.BAD_VOLUME):
            self.n_astray += 1
            # What is told stays the same while nothing changes: else each volume's own words would be told anew.
            if self.n_astray <= (N_LATER if self.n_aligned else N_AT_START):
                self.why = answer.detail if isinstance(answer, NotReady) else ""
        elif answer.motion is not None:
            self.n_aligned, self.n_astray, self.hint = self.n_aligned + 1, 0, ""

    @property
    def begins_astray(self) -> bool:
        """Whether this volume is the one that makes the first ones too many; true once a run."""
        return self.n_aligned == 0 and self.n_astray == N_AT_START

    def notice(self, template: str) -> str:
        """Tell the operator that nothing can be decoded now; empty while something can.

        Parameters
        ----------
        template : str
            What volumes are aligned to: "the bundle's head".
        """
        if self.n_aligned == 0 and self.n_astray >= N_AT_START:
            what = f"none of the first {N_AT_START} volumes could be aligned to {template}, so nothing is decoded"
        elif self.n_astray >= N_LATER:
            what = f"the last {N_LATER} volumes could not be aligned to {template}, so nothing is decoded"
        else:
            return ""
        return f"{what}: {self.why}" + (f"; {self.hint}" if self.hint else "")


def kind_of(answer: Answer) -> str:
    """Say what a volume came to: `RANKING`, `NOT_ALIGNED`, or the reason why it was not ranked."""
    if not isinstance(answer, NotReady):
        return RANKING
    if answer.reason is Reason.MOTION and answer.motion is not None and not answer.motion.converged:
        return NOT_ALIGNED
    return answer.reason.value


def blinded(answers: Mapping[str, int]) -> dict[str, int]:
    """Counts of answers for who must not know how the decoding goes: faults of volumes, and all others as one."""
    faults = {kind: n for kind, n in answers.items() if kind in _FAULTS}
    return {IN_ORDER: sum(answers.values()) - sum(faults.values()), **faults}


def in_words(answers: Mapping[str, int]) -> str:
    """Write counts of answers as people read them: "100 rankings; not ranked: 20 warming up, 3 not aligned"."""
    counts = Counter(answers)
    if IN_ORDER in counts:
        return ", ".join(f"{n} {kind}" for kind, n in answers.items())
    n_rankings = counts.pop(RANKING, 0)
    rankings = "1 ranking" if n_rankings == 1 else f"{n_rankings or 'no'} rankings"
    others = ", ".join(f"{n} {kind}" for kind, n in counts.most_common())
    return f"{rankings}; not ranked: {others}" if others else rankings
