"""Confidence on simulated subjects: imagery has chances of its own, and figures name the worst cell."""

import numpy as np
import pytest

from benchmarks import confidence


@pytest.fixture(scope="module")
def found():
    subject = confidence.Subject(1, 2.0)
    return subject, confidence.calibrated(subject)


@pytest.mark.parametrize("imagined", [False, True])
def test_what_is_seen_and_what_is_imagined_come_true_as_often_as_said(found, imagined):
    subject, calibrated = found
    rng = np.random.default_rng(0)
    new = np.arange(confidence.N_TRAINED + 1000, confidence.N_TRAINED + 1300)
    samples = subject.samples(new, imagined=imagined, run="test")
    chosen = [np.array([true, *(true + 1 + rng.permutation(2000)[:9])]) for true in new]
    scored = calibrated.scored(samples, 3)
    p, hit = calibrated.judged(scored, chosen, imagined=imagined)
    assert p[:, 0].mean() == pytest.approx(hit[:, 0].mean(), abs=0.08)
    too_sure, _ = calibrated.judged(scored, chosen, imagined=False)
    if imagined:  # chances of what is seen are surer, and further from what comes true
        own, seen = (abs(said[:, 0].mean() - hit[:, 0].mean()) for said in (p, too_sure))
        assert too_sure[:, 0].mean() > p[:, 0].mean()
        assert seen > own


def test_the_worst_cell_is_named_and_certain_ones_are_left_out():
    rng = np.random.default_rng(0)
    p = np.stack([rng.uniform(0.1, 0.9, 2000), np.ones(2000), np.ones(2000)], axis=1)
    hit = rng.uniform(size=(2000, 1)) < p
    right, wrong = (p, hit), (p, hit[::-1])
    figures = confidence.figures_of({"right": [right], "wrong": [wrong, wrong]})
    assert figures["ece_where"] == "wrong first"
    assert figures["ece_worst"] == figures["ece_wrong_first"] > 0.15
    assert figures["ece_right_first"] < 0.03
    assert len(figures) == 4
