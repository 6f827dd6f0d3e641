import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.messages import Block, Motion, Pattern, Run
from rtgod.preprocessing.windows import RepeatAverager, Sample, Window
from rtgod.settings import WindowSettings
from tests import naive

STILL = Motion((0, 0, 0), (0, 0, 0), 0, 0, 1, True)
PERCEPTION = tuple(Block(33 + 9 * n, 9) for n in range(55))  # ds001246: 178 volumes of 3 s
IMAGERY = tuple(Block(36 + 24 * n, 15) for n in range(25))  # 213 volumes; 15 s after a cue of 3 s


def run(blocks=(), tr_s=3.0, n_volumes=None):
    return Run("run-1", "01", tr_s, (4, 4, 4), np.eye(4), n_volumes, tuple(blocks))


def pattern(index, censored=False):
    values = np.random.default_rng(index).normal(0, 1, 5).astype(np.float32)
    return Pattern("run-1", index, values, 0, STILL, censored)


def samples(window, indices, censored=()):
    found = {index: window.add(pattern(index, index in censored)) for index in indices}
    return {index: sample for index, sample in found.items() if sample is not None}


def mean_of(indices):
    return np.mean([pattern(index).values.astype(float) for index in indices], axis=0)


@pytest.mark.parametrize(
    ("blocks", "n_volumes", "first", "length", "period"),
    [(PERCEPTION, 178, 12, 3, 3), (IMAGERY, 213, 13, 5, 8)],
    ids=["perception", "imagery"],
)
def test_the_blocks_of_the_data_set(blocks, n_volumes, first, length, period):
    one = run(blocks, n_volumes=n_volumes)
    found = samples(Window(one, WindowSettings()), range(n_volumes))
    expected = {first + period * block + k: (block, k) for block in range(len(blocks)) for k in range(length)}
    assert set(found) == set(expected)
    for index, (block, k) in expected.items():
        sample = found[index]
        assert (sample.index, sample.block, sample.n_volumes, sample.final) == (index, block, k + 1, k == length - 1)
        np.testing.assert_allclose(sample.values, mean_of(range(index - k, index + 1)), rtol=1e-6)


def test_a_run_that_ends_early_ends_its_last_block():
    found = samples(Window(run([Block(6, 9)], n_volumes=5), WindowSettings()), range(5))
    assert {index: sample.final for index, sample in found.items()} == {3: False, 4: True}
    assert not samples(Window(run([Block(60, 9)], n_volumes=5), WindowSettings()), range(5))


@given(
    tr_s=st.sampled_from([0.5, 0.72, 1.0, 1.97, 2.0, 2.5, 3.0]),
    shift_s=st.sampled_from([0.0, 2.1, 3.0, 5.5]),
    tenths=st.lists(st.tuples(st.integers(0, 120), st.integers(3, 200)), min_size=1, max_size=6),
)
def test_a_volume_belongs_to_the_one_block_that_holds_its_middle(tr_s, shift_s, tenths):
    """Blocks after pauses, some of none, in tenths of a second; the odd start keeps edges off the volumes' middles."""
    blocks, end = [], 0
    for pause, duration in tenths:
        blocks.append(Block(0.0337 + (end + pause) / 10, duration / 10))
        end += pause + duration
    one = run(blocks, tr_s)
    window = Window(one, WindowSettings(hrf_shift_s=shift_s))
    indices = range(int((end / 10 + shift_s) / tr_s) + 3)
    expected = [naive.block_of(index, one, shift_s) for index in indices]
    assert [window.position(index)[0] for index in indices] == expected
    assert expected[-1] is None
    for block in {b for b in expected if b is not None}:
        finals = [index for index in indices if window.position(index) == (block, True)]
        assert finals == [max(index for index in indices if expected[index] == block)]


@pytest.mark.parametrize("delay_s", [-9.0, -3.0, 0.0, 4.5])
def test_a_delay_of_the_events_moves_windows_as_much_later(delay_s):
    blocks, moved = [Block(9, 9), Block(27, 6)], [Block(9 + delay_s, 9), Block(27 + delay_s, 6)]
    delayed = samples(Window(run(blocks), WindowSettings(), delay_s), range(20))
    later = samples(Window(run(moved), WindowSettings()), range(20))
    assert {index: (s.block, s.final, s.n_volumes) for index, s in delayed.items()} == {
        index: (s.block, s.final, s.n_volumes) for index, s in later.items()
    }
    for index, sample in delayed.items():
        np.testing.assert_array_equal(sample.values, later[index].values)


