"""Feedback conditions: they replace the server's answers by sham feedback, or by none.

A condition holds for a whole run. The server does not know it: it decodes as ever, and its journal holds the truth.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np

from rtgod.errors import InputError, JournalError
from rtgod.journal.journal import read_headers, read_journal
from rtgod.journal.summary import account
from rtgod.messages import Answer, Event, Hello, Int32Array, NotReady, Ranking, Reason

#: With more candidates than the first number, a ranking holds only the best of them, as many as the second number
#: (see `rtgod.messages.Ranking`).
_ALL_RANKED_UP_TO, _N_BEST = 100_000, 1_000


class ConditionKind(StrEnum):
    """Kind of feedback in a run: the truth, a sham, or nothing (a transfer run)."""

    REAL = "real"
    SHUFFLED = "shuffled"
    YOKED = "yoked"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Condition:
    """Feedback condition of one run.

    Attributes
    ----------
    kind : ConditionKind
    seed : int
        Seed of the shuffling; 0 or above.
    journal : str
        Path of the journal whose answers a yoked run shows; once sealed, relative to the sealed file (see
        `stimulus.blinding.yoking`).
    run_id : str
        Run of that journal to show; empty for the first of `runs_to_yoke`.
    n_bytes : int
        Length of the journal when it was sealed, bytes.
    digest : str
        SHA-256 of the journal's first `n_bytes` bytes; empty in a condition that is not sealed.

    Raises
    ------
    InputError
        If the seed is negative, or a yoked condition names no journal.
    """

    kind: ConditionKind
    seed: int = 0
    journal: str = ""
    run_id: str = ""
    n_bytes: int = 0
    digest: str = ""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"the seed {self.seed} is negative; give one of 0 or above")
        if self.kind is ConditionKind.YOKED and not self.journal:
            raise InputError("a yoked run shows another session's answers: give that session's journal")


class Feedback(Protocol):
    """Interface of a condition's feedback: it replaces each answer of the server."""

    def shown(self, answer: Answer, target: int | None) -> tuple[Answer, int | None]:
        """Give the answer and the target to show.

        Parameters
        ----------
        answer : Ranking or NotReady
            The server's newest answer.
        target : int or None
            Position of the category to imagine in the list of candidates; None if there is no such category.
        """


def open_feedback(condition: Condition, candidates: Sequence[str], ids: Sequence[str]) -> Feedback:
    """Prepare the feedback of a run.

    Parameters
    ----------
    condition : Condition
    candidates, ids : sequence of str
        Names and category ids of the decoder's candidates, in its order.

    Raises
    ------
    InputError
        If fewer than two candidates are to be shuffled; or if another session's journal cannot be read, holds no
        ranking of that run, or is of a decoder with other candidates.
    """
    match condition.kind:
        case ConditionKind.REAL:
            return _Real()
        case ConditionKind.NONE:
            return _Nothing()
        case ConditionKind.SHUFFLED:
            return _Shuffled(condition.seed, candidates)
        case ConditionKind.YOKED:
            recording = read_recording(condition)
            _check_candidates(recording, candidates)
            return _Yoked(recording, ids)


def runs_to_yoke(journal: Path) -> list[str]:
    """List a journal's runs with rankings; runs that were stopped early only if every run was.

    Parameters
    ----------
    journal : Path

    Raises
    ------
    InputError
        If the journal cannot be read, or no run has a ranking.
    """
    try:
        ranked = [run for run in account(read_headers(journal)).runs.values() if run.n_rankings]
    except JournalError as error:
        raise InputError(str(error)) from error
    if not ranked:
        raise InputError(f"{journal}: no run with a ranking in it; give the journal of a session with feedback")
    completed = [run for run in ranked if len(run.answered) >= (run.n_planned or 0)]
    return [run.run_id for run in completed or ranked]


def of_unknown_confidence(journal: Path) -> tuple[int, int]:
    """Count the rankings that yoked runs could show, and return first how many of them have no confidence, then all.

    Parameters
    ----------
    journal : Path
    """
    kind = ConditionKind.YOKED
    recordings = [read_recording(Condition(kind, journal=str(journal), run_id=run)) for run in runs_to_yoke(journal)]
    answers = [answer for recording in recordings for answer, _ in recording.answers if isinstance(answer, Ranking)]
    return sum(answer.probability is None for answer in answers), len(answers)


@dataclass(frozen=True, slots=True)
class Recording:
    """Answers of the server in a run of another session.

    Attributes
    ----------
    journal, run_id : str
        Path of that session's journal, and the run's name in it.
    hello : Hello or None
        Hello of that session's server; None if the journal has lost it.
    answers : tuple of (Ranking or NotReady, str)
        In the order of their volumes, each with the category id of the target at that moment; the id is empty if
        there was no target.
    """

    journal: str
    run_id: str
    hello: Hello | None
    answers: tuple[tuple[Answer, str], ...]


