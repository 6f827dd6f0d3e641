"""A trial decides with its first ranking that is sure; what it then says is compared with what comes true."""

import numpy as np
import pytest

from calibration.metrics.decisions import decisions_of

NAN = float("nan")


def decided(trials, true, sure=0.8):
    """Decisions of trials, each a list of (volumes, chance, first)."""
    rows = [(p, first, true[i], n, i) for i, of_trial in enumerate(trials) for n, p, first in of_trial]
    p, first, truth, n, of = zip(*rows, strict=True)
    return decisions_of(np.array(p), np.array(first), np.array(truth), np.array(n), of, sure)


def test_the_first_sure_ranking_decides_and_no_later_one():
    found = decided(
        [
            [(1, 0.5, 3), (2, 0.9, 0), (3, 0.7, 3)],  # right after two volumes, wrong at the end
            [(1, 0.85, 2), (2, 0.95, 1)],  # wrong after one volume, right at the end
            [(2, 0.81, 2), (4, 0.99, 2)],
            [(1, 0.8, 3), (2, 0.6, 3)],  # never sure: 0.8 is not above 0.8
        ],
        true=[0, 1, 2, 3],
    )
    assert (found.n_trials, found.n_decided) == (4, 3)
    assert found.volumes == 2
    assert found.volumes_of_decided == 2
    assert found.said == pytest.approx((0.9 + 0.85 + 0.81) / 3)
    assert found.right == pytest.approx(2 / 3)
    assert found.right_at_end == pytest.approx(2 / 3)
    assert found.right_of_all == pytest.approx(3 / 4)
    # Of six pairs of different trials, one choice (2, of the second) is another's truth.
    assert found.by_chance == pytest.approx(1 / 6)
    assert found.low < found.right < found.high


def test_trials_that_are_never_sure_take_longest():
    trials = [[(1, 0.9, 0)], [(2, 0.9, 0)], *[[(3, 0.1, 0)]] * 3]
    assert decided(trials, [0] * 5).volumes == np.inf
    assert decided(trials[:4], [0] * 4).volumes == 2
    assert decided(trials, [0] * 5).volumes_of_decided == 1


def test_without_a_decision_there_is_nothing_to_be_right():
    found = decided([[(1, 0.3, 0), (2, 0.4, 0)]], [0])
    assert (found.n_decided, found.volumes) == (0, np.inf)
    assert np.isnan([found.right, found.low, found.high, found.said, found.right_at_end, found.by_chance]).all()
    assert found.right_of_all == 1
    with pytest.raises(ValueError, match="no rankings"):
        decisions_of(np.empty(0), np.empty(0), np.empty(0), np.empty(0), ())


def test_by_chance_is_that_of_exchanged_categories():
    rng = np.random.default_rng(0)
    first, true = rng.integers(4, size=(2, 50))
    found = decisions_of(np.ones(50), first, true, np.ones(50), range(50))
    # A permutation keeps few trials in their place, which the pairs leave out.
    shuffled = [(first == np.roll(true, k)).mean() for k in range(1, 50)]
    assert found.by_chance == pytest.approx(np.mean(shuffled))
    assert found.by_chance == pytest.approx(1 / 4, abs=0.05)
