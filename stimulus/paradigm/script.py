"""Scene and tone at each moment of a run, as a function of the schedule and of the situation.

No clock and no window: the same moment gives the same scene, so a display that was started again shows what it would
have shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from rtgod.errors import InputError
from rtgod.messages import NotReady, Ranking, Reason
from stimulus.paradigm.schedule import Schedule, Step, StepKind
from stimulus.screens.feedback import FeedbackSettings, When, feedback_scene
from stimulus.screens.scene import Choice, Picture, Scene
from stimulus.screens.screen import readable
from stimulus.screens.texts import Texts


class Paradigm(StrEnum):
    """Kind of a run."""

    TRAINING = "training"
    TEST = "test"
    IMAGERY = "imagery"
    FEEDBACK = "feedback"


class Tone(StrEnum):
    """Sound in a run; the first begins imagery, the second ends it."""

    BEGIN = "begin"
    END = "end"


#: Greatest number of answers on a screen that can be read.
MOST_CHOICES = 12
#: A picture that is due within this time is shown now, seconds: the time of a frame is a forecast, and no frame is this
#: short.
_SAME_FRAME_S = 0.001


@dataclass(frozen=True, slots=True)
class Situation:
    """Values that a scene depends on besides the schedule.

    Attributes
    ----------
    answer : Ranking, NotReady or None
        The newest answer, as it is to be shown; None before the first one and while no server is heard.
    target : int or None
        Position of the imagined category among the candidates, as it is to be shown.
    choice : int or None
        Position of the answer chosen in the step's question, from 0.
    target_name : str
        Identifier of the category that the operator chose, if none is scheduled.
    """

    answer: Ranking | NotReady | None = None
    target: int | None = None
    choice: int | None = None
    target_name: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """Appearance of a run: its schedule, and all that is needed to make a scene of each step.

    Attributes
    ----------
    paradigm : Paradigm
    schedule : Schedule
    texts : Texts
    images : mapping of str to str
        Files of the images, by name.
    names : mapping of str to str
        Words for categories, by identifier; an identifier that is not in it is shown itself.
    candidates : sequence of str
        Names of the candidates in the bundle's order.
    pictures : mapping of int to str
        Files with pictures of candidates, by position.
    choices : tuple of str
        Categories from which a participant names the one that was imagined: at most `MOST_CHOICES`.
    feedback : FeedbackSettings
    image_deg : float
        Size of images, degrees of visual angle.
    flash_hz : float
        Flashes of an image in a second; half of the time it is on.
    button_names : tuple of 2 str
        Names of the buttons that move to the left and to the right.
    near : mapping of str to str
        Files of the decoder's pictures, of which rankings name the nearest, by name.

    Raises
    ------
    InputError
        If the schedule has an image without a file or a name, asks for a name among no choices or too many, or has
        feedback without candidates.
    """

    paradigm: Paradigm
    schedule: Schedule
    texts: Texts
    images: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    candidates: Sequence[str] = ()
    pictures: Mapping[int, str] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    feedback: FeedbackSettings = field(default_factory=FeedbackSettings)
    image_deg: float = 12.0
    flash_hz: float = 2.0
    button_names: tuple[str, str] = ("button 1", "button 2")
    near: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = sorted({s.stimulus for s in self.schedule.steps if s.stimulus} - set(self.images))
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise InputError(
                f"schedule {self.schedule.name}: no image for {', '.join(missing[:5])}{more}; "
                "give the folder that holds them with --images"
            )
        for step in self.schedule.steps:
            if step.kind is StepKind.STIMULUS and not step.stimulus:
                raise InputError(f"schedule {self.schedule.name}: the stimulus at {step.onset_s:g} s names no image")
            if step.kind is StepKind.NAMING and not self.choices:
                raise InputError(
                    f"schedule {self.schedule.name}: the participant is to name what was imagined, among which "
                    "categories? List them with --choice, of `rtgod stimulus imagery` or `feedback`"
                )
            if self.shows_feedback(step) and not self.candidates:
                raise InputError(
                    f"schedule {self.schedule.name}: has feedback, which needs the server's candidates: play it with "
                    "`rtgod stimulus feedback`, and give the server's bundle with --bundle"
                )
        if len(self.choices) > MOST_CHOICES:
            raise InputError(
                f"{len(self.choices)} categories to choose from; a screen has room for {MOST_CHOICES}, so give fewer "
                "with --choice"
            )

    def check_kind(self) -> None:
        """Raise `InputError` if the schedule is of another kind of run."""
        kinds = {step.kind for step in self.schedule.steps}
        subject = f"schedule {self.schedule.name}"
        if self.paradigm is Paradigm.FEEDBACK and not any(map(self.shows_feedback, self.schedule.steps)):
            raise InputError(f"{subject}: has no feedback, as a run of feedback does; is it of another kind?")
        if self.paradigm is Paradigm.IMAGERY and StepKind.STIMULUS in kinds:
            raise InputError(f"{subject}: shows images, as a run of imagery does not; is it of another kind?")
        if self.paradigm in (Paradigm.TRAINING, Paradigm.TEST) and StepKind.STIMULUS not in kinds:
            raise InputError(
                f"{subject}: shows no image, as a run of {self.paradigm} does; is it one of imagery or feedback?"
            )

    def word(self, category: str) -> str:
        """Return the word for a category on the screen.

        Parameters
        ----------
        category : str
            Identifier of the category; may be empty.
        """
        return readable(self.names.get(category, category))

    def scheduled_texts(self) -> tuple[str, ...]:
        """Return the run's texts that do not depend on decoding: instructions, cues, choices, questions, ratings."""
        cues = dict.fromkeys(step.category for step in self.schedule.steps if step.kind is StepKind.CUE)
        return (*self.texts.all_of_them(), *map(self.word, (*filter(None, cues), *self.choices)))

    def loading(self) -> Scene:
        """Return the scene while images are read."""
        return Scene(message=self.texts.loading)

    def before(self) -> Scene:
        """Return the scene while the trigger is waited for."""
        match self.paradigm:
            case Paradigm.IMAGERY:
                lines = self.texts.imagery
            case Paradigm.FEEDBACK if self.feedback.when is When.AFTER:
                lines = self.texts.feedback_after
            case Paradigm.FEEDBACK:
                lines = self.texts.feedback
            case _:
                lines = self.texts.perception
        return Scene(lines=lines, message=self.texts.wait)

    def after(self, *, stopped: bool) -> Scene:
        """Return the scene when the run is over.

        Parameters
        ----------
        stopped : bool
            Whether the run was stopped before its end.
        """
        return Scene(title=self.texts.stopped if stopped else self.texts.end, show_fixation=False)

    def at(self, step: Step, since_s: float, situation: Situation) -> Scene:
        """Return the scene of a step at a moment.

        Parameters
        ----------
        step : Step
        since_s : float
            Time from the step's onset to the middle of the frame, seconds. With the middle, flashes begin at the right
            frame although it may be seen a quarter of a frame early or late.
        situation : Situation
        """
        match step.kind:
            case StepKind.STIMULUS:
                on = (since_s + _SAME_FRAME_S) * self.flash_hz % 1.0 < 0.5
                picture = Picture(self.images[step.stimulus], self.image_deg)
                return Scene(pictures=(picture,) if on else ())
            case StepKind.CUE:
                return Scene(title=self.word(step.category or situation.target_name) or self.texts.your_choice)
            case StepKind.EVALUATION:
                return self._question(self.texts.rate, self.texts.ratings, situation)
            case StepKind.NAMING:
                return self._question(self.texts.name_it, tuple(map(self.word, self.choices)), situation)
            case StepKind.FEEDBACK:
                return self._feedback(step, situation)
            case StepKind.IMAGERY if self.shows_feedback(step):
                return self._feedback(step, situation)
            case _:
                return Scene()

    def shows_feedback(self, step: Step) -> bool:
        """Whether the decoder's result is on the screen in this step.

        Parameters
        ----------
        step : Step
        """
        continuous = self.paradigm is Paradigm.FEEDBACK and self.feedback.when is When.CONTINUOUS
        return step.kind is StepKind.FEEDBACK or (step.kind is StepKind.IMAGERY and continuous)

    def n_choices(self, step: Step) -> int:
        """Return the number of answers to the step's question; 0 if it asks nothing.

        Parameters
        ----------
        step : Step
        """
        return {StepKind.EVALUATION: len(self.texts.ratings), StepKind.NAMING: len(self.choices)}.get(step.kind, 0)

    def tone(self, before: Step | None, step: Step | None) -> Tone | None:
        """Return the tone between two steps: imagery with closed eyes begins and ends with one; None if none sounds.

        Parameters
        ----------
        before : Step or None
            The step that ends; None before the first.
        step : Step or None
            The step that begins; None after the last.
        """
        for neighbour, tone in ((before, Tone.END), (step, Tone.BEGIN)):
            if neighbour is not None and neighbour.kind is StepKind.IMAGERY and not self.shows_feedback(neighbour):
                return tone
        return None

    def _question(self, question: str, labels: tuple[str, ...], situation: Situation) -> Scene:
        choice = Choice(labels, situation.choice, self.texts.buttons.format(*self.button_names))
        return Scene(title=question, choice=choice, show_fixation=False)

    def _feedback(self, step: Step, situation: Situation) -> Scene:
        match situation.answer:
            case Ranking() as ranking if ranking.block in (None, self.schedule.block_of(step)):
                return feedback_scene(
                    self.feedback, ranking, situation.target, self.candidates, self.texts, self.pictures, self.near
                )
            case NotReady(reason=reason) if reason not in (Reason.BETWEEN_TRIALS, Reason.WARMING_UP):
                return Scene(message=self.texts.one_moment)
            case _:
                return Scene()
