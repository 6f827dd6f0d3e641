"""The choice of what is left out to choose penalties: categories where new ones will be ranked, runs elsewhere."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from calibration.decoders.ridge import PENALTIES_PER_VOXEL
from calibration.features.images import first_few
from calibration.samples.study import CandidateFeatures
from calibration.training.confidence import FEWEST_GROUPS
from rtgod.decoding.chances import NEW

Edge = Literal["smallest", "largest"]
#: Fewest categories to leave out in turn: the same as for the chances of new ones.
_FEWEST = FEWEST_GROUPS[NEW]


@dataclass(frozen=True, slots=True)
class PenaltyChoice:
    """What is left out in turn to choose penalties.

    Attributes
    ----------
    left_out : {"categories", "runs", "parts of the run"}
    why : str
        Reason for this choice.
    groups : tuple of hashable
        Group of each sample, with which it is left out.
    """

    left_out: Literal["categories", "runs", "parts of the run"]
    why: str
    groups: tuple[Hashable, ...]

    def sentence(self) -> str:
        """Return what was left out, and why, for people."""
        return f"penalties are those that decode left-out {self.left_out} best: {self.why}"


def choose_left_out(
    categories: Sequence[str], runs: Sequence[Hashable], candidates: CandidateFeatures, *, one_run: bool = False
) -> PenaltyChoice:
    """Choose what is left out to choose penalties.

    A decoder that ranks new categories is chosen by how well it decodes those that it was not trained on. If the
    category's other samples stayed in training, as they do if a run is left out, the best penalty would be too small:
    it pays to know them by heart.

    Parameters
    ----------
    categories : sequence of str
        Category of each sample.
    runs : sequence of hashable
        Run of each sample, or its part of the only run.
    candidates : CandidateFeatures
        Categories that will be ranked.
    one_run : bool
        Whether `runs` are parts of one run.
    """
    shown = set(categories)
    n_new = len(set(candidates.ids) - shown)
    if candidates.are_plain:
        why = "categories themselves are decoded, so that none is new"
    elif not n_new:
        why = "all candidates were shown in training"
    elif len(shown) < _FEWEST:
        why = f"of {len(shown)} shown categories none can be spared; {_FEWEST} are needed"
    else:
        why = f"{n_new:,} of {len(candidates.ids):,} candidates were not shown in training"
        return PenaltyChoice("categories", why, tuple(categories))
    return PenaltyChoice("parts of the run" if one_run else "runs", why, tuple(runs))


def edge_of(penalty: float, n_voxels: int) -> Edge | None:
    """Return whether a penalty is the smallest or the largest that is tried; None if it lies between.

    Parameters
    ----------
    penalty : float
    n_voxels : int
    """
    if penalty <= PENALTIES_PER_VOXEL[0] * n_voxels:
        return "smallest"
    return "largest" if penalty >= PENALTIES_PER_VOXEL[-1] * n_voxels else None


def warnings_at(edges: Mapping[str, Edge]) -> list[str]:
    """Describe layers whose penalty is at an edge of those tried, a warning for each edge.

    Parameters
    ----------
    edges : mapping of str to {"smallest", "largest"}
        The edge of each layer that is at one.
    """
    meaning = {
        "smallest": "samples that are nearly the same in training and test, such as one trial twice, choose so",
        "largest": "samples that tell little of this layer choose so",
    }
    return [
        f"the penalty of {first_few([layer for layer, at in edges.items() if at == edge])} is the {edge} that was "
        f"tried ({PENALTIES_PER_VOXEL[0 if edge == 'smallest' else -1]:g} for each voxel), and a better one may lie "
        f"beyond; {why}"
        for edge, why in meaning.items()
        if edge in edges.values()
    ]
