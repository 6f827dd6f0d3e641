"""Counts of the answers to a run's volumes: rankings, reasons for other answers, and whether the head is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from rtgod.messages import Answer, NotReady, Reason
from rtgod.text import number_of

#: Volumes in a row that cannot be aligned before the operator is told: at the start of a run, and after some could be.
N_AT_START, N_LATER = 3, 5
RANKING = "ranking"
#: Kind that replaces the reason "motion" if the head was not found or was too different, instead of moving too much.
NOT_ALIGNED = "not aligned"
#: Kinds of answers that may be shown for a blinded run, and the name for all its other answers.
_FAULTS, IN_ORDER = (NOT_ALIGNED, Reason.BAD_VOLUME.value, Reason.LOST_VOLUME.value), "in order"


@dataclass(slots=True)
class Tally:
    """Counts of the answers to one acquisition's volumes.

    Attributes
    ----------
    answers : dict of str to int
        Number of volumes with a ranking, and with other answers by reason.
    n_aligned : int
        Number of volumes in which the head was found.
    n_astray : int
        Number of volumes, since the last in which the head was found, in which it was not found or that cannot be used.
    why : str
        Reason for the newest of these volumes, or for the one whose number was reported to the operator.
    hint : str
        Possible explanation, which is set from outside; may be empty.
    """

    answers: dict[str, int] = field(default_factory=dict)
    n_aligned: int = 0
    n_astray: int = 0
    why: str = ""
    hint: str = ""

    def add(self, answer: Answer) -> None:
        """Count an answer.

        Parameters
        ----------
        answer : Ranking or NotReady
        """
        kind = kind_of(answer)
        self.answers[kind] = self.answers.get(kind, 0) + 1
        if kind in (NOT_ALIGNED, Reason.BAD_VOLUME):
            self.n_astray += 1
            # The reason stays the same while nothing changes: otherwise every volume's own words would be reported.
            if self.n_astray <= (N_LATER if self.n_aligned else N_AT_START):
                self.why = answer.detail if isinstance(answer, NotReady) else ""
        elif answer.motion is not None:
            self.n_aligned, self.n_astray, self.hint = self.n_aligned + 1, 0, ""

    @property
    def begins_astray(self) -> bool:
        """Whether, with none aligned yet, exactly `N_AT_START` volumes could not be; true after one volume of a run."""
        return self.n_aligned == 0 and self.n_astray == N_AT_START

    def notice(self, template: str) -> str:
        """Write the notice for the operator that no volume can be decoded now; empty if volumes can be.

        Parameters
        ----------
        template : str
            Name of what volumes are aligned to: "the bundle's head".
        """
        if self.n_aligned == 0 and self.n_astray >= N_AT_START:
            problem = f"none of the first {N_AT_START} volumes could be aligned to {template}, so nothing is decoded"
        elif self.n_astray >= N_LATER:
            problem = f"the last {N_LATER} volumes could not be aligned to {template}, so nothing is decoded"
        else:
            return ""
        return f"{problem}: {self.why}" + (f"; {self.hint}" if self.hint else "")


def kind_of(answer: Answer) -> str:
    """Return the kind of an answer: `RANKING`, `NOT_ALIGNED`, or the reason why the volume was not ranked.

    Parameters
    ----------
    answer : Ranking or NotReady
    """
    if not isinstance(answer, NotReady):
        return RANKING
    if answer.reason is Reason.MOTION and answer.motion is not None and not answer.motion.converged:
        return NOT_ALIGNED
    return answer.reason.value


def blinded(answers: Mapping[str, int]) -> dict[str, int]:
    """Reduce counts for readers who must not know how the decoding goes: faults of volumes, and all others as one.

    Parameters
    ----------
    answers : mapping of str to int
        Number of volumes by kind of answer, as in `Tally`.
    """
    faults = {kind: n for kind, n in answers.items() if kind in _FAULTS}
    return {IN_ORDER: sum(answers.values()) - sum(faults.values()), **faults}


def in_words(answers: Mapping[str, int]) -> str:
    """Write counts of answers in words: "100 rankings; not ranked: 20 warming up, 3 not aligned".

    Parameters
    ----------
    answers : mapping of str to int
        Number of volumes by kind of answer, as in `Tally` or from `blinded`.
    """
    counts = Counter(answers)
    if IN_ORDER in counts:
        return ", ".join(_counted(n, kind) for kind, n in answers.items())
    n_rankings = counts.pop(RANKING, 0)
    rankings = "1 ranking" if n_rankings == 1 else f"{n_rankings or 'no'} rankings"
    others = ", ".join(_counted(n, kind) for kind, n in counts.most_common())
    return f"{rankings}; not ranked: {others}" if others else rankings


def _counted(n: int, kind: str) -> str:
    return number_of(n, kind) if kind.endswith("volume") else f"{n} {kind}"