def read_recording(condition: Condition) -> Recording:
    """Read the answers that a yoked run shows from the journal, skipping its volumes.

    Parameters
    ----------
    condition : Condition
        Of a yoked run, with a path that leads to the journal from the working directory.

    Raises
    ------
    InputError
        If the journal cannot be read, or holds no ranking of the run.
    """
    path = Path(condition.journal)
    run_id = condition.run_id or runs_to_yoke(path)[0]
    hello: Hello | None = None
    targets: list[str] = []
    answers: dict[int, tuple[Answer, int]] = {}
    try:
        for message in read_journal(path):
            match message:
                case Hello():
                    hello = message
                case Event(kind="imagery") if message.run_id == run_id:
                    targets.append(message.value)
                case Ranking(block=int(trial)) if message.run_id == run_id:
                    answers[message.index] = message, trial
                case Ranking() | NotReady() if message.run_id == run_id:
                    answers[message.index] = message, len(targets) - 1
    except JournalError as error:
        raise InputError(str(error)) from error
    if not any(isinstance(answer, Ranking) for answer, _ in answers.values()):
        raise InputError(f"{path}: no ranking of a run {run_id!r} in it; `rtgod journal ls` lists its runs")
    targets_by_trial = dict(enumerate(targets))
    return Recording(
        str(path),
        run_id,
        hello,
        tuple((answer, targets_by_trial.get(trial, "")) for _, (answer, trial) in sorted(answers.items())),
    )


def _check_candidates(recording: Recording, candidates: Sequence[str]) -> None:
    """Refuse a session with other candidates; another decoder with the same candidates is allowed."""
    mismatch = InputError(
        f"{recording.journal}: the journal is of another decoder: its candidates are not the {len(candidates)} of this "
        "one; give a session with the same list of candidates"
    )
    hello = recording.hello
    # If the settings choose candidates, the server counts only the chosen ones.
    chosen = hello is not None and hello.settings.get("ranking", {}).get("candidates")
    if hello is not None and not chosen and hello.n_candidates != len(candidates):
        raise mismatch
    for answer, _ in recording.answers:
        if isinstance(answer, Ranking) and not (
            _in_range(answer.order, len(candidates)) and _names(answer, candidates) == answer.top
        ):
            raise mismatch


class _Real:
    def shown(self, answer: Answer, target: int | None) -> tuple[Answer, int | None]:
        return answer, target


class _Nothing:
    def shown(self, answer: Answer, target: int | None) -> tuple[Answer, int | None]:
        return NotReady(answer.run_id, answer.index, Reason.BETWEEN_TRIALS), target


class _Shuffled:
    """Sham feedback: another category, always the same, takes each one's place, so the list looks like any other."""

    def __init__(self, seed: int, candidates: Sequence[str]) -> None:
        if len(candidates) < 2:
            raise InputError(f"candidates to shuffle: at least two are needed, the decoder has {len(candidates)}")
        self._seed, self._candidates = seed, candidates
        self._stand_in: Int32Array | None = None

    def shown(self, answer: Answer, target: int | None) -> tuple[Answer, int | None]:
        if isinstance(answer, NotReady):
            return answer, target
        if not _in_range(answer.order, len(self._candidates)):
            raise InputError(f"the server's decoder has other candidates than the {len(self._candidates)} given here")
        if self._stand_in is None:
            self._stand_in = self._drawn(answer.order)
        shuffled = replace(answer, order=self._stand_in[answer.order])
        return replace(shuffled, top=_names(shuffled, self._candidates)), target

    def _drawn(self, order: Int32Array) -> Int32Array:
        """Draw the category that is shown in the place of each, by position.

        If the settings choose candidates, only those may be shown, so only those are exchanged with each other. With
        very many candidates only the best are ranked: then all are exchanged, as a target among the best must not stay
        among them.
        """
        n_all = len(self._candidates)
        best_alone = n_all > _ALL_RANKED_UP_TO and len(order) == _N_BEST
        stand_in = np.arange(n_all, dtype=np.int32)
        ranked = stand_in.copy() if best_alone else np.sort(order)
        stand_in[ranked] = _deranged(ranked, np.random.default_rng(self._seed))
        return stand_in


class _Yoked:
    """Sham feedback: another session's answer to the same volume, or if it has none, its last answer before.

    While the server's own rankings have no confidence, the shown ones lose theirs: else they would look unlike the
    truth.
    """

    def __init__(self, recording: Recording, ids: Sequence[str]) -> None:
        positions = {category: position for position, category in enumerate(ids)}
        self._shown = [(answer, positions.get(category)) for answer, category in recording.answers]
        self._indices = [answer.index for answer, _ in self._shown]
        self._is_known = True

    def shown(self, answer: Answer, target: int | None) -> tuple[Answer, int | None]:  # noqa: ARG002 # its own target
        position = max(bisect_right(self._indices, answer.index) - 1, 0)
        sham, sham_target = self._shown[position]
        if isinstance(answer, Ranking):
            self._is_known = answer.probability is not None
        if isinstance(sham, Ranking) and not self._is_known:
            sham = replace(sham, probability=None)
        return replace(sham, run_id=answer.run_id, index=answer.index), sham_target


def _deranged(values: Int32Array, rng: np.random.Generator) -> Int32Array:
    """Draw an order of the values in which none keeps its place, all such orders being equally likely.

    A single value cannot move, and is returned as it is.
    """
    while True:
        # About one order in e (37 %) moves every value, for any number of values.
        drawn = rng.permutation(values)
        if len(values) < 2 or (drawn != values).all():
            return drawn


def _in_range(order: Int32Array, n_candidates: int) -> bool:
    return order.size == 0 or bool(order.min() >= 0 and order.max() < n_candidates)


def _names(ranking: Ranking, candidates: Sequence[str]) -> tuple[str, ...]:
    return tuple(candidates[position] for position in ranking.order[: len(ranking.top)])
