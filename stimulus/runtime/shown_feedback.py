"""State of the feedback on the screen: the answer shown, its target, and its cells in the tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from rtgod.candidates import Candidates
from rtgod.messages import Answer, NotReady, Ranking
from stimulus.blinding.conditions import Feedback
from stimulus.paradigm.schedule import Step
from stimulus.paradigm.script import Script
from stimulus.screens.feedback import View, percentile, picture_word, shown_strength
from stimulus.screens.screen import readable
from stimulus.tables import NOT_APPLICABLE

_N_FIRST = 10


class FeedbackState:
    """The answer to show: the newest one, or while a trial with a ranking lasts, its newest ranking.

    Parameters
    ----------
    script : Script
    candidates : Candidates
        Candidates of the server's bundle.
    category_of : callable
        Returns the identifier of the category imagined in a step's trial; empty while nobody has chosen one.
    instead : Feedback or None
        Feedback shown in place of the server's answers; if None, the answers are shown.

    Attributes
    ----------
    answer : Ranking, NotReady or None
    target : int or None
        Position among the candidates of the category imagined in the trial that the answer is about.
    """

    def __init__(
        self, script: Script, candidates: Candidates, category_of: Callable[[Step], str], instead: Feedback | None
    ) -> None:
        self._script, self._category_of, self._instead = script, category_of, instead
        self._positions = {category: place for place, category in enumerate(candidates.ids)}
        self._given: tuple[Answer | None, int | None] = None, None
        self._seen: tuple[str, int, int | None] | None = None
        self.answer: Answer | None = None
        self.target: int | None = None

    def update(self, answer: Answer | None, step: Step | None) -> None:
        """Take in the server's newest answer.

        Parameters
        ----------
        answer : Ranking, NotReady or None
            None while the server is not heard.
        step : Step or None
            The step on the screen; None before the run and after it.
        """
        target = self._target_of(answer, step)
        if answer is self._given[0] and target == self._given[1]:
            return
        self._given = answer, target
        if answer is not None and self._instead is not None:
            answer, target = self._instead.shown(answer, target)
        # A trial's ranking stays on the screen when volumes after the trial, or a bad volume, give no ranking.
        if not (isinstance(answer, NotReady) and self._is_of(step)):
            self.answer, self.target = answer, target

    def _is_of(self, step: Step | None) -> bool:
        """Whether the answer that is shown is about the step's trial."""
        block = None if step is None else self._script.schedule.block_of(step)
        return isinstance(self.answer, Ranking) and block is not None and self.answer.block == block

    def is_news(self, step: Step | None) -> bool:
        """Whether a picture that is drawn in `step` shows the answer for the first time.

        Parameters
        ----------
        step : Step or None
            None before the run and after it.
        """
        if step is None or self.answer is None or not self._script.shows_feedback(step):
            return False
        if isinstance(self.answer, Ranking) and self.answer.block not in (None, self._script.schedule.block_of(step)):
            return False
        return self._key != self._seen

    def seen(self) -> str:
        """Note that the answer was shown, and return the index of its volume."""
        self._seen = self._key
        if self.answer is None:
            raise ValueError("no answer was there to be shown")
        return str(self.answer.index)

    def note(self) -> tuple[str, ...]:
        """Note that the answer was shown, and return its cells in the table, from `index` on (see `SHOWN_COLUMNS`)."""
        index, answer, target = self.seen(), self.answer, self.target
        if not isinstance(answer, Ranking):
            answer = cast(NotReady, answer)
            return index, f"not ready: {answer.reason}", *[NOT_APPLICABLE] * 4
        names = self._script.candidates
        named = (NOT_APPLICABLE,) * 2
        if target is not None:
            named = names[target], f"{percentile(answer, target):.6f}"
        view, sure = self._script.feedback.view, shown_strength(self._script.feedback, answer, len(self._script.near))
        first = [readable(names[place]) for place in answer.order[:_N_FIRST]]
        if view is View.NEAREST:
            first = [picture_word(picture.name) for picture in answer.pictures]
        return index, view, *named, f"{sure:.2f}", ", ".join(first)

    @property
    def _key(self) -> tuple[str, int, int | None] | None:
        """Key of the answer; a repetition, which the server sends when somebody connects, has the same key."""
        return None if self.answer is None else (self.answer.run_id, self.answer.index, self.target)

    def _target_of(self, answer: Answer | None, step: Step | None) -> int | None:
        """Find the target of an answer: its block's, or for a ranking of a sliding window, that of the step shown."""
        if not isinstance(answer, Ranking):
            return None
        trials = self._script.schedule.trials
        if answer.block is not None:
            step = trials[answer.block] if answer.block < len(trials) else None
        return None if step is None else self._positions.get(self._category_of(step))
