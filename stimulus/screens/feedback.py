"""Scenes of feedback: the server's answer as a ranked list, a thermometer, pictures, a grid, or the nearest pictures.

Pure. Every view shows how sure the decoder is: an uncertain ranking is pale, and a line says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import PurePosixPath
from types import MappingProxyType

from rtgod.messages import Ranking
from stimulus.screens.certainty import NOT_SURE, ClaritySettings, picture_certainty, strength, strength_of
from stimulus.screens.scene import Picture, Scene, Thermometer
from stimulus.screens.screen import N_ROWS, ranked_list, readable
from stimulus.screens.texts import Texts

#: Places of pictures: x, y and size in degrees, the best in the middle. All fit on a screen of 17 by 14 degrees.
_PICTURES = ((0.0, 0.0, 6.4), (-6.0, 3.0, 3.4), (6.0, 3.0, 3.4), (-6.0, -3.0, 3.4), (6.0, -3.0, 3.4))
_PITCH_DEG, _TILE_DEG = (5.2, 4.5), 3.0
#: Cells of the grid, in the order of the ranking: the middle, the cells beside, above and below it, then the corners.
_GRID = ((0, 0), (-1, 0), (1, 0), (0, 1), (0, -1), (-1, 1), (1, 1), (-1, -1), (1, -1))
#: Places of the nearest pictures around the fixation point, best first: the upper row from the left, then the lower.
_NEAREST, _NEAREST_DEG = ((-3.6, 3.3), (3.6, 3.3), (-3.6, -3.3), (3.6, -3.3)), 4.6
N_NEAREST = len(_NEAREST)


class View(StrEnum):
    """View in which feedback is shown."""

    LIST = "list"
    THERMOMETER = "thermometer"
    PICTURES = "pictures"
    GRID = "grid"
    NEAREST = "nearest"


class When(StrEnum):
    """Time at which feedback is shown."""

    CONTINUOUS = "continuous"
    AFTER = "after"


class FeedbackSettings(ClaritySettings):
    """View and time of feedback: shown with each volume and after the block, or only after the block."""

    view: View = View.THERMOMETER
    when: When = When.CONTINUOUS


def percentile(ranking: Ranking, target: int) -> float:
    """Return the share of the other ranked candidates that the target is ahead of, ties counting half; from 0 to 1.

    A target that is not ranked counts as behind all that are; with very many candidates only the best are ranked.

    Parameters
    ----------
    ranking : Ranking
    target : int
        Position of the target in the bundle's candidate list.
    """
    n_others, scores = len(ranking.order) - 1, ranking.scores
    own_scores = scores[ranking.order == target]
    if not len(own_scores) or n_others < 1:
        return 0.0
    return float(((scores < own_scores).sum() + 0.5 * ((scores == own_scores).sum() - 1)) / n_others)


def feedback_scene(
    settings: FeedbackSettings,
    ranking: Ranking,
    target: int | None,
    names: Sequence[str],
    texts: Texts,
    pictures: Mapping[int, str],
    near: Mapping[str, str] = MappingProxyType({}),
) -> Scene:
    """Make the scene that shows a ranking.

    Parameters
    ----------
    settings : FeedbackSettings
    ranking : Ranking
    target : int or None
        Position of the imagined category among the candidates; without one, the list is shown in place of a
        thermometer.
    names : sequence of str
        Names of all candidates, in the bundle's order.
    texts : Texts
    pictures : mapping of int to str
        Files with pictures of candidates, by position; not every candidate has one.
    near : mapping of str to str
        Files of the decoder's pictures, by the names that rankings give the nearest.
    """
    sure = strength(ranking, settings)
    caption = texts.not_sure if sure == NOT_SURE else ""
    match settings.view:
        case View.THERMOMETER if target is not None:
            label = texts.target.format(readable(names[target]))
            # An uncertain ranking stays nearer to chance: a full thermometer and "not sure yet" would contradict each
            # other.
            level = 0.5 + sure * (percentile(ranking, target) - 0.5)
            return Scene(thermometer=Thermometer(level, label, texts.marks), caption=caption, strength=sure)
        case View.NEAREST:
            return nearest_scene(ranking, near, settings, texts.not_sure) or Scene(message=texts.one_moment)
        case View.PICTURES:
            placed = list(_PICTURES)
        case View.GRID:
            placed = [(x * _PITCH_DEG[0], y * _PITCH_DEG[1], _TILE_DEG) for x, y in _GRID]
        case _:
            first_names = [names[i] for i in ranking.order[:N_ROWS].tolist()]
            listed = ranked_list(ranking, first_names, settings, texts.not_sure)
            return Scene(listed.rows, listed.caption, strength=sure, bars_are_chances=listed.bars_are_chances)
    shown = tuple(
        Picture(pictures.get(i, ""), size_deg, x_deg, y_deg, readable(names[i]), sure)
        for i, (x_deg, y_deg, size_deg) in zip(ranking.order.tolist(), placed, strict=False)
    )
    return Scene(pictures=shown, caption=caption, strength=sure)


def nearest_scene(ranking: Ranking, near: Mapping[str, str], clarity: ClaritySettings, not_sure: str) -> Scene | None:
    """Make the scene of the nearest pictures around the fixation point; None if the ranking names none.

    Parameters
    ----------
    ranking : Ranking
    near : mapping of str to str
        Files of the decoder's pictures, by name.
    clarity : ClaritySettings
    not_sure : str
        Words beneath uncertain pictures.
    """
    if not ranking.pictures:
        return None
    sure = strength_of(picture_certainty(ranking, len(near)), clarity)
    shown = tuple(
        Picture(near.get(picture.name, ""), _NEAREST_DEG, x_deg, y_deg, picture_word(picture.name), sure)
        for picture, (x_deg, y_deg) in zip(ranking.pictures, _NEAREST, strict=False)
    )
    return Scene(pictures=shown, caption=not_sure if sure == NOT_SURE else "", strength=sure)


def shown_strength(settings: FeedbackSettings, ranking: Ranking, n_near: int) -> float:
    """Return the strength of the colours in which feedback is drawn, by the certainty of what it shows.

    Parameters
    ----------
    settings : FeedbackSettings
    ranking : Ranking
    n_near : int
        Number of the decoder's pictures.
    """
    if settings.view is View.NEAREST:
        return strength_of(picture_certainty(ranking, n_near), settings)
    return strength(ranking, settings)


def picture_word(name: str) -> str:
    """Return the word beneath a picture: its file's name without ending, in readable words.

    Parameters
    ----------
    name : str
        Path of the picture below its folder.
    """
    return readable(PurePosixPath(name).stem)
