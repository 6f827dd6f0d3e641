from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from calibration.evaluation.accuracy import (
    accuracies_of,
    against_candidates,
    aggregated,
    confusion_of,
    feature_accuracy,
    identification,
    interval_over,
    jackknife_interval,
    profile_with_error,
    ranks_of,
)
from calibration.evaluation.predictions import CandidateScores, DecodedCondition
from calibration.metrics.statistics import t_interval

N_CANDIDATES = 9


def ranked(scores, true):
    ones = np.ones(len(true), np.int32)
    return CandidateScores(np.asarray(scores, np.float32), np.asarray(true, np.int32), ones, ones)


@pytest.fixture
def decoded():
    """Forty trials of eight categories, whose two layers are predicted well and badly; categories are repeated."""
    rng = np.random.default_rng(3)
    categories = tuple(f"c{i % 8}" for i in range(40))
    of = np.array([int(name[1:]) for name in categories])
    centres = {"low": rng.normal(size=(8, 30)), "high": rng.normal(size=(8, 20))}
    true = {layer: values[of].astype(np.float32) for layer, values in centres.items()}
    noise = {"low": 0.5, "high": 5.0}
    predicted = {k: (v + rng.normal(0, noise[k], v.shape)).astype(np.float32) for k, v in true.items()}
    scores = rng.normal(size=(40, N_CANDIDATES)).astype(np.float32)
    scores[np.arange(40), of] += 1.5
    return DecodedCondition(
        categories=categories,
        predicted=predicted,
        true=true,
        blocks=ranked(scores, of),
        by_layer={"low": scores, "high": rng.normal(size=scores.shape).astype(np.float32)},
        windows=ranked(np.repeat(scores, 2, axis=0), np.repeat(of, 2)),
        earliest=ranked(scores - 1e-3, of),
        averages=ranked(scores[:8], of[:8]),
    )


def test_ranks_and_accuracies_of_each_sample():
    some = ranked([[3, 1, 2], [1, 2, 2]], [0, 1])
    assert ranks_of(some).tolist() == [1, 2]
    assert accuracies_of(some).tolist() == [1, 0.75]


def test_every_aggregation_there_is(decoded):
    assert list(aggregated(decoded)) == ["single volume", "single block", "average of repeats"]
    found = identification("seen", decoded)
    assert [one.n_samples for one in found] == [40, 40, 8]
    block = found[1]
    accuracies, ranks = accuracies_of(decoded.blocks), ranks_of(decoded.blocks)
    assert block.accuracy == pytest.approx(accuracies.mean())
    assert block.median_rank == np.median(ranks)
    assert (block.top1, block.top5) == ((ranks == 1).mean(), (ranks <= 5).mean())
    assert block.low < block.accuracy < block.high
    assert block.p_value < 0.01
    assert (block.n_categories, block.n_candidates) == (8, N_CANDIDATES)


def test_the_interval_is_over_categories(decoded):
    accuracies = accuracies_of(decoded.blocks)
    by_category = [accuracies[decoded.blocks.true == i].mean() for i in range(8)]
    low, high = stats.t.interval(0.9, 7, np.mean(by_category), stats.sem(by_category))
    found = interval_over(decoded.blocks.true.tolist(), accuracies)
    np.testing.assert_allclose(found, (accuracies.mean(), low, high))


def test_rankings_that_favour_the_tested_categories_are_compared_with_shuffled_labels():
    """Nothing is decoded, and candidates that are tested are always before the others: 50 % is no chance then."""
    scores = np.random.default_rng(0).normal(size=(60, 30))
    scores[:, :10] += 2
    nothing = DecodedCondition((), {}, {}, ranked(scores, np.arange(60) % 10), {}, None, None, None)
    (block,) = identification("seen", nothing)
    assert block.low > 0.6
    assert block.shuffled == pytest.approx(block.accuracy, abs=0.05)
    assert block.p_value > 0.05


def test_every_block_counted_three_times_says_nothing_more(decoded):
    """Repeats of one category are no new evidence about others: neither intervals nor p values become smaller."""
    thrice = replace(decoded, blocks=decoded.blocks.select(np.tile(np.arange(40), 3)))
    once, more = (
        next(one for one in identification("seen", of) if one.aggregation == "single block") for of in (decoded, thrice)
    )
    figures = ("accuracy", "balanced", "low", "high", "p_value", "top1", "median_rank", "n_categories")
    assert [getattr(more, name) for name in figures] == pytest.approx([getattr(once, name) for name in figures])
    assert more.n_samples == 3 * once.n_samples


