"""Volumes until rankings are sure are told with what these decisions are worth, and what chance gives."""

import numpy as np
import pytest

from calibration.evaluation.accuracy import Confidences
from calibration.reports import deciding


def confidences(first_chances, right=True, n_volumes=(2, 4)):
    """Blocks of two rankings each, with categories of their own; `first_chances` are of the second ranking."""
    n = len(first_chances)
    p = np.array([[0.3, chance] for chance in first_chances]).ravel()
    true = np.repeat(np.arange(n), 2)
    first = true if right else (true + 1) % n
    return Confidences(
        probability=np.stack([p, p, p], axis=1),
        hit=np.repeat((first == true)[:, np.newaxis], 3, axis=1),
        trials=tuple(np.repeat(np.arange(n), 2).tolist()),
        first=first,
        true=true,
        n_volumes=np.tile(n_volumes, n),
    )


@pytest.mark.parametrize(("right", "percent", "by_chance"), [(True, 100, 0), (False, 0, 50)])
def test_what_decisions_are_worth_stands_beside_how_soon_they_are(right, percent, by_chance):
    found = deciding.decided({"seen": confidences([0.9, 0.85, 0.95], right)})
    said = deciding.sentence("seen", found["seen"])
    assert "seen: 3 of 3 blocks come to be sure (more than 80 % for the first category), after 4 volumes" in said
    assert f"{percent:.1f} % of these decisions are right, {by_chance:.1f} % if compared with other blocks'" in said
    (row,) = deciding.rows_of(found)
    assert len(row) == len(deciding.HEADER)
    assert row[:5] == ("seen", "3", "3", "4", "4")
    (numbers,) = deciding.table_of(found)
    assert len(numbers) == len(deciding.COLUMNS)
    figures = deciding.figures_of(found)
    assert figures["seen_volumes_to_decision"] == 4
    assert figures["seen_sure_right"] == percent / 100


def test_blocks_that_are_seldom_or_never_sure_have_no_median():
    found = deciding.decided({"seen": confidences([0.9, 0.5, 0.6]), "imagined": confidences([0.1, 0.2])})
    assert "1 of 3 blocks come to be sure" in deciding.sentence("seen", found["seen"])
    assert "no median" in deciding.sentence("seen", found["seen"])
    assert deciding.sentence("imagined", found["imagined"]).startswith("imagined: none of 2 blocks comes to be sure")
    assert set(deciding.figures_of(found)) == {"seen_sure", "seen_sure_right", "imagined_sure"}
    assert deciding.rows_of(found)[1][3:] == ("–",) * 7