@pytest.mark.parametrize("tr_s", [0.1, 0.3, 0.7, 3.0])
def test_an_edge_on_a_volume_s_middle_is_not_lost_to_rounding(tr_s):
    for n in range(1, 40):
        window = Window(run([Block((n + 0.5) * tr_s, 3 * tr_s)], tr_s), WindowSettings(hrf_shift_s=0))
        members = [index for index in range(n + 6) if window.position(index)[0] is not None]
        assert members == [n, n + 1, n + 2]


def test_censored_volumes_do_not_enter():
    window = Window(run([Block(0, 12)]), WindowSettings(hrf_shift_s=0))
    found = samples(window, range(4), censored={0, 2})
    assert {index: sample.n_volumes for index, sample in found.items()} == {1: 1, 2: 1, 3: 2}
    np.testing.assert_array_equal(found[2].values, found[1].values)
    np.testing.assert_allclose(found[3].values, mean_of([1, 3]), rtol=1e-6)


def test_a_censored_last_volume_still_completes_its_block():
    found = samples(Window(run([Block(0, 9)]), WindowSettings(hrf_shift_s=0)), range(3), censored={2})
    assert found[2].final
    np.testing.assert_allclose(found[2].values, mean_of([0, 1]), rtol=1e-6)
    assert not samples(Window(run([Block(0, 9)]), WindowSettings(hrf_shift_s=0)), range(3), censored={0, 1, 2})


def test_lost_volumes_leave_a_smaller_sample_and_no_trace_in_the_next_block():
    window = Window(run([Block(0, 9), Block(9, 9)]), WindowSettings(hrf_shift_s=0))
    found = samples(window, [0, 2, 5])
    np.testing.assert_allclose(found[2].values, mean_of([0, 2]), rtol=1e-6)
    assert found[2].final
    assert (found[5].block, found[5].n_volumes) == (1, 1)
    np.testing.assert_array_equal(found[5].values, pattern(5).values)


@pytest.mark.parametrize("length", [1, 3, 4])
def test_a_sliding_window_is_the_mean_of_the_clean_volumes_in_reach(length):
    indices, censored = [0, 1, 2, 3, 7, 8, 9, 10, 11, 12], {2, 10}
    window = Window(run(), WindowSettings(sliding_volumes=length))
    found = samples(window, indices, censored)
    for index in indices:
        members = [i for i in indices if index - length < i <= index and i not in censored]
        if not members:
            assert index not in found
            continue
        sample = found[index]
        assert (sample.block, sample.n_volumes, sample.final) == (None, len(members), len(members) == length)
        np.testing.assert_allclose(sample.values, mean_of(members), rtol=1e-6)


@pytest.mark.parametrize(
    ("mode", "blocks", "answered"),
    [
        ("auto", [Block(0, 6)], {0, 1}),
        ("auto", [], {0, 1, 2, 3}),
        ("sliding", [Block(0, 6)], {0, 1, 2, 3}),
        ("block", [], set()),
    ],
)
def test_the_mode_says_whether_blocks_are_followed(mode, blocks, answered):
    window = Window(run(blocks), WindowSettings(mode=mode, hrf_shift_s=0))
    assert set(samples(window, range(4))) == answered


def test_a_sample_does_not_depend_on_the_volumes_before_its_window():
    settings = WindowSettings(sliding_volumes=3)
    long, short = Window(run(), settings), Window(run(), settings)
    assert samples(long, range(500))[499].values.tobytes() == samples(short, [497, 498, 499])[499].values.tobytes()


# ------------------------------------------------------------------------------------ onsets between two volumes


