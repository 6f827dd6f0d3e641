"""Words of the live display in other languages; `stimulus.screens.screen` writes them in English."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from rtgod.messages import Ranking, Run
from stimulus.screens.certainty import NOT_SURE
from stimulus.screens.screen import GETTING_READY, ONE_MOMENT, RUN_OVER, WAITING, DisplayState, Screen, joined
from stimulus.screens.texts import ENGLISH
from stimulus.screens.texts import JAPANESE as JAPANESE_TEXTS


@dataclass(frozen=True, slots=True)
class Words:
    """Words of the display in one language; each {} stands for a number.

    Attributes
    ----------
    messages : mapping of str to str
        Messages, by the English ones.
    block, block_of, volume, volume_of : str
        Place of a ranking in the run; the texts with "of" also give the total, if it is known.
    refining, final : str
        Number of volumes a ranking uses, while more may come and once none do.
    """

    messages: Mapping[str, str]
    block: str
    block_of: str
    volume: str
    volume_of: str
    refining: str
    final: str

    def caption(self, ranking: Ranking, run: Run | None) -> str:
        """Describe a ranking's place in the run, counted from 1.

        Parameters
        ----------
        ranking : Ranking
        run : Run or None
            Header of the run, for the totals; None if it was not heard.
        """
        parts = []
        if ranking.block is not None:
            n_blocks = len(run.blocks) if run else 0
            parts.append((self.block_of if n_blocks else self.block).format(ranking.block + 1, n_blocks))
        n_volumes = run.n_volumes if run else None
        parts.append((self.volume_of if n_volumes else self.volume).format(ranking.index + 1, n_volumes))
        parts.append((self.final if ranking.final else self.refining).format(ranking.n_volumes))
        return joined(*parts)


JAPANESE = Words(
    messages=MappingProxyType(
        {
            WAITING: "スキャンの開始を待っています",
            GETTING_READY: "準備しています…",
            ONE_MOMENT: "少々お待ちください",
            RUN_OVER: "終わりました",
            ENGLISH.not_sure: JAPANESE_TEXTS.not_sure,
        }
    ),
    block="ブロック {}",
    block_of="ブロック {}/{}",
    volume="ボリューム {}",
    volume_of="ボリューム {}/{}",
    refining="更新中（{} ボリューム）",
    final="確定（{} ボリューム）",
)
#: Words by language; English needs no translation.
WORDS: Mapping[str, Words] = MappingProxyType({"ja": JAPANESE})


def translated(screen: Screen, state: DisplayState, words: Words | None) -> Screen:
    """Translate a state's screen; without words it stays English.

    Parameters
    ----------
    screen : Screen
        The screen that `screen_for` made of the state.
    state : DisplayState
    words : Words or None
    """
    if words is None:
        return screen
    caption = screen.caption
    if not screen.message and isinstance(state.answer, Ranking):
        not_sure = words.messages[ENGLISH.not_sure] if screen.strength == NOT_SURE else ""
        caption = joined(not_sure, words.caption(state.answer, state.run))
    return replace(screen, caption=caption, message=words.messages.get(screen.message, screen.message))