def test_feature_accuracy_tells_good_layers_from_bad(decoded):
    found = {(one.layer, one.aggregation): one for one in feature_accuracy("seen", decoded)}
    good, bad = found["low", "single block"], found["high", "single block"]
    expected = np.mean(
        [stats.pearsonr(p, t)[0] for p, t in zip(decoded.predicted["low"].T, decoded.true["low"].T, strict=True)]
    )
    assert good.profile == pytest.approx(expected, abs=1e-5)
    assert good.profile_low < good.profile < good.profile_high
    assert good.profile > 0.8 > 0.4 > bad.profile
    assert good.pattern > bad.pattern
    assert found["low", "average of repeats"].profile > good.profile
    assert good.identification > bad.identification
    assert np.isnan(found["low", "average of repeats"].identification)


def test_the_jackknife_of_a_mean_is_its_t_interval():
    values = np.random.default_rng(0).normal(size=12)
    without = (values.sum() - values) / 11
    np.testing.assert_allclose(jackknife_interval(values.mean(), without), t_interval(values)[1:])


def test_two_categories_give_no_interval():
    rng = np.random.default_rng(0)
    r, half = profile_with_error("aabb", rng.normal(size=(4, 5)), rng.normal(size=(4, 5)))
    assert -1 <= r <= 1
    assert np.isnan(half)


def test_more_candidates_are_harder(decoded):
    sizes, shares = against_candidates(decoded.blocks, 1)
    assert (sizes[0], sizes[-1]) == (2, N_CANDIDATES)
    assert shares[0] == pytest.approx(accuracies_of(decoded.blocks).mean())
    assert shares[-1] == pytest.approx((ranks_of(decoded.blocks) == 1).mean())
    assert (np.diff(shares) < 0).all()


def test_rows_of_a_confusion_matrix_sum_to_their_blocks(decoded):
    counts = confusion_of(decoded.blocks.scores, decoded.blocks.true.tolist())
    assert counts.sum(axis=1).tolist() == [5] * 8 + [0]
    assert np.trace(counts) == (ranks_of(decoded.blocks) == 1).sum()
    first = decoded.blocks.scores.argmax(axis=1)
    assert counts[3, 4] == ((decoded.blocks.true == 3) & (first == 4)).sum()


def two_classes(n_right=53, n_runs=4):
    """Blocks of two classes that a classifier has trained on, 14 a run; all but the first few are right."""
    true = np.tile(np.repeat([0, 1], 7), n_runs)
    predicted = np.eye(2, dtype=np.float32)[np.where(np.arange(56) >= 56 - n_right, true, 1 - true)]
    runs = tuple(f"run-{i}" for i in np.repeat(range(n_runs), 14))
    blocks = replace(ranked(predicted, true), runs=runs)
    averages = replace(ranked(np.eye(2), [0, 1]), runs=("all",) * 2)
    names, Y = tuple(np.array(["face", "house"])[true]), np.eye(2, dtype=np.float32)[true]
    return DecodedCondition(names, {"category": predicted}, {"category": Y}, blocks, {}, None, None, averages)


def test_two_classes_with_53_of_56_right_are_told_apart():
    block, average = identification("seen", two_classes())
    assert block.accuracy == pytest.approx(53 / 56)
    assert block.p_value < 0.001
    assert 0.86 < block.low < block.accuracy < block.high <= 1
    assert (block.units, block.is_few) == ("blocks", False)
    assert np.isnan([block.top5, block.top10]).all()
    assert not np.isnan(block.top1)
    # Two samples say nothing, and no result of two could be significant.
    assert (average.accuracy, average.n_samples, average.is_few) == (1.0, 2, True)
    assert (average.p_value, average.p_least) == (0.5, 0.5)
    assert 0 <= average.low < 0.1
    layer = feature_accuracy("seen", two_classes())[0]
    assert layer.p_value < 0.001
    assert np.isnan(layer.pattern_low)


def test_two_classes_that_no_decoder_has_seen_are_two_samples():
    block = identification("imagined", two_classes(), new=True)[0]
    assert (block.p_value, block.p_least, block.units) == (0.5, 0.5, "categories")
    assert 0 <= block.low <= block.high <= 1


def test_intervals_of_correlations_stay_within_their_bounds(decoded):
    for one in feature_accuracy("seen", decoded):
        bounds = [one.profile_low, one.profile_high, one.pattern_low, one.pattern_high]
        assert all(-1 <= bound <= 1 for bound in bounds)