@pytest.mark.parametrize(
    ("shift_s", "shares"),
    [
        (0.0, {3: 1.0, 4: 1.0, 5: 1.0}),  # 9 to 18 s
        (1.0, {3: 2 / 3, 4: 1.0, 5: 1.0}),  # 10 to 19 s; volume 6 comes too late for its third to count
        (2.0, {3: 1 / 3, 4: 1.0, 5: 1.0, 6: 2 / 3}),  # 11 to 20 s; the middle of volume 3 lies before
        (1.5, {3: 0.5, 4: 1.0, 5: 1.0}),
    ],
)
def test_a_volume_counts_by_its_share_of_the_trial(shift_s, shares):
    window = Window(run([Block(9, 9)]), WindowSettings(hrf_shift_s=shift_s))
    found = samples(window, range(8))
    last = found[max(found)]
    weights = np.array(list(shares.values()))
    expected = weights @ np.array([pattern(i).values.astype(float) for i in shares]) / weights.sum()
    np.testing.assert_allclose(last.values, expected, rtol=1e-6)
    assert (last.n_volumes, last.final) == (len(shares), True)


def test_a_censored_volume_before_the_trial_gives_no_share():
    window = Window(run([Block(9, 9)]), WindowSettings(hrf_shift_s=2.0))
    assert samples(window, range(8), censored={3})[6].n_volumes == 3


# -------------------------------------------------------------------------------------------------------- repeats


def sample(value, block=0, final=True, n_volumes=3):
    return Sample(5, np.full(4, value, np.float32), n_volumes, block, final)


def test_evidence_is_the_mean_of_the_trials_of_a_label():
    repeats = RepeatAverager()
    first = repeats.averaged(sample(1.0), "run-1", "dog")
    other = repeats.averaged(sample(10.0, block=1), "run-1", "cat")
    partial = repeats.averaged(sample(4.0, block=2, final=False, n_volumes=1), "run-1", "dog")
    whole = repeats.averaged(sample(3.0, block=2), "run-1", "dog")
    last = repeats.averaged(sample(5.0, block=3), "run-1", "dog")
    found = [(s.values[0], s.n_blocks, s.n_volumes) for s in (first, other, partial, whole, last)]
    assert found == [(1, 1, 3), (10, 1, 3), (2.5, 2, 4), (2, 2, 6), (3, 3, 9)]


def test_a_trial_without_a_label_stands_alone():
    repeats = RepeatAverager()
    assert [repeats.averaged(sample(v), "run-1", "").n_blocks for v in (1.0, 2.0)] == [1, 1]


def test_a_trial_whose_last_volume_was_lost_counts_once_the_next_begins():
    repeats = RepeatAverager()
    repeats.averaged(sample(1.0, final=False), "run-1", "dog")
    repeats.averaged(sample(2.0, final=False), "run-1", "dog")  # refines it
    again = repeats.averaged(sample(4.0, block=1), "run-1", "dog")
    assert (again.values[0], again.n_blocks) == (3.0, 2)
    repeats.averaged(sample(9.0, block=2, final=False), "run-1", "cat")
    # The run has ended, and the next has a trial of the same label in the same place.
    assert repeats.averaged(sample(1.0, block=2), "run-2", "cat").values[0] == 5.0


def test_trials_may_count_by_their_volumes():
    """A trial's first volume does not outweigh what whole trials told, and grows until it counts as much."""
    repeats = RepeatAverager()
    trials = [
        sample(value, block=block, final=n == 4, n_volumes=n)
        for block, value in enumerate([1.0, 2.0, 9.0])
        for n in (1, 4)
    ]
    told = [repeats.averaged(each, "run-1", "dog", by_volumes=True) for each in trials]
    assert [(t.n_blocks, t.n_volumes) for t in told] == [(1, 1), (1, 4), (2, 5), (2, 8), (3, 9), (3, 12)]
    expected = [1, 1, (4 * 1 + 2) / 5, (4 * 1 + 4 * 2) / 8, (4 + 8 + 9) / 9, (4 + 8 + 36) / 12]
    np.testing.assert_allclose([t.values[0] for t in told], expected, rtol=1e-6)


def test_repeats_is_a_way_of_following_trials():
    window = Window(run([Block(0, 6)]), WindowSettings(mode="repeats", hrf_shift_s=0))
    assert set(samples(window, range(4))) == {0, 1}
