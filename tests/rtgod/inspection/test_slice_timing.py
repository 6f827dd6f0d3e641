"""Times of slices: their order in words, and how many are acquired at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.inspection.slice_timing import times_over_volumes, timing_of


def times_in(order, step_s=0.05):
    """Times of slices that are acquired in an order, numbered from 1."""
    times_s = [0.0] * len(order)
    for turn, slot in enumerate(order):
        times_s[slot - 1] = turn * step_s
    return times_s


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ([1, 2, 3, 4, 5, 6], "ascending"),
        ([6, 5, 4, 3, 2, 1], "descending"),
        ([1, 3, 5, 2, 4, 6], "interleaved: 1, 3, 5, then 2, …"),
        ([1, 3, 5, 7, 9, 2, 4, 6, 8], "interleaved: 1, 3, 5, 7, … then 2, …"),
        ([2, 4, 6, 8, 10, 1, 3, 5, 7, 9], "interleaved: 2, 4, 6, 8, … then 1, …"),
        ([9, 7, 5, 3, 1, 8, 6, 4, 2], "interleaved: 9, 7, 5, 3, … then 8, …"),
        ([1, 4, 7, 2, 5, 8, 3, 6, 9], "interleaved: 1, 4, 7, then 2, …"),
        ([3, 1, 2, 5, 4], "3, 1, 2, 5, …"),
    ],
)
@pytest.mark.parametrize("n_bands", [1, 2, 3])
def test_the_order_of_slices_is_said(order, words, n_bands):
    timing = timing_of(times_in(order) * n_bands)
    assert timing.n_bands == n_bands
    assert timing.in_words() == words


def test_one_time_for_all_slices_says_nothing():
    """As where the time of the volume stands in each of them."""
    assert timing_of([5.0] * 30) is None
    assert timing_of([1.0]) is None


def test_groups_of_unlike_sizes_are_no_bands():
    assert timing_of([0.0, 0.0, 0.5, 1.0]).n_bands == 0


@given(st.permutations(range(1, 9)), st.floats(0, 86000))
def test_times_count_from_the_first_slice(order, start_s):
    timing = timing_of([start_s + time_s for time_s in times_in(order)])
    assert timing.times_s == pytest.approx(times_in(order), abs=1e-5)
    assert timing.in_words()


@given(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=8))
def test_slices_that_were_not_timed_in_some_volumes_are_taken_from_others(untimed):
    volumes = {
        index: {slot: 2.0 * index + 0.1 * slot for slot in range(6) if (index, slot) not in untimed}
        for index in range(4)
    }
    times_s = times_over_volumes(volumes, 6, 2.0)
    lacking = [slot for slot in range(6) if all((index, slot) in untimed for index in range(4))]
    assert times_s == (() if lacking else pytest.approx([0.1 * slot for slot in range(6)]))
