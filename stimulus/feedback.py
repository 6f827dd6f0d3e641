"""What feedback looks like: the server's answer as a ranked list, a thermometer, pictures, or a grid of neighbours.

Pure. How sure the decoder is shows in every view: what is not sure is pale, and a line says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from rtgod.messages import Ranking
from rtgod.settings import Settings
from stimulus.certainty import certainty
from stimulus.scene import Picture, Scene, Thermometer
from stimulus.texts import Texts
from stimulus.view import N_ROWS, readable, rows_of

#: How clearly a ranking is drawn that is as sure as `FeedbackSettings.clear_from`, one that is less, and one that is
#: less than `FeedbackSettings.pale_below`.
_CLEAR, _FAIR, _NOT_SURE = 1.0, 0.7, 0.45
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


class FeedbackSettings(Settings):
    """How and when feedback is shown: with each volume and after the block, or only after the block.

    How sure the decoder is counts from 0, where the true category is among the first by luck, to 1, certainty (see
    `stimulus.certainty.certainty`).
    """

    view: View = View.THERMOMETER
    when: When = When.CONTINUOUS
    #: Less sure than this is drawn pale, and "not sure yet" stands beneath.
    pale_below: Annotated[float, Field(ge=0, le=1)] = 0.2
    #: As sure as this is drawn in full colour.
    clear_from: Annotated[float, Field(ge=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _pale_is_less_than_clear(self) -> Self:
        if self.pale_below > self.clear_from:
            raise ValueError(
                f"pale_below is {self.pale_below:g} and clear_from {self.clear_from:g}; it cannot be the larger one"
            )
        return self


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


def strength(ranking: Ranking, settings: FeedbackSettings) -> float:
    """How clearly a ranking is drawn; fully where nobody knows how sure it is."""
    sure = certainty(ranking)
    if sure is None or sure >= settings.clear_from:
        return _CLEAR
    return _FAIR if sure >= settings.pale_below else _NOT_SURE


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
    caption = texts.not_sure if sure == _NOT_SURE else ""
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
            rows = rows_of(ranking, [names[i] for i in ranking.order[:N_ROWS].tolist()])
            known = ranking.probability is not None
            return Scene(rows=rows, caption=caption, strength=sure, bars_are_chances=known)
    shown = tuple(
        Picture(pictures.get(i, ""), size_deg, x_deg, y_deg, readable(names[i]), sure)
        for i, (x_deg, y_deg, size_deg) in zip(ranking.order.tolist(), placed, strict=False)
    )
    return Scene(pictures=shown, caption=caption, strength=sure)
