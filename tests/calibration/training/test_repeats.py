"""An average over trials is as sure as it is right, however much the trials have in common."""

import numpy as np
import pytest

from calibration.training.repeats import (
    Average,
    Averages,
    draw_averages,
    mean_by_volumes,
    notes_on_repeats,
    with_repeats,
)
from rtgod.decoding.chances import Chances, Weight
from rtgod.settings import WindowSettings

N = 8
#: Scores of one trial of 5 volumes are 0 ± 1, that of the true one is 1.5: each unit is worth as much.
CHANCES = Chances(("a",), (Weight(np.log(1.5), 0.0, 0.0), None), (0.0, 0.0), (1, 5), (2, N))


def averages(power, n=400, strength=1.5, seed=0):
    """Averages of k trials, whose noise falls so that a score is worth k ** power as much."""
    rng = np.random.default_rng(seed)
    rankings = []
    for i in range(n):
        k = (2, 3, 5, 8)[i % 4]
        scores = rng.standard_normal(N) / np.sqrt(k**power)
        true = int(rng.integers(N))
        scores[true] += strength
        rankings.append(Average(scores.astype(np.float32), true, 5 * k, k))
    return Averages(rankings, n, are_new=False)


def judged(chances, given):
    """Mean chance of the first, and share of averages whose first is the true one."""
    said, hit = [], []
    for average in given.rankings:
        order = np.argsort(-average.scores)
        evidence = average.n_volumes, None, average.n_blocks
        said.append(chances.probabilities(average.scores[order], np.zeros(N, bool), N, *evidence)[0])
        hit.append(order[0] == average.true)
    return np.mean(said), np.mean(hit)


@pytest.mark.parametrize("power", [0.3, 1.0])
def test_the_power_of_the_number_of_trials_is_found(power):
    found = with_repeats(CHANCES, [averages(power)])
    assert found.repeats == pytest.approx(power, abs=0.15)
    assert found.most_repeats == 8
    said, hit = judged(found, averages(power, 1000, seed=1))
    assert said == pytest.approx(hit, abs=0.03)
    assert judged(CHANCES, averages(power, 1000, seed=1))[0] < hit - 0.03


def test_trials_that_say_nothing_say_nothing_together():
    """The null: no power makes averages without a true category surer than a guess by much."""
    found = with_repeats(CHANCES, [averages(1.0, strength=0.0)])
    assert found.repeats < 0.1


def test_too_few_trials_leave_chances_as_they_are():
    few = averages(1.0, n=4)
    assert with_repeats(CHANCES, [few]) is CHANCES
    assert with_repeats(CHANCES, []) is CHANCES
    # Nothing is known of new categories here, so that their averages cannot teach.
    assert with_repeats(CHANCES, [Averages(averages(1.0).rankings, 400, are_new=True)]) is CHANCES


def test_averages_of_which_nothing_was_learned_are_told_of_where_they_are_made():
    learned, averaging = with_repeats(CHANCES, [averages(1.0)]), WindowSettings(mode="repeats")
    (note,) = notes_on_repeats(CHANCES, averaging)
    assert "said to be as sure as one" in note
    for chances, window in ((learned, averaging), (None, averaging), (CHANCES, WindowSettings())):
        assert notes_on_repeats(chances, window) == []


def test_one_trial_is_as_sure_as_before_and_no_more_count_than_were_met():
    found = with_repeats(CHANCES, [averages(1.0)])
    scores, seen = np.linspace(1, 0, N), np.zeros(N, bool)

    def first(chances, n_volumes, n_blocks):
        return chances.probabilities(scores, seen, N, n_volumes, None, n_blocks)[0]

    assert first(found, 5, 1) == first(CHANCES, 5, 1)
    assert first(found, 900, 1) == first(CHANCES, 900, 1)  # volumes of one trial are no repeats
    assert first(found, 5, 2) == first(CHANCES, 5, 2)  # two that have no more volumes than one
    assert first(found, 10, 2) > first(found, 6, 2) > first(found, 5, 2)
    assert first(found, 5 * 900, 900) == first(found, 40, 8)


def test_averages_are_of_one_category_and_each_trial_is_in_once():
    labels = ["a"] * 4 + ["b"] * 2 + ["c"]
    drawn = draw_averages(labels)
    assert drawn
    for rows in drawn:
        assert len({labels[row] for row in rows}) == 1
        assert len(set(rows.tolist())) == len(rows)
    assert draw_averages(["a", "b"]) == []


def test_a_mean_by_volumes_is_that_of_the_server():
    values = np.array([[1.0, 2.0], [4.0, 8.0]], np.float32)
    np.testing.assert_array_equal(mean_by_volumes(values, np.array([1, 2])), np.float32([3, 6]))
