"""What feedback looks like: the server's answer as a ranked list, a thermometer, pictures, or a grid of neighbours.

Pure. How sure the decoder is shows in every view: what is not sure is pale, and a line says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from rtgod.messages import Ranking
from stimulus.screens.certainty import NOT_SURE, ClaritySettings, strength
from stimulus.screens.scene import Picture, Scene, Thermometer
from stimulus.screens.screen import N_ROWS, ranked_list, readable
from stimulus.screens.texts import Texts

#: Where pictures are: x, y and the size, in degrees; the best in the middle. All fit a screen of 17 by 14.
_PICTURES = ((0.0, 0.0, 6.4), (-6.0, 3.0, 3.4), (6.0, 3.0, 3.4), (-6.0, -3.0, 3.4), (6.0, -3.0, 3.4))
_PITCH_DEG, _TILE_DEG = (5.2, 4.5), 3.0
#: The best in the middle, the next beside it, then the corners.
_GRID = ((0, 0), (-1, 0), (1, 0), (0, 1), (0, -1), (-1, 1), (1, 1), (-1, -1), (1, -1))


class View(StrEnum):
    """How feedback is shown."""

    LIST = "list"
    THERMOMETER = "thermometer"
    PICTURES = "pictures"
    GRID = "grid"


class When(StrEnum):
    """When feedback is shown."""

    CONTINUOUS = "continuous"
    AFTER = "after"


class FeedbackSettings(ClaritySettings):
    """How and when feedback is shown: with each volume and after the block, or only after the block."""

    view: View = View.THERMOMETER
    when: When = When.CONTINUOUS


def percentile(ranking: Ranking, target: int) -> float:
    """Share of the other ranked candidates that the target is ahead of, ties counting half; from 0 to 1.

    A target that is not among those ranked, as where only the best of very many are, is behind all that are.

    Parameters
    ----------
    ranking : Ranking
    target : int
        Its position in the bundle's candidate list.
    """
    n_others, scores = len(ranking.order) - 1, ranking.scores
    own = scores[ranking.order == target]
    if not len(own) or n_others < 1:
        return 0.0
    return float(((scores < own).sum() + 0.5 * ((scores == own).sum() - 1)) / n_others)


def feedback_scene(
    settings: FeedbackSettings,
    ranking: Ranking,
    target: int | None,
    names: Sequence[str],
    texts: Texts,
    pictures: Mapping[int, str],
) -> Scene:
    """The scene of a ranking.

    Parameters
    ----------
    settings : FeedbackSettings
    ranking : Ranking
    target : int or None
        Position of what is imagined; without one a thermometer has nothing to say, and the list is shown.
    names : sequence of str
        Of all candidates, in the bundle's order.
    texts : Texts
    pictures : mapping of int to str
        Files with a picture of a candidate, where there is one.
    """
    sure = strength(ranking, settings)
    caption = texts.not_sure if sure == NOT_SURE else ""
    match settings.view:
        case View.THERMOMETER if target is not None:
            label = texts.target.format(readable(names[target]))
            # What is not sure stays nearer to chance: full and "not sure yet" would contradict each other.
            level = 0.5 + sure * (percentile(ranking, target) - 0.5)
            return Scene(thermometer=Thermometer(level, label, texts.marks), caption=caption, strength=sure)
        case View.PICTURES:
            placed = list(_PICTURES)
        case View.GRID:
            placed = [(x * _PITCH_DEG[0], y * _PITCH_DEG[1], _TILE_DEG) for x, y in _GRID]
        case _:
            first = [names[i] for i in ranking.order[:N_ROWS].tolist()]
            listed = ranked_list(ranking, first, settings, texts.not_sure)
            return Scene(listed.rows, listed.caption, strength=sure, bars_are_chances=listed.bars_are_chances)
    shown = tuple(
        Picture(pictures.get(i, ""), size_deg, x_deg, y_deg, readable(names[i]), sure)
        for i, (x_deg, y_deg, size_deg) in zip(ranking.order.tolist(), placed, strict=False)
    )
    return Scene(pictures=shown, caption=caption, strength=sure)
