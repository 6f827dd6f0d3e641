"""What the participant reads, in each language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Texts:
    """All texts of one language; what they are for is said by their names.

    Attributes
    ----------
    perception, imagery, feedback : tuple of str
        Instructions, a line each.
    wait, end, stopped, loading : str
        Before and after a run.
    one_moment, not_sure : str
        In the stead of feedback, and beneath it.
    your_choice, name_it : str
        Where the participant chooses what to imagine, and says afterwards what it was.
    rate : str
    ratings : tuple of 5 str
        From 1, the target was not recognised, to 5, very vivid.
    target : str
        Beneath the thermometer; {} is the category.
    """

    perception: tuple[str, ...]
    imagery: tuple[str, ...]
    feedback: tuple[str, ...]
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
    target: str


ENGLISH = Texts(
    perception=(
        "Look at the point in the middle, and at the pictures.",
        "Press the button when a picture comes twice in a row.",
    ),
    imagery=(
        "Read the word, then close your eyes.",
        "After the first tone, imagine it as vividly as you can.",
        "After the second tone, open your eyes and say how vivid it was.",
    ),
    feedback=(
        "Read the word, then imagine it as vividly as you can.",
        "You will see what the decoder reads from your brain.",
        "It takes a few seconds to follow you.",
    ),
    wait="waiting for the scanner",
    end="This run is over. Thank you.",
    stopped="We stop here for a moment.",
    loading="one moment, please",
    one_moment="one moment",
    not_sure="not sure yet",
    your_choice="imagine what you like",
    name_it="What did you imagine?",
    rate="How vivid was it?",
    ratings=("not\nrecognised", "hardly", "a little", "fairly", "very\nvivid"),
    target="how near to “{}”",
)

JAPANESE = Texts(
    perception=("中央の点を見ながら、画像を見てください。", "同じ画像が続けて出たら、ボタンを押してください。"),
    imagery=(
        "単語を読んだら、目を閉じてください。",
        "最初の音のあと、できるだけ鮮明に思い浮かべてください。",
        "二回目の音のあと、目を開けて、鮮明さを答えてください。",
    ),
    feedback=(
        "単語を読んだら、できるだけ鮮明に思い浮かべてください。",
        "脳活動から読み取った結果が画面に出ます。",
        "結果は数秒遅れて出ます。",
    ),
    wait="スキャナーを待っています",
    end="終わりました。お疲れさまでした。",
    stopped="いったん止めます。",
    loading="少しお待ちください",
    one_moment="少しお待ちください",
    not_sure="まだはっきりしません",
    your_choice="好きなものを思い浮かべてください",
    name_it="何を思い浮かべましたか",
    rate="どのくらい鮮明でしたか",
    ratings=("わから\nなかった", "ほとんど\n見えない", "少し", "かなり", "とても\n鮮明"),
    target="「{}」への近さ",
)

LANGUAGES: Mapping[str, Texts] = MappingProxyType({"en": ENGLISH, "ja": JAPANESE})
