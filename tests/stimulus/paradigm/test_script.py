"""What is on the screen and what sounds at each moment of a run, and that it is legible and never alarms."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from itertools import pairwise

import numpy as np
import pytest

from rtgod.errors import InputError
from rtgod.messages import NotReady, Reason
from stimulus.paradigm.schedule import Image, Schedule, Step, StepKind, feedback_run, imagery_run, perception_run
from stimulus.paradigm.script import MOST_CHOICES, Paradigm, Script, Situation, Tone
from stimulus.paradigm.timing_settings import ProtocolSettings
from stimulus.screens.feedback import FeedbackSettings, View, When
from stimulus.screens.scene import Picture, Scene
from stimulus.screens.texts import ENGLISH, JAPANESE, LANGUAGES
from tests.stimulus.conftest import NAMES

PROTOCOL = ProtocolSettings()
IDS = [f"n{number:08d}" for number in range(len(NAMES))]
WORDS = dict(zip(IDS, NAMES, strict=True)) | {IDS[4]: "killer_whale"}


def perception(**kwargs):
    images = [Image(f"{category}_1", category) for category in IDS]
    schedule = perception_run("run", images, PROTOCOL, np.random.default_rng(0))
    return Script(Paradigm.TRAINING, schedule, ENGLISH, {name: f"{name}.png" for name, _ in images}, **kwargs)


def imagery():
    return Script(Paradigm.IMAGERY, imagery_run("run", IDS[3:6], PROTOCOL), ENGLISH, names=WORDS)


def closed_loop(when=When.CONTINUOUS, view=View.LIST, categories=(*IDS[3:6], ""), **kwargs):
    parts = {"names": WORDS, "candidates": NAMES, "choices": tuple(IDS[:3])} | kwargs
    schedule = feedback_run("run", categories, PROTOCOL)
    return Script(Paradigm.FEEDBACK, schedule, ENGLISH, feedback=FeedbackSettings(view=view, when=when), **parts)


def first(script, kind, trial=1):
    return next(step for step in script.schedule.steps if step.kind is kind and step.trial == trial)


class TestFlashing:
    def pictures(self, since_s, flash_hz=2.0):
        script = perception(flash_hz=flash_hz)
        return script.at(script.schedule.trials[0], since_s, Situation()).pictures

    @pytest.mark.parametrize("frame_hz", [60, 120, 240])
    @pytest.mark.parametrize("early", [-0.25, 0.0, 0.25])
    def test_is_on_in_the_first_half_of_each_period_to_the_frame(self, frame_hz, early):
        n_on = frame_hz // 4
        shown = [bool(self.pictures((frame + 0.5 + early) / frame_hz)) for frame in range(9 * frame_hz)]
        assert shown == ([True] * n_on + [False] * n_on) * 18

    @pytest.mark.parametrize("error_s", [-9e-4, -1e-7, -1e-12, 0.0, 1e-12, 1e-7, 9e-4])
    def test_keeps_to_the_frame_at_exact_multiples(self, error_s):
        for n in range(36):
            assert bool(self.pictures(n * 0.25 + error_s)) == (n % 2 == 0)

    @pytest.mark.parametrize("flash_hz", [1.0, 3.0, 7.5])
    def test_half_of_the_time_whatever_the_rate(self, flash_hz):
        shown = [bool(self.pictures((frame + 0.5) / 240, flash_hz)) for frame in range(240 * 2)]
        assert np.mean(shown) == pytest.approx(0.5, abs=0.01)
        assert sum(b > a for a, b in pairwise(shown)) == 2 * flash_hz - 1  # the first begins with the step

    def test_what_is_shown(self):
        script = perception(image_deg=8.0)
        step = script.schedule.trials[0]
        assert script.at(step, 0.0, Situation()) == Scene(pictures=(Picture(f"{step.stimulus}.png", 8.0),))
        assert script.at(step, 0.3, Situation()) == Scene()  # the fixation stays


class TestImagery:
    def test_a_trial(self):
        script = imagery()
        cue, imagined, rating, pause = script.schedule.steps[5:9]
        assert script.at(cue, 0.0, Situation()) == Scene(title="killer whale")
        assert script.at(imagined, 5.0, Situation()) == Scene()
        assert script.at(pause, 0.0, Situation()) == Scene()
        asked = script.at(rating, 0.0, Situation(choice=4))
        assert (asked.title, asked.choice.labels, asked.choice.chosen) == (ENGLISH.rate, ENGLISH.ratings, 4)
        assert not asked.show_fixation

    def test_a_category_without_a_word_stands_for_itself(self):
        assert imagery().word("grey_owl") == "grey owl"

    @pytest.mark.parametrize("script", [imagery(), closed_loop(When.AFTER)])
    def test_closed_eyes_have_a_tone_at_the_begin_and_the_end_of_imagery_and_no_other(self, script):
        for before, step in pairwise((None, *script.schedule.steps, None)):
            expected = None
            if step is not None and step.kind is StepKind.IMAGERY:
                expected = Tone.BEGIN
            if before is not None and before.kind is StepKind.IMAGERY:
                expected = Tone.END
            assert script.tone(before, step) is expected

    @pytest.mark.parametrize("script", [perception(), closed_loop(When.CONTINUOUS)])
    def test_open_eyes_have_none(self, script):
        assert all(script.tone(a, b) is None for a, b in pairwise((None, *script.schedule.steps, None)))

    def test_a_run_that_stops_in_imagery_ends_it(self):
        assert imagery().tone(first(imagery(), StepKind.IMAGERY), None) is Tone.END


class TestFreeChoice:
    def test_the_cue_leaves_it_to_the_participant_until_the_operator_names_it(self):
        script = closed_loop()
        cue = first(script, StepKind.CUE, trial=4)
        assert script.at(cue, 0.0, Situation()).title == ENGLISH.your_choice
        assert script.at(cue, 0.0, Situation(target_name=IDS[4])).title == "killer whale"
        # What is scheduled is not overruled.
        assert script.at(first(script, StepKind.CUE), 0.0, Situation(target_name=IDS[4])).title == "swan"

    def test_it_is_named_among_the_choices(self):
        script = closed_loop()
        naming = first(script, StepKind.NAMING, trial=4)
        shown = script.at(naming, 0.0, Situation(choice=1))
        assert (shown.title, shown.choice.labels, shown.choice.chosen) == (ENGLISH.name_it, NAMES[:3], 1)
        assert shown.choice.help.startswith("button 1: left      button 2: right\n")
        assert script.n_choices(naming) == 3
        assert script.n_choices(first(script, StepKind.EVALUATION)) == 5
        assert script.n_choices(first(script, StepKind.IMAGERY)) == 0


class TestFeedback:
    @pytest.mark.parametrize("when", When)
    def test_when_it_is_on_the_screen(self, when):
        script = closed_loop(when)
        shown = {step.kind for step in script.schedule.steps if script.shows_feedback(step)}
        assert shown == {StepKind.FEEDBACK} | ({StepKind.IMAGERY} if when is When.CONTINUOUS else set())

    def test_that_of_another_block_is_never_shown(self, ranking):
        script = closed_loop(view=View.THERMOMETER)
        for step in script.schedule.steps:
            for block in range(4):
                scene = script.at(step, 0.0, Situation(ranking(block=block), target=2))
                own = script.shows_feedback(step) and script.schedule.block_of(step) == block
                assert (scene.thermometer is not None) == own
                assert script.shows_feedback(step) or scene == script.at(step, 0.0, Situation())

    def test_a_sliding_window_has_no_block(self, ranking):
        script = closed_loop()
        assert script.at(first(script, StepKind.FEEDBACK), 0.0, Situation(ranking(block=None, scores=range(12)))).rows

    @pytest.mark.parametrize("reason", Reason)
    def test_why_there_is_none_is_never_told(self, reason, not_ready):
        script = closed_loop()
        for step in script.schedule.steps:
            calm = script.at(step, 0.0, Situation())
            scene = script.at(step, 0.0, Situation(not_ready(reason)))
            assert scene in (calm, Scene(message=ENGLISH.one_moment))
            assert script.shows_feedback(step) or scene == calm

    def test_a_bad_moment_is_a_moment_and_between_trials_is_nothing(self, not_ready):
        script = closed_loop()
        step = first(script, StepKind.FEEDBACK)
        assert script.at(step, 0.0, Situation(not_ready(Reason.MOTION))) == Scene(message=ENGLISH.one_moment)
        assert script.at(step, 0.0, Situation(not_ready(Reason.BETWEEN_TRIALS))) == Scene()
        assert script.at(step, 0.0, Situation()) == Scene()  # no server

    def test_no_detail_reaches_any_screen(self):
        script = closed_loop()
        for step in script.schedule.steps:
            answer = NotReady("run", 3, Reason.MOTION, detail="framewise displacement")
            assert "displacement" not in repr(script.at(step, 0.0, Situation(answer)))


class TestBeforeAndAfter:
    @pytest.mark.parametrize(
        ("script", "lines"),
        [
            (perception(), ENGLISH.perception),
            (imagery(), ENGLISH.imagery),
            (closed_loop(When.CONTINUOUS), ENGLISH.feedback),
            (closed_loop(When.AFTER), ENGLISH.feedback_after),
        ],
    )
    def test_instructions_say_what_is_to_come(self, script, lines):
        assert script.before() == Scene(lines=lines, message=ENGLISH.wait)

    def test_the_end(self):
        assert perception().after(stopped=False).title == ENGLISH.end
        assert perception().after(stopped=True).title == ENGLISH.stopped
        assert perception().loading().message == ENGLISH.loading


class TestRefusals:
    def test_images_that_are_not_there_are_named(self):
        script = perception()
        images = dict(list(script.images.items())[7:])
        with pytest.raises(InputError, match=r"no image for n00000000_1, .* and 2 more; give the folder"):
            dataclasses.replace(script, images=images)
        images = dict(list(script.images.items())[2:])
        with pytest.raises(InputError, match="no image for n00000000_1, n00000001_1; give"):
            dataclasses.replace(script, images=images)

    def test_a_stimulus_without_an_image(self):
        schedule = Schedule("run", 3.0, (Step(0.0, 9.0, StepKind.STIMULUS, 1, "face"),))
        with pytest.raises(InputError, match="stimulus at 0 s names no image"):
            Script(Paradigm.TEST, schedule, ENGLISH)

    def test_naming_without_choices_or_with_too_many(self):
        with pytest.raises(InputError, match="List them with --choice"):
            closed_loop(choices=())
        with pytest.raises(InputError, match="13 categories to choose from; a screen has room for 12"):
            closed_loop(choices=tuple(map(str, range(MOST_CHOICES + 1))))
        closed_loop(choices=tuple(map(str, range(MOST_CHOICES))))

    def test_feedback_without_candidates(self):
        with pytest.raises(InputError, match="needs the server's candidates"):
            closed_loop(candidates=())
        with pytest.raises(InputError, match="needs the server's candidates"):
            dataclasses.replace(closed_loop(), paradigm=Paradigm.IMAGERY, candidates=())


def width_of(text):
    """In heights of a letter: the widest line; full-width letters count one, others somewhat less than a half."""
    return max(sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.46 for c in line) for line in text.split("\n"))


def texts_of(texts, *names):
    for name in names or [field.name for field in dataclasses.fields(texts)]:
        value = getattr(texts, name)
        yield from (value,) if isinstance(value, str) else value


@pytest.mark.parametrize("texts", LANGUAGES.values(), ids=LANGUAGES)
class TestTexts:
    def test_nothing_is_missing(self, texts):
        assert all(text.strip() == text and text for text in texts_of(texts))
        assert len(texts.ratings) == 5
        assert texts.target.count("{}") == 1

    def test_lines_fit_a_screen_of_five_by_four(self, texts):
        """A letter's height is a share of the screen's, as drawn; see `stimulus.drawing.psychopy_stage`."""
        lines = ("perception", "imagery", "feedback", "feedback_after")
        assert all(0.042 * width_of(text) < 1.21 for text in texts_of(texts, *lines))
        assert all(len(getattr(texts, name)) <= 4 for name in lines)
        titles = ("end", "stopped", "your_choice", "name_it", "rate")
        assert all(0.075 * width_of(text) < 1.21 for text in texts_of(texts, *titles))
        assert all(0.034 * width_of(text) < 0.8 * 1.25 / 5 for text in texts.ratings)

    def test_nothing_technical_or_alarming(self, texts):
        for text in texts_of(texts):
            assert not re.search(r"error|fail|lost|bad|motion|server|volume|エラー|失敗|サーバ|動かな", text.lower())


def test_each_language_has_its_own_letters():
    assert all(text.isascii() or re.search("[“”]", text) for text in texts_of(ENGLISH))
    assert not any(re.search("[a-z]", text) for text in texts_of(JAPANESE))


@pytest.mark.parametrize("name", ["perception", "imagery", "feedback", "feedback_after"])
def test_instructions_are_polite_and_whole_sentences(name):
    assert all(line.endswith(("ください。", "ます。")) for line in getattr(JAPANESE, name))
    assert all(line.endswith(".") and line[0].isupper() for line in getattr(ENGLISH, name))
    assert len(getattr(JAPANESE, name)) == len(getattr(ENGLISH, name))
