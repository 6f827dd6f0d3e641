"""Texts for the participant, in each language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Texts:
    """All texts of one language.

    Attributes
    ----------
    perception, imagery, feedback, feedback_after : tuple of str
        Instructions of a run, one line each, at most four; `feedback_after` is for feedback that comes after imagery
        with closed eyes.
    wait, end, stopped, loading : str
        Messages before and after a run.
    one_moment, not_sure : str
        Messages in place of feedback, and beneath it.
    your_choice, name_it : str
        Cue to imagine something of one's own choice, and question afterwards what it was.
    rate : str
        Question how vivid the imagery was.
    ratings : tuple of 5 str
        Answers, from 1, the target was not recognised, to 5, very vivid.
    button : str
        Name of a button; {} is its key.
    buttons : str
        Line that tells which button moves to the left, the first {}, and which to the right, the second {}.
    target : str
        Line beneath the thermometer; {} is the category.
    marks : tuple of 3 str
        Words beside the thermometer's lower end, its middle and its upper end.
    """

    perception: tuple[str, ...]
    imagery: tuple[str, ...]
    feedback: tuple[str, ...]
    feedback_after: tuple[str, ...]
    wait: str
    end: str
    stopped: str
    loading: str
    one_moment: str
    not_sure: str
    your_choice: str
    name_it: str
    rate: str
    ratings: tuple[str, str, str, str, str]
    button: str
    buttons: str
    target: str
    marks: tuple[str, str, str]

    def all_of_them(self) -> tuple[str, ...]:
        """Return every text by itself, each line of the instructions and each rating included."""
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(text for value in values for text in ((value,) if isinstance(value, str) else value))


ENGLISH = Texts(
    perception=(
        "Keep your eyes on the point in the middle.",
        "Press the button when a picture comes twice in a row.",
    ),
    imagery=(
        "Read the word, then close your eyes.",
        "At the first tone, imagine it as vividly as you can.",
        "At the second tone, open your eyes and rate how vivid it was.",
    ),
    feedback=(
        "Read the word, then imagine it as vividly as you can.",
        "You will see what is decoded from your brain's activity.",
        "It follows you with a delay of a few seconds.",
    ),
    feedback_after=(
        "Read the word, then close your eyes.",
        "At the first tone, imagine it as vividly as you can.",
        "At the second tone, open your eyes and rate how vivid it was.",
        "Then you will see what was decoded from your brain's activity.",
    ),
    wait="waiting for the scanner",
    end="This run is over. Thank you.",
    stopped="We pause here for a moment.",
    loading="one moment, please",
    one_moment="one moment",
    not_sure="not sure yet",
    your_choice="imagine what you like",
    name_it="What did you imagine?",
    rate="How vivid was it?",
    ratings=("not\nrecognised", "not\nvivid", "somewhat\nvivid", "fairly\nvivid", "very\nvivid"),
    button="button {}",
    buttons="{}: left      {}: right\nThe first press marks the middle; the last mark counts.",
    target="how close to “{}”",
    marks=("far away", "like any other", "closest of all"),
)

JAPANESE = Texts(
    perception=(
        "中央の点を見つめていてください。",
        "同じ画像が2回続いたら、ボタンを押してください。",
    ),
    imagery=(
        "単語を読んだら、目を閉じてください。",
        "最初の音のあと、できるだけ鮮明に思い浮かべてください。",
        "2回目の音のあと、目を開けて、鮮明さを答えてください。",
    ),
    feedback=(
        "単語を読んだら、できるだけ鮮明に思い浮かべてください。",
        "脳活動から読み取った結果が画面に表示されます。",
        "結果は数秒遅れて表示されます。",
    ),
    feedback_after=(
        "単語を読んだら、目を閉じてください。",
        "最初の音のあと、できるだけ鮮明に思い浮かべてください。",
        "2回目の音のあと、目を開けて、鮮明さを答えてください。",
        "そのあと、脳活動から読み取った結果が表示されます。",
    ),
    wait="スキャンの開始を待っています",
    end="終わりました。お疲れさまでした。",
    stopped="ここでいったん休みます。",
    loading="少々お待ちください",
    one_moment="少々お待ちください",
    not_sure="まだはっきりしません",
    your_choice="好きなものを思い浮かべてください",
    name_it="何を思い浮かべましたか？",
    rate="どのくらい鮮明でしたか？",
    ratings=("わから\nなかった", "鮮明では\nない", "やや\n鮮明", "かなり\n鮮明", "とても\n鮮明"),
    button="ボタン {}",
    buttons="{}：左へ　　　{}：右へ\n最初に押すと中央に印がつきます。最後の印が答えです。",
    target="「{}」への近さ",
    marks=("遠い", "ほかと同じくらい", "いちばん近い"),
)

LANGUAGES: Mapping[str, Texts] = MappingProxyType({"en": ENGLISH, "ja": JAPANESE})
