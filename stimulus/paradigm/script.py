"""What is on the screen, and what sounds, at each moment of a run: a function of the schedule and of what is known.

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
    """The kinds of runs."""

    TRAINING = "training"
    TEST = "test"
    IMAGERY = "imagery"
    FEEDBACK = "feedback"


class Tone(StrEnum):
    """Sounds of a run; the first begins imagery, the second ends it."""

    BEGIN = "begin"
    END = "end"


#: Answers side by side that can be read.
MOST_CHOICES = 12
#: A picture that is due within this time comes now: when a frame will be seen is predicted, and none is so short.
_SAME_FRAME_S = 0.001


@dataclass(frozen=True, slots=True)
class Situation:
    """What a scene depends on besides the schedule.

    Attributes
    ----------
    answer : Ranking, NotReady or None
        The newest, as it is to be shown; None before any and while no server is heard.
    target : int or None
        Position of what is imagined among the candidates, as it is to be shown.
    choice : int or None
        What is chosen in the step's question, from 0.
    target_name : str
        Identifier of the category that the operator chose, where nothing is scheduled.
    """

    answer: Ranking | NotReady | None = None
    target: int | None = None
    choice: int | None = None
    target_name: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """How a run looks.

    Attributes
    ----------
    paradigm : Paradigm
    schedule : Schedule
    texts : Texts
    images : mapping of str to str
        Files of the images, by name.
    names : mapping of str to str
        Words for categories, by identifier; one that is not there stands for itself.
    candidates : sequence of str
        Names of the candidates in the bundle's order.
    pictures : mapping of int to str
        Files with a picture of a candidate.
    choices : tuple of str
        Categories among which a participant names what was imagined: up to `MOST_CHOICES`.
    feedback : FeedbackSettings
    image_deg : float
        Size of images, degrees of visual angle.
    flash_hz : float
        So often do images appear in a second; half of the time they are on.
    button_names : tuple of 2 str
        What the participant calls the buttons that move to the left and to the right.

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

    def __post_init__(self) -> None:
        missing = sorted({s.stimulus for s in self.schedule.steps if s.stimulus} - set(self.images))
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise InputError(
                f"schedule {self.schedule.name}: no image for {', '.join(missing[:5])}{more}; "
                "give the folder that holds them with --images"
            )
        kinds = {step.kind for step in self.schedule.steps}
        if self.paradigm in (Paradigm.TRAINING, Paradigm.TEST) and StepKind.STIMULUS not in kinds:
            raise InputError(
                f"schedule {self.schedule.name}: shows no image, as a run of {self.paradigm} does; is it one of "
                "imagery or "
                "feedback?"
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

    def word(self, category: str) -> str:
        """What a category is called on the screen."""
        return readable(self.names.get(category, category))

    def scheduled_texts(self) -> tuple[str, ...]:
        """Everything that is read in the run whatever is decoded: instructions, cues, choices, questions, ratings."""
        cues = dict.fromkeys(step.category for step in self.schedule.steps if step.kind is StepKind.CUE)
        return (*self.texts.all_of_them(), *map(self.word, (*filter(None, cues), *self.choices)))

    def loading(self) -> Scene:
        """While images are read."""
        return Scene(message=self.texts.loading)

    def before(self) -> Scene:
        """While the trigger is waited for."""
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
        """When the run is over."""
        return Scene(title=self.texts.stopped if stopped else self.texts.end, show_fixation=False)

    def at(self, step: Step, since_s: float, situation: Situation) -> Scene:
        """The scene of a step.

        Parameters
        ----------
        step : Step
        since_s : float
            How long after its onset the scene will be seen. Taken in the middle of its frame, flashes keep to the frame
            although it may be seen a quarter of a frame early or late.
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
        """Whether the decoder's result is on the screen in this step."""
        continuous = self.paradigm is Paradigm.FEEDBACK and self.feedback.when is When.CONTINUOUS
        return step.kind is StepKind.FEEDBACK or (step.kind is StepKind.IMAGERY and continuous)

    def n_choices(self, step: Step) -> int:
        """How many answers the step's question has; 0 where nothing is asked."""
        return {StepKind.EVALUATION: len(self.texts.ratings), StepKind.NAMING: len(self.choices)}.get(step.kind, 0)

    def tone(self, before: Step | None, step: Step | None) -> Tone | None:
        """What sounds when one step follows another: imagery begins and ends with a tone where eyes are closed."""
        for one, tone in ((before, Tone.END), (step, Tone.BEGIN)):
            if one is not None and one.kind is StepKind.IMAGERY and not self.shows_feedback(one):
                return tone
        return None

    def _question(self, question: str, labels: tuple[str, ...], situation: Situation) -> Scene:
        choice = Choice(labels, situation.choice, self.texts.buttons.format(*self.button_names))
        return Scene(title=question, choice=choice, show_fixation=False)

    def _feedback(self, step: Step, situation: Situation) -> Scene:
        match situation.answer:
            case Ranking() as ranking if ranking.block in (None, self.schedule.block_of(step)):
                return feedback_scene(
                    self.feedback, ranking, situation.target, self.candidates, self.texts, self.pictures
                )
            case NotReady(reason=reason) if reason not in (Reason.BETWEEN_TRIALS, Reason.WARMING_UP):
                return Scene(message=self.texts.one_moment)
            case _:
                return Scene()
